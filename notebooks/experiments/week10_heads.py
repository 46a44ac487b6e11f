"""Week 10's recorded experiment: what does it take for a head to see a wrong addition?

    python notebooks/experiments/week10_heads.py

Wrong additions are planted: in a worked solution, one digit of one step's result is replaced. A
head scores the step as it was and as it is planted, after the same prompt and the same steps, for
250 held-out sums. The measure is the AUC of right steps against planted ones (0.5 is chance).
Three seeds; a seed decides the training rows, the head's start and the order of its rows.

- *shipped*: the recipe of week10_prm.py, on its sums of three and four terms;
- *frozen*: heads on cached hidden states of the shipped SFT stage, which is not trained: a linear
  one, a larger one, more layers, the tokens of the step, all with 2,000 labels; and the policy's
  own log-probability of the result, which needs no label;
- *digits*: a small network that reads the digits of the step and nothing else, from 2,000 labels to
  32,000; with two-digit and with single-digit steps.

No setting of a head was tuned: the sizes, rates and epochs in `SETTINGS` are the first that were
tried. But the list of parts was cut while the experiment ran. Dropped without a record: all weights
of the policy trained on planted labels, heads on frozen states with 8,000 labels, and a choice
among replies to hard sums (week10_hard.py has one in another form).

A planted step is always balanced by an unplanted one, in the training rows by a coin; in real
solutions wrong steps are rarer. The heads of *digits* get their input from a pattern that reads
`a+b=c`, so they cannot score a step in another form.

Every finished part is stored, so an interrupted experiment goes on where it stopped.
"""

from __future__ import annotations

import random
import re
import tempfile
import time
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import week10_prm as prm
from _common import RESULTS, Arms, adapter_hash, arm_key, command_line, minutes, write_record
from week10_prm import Messages, start, train_head

from postlab import process
from postlab.course import listed
from postlab.tinyworld import tasks

TARGET = RESULTS / "week10" / "heads.json"
SEEDS = (0, 1, 2)
PARTS = ("digits", "shipped", "frozen")
CODE = ("tinyworld", "sampling.decoding", "process.labels", "process.scores", "process.steps")
SETTINGS: dict[str, Any] = {
    "terms": {"shipped": (3, 4), "planted": (5, 6)},
    "heldout": 250,
    "labels": {"few": 2000, "many": 8000, "most": 32000},
    "head": {"hidden": 256, "epochs": 30, "batch": 256, "lr": 1e-3, "weight_decay": 0.01},
    "shipped": {"prompts": 300, "replies": 8, "temperature": 1.0},
    "pool": {"prompts": 100, "replies": 16},
}
WINDOW = 8  # tokens up to the end of the step
DIGITS = (3, 2, 3)  # of a, b and c in a+b=c, leading zeros included
ADDITION = re.compile(r"(\d{1,3})\+(\d{1,2})=(\d{1,3})[,.]")


# --- planted steps --------------------------------------------------------------------------------


def sums(split: str, count: int, name: str, terms: Sequence[int]) -> list[tuple[Messages, tuple]]:
    """Different sums as conversations, held out or not, with their terms."""
    rng = random.Random(f"week 10 heads {split} {name}")
    found = prm.sums(rng, count, terms, heldout=split == "heldout")
    return [([{"role": "user", "content": text}], numbers) for text, numbers in found.items()]


def replaced(number: int, rng: random.Random) -> int:
    """The number with one digit replaced by another; it keeps its length."""
    text = str(number)
    at = rng.randrange(len(text))
    others = [d for d in "0123456789" if d != text[at] and (at or len(text) == 1 or d != "0")]
    return int(text[:at] + rng.choice(others) + text[at + 1 :])


def planted(split: str, count: int, name: str, terms: Sequence[int]) -> list[dict[str, Any]]:
    """Sums with a step as it should be and as it is planted, after the same right steps."""
    rng, rows = random.Random(f"week 10 planted {split} {name}"), []
    for prompt, numbers in sums(split, count, name, terms):
        steps = process.split_steps(tasks.worked(numbers))
        at = rng.randrange(len(numbers) - 1)
        head, result = steps[at][:-1].split("=")
        wrong = f"{head}={replaced(int(result), rng)}{steps[at][-1]}"
        rows.append({"prompt": prompt, "before": steps[:at], "right": steps[at], "wrong": wrong})
    return rows


def coin(rows: Sequence[dict], seed: int) -> tuple[list[str], np.ndarray]:
    """For training: of each pair the right step or the planted one, and the labels."""
    luck = np.random.default_rng(seed).integers(0, 2, len(rows))
    return [row["right" if y else "wrong"] for row, y in zip(rows, luck, strict=True)], luck


def both(rows: Sequence[dict]) -> tuple[list[dict], list[str]]:
    """For measuring: all right steps, then all planted ones, with their rows."""
    return [*rows, *rows], [row["right"] for row in rows] + [row["wrong"] for row in rows]


def split_scores(scores: Sequence[float]) -> dict[str, list]:
    """Scores of right steps and of planted ones, in the order of the sums."""
    half = len(scores) // 2
    return {"right": listed(scores[:half], digits=3), "wrong": listed(scores[half:], digits=3)}


# --- heads on fixed inputs ------------------------------------------------------------------------


def fit(x: np.ndarray, y: np.ndarray, *, hidden: int, seed: int) -> Any:
    """A head with one hidden layer, or a linear one (hidden 0), on standardised inputs."""
    import torch

    how = SETTINGS["head"]
    torch.manual_seed(seed)
    inputs, labels = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    mean, scale = inputs.mean(0), inputs.std(0) + 1e-3
    width = inputs.shape[1]
    layers = [torch.nn.Linear(width, hidden), torch.nn.ReLU()] if hidden else []
    net = torch.nn.Sequential(*layers, torch.nn.Linear(hidden or width, 1))
    optimizer = torch.optim.AdamW(net.parameters(), lr=how["lr"], weight_decay=how["weight_decay"])
    inputs = (inputs - mean) / scale
    for _ in range(how["epochs"]):
        for rows in torch.randperm(len(inputs)).split(how["batch"]):
            logits = net(inputs[rows])[:, 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def score(new: np.ndarray) -> list[float]:
        with torch.no_grad():
            return (
                net((torch.tensor(new, dtype=torch.float32) - mean) / scale)[:, 0]
                .sigmoid()
                .tolist()
            )

    return score


def digits_of(step: str) -> np.ndarray:
    """One-hot digits of a+b=c: 80 inputs."""
    values = map(int, ADDITION.fullmatch(step).groups())
    text = "".join(str(v).zfill(n)[-n:] for v, n in zip(values, DIGITS, strict=True))
    return np.eye(10)[[int(d) for d in text]].ravel()


def single(count: int, name: str) -> list[dict[str, Any]]:
    """Single-digit steps, right and planted."""
    rng, rows = random.Random(f"week 10 single {name}"), []
    for _ in range(count):
        a, b = rng.randint(0, 9), rng.randint(0, 9)
        rows.append({"right": f"{a}+{b}={a + b},", "wrong": f"{a}+{b}={replaced(a + b, rng)},"})
    return rows


@cache
def digit_head(seed: int, size: str) -> Any:
    """The digits' head of one seed, trained on two-digit steps."""
    rows = planted("train", SETTINGS["labels"][size], str(seed), SETTINGS["terms"]["planted"])
    texts, labels = coin(rows, seed)
    hidden = SETTINGS["head"]["hidden"]
    return fit(np.array([digits_of(x) for x in texts]), labels, hidden=hidden, seed=seed)


def heldout(terms: str = "planted") -> list[dict[str, Any]]:
    """The held-out sums, the same for all seeds."""
    return planted("heldout", SETTINGS["heldout"], terms, SETTINGS["terms"][terms])


def pairs_seen(seed: int, size: str) -> list[int]:
    """For each held-out sum: whether its step's a and b were added in a training row."""
    rows = planted("train", SETTINGS["labels"][size], str(seed), SETTINGS["terms"]["planted"])
    known = {row["right"].split("=")[0] for row in rows}
    return [int(row["right"].split("=")[0] in known) for row in heldout()]


def digits(seed: int) -> dict[str, Any]:
    """The digits' heads, by number of labels, and with single-digit steps."""
    scores, texts = {}, both(heldout())[1]
    x = np.array([digits_of(text) for text in texts])
    for size, count in SETTINGS["labels"].items():
        scores[f"digits, {count}"] = split_scores(digit_head(seed, size)(x))
    seen = {f"digits, {n}": pairs_seen(seed, size) for size, n in SETTINGS["labels"].items()}
    hidden = SETTINGS["head"]["hidden"]
    for size in ("few", "many"):
        train, labels = coin(single(SETTINGS["labels"][size], f"train {seed}"), seed)
        head = fit(np.array([digits_of(t) for t in train]), labels, hidden=hidden, seed=seed)
        test = both(single(SETTINGS["heldout"], "heldout"))[1]
        name = f"single digits, {SETTINGS['labels'][size]}"
        scores[name] = split_scores(head(np.array([digits_of(t) for t in test])))
    return {"scores": scores, "seen": seen}


# --- hidden states of the frozen policy -----------------------------------------------------------


@cache
def body() -> Any:
    """The SFT stage with its adapter merged, as it was trained."""
    from week10_prm import frozen, shipped

    return frozen(shipped("sft"))[0].merge_and_unload().eval()


def encoded(rows: Sequence[dict], steps: Sequence[str]) -> list[tuple[list[int], int, int]]:
    """Tokens of prompt, steps before and step; where its result begins, and where it ends.

    Another step follows, so that the last token is the one of a solution that goes on; a causal
    model's state there doesn't depend on what follows.
    """
    tokenizer, places = start()[1], []
    equals = tokenizer("=", add_special_tokens=False)["input_ids"][0]
    for row, step in zip(rows, steps, strict=True):
        one = process.step_row(row["prompt"], " ".join([*row["before"], step, "#### 0"]))
        one["labels"] = [0] * len(one["completions"])
        coded = process.encode_steps([one], tokenizer)[0]
        end = coded["ends"][-2]
        ids = coded["input_ids"][: end + 1]
        first = max(i for i, token in enumerate(ids) if token == equals) + 1
        places.append((ids, first, end))
    return places


def features(rows: Sequence[dict], steps: Sequence[str]) -> dict[str, np.ndarray]:
    """What the frozen policy knows at the end of each step, in several forms."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    places = encoded(rows, steps)
    order = sorted(range(len(places)), key=lambda i: len(places[i][0]))
    parts: dict[int, dict[str, np.ndarray]] = {}
    for group in (order[i : i + 128] for i in range(0, len(order), 128)):
        ids = pad_sequence([torch.tensor(places[i][0]) for i in group], batch_first=True)
        with torch.no_grad():
            out = body()(input_ids=ids, output_hidden_states=True)
            logps = out.logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
        for b, i in enumerate(group):
            _, first, end = places[i]
            states = [h[b, end] for h in out.hidden_states]
            window = out.hidden_states[-1][b, end - WINDOW + 1 : end + 1]
            parts[i] = {
                "last": states[-1].numpy(),
                "layers": torch.cat(states).numpy(),
                "window": window.flatten().numpy(),
                "logp": logps[b, first - 1 : end].sum()[None].numpy(),
            }
    return {name: np.array([parts[i][name] for i in range(len(places))]) for name in parts[0]}


def frozen_heads(seed: int) -> dict[str, Any]:
    """Heads on cached states: size, layers, the step's tokens; and no head at all."""
    count, large, scores = SETTINGS["labels"]["few"], SETTINGS["head"]["hidden"], {}
    rows = planted("train", count, str(seed), SETTINGS["terms"]["planted"])
    texts, labels = coin(rows, seed)
    train, test = features(rows, texts), features(*both(heldout()))
    for name, kind, hidden in (
        ("linear, last layer", "last", 0),
        ("larger head, last layer", "last", large),
        ("larger head, all layers", "layers", large),
        ("larger head, the step's tokens", "window", large),
    ):
        head = fit(train[kind], labels, hidden=hidden, seed=seed)
        scores[f"{name}, {count}"] = split_scores(head(test[kind]))
    scores["log-probability, 0"] = split_scores(test["logp"][:, 0])
    return {"scores": scores}


# --- the lesson's recipe --------------------------------------------------------------------------


def own_head(seed: int, task: str, folder: Path) -> Any:
    """The lesson's recipe: the policy's own solutions, the oracle's labels, all weights trained."""
    from transformers import AutoModelForTokenClassification

    how = SETTINGS[task]
    prompts = [
        p for p, _ in sums("train", how["prompts"], f"{task} {seed}", SETTINGS["terms"][task])
    ]
    replies = process.sample_solutions(
        *start(), prompts, n=how["replies"], temperature=how["temperature"], seed=seed
    )
    rows = [
        process.step_row(p, x) for p, g in zip(prompts, replies, strict=True) for x in g
        if process.split_steps(x)
    ]  # fmt: skip
    labels = [process.oracle_labels(r["prompt"][-1]["content"], r["completions"]) for r in rows]
    train_head("process", seed, {"rows": rows, "oracle": labels}, folder)
    return AutoModelForTokenClassification.from_pretrained(folder).eval()


def own_scores(head: Any, rows: Sequence[dict], steps: Sequence[str]) -> list[float]:
    """A trained head's score of each planted or right step, after what comes before it."""
    solutions = [
        {"prompt": row["prompt"], "completions": [*row["before"], step, "#### 0"]}
        for row, step in zip(rows, steps, strict=True)
    ]
    return [one[-2] for one in process.step_scores(head, start()[1], solutions)]


def shipped_recipe(seed: int) -> dict[str, Any]:
    """The head that the lesson trains: does it see planted steps of its own task?"""
    with tempfile.TemporaryDirectory() as folder:
        head = own_head(seed, "shipped", Path(folder))
    scores = {}
    for task, about in (("shipped", "3 or 4 terms"), ("planted", "5 or 6 terms")):
        found = own_scores(head, *both(heldout(task)))
        scores[f"lesson's recipe, {about}"] = split_scores(found)
    return {"scores": scores}


RUN = {"digits": digits, "shipped": shipped_recipe, "frozen": frozen_heads}


def timed(part: str, seed: int) -> dict[str, Any]:
    begun = time.process_time()
    found = RUN[part](seed)
    return (
        {"part": part, "seed": seed}
        | found
        | {"cpu_seconds": round(time.process_time() - begun, 1)}
    )


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    begin, runs = adapter_hash("sft"), []
    settings = {"settings": SETTINGS, "start": begin}
    key = arm_key(settings, *CODE, own=__file__)
    for part in PARTS:
        for seed in SEEDS:
            runs.append(arms.result(f"{part} {seed}", key, partial(timed, part, seed)))
        took = minutes(one["cpu_seconds"] for one in runs)
        record = {"settings": SETTINGS, "runs": runs}
        write_record(__file__, TARGET, record, seeds=SEEDS, training_minutes=took, start=begin[:12])


if __name__ == "__main__":
    main()
