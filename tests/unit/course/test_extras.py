"""The extras' helpers: rounded weights, importance weights, and figures."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch

from postlab.course.extras import (
    draw_two_copies,
    draw_who_scores,
    fake_quantised,
    importance_weights,
    plot_curves,
    plot_verdict,
)

LOG = math.log


def test_a_row_is_rounded_by_its_own_scale():
    weight = torch.tensor([[1.0, 0.4, -0.6], [10.0, 4.0, -6.0], [0.0, 0.0, 0.0]])
    rounded = fake_quantised(weight, 2)
    assert rounded.tolist() == [[1.0, 0.0, -1.0], [10.0, 0.0, -10.0], [0.0, 0.0, 0.0]]


def test_each_bit_halves_the_largest_error():
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    most = weight.abs().amax(dim=1, keepdim=True)
    for bits in (3, 4, 8):
        step = most / (2 ** (bits - 1) - 1)
        assert ((fake_quantised(weight, bits) - weight).abs() <= step / 2 + 1e-6).all()


# Two answers: ratios 3 and 1/2 (their product 1.5), and 4 with padding behind it.
RATIOS = torch.tensor([[LOG(3.0), LOG(0.5)], [LOG(4.0), LOG(9.0)]])
MASK = torch.tensor([[1.0, 1.0], [1.0, 0.0]])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("token_truncate", [[2.0, 0.5], [2.0, 1.0]]),
        ("token_mask", [[0.0, 0.5], [0.0, 1.0]]),
        ("sequence_truncate", [[1.5], [2.0]]),
        ("sequence_mask", [[1.5], [0.0]]),
    ],
)
def test_weights_by_hand(mode: str, expected: list):
    weights = importance_weights(RATIOS, MASK, mode, 2.0)
    torch.testing.assert_close(weights, torch.tensor(expected))


def test_an_unknown_mode_is_named():
    with pytest.raises(ValueError, match="'token'; expected one of token_truncate"):
        importance_weights(RATIOS, MASK, "token", 2.0)


def title(fig) -> str:
    return " ".join(fig.get_suptitle().split())


def test_the_verdict_names_the_token_with_the_largest_share():
    assert title(plot_verdict(["#", "5", "8"], [3.0, 0.5, 0.5])).startswith("Token 1 of 3 gets 75%")


def test_the_curves_say_when_the_mean_over_seeds_gets_there():
    rows = [
        {"arm": arm, "seed": seed, "step": step, "tokens": tokens, "passes": tokens, "accuracy": a}
        for arm, accuracies in {"GRPO": (0.5, 0.9), "reverse KL": (0.94, 1.0)}.items()
        for seed in (0, 1)
        for step, (tokens, a) in enumerate(zip((1.0, 2.0), accuracies, strict=True))
    ]
    assert title(plot_curves(pd.DataFrame(rows))).endswith("GRPO never, reverse KL 2.0")


@pytest.mark.parametrize("draw", [draw_who_scores, draw_two_copies])
def test_pictures_fit_a_phone(draw):
    assert draw().get_size_inches()[0] <= 7
