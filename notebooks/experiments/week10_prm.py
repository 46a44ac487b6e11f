"""Week 10's recorded experiment: step labels, two reward models on one budget, and what they buy.

    python notebooks/experiments/week10_prm.py

The generator is the shipped tiny SFT stage, the task sums of three or four terms, drawn at
temperature 1, where the majority of 16 is right on about two thirds (chosen on training prompts,
see below). Three seeds; a seed decides prompts, draws, the head's start and the order of its rows.
For each:

- *labels*: solutions to training prompts, labelled step by step by the oracle and by rollouts that
  know the final answer only (Math-Shepherd, arXiv 2312.08935), and how far the two agree;
- *heads*: a token-classification head on the merged SFT stage, all weights trained by
  transformers' Trainer: on the oracle's step labels, on the rollouts' hard ones, on the outcome
  alone. The same solutions in the same order, the same steps of the optimizer;
- *choice*: 64 replies to each held-out prompt, all scored; best of n for every n and aggregation,
  the vote, the weighted vote, the oracle; and the first wrong step of the first 16 replies;
- *beams*: search over steps with the process head, to be compared at equal tokens with best-of-n;
- *grpo*: the process head as the reward of TRL's GRPOTrainer, proxy and truth by step.

Every finished part is kept under `runs/week10-prm/`, so an interrupted experiment goes on where it
stopped; the result is data/results/week10/prm.json. A reply without steps has one step, its answer.

What came before, on training prompts. The task: five terms at temperatures 0.7 to 1.4 (majority of
16 right on 95%: nothing to choose), five at 1.7 (58%) and six at 1.5 (66 to 69%): there most wrong
replies go wrong *inside* a step, and no head learned to see it. With 2,400 solutions and 150 steps
at 1.5e-3 or 3e-3 a head of 1.4M parameters ranked right steps over slips no better than chance (its
AUC for slips 0.43 to 0.49, for blurted answers 1.00, for garbled steps 0.95), best of 16 was worse
than the majority (29 against 66%), and neither 500 steps (stopped at 300, its loss flat) nor eight
layers in place of four changed that. So the task was made one in which the difference between
replies is one that so small a model can see: short sums, of which it blurts most. What the head
does not see is measured here all the same: replies with steps are reported by themselves.

Seed 0 was first run with four terms at 0.9 and the held-out *wordings*. In those the policy works
out twice as many sums, the majority of 16 was right on 96%, and best of n by the process head rose
to 89% at n = 8 and fell to 65% at 64. The bars are about a task that is neither solved nor out of
reach, so held-out prompts now have held-out numbers and the training wordings. In GRPO at four
terms no arm was gamed in 40 steps (right on 95% under both rewards): nothing it drew had a step
too many. For that reason sums of three terms, on which it sometimes does that, now alternate with
those of four (`SETTINGS["terms"]`), and the runs have 80 steps.
"""

from __future__ import annotations

import random
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import (
    RESULTS,
    Arms,
    adapter_hash,
    arm_key,
    command_line,
    frozen,
    log_series,
    minutes,
    policy,
    shipped,
    train,
    write_record,
)

from postlab import process
from postlab.course import listed
from postlab.profile import get_profile
from postlab.tinyworld import tasks
from postlab.tinyworld.oracle import read

TARGET = RESULTS / "week10" / "prm.json"
SEEDS = (0, 1, 2)
CODE = (
    "tinyworld",
    "sampling.rollout",
    "sampling.decoding",
    "process.labels",
    "process.scores",
    "process.steps",
)
SEARCH, ONLINE = ("prm_search",), ("rollout_trl", "constitution_speakers")  # of beams, of GRPO
SETTINGS: dict[str, Any] = {
    "terms": (3, 4),  # as many prompts of each
    "temperature": 1.0,
    "new_tokens": 64,
    "train": {"prompts": 400, "replies": 8},
    "rollouts": {"k": 8, "temperature": 1.0},
    "heldout": {"prompts": 200, "replies": 64},
    "errors": 16,  # replies a held-out prompt in which the first wrong step is looked for
    "beams": {"prompts": 100, "beams": 4, "width": 4, "how": "min"},
    "head": {
        "max_steps": 100, "per_device_train_batch_size": 32, "learning_rate": 1e-3,
        "lr_scheduler_type": "linear", "warmup_steps": 10, "weight_decay": 0.0,
    },
}  # fmt: skip
HEADS = ("process", "rollouts", "outcome")
SIZES = (1, 2, 4, 8, 16, 32, 64)
HOWS = ("last", "min", "product")
GRPO: dict[str, Any] = {
    "max_steps": 80, "per_device_train_batch_size": 32, "learning_rate": 4e-4,
    "max_completion_length": 96, "save_strategy": "no",
}  # fmt: skip
ARMS: dict[str, dict[str, Any]] = {
    "sum of steps": {"how": "sum"},
    "weakest step": {"how": "min"},
    "sum, if the answer is right": {"how": "sum", "gate": True},
}
LOGGED = {  # name in the record: the trainer's
    "step": "step", "proxy": "rewards/proxy/mean", "truth": "rewards/truth/mean",
    "steps": "rewards/steps/mean", "length": "completions/mean_length", "entropy": "entropy",
    "clipped": "completions/clipped_ratio", "grad_norm": "grad_norm", "loss": "loss",
    "silent": "frac_reward_zero_std", "learning_rate": "learning_rate",
}  # fmt: skip
GRPO_HELDOUT, EVERY, SHOWN = 64, 20, 4
FINAL = re.compile(r"#### (-?[0-9]{1,6})$")
Messages = list[dict[str, str]]


@cache
def start() -> tuple[Any, Any]:
    """The generator, which is never trained, and its tokenizer."""
    return frozen(shipped("sft"))


def sums(
    rng: random.Random, count: int, terms: Sequence[int], *, heldout: bool
) -> dict[str, tuple[int, ...]]:
    """Different sums in the training wordings, the numbers of terms in turn: question -> terms."""
    found: dict[str, tuple[int, ...]] = {}
    while len(found) < count:
        numbers = tuple(rng.randint(2, 59) for _ in range(terms[len(found) % len(terms)]))
        if tasks.held_out_numbers(numbers) == heldout:
            item = tasks.Item("arithmetic", "sum", numbers)
            found.setdefault(tasks.ask(item, rng, "train"), numbers)
    return found


def prompts_of(split: str, count: int, name: str) -> list[Messages]:
    """Different sums as conversations, held out or not."""
    rng = random.Random(f"week 10 {split} {name}")
    texts = sums(rng, count, SETTINGS["terms"], heldout=split == "heldout")
    return [[{"role": "user", "content": text}] for text in texts]


def right(prompt: Messages, reply: str) -> float:
    """The oracle's word on the final answer."""
    return tasks.score(read(prompt[-1]["content"]), reply, True)["arithmetic"]


def answer_of(reply: str) -> str | None:
    """The final answer that votes are counted by."""
    match = FINAL.search(reply)
    return match.group(1) if match else None


def drawn(prompts: Sequence[Messages], n: int, seed: int) -> list[list[str]]:
    """The generator's replies, at the experiment's temperature."""
    how = {name: SETTINGS[name] for name in ("temperature", "new_tokens")}
    return process.sample_solutions(*start(), prompts, n=n, seed=seed, **how)


def labelled(seed: int) -> dict[str, Any]:
    """Training solutions with the oracle's labels, the rollouts' and the outcome."""
    begun = time.perf_counter()
    prompts = prompts_of("train", SETTINGS["train"]["prompts"], str(seed))
    replies = drawn(prompts, SETTINGS["train"]["replies"], seed)
    rows = [
        process.step_row(prompt, reply)
        for prompt, group in zip(prompts, replies, strict=True)
        for reply in group
        if process.split_steps(reply)
    ]
    truth = [process.oracle_labels(r["prompt"][-1]["content"], r["completions"]) for r in rows]
    soft = process.rollout_labels(
        *start(), rows, right=right, seed=seed, new_tokens=SETTINGS["new_tokens"],
        **SETTINGS["rollouts"],
    )  # fmt: skip
    outcome = [right(row["prompt"], " ".join(row["completions"])) for row in rows]
    return {
        "seed": seed,
        "rows": rows,
        "oracle": truth,
        "soft": soft,
        "outcome": outcome,
        "seconds": round(time.perf_counter() - begun, 1),
    }


def rows_for(kind: str, solutions: dict[str, Any]) -> list[dict[str, Any]]:
    """One head's training rows: the same solutions, other labels."""
    if kind == "outcome":
        return process.outcome_rows(solutions["rows"], solutions["outcome"])
    labels = solutions["oracle"] if kind == "process" else process.hard_labels(solutions["soft"])
    return [row | {"labels": one} for row, one in zip(solutions["rows"], labels, strict=True)]


def new_head() -> Any:
    """A head of two classes on the merged SFT stage."""
    from transformers import AutoModelForTokenClassification

    merged = frozen(shipped("sft"))[0].merge_and_unload()
    merged.config.num_labels = 2
    head = AutoModelForTokenClassification.from_config(merged.config)
    head.model.load_state_dict(merged.model.state_dict())
    return head


def train_head(kind: str, seed: int, solutions: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train one head and keep it in `folder`: its loss by step, labels used, seconds."""
    from datasets import Dataset
    from transformers import (
        DataCollatorForTokenClassification,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    tokenizer = start()[1]
    encoded = process.encode_steps(rows_for(kind, solutions), tokenizer)
    columns = ("input_ids", "attention_mask", "labels")
    set_seed(seed)
    with tempfile.TemporaryDirectory() as place:
        trainer = Trainer(
            model=new_head(),
            train_dataset=Dataset.from_list([{c: row[c] for c in columns} for row in encoded]),
            data_collator=DataCollatorForTokenClassification(tokenizer),
            args=TrainingArguments(
                output_dir=place, seed=seed, use_cpu=True, save_strategy="no", report_to="none",
                disable_tqdm=True, logging_steps=5, **SETTINGS["head"],
            ),
        )  # fmt: skip
        begun = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begun
    trainer.model.eval().save_pretrained(folder)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    labels = sum(x != -100 for row in encoded for x in row["labels"])
    return {
        "kind": kind,
        "seed": seed,
        "loss": listed(losses),
        "labels": labels,
        "solutions": len(encoded),
        "seconds": round(seconds, 1),
        "folder": folder.name,
    }


@cache
def head(folder: Path) -> Any:
    """A trained head."""
    from transformers import AutoModelForTokenClassification

    return AutoModelForTokenClassification.from_pretrained(folder).eval().requires_grad_(False)


def pool(seed: int) -> dict[str, Any]:
    """The held-out prompts, the same for all seeds, with one seed's replies."""
    begun = time.perf_counter()
    prompts = prompts_of("heldout", SETTINGS["heldout"]["prompts"], "")
    replies = drawn(prompts, SETTINGS["heldout"]["replies"], seed)
    tokens = sum(len(start()[1](x)["input_ids"]) + 1 for group in replies for x in group)
    seconds = round(time.perf_counter() - begun, 1)
    return {"prompts": prompts, "replies": replies, "tokens": tokens, "seconds": seconds}


def scored(folder: Path, pool: dict[str, Any]) -> dict[str, Any]:
    """A head's chance of every step of every reply; none for a blank one."""
    begun = time.perf_counter()
    flat = [
        {"prompt": prompt, "completions": steps}
        for prompt, group in zip(pool["prompts"], pool["replies"], strict=True)
        for reply in group
        if (steps := process.split_steps(reply))
    ]
    chances = iter(process.step_scores(head(folder), start()[1], flat))
    scores = [
        [
            [round(p, 5) for p in next(chances)] if process.split_steps(reply) else []
            for reply in group
        ]
        for group in pool["replies"]
    ]
    return {"scores": scores, "seconds": round(time.perf_counter() - begun, 1)}


def chosen(pool: dict[str, Any], scores: dict[str, Any]) -> dict[str, dict[int, np.ndarray]]:
    """Selector -> n -> the expected accuracy on each held-out prompt."""
    worth = np.array(
        [[right(p, x) for x in g] for p, g in zip(pool["prompts"], pool["replies"], strict=True)]
    )
    answers = [[answer_of(reply) for reply in group] for group in pool["replies"]]
    marks = {
        f"{kind}, {how}": np.array(
            [[process.aggregate(p, how) if p else 0.0 for p in group] for group in one["scores"]]
        )
        for kind, one in scores.items()
        for how in (HOWS if kind != "outcome" else ("last",))
    }
    accuracy: dict[str, dict[int, np.ndarray]] = {}
    for n in SIZES:
        one = {"majority": process.vote_of_n(answers, worth, n)}
        one["oracle"] = process.best_of_n(worth, worth, n)
        one |= {name: process.best_of_n(mark, worth, n) for name, mark in marks.items()}
        for name in ("process, min", "outcome, last"):
            one[f"vote by {name}"] = process.vote_of_n(answers, worth, n, weights=marks[name])
        for name, values in one.items():
            accuracy.setdefault(name, {})[n] = values
    return accuracy


def errors(pool: dict[str, Any], scores: dict[str, Any], seed: int) -> dict[str, Any]:
    """Where the first wrong step is, and who finds it: all replies, and those with steps."""
    kinds = ("process", "rollouts")
    truth, sizes, first_wrong = [], [], {kind: [] for kind in kinds}
    outcome, rng = [], random.Random(f"week 10 errors {seed}")
    for i, (prompt, group) in enumerate(zip(pool["prompts"], pool["replies"], strict=True)):
        for j, reply in enumerate(group[: SETTINGS["errors"]]):
            steps = process.split_steps(reply)
            if not steps:
                continue
            truth.append(process.first_wrong(process.oracle_labels(prompt[-1]["content"], steps)))
            sizes.append((i, len(steps)))
            for kind in kinds:
                first_wrong[kind].append(process.first_wrong(scores[kind]["scores"][i][j]))
            good = scores["outcome"]["scores"][i][j][-1] >= 0.5
            outcome.append(-1 if good else len(steps) - 1)
    first_wrong["outcome, then last"] = outcome
    first_wrong["always last"] = [n - 1 for _, n in sizes]
    first_wrong["random"] = [-1 if rng.random() < 0.5 else rng.randrange(n) for _, n in sizes]
    return {
        "seed": seed,
        "truth": listed(truth),
        "prompts": listed(i for i, _ in sizes),
        "sizes": listed(n for _, n in sizes),
        "found": {name: listed(steps) for name, steps in first_wrong.items()},
    }


def beams(seed: int, folder: Path, pool: dict[str, Any]) -> dict[str, Any]:
    """Beam search on the first held-out prompts: right or wrong, and tokens drawn."""
    how = dict(SETTINGS["beams"])
    prompts, begun = pool["prompts"][: how.pop("prompts")], time.perf_counter()
    best = process.beam_search(
        *start(), prompts, partial(process.step_scores, head(folder), start()[1]),
        temperature=SETTINGS["temperature"], seed=seed, **how,
    )  # fmt: skip
    return {
        "right": listed(right(p, one.reply) for p, one in zip(prompts, best, strict=True)),
        "tokens": listed(one.tokens for one in best),
        "replies": [one.reply for one in best[:SHOWN]],
        "seconds": round(time.perf_counter() - begun, 1),
    }


def look(model: Any, tokenizer: Any, step: int) -> dict[str, Any]:
    """Greedy answers to held-out prompts: the truth, and some of them."""
    from postlab.constitution import policy_speaker

    prompts = prompts_of("heldout", GRPO_HELDOUT, "grpo")
    was = model.training
    speak = policy_speaker(model.eval(), tokenizer, new_tokens=GRPO["max_completion_length"])
    replies = speak(prompts)
    model.train(was)
    return {
        "step": step,
        "truth": listed(right(p, x) for p, x in zip(prompts, replies, strict=True)),
        "steps": listed(len(process.split_steps(reply)) for reply in replies),
        "answers": [[p[-1]["content"], x] for p, x in zip(prompts, replies, strict=True)][:SHOWN],
    }


def per_reply(of: Callable[[Messages, str], float], name: str) -> Callable[..., list[float]]:
    """A measure of one reply in TRL's protocol."""

    def reward(prompts: list, completions: list, **columns: Any) -> list[float]:
        return [of(p, c[-1]["content"]) for p, c in zip(prompts, completions, strict=True)]

    reward.__name__ = name
    return reward


def proxy_of(arm: str, folder: Path) -> Callable[..., list[float]]:
    """What an arm pays: the head's aggregated chances, or that where the answer is right."""
    paid = process.process_reward(head(folder), start()[1], how=ARMS[arm]["how"], name="proxy")
    if not ARMS[arm].get("gate"):
        return paid

    def proxy(prompts: list, completions: list, **columns: Any) -> list[float]:
        gates = per_reply(right, "truth")(prompts, completions)
        return [x * y for x, y in zip(paid(prompts, completions), gates, strict=True)]

    return proxy


def arguments() -> dict[str, Any]:
    """GRPO's arguments, all but `output_dir` and `seed`."""
    return {**get_profile("tiny").grpo.trainer, **GRPO, "reward_weights": [1.0, 0.0, 0.0]}


def gamed(arm: str, seed: int, folder: Path) -> dict[str, Any]:
    """GRPO with a head as reward: what is paid, what is true, and how many steps, by step."""
    from postlab.sampling import rollout_func

    model, tokenizer = policy(shipped("sft"))
    looks, config = [look(model, tokenizer, 0)], arguments()

    def after_step(trainer: Any, step: int) -> None:
        if step % EVERY == 0:
            looks.append(look(trainer.model, tokenizer, step))

    groups = config["per_device_train_batch_size"] // config["num_generations"]
    prompts = prompts_of("train", config["max_steps"] * groups, f"grpo {seed}")
    count = per_reply(lambda prompt, reply: float(len(process.split_steps(reply))), "steps")
    trained = train(
        "grpo", model, tokenizer, [{"prompt": prompt} for prompt in prompts], seed=seed,
        arguments=config, after_step=after_step, rollout_func=rollout_func,
        reward_funcs=[proxy_of(arm, folder), per_reply(right, "truth"), count],
    )  # fmt: skip
    return {
        "arm": arm,
        "seed": seed,
        "log": log_series(trained.log, LOGGED),
        "heldout": looks,
        "seconds": round(trained.seconds, 1),
    }


def means(runs: Sequence[dict[str, dict[int, np.ndarray]]]) -> list[dict[str, Any]]:
    """Selector and n -> accuracy with its interval over prompts, seeds averaged a prompt first."""
    from postlab.stats import bootstrap_interval

    rows = []
    for name in runs[0]:
        for n in SIZES:
            interval = bootstrap_interval(np.mean([run[name][n] for run in runs], axis=0))
            values = {"value": interval.value, "low": interval.low, "high": interval.high}
            rounded = {part: round(value, 5) for part, value in values.items()}
            rows.append({"selector": name, "n": n} | rounded)
    return rows


def agreed(solutions: dict[str, Any]) -> list[dict[str, Any]]:
    """How far rollout labels agree with the oracle's: hard and at one half, all and worked."""
    rows = []
    for name, least in (("any", 0.0), ("half", 0.499)):
        labels = process.hard_labels(solutions["soft"], least=least)
        for about, most in (("all", 0), ("with steps", 1)):
            truth = solutions["oracle"]
            members = [i for i, steps in enumerate(truth) if len(steps) > most]
            agreement = process.agreement([labels[i] for i in members], [truth[i] for i in members])
            row = {"seed": solutions["seed"], "hard": name, "replies": about}
            rows.append(row | {k: [round(v.value, 4), round(v.low, 4), round(v.high, 4), v.n]
                               for k, v in agreement.items()})  # fmt: skip
    return rows


def run_seed(seed: int, arms: Arms, start_hash: str) -> dict[str, Any]:
    """All parts of one seed's experiment, each stored by itself."""
    settings = {k: v for k, v in SETTINGS.items() if k not in ("errors", "beams")}
    settings = {"settings": settings, "start": start_hash}
    key = arm_key(settings, *CODE, own=__file__)
    # 1. Solutions with labels, and the replies to choose from.
    solutions = arms.result(f"labels {seed}", key, partial(labelled, seed))
    replies = arms.result(f"pool {seed}", key, partial(pool, seed))
    # 2. The heads, and their scores of the replies.
    folders = {kind: arms.folder / f"{key}-{kind}-{seed}" for kind in HEADS}
    heads, scores = [], {}
    for kind, folder in folders.items():
        fit = partial(train_head, kind, seed, solutions, folder)
        heads.append(arms.result(f"head {kind} {seed}", key, fit))
        score = partial(scored, folder, replies)
        scores[kind] = arms.result(f"scores {kind} {seed}", key, score)
    # 3. Beam search.
    search_key = arm_key(settings | {"how": SETTINGS["beams"]}, *CODE, *SEARCH, own=__file__)
    search = partial(beams, seed, folders["process"], replies)
    searched = arms.result(f"beams {seed}", search_key, search)
    # 4. GRPO with the process head as reward.
    runs = []
    for arm, how in ARMS.items():
        grpo = {"arm": how, "arguments": arguments(), "kept": [LOGGED, GRPO_HELDOUT, EVERY, SHOWN]}
        grpo_key = arm_key(settings | grpo, *CODE, *ONLINE, own=__file__)
        train_arm = partial(gamed, arm, seed, folders["process"])
        runs.append(arms.result(f"grpo {arm} {seed}", grpo_key, train_arm))
    return {
        "labels": agreed(solutions),
        "tokens": replies["tokens"],
        "heads": heads,
        "choice": chosen(replies, scores),
        "errors": errors(replies, scores, seed),
        "beams": {"seed": seed} | searched,
        "grpo": runs,
    }


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    begin = adapter_hash("sft")
    seeds = [run_seed(seed, arms, begin) for seed in SEEDS]
    labels, heads, grpo = (
        [row for one in seeds for row in one[part]] for part in ("labels", "heads", "grpo")
    )
    choice, searched = [one["choice"] for one in seeds], [one["beams"] for one in seeds]
    count = SETTINGS["heldout"]["prompts"] * SETTINGS["heldout"]["replies"]
    record = {
        "settings": SETTINGS | {"grpo": GRPO, "arms": ARMS},
        "labels": labels,
        "heads": [{k: v for k, v in one.items() if k != "folder"} for one in heads],
        "choice": means(choice),
        "by_prompt": {name: [listed(run[name][16]) for run in choice] for name in choice[0]},
        "equal_tokens": {
            str(n): {"process, min": [listed(run["process, min"][n]) for run in choice]}
            for n in SIZES
        },
        "reply_tokens": [round(one["tokens"] / count, 3) for one in seeds],
        "errors": [one["errors"] for one in seeds],
        "beams": searched,
        "grpo": grpo,
    }
    took = minutes(one["seconds"] for one in (*heads, *searched, *grpo))
    write_record(__file__, TARGET, record, seeds=SEEDS, training_minutes=took, start=begin[:12])


if __name__ == "__main__":
    main()
