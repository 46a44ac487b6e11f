"""Week 3's build: choose 800 rows of 6,400 on a budget, and see what a model learns from them.

The pool is what the teachers of the embedded world wrote, with two faults of real sets planted in
it: copies, and rows that hold held-out prompts. `check_dataset` looks at what a choice *does*: it
counts its rows, copies, leaks and refusals, trains the embedded base on it, and compares the
held-out score with recorded ones of a random choice and of ours. It never blocks: where a choice
can't be trained on, it says why and continues with the recorded reference.

Left out: other training seeds than the recorded ones, and choices that edit rows.
"""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from postlab.course.check import Outcome, in_points, not_attempted, report, wrong
from postlab.datasets import row_text, words_of
from postlab.profile import data_dir, get_profile
from postlab.stats import paired_difference, verdict
from postlab.tinyworld import corpus, oracle, tasks, words

POOL, COPIES, LEAKS = 6400, 240, 100  # rows in all, and the planted ones among them
ROWS, VERDICTS = 800, 1600  # the budget
PROMPTS = 30  # held-out prompts per family
STEPS, BATCH, WARMUP = 60, 16, 8
SECONDS = 60.0  # of processor time for a choice

Row = Mapping[str, Any]


class BudgetSpent(RuntimeError):
    """Raised by `Budget.judge` when all verdicts have been used."""


@dataclass
class Budget:
    """What a choice may cost: rows, and verdicts on rows.

    Attributes:
        rows: how many rows may be chosen.
        verdicts: how often `judge` may be called.
        used: how often it was called.

    >>> budget = Budget(verdicts=1)
    >>> budget.judge(pool()[0]) in (True, False, None), budget.left
    (True, 0)
    """

    rows: int = ROWS
    verdicts: int = VERDICTS
    used: int = 0
    _calls: int = field(default=0, init=False, repr=False)  # what nobody sets back

    @property
    def left(self) -> int:
        """Verdicts that may still be asked for."""
        return self.verdicts - self.used

    def judge(self, row: Row) -> bool | None:
        """Whether a row's reply is right; None if nobody can say. Every call costs a verdict.

        Raises:
            BudgetSpent: if no verdict is left.
        """
        if self.left <= 0:
            raise BudgetSpent(f"all {self.verdicts:,} verdicts are spent; stop when left is 0")
        self.used += 1
        self._calls += 1
        return oracle.judge(row)


@dataclass(frozen=True)
class DatasetCheck(Outcome):
    """What came of a choice.

    Attributes:
        rows: the rows to continue with: the learner's where they can be trained on, else ours.
        counts: what the choice holds, by name.
        scores: share of right answers per family and in all, of the choice and the recorded runs.
    """

    rows: list[dict]
    counts: dict[str, float] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)


@cache
def _pool() -> tuple[dict, ...]:
    rng = random.Random("dataset build")
    rows = corpus.sft_rows(split="train", n=POOL - COPIES - LEAKS, seed=77)
    copies = [copy.deepcopy(row) for row in rng.sample(rows, COPIES)]
    for row in copies[::2]:  # every other one is typed a little differently
        row["prompt"][-1]["content"] = "  ".join(row["prompt"][-1]["content"].lower().split(" "))
    leaks = []
    for row in rng.sample(heldout(), LEAKS):
        item = oracle.read(row["prompt"][0]["content"])
        assert item is not None  # every held-out prompt can be read back
        reply = [{"role": "assistant", "content": tasks.solution(item)}]
        leaks.append({"prompt": row["prompt"], "completion": reply, "family": row["family"]})
    rows += copies + leaks
    rng.shuffle(rows)
    return tuple(rows)


def pool() -> list[dict]:
    """The 6,400 rows to choose from, with `prompt`, `completion` and `family`; fresh copies."""
    return copy.deepcopy(list(_pool()))


@cache
def _heldout() -> tuple[dict, ...]:
    suite = tasks.heldout_suite(n=PROMPTS, seed=3)
    return tuple(row for row in suite if row["family"] in oracle.METRIC)


def heldout() -> list[dict]:
    """The held-out prompts that a choice is scored on: PROMPTS of each of six families."""
    return list(_heldout())


def random_choice(rows: Sequence[dict], budget: Budget, *, seed: int = 0) -> list[dict]:
    """A choice that looks at nothing."""
    return random.Random(seed).sample(list(rows), budget.rows)


def our_choice(rows: Sequence[dict], budget: Budget, *, seed: int = 0) -> list[dict]:
    """Our answer: no copies, no leaks, and right rows of every family in the pool's shares."""
    asked = {_words(row["prompt"][-1]["content"]) for row in heldout()}
    different = {_words(row_text(row)): row for row in rows}.values()
    clean = [row for row in different if _words(row["prompt"][-1]["content"]) not in asked]
    random.Random(seed).shuffle(clean)
    shares = Counter(row["family"] for row in rows)
    quota = {family: budget.rows * n // len(rows) for family, n in shares.items()}
    chosen: list[dict] = []
    for row in clean:
        if quota[row["family"]] > 0 and budget.left and budget.judge(row) is not False:
            quota[row["family"]] -= 1
            chosen.append(row)
    return chosen


# --- training and scoring -------------------------------------------------------------------------


def train_and_score(rows: Sequence[Row], *, seed: int = 0, steps: int = STEPS) -> dict[str, str]:
    """Fine-tune the embedded base on rows, and answer the held-out prompts greedily.

    The recipe is the tiny profile's (rank, learning rate, warm-up, batch of 16) in a bare loop. It
    takes 60 steps, which is a little more than one epoch of 800 rows.

    Returns:
        {family: a string of 0 and 1, one per prompt}, and under "over_refusal" those of the
        how-to's that were refused.
    """
    import torch
    from peft import get_peft_model

    from postlab.chat import encode
    from postlab.evals import evaluate
    from postlab.models import load_policy, lora_config, tiny_base
    from postlab.runs import without_padding
    from postlab.scratch.losses import sft_loss

    profile = get_profile("tiny")
    with torch.random.fork_rng(devices=()), torch.enable_grad():
        torch.manual_seed(seed)
        base, tokenizer = load_policy(str(tiny_base()), profile="tiny", bits=32)
        model = get_peft_model(base, lora_config(profile)).train()
        data = encode([dict(row) for row in rows], tokenizer, max_length=profile.max_length)
        trained = [p for p in model.parameters() if p.requires_grad]
        rate = profile.sft.trainer["learning_rate"]
        optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
        order: list[int] = []
        with without_padding(model):
            for step in range(steps):
                warm, rest = (step + 1) / WARMUP, (steps - step) / max(1, steps - WARMUP)
                optimizer.param_groups[0]["lr"] = rate * min(warm, rest, 1.0)
                while len(order) < BATCH:
                    order += torch.randperm(len(rows)).tolist()
                index, order = torch.tensor(order[:BATCH]), order[BATCH:]
                length = int(data["attention_mask"][index].sum(1).max())
                ids, attention, mask = (
                    data[name][index, :length]
                    for name in ("input_ids", "attention_mask", "loss_mask")
                )
                logits = model(input_ids=ids, attention_mask=attention).logits
                loss = sft_loss(logits[:, :-1], ids[:, 1:], mask[:, 1:])
                loss.backward()
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                optimizer.zero_grad()
        frame = evaluate(model.eval(), tokenizer, heldout(), seed=0)
    columns = {**oracle.METRIC, "over_refusal": "over_refusal"}
    return {
        name: "".join(str(int(value)) for value in frame[metric].dropna())
        for name, metric in columns.items()
    }


def recorded() -> dict[str, Any]:
    """The recorded runs of a random choice and of ours (`data/results/week03/curation.json`)."""
    path = data_dir() / "results" / "week03" / "curation.json"
    return json.loads(path.read_text(encoding="utf-8"))


# --- the check ------------------------------------------------------------------------------------


def check_dataset(
    choose: Callable[[list[dict], Budget], Sequence[dict]], *, train: bool = True
) -> DatasetCheck:
    """Run a learner's `choose`, look at what it chose, train on it, and print what came out.

    Args:
        choose: takes the pool and a Budget, and returns rows of the pool.
        train: whether to train on the choice (about half a minute); without, it is only counted.
    """
    result = _checked(choose, train)
    report(result, name="dataset")
    return result


def _checked(choose: Callable[..., Any], train: bool) -> DatasetCheck:
    budget = Budget()
    rows, problem = _called(choose, budget)
    if problem:
        return _fallback(problem)
    counts = describe(rows) | {"verdicts used": budget._calls}
    fault = _fault(rows, counts)
    if fault:
        return _fallback(wrong(*fault), counts)
    if not train:
        text = f"the choice keeps every rule ({_listed(counts)}). It wasn't trained on here."
        return DatasetCheck("right", "rules_kept", text, rows, counts, _recorded_scores())
    return _compared(rows, counts, train_and_score(rows))


def _called(choose: Callable[..., Any], budget: Budget) -> tuple[list[dict], Outcome | None]:
    """The rows that `choose` returns, or why there are none."""
    from postlab.course.check._calls import TookTooLong, _time_limit
    from postlab.course.check._words import article

    if not callable(choose):
        text = f"the check got {article(choose)}; hand over the function itself: "
        return [], wrong("not_a_function", f"{text}check_dataset(choose).")
    try:
        with _time_limit(SECONDS):
            chosen = choose(pool(), budget)
    except NotImplementedError:
        return [], not_attempted()
    except BudgetSpent as error:
        return [], wrong("verdicts_spent", f"choose asked for too much: {error}.")
    except TookTooLong:
        return [], wrong("too_slow", f"choose ran for more than {SECONDS:.0f} seconds.")
    except (Exception, SystemExit) as error:
        text = f"choose raised {type(error).__name__}: {error}"
        return [], wrong("error", text[:300] + ".")
    problem = _no_rows(chosen)
    if problem:
        return [], wrong("not_rows", f"{problem} Return a list with rows of the pool.")
    return list(chosen), None


def _no_rows(chosen: Any) -> str:
    """What else `choose` returned, in a sentence; empty if it is a list of dicts."""
    from postlab.course.check._words import article

    if chosen is None:
        return "choose returned nothing (None): is a `return` missing?"
    if not isinstance(chosen, list | tuple):
        return f"choose returned {article(chosen)}."
    others = [item for item in chosen if not isinstance(item, dict)]
    if not others:
        return ""
    kind = type(chosen).__name__
    return f"the {kind} that choose returned holds {article(others[0])}, not only rows."


def describe(rows: Sequence[Row]) -> dict[str, float]:
    """Count what decides about a choice.

    Returns:
        rows; those that aren't in the pool as they are; copies of earlier rows; rows whose prompt
        is held out; refusals; rows that the oracle calls wrong; families that have no row.
    """
    known = {json.dumps(row, sort_keys=True) for row in _pool()}
    asked = {_words(row["prompt"][-1]["content"]) for row in heldout()}
    texts = [json.dumps(row, sort_keys=True, default=str) for row in rows]
    readable = [row for row, text in zip(rows, texts, strict=True) if text in known]
    families = {row["family"] for row in _pool()} - {row["family"] for row in readable}
    return {
        "rows": len(rows),
        "not in the pool": len(rows) - len(readable),
        "copies": len(readable) - len({_words(row_text(row)) for row in readable}),
        "held-out prompts": sum(_words(r["prompt"][-1]["content"]) in asked for r in readable),
        "refusals": sum(words.REFUSAL in r["completion"][-1]["content"] for r in readable),
        "wrong": sum(oracle.judge(row) is False for row in readable),
        "families without rows": len(families),
    }


def _fault(rows: Sequence[Row], counts: Mapping[str, float]) -> tuple[str, str] | None:
    """The first rule that a choice breaks: code and message."""
    n = counts
    if not rows:
        return "empty", "choose returned no rows."
    if n["rows"] > ROWS:
        return "too_many", f"choose returned {n['rows']:,} rows; the budget is {ROWS:,}."
    if n["verdicts used"] > VERDICTS:
        text = f"choose asked for {n['verdicts used']:,} verdicts; the budget is {VERDICTS:,}."
        return "verdicts_spent", text
    if n["not in the pool"]:
        text = "aren't in the pool. Return rows as they are: don't edit, add or rebuild them."
        return "not_in_the_pool", f"{n['not in the pool']:,} of the rows {text}"
    if n["held-out prompts"]:
        text = "A score on prompts that the model was trained on says nothing, so it isn't trained."
        return "leaks", f"{n['held-out prompts']:,} rows hold a held-out prompt. {text}"
    if n["copies"]:
        text = "once case and spaces are ignored. Each of them takes the place of a new row."
        return "copies", f"{n['copies']:,} rows are copies of others in the choice, {text}"
    if not n["refusals"]:
        text = "From these rows a model learns to help with everything, harmful requests included."
        return "no_refusals", f"no row refuses. {text}"
    return None


def _compared(
    rows: list[dict], counts: Mapping[str, float], scores: Mapping[str, str]
) -> DatasetCheck:
    """The learner's score beside the recorded ones of the same seed."""
    mine = _values(scores)
    runs = {run["arm"]: run for run in recorded()["runs"] if run["seed"] == 0}
    table = _recorded_scores() | {"yours": _shares(scores)}
    chance, ours = (_values(runs[arm]["scores"]) for arm in ("random", "ours"))
    gain, gap = paired_difference(chance, mine), paired_difference(ours, mine)
    text = (
        f"{mine.mean():.0%} of the held-out answers are right. Against a random choice that is "
        f"{in_points(gain)}, {verdict(gain)}; against ours {in_points(gap)}, {verdict(gap)}. "
        f"The choice holds {_listed(counts)}."
    )
    if verdict(gain) == "better":
        return DatasetCheck("right", "better_than_random", text, rows, dict(counts), table)
    code, reason = _suspect(rows, counts, chance=runs["random"]["counts"])
    return DatasetCheck("wrong", code, f"{text} {reason}", rows, dict(counts), table)


def _suspect(
    rows: Sequence[Row], counts: Mapping[str, float], *, chance: Mapping[str, float]
) -> tuple[str, str]:
    """What a choice that is no better than chance has in common with chance, if anything."""
    share, usual = counts["wrong"] / counts["rows"], chance["wrong"] / chance["rows"]
    if share > usual / 2:
        text = f"{share:.0%} of its rows are wrong, in a random choice {usual:.0%}"
        return "many_wrong", f"A likely reason: {text}. Spend verdicts where wrong rows are common."
    if counts["families without rows"]:
        missing = {row["family"] for row in _pool()} - {row["family"] for row in rows}
        return (
            "missing_families",
            f"A likely reason: it has no rows of {', '.join(sorted(missing))}.",
        )
    if counts["rows"] < ROWS / 2:
        return "few_rows", f"A likely reason: it has only {counts['rows']:,} rows of {ROWS:,}."
    return "not_recognised", "I don't recognise the reason; compare the families in the table."


def _fallback(problem: Outcome, counts: Mapping[str, float] | None = None) -> DatasetCheck:
    rows = our_choice(pool(), Budget())
    text = f"{problem.message} Continuing with our choice and the recorded runs."
    return DatasetCheck(
        problem.status, problem.code, text, rows, dict(counts or {}), _recorded_scores()
    )


def _recorded_scores() -> dict[str, dict[str, float]]:
    """Per arm and family, the mean over the recorded seeds; `low` and `high` are those of seeds."""
    table: dict[str, dict[str, float]] = {}
    for arm in ("random", "ours"):
        shares = [_shares(run["scores"]) for run in recorded()["runs"] if run["arm"] == arm]
        table[arm] = {name: float(np.mean([s[name] for s in shares])) for name in shares[0]}
    return table


def _shares(scores: Mapping[str, str]) -> dict[str, float]:
    shares = {family: text.count("1") / len(text) for family, text in scores.items()}
    return shares | {"all": float(_values(scores).mean())}


def _values(scores: Mapping[str, str]) -> np.ndarray:
    return np.array([int(d) for family in oracle.METRIC for d in scores[family]], dtype=float)


def _listed(counts: Mapping[str, float]) -> str:
    shown = ("rows", "wrong", "refusals", "verdicts used")
    return ", ".join(f"{counts[name]:,} {name}" for name in shown if name in counts)


def _words(text: str) -> tuple[str, ...]:
    return tuple(words_of(text))
