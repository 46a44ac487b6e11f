"""Week 11: the front, the area it covers, an exact soup of adapters, a step of the multiplier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from postlab.course.check._parts import Case, Edge, Exercise
from postlab.course.week11 import mistakes_front, mistakes_soup


def pareto_front(points: Tensor) -> Tensor:
    """Which points no other beats: nowhere worse and somewhere better. More is better.

    Args:
        points: (N, K), a row a policy.
    Returns:
        (N,) bool; equal points do not beat each other.
    Taught in week 11.

    >>> pareto_front(torch.tensor([[3.0, 1], [2, 2], [2, 1]]))
    tensor([ True,  True, False])
    """
    no_worse = (points[:, None] >= points[None]).all(-1)
    better = (points[:, None] > points[None]).any(-1)
    return ~(no_worse & better).any(0)


def hypervolume(points: Tensor, reference: Tensor) -> Tensor:
    """The area that points of two objectives cover together above a reference.

    Args:
        points: (N, 2), beaten ones among them, in any order.
        reference: (2,); a point that is not above it in both covers nothing.
    Returns:
        A scalar.
    Taught in week 11.

    >>> hypervolume(torch.tensor([[2.0, 1], [1, 3]]), torch.zeros(2))
    tensor(4.)
    """
    above = (points - reference).clamp(min=0)
    above = above[above[:, 0].argsort(descending=True)]
    width = above[:, 0] - torch.cat([above[1:, 0], above.new_zeros(1)])
    return (width * above[:, 1].cummax(0).values).sum()


def lora_soup(a: Tensor, b: Tensor, weights: Tensor, *, scaling: float) -> Tensor:
    """What a soup of LoRA adapters adds to a matrix: the weighted average of what each adds.

    Args:
        a: (K, r, in), an A an adapter.
        b: (K, out, r).
        weights: (K,), adding up to 1.
        scaling: alpha / r, the same for all.
    Returns:
        (out, in).
    Source: Ramé et al. 2023, arXiv 2306.04488, eq. 1. Taught in week 11.

    >>> one = torch.ones(2, 1, 1)
    >>> lora_soup(one, one, torch.tensor([0.25, 0.75]), scaling=2.0)
    tensor([[2.]])
    """
    return scaling * (weights[:, None, None] * (b @ a)).sum(0)


def dual_step(multipliers: Tensor, measured: Tensor, levels: Tensor, rate: float) -> Tensor:
    """`objectives.dual_step` for several constraints 'measured is at least its level' at once.

    >>> dual_step(torch.tensor([1.0]), torch.tensor([0.5]), torch.tensor([0.75]), 2.0)
    tensor([1.5000])
    """
    return (multipliers + rate * (levels - measured)).clamp(min=0)


def _cloud(seed: int) -> dict[str, Any]:
    """Whole numbers, so that there are ties and twins; the last objectives differ in size."""
    g, (n, k) = torch.Generator().manual_seed(seed), ((7, 2), (9, 3), (6, 2))[seed % 3]
    points = torch.randint(0, 5, (n, k), generator=g).float() + seed // 6
    points[-1] = points[pareto_front(points)][0]
    return {"points": points}


def _area(seed: int) -> dict[str, Any]:
    g, n = torch.Generator().manual_seed(seed), (5, 7, 4)[seed % 3]
    angle = (torch.arange(n) + torch.rand(n, generator=g)) / n * 1.1 + 0.2
    reach = 2 + torch.rand(n, generator=g)
    points = torch.stack([reach * angle.cos(), reach * angle.sin()], dim=1)
    points[1] = 0.7 * points[0]  # beaten
    reference = 0.05 + 0.1 * torch.rand(2, generator=g) + 0.1 * (seed // 6)
    return {"points": points[torch.randperm(n, generator=g)], "reference": reference}


def _adapters(seed: int) -> dict[str, Any]:
    g, (k, r, i, o) = torch.Generator().manual_seed(seed), ((3, 2, 4, 5), (2, 3, 5, 3))[seed % 2]
    weights = torch.rand(k, generator=g) + 0.2
    adapters = {"a": torch.randn(k, r, i, generator=g), "b": torch.randn(k, o, r, generator=g)}
    return adapters | {"weights": weights / weights.sum(), "scaling": 2.0 + (seed % 3) + seed // 6}


def _constraints(seed: int) -> dict[str, Any]:
    """One far above its level and one far below; no multiplier is 0 before."""
    g, n = torch.Generator().manual_seed(seed), (3, 4)[seed % 2]
    measured, levels = (torch.rand(n, generator=g) for _ in range(2))
    measured[:2], levels[:2] = torch.tensor([0.95, 0.1]), torch.tensor([0.2, 0.9])
    multipliers = 0.05 + torch.rand(n, generator=g)
    multipliers[0] = 0.1
    rate = (0.5, 2.0, 1.5)[seed % 3] + 0.1 * (seed // 6)
    return {"multipliers": multipliers, "measured": measured, "levels": levels, "rate": rate}


PARETO_FRONT = Exercise(
    name="pareto_front",
    reference=pareto_front,
    positional=("points",),
    cases=(
        Case(
            "points [0, 0] [2, 2] [3, 1] [2, 2] [0, 2] [2, 2]",
            {"points": torch.tensor([[0.0, 0], [2, 2], [3, 1], [2, 2], [0, 2], [2, 2]])},
            "[2, 2] beats [0, 0] and [0, 2]; the three [2, 2] do not beat each other",
        ),
        Case(
            "points [1, 0, 3] [1, 2, 1] [0, 3, 2] [2, 3, 0]",
            {"points": torch.tensor([[1.0, 0, 3], [1, 2, 1], [0, 3, 2], [2, 3, 0]])},
            "each is better than any other in some objective",
        ),
        Case(
            "points [2, 2] [1, 2]",
            {"points": torch.tensor([[2.0, 2], [1, 2]])},
            "the first is nowhere worse than the second and better once: that is enough",
        ),
    ),
    random=_cloud,
    mistakes=mistakes_front.PARETO_FRONT,
    axes={"points": "b."},
)
HYPERVOLUME = Exercise(
    name="hypervolume",
    reference=hypervolume,
    positional=("points", "reference"),
    cases=(
        Case(
            "points [5, 2.5] [2.5, 5] [2, 2.5] [4, 4] and reference [1, 1]",
            {
                "points": torch.tensor([[5.0, 2.5], [2.5, 5], [2, 2.5], [4, 4]]),
                "reference": torch.ones(2),
            },
            "from the right: 1 wide and 1.5 high, 1.5 and 3, 1.5 and 4; [2, 2.5] adds nothing",
        ),
        Case(
            "points [3, 1] [1, 2] and reference [0, 0]",
            {"points": torch.tensor([[3.0, 1], [1, 2]]), "reference": torch.zeros(2)},
            "from the right: 2 wide and 1 high, 1 wide and 2 high",
        ),
    ),
    random=_area,
    mistakes=mistakes_front.HYPERVOLUME,
    axes={"points": "b."},
    edges=(
        Edge(
            "below_reference",
            Case(
                "points [3, 0.5] [0.5, 3] [2, 2] and reference [1, 1]",
                {
                    "points": torch.tensor([[3.0, 0.5], [0.5, 3], [2, 2]]),
                    "reference": torch.ones(2),
                },
                "only [2, 2] is above the reference in both",
            ),
            "A point that is below the reference in one objective covers and subtracts nothing.",
            ("(points - reference).clamp(min=0) -> points - reference",),
        ),
        Edge(
            "twins_dropped",
            Case(
                "points [2, 1] [2, 1] and reference [0, 0]",
                {"points": torch.tensor([[2.0, 1], [2, 1]]), "reference": torch.zeros(2)},
                "two equal points cover what one of them does",
            ),
            "Equal points do not beat each other: if both are dropped, their area is lost.",
            (
                "return -> single = [sum(torch.equal(p, q) for q in above) == 1 for p in above]; "
                "return torch.tensor(single).float().amax() *",
            ),
        ),
        Edge(
            "nothing_above",
            Case(
                "points [1, 3] [3, 1] and reference [2, 2]",
                {"points": torch.tensor([[1.0, 3], [3, 1]]), "reference": torch.full((2,), 2.0)},
                "no point is above the reference in both: 0",
            ),
            "If no point is above the reference, nothing is covered: the area is 0.",
            ("above = above[ -> above = above[(above > 0).all(1)]; above[0]; above = above[",),
        ),
        Edge(
            "below_zero",
            Case(
                "points [-1, -2] [-2, -1] and reference [-3, -3]",
                {
                    "points": torch.tensor([[-1.0, -2], [-2, -1]]),
                    "reference": torch.full((2,), -3.0),
                },
                "2 wide and 1 high, and 1 wide and 1 more",
            ),
            "Scores and the reference can be negative: clamp the differences, not the points.",
            ("points - reference -> points.clamp(min=0) - reference.clamp(min=0)",),
        ),
    ),
)
LORA_SOUP = Exercise(
    name="lora_soup",
    reference=lora_soup,
    positional=("a", "b", "weights"),
    cases=(
        Case(
            "adapters A [1, 2] B [3], A [5, 0] B [1], weights 0.5 0.5 and scaling 2",
            {
                "a": torch.tensor([[[1.0, 2]], [[5, 0]]]),
                "b": torch.tensor([[[3.0]], [[1]]]),
                "weights": torch.tensor([0.5, 0.5]),
                "scaling": 2.0,
            },
            "BA is [3, 6] and [5, 0]; the average is [4, 3]; times 2",
        ),
        Case(
            "the same adapters, weights 0.25 0.75 and scaling 1",
            {
                "a": torch.tensor([[[1.0, 2]], [[5, 0]]]),
                "b": torch.tensor([[[3.0]], [[1]]]),
                "weights": torch.tensor([0.25, 0.75]),
                "scaling": 1.0,
            },
            "a quarter of [3, 6] and three quarters of [5, 0]",
        ),
    ),
    random=_adapters,
    plain=mistakes_soup.lora_soup,
    mistakes=mistakes_soup.LORA_SOUP,
)
DUAL_STEP = Exercise(
    name="dual_step",
    reference=dual_step,
    positional=("multipliers", "measured", "levels", "rate"),
    cases=(
        Case(
            "multipliers [2, 1, 0.1], measured [0.5, 1, 0.9], levels [0.75, 0.75, 0.5], rate 2",
            {
                "multipliers": torch.tensor([2.0, 1, 0.1]),
                "measured": torch.tensor([0.5, 1, 0.9]),
                "levels": torch.tensor([0.75, 0.75, 0.5]),
                "rate": 2.0,
            },
            "2 + 2 * 0.25; 1 - 2 * 0.25; 0.1 - 2 * 0.4 would be negative",
        ),
    ),
    random=_constraints,
    mistakes=mistakes_soup.DUAL_STEP,
    axes={"multipliers": "b", "measured": "b", "levels": "b"},
    edges=(
        Edge(
            "stuck_at_zero",
            Case(
                "multipliers [0, 0], measured [0.5, 1], levels [0.75, 0.75], rate 2",
                {
                    "multipliers": torch.zeros(2),
                    "measured": torch.tensor([0.5, 1]),
                    "levels": torch.tensor([0.75, 0.75]),
                    "rate": 2.0,
                },
                "the first constraint is broken: 0 + 2 * 0.25",
            ),
            "A multiplier at 0 has to rise again when its constraint is violated.",
            ("return -> return (multipliers > 0) *",),
        ),
    ),
)
