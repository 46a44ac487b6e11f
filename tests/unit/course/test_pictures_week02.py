"""Week 2's pictures of ideas: their numbers are those handed over, and bars add up."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from postlab.course.week02 import draw_adapter, draw_memory, draw_nf4


@pytest.fixture(autouse=True)
def _nothing_left_open():
    yield
    assert plt.get_fignums() == []


def title(figure) -> str:
    return " ".join(figure.get_suptitle().split())


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_an_adapter_counts_what_is_trained_and_what_is_frozen():
    figure = draw_adapter(10, 30, 2)  # 2 (10 + 30) beside 10 * 30
    assert title(figure) == "At rank 2, LoRA trains 80 numbers beside 300 frozen ones"
    assert "W\n10 × 30" in texts(figure)


def test_a_block_shows_weights_scale_levels_and_codes():
    weights = np.array([0.5, -1.0, 0.0, 2.0] * 4)  # the largest is 2
    codebook = np.linspace(-1, 1, 16)
    codes = np.abs(weights[:, None] / 2 - codebook).argmin(1)
    figure = draw_nf4(weights, codes, codebook)
    assert title(figure) == "NF4 stores 16 weights as 16 four-bit codes and one scale"
    shown = texts(figure)
    assert "÷ 2.000" in shown and "0.25" in shown and "-0.50" in shown
    assert f"{codes[0]:04b}" in shown and "1111" in shown


def test_the_parts_of_a_bar_add_up_to_its_total_as_written():
    parts = pd.DataFrame(
        {"weights": [27.04, 3.85], "gradients": [27.04, 0.08], "optimizer": [54.04, 0.16],
         "activations": [0.94, 0.54]}, index=["full", "QLoRA"],
    )  # fmt: skip
    figure = draw_memory(parts, "Memory, activations included", cards=[("T4", 15.0)])
    written = texts(figure)
    for way in parts.index:
        place = next(i for i, text in enumerate(written) if text.startswith(f"{way}: "))
        total = float(re.findall(r"[\d.]+", written[place])[0])
        addends = [float(x) for x in re.findall(r"\d+\.\d", written[place + 1])]
        assert total == pytest.approx(sum(addends)) and len(addends) == 4
    assert "T4" in written
