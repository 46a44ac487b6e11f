"""What goes wrong in Bradley-Terry and DPO losses: each mistake as a function that makes it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from postlab.course.check._parts import Mistake

NO_MEAN = "you return one number: a value for each pair is wanted, the mean comes later"

BRADLEY_TERRY_LOSS = (
    Mistake(
        "swapped",
        "chosen and rejected have changed places: this loss falls when the rejected reply scores "
        "higher",
        lambda chosen, rejected: -F.logsigmoid(rejected - chosen),
    ),
    Mistake(
        "sign",
        "the minus in front of the logarithm is missing: a loss falls when things go well",
        lambda chosen, rejected: F.logsigmoid(chosen - rejected),
    ),
    Mistake(
        "probability",
        "you return the probability that chosen wins: its negative logarithm is the loss",
        lambda chosen, rejected: torch.sigmoid(chosen - rejected),
    ),
    Mistake(
        "probability_lost",
        "the logarithm is missing: you return the probability itself, with a minus or from 1",
        lambda chosen, rejected: -torch.sigmoid(chosen - rejected),
        lambda chosen, rejected: 1 - torch.sigmoid(chosen - rejected),
    ),
    Mistake(
        "difference",
        "you return a difference of rewards: neither sigmoid nor logarithm is there",
        lambda chosen, rejected: rejected - chosen,
        lambda chosen, rejected: chosen - rejected,
    ),
    Mistake(
        "log_of_difference",
        "you take the logarithm of the difference: the sigmoid between them is missing",
        lambda chosen, rejected: -(chosen - rejected).log(),
    ),
    Mistake(
        "each_alone",
        "each reward goes through a sigmoid of its own: only their difference means anything",
        lambda chosen, rejected: F.logsigmoid(rejected) - F.logsigmoid(chosen),
        lambda chosen, rejected: -F.logsigmoid(chosen) - F.logsigmoid(-rejected),
    ),
    Mistake(
        "ratio_of_rewards",
        "you divide the rewards as they are: strengths are e^reward, and rewards may be negative",
        lambda chosen, rejected: -(chosen / (chosen + rejected)).log(),
    ),
    Mistake(
        "hinge",
        "this is a hinge loss: it stops caring at a margin of 1, Bradley-Terry never does",
        lambda chosen, rejected: F.relu(1 - (chosen - rejected)),
    ),
    Mistake(
        "reduced",
        NO_MEAN,
        lambda c, r: -F.logsigmoid(c - r).mean(),
        lambda c, r: -F.logsigmoid(c - r).sum(),
    ),
)


def _by_name(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A loss of pc, pr, rc, rr and beta, called by the names of its arguments."""

    def dpo_loss(
        *,
        policy_chosen: Tensor,
        policy_rejected: Tensor,
        ref_chosen: Tensor,
        ref_rejected: Tensor,
        beta: float = 0.1,
    ) -> Tensor:
        return loss(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta)

    return dpo_loss


def _dpo(
    margin: Callable[..., Tensor] = lambda pc, pr, rc, rr: (pc - rc) - (pr - rr),
    loss: Callable[[Tensor, float], Tensor] = lambda m, beta: -F.logsigmoid(beta * m),
) -> Callable[..., Tensor]:
    """The right loss, but for what is given."""
    return _by_name(lambda pc, pr, rc, rr, beta: loss(margin(pc, pr, rc, rr), beta))


def _each_alone(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A loss of beta times the two log-ratios, which does not take their difference first."""
    return _by_name(lambda pc, pr, rc, rr, beta: loss(beta * (pc - rc), beta * (pr - rr)))


DPO_LOSS = (
    Mistake(
        "swapped",
        "chosen and rejected, or policy and reference, have changed places: the margin is "
        "(policy - ref) of chosen less (policy - ref) of rejected",
        _dpo(lambda pc, pr, rc, rr: (pr - rr) - (pc - rc)),
    ),
    Mistake(
        "ref_forgotten",
        "the reference is left out: each log-prob is compared with the reference's",
        _dpo(lambda pc, pr, rc, rr: pc - pr),
    ),
    Mistake(
        "ratio_of_logs",
        "you divide log-probs: they are logarithms already, the log of a ratio is their difference",
        _dpo(lambda pc, pr, rc, rr: pc / rc - pr / rr),
        _dpo(lambda pc, pr, rc, rr: (pc / rc).log() - (pr / rr).log()),
        _dpo(lambda pc, pr, rc, rr: ((pc / rc) / (pr / rr)).log()),
    ),
    Mistake(
        "ref_added",
        "the reference's margin is added: it is subtracted from the policy's",
        _dpo(lambda pc, pr, rc, rr: (pc - pr) + (rc - rr)),
    ),
    Mistake(
        "rejected_added",
        "the rejected reply's log-ratio is added: it is subtracted",
        _dpo(lambda pc, pr, rc, rr: (pc - rc) + (pr - rr)),
    ),
    Mistake(
        "chosen_only",
        "the rejected reply is left out",
        _dpo(lambda pc, pr, rc, rr: pc - rc),
    ),
    Mistake(
        "beta_forgotten",
        "beta is not used: the margin is multiplied by it inside the sigmoid",
        _dpo(loss=lambda m, beta: -F.logsigmoid(m)),
    ),
    Mistake(
        "brackets",
        "beta multiplies a part of the margin only: put the differences in brackets",
        _by_name(lambda pc, pr, rc, rr, beta: -F.logsigmoid(beta * pc - rc - beta * pr + rr)),
        _by_name(lambda pc, pr, rc, rr, beta: -F.logsigmoid(beta * (pc - rc) - (pr - rr))),
        _by_name(lambda pc, pr, rc, rr, beta: -F.logsigmoid(beta * (pc - pr) - (rc - rr))),
    ),
    Mistake(
        "another_loss",
        "this is another relative of DPO (hinge or ipo): here it is -log sigmoid of the margin",
        _dpo(loss=lambda m, beta: F.relu(1 - beta * m)),
        _dpo(loss=lambda m, beta: (m - 1 / (2 * beta)) ** 2),
    ),
    Mistake(
        "beta_outside",
        "beta stands outside the logarithm: it multiplies the margin, inside the sigmoid",
        _dpo(loss=lambda m, beta: -beta * F.logsigmoid(m)),
    ),
    Mistake(
        "beta_twice",
        "beta is multiplied in twice",
        _dpo(loss=lambda m, beta: -F.logsigmoid(beta**2 * m)),
    ),
    Mistake(
        "beta_divides",
        "you divide by beta: the margin is multiplied by it",
        _dpo(loss=lambda m, beta: -F.logsigmoid(m / beta)),
    ),
    Mistake(
        "sign",
        "the minus in front of the logarithm is missing",
        _dpo(loss=lambda m, beta: F.logsigmoid(beta * m)),
    ),
    Mistake(
        "probability",
        "the logarithm is missing: you return the sigmoid itself",
        _dpo(loss=lambda m, beta: torch.sigmoid(beta * m)),
        _dpo(loss=lambda m, beta: -torch.sigmoid(beta * m)),
    ),
    Mistake(
        "margin",
        "you return the margin times beta: its -log sigmoid is the loss",
        _dpo(loss=lambda m, beta: beta * m),
    ),
    Mistake(
        "each_alone",
        "chosen and rejected each go through a sigmoid of their own: their difference goes through "
        "one",
        _each_alone(lambda chosen, rejected: F.logsigmoid(rejected) - F.logsigmoid(chosen)),
        _each_alone(lambda chosen, rejected: F.logsigmoid(-rejected) - F.logsigmoid(chosen)),
        _each_alone(lambda chosen, rejected: -F.logsigmoid(-rejected) - F.logsigmoid(chosen)),
    ),
    Mistake(
        "reduced",
        NO_MEAN,
        _dpo(loss=lambda m, beta: -F.logsigmoid(beta * m).mean()),
        _dpo(loss=lambda m, beta: -F.logsigmoid(beta * m).sum()),
    ),
)
