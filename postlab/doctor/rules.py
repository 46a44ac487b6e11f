"""The doctor's rules: what a training log shows, and the thresholds above which it is a fault.

A rule takes the log and returns what it sees, with the numbers, or "" if it sees nothing; where a
fault comes in two strengths, the severity stands before the text. Its thresholds are beside it,
with their reasons. Here are the rules for any trainer. Those for pairs are in rules_pairs.py, those
for groups of completions in rules_grpo.py. What a finding means, and what to do about it, is in
diagnosis.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from postlab.doctor.log import FEW_POINTS, MIN_POINTS, PAIRS, Log, Seen, finite
from postlab.doctor.names import is_number
from postlab.doctor.rules_grpo import (
    SILENT,
    STUCK,
    dead_reward,
    entropy_collapse,
    entropy_high,
    entropy_rises,
    format_up_accuracy_down,
    grpo_zero_loss,
    kl_blow_up,
    kl_high_from_start,
    length_drift,
    no_learning_signal,
    reward_forgotten,
    reward_lost,
    reward_saturation,
    reward_stuck,
    reward_traded,
    reward_with_length,
    sampler_differs,
    silent_share,
    too_much_clipped,
    truncation,
)
from postlab.doctor.rules_pairs import (
    chosen_logp_collapse,
    chosen_logp_falls,
    margins_stand,
    pairs_told_apart,
    prefers_rejected,
    reference_differs,
)

# --- numbers that are none ---

# What a NaN reaches in the same step. Not `reward`: it is NaN where no completion can be scored.
COMPANIONS = ("grad_norm", "entropy", "logps/chosen", "rewards/chosen", "kl")
RECOVERED = 3  # finite losses after the last NaN: that batch was bad, and the weights are not
LASTS = 5  # entries of GRPO, whose loss is 0 now and then for other reasons


def dead(log: Log) -> list[int]:
    """The places of entries whose loss is not finite, or is a 0 that stands for NaN.

    fp16's loss scaler makes a gradient infinite now and then, which is no fault: the loss beside it
    is an ordinary number. GRPO's loss may be 0; SFT's is not while every token is missed.
    """
    places = [i for i, entry in enumerate(log.entries) if _dead(entry, log.stage)]
    wrong = [i for i in places if not finite(log.entries[i]["loss"])]
    return wrong if log.stage == "grpo" and len(places) < LASTS else places


def _dead(entry: Mapping[str, Any], stage: str) -> bool:
    loss = entry.get("loss")
    if not is_number(loss):
        return False
    beside = [entry[name] for name in COMPANIONS if is_number(entry.get(name))]
    missed = stage == "sft" and entry.get("mean_token_accuracy") == 0
    hidden = loss == 0 and (missed or not all(map(finite, beside)))
    return (hidden and entry.get("grad_norm") != 0) or not finite(loss)


def recovered(log: Log, places: Sequence[int]) -> bool:
    """Do finite losses follow the last of these entries?"""
    return len(log.entries) - 1 - max(places, default=-1) >= RECOVERED


def _what_died(log: Log, *, hidden: bool) -> str:
    places = dead(log)
    entries = [log.entries[i] for i in places]
    if not entries or all(entry["loss"] == 0 for entry in entries) != hidden:
        return ""
    first = entries[0]
    beside = [f"{name} {_shown(first[name])}" for name in COMPANIONS if name in first]
    what = f"loss {_shown(first['loss'])} at step {first.get('step', '?')}"
    after = "; later losses are numbers again" if recovered(log, places) else ""
    beside_it = ", ".join(beside) or "no other number"
    return f"{what} beside {beside_it}; {len(entries)} such entries{after}"


def _shown(value: Any) -> str:
    if is_number(value) and value != value:
        return "NaN"
    try:
        return str(float(value) if isinstance(value, int) and abs(value) > 1e15 else value)
    except OverflowError:
        return "beyond any float"


def nan_as_zero(log: Log) -> str:
    return _what_died(log, hidden=True)


def nan(log: Log) -> str:
    return _what_died(log, hidden=False)


# Not logits/*, which hold the -inf of masked tokens, nor a single reward, which may not apply.
MEASURED = (
    "grad_norm", "entropy", "kl", "reward", "reward_std", "logps/chosen", "logps/rejected",
    "rewards/chosen", "rewards/rejected", "rewards/margins",
)  # fmt: skip


def nan_metric(log: Log) -> str:
    """A value that is NaN in nearly every entry while the loss is a number."""
    names = [name for name in MEASURED if _lost([e[name] for e in log.entries if name in e])]
    losses = [entry["eval_loss"] for entry in log.evals if "eval_loss" in entry]
    if losses and is_number(losses[-1]) and not finite(losses[-1]):
        names.append("eval_loss")
    return (
        f"{', '.join(names)} NaN or infinite while the training loss is a number" if names else ""
    )


def _lost(values: Sequence[Any]) -> bool:
    numbers = [value for value in values if is_number(value)]
    wrong = [value for value in numbers if not finite(value)]
    return len(numbers) >= FEW_POINTS and len(wrong) >= 0.8 * len(numbers)


# --- a loss that says nothing is learnt ---


def nothing_trained(log: Log) -> str:
    """A loss of exactly 0 in all entries, or in all but the first ones: no token is trained on."""
    losses = log.series("loss")
    zeros = next((i for i, loss in enumerate(reversed(losses)) if loss != 0), len(losses))
    rare = zeros < max(FEW_POINTS, len(losses) / 2)
    # Pairs that are told apart have a loss of 0 as well, and GRPO's means nothing.
    apart = (log.typical("rewards/margins", least=1) or 0.0) > 1
    if rare or apart or log.stage == "grpo" or any(log.series("mean_token_accuracy")[-zeros:]):
        return ""
    before = f" after {losses[0]:.3g} at first" if zeros < len(losses) else ""
    return f"loss exactly 0 in the last {zeros} logged steps{before}"


GUESSING = 9.0  # nats: of 8,000 tokens; the vocabularies of today have from 32,000 on
LEVEL = 0.3  # nats between the highest and the lowest loss: a text that is read differs by more


def loss_at_chance(log: Log) -> str:
    """As if all tokens were equally likely: ln(32,000) is 10.4, and ln(151,936) is 11.9."""
    losses = log.series("loss")
    if log.stage != "sft" or len(losses) < FEW_POINTS:
        return ""
    level = median(losses)
    if level < GUESSING or max(losses) - min(losses) > LEVEL:
        return ""
    size = math.exp(level)
    return f"loss {level:.4g} nats in all {len(losses)} logged steps, which is ln({size:,.0f})"


# --- steps too large, too small, or none ---

WORSE, LEAPT = 1.2, 2.0  # times the loss of the first quarter; times that of the first entry
RISEN = 1.0  # nats a token: after SFT a model is surer than before, or about as sure


def lr_too_high(log: Log) -> str:
    """Loss above where it began, or GRPO's own reward lost: each step makes things worse.

    A loss that leapt before the first logged point only falls; SFT's entropy still shows it.
    """
    if adapter_still(log):
        return ""
    seen = reward_lost(log) if log.stage == "grpo" else _loss_leapt(log)
    rates = log.series("learning_rate")
    return seen + (f", at a rate of up to {max(rates):.1e}" if seen and rates else "")


def _loss_leapt(log: Log) -> str:
    values, change = log.series("loss"), log.change("loss")
    if change is None:
        return ""
    # 1. The start against the worst quarter. The first entry alone may be an easy batch.
    then = max(log.quarters("loss"))
    starts = ((change.first, WORSE, 3), (values[0], LEAPT, 5))
    for best, times, errors in starts:
        if then - best >= max((times - 1) * abs(best), errors * change.noise):
            return f"loss from {best:.3g} to {then:.3g}"
    # 2. SFT's entropy still shows a jump that came before the first logged point.
    entropy = log.series("entropy") if log.stage == "sft" else []
    highest = max(log.quarters("entropy"), default=0.0)
    if entropy and highest >= entropy[0] + RISEN:
        return f"entropy from {entropy[0]:.3g} to {highest:.3g}"
    return ""


# A LoRA rate above this is not the first suspect. Full fine-tuning takes about a tenth of it.
SMALL = {"sft": 1e-4, "dpo": 1e-4, "orpo": 1e-4, "kto": 1e-4, "reward": 1e-4, "grpo": 1e-5}


def lr_too_low(log: Log) -> str:
    """A gradient, and a rate that is small, and nothing moves."""
    rate, grads = max(log.series("learning_rate"), default=0.0), log.series("grad_norm")
    if not 0 < rate <= SMALL[log.stage] or (grads and median(grads) == 0) or adapter_still(log):
        return ""
    if log.stage == "grpo":
        stands = _reward_stands(log)
    else:
        stands = margins_stand(log) if log.stage in PAIRS else _loss_stands(log)
    return f"{stands}, at a rate of up to {rate:.1e}" if stands else ""


MOVES, AT_MOST = 0.05, 0.15  # of the loss it began with; with more noise, but not beyond that
FLOOR = 3e-6  # a rate of SFT below which even full fine-tuning hardly moves
LEAST = 5e-7  # the same of GRPO: above it a reward may take its time


def _loss_stands(log: Log) -> str:
    loss, accuracy = log.change("loss"), log.change("mean_token_accuracy")
    if loss is None:
        return ""
    still = min(max(MOVES * loss.first, 2 * loss.error), AT_MOST * loss.first)
    if abs(loss.last - loss.first) > still:
        return ""
    # At a rate that is usual somewhere, a small fall is learning where it is more than noise, as
    # late in a run on much data; and with much noise the curve cannot say that nothing moved.
    if max(log.series("learning_rate")) > FLOOR and (
        loss.falls(by=0.01 * loss.first)
        or 2 * loss.error > MOVES * loss.first
        or (accuracy and accuracy.rises(by=0))
    ):
        return ""
    return f"loss {loss.first:.3g} in the first quarter, {loss.last:.3g} in the last"


def _reward_stands(log: Log) -> str:
    """The reward stands still, and so do the entropy and the KL: the policy did not move."""
    reward, entropy, silent = log.change("reward"), log.change("entropy"), silent_share(log)
    if reward is None or (silent is not None and silent >= SILENT):
        return ""
    usual = max(log.series("learning_rate")) > LEAST
    if usual and len(log.series("reward")) < STUCK:
        return ""
    if reward.rises(by=0) or reward.falls(by=0) or (log.typical("kl", last=0.5) or 0.0) > 0.05:
        return ""
    apart = entropy and not 0.75 <= entropy.last / max(entropy.first, 1e-9) <= 1.33
    if entropy and apart and (entropy.rises(by=0) or entropy.falls(by=0)):
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
    if len(rates) >= MIN_POINTS and not any(rates):
        return "the learning rate is 0 throughout"
    if len(grads) >= MIN_POINTS and not any(grads) and (silent is None or silent < SILENT):
        return f"grad_norm is exactly 0 in all {len(grads)} logged steps"
    return ""


SPIKE = 20  # times the upper quartile of the gradients around it
SPIKES = 3  # of them: one or two are bad luck
AROUND = 25  # entries on either side
CLIP = 1.0  # the usual max_grad_norm, below which a gradient is taken as it is


def gradient_spikes(log: Log) -> str:
    """Gradients far above their neighbours, again and again, and not as the run's first steps."""
    norms = [norm for norm in log.series("grad_norm") if norm > 0]  # silent groups have none
    if len(norms) < 4 * MIN_POINTS:
        return ""
    high = []
    for i in range(MIN_POINTS, len(norms)):
        near = sorted(norms[max(0, i - AROUND) : i + AROUND])
        if norms[i] > max(SPIKE * near[3 * len(near) // 4], CLIP):
            high.append(norms[i])
    if len(high) < SPIKES:
        return ""
    return (
        f"grad_norm of up to {max(high):.3g} in {len(high)} of {len(norms)} logged steps, "
        f"with a median of {median(norms):.3g}"
    )


# --- what held-out rows say ---

OVER = 1.1  # times the best evaluation loss: a few percent are common after a second epoch
APART = 3  # times the training loss, and above ln 2: pairs that were learnt by heart


def overfitting(log: Log) -> str:
    """The evaluation loss rises from its lowest while the training loss falls."""
    losses, train = log.evaluated("eval_loss"), log.series("loss")
    if log.stage == "grpo" or not losses or len(train) < FEW_POINTS:
        return ""
    best, last = min(losses), losses[-1]
    end = median(train[-max(1, len(train) // 4) :])
    begin = median(train[: max(1, len(train) // 4)])
    if len(losses) >= 3 and last >= OVER * best and losses[-2] > best and end < begin:
        return (
            f"evaluation loss from {best:.3g} at its lowest to {last:.3g} at the end, while the "
            f"training loss went from {begin:.3g} to {end:.3g}"
        )
    if log.stage in ("dpo", "reward") and last > math.log(2) and last >= APART * end:
        return (
            f"evaluation loss {last:.3g} at the end, worse than chance, and training loss {end:.3g}"
        )
    return ""


# --- what a point of the curve is worth ---

FEW_PAIRS, GROUPS, TOKENS = 4, 2, 256  # a logged point; tokens with the prompts'


def averages_over_too_little(log: Log) -> Seen:
    """Few pairs, groups or tokens behind a logged point; counted from the steps of its shares."""
    if log.stage in ("sft", "kto"):
        counts = log.series("num_tokens")
        few = median(b - a for a, b in pairwise(counts)) if len(counts) >= MIN_POINTS else math.inf
        limit, unit = TOKENS, "tokens"
    else:
        pairs = log.stage in PAIRS
        few = denominator(log.series("rewards/accuracies" if pairs else "frac_reward_zero_std"))
        limit, unit = (FEW_PAIRS, "pairs") if pairs else (GROUPS, "groups")
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


# In the order in which findings of one severity are listed: causes first.
TREND_RULES: tuple[Callable[[Log], Seen], ...] = (
    nan_metric,
    nothing_trained,
    loss_at_chance,
    truncation,
    no_learning_signal,
    dead_reward,
    reference_differs,
    prefers_rejected,
    pairs_told_apart,
    reward_saturation,
    entropy_collapse,
    entropy_high,
    entropy_rises,
    format_up_accuracy_down,
    reward_traded,
    reward_with_length,
    length_drift,
    sampler_differs,
    kl_blow_up,
    kl_high_from_start,
    too_much_clipped,
    lr_too_high,
    reward_forgotten,
    gradient_spikes,
    overfitting,
    reward_stuck,
    lr_too_low,
    adapter_still,
    chosen_logp_collapse,
    chosen_logp_falls,
    grpo_zero_loss,
    averages_over_too_little,
)
