"""Week 8's figure of a log: what a run logged, one panel per signal.

It returns a closed figure; titles are computed from what is drawn. Left out: what the curves mean.
That's for the reader to find out, and then for `postlab.doctor`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from postlab.claims import INK, STAGE_COLOURS
from postlab.doctor import finite
from postlab.show import headline, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIGNAL_NAMES = {  # name in a log: what is drawn, and its unit
    "loss": "loss",
    "grad_norm": "gradient norm",
    "learning_rate": "learning rate",
    "reward": "reward, mean of the batch",
    "frac_reward_zero_std": "zero-variance groups, share",
    "completions/mean_length": "completion length, tokens",
    "completions/clipped_ratio": "truncated completions, share",
    "entropy": "entropy, nats per token",
    "kl": "KL from the start, nats per token",
    "rewards/margins": "margin, nats times beta",
    "logps/chosen": "chosen log-prob, nats",
}


def plot_signals(
    log_history: Sequence[Mapping[str, Any]], names: Sequence[str], *, stage: str = "grpo"
) -> Figure:
    """Draw logged numbers of a run, one panel each; a value that isn't finite leaves a gap.

    Args:
        log_history: `trainer.state.log_history`.
        names: the names of the numbers, at most four.
        stage: whose colour is used.
    Raises:
        ValueError: if one of them was never logged, naming what was.
    """
    fig, places = panels(1, len(names), (8.6, 2.5))
    phrases = []
    for panel, name in zip(places, names, strict=True):
        entries = [entry for entry in log_history if name in entry]
        if not entries:
            known = sorted({key for entry in log_history for key in entry})
            raise ValueError(f"nothing was logged as {name!r}; this log has {', '.join(known)}")
        values = [entry[name] if finite(entry[name]) else float("nan") for entry in entries]
        steps = [entry.get("step", place) for place, entry in enumerate(entries, start=1)]
        label = SIGNAL_NAMES.get(name, name.removeprefix("rewards/").removesuffix("/mean"))
        panel.plot(steps, values, "-o", color=STAGE_COLOURS[stage], linewidth=2, markersize=3)
        panel.set_title(label, loc="left", size=11.5, color=INK)
        panel.set_xlabel("step", color=INK)
        low, high = min(filter(finite, values), default=0), max(filter(finite, values), default=0)
        panel.set_ylim(min(0, low * 1.1), high * 1.1 or 1)
        sound = [value for value in values if finite(value)] or [float("nan")]
        quarter = max(1, len(sound) // 4)
        first, last = fmean(sound[:quarter]), fmean(sound[-quarter:])
        phrases.append(f"{label.split(',')[0]} {_moved(first, last)}")
    return headline(fig, f"From the first to the last quarter: {'; '.join(phrases)}")


def _moved(first: float, last: float) -> str:
    """How a mean changed, in words; what is below a millionth counts as 0."""
    first, last = (0.0 if abs(value) < 1e-6 else value for value in (first, last))
    if f"{first:.2g}" == f"{last:.2g}":
        return f"stays at {last:.2g}"
    return f"{'rises' if last > first else 'falls'} from {first:.2g} to {last:.2g}"
