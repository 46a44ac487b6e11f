"""The doctor's rules: what a training log shows, and the thresholds above which it is a fault.

A rule takes the log and returns what it sees, with the numbers, or "" if it sees nothing. Its
thresholds are beside it, with their reasons; all were set on earlier logs. The rules for GRPO alone
are in rules_grpo.py. What a finding means, and what to do about it, is in diagnosis.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from statistics import fmean, median
from typing import Any

from postlab.doctor.log import MIN_POINTS, Log, finite, is_number
from postlab.doctor.rules_grpo import (
    SILENT,
    entropy_collapse,
    format_up_accuracy_down,
    grpo_zero_loss,
    kl_blow_up,
    length_drift,
    no_learning_signal,
    reward_saturation,
    reward_traded,
    silent_share,
    truncation,
)

# --- numbers that are none ---

# What a NaN reaches in the same step. Not `reward`: it is NaN where no completion can be scored.
COMPANIONS = ("grad_norm", "entropy", "logps/chosen", "rewards/chosen", "kl")


def dead(log: Log) -> list[int]:
    """The places of entries whose loss is not finite, or is a 0 that stands for NaN.

    fp16's loss scaler makes a gradient infinite now and then, which is no fault: the loss beside it
    is an ordinary number. GRPO's loss may be 0; SFT's is not while every token is missed.
    """
    return [i for i, entry in enumerate(log.entries) if _dead(entry, log.stage)]


def _dead(entry: Mapping[str, Any], stage: str) -> bool:
    loss = entry.get("loss")
    if not is_number(loss):
        return False
    beside = [entry[name] for name in COMPANIONS if is_number(entry.get(name))]
    missed = stage == "sft" and entry.get("mean_token_accuracy") == 0
    hidden = loss == 0 and (missed or not all(map(finite, beside)))
    return hidden or not finite(loss)


def _what_died(log: Log, *, hidden: bool) -> str:
    entries = [log.entries[i] for i in dead(log)]
    if not entries or all(entry["loss"] == 0 for entry in entries) != hidden:
        return ""
    first = entries[0]
    beside = [f"{name} {first[name]}" for name in COMPANIONS if name in first]
    what = f"loss {first['loss']} at step {first.get('step', '?')}"
    return f"{what} beside {', '.join(beside) or 'no other number'}; {len(entries)} such entries"


def nan_as_zero(log: Log) -> str:
    return _what_died(log, hidden=True)


def nan(log: Log) -> str:
    return _what_died(log, hidden=False)


# --- steps too large, too small, or none ---

WORSE = 1.2  # times the loss it began with
LOST = 0.5  # of GRPO's best reward
RISEN = 1.0  # nats a token: after SFT a model is surer than before, or about as sure


def lr_too_high(log: Log) -> str:
    """Loss above where it began, or GRPO's own reward lost: each step makes things worse.

    A loss that leapt before the first logged point only falls; SFT's entropy still shows it.
    """
    name = "reward" if log.stage == "grpo" else "loss"
    quarters, values, change = log.quarters(name), log.series(name), log.change(name)
    if change is None or adapter_still(log):
        return ""
    # 1. For GRPO, the best reward against the end; for a loss, the start against its worst quarter.
    if log.stage == "grpo":
        best, then = max(fmean(values[:2]), *quarters), quarters[-1]
        bad = best - then >= max(LOST * best, 2 * change.noise, 0.1)
    else:
        best, then = values[0], max(quarters)
        bad = then - best >= max((WORSE - 1) * best, 3 * change.noise)
    # 2. SFT's entropy still shows a jump that came before the first logged point.
    entropy = log.series("entropy") if log.stage == "sft" else []
    if not bad and entropy and max(log.quarters("entropy"), default=0.0) >= entropy[0] + RISEN:
        name, best, then, bad = "entropy", entropy[0], max(log.quarters("entropy")), True
    rate = max(log.series("learning_rate"), default=math.nan)
    return f"{name} from {best:.3g} to {then:.3g}, at a rate of up to {rate:.1e}" if bad else ""


SMALL = {"sft": 1e-4, "dpo": 1e-4, "grpo": 1e-5}  # a LoRA rate above this is not the first suspect


def lr_too_low(log: Log) -> str:
    """A gradient, and a rate that is small, and nothing moves."""
    rate, grads = max(log.series("learning_rate"), default=0.0), log.series("grad_norm")
    if not 0 < rate <= SMALL[log.stage] or not grads or median(grads) == 0 or adapter_still(log):
        return ""
    stands = {"sft": _loss_stands, "dpo": _margins_stand, "grpo": _reward_stands}[log.stage](log)
    return f"{stands}, at a rate of up to {rate:.1e}" if stands else ""


def _loss_stands(log: Log) -> str:
    loss = log.change("loss")
    if loss is None:
        return ""
    still = min(max(0.05 * loss.first, 2 * loss.error), 0.15 * loss.first)
    if abs(loss.last - loss.first) > still:
        return ""
    return f"loss {loss.first:.3g} in the first quarter, {loss.last:.3g} in the last"


def _margins_stand(log: Log) -> str:
    quarters = log.quarters("rewards/margins")
    if not quarters or abs(quarters[-1]) > 0.05:  # such a margin takes 0.02 off a loss of 0.69
        return ""
    return f"margins of {quarters[-1]:.2g} in the last quarter"


def _reward_stands(log: Log) -> str:
    reward, entropy, silent = log.change("reward"), log.change("entropy"), silent_share(log)
    if reward is None or silent is None or silent >= SILENT:
        return ""
    if reward.rises(by=0.05) or reward.falls(by=0.05):
        return ""
    if entropy and not 0.75 <= entropy.last / max(entropy.first, 1e-9) <= 1.33:
        return ""
    return f"reward {reward.first:.3g} in the first quarter, {reward.last:.3g} in the last"


def adapter_still(log: Log) -> str:
    """No gradient, no rate, or margins of exactly 0: what is trained is not what is used."""
    if len(log.entries) < MIN_POINTS:
        return ""
    grads, rates = log.series("grad_norm"), log.series("learning_rate")
    margins, silent = log.series("rewards/margins"), silent_share(log)
    if margins and not any(margins):
        return f"all {len(margins)} logged margins are exactly 0"
    if rates and not any(rates):
        return "the learning rate is 0 throughout"
    if grads and not any(grads) and (silent is None or silent < SILENT):
        return f"grad_norm is exactly 0 in all {len(grads)} logged steps"
    return ""


# --- what looks bad and is not, and what looks like it ---

LEFT = 0.5  # of what the chosen reply cost at first
LEFT_NATS = 2.0  # and at least this much, a factor of e squared


def _chosen(log: Log, *, far: bool) -> str:
    reward, logp = log.change("rewards/chosen"), log.change("logps/chosen")
    rejected = log.change("rewards/rejected")
    if log.stage != "dpo" or not (reward and logp and rejected):
        return ""
    fall = logp.first - logp.last
    if not reward.falls(by=0) or reward.last >= 0:
        return ""
    if (fall >= max(LEFT * -logp.first, LEFT_NATS)) != far:
        return ""
    return (
        f"log-prob of the chosen replies from {logp.first:.3g} to {logp.last:.3g} nats; in the "
        f"last quarter their reward is {reward.last:.3g}, the rejected ones' {rejected.last:.3g}"
    )


def chosen_logp_collapse(log: Log) -> str:
    return _chosen(log, far=True)


def chosen_logp_falls(log: Log) -> str:
    return _chosen(log, far=False)


# --- what a point of the curve is worth ---

PAIRS, GROUPS, TOKENS = 4, 2, 256  # a logged point; tokens with the prompts'


def averages_over_too_little(log: Log) -> str:
    """Few pairs, groups or tokens behind a logged point; counted from the steps of its shares."""
    if log.stage == "sft":
        counts = log.series("num_tokens")
        few = median(b - a for a, b in pairwise(counts)) if len(counts) >= MIN_POINTS else math.inf
        limit, unit = TOKENS, "tokens"
    else:
        dpo = log.stage == "dpo"
        few = denominator(log.series("rewards/accuracies" if dpo else "frac_reward_zero_std"))
        limit, unit = (PAIRS, "pairs") if dpo else (GROUPS, "groups")
    return f"a logged point is the mean of about {few:.0f} {unit}" if few <= limit else ""


def denominator(shares: list[float]) -> float:
    """The smallest n of which all shares are n-ths; inf where they are all alike or too few.

    >>> denominator([0.5, 1.0, 0.25, 0.5, 0.0, 0.75, 1.0, 1.0]), denominator([1.0] * 9)
    (4, inf)
    """
    if len(shares) < MIN_POINTS or len(set(shares)) == 1:
        return math.inf
    fits = (n for n in range(1, 65) if all(abs(s * n - round(s * n)) < 1e-3 for s in shares))
    return next(fits, math.inf)


TREND_RULES: tuple[Callable[[Log], str], ...] = (
    no_learning_signal,
    reward_saturation,
    entropy_collapse,
    truncation,
    format_up_accuracy_down,
    reward_traded,
    length_drift,
    kl_blow_up,
    lr_too_high,
    lr_too_low,
    adapter_still,
    chosen_logp_collapse,
    chosen_logp_falls,
    grpo_zero_loss,
    averages_over_too_little,
)
