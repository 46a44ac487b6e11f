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

import hashlib
import inspect
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from postlab import prm
from postlab.fingerprint import digest
from postlab.lab import Lab
from postlab.machine import run_root
from postlab.profile import get_profile
from postlab.recorded import finished, listed, provenance, write_result
from postlab.sourcecode import package_source
from postlab.tinyworld import tasks
from postlab.tinyworld.oracle import read

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "data" / "results" / "week10" / "prm.json"
SEEDS = (0, 1, 2)
CODE = ("tinyworld", "rollout", "decoding", "prm_labels", "prm_scores", "prm_steps")
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
GRPO_HELDOUT, EVERY, SHOWN = 64, 20, 4
FINAL = re.compile(r"#### (-?[0-9]{1,6})$")
Messages = list[dict[str, str]]


@cache
def start() -> tuple[Any, Any]:
    """The generator, which is never trained, and its tokenizer."""
    from postlab.models import load_policy

    return load_policy(Lab(get_profile("tiny"), 0).checkpoint("sft"), profile="tiny", bits=32)


def prompts_of(split: str, count: int, name: str) -> list[Messages]:
    """Different sums in the training wordings, the numbers of terms in turn; held out or not."""
    rng, found = random.Random(f"week 10 {split} {name}"), {}
    while len(found) < count:
        many = SETTINGS["terms"][len(found) % len(SETTINGS["terms"])]
        terms = tuple(rng.randint(2, 59) for _ in range(many))
        if tasks.held_out_numbers(terms) == (split == "heldout"):
            item = tasks.Item("arithmetic", "sum", terms)
            found.setdefault(tasks.ask(item, rng, "train"), None)
    return [[{"role": "user", "content": text}] for text in found]


def right(prompt: Messages, reply: str) -> float:
    """The oracle's word on the final answer."""
    return tasks.score(read(prompt[-1]["content"]), reply, True)["arithmetic"]


def answer_of(reply: str) -> str | None:
    """The final answer that votes are counted by."""
    found = FINAL.search(reply)
    return found.group(1) if found else None


def drawn(prompts: Sequence[Messages], n: int, seed: int) -> list[list[str]]:
    """The generator's replies, at the experiment's temperature."""
    how = {name: SETTINGS[name] for name in ("temperature", "new_tokens")}
    return prm.sample_solutions(*start(), prompts, n=n, seed=seed, **how)


def labelled(seed: int) -> dict[str, Any]:
    """Training solutions with the oracle's labels, the rollouts' and the outcome."""
    begun = time.perf_counter()
    prompts = prompts_of("train", SETTINGS["train"]["prompts"], str(seed))
    replies = drawn(prompts, SETTINGS["train"]["replies"], seed)
    rows = [
        prm.step_row(prompt, reply)
        for prompt, group in zip(prompts, replies, strict=True)
        for reply in group
        if prm.split_steps(reply)
    ]
    truth = [prm.oracle_labels(r["prompt"][-1]["content"], r["completions"]) for r in rows]
    soft = prm.rollout_labels(
        *start(), rows, right=right, seed=seed, new_tokens=SETTINGS["new_tokens"],
        **SETTINGS["rollouts"],
    )  # fmt: skip
    outcome = [right(row["prompt"], " ".join(row["completions"])) for row in rows]
    found = {"seed": seed, "rows": rows, "oracle": truth, "soft": soft, "outcome": outcome}
    return found | {"seconds": round(time.perf_counter() - begun, 1)}


def rows_for(kind: str, made: dict[str, Any]) -> list[dict[str, Any]]:
    """One head's training rows: the same solutions, other labels."""
    if kind == "outcome":
        return prm.outcome_rows(made["rows"], made["outcome"])
    labels = made["oracle"] if kind == "process" else prm.hard_labels(made["soft"])
    return [row | {"labels": one} for row, one in zip(made["rows"], labels, strict=True)]


def new_head() -> Any:
    """A head of two classes on the merged SFT stage."""
    from transformers import AutoModelForTokenClassification

    from postlab.models import load_policy

    folder = Lab(get_profile("tiny"), 0).checkpoint("sft")
    merged = load_policy(folder, profile="tiny", bits=32)[0].merge_and_unload()
    merged.config.num_labels = 2
    head = AutoModelForTokenClassification.from_config(merged.config)
    head.model.load_state_dict(merged.model.state_dict())
    return head


def trained(kind: str, seed: int, made: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train one head and keep it in `folder`: its loss by step, labels used, seconds."""
    from datasets import Dataset
    from transformers import (
        DataCollatorForTokenClassification,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    tokenizer = start()[1]
    encoded = prm.encode_steps(rows_for(kind, made), tokenizer)
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
    found = {"prompts": prompts, "replies": replies, "tokens": tokens}
    return found | {"seconds": round(time.perf_counter() - begun, 1)}


def scored(folder: Path, pool: dict[str, Any]) -> dict[str, Any]:
    """A head's chance of every step of every reply; none for a blank one."""
    begun = time.perf_counter()
    flat = [
        {"prompt": prompt, "completions": steps}
        for prompt, group in zip(pool["prompts"], pool["replies"], strict=True)
        for reply in group
        if (steps := prm.split_steps(reply))
    ]
    scores = iter(prm.step_scores(head(folder), start()[1], flat))
    found = [
        [[round(p, 5) for p in next(scores)] if prm.split_steps(reply) else [] for reply in group]
        for group in pool["replies"]
    ]
    return {"scores": found, "seconds": round(time.perf_counter() - begun, 1)}


def chosen(pool: dict[str, Any], scores: dict[str, Any]) -> dict[str, dict[int, np.ndarray]]:
    """Selector -> n -> the expected accuracy on each held-out prompt."""
    worth = np.array(
        [[right(p, x) for x in g] for p, g in zip(pool["prompts"], pool["replies"], strict=True)]
    )
    answers = [[answer_of(reply) for reply in group] for group in pool["replies"]]
    marks = {
        f"{kind}, {how}": np.array(
            [[prm.aggregate(p, how) if p else 0.0 for p in group] for group in one["scores"]]
        )
        for kind, one in scores.items()
        for how in (HOWS if kind != "outcome" else ("last",))
    }
    found: dict[str, dict[int, np.ndarray]] = {}
    for n in SIZES:
        one = {"majority": prm.vote_of_n(answers, worth, n)}
        one["oracle"] = prm.best_of_n(worth, worth, n)
        one |= {name: prm.best_of_n(mark, worth, n) for name, mark in marks.items()}
        for name in ("process, min", "outcome, last"):
            one[f"vote by {name}"] = prm.vote_of_n(answers, worth, n, weights=marks[name])
        for name, values in one.items():
            found.setdefault(name, {})[n] = values
    return found


def errors(pool: dict[str, Any], scores: dict[str, Any], seed: int) -> dict[str, Any]:
    """Where the first wrong step is, and who finds it: all replies, and those with steps."""
    truth, sizes, found = [], [], {kind: [] for kind in ("process", "rollouts")}
    outcome, rng = [], random.Random(f"week 10 errors {seed}")
    for i, (prompt, group) in enumerate(zip(pool["prompts"], pool["replies"], strict=True)):
        for j, reply in enumerate(group[: SETTINGS["errors"]]):
            steps = prm.split_steps(reply)
            if not steps:
                continue
            truth.append(prm.first_wrong(prm.oracle_labels(prompt[-1]["content"], steps)))
            sizes.append((i, len(steps)))
            for kind, made in found.items():
                made.append(prm.first_wrong(scores[kind]["scores"][i][j]))
            good = scores["outcome"]["scores"][i][j][-1] >= 0.5
            outcome.append(-1 if good else len(steps) - 1)
    found["outcome, then last"] = outcome
    found["always last"] = [n - 1 for _, n in sizes]
    found["random"] = [-1 if rng.random() < 0.5 else rng.randrange(n) for _, n in sizes]
    return {"truth": truth, "sizes": sizes, "found": found}


def beams(seed: int, folder: Path, pool: dict[str, Any]) -> dict[str, Any]:
    """Beam search on the first held-out prompts: right or wrong, and tokens drawn."""
    how = dict(SETTINGS["beams"])
    prompts, begun = pool["prompts"][: how.pop("prompts")], time.perf_counter()
    found = prm.beam_search(
        *start(), prompts, partial(prm.step_scores, head(folder), start()[1]),
        temperature=SETTINGS["temperature"], seed=seed, **how,
    )  # fmt: skip
    return {
        "right": listed(right(p, one.reply) for p, one in zip(prompts, found, strict=True)),
        "tokens": listed(one.tokens for one in found),
        "replies": [one.reply for one in found[:SHOWN]],
        "seconds": round(time.perf_counter() - begun, 1),
    }


def policy() -> tuple[Any, Any]:
    """The shipped SFT adapter, trainable, in float32, and its tokenizer."""
    from postlab.models import load_policy, trainable

    folder = Lab(get_profile("tiny"), 0).checkpoint("sft")
    model, tokenizer = load_policy(folder, profile="tiny", bits=32)
    return trainable(model), tokenizer


def told(model: Any, tokenizer: Any, step: int) -> dict[str, Any]:
    """Greedy answers to held-out prompts: the truth, and some of them."""
    prompts = prompts_of("heldout", GRPO_HELDOUT, "grpo")
    was = model.training
    from postlab.constitution import policy_speaker

    speak = policy_speaker(model.eval(), tokenizer, new_tokens=GRPO["max_completion_length"])
    replies = speak(prompts)
    model.train(was)
    return {
        "step": step,
        "truth": listed(right(p, x) for p, x in zip(prompts, replies, strict=True)),
        "steps": listed(len(prm.split_steps(reply)) for reply in replies),
        "answers": [[p[-1]["content"], x] for p, x in zip(prompts, replies, strict=True)][:SHOWN],
    }


def watcher(trainer: Any, looks: list[dict[str, Any]]) -> Any:
    """A callback that looks at the held-out prompts every few steps."""
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step % EVERY == 0:
                looks.append(told(trainer.model, trainer.processing_class, state.global_step))

    return Watcher()


def per_reply(of: Callable[[Messages, str], float], name: str) -> Callable[..., list[float]]:
    """A measure of one reply in TRL's protocol."""

    def reward(prompts: list, completions: list, **columns: Any) -> list[float]:
        return [of(p, c[-1]["content"]) for p, c in zip(prompts, completions, strict=True)]

    reward.__name__ = name
    return reward


def proxy_of(arm: str, folder: Path) -> Callable[..., list[float]]:
    """What an arm pays: the head's aggregated chances, or that where the answer is right."""
    paid = prm.process_reward(head(folder), start()[1], how=ARMS[arm]["how"], name="proxy")
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
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from postlab.rollout_trl import rollout_func

    model, tokenizer = policy()
    looks, given = [told(model, tokenizer, 0)], arguments()
    groups = given["per_device_train_batch_size"] // given["num_generations"]
    prompts = prompts_of("train", given["max_steps"] * groups, f"grpo {seed}")
    count = per_reply(lambda prompt, reply: float(len(prm.split_steps(reply))), "steps")
    with tempfile.TemporaryDirectory() as place:
        trainer = GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            reward_funcs=[proxy_of(arm, folder), per_reply(right, "truth"), count],
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
            args=GRPOConfig(output_dir=place, seed=seed, **given),
            rollout_func=rollout_func,
        )
        trainer.add_callback(watcher(trainer, looks))
        begun = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begun
    log = [entry for entry in trainer.state.log_history if "reward" in entry]
    logged = {
        "step": "step", "proxy": "rewards/proxy/mean", "truth": "rewards/truth/mean",
        "steps": "rewards/steps/mean", "length": "completions/mean_length", "entropy": "entropy",
        "clipped": "completions/clipped_ratio", "grad_norm": "grad_norm", "loss": "loss",
        "silent": "frac_reward_zero_std", "learning_rate": "learning_rate",
    }  # fmt: skip
    return {
        "arm": arm,
        "seed": seed,
        "log": {n: listed(e[key] for e in log) for n, key in logged.items() if key in log[0]},
        "heldout": looks,
        "seconds": round(seconds, 1),
    }


def means(runs: Sequence[dict[str, dict[int, np.ndarray]]]) -> list[dict[str, Any]]:
    """Selector and n -> accuracy with its interval over prompts, seeds averaged a prompt first."""
    from postlab.stats import bootstrap_interval

    rows = []
    for name in runs[0]:
        for n in SIZES:
            found = bootstrap_interval(np.mean([run[name][n] for run in runs], axis=0))
            row = {"selector": name, "n": n, "value": found.value}
            rows.append(row | {"low": found.low, "high": found.high})
    return [{k: round(v, 5) if isinstance(v, float) else v for k, v in r.items()} for r in rows]


def agreed(made: dict[str, Any]) -> list[dict[str, Any]]:
    """How far rollout labels agree with the oracle's: hard and at one half, all and worked."""
    found = []
    for name, least in (("any", 0.0), ("half", 0.499)):
        labels = prm.hard_labels(made["soft"], least=least)
        for about, most in (("all", 0), ("with steps", 1)):
            taken = [i for i, row in enumerate(made["oracle"]) if len(row) > most]
            told = prm.agreement([labels[i] for i in taken], [made["oracle"][i] for i in taken])
            row = {"seed": made["seed"], "hard": name, "replies": about}
            found.append(row | {k: [round(v.value, 4), round(v.low, 4), round(v.high, 4), v.n]
                                for k, v in told.items()})  # fmt: skip
    return found


def main() -> None:
    parts = run_root() / "week10-prm"
    parts.mkdir(parents=True, exist_ok=True)
    begin = Path(Lab(get_profile("tiny"), 0).checkpoint("sft"))
    adapter = hashlib.sha256((begin / "adapter_model.safetensors").read_bytes()).hexdigest()
    base = (start.__wrapped__, prompts_of, right, drawn, labelled, rows_for, new_head, trained,
            pool, scored)  # fmt: skip
    search = (beams,)
    training = (policy, told, watcher, per_reply, proxy_of, arguments, gamed)
    made = {"start": adapter, "package": package_source(*CODE)}
    made |= {"own": [inspect.getsource(step) for step in base]}
    made |= {"settings": {k: v for k, v in SETTINGS.items() if k not in ("errors", "beams")}}
    begun = time.perf_counter()

    def part(name: str, make: Callable[[], dict[str, Any]], **more: Any) -> dict[str, Any]:
        file = f"{digest(made | more)[:12]}-{name.replace(' ', '-').replace(',', '')}.json"
        return finished(parts / file, make, begun=begun)

    labels, heads, picked, wrong, searched, runs, tokens = [], [], [], [], [], [], []
    for seed in SEEDS:
        sources = part(f"labels {seed}", partial(labelled, seed))
        replies = part(f"pool {seed}", partial(pool, seed))
        scores, folders = {}, {}
        for kind in HEADS:
            folders[kind] = parts / f"{digest(made)[:12]}-{kind}-{seed}"
            heads.append(
                part(f"head {kind} {seed}", partial(trained, kind, seed, sources, folders[kind]))
            )
            scores[kind] = part(f"scores {kind} {seed}", partial(scored, folders[kind], replies))
        labels += agreed(sources)
        tokens.append(replies["tokens"])
        picked.append(chosen(replies, scores))
        wrong.append({"seed": seed} | errors(replies, scores, seed))
        own = {"search": package_source("prm_search"), "how": SETTINGS["beams"]}
        own |= {"beams": [inspect.getsource(step) for step in search]}
        searched.append(
            {"seed": seed}
            | part(f"beams {seed}", partial(beams, seed, folders["process"], replies), **own)
        )
        for arm, how in ARMS.items():
            own = {"arm": how, "arguments": arguments(), "looks": [GRPO_HELDOUT, EVERY, SHOWN]}
            own |= {"training": [inspect.getsource(step) for step in training]}
            own |= {"rollout": package_source("rollout_trl", "constitution_speakers")}
            name = f"grpo {arm} {seed}"
            runs.append(part(name, partial(gamed, arm, seed, folders["process"]), **own))
    n = 16
    command = f"python {Path(__file__).resolve().relative_to(ROOT)}"
    made_by = provenance(command, seeds=SEEDS, packages=("torch", "transformers", "trl", "peft"))
    minutes = sum(one["seconds"] for one in (*heads, *searched, *runs)) / 60
    made_by |= {"training_minutes": round(minutes, 1), "start": adapter[:12]}
    write_result(
        TARGET,
        {
            "provenance": made_by,
            "settings": SETTINGS | {"grpo": GRPO, "arms": ARMS},
            "labels": labels,
            "heads": [{k: v for k, v in one.items() if k != "folder"} for one in heads],
            "choice": means(picked),
            "by_prompt": {
                name: [listed(run[name][n]) for run in picked]
                for name in picked[0]
            },
            "equal_tokens": {
                str(m): {"process, min": [listed(run["process, min"][m]) for run in picked]}
                for m in SIZES
            },
            "reply_tokens": [
                round(one / (SETTINGS["heldout"]["prompts"] * SETTINGS["heldout"]["replies"]), 3)
                for one in tokens
            ],
            "errors": [
                {"seed": one["seed"], "truth": listed(one["truth"]),
                 "prompts": listed(i for i, _ in one["sizes"]),
                 "sizes": listed(n for _, n in one["sizes"]),
                 "found": {name: listed(made) for name, made in one["found"].items()}}
                for one in wrong
            ],
            "beams": searched,
            "grpo": runs,
        },
    )  # fmt: skip
    print(f"{TARGET.relative_to(ROOT)} written", file=sys.stderr)


if __name__ == "__main__":
    main()
