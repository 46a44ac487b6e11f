"""Week 2's figures say in their titles what is drawn, and leave nothing open."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from postlab.course.week02 import figures


@pytest.fixture(autouse=True)
def _nothing_left_open():
    yield
    assert plt.get_fignums() == []


def title(figure) -> str:
    return " ".join(figure.get_suptitle().split())  # a long title is wrapped


def test_codebook_title_counts_bits():
    scaled = np.tile([-1.0, 1.0], 32)  # two of the codes, equally often: one bit
    even, coarse = np.linspace(-1, 1, 16), np.linspace(-0.1, 1, 16)
    found = title(figures.plot_codebook(scaled, {"even": even, "coarse": coarse}))
    assert found == "A 4-bit code carries 1.00 bits with even and 1.00 bits with coarse"


def test_block_error_title_compares_at_64():
    rows = [("NF4", 64, 4.5, 0.09, False), ("NF4", 32, 5.0, 0.08, False)]
    rows += [("even steps", 64, 4.5, 0.1, False), ("NF4", 64, 4.127, 0.09, True)]
    frame = pd.DataFrame(rows, columns=["codebook", "block", "bits", "error", "double"])
    found = title(figures.plot_block_error(frame))
    assert found == (
        "In blocks of 64, NF4's error is 10% smaller than that of even steps; "
        "double quantisation saves 0.37 bits per weight"
    )


def test_losses_title_names_the_lowest_end():
    curves = {"full": [2.0] * 20, "lora-8": [3.0] * 10 + [1.0] * 10}
    assert title(figures.plot_losses(curves)) == "LoRA 8 ends at the lowest loss, 1.00"


def test_learning_rates_title_names_the_optima():
    rows = [
        ("full", 0.001, 1.0),
        ("full", 0.01, 2.0),
        ("lora-1", 0.001, 2.0),
        ("lora-1", 0.01, 1.0),
    ]
    rows += [("lora-8", 0.001, 2.0), ("lora-8", 0.0032, 1.0), ("qlora-16", 0.1, 0.5)]
    frame = pd.DataFrame(rows, columns=["method", "lr", "loss"])
    found = title(figures.plot_learning_rates(frame))
    assert found == "Full fine-tuning learns best at 0.001, LoRA at 0.0032 to 0.01"
    both = pd.concat([frame.assign(panel="a"), frame.assign(panel="b")])
    assert len(figures.plot_learning_rates(both, title="mine").axes) == 2


def test_quality_title_compares_the_ends():
    rows = [
        ("full", 1000, 0.80, 0.7, 0.9, [0.8]),
        ("lora-1", 10, 0.60, 0.5, 0.7, [0.5, 0.7]),
        ("lora-8", 80, 0.75, 0.7, 0.8, [0.75]),
        ("qlora-8", 80, 0.70, 0.6, 0.8, [0.7]),
    ]
    columns = ["method", "trainable", "value", "low", "high", "seeds"]
    found = title(figures.plot_quality(pd.DataFrame(rows, columns=columns)))
    assert found == (
        "LoRA gets 60% right with 1.0% of the parameters, 75% with 8%; full fine-tuning 80%"
    )


def test_memory_draws_every_part_and_limit():
    frame = pd.DataFrame({"weights": [1.0, 2.0], "rest": [3.0, 4.0]}, index=["a", "b"])
    axes = figures.plot_memory(frame, unit="GiB", title="t", limits=[("card", 5)]).axes[0]
    tops = sorted(bar.get_y() + bar.get_height() for bar in axes.patches)
    assert tops == [1.0, 2.0, 4.0, 6.0]
    assert {"card", "4", "6"} <= {text.get_text() for text in axes.texts}


def test_ranks_have_colours_of_their_own():
    shades = {figures.colour_of(f"lora-{2**i}") for i in range(7)}
    assert len(shades) == 7 and figures.colour_of("qlora-16") == figures.METHOD_COLOURS["qlora"]
    assert figures.label_of("lora-8") == "LoRA 8" and figures.label_of("fixed-4") == "r = 4"


def test_first_step_title_compares_the_ends_of_each_line():
    moved = pd.DataFrame({"flat": [1.0, 1.0, 1.0], "steep": [1.0, 2.0, 8.0]}, index=[1, 8, 64])
    found = title(figures.plot_first_step(moved))
    assert found == (
        "From rank 1 to 64, the first step changes by a factor of "
        "1.0 under flat and 8.0 under steep"
    )


def test_merges_are_drawn_in_percent_and_named():
    rows = {"answers changed": [0.0, 0.25], "low": [0.0, 0.2], "high": [0.05, 0.3]}
    figure = figures.plot_merges(pd.DataFrame(rows, index=["one", "two"]))
    assert title(figure) == "Share of answers that the merge changes: 0% (one), 25% (two)"
    assert list(figure.axes[0].lines[-1].get_xdata()) == [0.0, 25.0]


def test_scalings_have_a_panel_each_and_name_the_best_rates():
    rows = [("full", 0.5, 0.0)]
    rows += [(f"fixed-{r}", lr, abs(lr - r / 100)) for r in (4, 16) for lr in (0.04, 0.16)]
    rows += [(f"rslora-{r}", lr, lr) for r in (4, 16) for lr in (0.04, 0.16)]
    figure = figures.plot_scalings(pd.DataFrame(rows, columns=["method", "lr", "loss"]))
    assert title(figure) == (
        "From rank 4 to 16, the best rate goes from 0.04 to 0.16 under alpha / r "
        "and stays at 0.04 under alpha / sqrt(r)"
    )
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["alpha / r", "alpha / sqrt(r)"]


def test_rl_shows_the_shortest_sweep_and_a_dot_per_seed():
    methods = ("full", "lora-16", "lora-1")
    trials = [
        (steps, method, rate, 10.0 * steps + 100 * rate)
        for steps in (2, 5)
        for method in methods
        for rate in (0.2, 0.1)
    ]
    finals = [(steps, method, 50.0 + seed) for steps in (2, 5) for method in methods
              for seed in (0, 1, 2)]  # fmt: skip
    figure = figures.plot_rl(
        pd.DataFrame(trials, columns=["steps", "method", "rate", "right"]),
        pd.DataFrame(finals, columns=["steps", "method", "right"]),
        title="said",
    )
    left, right = figure.axes
    assert [list(line.get_ydata()) for line in left.lines] == [[30.0, 40.0]] * 3
    dots = [list(line.get_ydata()) for line in right.lines if line.get_linestyle() == "None"]
    assert dots == [[50.0, 51.0, 52.0]] * 6
    assert title(figure) == "said"


def test_step_memory_compares_totals_and_what_is_held_without_activations():
    parts = pd.DataFrame(
        {
            "weights": [4.0, 4.0, 1.0],
            "optimizer": [6.0, 1.0, 1.0],
            "activations": [10.0, 10.0, 3.0],
        },
        index=["full", "lora-16", "qlora-16"],
    )
    figure = figures.plot_step_memory(parts, {"full": 0.01, "lora-16": 0.02, "qlora-16": 0.5})
    assert title(figure) == (
        "LoRA 16 saves 25% of a step's memory and QLoRA 16 75%; "
        "without activations it would be 50% and 80%"
    )
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert names[2] == "qlora-16\n500 ms per step"
