"""The frames of a curation's report: the three axes, the composition, and the pairs of copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.datasets import _measures, _near

if TYPE_CHECKING:
    import pandas as pd

REASONS = ("malformed", "truncated", "wrong", "contaminated", "duplicate", "near duplicate")
SHOWN = 1000  # pairs a reason that are kept with their texts

Row = Mapping[str, Any]


def table(
    rows: Sequence[Row],
    measured: tuple[_measures.Profile, _near.Grams],
    survivors: np.ndarray,
    verdicts: Sequence[bool | None],
    reasons: Sequence[str | None],
) -> pd.DataFrame:
    """The three axes; shares are of the rows, lengths and steps are means a row."""
    import pandas as pd

    profile, grams = measured
    texts: Iterable[str] = map(_measures.row_text, rows)
    before = [_accuracy(range(len(reasons)), verdicts, reasons)]
    before += [_diversity(profile, grams, texts, reasons), _measures.complexity(profile)]
    texts = (_measures.row_text(rows[i]) for i in survivors)
    profile, grams, stays = profile.take(survivors), grams.take(survivors), [None] * len(survivors)
    after = [_accuracy(survivors, verdicts, reasons), _diversity(profile, grams, texts, stays)]
    after += [_measures.complexity(profile)]
    axes = ("accuracy", "diversity", "complexity")
    lines = [
        (axis, measure, value, later[measure])
        for axis, values, later in zip(axes, before, after, strict=True)
        for measure, value in values.items()
    ]
    return pd.DataFrame(lines, columns=["axis", "measure", "before", "after"])


def _accuracy(
    rows: Iterable[int], verdicts: Sequence[bool | None], reasons: Sequence[str | None]
) -> dict[str, float]:
    rows = list(rows)
    judged = [verdicts[i] for i in rows if verdicts[i] is not None]
    shares = {
        "rows": float(len(rows)),
        "judged by the score, share": len(judged) / max(1, len(rows)),
    }
    shares["right of those judged, share"] = (
        sum(map(bool, judged)) / len(judged) if judged else np.nan
    )
    for reason in ("malformed", "truncated"):
        shares[f"{reason}, share"] = sum(reasons[i] == reason for i in rows) / max(1, len(rows))
    return shares


def _diversity(
    profile: _measures.Profile,
    grams: _near.Grams,
    texts: Iterable[str],
    reasons: Sequence[str | None],
) -> dict[str, float]:
    copies = Counter(reasons)
    shares = {
        f"{reason}s, share": copies[reason] / max(1, len(reasons))
        for reason in ("duplicate", "near duplicate")
    }
    return shares | _measures.diversity(profile, grams, texts)


def composition(before: _measures.Profile, after: _measures.Profile) -> pd.DataFrame:
    import pandas as pd

    earlier, later = _measures.shares(before), _measures.shares(after)
    rows = [(name, share, later[name]) for name, share in earlier.items()]
    return pd.DataFrame(rows, columns=["domain", "before", "after"])


def pairs(
    rows: Sequence[Row],
    heldout: Sequence[Row],
    reasons: Sequence[str | None],
    partners: Mapping[int, int],
) -> pd.DataFrame:
    """The copies and what they copy, the first SHOWN of each reason."""
    import pandas as pd

    lines: list[tuple[str | None, int, int, str, str]] = []
    shown: Counter[str | None] = Counter()
    for row in sorted(partners, key=lambda row: (REASONS.index(reasons[row]), row)):
        reason, partner = reasons[row], partners[row]
        shown[reason] += 1
        if shown[reason] <= SHOWN:
            original = (
                _measures.asked_text(heldout[partner])
                if reason == "contaminated"
                else _measures.row_text(rows[partner])
            )
            lines.append((reason, row, partner, _measures.row_text(rows[row]), original))
    return pd.DataFrame(lines, columns=["reason", "row", "partner", "text", "partner_text"])


def written(value: float) -> str:
    """A number as the report shows it: whole ones with separators, no needless digits."""
    if value != value:
        return "not judged"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"
