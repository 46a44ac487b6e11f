"""The doctor's rules for preferences: DPO, ORPO and its kin, KTO, and reward models.

As in rules.py, a rule takes the log and returns what it sees, with the numbers, or "".
"""

from __future__ import annotations

from math import log as ln
from math import sqrt
from statistics import fmean, median, stdev

from postlab.doctor.log import FEW_POINTS, PAIRS, Log

# --- the wrong way round ---

CHANCE = 0.5
BELOW = 0.4  # of the pairs: a batch or two below one half are luck
TIE = 0.01  # of margin: below it rounding decides, and a tie counts as a pair that was missed
SUNK = 0.05  # of margin below 0


def prefers_rejected(log: Log) -> str:
    """Accuracy below chance, or margins that fall below 0: the policy learns the rejected reply."""
    if log.stage not in PAIRS:
        return ""
    seen = [text for text in (_below_chance(log), _margins_sink(log)) if text]
    return " and ".join(seen)


def _below_chance(log: Log) -> str:
    shares = log.series("rewards/accuracies")
    margin = log.typical("rewards/margins", last=0.5, least=FEW_POINTS)
    half = shares[len(shares) // 2 :]
    if len(shares) < FEW_POINTS or (margin is not None and margin > -TIE):
        return ""
    mean, error = fmean(half), stdev(half) / sqrt(len(half))
    if mean > BELOW or mean + 2 * error > CHANCE or (margin is None and mean > BELOW / 2):
        return ""
    return f"accuracy {mean:.2g} in the second half, with chance at 0.5"


def _margins_sink(log: Log) -> str:
    quarters, change = log.quarters("rewards/margins"), log.change("rewards/margins")
    if not quarters or change is None:
        few = log.typical("rewards/margins", least=FEW_POINTS)
        if few is None or few > -SUNK or max(log.series("rewards/margins")) >= 0:
            return ""
        return f"all {len(log.series('rewards/margins'))} margins below 0, {few:.3g} in the median"
    # Without a reference margins begin where the data has them, and are to rise from there.
    sunk = quarters[-1] <= -SUNK and not change.rises(by=0)
    clear = -quarters[-1] >= 2 * change.error
    if not (sunk and clear):
        return ""
    return f"margins {quarters[0]:.2g} in the first quarter, {quarters[-1]:.2g} in the last"


# --- from the wrong start ---

AWAY = (
    0.3  # of reward, either way, when nothing has been learned: it is 0 for one and the same model
)
BEGIN = 3  # entries, in which few runs get as far by learning
GROWN = 2.0  # times as far at the end: then it was learning all the same


def reference_differs(log: Log) -> str:
    """Rewards far from 0 at once, which do not grow: the policy did not start as its reference."""
    values = log.series("rewards/chosen")
    if log.stage not in ("dpo", "kto") or len(values) < FEW_POINTS:
        return ""
    begin, end = values[:BEGIN], values[-max(1, len(values) // 4) :]
    first, last = median(begin), median(end)
    if min(map(abs, begin)) < AWAY or abs(last) > GROWN * abs(first):
        return ""
    rejected = log.series("rewards/rejected")[:BEGIN]
    beside = f" and {median(rejected):.3g} for the rejected ones" if rejected else ""
    return f"reward {first:.3g} for the chosen replies{beside} in the first {BEGIN} entries"


# --- too easy ---

ALL = 0.98  # of the pairs
NOTHING_LEFT = 0.02  # of loss: a margin of about 4, where the gradient is a fiftieth
FAR_APART = 10.0  # of margin: the reply is 22,000 times as likely against the other as it was


def pairs_told_apart(log: Log) -> str:
    """Nearly every pair right, at a loss near 0 or a margin far beyond what the loss asks for."""
    right = log.mean("rewards/accuracies", last=0.5, least=FEW_POINTS)
    loss = log.typical("loss", last=0.5, least=FEW_POINTS)
    margin = log.typical("rewards/margins", last=0.5, least=FEW_POINTS)
    if log.stage not in ("dpo", "reward") or right is None or right < ALL or margin is None:
        return ""
    if not (margin >= FAR_APART or (loss is not None and loss <= NOTHING_LEFT)):
        return ""
    since = next(i for i, share in enumerate(log.series("rewards/accuracies")) if share >= ALL)
    step = [e for e in log.entries if "rewards/accuracies" in e][since].get("step", since + 1)
    at = f", loss {loss:.2g}" if loss is not None else ""
    return (
        f"{right:.0%} of the pairs right in the second half, from step {step} on; "
        f"margin {margin:.3g}{at}"
    )


# --- not learnt ---

STANDS = 0.05  # such a margin takes 0.02 off a loss of 0.69


def margins_stand(log: Log) -> str:
    quarters, right = log.quarters("rewards/margins"), log.change("rewards/accuracies")
    if not quarters or abs(quarters[-1]) > STANDS or log.stage == "orpo":
        return ""
    if right and quarters[-1] >= TIE and right.last >= 0.6 and right.rises(by=0.05):
        return ""
    near = log.typical("loss", last=0.25)
    if log.stage == "reward" and (near is None or abs(near - ln(2)) > 0.02):
        return ""
    return f"margins of {quarters[-1]:.2g} in the last quarter"


# --- what looks bad and is not, and what looks like it ---

LEFT = 0.5  # of what the chosen reply cost at first
LEFT_NATS = 2.0  # and at least this much, a factor of e squared
LONG, LONG_NATS = 0.2, 50.0  # or this share of it, where replies are long


def _chosen(log: Log, *, far: bool) -> str:
    reward, logp = log.change("rewards/chosen"), log.change("logps/chosen")
    rejected = log.change("rewards/rejected")
    if log.stage != "dpo" or not (reward and logp and rejected):
        return ""
    if reward.first - reward.last <= reward.error or reward.last >= 0:
        return ""
    # Two points are a start where batches differ little; else the first quarter is.
    early = median(log.series("logps/chosen")[:2])
    first = early if logp.noise < 0.05 * abs(logp.first) else logp.first
    fall = first - logp.last
    left = fall >= max(LEFT * -first, LEFT_NATS) or fall >= max(LONG * -first, LONG_NATS)
    if left != far:
        return ""
    return (
        f"log-prob of the chosen replies from {first:.3g} to {logp.last:.3g} nats; in the "
        f"last quarter their reward is {reward.last:.3g}, the rejected ones' {rejected.last:.3g}"
    )


def chosen_logp_collapse(log: Log) -> str:
    return _chosen(log, far=True)


def chosen_logp_falls(log: Log) -> str:
    return _chosen(log, far=False)
