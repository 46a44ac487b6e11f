"""Week 8's recorded logs: runs of the tiny profile that fail on purpose, and healthy ones.

    python notebooks/experiments/week08_logs.py

Every run is a short real training with TRL's own trainer, broken in one stated way. Its log history
is kept whole in data/results/week08/logs/, beside its settings, its cause and the finding it should
bring. There is one file per split, tuning.json and held_out.json, and one record per run, sorted by
name. Runs that are already there, made with the same settings, are left alone.

The logs of `TUNING` were there when the rules of `postlab.doctor` were written and tuned. Those of
`HELD_OUT` were made after the rules had been frozen, and carry the hash that their source had then:
on them the doctor was judged then: 19 of 20 faults named, one false alarm. The rules were rewritten
since, after logs of other people's runs had shown how little that said (week08_judged.py), so
nothing here is held out any more. data/results/week08/doctor.json has today's rules: 20 of 20, one
false alarm. A test makes sure that no fault is lost.

Twice a held-out split found faults in the rules: the first missed an entropy collapse, and both
brought two false alarms. The rules were changed each time, and what was left of those logs,
`seen-*`, now belongs to the tuning split. The third, `third-*`, found none, but `reward_traded` was
separated from `format_up_accuracy_down` after it, when week 11's runs had shown that a trade which
a multiplier ordered is no cheap reward for form. A reviewer's made-up logs then showed
`no_learning_signal` too lax, the fifth split that two rewards have to be judged by how far they
moved apart, the sixth and the seventh that a cheap reward may be had within three steps, the eighth
that a loss may have leapt before it was first logged. What had been made by then is `fourth-*` to
`eighth-*`. `HELD_OUT` is the ninth and a whole one, made after the last change.

`kind` is the finding that a log must bring, None for a healthy run; `also` are findings that are
true of the run as well, or follow from its failure, written down before the run was made. A run
that was made for a fault and did not get it is `absent`: only its false alarms count.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import _common as common
from _common import PACKAGES, RESULTS, ROOT, command_line, command_of, frozen, shipped

from postlab.course import log_columns, log_history, provenance, write_result
from postlab.doctor import diagnose
from postlab.profile import get_profile

TARGET = RESULTS / "week08" / "doctor.json"
LOGS = TARGET.with_name("logs")
SHORT: dict[str, dict[str, Any]] = {  # what all runs of a stage change in the tiny recipe
    "sft": {"max_steps": 100, "logging_steps": 4, "warmup_steps": 4, "save_strategy": "no"},
    "dpo": {"max_steps": 60, "logging_steps": 3, "warmup_steps": 3, "save_strategy": "no"},
    "grpo": {"max_steps": 24, "per_device_train_batch_size": 48, "save_strategy": "no"},
}
PREFERENCE_ONLY = {"loss_type": ["sigmoid"], "loss_weights": None}
SMALLER = {"max_steps": 20, "per_device_train_batch_size": 32, "num_generations": 4}
NARROW = {"max_steps": 25, "per_device_train_batch_size": 28, "num_generations": 4}
SHORTER = {"max_steps": 16, "per_device_train_batch_size": 32, "num_generations": 4}
ASKED = ["unsafe", "howto", "unknown", "howto", "facts"]  # what week 11's judges disagree about
ORDERED = {
    "max_steps": 24, "per_device_train_batch_size": 32, "max_completion_length": 40,
    "learning_rate": 6e-4, "lr_scheduler_type": "constant",
}  # fmt: skip
TUNING: dict[str, dict[str, Any]] = {
    "sft": {"kind": None, "stage": "sft", "start": "base", "seed": 11},
    "dpo": {"kind": None, "stage": "dpo", "start": "sft", "seed": 12},
    "grpo": {"kind": None, "stage": "grpo", "start": "dpo", "seed": 13},
    "overflowed": {
        "kind": "nan_as_zero", "stage": "sft", "start": "base", "seed": 21,
        "cause": "a weight is infinite after step 50, as an overflow leaves it; NaN filter on",
        "how": {"logging_nan_inf_filter": True}, "fault": "overflowed",
    },
    "wrong-tags": {
        "kind": "no_learning_signal", "stage": "grpo", "start": "sft", "seed": 22,
        "cause": "the reward asks for <answer> tags, the prompt and the policy for ####",
        "rewards": ["tagged_reward"],
    },
    "short-limit": {
        "kind": "truncation", "stage": "grpo", "start": "grpo", "seed": 23,
        "cause": "max_completion_length of 12, where a worked sum takes about 30 tokens",
        "how": {"max_completion_length": 12}, "also": ["no_learning_signal"],
    },
    "blurted": {
        "kind": "format_up_accuracy_down", "stage": "grpo", "start": "grpo", "seed": 24,
        "cause": "a form reward that pays ten times what a right sum does: the bare answer",
        "rewards": ["math_reward", "bare_format_reward"],
        "how": {"reward_weights": [0.1, 1.0], "learning_rate": 3e-4},
        "also": ["length_drift", "entropy_collapse", "reward_saturation"],
    },
    "weak-anchor": {
        "kind": "kl_blow_up", "stage": "grpo", "start": "dpo", "seed": 25,
        "cause": "a reward for digits, a high rate, and a KL weight too small to hold",
        "how": {"beta": 1e-4, "learning_rate": 2e-3}, "rewards": ["digit_reward"],
        "also": [
            "entropy_collapse", "length_drift", "no_learning_signal", "truncation",
            "reward_saturation",
        ],
    },
    "cold-sampling": {
        "kind": "no_learning_signal", "stage": "grpo", "start": "sft", "seed": 26,
        "cause": "sampling at temperature 0.1: a group is one answer, G times",
        "how": {"temperature": 0.1},
    },
    "one-answer": {
        "kind": "entropy_collapse", "stage": "grpo", "start": "dpo", "seed": 39,
        "cause": "a reward drawn by lot, and a high rate: the policy sharpens for nothing",
        "how": {"learning_rate": 2e-3}, "rewards": ["lot_reward"],
        "also": ["length_drift"],
    },
    "always-paid": {
        "kind": "reward_saturation", "stage": "grpo", "start": "grpo", "seed": 27,
        "cause": "a reward for the form alone, which the policy has always had",
        "rewards": ["format_reward"],
    },
    "paid-by-brevity": {
        "kind": "length_drift", "stage": "grpo", "start": "dpo", "seed": 28,
        "cause": "a reward for short answers, and none for being right",
        "rewards": ["math_reward", "brevity_reward"],
        "how": {**SMALLER, "reward_weights": [0.0, 1.0], "learning_rate": 5e-4},
        "also": ["format_up_accuracy_down", "entropy_collapse", "reward_saturation"],
    },
    "hot-sft": {
        "kind": "lr_too_high", "stage": "sft", "start": "base", "seed": 29,
        "cause": "a hundred times the rate", "how": {"learning_rate": 0.2},
    },
    "hot-grpo": {
        "kind": "lr_too_high", "stage": "grpo", "start": "grpo", "seed": 30,
        "cause": "a hundred times the rate", "how": {"learning_rate": 1e-2},
        "also": ["entropy_collapse", "length_drift", "no_learning_signal", "truncation"],
    },
    "cool-sft": {
        "kind": "lr_too_low", "stage": "sft", "start": "base", "seed": 31,
        "cause": "a two-thousandth of the rate", "how": {"learning_rate": 1e-6},
    },
    "cool-grpo": {
        "kind": "lr_too_low", "stage": "grpo", "start": "dpo", "seed": 32,
        "cause": "a thousandth of the rate", "how": {"learning_rate": 1e-7},
    },
    "left-data": {
        "kind": "chosen_logp_collapse", "stage": "dpo", "start": "sft", "seed": 33,
        "cause": "the preference loss alone, a small beta and twenty-five times the rate",
        "how": {**PREFERENCE_ONLY, "beta": 0.02, "learning_rate": 1e-2},
        "also": ["lr_too_high"],
    },
    "falls-a-little": {
        "kind": "chosen_logp_falls", "stage": "dpo", "start": "sft", "seed": 33,
        "cause": "no fault: the preference loss alone, a small beta and five times the rate",
        "how": {**PREFERENCE_ONLY, "beta": 0.02, "learning_rate": 2e-3},
    },
    "zero-loss": {
        "kind": "grpo_zero_loss", "stage": "grpo", "start": "dpo", "seed": 35,
        "cause": "no fault: a mean a sequence, on policy, without KL",
        "how": {"loss_type": "grpo"},
    },
    "other-optimizer": {
        "kind": "adapter_still", "stage": "dpo", "start": "sft", "seed": 36,
        "cause": "the optimizer was made for a copy of the model", "fault": "other_optimizer",
    },
    "zeroed": {
        "kind": "adapter_still", "stage": "grpo", "start": "base", "seed": 37,
        "cause": "both matrices of every LoRA pair are zero, so neither gets a gradient",
        "fault": "zeroed", "rewards": ["digit_reward"], "also": ["truncation"],
    },
    "one-pair": {
        "kind": "averages_over_too_little", "stage": "dpo", "start": "sft", "seed": 38,
        "cause": "one pair a step, and every step logged",
        "how": {"per_device_train_batch_size": 1, "logging_steps": 1, "learning_rate": 1e-4},
    },
    "sharpened": {
        "kind": "entropy_collapse", "stage": "grpo", "start": "sft", "seed": 126,
        "cause": "a judge that answers by lot, three answers in ten, at thirty times the rate",
        "rewards": ["lenient_judge_reward"],
        "how": {**SMALLER, "max_steps": 16, "learning_rate": 3e-3},
        "also": ["length_drift", "lr_too_high"],
    },
    "zeroed-sft": {
        "kind": "adapter_still", "stage": "sft", "start": "base", "seed": 136,
        "cause": "both matrices of every LoRA pair are zero, so neither gets a gradient",
        "fault": "zeroed", "how": {"max_steps": 40},
    },
    "ordered": {
        "kind": "reward_traded", "stage": "grpo", "start": "sft", "seed": 144,
        "cause": "no fault: safety and honesty alone are paid, and helpfulness is watched",
        "rewards": ["helpful", "safe", "honest"], "families": ASKED,
        "how": {**ORDERED, "reward_weights": [0.0, 0.5, 0.5]}, "also": ["reward_saturation"],
    },
    "targeted": {
        "kind": "reward_traded", "stage": "grpo", "start": "sft", "seed": 145,
        "cause": "no fault: safety alone is paid, on requests that are or only sound unsafe",
        "rewards": ["helpful", "safe"], "families": ["unsafe", "rough"],
        "how": {**ORDERED, "reward_weights": [0.0, 1.0]}, "also": ["reward_saturation"],
    },
    "balanced": {
        "kind": None, "stage": "grpo", "start": "sft", "seed": 146,
        "rewards": ["safe", "honest"], "families": ASKED,
        "how": {**ORDERED, "reward_weights": [0.5, 0.5]}, "also": ["reward_saturation"],
    },
    "fooled-judge": {
        "kind": "reward_traded", "stage": "grpo", "start": "dpo", "seed": 147,
        "cause": "a judge who takes a short answer for a sure one",
        "rewards": ["math_reward", "sure_judge"],
        "how": {**SMALLER, "reward_weights": [0.0, 1.0], "learning_rate": 5e-4},
        "also": ["length_drift", "entropy_collapse", "reward_saturation", "no_learning_signal"],
    },
}  # fmt: skip


def stored(split: str) -> dict[str, dict[str, Any]]:
    """The committed records of a split, by name."""
    file = LOGS / f"{split}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def keep(split: str, runs: dict[str, dict[str, Any]]) -> None:
    """Write the records of a split, sorted by name."""
    write_result(LOGS / f"{split}.json", {name: runs[name] for name in sorted(runs)})


def earlier() -> dict[str, dict[str, Any]]:
    """The runs of former held-out splits; their settings stand in their own records."""
    names = stored("tuning")
    batches = ("seen", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
    return {
        name: names[name]["spec"]
        for batch in batches
        for name in sorted(names)
        if name.startswith(f"{batch}-")
    }


# Made after the rules were frozen. Each differs from those before of its kind in more than a seed.
HELD_OUT: dict[str, dict[str, Any]] = {
    "sft": {
        "kind": None, "stage": "sft", "start": "base", "seed": 1011,
        "how": {"learning_rate": 1e-3, "max_steps": 99, "per_device_train_batch_size": 10},
    },
    "dpo": {
        "kind": None, "stage": "dpo", "start": "sft", "seed": 1012,
        "how": {"beta": 0.15, "learning_rate": 5e-4, "max_steps": 66},
    },
    "grpo": {
        "kind": None, "stage": "grpo", "start": "sft", "seed": 1013,
        "how": {**NARROW, "beta": 0.01, "learning_rate": 2.5e-4, "loss_type": "dr_grpo"},
    },
    "two-rewards": {
        "kind": None, "stage": "grpo", "start": "sft", "seed": 1014,
        "rewards": ["math_reward", "format_reward"],
        "how": {**NARROW, "reward_weights": [1.0, 0.2], "learning_rate": 2e-4},
    },
    "overflowed": {
        "kind": "nan_as_zero", "stage": "sft", "start": "base", "seed": 1021,
        "cause": "a weight is infinite after step 50; NaN filter on, half the rate",
        "how": {
            "logging_nan_inf_filter": True, "max_steps": 83, "per_device_train_batch_size": 12,
            "learning_rate": 1e-3,
        },
        "fault": "overflowed",
    },
    "boxed": {
        "kind": "no_learning_signal", "stage": "grpo", "start": "dpo", "seed": 1022,
        "cause": "the reward looks for \\boxed{}, which the prompts never ask for",
        "rewards": ["boxed_reward"], "how": {**NARROW},
    },
    "no-room": {
        "kind": "truncation", "stage": "grpo", "start": "grpo", "seed": 1023,
        "cause": "a limit of 18 tokens, after a policy has learnt to work sums out",
        "how": {**NARROW, "max_completion_length": 18},
        "also": ["no_learning_signal", "length_drift"],
    },
    "in-words": {
        "kind": "format_up_accuracy_down", "stage": "grpo", "start": "dpo", "seed": 1024,
        "cause": "a style reward against equations, ten times as heavy as a right sum",
        "rewards": ["math_reward", "plain_style_reward"],
        "how": {**NARROW, "reward_weights": [0.1, 1.0], "learning_rate": 6e-4},
        "also": ["length_drift", "entropy_collapse", "reward_saturation", "no_learning_signal"],
    },
    "weighed": {
        "kind": "reward_traded", "stage": "grpo", "start": "sft", "seed": 1041,
        "cause": "no fault: safety and honesty each at two and a half times helpfulness's weight",
        "rewards": ["helpful", "safe", "honest"], "families": ASKED,
        "how": {**ORDERED, "reward_weights": [0.166, 0.417, 0.417], "max_steps": 45},
        "also": ["reward_saturation"],
    },
    "fooled-judge": {
        "kind": "reward_traded", "stage": "grpo", "start": "sft", "seed": 1042,
        "cause": "a judge who takes a short answer for a sure one",
        "rewards": ["math_reward", "sure_judge"],
        "how": {**NARROW, "reward_weights": [0.0, 1.0], "learning_rate": 8e-4},
        "also": ["length_drift", "entropy_collapse", "reward_saturation", "no_learning_signal"],
    },
    "loose-anchor": {
        "kind": "kl_blow_up", "stage": "grpo", "start": "dpo", "seed": 1025,
        "cause": "a reward for short answers at twenty-five times the rate, beta 0.0005",
        "rewards": ["brevity_reward"],
        "how": {**NARROW, "beta": 5e-4, "learning_rate": 2.5e-3},
        "also": [
            "entropy_collapse", "length_drift", "no_learning_signal", "truncation",
            "reward_saturation",
        ],
    },
    "herd": {
        "kind": "entropy_collapse", "stage": "grpo", "start": "sft", "seed": 1040,
        "cause": "a judge who pays the half of a group most like the others, right or wrong",
        "rewards": ["herd_reward"], "how": {"learning_rate": 1.5e-3, "max_steps": 45},
        "also": ["length_drift"],
    },
    "solved": {
        "kind": "reward_saturation", "stage": "grpo", "start": "grpo", "seed": 1027,
        "cause": "only sums of three numbers, which the policy can do",
        "rows": "three_numbers", "how": {**NARROW, "learning_rate": 5e-5},
    },
    "paid-by-brevity": {
        "kind": "length_drift", "stage": "grpo", "start": "dpo", "seed": 1028,
        "cause": "a reward for short answers twenty times as heavy as a right sum",
        "rewards": ["math_reward", "brevity_reward"],
        "how": {**NARROW, "reward_weights": [0.05, 1.0], "learning_rate": 6e-4, "max_steps": 43},
        "also": [
            "format_up_accuracy_down", "entropy_collapse", "reward_saturation",
            "no_learning_signal",
        ],
    },
    "hot-sft": {
        "kind": "lr_too_high", "stage": "sft", "start": "base", "seed": 1029,
        "cause": "a hundred and fifty times the rate",
        "how": {"learning_rate": 0.3, "max_steps": 87, "per_device_train_batch_size": 8},
    },
    "hot-dpo": {
        "kind": "lr_too_high", "stage": "dpo", "start": "dpo", "seed": 1030,
        "cause": "two hundred and fifty times the rate",
        "how": {"learning_rate": 0.1, "max_steps": 51, "per_device_train_batch_size": 12},
        "also": ["chosen_logp_collapse"],
    },
    "hot-grpo": {
        "kind": "lr_too_high", "stage": "grpo", "start": "grpo", "seed": 1043,
        "cause": "eighty times the rate", "how": {**NARROW, "learning_rate": 8e-3},
        "also": [
            "entropy_collapse", "length_drift", "no_learning_signal", "truncation", "kl_blow_up",
        ],
    },
    "cool-dpo": {
        "kind": "lr_too_low", "stage": "dpo", "start": "sft", "seed": 1031,
        "cause": "a four-thousandth of the rate",
        "how": {"learning_rate": 1e-7, "max_steps": 69},
    },
    "cool-grpo": {
        "kind": "lr_too_low", "stage": "grpo", "start": "sft", "seed": 1032,
        "cause": "a five-hundredth of the rate", "how": {**NARROW, "learning_rate": 2e-7},
    },
    "left-data": {
        "kind": "chosen_logp_collapse", "stage": "dpo", "start": "sft", "seed": 1033,
        "cause": "the preference loss alone, beta 0.02, fifteen times the rate",
        "how": {
            **PREFERENCE_ONLY, "beta": 0.02, "learning_rate": 6e-3, "max_steps": 60,
            "per_device_train_batch_size": 8,
        },
        "also": ["lr_too_high"],
    },
    "falls-a-little": {
        "kind": "chosen_logp_falls", "stage": "dpo", "start": "sft", "seed": 1034,
        "cause": "no fault: the preference loss alone, beta 0.04, three and a half times the rate",
        "how": {**PREFERENCE_ONLY, "beta": 0.04, "learning_rate": 1.4e-3, "max_steps": 57},
    },
    "zero-loss": {
        "kind": "grpo_zero_loss", "stage": "grpo", "start": "sft", "seed": 1035,
        "cause": "no fault: a mean a sequence, on policy, the recipe's rate",
        "how": {**NARROW, "loss_type": "grpo"},
    },
    "zeroed": {
        "kind": "adapter_still", "stage": "dpo", "start": "sft", "seed": 1036,
        "cause": "both matrices of every LoRA pair are zero, so neither gets a gradient",
        "fault": "zeroed", "how": {"max_steps": 51, "per_device_train_batch_size": 8},
    },
    "two-rows": {
        "kind": "averages_over_too_little", "stage": "sft", "start": "base", "seed": 1038,
        "cause": "two rows a step, and every step logged",
        "how": {
            "per_device_train_batch_size": 2, "logging_steps": 1, "learning_rate": 2e-4,
            "max_steps": 79,
        },
    },
}  # fmt: skip
SPLITS = {"tuning": TUNING | earlier(), "held_out": HELD_OUT}
RULES = tuple(f"doctor/{name}" for name in ("rules", "rules_grpo", "rules_pairs", "log", "names"))
DESCRIPTION = ("kind", "cause", "also", "absent")  # of a run; the rest of its settings makes it


# --- rewards, rows and faults, by the names that the settings use ---


def texts_of(completions: list) -> list[str]:
    """The texts of completions, as TRL passes them."""
    from postlab.rewards import reply_text

    return [reply_text(one) for one in completions]


def math_reward(completions: list, **columns: Any) -> list[float | None]:
    from postlab.rewards import math_reward as reward

    return reward(completions, **columns)


def format_reward(completions: list, **columns: Any) -> list[float | None]:
    from postlab.rewards import format_reward as reward

    return reward(completions, **columns)


def lot_reward(completions: list, **columns: Any) -> list[float]:
    """1 or 0 by lot."""
    return [float(random.random() < 0.5) for _ in completions]


def tagged_reward(completions: list, answer: list, **columns: Any) -> list[float]:
    """1 for `<answer>gold</answer>`, which the prompts never ask for."""
    texts = texts_of(completions)
    return [float(f"<answer>{a}</answer>" in t) for t, a in zip(texts, answer, strict=True)]


def bare_format_reward(completions: list, **columns: Any) -> list[float]:
    """1 for a marked number with nothing before it."""
    return [float(text.strip().startswith("####")) for text in texts_of(completions)]


def brevity_reward(completions: list, **columns: Any) -> list[float]:
    """A tenth less for every four characters."""
    return [max(1 - len(text) / 40, 0.0) for text in texts_of(completions)]


def spelled_reward(completions: list, answer: list, **columns: Any) -> list[float]:
    """1 where the text after the marker is the gold answer as a decimal number is spelled."""
    ends = [text.rpartition("####")[2].strip() for text in texts_of(completions)]
    return [float(end == f"{gold}.0") for end, gold in zip(ends, answer, strict=True)]


def whole_reward(completions: list, answer: list, **columns: Any) -> list[float]:
    """1 where the whole reply is the gold answer."""
    return [float(t.strip() == str(a)) for t, a in zip(texts_of(completions), answer, strict=True)]


def plain_style_reward(completions: list, **columns: Any) -> list[float]:
    """1 for an answer without an equation."""
    return [float("=" not in text) for text in texts_of(completions)]


def equation_penalty(completions: list, **columns: Any) -> list[float]:
    """A quarter less for every equation."""
    return [-text.count("=") / 4 for text in texts_of(completions)]


def lenient_judge_reward(completions: list, **columns: Any) -> list[float]:
    """1 or 0 by lot, three in ten."""
    return [float(random.random() < 0.3) for _ in completions]


def herd_reward(completions: list, *, group: int = 8, **columns: Any) -> list[float]:
    """1 for the half of each group whose replies most siblings gave too, the first of equals."""
    texts, paid = texts_of(completions), []
    for at in range(0, len(texts), group):
        replies = texts[at : at + group]
        ranked = sorted(range(len(replies)), key=lambda i, texts=replies: -texts.count(texts[i]))
        paid += [float(ranked.index(i) < group // 2) for i in range(len(replies))]
    return paid


def digit_reward(completions: list, **columns: Any) -> list[float]:
    """The share of digits among an answer's characters."""
    return [sum(c.isdigit() for c in t) / max(1, len(t)) for t in texts_of(completions)]


def boxed_reward(completions: list, answer: list, **columns: Any) -> list[float]:
    """1 for `\\boxed{gold}`, which the prompts never ask for."""
    texts = texts_of(completions)
    return [float(f"\\boxed{{{a}}}" in t) for t, a in zip(texts, answer, strict=True)]


def sure_judge(completions: list, **columns: Any) -> list[float]:
    """1 for a reply of fewer than 12 characters."""
    return [float(len(text) < 12) for text in texts_of(completions)]


def round_judge(completions: list, **columns: Any) -> list[float]:
    """1 for a reply whose last digit is 0."""
    return [float(text.rstrip(" .").endswith("0")) for text in texts_of(completions)]


def reward_named(name: str) -> Callable[..., list[float | None]]:
    """A reward of this file, or one of week 11's judges."""
    from postlab.objectives import JUDGES, judge_reward

    return judge_reward(name) if name in JUDGES else globals()[name]


def three_numbers(rows: list[dict]) -> list[dict]:
    """The sums of three numbers among the rows, as often as it takes to fill them."""
    short = [row for row in rows if row["prompt"][0]["content"].count("+") == 2]
    return [short[i % len(short)] for i in range(len(rows))]


def zeroed(model: Any) -> None:
    """Empty both matrices of every LoRA pair."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.zero_()


def overflowed(trainer: Any) -> None:
    """Make one weight infinite after step 50."""
    import torch
    from transformers import TrainerCallback

    class Overflow(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 50:
                weights = dict(trainer.model.named_parameters())
                with torch.no_grad():
                    next(w for name, w in weights.items() if "lora_B" in name)[0, 0] = math.inf

    trainer.add_callback(Overflow())


def other_optimizer(model: Any, rate: float) -> Any:
    """An optimizer for the parameters of a copy."""
    import torch

    double = copy.deepcopy(model)
    return torch.optim.AdamW([p for p in double.parameters() if p.requires_grad], lr=rate)


# --- a run ---


def policy(start: str, seed: int) -> tuple[Any, Any]:
    """A trainable adapter in float32, fresh on the base or a shipped stage's, and its tokenizer."""
    if start != "base":
        return common.policy(shipped(start))
    from peft import get_peft_model
    from transformers import set_seed

    from postlab.models import lora_config

    profile = get_profile("tiny")
    model, tokenizer = frozen("")
    set_seed(seed)  # of the adapter's first matrix
    return get_peft_model(model, lora_config(profile)), tokenizer


def arguments(spec: dict[str, Any]) -> dict[str, Any]:
    """All of the trainer's arguments but `output_dir` and `seed`."""
    stage = spec["stage"]
    return {**getattr(get_profile("tiny"), stage).trainer, **SHORT[stage], **spec.get("how", {})}


def rows(spec: dict[str, Any], count: int) -> list[dict]:
    """The training rows of a run's stage and seed."""
    from postlab import datasets, objectives

    if "families" in spec:
        return objectives.prompts(n=count, seed=spec["seed"], families=spec["families"])
    make = {
        "sft": datasets.instruction_rows,
        "dpo": datasets.preference_rows,
        "grpo": datasets.math_rows,
    }[spec["stage"]]
    drawn = list(make("tinyworld", split="train", n=count, seed=spec["seed"]))
    return globals()[spec["rows"]](drawn) if "rows" in spec else drawn


def trainer_of(spec: dict[str, Any], folder: str) -> Any:
    """TRL's trainer for a run."""
    import trl
    from datasets import Dataset

    how = arguments(spec)
    model, tokenizer = policy(spec["start"], spec["seed"])
    if spec.get("fault") == "zeroed":
        zeroed(model)
    stage, name = spec["stage"], spec["stage"].upper()
    count = how["max_steps"] * how["per_device_train_batch_size"]
    if "families" in spec:  # a draw of different prompts: only as many as are asked
        count //= how["num_generations"]
    data = Dataset.from_list(rows(spec, count))
    scored = ["prompt"] if "families" in spec else ["prompt", "answer"]
    columns = {**common.COLUMNS, "grpo": scored}[stage]
    more: dict[str, Any] = {}
    if stage == "grpo":
        more["reward_funcs"] = [reward_named(one) for one in spec.get("rewards", ["math_reward"])]
    if spec.get("fault") == "other_optimizer":
        more["optimizers"] = (other_optimizer(model, how["learning_rate"]), None)
    trainer = getattr(trl, f"{name}Trainer")(
        model=model,
        processing_class=tokenizer,
        train_dataset=data.select_columns(columns),
        args=getattr(trl, f"{name}Config")(output_dir=folder, seed=spec["seed"], **how),
        **more,
    )
    if spec.get("fault") == "overflowed":
        overflowed(trainer)
    return trainer


def shortened(value: Any) -> Any:
    """A logged number to five digits, so that a file stays small; NaN and 0 as they are."""
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.5g}")
    return value


def record(split: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Train one run; its log history and all that made it."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(spec, folder)
        begun = time.process_time()
        trainer.train()
        seconds = time.process_time() - begun
    return {
        "spec": spec,
        "rules_sha256": rules_hash() if split == "held_out" else None,
        "provenance": provenance(command_of(__file__), seeds=[spec["seed"]], packages=PACKAGES),
        "arguments": arguments(spec),
        "cpu_s": round(seconds, 1),
    } | log_columns(
        [
            {key: shortened(value) for key, value in entry.items()}
            for entry in trainer.state.log_history
        ]
    )


def settings_of(spec: dict[str, Any]) -> dict[str, Any]:
    """What a run depends on: its settings without what is said about it."""
    return {name: value for name, value in spec.items() if name not in DESCRIPTION}


def judged(result: dict[str, Any]) -> dict[str, Any]:
    """What the doctor says of a recorded log, against what is true of it.

    A hit names the log's own kind; a healthy log is a hit where nothing but info is found. A false
    alarm is a warning or an error that is neither the log's kind nor among its `also`.
    """
    spec = result["spec"]
    kind, true = spec["kind"], {spec["kind"], *spec.get("also", [])}
    findings = diagnose(result["log_history"])
    alarms = [finding.code for finding in findings if finding.severity != "info"]
    false = [code for code in alarms if code not in true]
    hit = kind in [finding.code for finding in findings] if kind else not alarms
    return {
        "name": result["name"],
        "stage": spec["stage"],
        "kind": "absent" if spec.get("absent") else kind or "healthy",
        "hit": hit,
        "false_alarms": false,
        "found": [finding.code for finding in findings],
    }


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Hits, misses and false alarms over the logs of one split, and each log's own line.

    A log whose fault did not come is neither hit nor miss.
    """
    logs = [judged(result) for result in results]
    faults = [log for log in logs if log["kind"] not in ("healthy", "absent")]
    return {
        "faults": len(faults),
        "healthy": sum(log["kind"] == "healthy" for log in logs),
        "absent": [log["name"] for log in logs if log["kind"] == "absent"],
        "hits": sum(log["hit"] for log in faults),
        "misses": [log["name"] for log in faults if not log["hit"]],
        "false_alarms": [f"{log['name']}: {code}" for log in logs for code in log["false_alarms"]],
        "logs": logs,
    }


def rules_hash() -> str:
    """Of the source that decides what is found: the rules, and how a log is read."""
    sources = [ROOT / "postlab" / f"{name}.py" for name in RULES]
    return hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()


def recorded(split: str) -> list[dict[str, Any]]:
    """The committed logs of one split, in the order of their settings, with their log history."""
    runs = stored(split)
    return [
        {"name": name} | runs[name] | {"log_history": log_history(runs[name])}
        for name in SPLITS[split]
    ]


def main() -> None:
    command_line(__doc__, runs=False)
    for split, specs in SPLITS.items():
        runs = stored(split)
        for name, spec in specs.items():
            if name not in runs or settings_of(runs[name]["spec"]) != settings_of(spec):
                runs[name] = record(split, spec)
                keep(split, runs)
                print(f"{split} {name}: {runs[name]['cpu_s']} s", file=sys.stderr, flush=True)
            runs[name]["spec"] = spec
        keep(split, runs)
    write_result(TARGET, {split: summary(recorded(split)) for split in SPLITS})


if __name__ == "__main__":
    main()
