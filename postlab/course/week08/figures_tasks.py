"""Week 8's figures beyond sums: gains by the reward and by a stricter check.

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
