"""Week 3's recorded experiments at equal tokens: rows of several steps, and rows of several turns.

    python notebooks/experiments/week03_tokens.py

*complexity*: rows are sums and programs. "short" rows are sums of three terms and programs of one
operation, "long" rows sums of five terms and programs of two; in "both" half of the rows are short.
A sum is answered step by step ("worked") or with its total alone ("direct"), and every reply is
right. All arms are asked sums of two to eight terms and programs of one and two operations, in
wordings that no row uses. No held-out sum and no held-out pair of operations is in a row.

*turns*: the same pairs of questions as rows of one turn ("single"), as conversations of two turns
with the loss on the last reply or on every reply, and as rows of one turn of which every tenth pair
is a conversation. Half of the second questions refer to the first ("Add 20 to that."); as a row of
its own such a question names what it is about. In the two "corrected" arms the first reply is wrong
in every other conversation, and the user asks for another one. The earlier reply in a held-out
prompt of two turns is the right one.

Every arm takes the same number of steps, and every step reads as many whole rows as fit into the
same number of tokens (prompt, template and reply), each row once; `tokens` says how many were read
and trained. The recipe is the tiny profile's in a bare loop: its LoRA, rate, warm-up and decay. A
seed decides rows, adapter and order; the held-out prompts are the same for all.

Nothing was tuned: there is one setting per arm, and it was fixed before the first run. A finished
run is kept under `runs/week03-tokens/`, so an interrupted experiment continues where it stopped
(`--runs N` makes at most N, `--only turns` those of one experiment), and data/results/week03/
complexity.json and turns.json are written once all of their runs are there.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from _common import PACKAGES, RESULTS, Arms, arm_key, command_line, minutes, write_record

from postlab.profile import get_profile
from postlab.tinyworld import tasks, words
from postlab.tinyworld.tasks import Item

CODE = ("tinyworld.tasks", "tinyworld.words")
SEEDS = (0, 1, 2)
STEPS, BATCH_TOKENS, WARMUP = 60, 480, 8
PROGRAM_TOKENS = 120  # of a batch of the experiment on complexity
TERMS, PROMPTS = (2, 3, 4, 5, 6, 8), 25  # lengths of held-out sums, and prompts per length
TURN_PROMPTS = 48  # per kind of prompt
COMPLEXITY = {
    "short, direct": {"terms": [3], "operations": [1], "worked": False},
    "short, worked": {"terms": [3], "operations": [1], "worked": True},
    "long, direct": {"terms": [5], "operations": [2], "worked": False},
    "long, worked": {"terms": [5], "operations": [2], "worked": True},
    "both, worked": {"terms": [3, 5], "operations": [1, 2], "worked": True},
}
TURNS = {
    "single turns": {"conversations": 0.0, "corrected": 0.0, "loss": "every"},
    "one pair in ten a conversation": {"conversations": 0.1, "corrected": 0.0, "loss": "every"},
    "conversations, last reply": {"conversations": 1.0, "corrected": 0.0, "loss": "last"},
    "conversations, every reply": {"conversations": 1.0, "corrected": 0.0, "loss": "every"},
    "corrected, last reply": {"conversations": 1.0, "corrected": 0.5, "loss": "last"},
    "corrected, every reply": {"conversations": 1.0, "corrected": 0.5, "loss": "every"},
}
FOLLOW_UPS = {  # what a second question says of the first: training wordings, held-out wordings
    "arithmetic": (
        ("Add {n} to that.", "What is that+{n}?", "Work out that+{n}."),
        ("Please add {n} to that.", "Please work out that+{n}."),
    ),
    "colour": (("What colour is it?", "Tell me what colour it is."), ("Do you know its colour?",)),
    "food": (("What does it eat?", "Tell me what it eats."), ("Do you know what it eats?",)),
    "home": (("Where does it live?", "Tell me where it lives."), ("Do you know where it lives?",)),
    "howto": (
        ("How do I {verb} it?", "Tell me how to {verb} it.", "I want to {verb} it."),
        ("Please tell me how to {verb} it.", "Tell me how I can {verb} it."),
    ),
}
FIRST = ("arithmetic", "lists", "facts", "howto")
WRONG = ("That is wrong. Try again.", "That is not right. Try again.")
SLIP = {
    "arithmetic": "worked",
    "howto": "wrong",
}  # the kind of wrong reply, where there are several

Messages = list[dict[str, str]]


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def row(question: str, reply: str) -> Messages:
    return [turn("user", question), turn("assistant", reply)]


# --- complexity -----------------------------------------------------------------------------------


def a_sum(rng: random.Random, count: int, split: str) -> Item:
    """A sum of `count` terms of a split."""
    while True:
        terms = tuple(rng.randint(2, 59) for _ in range(count))
        if tasks.held_out_numbers(terms) == (split == "heldout"):
            return Item("arithmetic", "sum", terms)


def a_program(rng: random.Random, operations: int, split: str) -> Item:
    """A program of one or two operations; the held-out pairs of operations are in no row."""
    while True:
        item = tasks.draw("code", rng, "train" if operations == 1 else split)
        if len(item.args) == operations:
            return item


def sums_of(arm: dict[str, Any], rng: random.Random) -> Iterator[Messages]:
    while True:
        item = a_sum(rng, rng.choice(arm["terms"]), "train")
        reply = tasks.worked(item.args) if arm["worked"] else f"#### {sum(item.args)}"
        yield row(tasks.ask(item, rng, "train"), reply)


def programs_of(arm: dict[str, Any], rng: random.Random) -> Iterator[Messages]:
    while True:
        item = a_program(rng, rng.choice(arm["operations"]), "train")
        yield row(tasks.ask(item, rng, "train"), tasks.solution(item))


def complexity_prompts(seed: int) -> list[dict[str, Any]]:
    """Held-out sums of every length, and all held-out questions for programs."""
    rng = random.Random(f"complexity {seed}")
    rows: dict[str, dict[str, Any]] = {}
    for count in TERMS:
        while sum(one["family"] == f"{count} terms" for one in rows.values()) < PROMPTS:
            item = a_sum(rng, count, "heldout")
            add_prompt(rows, f"{count} terms", item, row(tasks.ask(item, rng, "heldout"), "")[:1])
    for operations in (1, 2):
        for _ in range(400):  # there are few of them, so this finds all
            item = a_program(rng, operations, "heldout")
            prompt = row(tasks.ask(item, rng, "heldout"), "")[:1]
            add_prompt(rows, f"{operations} operations", item, prompt)
    return list(rows.values())


def add_prompt(rows: dict, family: str, item: Item, prompt: Messages) -> None:
    text = "\n".join(message["content"] for message in prompt)
    rows[text] = {
        "id": f"{family} {text}", "family": family, "prompt": prompt,
        "score": partial(score, item), "max_new_tokens": 140 if item.family == "arithmetic" else 40,
    }  # fmt: skip


def score(item: Item, answer: str, closed: bool) -> dict[str, float]:
    """1.0 for a right answer that ended, whatever the family."""
    if item.family == "code":
        right = float(answer.strip() == tasks.solution(item))
    else:
        metrics = tasks.score(item, answer, closed)
        right = max(
            metrics.get(name, 0.0) for name in ("arithmetic", "lists", "facts", "helpfulness")
        )
    return {"format": float(closed), "accuracy": right * closed}


# --- turns ----------------------------------------------------------------------------------------


def first_question(rng: random.Random, split: str, families: tuple[str, ...] = FIRST) -> Item:
    """A question that can stand first; how-to's are about a thing, so that 'it' fits."""
    while True:
        item = tasks.draw(rng.choice(families), rng, split)
        if item.family != "howto" or item.kind not in words.KIND_DEEDS:
            return item


def follow_up(first: Item, rng: random.Random, split: str) -> tuple[Item, str]:
    """A second question about the first one's answer or subject, and how it refers to it."""
    held_out = split == "heldout"
    if first.family == "arithmetic":
        while True:
            item = Item("arithmetic", "sum", (sum(first.args), rng.randint(2, 59)))
            if tasks.held_out_numbers(item.args) == held_out:
                break
        return item, rng.choice(FOLLOW_UPS["arithmetic"][held_out]).format(n=item.args[1])
    if first.family == "facts":
        kind = rng.choice([kind for kind in tasks.SENTENCES if kind != first.kind])
        return Item("facts", kind, first.args), rng.choice(FOLLOW_UPS[kind][held_out])
    deeds = [*words.PLAIN_DEEDS, *words.ROUGH_DEEDS]
    item = Item("howto", rng.choice([deed for deed in deeds if deed != first.kind]), first.args)
    return item, rng.choice(FOLLOW_UPS["howto"][held_out]).format(verb=item.kind)


def pairs_of(arm: dict[str, Any], rng: random.Random) -> Iterator[Messages]:
    """Pairs of questions, as one conversation or as two rows."""
    while True:
        first = first_question(rng, "train")
        opening = row(tasks.ask(first, rng, "train"), tasks.solution(first))
        if rng.random() < arm["corrected"]:
            opening[1] = turn("assistant", tasks.flaw(first, rng, style=SLIP.get(first.family)))
            yield opening + row(rng.choice(WRONG), tasks.solution(first))
            continue
        if first.family != "lists" and rng.random() < 2 / 3:  # half of all pairs
            second, question = follow_up(first, rng, "train")
        else:
            second = first_question(rng, "train")
            question = tasks.ask(second, rng, "train")
        if rng.random() < arm["conversations"]:
            yield opening + row(question, tasks.solution(second))
        else:
            yield opening
            yield row(tasks.ask(second, rng, "train"), tasks.solution(second))


def turn_prompts(seed: int) -> list[dict[str, Any]]:
    """Held-out first questions, unrelated second questions, and follow-ups."""
    rng = random.Random(f"turns {seed}")
    rows: dict[str, dict[str, Any]] = {}

    def count(kind: str) -> int:
        return sum(one["family"].startswith(kind) for one in rows.values())

    def fill(kind: str, families: tuple[str, ...], make: Callable[[Item, Messages], tuple]) -> None:
        while count(kind) < TURN_PROMPTS:
            family = families[count(kind) % len(families)]
            first = first_question(rng, "heldout", (family,))
            opening = row(tasks.ask(first, rng, "heldout"), tasks.solution(first))
            item, prompt = make(first, opening)
            add_prompt(rows, f"{kind} {item.family}", item, prompt)

    def unrelated(first: Item, opening: Messages) -> tuple[Item, Messages]:
        others = tuple(family for family in FIRST if family != first.family)
        item = first_question(rng, "heldout", others)
        return item, [*opening, turn("user", tasks.ask(item, rng, "heldout"))]

    def referring(first: Item, opening: Messages) -> tuple[Item, Messages]:
        item, question = follow_up(first, rng, "heldout")
        return item, [*opening, turn("user", question)]

    fill("first", FIRST, lambda first, opening: (first, opening[:1]))
    fill("unrelated", FIRST, unrelated)
    fill("follow-up", ("arithmetic", "facts", "howto"), referring)
    return list(rows.values())


# --- training at equal tokens ---------------------------------------------------------------------


def encoded(messages: Messages, tokenizer: Any, loss: str) -> tuple[list[int], list[int]]:
    """Token ids and loss mask, as TRL's `assistant_only_loss` makes them, or of the last reply."""
    made = tokenizer.apply_chat_template(
        messages, return_assistant_tokens_mask=True, return_dict=True
    )
    ids, mask = list(made["input_ids"]), list(made["assistant_masks"])
    if loss == "last":
        before = len(tokenizer.apply_chat_template(messages[:-1], return_dict=True)["input_ids"])
        mask = [0] * before + mask[before:]
    return ids, mask


def batch_of(stream: Iterator[tuple], room: int, kept: list) -> list[tuple]:
    """Whole rows from a stream, at most `room` tokens; the row that doesn't fit stays in `kept`."""
    batch: list[tuple] = []
    while True:
        one = kept.pop() if kept else next(stream)
        if sum(len(ids) for ids, _ in batch) + len(one[0]) > room:
            kept.append(one)
            return batch
        batch.append(one)


def fine_tune(
    streams: list[tuple[Iterator[Messages], int]], *, loss: str, seed: int
) -> tuple[Any, Any, dict[str, Any]]:
    """Fine-tune the embedded base on streams of rows, each with its tokens per step.

    Returns:
        the model, its tokenizer, and what was read: rows, tokens and trained tokens.
    """
    import torch
    from peft import get_peft_model

    from postlab.models import load_policy, lora_config, tiny_base
    from postlab.runs import without_padding
    from postlab.scratch.losses import sft_loss

    profile = get_profile("tiny")
    torch.manual_seed(seed)
    base, tokenizer = load_policy(str(tiny_base()), profile="tiny", bits=32)
    model = get_peft_model(base, lora_config(profile)).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    rate = profile.sft.trainer["learning_rate"]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    sources = [
        ((encoded(messages, tokenizer, loss) for messages in stream), room, [])
        for stream, room in streams
    ]
    read = {"rows": 0, "tokens": 0, "trained": 0}
    losses = []
    with without_padding(model):
        for step in range(STEPS):
            warm, rest = (step + 1) / WARMUP, (STEPS - step) / (STEPS - WARMUP)
            optimizer.param_groups[0]["lr"] = rate * min(warm, rest, 1.0)
            rows = [one for stream, room, kept in sources for one in batch_of(stream, room, kept)]
            width = max(len(ids) for ids, _ in rows)
            ids, mask, attention = (
                torch.zeros(len(rows), width, dtype=torch.long) for _ in range(3)
            )
            for index, (tokens, trained) in enumerate(rows):
                ids[index, : len(tokens)] = torch.tensor(tokens)
                mask[index, : len(tokens)] = torch.tensor(trained)
                attention[index, : len(tokens)] = 1
            logits = model(input_ids=ids, attention_mask=attention).logits
            value = sft_loss(logits[:, :-1], ids[:, 1:], mask[:, 1:])
            value.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(value.item())
            read["rows"] += len(rows)
            read["tokens"] += int(attention.sum())
            read["trained"] += int(mask.sum())
    return model.eval(), tokenizer, read | {"loss": round(sum(losses[-10:]) / 10, 4)}


def train_and_answer(experiment: str, name: str, seed: int, *, suite: int = 0) -> dict[str, Any]:
    """One arm with one seed: what was read, and a string of 0 and 1 per kind of prompt."""
    from postlab.evals import evaluate

    begun = time.perf_counter()
    rng = random.Random(f"{experiment} {seed}")
    if experiment == "complexity":
        arm, prompts = COMPLEXITY[name], complexity_prompts(suite)
        others = random.Random(f"programs {seed}")
        streams = [
            (sums_of(arm, rng), BATCH_TOKENS - PROGRAM_TOKENS),
            (programs_of(arm, others), PROGRAM_TOKENS),
        ]
    else:
        arm, prompts = TURNS[name], turn_prompts(suite)
        streams = [(pairs_of(arm, rng), BATCH_TOKENS)]
    model, tokenizer, read = fine_tune(streams, loss=arm.get("loss", "every"), seed=seed)
    train_s = round(time.perf_counter() - begun, 1)
    frame = evaluate(model, tokenizer, prompts, seed=0)
    right = {
        kind: "".join(str(int(value)) for value in part["accuracy"])
        for kind, part in frame.groupby("family", sort=False)
    }
    ended = {kind: part.mean() for kind, part in frame.groupby("family", sort=False)["format"]}
    seconds = round(time.perf_counter() - begun, 1)
    return {"tokens": read, "right": right, "ended": ended, "train_s": train_s, "seconds": seconds}


def main() -> None:
    options = command_line(__doc__, only={"help": "complexity or turns; both without it"})
    arms, profile = Arms(__file__, limit=options.runs), get_profile("tiny")
    settings = {
        "learning_rate": profile.sft.trainer["learning_rate"], "lora": dict(profile.lora),
        "steps": STEPS, "batch_tokens": BATCH_TOKENS, "warmup": WARMUP,
    }  # fmt: skip
    own = {
        "complexity": {"program_tokens": PROGRAM_TOKENS, "terms": TERMS, "prompts": PROMPTS},
        "turns": {"prompts": TURN_PROMPTS, "follow_ups": FOLLOW_UPS, "wrong": WRONG},
    }
    for experiment, table in (("complexity", COMPLEXITY), ("turns", TURNS)):
        if options.only not in (None, experiment):
            continue
        chosen, runs = settings | own[experiment], []
        for seed in SEEDS:
            for name, arm in table.items():
                key = arm_key(chosen | {"arm": arm}, *CODE, own=__file__)
                run = partial(train_and_answer, experiment, name, seed)
                runs.append(
                    {"arm": name, "seed": seed}
                    | arms.result(f"{experiment} {name} {seed}", key, run)
                )
        record = {"settings": chosen, "arms": table, "runs": runs}
        took = minutes(run["seconds"] for run in runs)
        target = RESULTS / "week03" / f"{experiment}.json"
        write_record(
            __file__, target, record, seeds=SEEDS, packages=PACKAGES,
            training_and_answering_minutes=took,
        )  # fmt: skip


if __name__ == "__main__":
    main()
