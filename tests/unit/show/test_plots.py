"""What the figures say and draw; that they look well was seen by eye."""

import math

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from matplotlib import colors as mcolors
from matplotlib import pyplot as plt

from postlab.show import plot_stages, plot_training

SHARES = {
    "format": (0.02, 0.99, 1.0, 0.98),
    "safety": (0.0, 0.4, 0.85, 0.84),
    "arithmetic": (0.01, 0.4, 0.41, 0.9),
    "over_refusal": (0.0, 0.1, 0.05, 0.06),
}


def rows(seeds=(0,), shares=SHARES, stages=("base", "sft", "dpo", "grpo")):
    """A made-up comparison: a change of five points and more is supported."""
    rng, found = np.random.default_rng(0), []
    tables = shares | {"length": (40.0, 12.0, 20.0, 35.0), "kl": (math.nan, 20.0, 5.0, 8.0)}
    for seed in seeds:
        for metric, values in tables.items():
            before = math.nan
            for stage, value in zip(stages, values, strict=False):
                value += 0.01 * rng.random() if len(seeds) > 1 else 0.0
                change = value - before if metric != "kl" else math.nan
                found.append(
                    {"stage": stage, "seed": seed, "metric": metric, "n": 200, "value": value}
                    | {"low": value - 0.04, "high": value + 0.04, "difference": change}
                    | {"difference_low": change - 0.05, "difference_high": change + 0.05}
                    | {"p": 0.001}
                )
                before = value
    return found


def words(figure):
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def panel(figure, title):
    return next(axes for axes in figure.axes if axes.get_title(loc="left") == title)


def test_title_is_the_finding_and_follows_the_numbers():
    text = words(plot_stages(rows()))
    assert "SFT: chat format +97 points, at a cost: over-refusal +10" in text
    assert "DPO: safety +45 points" in text
    assert "GRPO: arithmetic, greedy +49 points" in text
    flat = rows(shares={"safety": (0.3, 0.31, 0.32, 0.31)})
    assert "DPO: inconclusive, no change is supported" in words(plot_stages(flat))


def test_each_metric_has_a_panel_with_units_values_and_stages():
    figure = plot_stages(rows())
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:3] == ["Chat format", "Safety", "Arithmetic, greedy"]
    assert {"Answer length", "KL from its start", "Over-refusal"} <= set(titles)
    safety = panel(figure, "Safety")
    assert [t.get_text() for t in safety.get_xticklabels()] == ["base", "SFT", "DPO", "GRPO"]
    assert [t.get_text() for t in safety.get_yticklabels()] == ["0%", "50%", "100%"]
    shown = {t.get_text() for t in safety.texts}
    assert {"0%", "40%", "85%", "84%", "unsafe requests, refused"} <= shown


def test_points_intervals_and_colours_are_the_data():
    safety = panel(plot_stages(rows()), "Safety")
    boxes = [(p.get_y(), p.get_y() + p.get_height()) for p in safety.patches]
    assert boxes[1] == pytest.approx((36.0, 44.0))
    points = [line for line in safety.lines if line.get_marker() == "o"]
    assert [line.get_ydata()[0] for line in points] == pytest.approx([0.0, 40.0, 85.0, 84.0])
    expected = ["#7f7f7f", "#0072B2", "#E69F00", "#009E73"]
    assert [mcolors.to_hex(line.get_color()).upper() for line in points] == [
        c.upper() for c in expected
    ]


def test_only_supported_changes_are_solid():
    safety = panel(plot_stages(rows()), "Safety")
    joins = [line.get_linestyle() for line in safety.lines if line.get_marker() == "None"]
    assert joins == ["-", "-", "--"]  # matplotlib calls any dash pattern "--"
    kl = panel(plot_stages(rows()), "KL from its start")
    assert not [line for line in kl.lines if line.get_marker() == "None"]


def test_a_stage_is_joined_to_its_parent():
    parents = {"base": None, "sft": "base", "dpo": "sft", "grpo": "sft"}
    table = [r | {"parent": parents[r["stage"]]} for r in rows()]
    safety = panel(plot_stages(table), "Safety")
    joins = [tuple(line.get_xdata()) for line in safety.lines if line.get_marker() == "None"]
    assert joins == [(0, 1), (1, 2), (1, 3)]


def test_footer_is_for_tiny_only():
    assert "Mechanism, not capability" in words(plot_stages(rows(), profile="tiny"))
    assert "Mechanism" not in words(plot_stages(rows(), profile="smol"))


def test_seeds_are_dots_beside_their_mean():
    figure = plot_stages(pd.DataFrame(rows(seeds=(0, 1, 2))))
    dots = [line for line in panel(figure, "Safety").lines if len(line.get_ydata()) == 3]
    assert len(dots) == 4
    assert "each of 3 seeds" in words(figure)
    assert "seeds" not in words(plot_stages(rows()))


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_a_copied_value_is_hollow_and_has_no_interval_line_or_seeds(seeds):
    table = [
        r | {"copied": r["stage"] == "grpo" and r["metric"] == "safety"} for r in rows(seeds=seeds)
    ]
    figure = plot_stages(pd.DataFrame(table))
    safety, others = panel(figure, "Safety"), panel(figure, "Arithmetic, greedy")
    assert (len(safety.patches), len(others.patches)) == (3, 4)
    hollow = [line for line in safety.lines if line.get_markerfacecolor() == "white"]
    assert [tuple(line.get_xdata()) for line in hollow] == [(3,)]
    assert not [line for line in others.lines if line.get_markerfacecolor() == "white"]
    joins = [tuple(line.get_xdata()) for line in safety.lines if line.get_marker() == "None"]
    assert joins == [(0, 1), (1, 2)]
    assert max(max(line.get_xdata()) for line in safety.lines) == 3  # no seed's dot beside it
    assert "84%" in {t.get_text() for t in safety.texts}
    assert "copied from its parent" in words(figure)
    assert "copied" not in words(plot_stages(rows(seeds=seeds)))


def test_the_key_says_what_a_dotted_line_means_over_the_seeds():
    agreed = rows(seeds=(0, 1, 2), shares={"safety": SHARES["safety"]})
    disputed = [
        r | {"p": 0.5} if (r["seed"], r["stage"], r["metric"]) == (1, "dpo", "safety") else r
        for r in agreed
    ]
    assert "not by every seed" in words(plot_stages(disputed))
    text = words(plot_stages(agreed))
    assert "inconclusive" in text and "every seed" not in text
    fewer = [r for r in agreed if r["stage"] != "grpo" or r["seed"] == 0]
    assert "each of 1 to 3 seeds" in words(plot_stages(fewer))


def test_a_metric_without_values_is_named_not_measured():
    table = [r if r["metric"] != "safety" else r | {"value": math.nan} for r in rows()]
    assert "not measured" in [t.get_text() for t in panel(plot_stages(table), "Safety").texts]


def test_one_stage_alone_is_drawn_and_claims_nothing():
    alone = [r for r in rows() if r["stage"] == "base"]
    assert "base: measured, compared with nothing yet" in words(plot_stages(alone))
    made_up = rows(shares={"politeness": (0.2, 0.5, 0.6, 0.6)})
    own = [row for row in made_up if row["metric"] == "politeness"]
    assert "which way is better isn't known" in words(plot_stages(own))


@pytest.mark.parametrize("name", ["$\\frac{$", "a$b$c", "\\alpha_{", "100%"])
def test_a_name_is_drawn_letter_for_letter(name):
    table = [r | {"metric": name if r["metric"] == "safety" else r["metric"]} for r in rows()]
    figure = plot_stages(table)
    figure.canvas.draw()  # mathematics is read here
    assert name.capitalize().replace("_", " ") in words(figure)
    log = [{"step": step, "loss": 1.0} for step in range(3)]
    plot_training(log, name).canvas.draw()
    assert matplotlib.rcParams["text.parse_math"]


@pytest.mark.parametrize("columns", [2, 3])
def test_no_text_leaves_the_picture_or_runs_into_the_next_panel(columns):
    table = [r | {"copied": r["stage"] == "grpo"} for r in rows(seeds=(0, 1, 2))]
    table[-6]["p"] = 0.5  # with seeds that disagree the key is longest
    figure = plot_stages(table, profile="tiny", columns=columns)
    assert "not by every seed" in words(figure)
    figure.canvas.draw()
    frame = figure.bbox
    for text in figure.findobj(matplotlib.text.Text):
        if text.get_visible() and text.get_text():
            box = text.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= frame.x1 + 1, text.get_text()
            assert box.y0 >= 0 and box.y1 <= frame.y1 + 1, text.get_text()
    assert frame.width == pytest.approx(1000 if columns == 3 else 667, abs=1)


def test_nothing_is_left_open_in_pyplot():
    plot_stages(rows())
    plot_training([{"step": 1, "loss": 2.0}], "sft")
    assert plt.get_fignums() == []


def test_no_rows_is_an_error():
    with pytest.raises(ValueError, match="expected rows of evals.compare"):
        plot_stages([])


# --- a trainer's log ---


def test_sft_log_shows_loss_from_where_to_where():
    log = [{"step": s, "loss": 3.0 - 0.02 * s} for s in range(1, 101)]
    log += [{"step": 100, "eval_loss": 1.1}, {"step": 100, "train_loss": 2.0}]
    figure = plot_training(log, "sft")
    # means of steps 1-10 and 91-100: 3 - 0.02 * 5.5 and 3 - 0.02 * 95.5
    assert "SFT: loss 2.89 → 1.09 in 100 steps" in words(figure)
    assert "held out" in words(figure)
    assert figure.axes[0].get_xlabel() == "optimiser step"


def test_dpo_log_shows_margins_and_both_log_probs():
    log = [
        {"step": s, "loss": 0.6, "rewards/margins": 0.1 * s, "logps/chosen": -20.0 - s}
        | {"logps/rejected": -20.0 - 3 * s}
        for s in range(1, 11)
    ]
    figure = plot_training(log, "dpo")
    assert "margin 0.10 → 1.00, chosen logps −21.0 → −30.0 nats in 10 steps" in words(figure)
    assert {"chosen", "rejected"} <= set(words(figure).split("\n"))


def test_what_grpo_did_not_log_has_no_panel_and_nan_is_left_out():
    log = [
        {"step": s, "reward": 0.5, "completions/mean_length": 20.0, "frac_reward_zero_std": 0.25}
        | {"entropy": 0.1}
        for s in range(1, 11)
    ]
    log[3]["reward"] = math.nan
    figure = plot_training(log, "grpo")
    assert "GRPO: reward stayed at 0.50, length stayed at 20 tokens in 10 steps" in words(figure)
    assert len(figure.axes) == 4 and "KL" not in words(figure)
    assert "entropy, nats per token" in words(figure)
    with_kl = plot_training([entry | {"kl": 0.01} for entry in log], "grpo")
    assert len(with_kl.axes) == 5 and "KL to the reference" in words(with_kl)


def test_an_empty_log_says_what_was_expected():
    for log in ([], [{"train_runtime": 3.0}]):
        with pytest.raises(ValueError, match="logging_steps > 0"):
            plot_training(log, "sft")
