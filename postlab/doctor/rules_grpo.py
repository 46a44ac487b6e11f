"""The doctor's rules for GRPO alone: what its groups teach, and where its rewards lead.

As in rules.py, a rule takes the log and returns what it sees, with the numbers, or "".
A silent group is one whose rewards are all equal: it has zero variance and gives no gradient.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import hypot, sqrt
from statistics import fmean, median

from postlab.doctor.log import MIN_POINTS, Change, Log

# --- what the groups teach ---

MUTE = 0.95  # of all groups: what moves then was not moved by them
SILENT = 0.75  # of all groups in the run: three quarters of the sampling bought nothing
TOP, NEAR = 0.9, 0.8  # of the best reward a batch had: there is little left to gain, or not much


def silent_share(log: Log) -> float | None:
    """Share of groups without a difference in reward."""
    return log.mean("frac_reward_zero_std") if log.stage == "grpo" else None


def _at_top(log: Log, share: float, *, last: float = 1.0) -> bool:
    """Do so many answers of the last part of the run have its best reward? 0 is no reward at all.

    A mean near the best batch's is not enough, as batches may be alike and half right. So the
    spread in a batch must be as small as that of such a share of ones among zeros.
    """
    mean, best = log.mean("reward", last=last), max(log.series("reward"), default=0.0)
    if mean is None or best <= 0:
        return False
    spread = log.mean("reward_std", last=last) or 0.0
    return mean >= share * best and spread <= 1.05 * mean * sqrt((1 - share) / share)


MOVED = 0.1  # of a reward
APART = 2.5  # standard errors of what two rewards moved apart: three rewards make six pairs


def no_learning_signal(log: Log) -> str:
    """Silent groups, and nothing learnt: while some speak, a reward that rises had a signal."""
    share = silent_share(log)
    # 1. Most groups are silent, and not for a reason that has its own rule.
    if share is None or share < SILENT or _at_top(log, TOP) or entropy_collapse(log):
        return ""
    # 2. Unless nearly all are silent, a rising reward shows that the others taught something.
    learnt = (log.change(name) for name in log.rewards(form=False))
    if share < MUTE and any(change and change.rises(by=MOVED) for change in learnt):
        return ""
    mean = log.mean("reward")
    return f"{share:.0%} of the groups have one reward for all answers; mean reward {mean:.3g}"


def reward_saturation(log: Log) -> str:
    share = silent_share(log)
    if share is None or share < SILENT or not _at_top(log, TOP):
        return ""
    mean, most = log.mean("reward"), max(log.series("reward"))
    return (
        f"mean reward {mean:.3g} of at most {most:.3g}, and {share:.0%} of the groups have one "
        f"reward for all answers"
    )


LOW_ENTROPY = 0.05  # nats a token: about one token in a hundred is in doubt
FALLEN = 1 / 3  # of what it was: a policy may be sure of itself from the start, and right


def entropy_collapse(log: Log) -> str:
    """Low entropy is the end of a good run too: it is a fault where the reward is not there yet."""
    entropy, silent = log.mean("entropy", last=0.5), log.mean("frac_reward_zero_std", last=0.5)
    if log.stage != "grpo" or entropy is None or silent is None:
        return ""
    # 1. The entropy is low in absolute terms, and low compared with where it began.
    start, reward = log.series("entropy")[0], log.change("reward")
    low = entropy <= LOW_ENTROPY and entropy <= FALLEN * start
    # 2. This is no fault if the reward is still rising, or has reached its top.
    bought = silent < SILENT and (reward is None or reward.rises(by=0.1))
    if not low or bought or _at_top(log, NEAR, last=0.5):
        return ""
    return (
        f"entropy {entropy:.3g} nats a token in the second half (at first {start:.3g}); "
        f"{silent:.0%} of the groups agree, at a mean reward of {log.mean('reward', last=0.5):.3g}"
    )


TRUNCATED = 0.1  # of the answers in the second half; a healthy run of tiny has 0.02 at most


def truncation(log: Log) -> str:
    share = log.mean("completions/clipped_ratio", last=0.5)
    if share is None or share < TRUNCATED:
        return ""
    return f"{share:.0%} of the answers in the second half were cut off at the limit"


def format_up_accuracy_down(log: Log) -> str:
    """A reward for form rises while one that is not about form falls."""
    return _crossed(log, log.rewards(form=True))


def reward_traded(log: Log) -> str:
    """Of two rewards that are not about form one rises while the other falls.

    Ordered by a weight or a multiplier, or the first is a judge that is fooled: the log cannot say.
    """
    return _crossed(log, log.rewards(form=False))


def _crossed(log: Log, rising: list[str]) -> str:
    """The first of these rewards that rises while one that is not about form falls."""
    # In every pair of rewards, does one rise and the other fall, both by more than the noise?
    for up, down in product(rising, log.rewards(form=False)):
        rise, fall = _moved(log, up), _moved(log, down, falls=True)
        if up == down or rise is None or fall is None:
            continue
        gained, lost = rise.last - rise.first, fall.first - fall.last
        if min(gained, lost) >= MOVED and gained + lost >= APART * hypot(rise.error, fall.error):
            return (
                f"{up} rose from {rise.first:.3g} to {rise.last:.3g} while {down} fell from "
                f"{fall.first:.3g} to {fall.last:.3g}"
            )
    return ""


def _moved(log: Log, name: str, *, falls: bool = False) -> Change | None:
    """Since the first quarter or, if that is more, since the first two points.

    A reward that is easily had is had in a few steps, and its first quarter no longer shows it.
    """
    change, values = log.change(name), log.series(name)
    if change is None:
        return None
    early = fmean(values[:2])
    if (early > change.first) is not falls or early == change.first:
        return change
    error = change.noise * sqrt(1 / 2 + 1 / (len(values) // 4))
    return replace(change, first=early, error=error)


DRIFT = 1.5  # times as long, or as short


def length_drift(log: Log) -> str:
    """Length moves and what it should buy does not rise; shorter and as good is no fault."""
    length = log.change("completions/mean_length")
    if log.stage != "grpo" or length is None or min(length.first, length.last) <= 0:
        return ""
    # 1. What extra length should improve: the rewards that are not about form.
    names = log.rewards(form=False) or ["reward"]
    truths = [change for name in names if (change := log.change(name))]
    since = [change for name in names if (change := _moved(log, name, falls=True))]
    # 2. Longer answers without a gain are a fault; shorter ones only if a reward fell.
    longer = length.last >= DRIFT * length.first and length.rises(by=0)
    shorter = length.first >= DRIFT * length.last and length.falls(by=0)
    lost = any(change.falls(by=0.05) for change in since)
    bought = any(change.rises(by=0.05) for change in truths)
    if not truths or bought or not (longer or (shorter and lost)):
        return ""
    return (
        f"answers went from {length.first:.3g} to {length.last:.3g} tokens while the reward that "
        f"is not about form went from {since[0].first:.3g} to {since[0].last:.3g}"
    )


# --- how far it went ---

FAR = 0.5  # nats a token; healthy runs of tiny that end 70 points higher keep below 0.2


def kl_blow_up(log: Log) -> str:
    quarters = log.quarters("kl")
    if log.stage != "grpo" or not quarters or max(quarters) < FAR:
        return ""
    means = ", ".join(f"{quarter:.3g}" for quarter in quarters)
    return f"KL up to {max(log.series('kl')):.3g} nats a token (means of the quarters {means})"


# --- what looks bad and is not ---


def grpo_zero_loss(log: Log) -> str:
    losses, grads, silent = log.series("loss"), log.series("grad_norm"), silent_share(log)
    if log.stage != "grpo" or len(losses) < MIN_POINTS or not grads or median(grads) <= 0:
        return ""
    if silent is not None and silent >= SILENT:  # then it is 0 for want of a signal
        return ""
    typical = median(map(abs, losses))
    evidence = f"loss {typical:.1e} in the median beside a gradient of {median(grads):.2g}"
    return evidence if typical <= 1e-3 else ""
