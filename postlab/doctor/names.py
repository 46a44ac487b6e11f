"""The names under which trainers log one and the same value, mapped to TRL's of today.

Covered are TRL (SFT, DPO, KTO, ORPO, CPO, reward model, GRPO, RLOO, and the PPO it had until 0.x),
Unsloth's notebook tables, verl, NeMo-RL and OpenRLHF, and the usual names in GRPO loops written by
hand. Left out: values that no rule reads, and a KL whose unit its name does not tell: `kl_loss` may
be summed over an answer, or multiplied by beta.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

_OURS: dict[str, tuple[str, ...]] = {  # TRL's name today: other names, the preferred one first
    # any trainer
    "loss": ("Training Loss", "actor/pg_loss", "policy_loss", "loss/policy_avg"),
    "eval_loss": ("Validation Loss", "eval/loss", "validation/loss"),
    "step": ("Step", "global_step", "current_steps", "training/global_step"),
    "learning_rate": ("lr", "actor/lr", "actor_lr"),
    "grad_norm": ("actor/grad_norm", "gradient_norm"),
    "entropy": (
        "actor/entropy", "actor/entropy_loss", "approx_entropy", "policy/entropy_avg",
        "entropy_avg", "avg_entropy", "entropy_mean", "mean_entropy", "entropy/mean",
        "policy_entropy", "token_entropy",
    ),
    # pairs
    "rewards/chosen": ("rewards_chosen_mean",),
    "rewards/rejected": ("rewards_rejected_mean",),
    # groups of completions
    "reward": (
        "critic/score/mean", "critic/rewards/mean", "objective/scores", "env/reward_mean",
        "reward_avg", "avg_reward", "reward_mean", "reward/mean", "train_reward",
    ),
    "reward_std": ("std_reward", "reward/std"),
    "completions/mean_length": (
        "completion_length", "response_length/mean", "response_length",
        "mean_gen_tokens_per_sample", "avg_response_len", "avg_response_length",
        "response_length_mean", "mean_response_length", "response_length_avg", "response_len",
        "avg_completion_length", "mean_completion_length", "completion_length_mean",
    ),
    "completions/clipped_ratio": (
        "response_length/clip_ratio", "truncation_rate", "truncated_ratio", "truncated_fraction",
        "frac_truncated",
    ),
    "kl": ("actor/kl_loss", "kl_penalty", "kl_per_token", "per_token_kl", "token_kl"),
    "clip_ratio/region_mean": (
        "clip_ratio", "actor/pg_clipfrac", "policy/clipfrac_avg", "clipfrac", "clip_frac",
        "clip_fraction",
    ),
    # how far the sampler's probabilities are from the trainer's
    "sampling/sampling_logp_difference/mean": ("rollout_corr/log_ppl_abs_diff",),
    "sampling/importance_sampling_ratio/mean": ("rollout_corr/rollout_is_mean",),
    "sampling/prob_difference": ("training/rollout_probs_diff_mean",),
    "sampling/mult_prob_error": ("token_mult_prob_error",),
}  # fmt: skip
_PREFIX = re.compile(r"^train/(?=.)")
_SPACED = re.compile(r" ?/ ?")
_OF_PAIRS = {"margin", "rewards/margins", "rewards/accuracies", "rewards/chosen"}
_BARE = re.compile(r"rewards/[^/]+")
# A log that has none of these holds nothing for the rules to read.
TELLING = frozenset(
    {
        "loss", "reward", "rewards/accuracies", "rewards/margins", "rewards/chosen",
        "completions/mean_length", "frac_reward_zero_std",
    }
)  # fmt: skip

KNOWN = (TELLING | set(_OURS) | {"mean_token_accuracy", "num_tokens", "reward_std"}) - {"step"}


def renamed(entries: Sequence[Mapping[Any, Any]], keys: Mapping[str, str]) -> list[dict[Any, Any]]:
    """Entries under TRL's names, and text that is a number as one.

    Args:
        keys: our name: theirs, which comes before any other name.
    """
    # 1. Which of their names stands for which of ours?
    theirs = {_tidy(key) for entry in entries for key in entry}
    table: dict[Any, str] = {}
    for ours, names in _OURS.items():
        known = [name for name in names if name in theirs]
        if known and ours not in theirs:
            table[known[0]] = ours
    # TRL's reward model, NeMo-RL's DPO, and LLaMA-Factory's trainer_log.jsonl.
    if "accuracy" in theirs and theirs & {"margin", "rewards_chosen_mean", "current_steps"}:
        table |= {"accuracy": "rewards/accuracies", "margin": "rewards/margins"}
    # TRL's reward model logs a mean_reward too, beside margins.
    known_reward = "reward" in theirs or "reward" in table.values()
    if "mean_reward" in theirs and not known_reward and not theirs & _OF_PAIRS:
        table["mean_reward"] = "reward"
    if "reward" in theirs and "rewards/chosen" not in theirs:  # single rewards in older logs
        bare = {key for key in theirs if isinstance(key, str) and _BARE.fullmatch(key)}
        table |= {key: f"{key}/mean" for key in bare if f"{key}/mean" not in theirs}
    given = {other: ours for ours, other in keys.items()}
    taken = set(given.values())
    # 2. Rename, and add what other trainers leave out.
    result = []
    for entry in entries:
        values: dict[Any, Any] = {}
        for key, value in entry.items():
            name = given.get(key) or table.get(_tidy(key), _tidy(key))
            if key in given or name not in taken:
                values[name] = _number(value)
        result.append(values | _implied(values))
    return result


def _tidy(key: Any) -> Any:
    """Without the spaces of Unsloth's 'rewards / x / mean' and the prefix of trackers' names."""
    return _PREFIX.sub("", _SPACED.sub("/", key)) if isinstance(key, str) else key


def _number(value: Any) -> Any:
    """Some trainers print their values as text, and some logs are made of what was printed."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _implied(values: Mapping[Any, Any]) -> dict[str, Any]:
    """NeMo-RL logs no margins; verl no deviation, which is 0 where best and worst are one."""
    implied: dict[str, Any] = {}
    chosen: Any = values.get("rewards/chosen")
    rejected: Any = values.get("rewards/rejected")
    if "rewards/margins" not in values and is_number(chosen) and is_number(rejected):
        implied["rewards/margins"] = chosen - rejected
    best, worst = (values.get(f"critic/score/{end}") for end in ("max", "min"))
    if "reward_std" not in values and is_number(best) and best == worst:
        implied["reward_std"] = 0.0
    return implied


def is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
