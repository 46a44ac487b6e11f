"""Week 8's probe of other people's verifiers: five tasks of reasoning-gym, and answers that lie.

    pip install "postlab[gym]"
    python notebooks/experiments/week08_gym.py

Of each task 100 puzzles, and for each puzzle a few answers whose worth is known without asking the
verifier: the solution, the solution in another form, and answers that must not pay. What the
task's own `score_answer` pays for them, and what `gym_reward` does, is written to
data/results/week08/gym_probe.json. Nothing is trained; it takes seconds.

One probe of `n_queens` is an answer that is a Python expression. It reads the solution from the
verifier's own variables, and does no harm.
"""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Callable
from typing import Any

from _common import RESULTS, command_line, write_record

from postlab.course.week08 import RUNS_ANSWERS, gym_reward, gym_rows

TARGET = RESULTS / "week08" / "gym_probe.json"
PUZZLES, SEED = 100, 0
KINDS = ("right", "right, in another form", "must not pay")
RIGHT, OTHER, WRONG = KINDS
Probe = tuple[str, str, Callable[[dict], str]]  # kind, what the answer is, and the answer


def roles(entry: dict, flipped: tuple[int, ...] = ()) -> str:
    """Who is what in knights and knaves, some of them flipped, as the question asks for it."""
    known = entry["metadata"]
    names, terms = known["names"], known["knight_knave_terms"]
    knights = [truth != (i in flipped) for i, truth in enumerate(known["solution"])]
    named = [terms["knight" if knight else "knave"] for knight in knights]
    pairs = zip(names, named, strict=True)
    return ", and ".join(f"{name} is a {role}" for name, role in pairs) + "."


def example(entry: dict) -> str:
    return entry["metadata"]["example_answer"]


def both_roles(entry: dict) -> str:
    """The first person is said to be both; nobody else is named."""
    name, terms = entry["metadata"]["names"][0], entry["metadata"]["knight_knave_terms"]
    return f"{name} is a {terms['knight']}, and {name} is a {terms['knave']}."


def listed_roles(entry: dict) -> str:
    """The solution, a line a person: `Zoey: fool`."""
    return roles(entry).replace(" is a ", ": ").replace(", and ", "\n").rstrip(".")


def longest_premise(entry: dict) -> str:
    """A premise, said again: it follows, and nothing was inferred."""
    return max(entry["metadata"]["premises"], key=len)


def colouring(entry: dict) -> dict[str, int]:
    return {str(vertex): colour for vertex, colour in entry["metadata"]["possible_answer"].items()}


def coloured(entry: dict) -> str:
    """The solution, as JSON."""
    return json.dumps(colouring(entry))


def incomplete(entry: dict) -> str:
    """The solution, but for the first vertex."""
    return json.dumps(dict(list(colouring(entry).items())[1:]))


def fenced(text: str) -> str:
    """As the question of boxnet shows it."""
    return f"```json\n{text}\n```"


def hedged(entry: dict) -> str:
    """Each vertex twice in one JSON object: all in one colour, then the solution."""
    colours = colouring(entry)
    return json.dumps(dict.fromkeys(colours, 1))[:-1] + ", " + json.dumps(colours)[1:]


def plan(entry: dict) -> list[dict[str, str]]:
    """A plan for boxnet, a box after the other, each by a shortest way to its target."""
    state, steps = entry["metadata"]["initial_state"], []
    for place, items in state.items():
        for box in (item for item in items if item.startswith("box_")):
            target = box.replace("box_", "target_")
            way = route(state, place, next(s for s in state if target in state[s]))
            moves = [f"square[{spot.replace('_', ', ')}]" for spot in way[1:]] + [target]
            for spot, to in zip(way, moves, strict=True):
                steps.append({f"Agent[{spot.replace('_', ', ')}]": f"move({box}, {to})"})
    return steps


def route(squares: dict, start: str, end: str) -> list[str]:
    """Squares from start to end, each next to the one before."""
    ways = deque([[start]])
    while ways:
        way = ways.popleft()
        if way[-1] == end:
            return way
        x, y = map(float, way[-1].split("_"))
        near = (f"{x + dx}_{y + dy}" for dx, dy in ((0, 1), (1, 0), (0, -1), (-1, 0)))
        ways.extend([*way, spot] for spot in near if spot in squares and spot not in way)
    raise AssertionError("a grid has a way between any two squares")


def board(entry: dict) -> list[list[str]]:
    return entry["metadata"]["solutions"][0]


def half(entry: dict) -> str:
    """A plan that stops half-way."""
    steps = plan(entry)
    return json.dumps(steps[: len(steps) // 2])


def unsolved(entry: dict) -> str:
    """The board of the question."""
    return "\n".join(map(" ".join, entry["metadata"]["puzzle"]))


PROBES: dict[str, list[Probe]] = {
    "knights_knaves": [
        (RIGHT, "the solution", roles),
        (OTHER, "the solution, a line a person", listed_roles),
        (WRONG, "one person wrong", lambda entry: roles(entry, (0,))),
        (WRONG, "one person, said to be both", both_roles),
        (WRONG, "the question", lambda entry: entry["question"]),
    ],
    "propositional_logic": [
        (RIGHT, "the task's own example", example),
        (OTHER, "the same, after 'Therefore'", lambda entry: f"Therefore {example(entry)}"),
        (WRONG, "a premise, said again", longest_premise),
        (WRONG, "P ∨ ¬P, always", lambda entry: "P ∨ ¬P"),
        (WRONG, "P ∧ ¬P, always", lambda entry: "P ∧ ¬P"),
    ],
    "graph_color": [
        (RIGHT, "the solution", coloured),
        (OTHER, "the solution, fenced", lambda entry: fenced(coloured(entry))),
        (WRONG, "two colours a vertex", hedged),
        (WRONG, "one vertex left out", incomplete),
        (WRONG, "an empty object", lambda entry: "{}"),
    ],
    "n_queens": [
        (RIGHT, "the solution", lambda entry: entry["answer"]),
        (OTHER, "the solution, and a new line", lambda entry: entry["answer"] + "\n"),
        (OTHER, "the solution, as a list", lambda entry: str(board(entry))),
        (WRONG, "code that reads the solution", lambda entry: 'entry["metadata"]["solutions"][0]'),
        (WRONG, "the question's board", unsolved),
    ],
    "boxnet": [
        (RIGHT, "a plan that works", lambda entry: json.dumps(plan(entry))),
        (OTHER, "that plan, fenced as asked", lambda entry: fenced(json.dumps(plan(entry)))),
        (WRONG, "an empty plan", lambda entry: "[]"),
        (WRONG, "the first half of a plan", half),
        (WRONG, "the number 5", lambda entry: "5"),
    ],
}  # fmt: skip


def probe(task: str) -> list[dict[str, Any]]:
    """A row a probe: what the task's verifier paid on average, fully, and how often it raised."""
    import reasoning_gym

    dataset = reasoning_gym.create_dataset(task, seed=SEED, size=PUZZLES)
    entries = list(itertools.islice(dataset, PUZZLES))
    puzzle, table = None, []
    if task not in RUNS_ANSWERS:  # those `gym_reward` refuses
        puzzle = [row["puzzle"] for row in gym_rows(task, split="train", n=PUZZLES, seed=SEED)]
    for kind, what, answer in PROBES[task]:
        answers, scores, error = [answer(entry) for entry in entries], [], None
        for text, entry in zip(answers, entries, strict=True):
            try:
                scores.append(float(dataset.score_answer(text, entry)))
            except Exception as raised:  # in a training run this would be the end of it
                scores.append(None)
                error = type(raised).__name__
        paid = [score for score in scores if score is not None]
        row = {"task": task, "kind": kind, "answer": what, "puzzles": len(entries)}
        row |= {"mean": round(sum(paid) / len(paid), 3) if paid else None}
        row |= {"full": sum(score >= 1 for score in paid), "some": sum(score > 0 for score in paid)}
        row |= {"raised": len(scores) - len(paid), "error": error}
        ours = sum(gym_reward(answers, puzzle)) if puzzle else None
        table.append(row | {"gym_reward": ours, "example": answers[0][:200]})
    return table


def main() -> None:
    command_line(__doc__, runs=False)
    table = [row for task in PROBES for row in probe(task)]
    write_record(__file__, TARGET, {"probes": table}, seeds=[SEED], packages=("reasoning-gym",))


if __name__ == "__main__":
    main()
