"""Week 10's figures: what a choice among n is worth, and who finds the first wrong step.

`gains` and `found_errors` read data/results/week10/prm.json; the others take frames and
return a closed figure; titles are computed from what is drawn. Left out: spread between seeds,
beyond the thin lines and strokes that show each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.claims import INK, STAGE_COLOURS
from postlab.course.recorded import numbers
from postlab.show import GREY, PALE, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SELECTORS = {  # selector: how it is called, colour
    "oracle": ("oracle", STAGE_COLOURS["grpo"]),
    "process, min": ("process, min", STAGE_COLOURS["prm"]),
    "rollouts, min": ("rollouts, min", STAGE_COLOURS["sft"]),
    "outcome, last": ("outcome", STAGE_COLOURS["dpo"]),
    "vote by process, min": ("weighted vote", STAGE_COLOURS["cai"]),
    "majority": ("majority", STAGE_COLOURS["base"]),
}
GAP = 0.035  # between two labels at the end of curves, of the axis
RESAMPLES = 1000


def gains(
    by_prompt: Mapping[str, Sequence[Sequence[float]]],
    names: Sequence[str],
    *,
    over: str = "majority",
) -> pd.DataFrame:
    """How many points a selector's accuracy lies above another's, on the same prompts.

    Args:
        by_prompt: selector -> a list per seed, one number per prompt; a prompt's seeds are averaged
            first.
        names: which to compare with `over`.
    Returns:
        A row a selector: selector, value (%), points, low, high, p, seeds (points each).
    """
    import pandas as pd

    from postlab.stats import paired_difference

    base = np.array([numbers(scores) for scores in by_prompt[over]])
    rows = []
    for name in names:
        seeds = np.array([numbers(scores) for scores in by_prompt[name]])
        change = paired_difference(base.mean(axis=0), seeds.mean(axis=0))
        row = {"selector": name, "value": 100 * seeds.mean(), "points": 100 * change.difference}
        row |= {"low": 100 * change.low, "high": 100 * change.high, "p": change.p}
        rows.append(row | {"seeds": list(100 * (seeds - base).mean(axis=1))})
    return pd.DataFrame(rows)


def form_only(runs: Iterable[Mapping[str, Any]], terms: Sequence[int]) -> list[list[float]]:
    """Accuracy of a choice that looks at the number of steps and at nothing else.

    It takes a random one of the replies with as many steps as the sum has terms (one per addition,
    and the answer); if a prompt has none, a random one of all. A reply counts as right if all its
    steps are.

    Args:
        runs: as for `found_errors`.
        terms: how many terms the prompts have, in turn.
    Returns:
        A list per run, one number per prompt, in the order of the prompts: as `gains` takes them.
    """
    accuracy = []
    for run in runs:
        prompts, sizes, truth = (numbers(run[k]) for k in ("prompts", "sizes", "truth"))
        found = []
        for prompt in np.unique(prompts):
            of_prompt = prompts == prompt
            formed = of_prompt & (sizes == terms[int(prompt) % len(terms)])
            members = formed if formed.any() else of_prompt
            found.append(float((truth[members] == -1).mean()))
        accuracy.append(found)
    return accuracy


def found_errors(runs: Iterable[Mapping[str, Any]], *, least: int = 1) -> pd.DataFrame:
    """ProcessBench's F1 of each finder, over the seeds' replies together, with a 95% interval.

    The interval resamples prompts: the replies to one prompt hang together. The outcome model's
    verdict has no place, so it is read twice: a reply that it calls wrong is wrong at its last
    step, or ('outcome, then first', from the same verdicts) at its first one.

    Args:
        runs: with `prompts` (the number of each reply's prompt), `truth`, `sizes` and `found`,
            lists of numbers, one per seed.
        least: steps a reply must have.
    Returns:
        A row a finder: finder, wrong, right, f1, low, high, replies, of which `slips` are wrong.
    """
    import pandas as pd

    runs = list(runs)
    columns = {
        k: np.concatenate([numbers(r[k]) for r in runs]) for k in ("prompts", "truth", "sizes")
    }
    enough = columns["sizes"] >= least
    truth, bad = columns["truth"][enough], columns["truth"][enough] != -1
    _, prompt = np.unique(columns["prompts"][enough], return_inverse=True)
    many = prompt.max() + 1
    draws = np.random.default_rng(0).multinomial(many, np.full(many, 1 / many), RESAMPLES)
    rows = []
    for name, verdict in _verdicts(runs).items():
        hit = verdict[enough] == truth
        counts = [  # (4, prompts): hits and replies, of wrong ones and of right ones
            np.bincount(prompt, weights=x, minlength=many)
            for x in (hit & bad, bad, hit & ~bad, ~bad)
        ]
        wrong, right, f1 = _f1(*(x.sum() for x in counts))
        low, high = np.quantile(_f1(*(draws @ x for x in counts))[2], (0.025, 0.975))
        row = {"finder": name, "wrong": float(wrong), "right": float(right), "f1": float(f1)}
        rows.append(row | {"low": low, "high": high, "replies": len(truth), "slips": bad.sum()})
    return pd.DataFrame(rows)


def hits_by_place(runs: Iterable[Mapping[str, Any]], *, least: int = 2) -> pd.DataFrame:
    """Of wrong replies, the share whose first wrong step is named, by the place of that step.

    Args:
        runs: as for `found_errors`.
        least: steps a reply must have.
    Returns:
        A row a place, counted from 0: `slips`, the wrong replies there, and a share a finder.
    Raises:
        ValueError: if no reply of so many steps is wrong.
    """
    import pandas as pd

    runs = list(runs)
    truth, sizes = (np.concatenate([numbers(run[k]) for run in runs]) for k in ("truth", "sizes"))
    wrong = (sizes >= least) & (truth >= 0)
    if not wrong.any():
        raise ValueError(
            f"none of {len(truth)} replies has {least} steps and is wrong; lower least"
        )
    rows, verdicts = [], _verdicts(runs)
    for place in np.unique(truth[wrong]):
        there = wrong & (truth == place)
        shares = {name: (verdict[there] == place).mean() for name, verdict in verdicts.items()}
        rows.append({"first wrong step": int(place), "slips": int(there.sum())} | shares)
    return pd.DataFrame(rows).set_index("first wrong step")


def _verdicts(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Finder -> the place it names in each reply, -1 for none; the outcome's at the first, too."""
    verdicts = {}
    for name in runs[0]["found"]:
        verdicts[name] = np.concatenate([numbers(run["found"][name]) for run in runs])
        if name == "outcome, then last":
            verdicts["outcome, then first"] = np.where(verdicts[name] == -1, -1, 0)
    return verdicts


def _f1(hits: Any, wrong: Any, passed: Any, right: Any) -> tuple[Any, Any, Any]:
    """The two shares and their harmonic mean, from counts; 0 where there is nothing to count."""
    one, two = hits / np.maximum(wrong, 1), passed / np.maximum(right, 1)
    return one, two, 2 * one * two / np.maximum(one + two, 1e-12)


def plot_choice(frame: pd.DataFrame, *, of: int = 16) -> Figure:
    """Draw accuracy over n, a curve per selector, with intervals over prompts.

    Args:
        frame: rows with `selector` (of SELECTORS), `n`, `value`, `low`, `high` from 0 to 1.
        of: the n whose accuracies the headline gives.
    """
    fig, (panel,) = panels(1, 1, (9.5, 4.6))
    ends = {}
    for name, (about, colour) in SELECTORS.items():
        rows = frame[frame["selector"] == name].sort_values("n")
        if rows.empty:
            continue
        panel.fill_between(
            rows["n"], 100 * rows["low"], 100 * rows["high"], color=colour, alpha=0.12, lw=0
        )
        panel.plot(rows["n"], 100 * rows["value"], "o-", color=colour, linewidth=2.2, markersize=5)
        ends[about] = (100 * rows["value"].iloc[-1], colour)
    most = frame["n"].max()
    places = apart([value for value, _ in ends.values()], 100 * GAP * 1.6)
    for (about, (_, colour)), place in zip(ends.items(), places, strict=True):
        panel.text(most * 1.1, place, about, color=colour, va="center", size=11.5)
    panel.set_xscale("log", base=2)
    ticks = sorted(frame["n"].unique())
    panel.set_xticks(ticks, [str(n) for n in ticks])
    panel.set_xlim(0.9, most * 2.6)
    panel.set_ylim(0, 102)
    panel.set_xlabel("replies to choose from, n", color=INK)
    panel.set_ylabel("held-out prompts right, %", color=INK)
    at = frame[frame["n"] == of].set_index("selector")["value"]
    titled = {
        "vote by process, min": "the weighted vote",
        "process, min": "best-of-n by the process model",
        "majority": "the majority",
    }
    first, *rest = [f"{titled[n]} {{}}on {100 * at[n]:.0f}%" for n in titled if n in at.index]
    parts = [first.format("is right ") + " of the prompts", *(x.format("") for x in rest)]
    return headline(fig, f"With {of} replies, {', '.join(parts)}")


def plot_errors(groups: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw each finder's F1 with its interval, a panel a group of replies.

    Args:
        groups: name of the group -> frame of `found_errors`.
    """
    fig, places = panels(1, len(groups), (10, 4.0), sharey=True)
    phrases = []
    for panel, (about, frame) in zip(places, groups.items(), strict=True):
        for place, row in enumerate(frame.to_dict("records")):
            colour = STAGE_COLOURS["prm"] if row["finder"] == "process" else GREY
            panel.hlines(place, row["low"], row["high"], color=colour, linewidth=4, alpha=0.5)
            panel.plot(row["f1"], place, "o", color=colour, markersize=8)
            panel.plot(row["wrong"], place, "x", color=PALE, markersize=7, markeredgewidth=2)
            panel.plot(row["right"], place, "+", color=PALE, markersize=9, markeredgewidth=2)
        panel.set_title(f"{about} ({frame['replies'].iloc[0]:,})", loc="left", size=12, color=INK)
        panel.set_yticks(range(len(frame)), frame["finder"], size=11)
        panel.set_ylim(len(frame) - 0.5, -0.5)
        panel.set_xlim(-0.04, 1.04)
        panel.grid(visible=False, axis="y")
        panel.grid(visible=True, axis="x", color="#e6e6e6")
        panel.set_xlabel("F1 (dot); accuracy on wrong (×), right (+)", color=INK)
        named = frame.set_index("finder")["f1"]
        phrases.append(f"{about} {named['process']:.2f} (random guesses {named['random']:.2f})")
    return headline(fig, f"The process model's F1 for the first wrong step: {', '.join(phrases)}")


def plot_step_scores(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the head's chance of every step of some solutions, wrong steps marked.

    Args:
        rows: with `completions`, `scores` (a chance a step) and `labels` (the oracle's).
    """
    most = max(len(row["completions"]) for row in rows)
    fig, (panel,) = panels(1, 1, (10, 0.9 + 0.52 * len(rows)))
    slips = caught = 0
    for place, row in enumerate(rows):
        steps = zip(row["completions"], row["scores"], row["labels"], strict=True)
        for column, (text, score, label) in enumerate(steps):
            panel.barh(
                place,
                0.94,
                left=column,
                height=0.8,
                color=STAGE_COLOURS["prm"],
                alpha=0.08 + 0.7 * score,
            )
            colour = INK if label else STAGE_COLOURS["multi"]
            shown = text if len(text) <= 16 else f"{text[:15]}\N{HORIZONTAL ELLIPSIS}"
            panel.text(
                column + 0.03, place, f"{shown.replace('$', '')}  {score:.2f}", va="center",
                size=10.5, color=colour, weight="normal" if label else "bold",
            )  # fmt: skip
        first = next((i for i, x in enumerate(row["labels"]) if not x), -1)
        slips += first >= 0
        caught += first >= 0 and row["scores"][first] < 0.5
    panel.set_xlim(0, max(most, 3))
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines["bottom"].set_visible(False)
    panel.grid(visible=False)
    return headline(
        fig, f"{caught} of {slips} first wrong steps score below 0.5 (wrong steps in bold)"
    )


def apart(values: Sequence[float], gap: float) -> list[float]:
    """Places for labels near these values, none nearer to the next than the gap.

    >>> [round(x, 1) for x in apart([50.0, 50.0, 80.0], 4.0)]
    [48.0, 52.0, 80.0]
    """
    order = np.argsort(values, kind="stable")
    places = np.array(values, dtype=float)
    for _ in range(200):
        moved = False
        for low, high in zip(order[:-1], order[1:], strict=True):
            short = gap - (places[high] - places[low])
            if short > 1e-9:
                places[low] -= short / 2
                places[high] += short / 2
                moved = True
        if not moved:
            break
    return places.tolist()
