"""Week 8's figures: what a run logged, a panel a signal; and how the doctor fared.

Each returns a closed figure; titles are computed from what is drawn. Left out: what a curve means,
which is the reader's part, and then `postlab.doctor`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from postlab.comparison import COLOURS, INK
from postlab.doctor_log import finite
from postlab.panels import GREY, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

WORDS = {  # name in a log: what is drawn, and its unit
    "loss": "loss",
    "grad_norm": "gradient norm",
    "learning_rate": "learning rate",
    "reward": "reward, mean of the batch",
    "frac_reward_zero_std": "groups without a signal, share",
    "completions/mean_length": "answer length, tokens",
    "completions/clipped_ratio": "answers cut off, share",
    "entropy": "entropy, nats a token",
    "kl": "KL to the start, nats a token",
    "rewards/margins": "margin, nats times beta",
    "logps/chosen": "chosen log-prob, nats",
}
CAUGHT, MISSED = COLOURS["grpo"], COLOURS["multi"]


def plot_signals(
    log_history: Sequence[Mapping[str, Any]], names: Sequence[str], *, stage: str = "grpo"
) -> Figure:
    """Draw a run's logged numbers, a panel each; a value that is no finite number leaves a gap.

    Args:
        log_history: `trainer.state.log_history`.
        names: of the numbers, at most four.
        stage: for the colour.
    Raises:
        ValueError: if one of them was never logged, naming what was.
    """
    fig, places = panels(1, len(names), (10, 3.0))
    said = []
    for panel, name in zip(places, names, strict=True):
        entries = [entry for entry in log_history if name in entry]
        if not entries:
            known = sorted({key for entry in log_history for key in entry})
            raise ValueError(f"nothing was logged as {name!r}; this log has {', '.join(known)}")
        values = [entry[name] if finite(entry[name]) else float("nan") for entry in entries]
        steps = [entry.get("step", place) for place, entry in enumerate(entries, start=1)]
        label = WORDS.get(name, name.removeprefix("rewards/").removesuffix("/mean"))
        panel.plot(steps, values, "-o", color=COLOURS[stage], linewidth=2, markersize=3)
        panel.set_title(label, loc="left", size=11.5, color=INK)
        panel.set_xlabel("step", color=INK)
        low, high = min(filter(finite, values), default=0), max(filter(finite, values), default=0)
        panel.set_ylim(min(0, low * 1.1), high * 1.1 or 1)
        sound = [value for value in values if finite(value)] or [float("nan")]
        quarter = max(1, len(sound) // 4)
        first, last = fmean(sound[:quarter]), fmean(sound[-quarter:])
        said.append(f"{label.split(',')[0]} {first:.2g} to {last:.2g}")
    return headline(fig, f"First to last quarter: {'; '.join(said)}")


def plot_verdicts(logs: pd.DataFrame) -> Figure:
    """Draw what the doctor said of each recorded log, a row a log.

    Args:
        logs: rows with `name`, `kind` (of its fault, "healthy", or "absent" where the fault that
            was meant did not come), `hit`, `false_alarms` (lists).
    """
    fig, (panel,) = panels(1, 1, (9, 0.6 + 0.26 * len(logs)))
    for place, log in enumerate(logs.itertuples()):
        fair = log.hit or log.kind == "absent"
        colour = GREY if log.kind == "absent" else CAUGHT if log.hit else MISSED
        panel.plot(0, place, "o" if fair else "X", color=colour, markersize=9)
        alarms = ", ".join(log.false_alarms)
        text = f"{log.name}: {log.kind}" + (f"; false alarm: {alarms}" if alarms else "")
        panel.annotate(text, (0, place), xytext=(14, 0), textcoords="offset points", va="center",
                       size=11, color=INK)  # fmt: skip
    panel.set(xlim=(-0.02, 1), ylim=(len(logs) - 0.4, -0.6), xticks=[], yticks=[])
    panel.grid(visible=False)
    faults = ~logs["kind"].isin(["healthy", "absent"])
    false = int(logs["false_alarms"].map(len).sum())
    return headline(
        fig,
        f"{int(logs.loc[faults, 'hit'].sum())} of {int(faults.sum())} faults named, "
        f"{false} false alarms in {len(logs)} runs made after the rules",
    )
