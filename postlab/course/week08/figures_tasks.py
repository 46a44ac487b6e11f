"""Week 8's figures beyond sums: gains by the reward and by a stricter check; verifiers probed.

Each takes a frame and returns a closed figure; titles are computed from what is drawn. Left out:
any estimate. Values and intervals come with the frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from postlab.claims import INK, STAGE_COLOURS
from postlab.show import GREY, PALE, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CHECKED_COLOUR, UNCHECKED_COLOUR = PALE, STAGE_COLOURS["grpo"]
KIND_COLOURS = {
    "right": STAGE_COLOURS["grpo"],
    "right, in another form": STAGE_COLOURS["sft"],
    "must not pay": STAGE_COLOURS["multi"],
}


def plot_seen_and_unseen(frame: pd.DataFrame) -> Figure:
    """Draw each arm's change in points by its own reward, and by a stricter check.

    Args:
        frame: rows with `task`, `arm`, `seed`, `measure` ('the reward' or 'unseen'), `points`,
            `low`, `high`.
    """
    tasks = list(dict.fromkeys(frame["task"]))
    fig, places = panels(1, len(tasks), (10, 3.9), sharex=True)
    phrases = []
    for panel, task in zip(places, tasks, strict=True):
        runs = frame[frame["task"] == task]
        arms, place, ticks = list(dict.fromkeys(runs["arm"])), 0.0, {}
        for arm in arms:
            own = runs[runs["arm"] == arm]
            seeds = list(dict.fromkeys(own["seed"]))
            ticks[arm] = place + (len(seeds) - 1) / 2
            for seed in seeds:
                for row in own[own["seed"] == seed].itertuples():
                    rewarded = row.measure == "the reward"
                    at, colour = (
                        place + (-0.16 if rewarded else 0.16),
                        CHECKED_COLOUR if rewarded else UNCHECKED_COLOUR,
                    )
                    panel.hlines(at, row.low, row.high, color=colour, linewidth=2.4)
                    panel.plot(row.points, at, "o", color=colour, markersize=8)
                place += 1
            place += 0.7
            means = own.groupby("measure")["points"].mean()
            phrases.append(f"{means['the reward']:+.0f} and {means['unseen']:+.0f} ({arm})")
        panel.axvline(0, color=GREY, linewidth=1)
        panel.set_title(task, loc="left", size=12.5, color=INK)
        panel.set_yticks(list(ticks.values()), list(ticks), size=12)
        panel.set_ylim(place - 1, -0.7)
        panel.grid(visible=False)
        panel.set_xlabel("points of held-out success over the start", color=INK)
    for colour, label in (
        (CHECKED_COLOUR, "what the reward checks"),
        (UNCHECKED_COLOUR, "the stricter check"),
    ):
        places[0].plot([], [], "o-", color=colour, label=label)
    fig.legend(loc="outside lower center", ncols=2, frameon=False)
    return headline(
        fig, f"Points gained by the reward and by a stricter check: {'; '.join(phrases)}"
    )


def plot_probes(frame: pd.DataFrame) -> Figure:
    """Draw the mean score that verifiers gave to answers of known worth, one bar per answer.

    Args:
        frame: rows with `task`, `kind`, `answer`, `puzzles`, `mean` (NaN where the verifier raised
            every time), `full`, `some` (puzzles paid in full, and at all), `raised`.
    """
    frame = frame.reset_index(drop=True)
    tasks = list(dict.fromkeys(frame["task"]))
    gaps = frame["task"].map(tasks.index)
    fig, (panel,) = panels(1, 1, (8.6, 1.4 + 0.21 * (len(frame) + len(tasks))))
    for row, gap in zip(frame.itertuples(), gaps, strict=True):
        at, raised = row.Index + 0.8 * gap, row.raised == row.puzzles
        panel.barh(at, 0 if raised else row.mean, 0.72, color=KIND_COLOURS[row.kind])
        note = "raises an error" if raised else f"{row.mean:.2f}"
        panel.text((0 if raised else row.mean) + 0.01, at, note, va="center", size=10.5,
                   color=KIND_COLOURS[row.kind])  # fmt: skip
    for task, rows in frame.groupby("task", sort=False):
        at = rows.index[0] + 0.8 * tasks.index(task)
        panel.text(-0.02, at - 0.85, task, ha="right", va="center", size=11, weight="bold",
                   color=INK)  # fmt: skip
    for kind, colour in KIND_COLOURS.items():
        panel.barh(0, 0, color=colour, label=kind)
    panel.set_yticks(frame.index + 0.8 * gaps, frame["answer"], size=10.5)
    panel.set_ylim(len(frame) - 0.4 + 0.8 * (len(tasks) - 1), -1.5)
    panel.set_xlim(0, 1.12)
    panel.set_xlabel("mean score over the puzzles", color=INK)
    panel.grid(visible=False)
    fig.legend(loc="outside lower center", ncols=3, frameon=False)
    bad, other = (
        frame[frame["kind"] == kind] for kind in ("must not pay", "right, in another form")
    )
    refused = int((other["full"] < other["puzzles"]).sum())
    return headline(
        fig,
        f"Of {len(bad)} answers that must not pay, {int((bad['some'] > 0).sum())} are paid, "
        f"{int((bad['full'] > 0).sum())} of them in full on some puzzles; "
        f"{refused} of {len(other)} right answers in another form don't get full marks",
    )
