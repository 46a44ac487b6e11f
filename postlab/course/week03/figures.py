"""Week 3's figure of a curation: what happened to the rows, their domains, and what changed.

Takes the report object and returns a closed figure; its title is computed from what is drawn. It
estimates nothing: every number is a count of the given rows and needs no interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from postlab.claims import INK, STAGE_COLOURS
from postlab.datasets import TARGET_MIX, Curation
from postlab.show import GREY, PALE, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEFORE_COLOUR, AFTER_COLOUR, TARGET_COLOUR = PALE, STAGE_COLOURS["sft"], STAGE_COLOURS["multi"]
CHANGES = {  # measure: what the panel calls it
    "right of those judged, share": "right, of those judged",
    "kinds of request, effective number": "kinds of request",
    "distinct words per 1,000 words": "distinct words",
    "distinct 3-grams, share": "distinct 3-grams",
    "prompt words, mean": "prompt length",
    "reply words, mean": "reply length",
    "steps in the reply, mean": "steps in the reply",
    "constraints asked for, mean": "constraints asked for",
}


def plot_curation(curation: Curation, target: Mapping[str, float] = TARGET_MIX) -> Figure:
    """Draw a curation: what happened to the rows, domains against a target, and what changed.

    Args:
        curation: what `curate` returned.
        target: domain -> share, marked beside the composition; {} for none.
    """
    fig, (rows, domains, changes) = panels(
        1, 3, (10, 4.2), gridspec_kw={"width_ratios": (1, 1, 0.95)}
    )
    _rows(rows, curation)
    _domains(domains, curation.composition, target)
    _changes(changes, curation.table.set_index("measure"))
    for panel in (rows, domains, changes):
        panel.grid(axis="y", visible=False)
        panel.spines["bottom"].set_visible(False)
        panel.set_xticks([])
    return headline(fig, _title(curation))


def _rows(panel: Axes, curation: Curation) -> None:
    counts = {"kept": len(curation.kept)} | {name: n for name, n in curation.dropped.items() if n}
    total = len(curation.kept) + sum(curation.dropped.values())
    bars = panel.barh(
        list(counts), list(counts.values()), color=[AFTER_COLOUR] + [PALE] * (len(counts) - 1)
    )
    labels = [f"{n:,} ({n / total:.1%})" for n in counts.values()]
    panel.bar_label(bars, labels, padding=4, size=11, color=INK)
    panel.set_xlim(0, 1.75 * max(1, *counts.values()))
    panel.invert_yaxis()
    panel.set_title("what happened to the rows", loc="left", size=12, color=INK)


def _domains(panel: Axes, frame: pd.DataFrame, target: Mapping[str, float]) -> None:
    shown = frame[(frame["before"] > 0) | frame["domain"].isin(list(target))]
    places = np.arange(len(shown))
    panel.hlines(places, shown["before"], shown["after"], color=PALE, linewidth=3)
    marks = [
        ("before", shown["before"], BEFORE_COLOUR, "o"),
        ("after", shown["after"], AFTER_COLOUR, "o"),
    ]
    if target:
        marks.append(
            ("target", [target.get(name, 0) for name in shown["domain"]], TARGET_COLOUR, "|")
        )
    for name, values, colour, marker in marks:
        size, edge = (17, 3.2) if marker == "|" else (9, 0)
        panel.plot(
            values, places, marker, color=colour, ms=size, mew=edge, label=name, clip_on=False
        )
    for place, value in zip(places, shown["after"], strict=True):
        panel.text(value, place - 0.23, f"{value:.0%}", ha="center", color=AFTER_COLOUR, size=11)
    panel.set_yticks(places, shown["domain"])
    panel.set(xlim=(-0.03, 1.05 * max(shown["before"].max(), shown["after"].max(), 0.4)))
    panel.set_ylim(len(shown) - 0.5, -0.6)
    panel.legend(
        frameon=False, ncols=3, fontsize=10.5, loc="upper center", bbox_to_anchor=(0.4, 0.03),
        handletextpad=0.2, columnspacing=0.9, markerscale=0.7,
    )  # fmt: skip
    panel.set_title("share of rows by domain", loc="left", size=12, color=INK)


def _changes(panel: Axes, table: pd.DataFrame) -> None:
    shown = table.loc[[name for name in CHANGES if table["before"].get(name, 0) > 0]]
    change = 100 * (shown["after"] / shown["before"] - 1)
    labels = [CHANGES[name] for name in shown.index]
    panel.barh(labels, change, color=AFTER_COLOUR)
    reach = max(0.1, change.abs().max())
    for place, value in enumerate(change):
        side = 1 if value >= 0 else -1
        text = f"{value:+.{0 if abs(value) >= 10 else 1}f}%".replace("-", "\N{MINUS SIGN}")
        panel.text(value + side * 0.04 * reach, place, text, va="center", color=GREY, size=11,
                   ha="left" if side > 0 else "right")  # fmt: skip
    panel.axvline(0, color=PALE, linewidth=1)
    room = [0.9 * reach if (change * side).max() > 0 else 0.05 * reach for side in (-1, 1)]
    panel.set_xlim(min(0, change.min()) - room[0], max(0, change.max()) + room[1])
    panel.invert_yaxis()
    panel.set_title("change through curation", loc="left", size=12, color=INK)


def _title(curation: Curation) -> str:
    gone = {name: n for name, n in curation.dropped.items() if n}
    total = len(curation.kept) + sum(gone.values())
    if not gone:
        return f"All {total:,} rows kept: nothing was found to drop"
    most = max(gone, key=gone.__getitem__)
    return (
        f"{len(curation.kept):,} of {total:,} rows kept; {gone[most] / sum(gone.values()):.0%} of "
        f"the {sum(gone.values()):,} dropped ones were {most}"
        f"{'s' if most.endswith('duplicate') and gone[most] > 1 else ''}"
    )
