"""The doctor's rules for groups of completions: GRPO, RLOO and PPO.

As in rules.py, a rule takes the log and returns what it sees, with the numbers, or "".
A silent group is one whose rewards are all equal: it has zero variance and gives no gradient.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise, product
from math import exp, hypot, sqrt
from statistics import fmean, median, stdev

from postlab.doctor.log import (
    FEW_POINTS,
    MIN_POINTS,
    Change,
    Log,
    Seen,
    change_of,
    is_form,
)

# --- do answers end? ---

# Of the answers in the second half. Runs on long problems keep 10 to 20% cut, and learn.
TRUNCATED, SOME, ALL = 0.25, 0.1, 0.9
CLOSE = 0.75  # of the limit, which the typical step then comes to
SHORTEST = 64  # tokens: hardly anyone sets a lower limit, and short answers may well be equal


def truncation(log: Log) -> Seen:
    values = log.series("completions/clipped_ratio")
    share = log.mean("completions/clipped_ratio", last=0.5, least=FEW_POINTS)
    what = "of the answers in the second half were cut off at the limit"
    if share is None:
        share = _at_limit(log)
        what = "of the steps in the second half have the same greatest length: all answers were cut"
    elif len(values) < MIN_POINTS and min(values) < ALL:
        return ""  # answers that end are often learnt in the first steps
    if share < SOME:
        return ""
    # Where whole steps are counted, many more answers were cut in the others.
    least = TRUNCATED if values else SOME
    return (
        "error" if share >= ALL else "warning" if share >= least else "info",
        f"{share:.0%} {what}",
    )


def _at_limit(log: Log) -> float:
    """Share of steps, in the second half, whose mean length is the greatest of the run.

    Older logs have no share of cut answers. A mean that is the same whole number in many steps, and
    never exceeded, is the limit: all answers of those steps were cut, and more in the others.
    """
    lengths = log.series("completions/mean_length")
    top, late = max(lengths, default=0.0), lengths[len(lengths) // 2 :]
    share = sum(length == top for length in late) / max(1, len(late))
    if len(lengths) < FEW_POINTS or (
        len(lengths) < MIN_POINTS and lengths.count(top) < len(lengths)
    ):
        return 0.0
    if (
        top < SHORTEST
        or top != int(top)
        or lengths.count(top) < FEW_POINTS
        or median(late) < CLOSE * top
    ):
        return 0.0
    return share


# --- what the groups teach ---

MUTE = 0.95  # of all groups: what moves then was not moved by them
SILENT = 0.75  # of all groups in the run: three quarters of the sampling bought nothing
IDLE, IDLE_STEPS = 0.4, 25  # of so many steps: not one group spoke in them
DYING, DIED = 0.6, 0.3  # of the groups in the last quarter, and so many more than in the first
TOP, NEAR = 0.9, 0.8  # of the best reward a batch had: there is little left to gain, or not much


def silent_share(log: Log, *, last: float = 1.0, least: int = MIN_POINTS) -> float | None:
    """Share of groups without a difference in reward; of steps, where only these can be told."""
    if log.stage != "grpo":
        return None
    share = log.mean("frac_reward_zero_std", last=last, least=least)
    return _idle_share(log, last=last, least=least) if share is None else share


def _idle_share(log: Log, *, last: float = 1.0, least: int = MIN_POINTS) -> float | None:
    """Share of steps in which no group has a difference in reward."""
    by_group = log.series("frac_reward_zero_std")
    idle = [share > 0.999 for share in by_group] or [s < 1e-6 for s in log.series("reward_std")]
    if len(idle) < least:
        return None
    return fmean(idle[-max(1, round(len(idle) * last)) :])


def _at_top(log: Log, share: float, *, last: float = 1.0) -> bool:
    """Do so many answers of the last part of the run have its best reward? 0 is no reward at all.

    A mean near the best batch's is not enough, as batches may be alike and half right. So the
    spread in a batch must be as small as that of such a share of ones among zeros.
    """
    mean, best = log.mean("reward", last=last), max(log.series("reward"), default=0.0)
    truths = [log.mean(name, last=last) or 0.0 for name in log.rewards(form=False)]
    if mean is None or best <= 0 or (truths and max(truths) <= 0):  # paid for their form alone
        return False
    spread = log.mean("reward_std", last=last) or 0.0
    return mean >= share * best and spread <= 1.05 * mean * sqrt((1 - share) / share)


MOVED = 0.1  # of the range that a reward had in the run
APART = 2.5  # standard errors of what two rewards moved apart: three rewards make six pairs


def no_learning_signal(log: Log) -> Seen:
    """Silent groups, and nothing learnt: while some speak, a reward that rises had a signal."""
    share, reward = silent_share(log, least=FEW_POINTS), log.mean("reward", least=FEW_POINTS)
    if share is None:
        return ""
    mean = f"; mean reward {reward:.3g}" if reward is not None else ""
    # 1. In a short log: not one group has spoken.
    if len(log.entries) < MIN_POINTS:
        silent = share >= 0.999 and (reward is None or reward <= 0 or _equal(log.series("reward")))
        return f"not one group has two different rewards{mean}" if silent else ""
    # 2. Most groups are silent, and not for a reason that has its own rule.
    if _at_top(log, NEAR) or _at_top(log, TOP, last=0.25) or entropy_collapse(log):
        return ""
    if stuck := reward_stuck(log):
        mean = f"; {stuck}"
    if share >= MUTE or (share >= SILENT and not _learnt(log)):
        return f"{share:.0%} of the groups have one reward for all answers{mean}"
    # 3. Or whole steps are: nothing was learnt in them, however the rest may be.
    idle = _idle_share(log) or 0.0
    enough = len(log.entries) >= IDLE_STEPS and not _at_top(log, NEAR, last=0.5)
    if idle >= IDLE and enough and not _solved(log):
        return (
            "warning",
            f"{idle:.0%} of the steps have one reward for all answers of a group{mean}",
        )
    # 4. Or groups have fallen silent on the way, with the reward not at its top.
    shares = log.series("frac_reward_zero_std")
    early, late = (fmean(part) for part in _ends(shares)) if len(shares) >= IDLE_STEPS else (0, 0)
    if late >= DYING and late - early >= DIED and not _at_top(log, NEAR, last=0.25):
        return (
            f"groups with one reward for all answers rose from {early:.0%} to {late:.0%}, "
            f"with the reward at {log.mean('reward', last=0.25):.3g}"
        )
    return ""


def _equal(values: list[float]) -> bool:
    return not values or max(values) == min(values)


def _ends(values: list[float]) -> tuple[list[float], list[float]]:
    size = len(values) // 4
    return values[:size], values[-size:]


def _learnt(log: Log) -> bool:
    """Does a reward that is not about form rise?"""
    names = log.rewards(form=False)
    changes = ((log.change(name), log.scale(name)) for name in names)
    return any(change and change.rises(by=MOVED * scale) for change, scale in changes)


def _solved(log: Log) -> bool:
    """Have half of the rewards that are not about form come to their best?"""
    ends = [(log.mean(name, last=0.25), log.series(name)) for name in log.rewards(form=False)]
    top = [mean is not None and mean >= TOP * max(values) > 0 for mean, values in ends]
    return len(top) > 1 and sum(top) >= len(top) / 2


def reward_saturation(log: Log) -> str:
    share = silent_share(log)
    if share is None or share < SILENT or not _at_top(log, NEAR):
        return ""
    mean, most = log.mean("reward"), max(log.series("reward"))
    return (
        f"mean reward {mean:.3g} of at most {most:.3g}, and {share:.0%} of the groups have one "
        f"reward for all answers"
    )


DEAD = 100  # logged steps: a form that is not asked for in so many words is found late, or never
FINE = re.compile(r"penalty|punish|cheat|repetit|overlong|length", re.IGNORECASE)  # 0 is their best


def dead_reward(log: Log) -> str:
    """A reward that is the same in every step while others move, and pays nothing."""
    names = log.all_rewards() if log.stage == "grpo" else []
    values = {name: log.series(name) for name in names}
    still = [name for name, series in values.items() if len(series) >= DEAD and _equal(series)]
    worth = [name for name in still if values[name][0] <= 0 and not FINE.search(name)]
    if not worth or len(still) == len(names):
        return ""
    shown = ", ".join(f"{name} is {values[name][0]:.3g}" for name in worth)
    return f"{shown} in all {len(values[worth[0]])} logged steps"


STUCK = 75  # logged steps without a gain: fewer are common before a reward rises
UNMOVED = 0.5  # of the deviation within a batch: a gain that would have been noticed


def reward_stuck(log: Log) -> str:
    """The reward ends where it began, and would show it had it risen."""
    values, change = log.series("reward"), log.change("reward")
    if log.stage != "grpo" or change is None or _at_top(log, NEAR, last=0.5):
        return ""
    if len(values) >= MIN_POINTS and _equal(values):
        return f"reward exactly {values[0]:.3g} in all {len(values)} logged steps"
    # 1. Halves, because a quarter of a noisy curve says little.
    half = len(values) // 2
    gain = fmean(values[half:]) - fmean(values[:half])
    error = change.noise * sqrt(2 / max(1, half))
    apart = [std for std in log.series("reward_std") if std > 0]  # silent groups say nothing
    spread = median(apart) if apart else change.noise
    if len(values) < STUCK or change.last - change.first > max(change.error, 0.1 * spread):
        return ""
    # 2. Not risen, and a rise by half of what answers differ by can be ruled out, to 95%.
    if gain > error or gain + 1.64 * error > UNMOVED * spread or _learnt(log):
        return ""
    return (
        f"reward {change.first:.3g} in the first quarter and {change.last:.3g} in the last of "
        f"{len(values)} logged steps, where answers differ by {spread:.3g}"
    )


LOST = 0.5  # of GRPO's best reward
SPREADS = 0.75  # deviations within a batch, for rewards that may be negative
APIECE = 0.4  # of them for others: what was hardly ever paid cannot fall far


def reward_lost(log: Log) -> str:
    """The reward falls far below its best."""
    quarters, values, change = log.quarters("reward"), log.series("reward"), log.change("reward")
    if change is None:
        return ""
    best, then = max(fmean(values[: _early(values)]), *quarters), quarters[-1]
    spread = log.typical("reward_std") or log.scale("reward")
    if min(values) < 0:
        best = max(quarters)  # the first steps of a reward without a floor are luck
        least = max(SPREADS * spread, 3 * change.error)
    else:
        least = max(LOST * best, APIECE * max(log.series("reward_std"), default=0.0))
        if best > max(quarters):
            least = max(least, 2 * _early_error(values, change))
    lost = best - then >= max(least, 2 * change.noise, 1e-12)  # from 0 to 0 nothing is lost
    return f"reward from {best:.3g} to {then:.3g}" if lost else ""


EIGHTHS = 8  # of the run: in an eighth of a long log the mean of a noisy reward is known
LONG_ENOUGH = 5 * EIGHTHS
FORGOT = 1 / 3  # of its best eighth; where rewards are negative, SPREADS deviations
SURE = 4.0  # standard errors, as the best of eight is always higher than the others


def reward_forgotten(log: Log) -> str:
    """The reward rose, and then fell: the end of the run is worse than its middle.

    Both in means of eighths; of the end the last quarter counts, and the last eighth has to agree.
    """
    values, change = log.series("reward"), log.change("reward")
    if log.stage != "grpo" or change is None or len(values) < LONG_ENOUGH:
        return ""
    # 1. The best eighth before the last quarter.
    cuts = [round(len(values) * i / EIGHTHS) for i in range(EIGHTHS + 1)]
    means = [fmean(values[a:b]) for a, b in pairwise(cuts)]
    best = max(means[: EIGHTHS * 3 // 4])
    early, end = fmean(values[: _early(values)]), fmean(values[cuts[EIGHTHS * 3 // 4] :])
    # 2. What it rose by and what it lost, against the noise of a step.
    steps = fmean(abs(b - a) for a, b in pairwise(values)) / 1.13
    noise = max(change.noise, steps)
    error = noise * sqrt(1 / (len(values) // EIGHTHS) + 1 / (len(values) // 4))
    risen = noise * sqrt(1 / _early(values) + 1 / (len(values) // EIGHTHS))
    spread = log.typical("reward_std") or log.scale("reward")
    least = FORGOT * best if min(values) >= 0 else SPREADS * spread
    rose = best - early >= max(MOVED * log.scale("reward"), 2 * risen)
    fell = best - end >= max(least, SURE * error) and best - means[-1] >= least / 2
    if not (rose and fell):
        return ""
    step = cuts[means.index(best) + 1]
    return (
        f"reward {early:.3g} at first, {best:.3g} in its best eighth, which ends at the logged "
        f"step {step} of {len(values)}, and {end:.3g} in the last quarter"
    )


LOW_ENTROPY = 0.05  # nats a token: about one token in a hundred is in doubt
FALLEN = 1 / 3  # of what it was: a policy may be sure of itself from the start, and right
# A larger model is in doubt at more places that do not matter: a sixth is as low there.
SIXTH, HALF = 1 / 6, 0.5


def entropy_collapse(log: Log) -> str:
    """Low entropy is the end of a good run too: it is a fault where the reward is not there yet."""
    entropy, silent = log.typical("entropy", last=0.5), silent_share(log, last=0.5)
    if log.stage != "grpo" or entropy is None or silent is None:
        return ""
    # 1. The entropy is low in absolute terms, and low compared with where it began.
    start, reward = log.series("entropy")[0], log.change("reward")
    low = entropy <= LOW_ENTROPY < start and entropy <= FALLEN * start
    bought = silent < SILENT and (reward is None or reward.rises(by=MOVED * log.scale("reward")))
    # 2. Or very low compared with where it began, and the reward rises no more.
    if not low and entropy <= SIXTH * start > SIXTH * LOW_ENTROPY and silent >= HALF:
        values = log.series("reward")
        late = change_of(values[len(values) // 2 :])
        low, bought = True, late is None or late.rises(by=0)
    # 3. This is no fault if the reward is still rising, or has reached its top.
    if not low or bought or _at_top(log, NEAR, last=0.5):
        return ""
    return (
        f"entropy {entropy:.3g} nats a token in the second half (at first {start:.3g}); "
        f"{silent:.0%} of the groups agree, at a mean reward of {log.mean('reward', last=0.5):.3g}"
    )


RANDOM = 4.0  # nats a token, as if 55 tokens were equally likely; our runs stay below 2.1
PARTS = 16  # of the run, so that a stretch is seen that is over before the end


def entropy_high(log: Log) -> Seen:
    """The policy writes nearly at random for a part of the run, or since its start.

    ln(151,936), where every token is equally likely, is 11.9. High only at first is a model that is
    trained from scratch, if its reward rises.
    """
    values, reward = log.series("entropy"), log.change("reward")
    if log.stage != "grpo" or len(values) < FEW_POINTS:
        return ""
    size = max(FEW_POINTS, len(values) // PARTS)
    starts = range(0, len(values) - size + 1)
    levels = [median(values[start : start + size]) for start in starts]
    top, last = max(levels), levels[-1]
    if top < RANDOM:
        return ""
    learned = reward is not None and reward.rises(by=MOVED * log.scale("reward"))
    if learned and last < RANDOM and max(levels[len(levels) // 2 :]) < RANDOM:
        return ""
    evidence = (
        f"entropy {levels[0]:.3g} nats a token at first, {top:.3g} at its highest and {last:.3g} "
        f"at the end, in medians of {size} logged steps; {top:.3g} is as if {exp(top):,.0f} tokens "
        f"were equally likely"
    )
    return ("error" if last >= RANDOM else "warning", evidence)


GROWN, WILD = 2.0, 1.0  # times the entropy of the first quarter, and nats a token


def entropy_rises(log: Log) -> str:
    """Answers turn into noise, while the reward does not rise."""
    quarters, reward = log.quarters("entropy"), log.change("reward")
    if (
        log.stage != "grpo"
        or not quarters
        or (reward and reward.rises(by=0.1 * log.scale("reward")))
    ):
        return ""
    if quarters[-1] < max(GROWN * quarters[0], WILD) or quarters[-1] < max(quarters):
        return ""
    first, last = quarters[0], quarters[-1]
    return f"entropy {first:.3g} nats a token in the first quarter, {last:.3g} in the last"


# --- which reward moves ---


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
        enough = gained >= MOVED * log.scale(up) > 0 and lost >= MOVED * log.scale(down) > 0
        if enough and gained + lost >= APART * hypot(rise.error, fall.error):
            return (
                f"{up} rose from {rise.first:.3g} to {rise.last:.3g} while {down} fell from "
                f"{fall.first:.3g} to {fall.last:.3g}"
            )
    return ""


EARLY = 1 / 20  # of the steps, and at least two of them


def _moved(log: Log, name: str, *, falls: bool = False) -> Change | None:
    """Since the first quarter or, if that is more, since the first steps.

    A reward that is easily had is had in a few steps, and its first quarter no longer shows it.
    """
    change, values = log.change(name), log.series(name)
    if change is None:
        return None
    early = fmean(values[: _early(values)])
    if (early > change.first) is not falls or early == change.first:
        return change
    return replace(change, first=early, error=_early_error(values, change))


def _early(values: list[float]) -> int:
    return max(2, round(EARLY * len(values)))


def _early_error(values: list[float], change: Change) -> float:
    """Standard error between the mean of the first steps and the last quarter.

    They are few: here the mean difference from step to step counts, as some leap far, and where
    they are more than two, their own deviation does.
    """
    early = values[: _early(values)]
    steps = fmean(abs(b - a) for a, b in pairwise(values)) / 1.13
    noise = max(change.noise, steps, stdev(early) if len(early) > 2 else 0.0)
    return noise * sqrt(1 / _early(values) + 1 / (len(values) // 4))


DRIFT = 1.5  # times as long, or as short
WORTH = 0.05  # of the range of a reward


def length_drift(log: Log) -> str:
    """Length moves and what it should buy does not rise; shorter and as good is no fault."""
    length = log.change("completions/mean_length")
    before = _moved(log, "completions/mean_length", falls=True)
    if log.stage != "grpo" or length is None or before is None or length.last <= 0:
        return ""
    # 1. What extra length should improve: the rewards that are not about form.
    names = log.rewards(form=False) or ["reward"]
    truths = [(change, log.scale(name)) for name in names if (change := log.change(name))]
    since = [change for name in names if (change := _moved(log, name, falls=True))]
    # 2. Longer answers without a gain are a fault; shorter ones only if a reward fell.
    longer = length.last >= DRIFT * length.first and length.rises(by=3 * length.error)
    shorter = before.first >= DRIFT * before.last and before.falls(by=0)
    lost = any(
        change.falls(by=WORTH * log.scale(name)) for name, change in zip(names, since, strict=False)
    )
    bought = any(
        change.last - change.first >= max(WORTH * scale, change.error) for change, scale in truths
    )
    if not truths or bought or not (longer or (shorter and lost)):
        return ""
    first = length.first if longer else before.first
    return (
        f"answers went from {first:.3g} to {length.last:.3g} tokens while the reward that "
        f"is not about form went from {since[0].first:.3g} to {since[0].last:.3g}"
    )


TWICE = 2.0  # times as long
LEARNED = re.compile(r"model|judge|\brm\b|_rm|rm_|score|prefer|critic", re.IGNORECASE)


def reward_with_length(log: Log) -> str:
    """One graded reward, such as a model's, rises along with length, without a second measure.

    A reward of right or wrong is equal for all answers of a group now and then; a graded one never.
    """
    length, reward = log.change("completions/mean_length"), log.change("reward")
    names, silent = log.all_rewards(), log.series("frac_reward_zero_std")
    if log.stage != "grpo" or length is None or reward is None or len(names) != 1:
        return ""
    graded = (
        LEARNED.search(names[0]) and not is_form(names[0]) and (not silent or max(silent) < 0.05)
    )
    if not graded or length.last < TWICE * length.first or not length.rises(by=0):
        return ""
    if not reward.rises(by=MOVED * log.scale("reward")):
        return ""
    return (
        f"answers went from {length.first:.3g} to {length.last:.3g} tokens while the only reward, "
        f"{names[0]}, went from {reward.first:.3g} to {reward.last:.3g}"
    )


# --- how far it went, and from which sampler ---

FAR = 0.5  # nats a token; healthy runs of tiny that end 70 points higher keep below 0.2
LEAPT = 2.0  # times the first quarter's


def kl_blow_up(log: Log) -> str:
    """In quarters' medians, since one token of a low probability makes a step's mean leap."""
    quarters = log.quarters("kl")
    if log.stage != "grpo" or not quarters or max(quarters) < FAR or kl_high_from_start(log):
        return ""
    means = ", ".join(f"{quarter:.3g}" for quarter in quarters)
    return f"KL up to {max(log.series('kl')):.3g} nats a token (medians of the quarters {means})"


HIGH = 0.2  # nats a token before anything was learnt: policy and reference are not the same model


def kl_high_from_start(log: Log) -> str:
    """High from the first entries on, and about as high at the end: not moved, but measured so."""
    values = log.series("kl")
    if log.stage != "grpo" or len(values) < FEW_POINTS or min(values[:FEW_POINTS]) < HIGH:
        return ""
    first, last = median(values[:FEW_POINTS]), median(values[-max(1, len(values) // 4) :])
    if last > LEAPT * first:
        return ""
    return f"KL {first:.3g} nats a token in the first {FEW_POINTS} entries, {last:.3g} at the end"


LOGP = 0.05  # nats a token: between bf16 engines 0.005 to 0.02 are common
CHANCES = 0.03  # of probability, the same in verl's measure
RATIO = 2.0  # or a half; verl's own guide has these limits
PRODUCT = 1.05  # NeMo-RL's own guide has this one
STEADY = 0.05  # share of the first entries that says nothing yet


def sampler_differs(log: Log) -> str:
    """The tokens were sampled with other probabilities than the trainer's, which biases it."""
    limits = {
        "sampling/sampling_logp_difference/mean": LOGP,
        "sampling/prob_difference": CHANCES,
        "sampling/mult_prob_error": PRODUCT,
    }
    seen = []
    for name, limit in limits.items():
        now, values = log.typical(name, last=0.25, least=FEW_POINTS), log.series(name)
        if now is not None and now >= limit:
            first = median(values[: max(FEW_POINTS, round(STEADY * len(values)))])
            seen.append(f"{name} {first:.3g} at first and {now:.3g} in the last quarter")
    name = "sampling/importance_sampling_ratio/mean"
    ratio = log.typical(name, last=0.25, least=FEW_POINTS)
    if ratio is not None and not 1 / RATIO <= ratio <= RATIO:
        seen.append(f"{name} {ratio:.3g} in the last quarter")
    return "; ".join(seen)


CLIPPED = 0.3  # of the tokens; GSPO, which clips whole answers, runs at about 0.15


def too_much_clipped(log: Log) -> str:
    share = log.mean("clip_ratio/region_mean", last=0.5, least=FEW_POINTS)
    if log.stage != "grpo" or share is None or share < CLIPPED:
        return ""
    return f"{share:.0%} of the tokens in the second half were clipped"


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
