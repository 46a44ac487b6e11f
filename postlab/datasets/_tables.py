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
    before: tuple[_measures.Profile, _near.Grams, Sequence[str]],
    kept: np.ndarray,
    verdicts: Sequence[bool | None],
    reasons: Sequence[str | None],
) -> pd.DataFrame:
    """The three axes; shares are of the rows, lengths and steps are means a row."""
    import pandas as pd

    profile, grams, texts = before
    after = (profile.take(kept), grams.take(kept), (texts[i] for i in kept))
    measured = [("accuracy", _accuracy(range(len(reasons)), verdicts, reasons))]
    measured += [("diversity", _diversity(*before, reasons))]
    measured += [("complexity", _measures.complexity(profile))]
    stays = [None] * len(kept)
    again = [_accuracy(kept, verdicts, reasons), _diversity(*after, stays)]
    again += [_measures.complexity(after[0])]
    found = [
        (axis, measure, value, later[measure])
        for (axis, values), later in zip(measured, again, strict=True)
        for measure, value in values.items()
    ]
    return pd.DataFrame(found, columns=["axis", "measure", "before", "after"])


def _accuracy(
    rows: Iterable[int], verdicts: Sequence[bool | None], reasons: Sequence[str | None]
) -> dict[str, float]:
    rows = list(rows)
    judged = [verdicts[i] for i in rows if verdicts[i] is not None]
    found = {
        "rows": float(len(rows)),
        "judged by the score, share": len(judged) / max(1, len(rows)),
    }
    found["right of those judged, share"] = (
        sum(map(bool, judged)) / len(judged) if judged else np.nan
    )
    for reason in ("malformed", "truncated"):
        found[f"{reason}, share"] = sum(reasons[i] == reason for i in rows) / max(1, len(rows))
    return found


def _diversity(
    profile: _measures.Profile,
    grams: _near.Grams,
    texts: Iterable[str],
    reasons: Sequence[str | None],
) -> dict[str, float]:
    copies = Counter(reasons)
    found = {
        f"{reason}s, share": copies[reason] / max(1, len(reasons))
        for reason in ("duplicate", "near duplicate")
    }
    return found | _measures.diversity(profile, grams, texts)


def composition(before: _measures.Profile, after: _measures.Profile) -> pd.DataFrame:
    import pandas as pd

    found, left = _measures.shares(before), _measures.shares(after)
    rows = [(name, share, left[name]) for name, share in found.items()]
    return pd.DataFrame(rows, columns=["domain", "before", "after"])


def pairs(
    rows: Sequence[Row],
    heldout: Sequence[Row],
    reasons: Sequence[str | None],
    partners: Mapping[int, int],
) -> pd.DataFrame:
    """The copies and what they copy, the first SHOWN of each reason."""
    import pandas as pd

    found, shown = [], Counter()
    for row in sorted(partners, key=lambda row: (REASONS.index(reasons[row]), row)):
        reason, partner = reasons[row], partners[row]
        shown[reason] += 1
        if shown[reason] <= SHOWN:
            held = reason == "contaminated"
            of = (
                _measures.asked_text(heldout[partner])
                if held
                else _measures.row_text(rows[partner])
            )
            found.append((reason, row, partner, _measures.row_text(rows[row]), of))
    return pd.DataFrame(found, columns=["reason", "row", "partner", "text", "partner_text"])


def written(value: float) -> str:
    """A number as the report shows it: whole ones with separators, no needless digits."""
    if value != value:
        return "not judged"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"
