"""Week 10's figures on what a head sees: AUC on planted wrong additions, and choice on a hard task.

`auc_rows` reads data/results/week10/heads.json; `natural_rows`, `hard_choice` and `hard_gains` read
hard.json; the plots take their frames. An AUC's interval resamples held-out sums, a right step
together with its planted twin, and averages the seeds first; the seeds are drawn as strokes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from postlab.claims import INK, STAGE_COLOURS
from postlab.course.recorded import numbers
from postlab.show import GREY, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

RESAMPLES = 1000
HEADS = {  # name in the record: how it is called, its kind
    "lesson's recipe, 3 or 4 terms": ("the lesson's head, 3 or 4 terms", "lesson"),
    "lesson's recipe, 5 or 6 terms": ("the lesson's head, 5 or 6 terms", "lesson"),
    "linear, last layer, 2000": ("frozen, linear, 2,000 labels", "frozen"),
    "larger head, last layer, 2000": ("frozen, larger head, 2,000", "frozen"),
    "larger head, all layers, 2000": ("frozen, all layers, 2,000", "frozen"),
    "larger head, the step's tokens, 2000": ("frozen, the step's tokens, 2,000", "frozen"),
    "digits, 2000": ("the step's digits, 2,000", "digits"),
    "digits, 8000": ("the step's digits, 8,000", "digits"),
    "digits, 32000": ("the step's digits, 32,000", "digits"),
    "single digits, 2000": ("single-digit steps, 2,000", "digits"),
    "single digits, 8000": ("single-digit steps, 8,000", "digits"),
    "log-probability, 0": ("the policy's log-prob, no labels", "policy"),
}
COLOURS = {
    "lesson": STAGE_COLOURS["prm"], "frozen": GREY, "digits": STAGE_COLOURS["grpo"],
    "policy": STAGE_COLOURS["sft"],
}  # fmt: skip
CHOICES = {  # selector: how it is called, colour
    "oracle": ("oracle of steps", STAGE_COLOURS["grpo"]),
    "vote by digits": ("vote by digits", STAGE_COLOURS["cai"]),
    "digits": ("digits, lowest step", STAGE_COLOURS["multi"]),
    "digits, then log-prob": ("digits, then log-prob", STAGE_COLOURS["dpo"]),
    "log-prob, lowest step": ("log-prob, lowest step", STAGE_COLOURS["sft"]),
    "majority": ("majority", STAGE_COLOURS["base"]),
}


def auc(right: ArrayLike, wrong: ArrayLike) -> NDArray[np.float64]:
    """(n, m) 1 where a right step scores above a wrong one, 0.5 for a tie: its mean is the AUC.

    >>> float(auc([0.9, 0.5], [0.5, 0.1]).mean())
    0.875
    """
    gaps = np.asarray(right, dtype=float)[:, None] - np.asarray(wrong, dtype=float)[None, :]
    return np.heaviside(gaps, 0.5)


def auc_rows(runs: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The AUC of each head on planted steps of held-out sums, with a 95% interval.

    The AUC compares each right step with the planted ones of *all* sums. `twins` compares it with
    its own planted version only: it is higher if a head's scores differ from sum to sum.

    Args:
        runs: of the record, with `scores`: name -> `right` and `wrong`, in the order of the sums.
    Returns:
        A row a head, in the order of `HEADS`: head, auc, low, high, twins (the share of sums whose
        right step scores above its planted version, ties half), seeds (an AUC each), kind.
    """
    import pandas as pd

    wins: dict[str, list[NDArray]] = {}
    for run in runs:
        for name, scores in run["scores"].items():
            pair = (numbers(scores[part]) for part in ("right", "wrong"))
            wins.setdefault(name, []).append(auc(*pair))
    rows = []
    for name, (about, kind) in HEADS.items():
        if name not in wins:
            continue
        mean = np.mean(wins[name], axis=0)
        size = len(mean)
        draws = np.random.default_rng(0).multinomial(size, np.full(size, 1 / size), RESAMPLES)
        means = np.einsum("ri,ij,rj->r", draws, mean, draws, optimize=True) / size**2
        low, high = np.quantile(means, (0.025, 0.975))
        row = {"head": about, "auc": mean.mean(), "low": low, "high": high}
        row |= {"twins": mean.diagonal().mean()}
        rows.append(row | {"seeds": [float(one.mean()) for one in wins[name]], "kind": kind})
    return pd.DataFrame(rows)


def natural_rows(runs: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The AUC on the policy's own wrong additions, with the seeds' replies together.

    Args:
        runs: with `natural`: head -> the scores of `right` and of `wrong` additions.
    Returns:
        A row a head: head, auc, low, high, and how many right and wrong additions there are. The
        interval resamples the wrong ones, which are few.
    """
    import pandas as pd

    kept, rows = [run["natural"] for run in runs], []
    for name in kept[0]:
        right, wrong = (
            np.concatenate([numbers(one[name][kind]) for one in kept])
            for kind in ("right", "wrong")
        )
        # For every wrong step, the share of right ones above it; ties count half.
        order = np.sort(right)
        first, last = (np.searchsorted(order, wrong, side=side) for side in ("left", "right"))
        above = 1 - (first + last) / 2 / len(order)
        luck = np.random.default_rng(0)
        means = [luck.choice(above, len(above)).mean() for _ in range(RESAMPLES)]
        low, high = np.quantile(means, (0.025, 0.975))
        row = {"head": name, "auc": above.mean(), "low": low, "high": high}
        rows.append(row | {"right additions": len(right), "wrong additions": len(wrong)})
    return pd.DataFrame(rows)


def hard_choice(runs: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Accuracy over n on the hard task, the seeds averaged per prompt, with 95% intervals.

    Args:
        runs: with `accuracy`: selector -> n -> a number per prompt.
    Returns:
        Rows of selector, n, value, low, high.
    """
    import pandas as pd

    from postlab.stats import bootstrap_interval

    kept, rows = [run["accuracy"] for run in runs], []
    for name in kept[0]:
        for n in kept[0][name]:
            found = bootstrap_interval(np.mean([numbers(one[name][n]) for one in kept], axis=0))
            row = {"selector": name, "n": int(n), "value": found.value}
            rows.append(row | {"low": found.low, "high": found.high})
    return pd.DataFrame(rows)


def hard_gains(runs: Iterable[Mapping[str, Any]], *, greedy: Sequence[float]) -> pd.DataFrame:
    """What each selector of the most replies gains over the majority, paired on the prompts.

    Args:
        runs: as for `hard_choice`.
        greedy: whether each prompt's greedy answer is right.
    Returns:
        A row a selector, in percent and points: right, points, low, high, p and p corrected (Holm),
        and each seed's points.
    """
    import pandas as pd

    from postlab.stats import holm, paired_difference

    kept = [run["accuracy"] for run in runs]
    most = max(kept[0]["majority"], key=int)
    table = {name: np.array([numbers(one[name][most]) for one in kept]) for name in kept[0]}
    table["one greedy answer"] = np.tile(numbers(greedy), (len(kept), 1))
    base, rows = table.pop("majority"), []
    for name, values in table.items():
        change = paired_difference(base.mean(axis=0), values.mean(axis=0))
        row = {"selector": name, "right": 100 * values.mean(), "points": 100 * change.difference}
        row |= {"low": 100 * change.low, "high": 100 * change.high, "p": change.p}
        seeds = 100 * (values - base).mean(axis=1)
        rows.append(row | {"seeds": ", ".join(f"{x:+.0f}" for x in seeds)})
    frame = pd.DataFrame(rows).set_index("selector")
    frame.insert(5, "p, all", holm(frame["p"]))
    return frame.sort_values("points", ascending=False)


def plot_auc(frame: pd.DataFrame) -> Figure:
    """Draw each head's AUC with its interval and a stroke per seed.

    Args:
        frame: of `auc_rows`.
    """
    fig, (panel,) = panels(1, 1, (9.5, 1.4 + 0.33 * len(frame)))
    for place, row in enumerate(frame.to_dict("records")):
        colour = COLOURS[row["kind"]]
        panel.hlines(place, row["low"], row["high"], color=colour, linewidth=4, alpha=0.5)
        panel.plot(row["seeds"], [place] * len(row["seeds"]), "|", color=colour, markersize=9)
        panel.plot(row["auc"], place, "o", color=colour, markersize=7)
    panel.axvline(0.5, color=GREY, linewidth=1)
    panel.text(0.5, -0.9, " chance", color=GREY, size=11)
    panel.set_yticks(range(len(frame)), frame["head"], size=11)
    panel.set_ylim(len(frame) - 0.5, -1.4)
    panel.set_xlim(0.38, 1.02)
    panel.grid(visible=False, axis="y")
    panel.grid(visible=True, axis="x", color="#e6e6e6")
    panel.set_xlabel("AUC: right steps above planted wrong additions", color=INK)
    named = frame.set_index("head")["auc"]
    parts = [
        f"{named[about]:.2f} {words}"
        for about, words in (
            (HEADS["lesson's recipe, 3 or 4 terms"][0], "for the lesson's head"),
            (HEADS["digits, 32000"][0], "for one that reads digits, with 32,000 labels"),
            (HEADS["log-probability, 0"][0], "for the policy's own log-probability"),
        )
        if about in named
    ]
    return headline(fig, f"AUC on wrong additions: {', '.join(parts)}")


def plot_hard_choice(frame: pd.DataFrame, *, greedy: Sequence[float] = ()) -> Figure:
    """Draw accuracy over n on the hard task, a curve per selector.

    Args:
        frame: of `hard_choice`.
        greedy: whether each prompt's greedy answer is right; drawn as a line.
    """
    from postlab.course.week10.figures import apart

    fig, (panel,) = panels(1, 1, (9.5, 4.8))
    ends = {}
    for name, (about, colour) in CHOICES.items():
        rows = frame[frame["selector"] == name].sort_values("n")
        if rows.empty:
            continue
        low, high, value = (100 * rows[part] for part in ("low", "high", "value"))
        panel.fill_between(rows["n"], low, high, color=colour, alpha=0.1, lw=0)
        panel.plot(rows["n"], value, "o-", color=colour, linewidth=2.2, markersize=5)
        ends[about] = (value.iloc[-1], colour)
    if len(greedy):
        level = 100 * float(np.mean(greedy))
        panel.plot((0.9, 16.5), (level, level), color=GREY, linewidth=1, linestyle="--")
        panel.text(1, level + 1.5, "one greedy answer", color=GREY, size=11)
    for (about, (_, colour)), place in zip(
        ends.items(), apart([value for value, _ in ends.values()], 5.5), strict=True
    ):
        panel.text(17.5, place, about, color=colour, va="center", size=11.5)
    panel.set_xscale("log", base=2)
    ticks = sorted(frame["n"].unique())
    panel.set_xticks(ticks, [str(n) for n in ticks])
    panel.set_xlim(0.9, 42)
    panel.set_ylim(0, 102)
    panel.set_xlabel("replies to choose from, n", color=INK)
    panel.set_ylabel("held-out prompts right, %", color=INK)
    at = frame[frame["n"] == max(ticks)].set_index("selector")["value"]
    parts = [
        f"{100 * at['digits']:.0f}% right by the digits' head alone",
        f"{100 * at['majority']:.0f}% by the majority",
        f"{100 * at['vote by digits']:.0f}% by the vote that the head weights",
    ]
    return headline(fig, f"{max(ticks)} replies to hard sums: {', '.join(parts)}")
