"""Curate rows by accuracy, diversity and complexity, and say what was measured before and after.

Accuracy: an oracle or a verifier where there is one, findings on the text where not. Diversity:
exact and near duplicates are dropped; kinds of request, words and n-grams are counted. Complexity
is measured only: whether long or hard rows help is an experiment's question. Rows that a held-out
set contains are dropped, too. Left out: embeddings and a model's judgement.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.datasets import _measures, _near, _overlap, _tables
from postlab.datasets._measures import domain_of
from postlab.datasets._mixture import TARGET_MIX, mix
from postlab.datasets._rows import Rows
from postlab.datasets._tables import REASONS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TARGET_MIX", "Curation", "curate", "domain_of", "mix", "overlap"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Curation:
    """What curating kept, what it dropped and why, and the three axes before and after.

    Attributes:
        kept: the rows that stay, in their order; its `dropped` counts the others by reason.
        dropped: reason -> rows. A row counts once, for the first of these that fits: malformed,
            truncated, wrong, contaminated, duplicate, near duplicate.
        table: axis, measure, before, after.
        pairs: reason, row, partner, text, partner_text: who is a copy of whom, at most 1,000
            a reason. Rows are counted from 0; the partner of a contaminated row is a held-out one.
        composition: domain, before, after: shares of the rows.
    """

    kept: Rows
    dropped: dict[str, int]
    table: pd.DataFrame
    pairs: pd.DataFrame
    composition: pd.DataFrame

    def __repr__(self) -> str:
        drops = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.items() if count)
        before = len(self.kept) + sum(self.dropped.values())
        return f"Curation: {len(self.kept):,} of {before:,} rows kept; dropped: {drops or 'none'}"

    def _repr_html_(self) -> str:
        shown = self.table.copy()
        for name in ("before", "after"):
            shown[name] = [_tables.written(value) for value in shown[name]]
        shares = self.composition.copy()
        for name in ("before", "after"):
            shares[name] = [f"{value:.1%}" for value in shares[name]]
        tables = "".join(frame.to_html(index=False, border=0) for frame in (shown, shares))
        return f"<p><b>{html.escape(repr(self))}</b></p>{tables}"


def curate(
    rows: Sequence[Row],
    *,
    heldout: Sequence[Row] = (),
    score: Callable[[Row], bool | None] | None = None,
    near: float = 0.8,
    ngram: int = 8,
    max_tokens: int | None = None,
    tokenizer: Any = None,
) -> Curation:
    """Drop rows that are malformed, truncated, wrong, contaminated or said before; measure both.

    Args:
        rows: with `prompt` and `completion` (or `chosen`, or `answer`), as the loaders give them.
        heldout: rows of the evaluation, which training must not see; only `prompt` is needed.
        score: an oracle or a verifier: right, wrong, or None where it cannot be judged. Without
            one no row is called wrong.
        near: Jaccard similarity of word 3-grams from which two rows say the same.
        ngram: words in a row that count as copied from a held-out prompt, see `overlap`.
        max_tokens: rows longer than this, in the chat template, are truncated in training.
        tokenizer: to count them; needed with max_tokens.
    Returns:
        The rows that stay, how many were dropped and why, and the measures before and after.
    Raises:
        ValueError: if there is no row, a row has no prompt, or a setting is out of its range.
    Taught in week 3.

    >>> row = {"prompt": [{"role": "user", "content": "Name a colour."}],
    ...        "completion": [{"role": "assistant", "content": "Blue."}]}
    >>> curate([row, row])
    Curation: 1 of 2 rows kept; dropped: 1 duplicate
    """
    _check(rows, near, ngram, max_tokens, tokenizer)
    verdicts = [None if score is None else score(row) for row in rows]
    reasons = [_finding(row, verdict) for row, verdict in zip(rows, verdicts, strict=True)]
    for index in _too_long(rows, max_tokens, tokenizer):
        reasons[index] = reasons[index] or "truncated"
    grams = _near.grams(map(_measures.row_text, rows))  # the texts are built again later
    partners: dict[int, int] = {}
    # Each step sees only what the ones before it left: a copy of a wrong row is not lost with it.
    for reason, find in (
        ("contaminated", lambda: _contaminated(rows, heldout, ngram)),
        ("duplicate", lambda: _exact(rows, reasons)),
        ("near duplicate", lambda: _nearly(grams, reasons, near)),
    ):
        for index, partner in find():
            if reasons[index] is None:
                reasons[index], partners[index] = reason, partner
    survivors, profile = _open(reasons), _measures.profile(rows)
    counted = Counter(reasons)
    dropped = {reason: counted[reason] for reason in REASONS}
    after = Rows([rows[i] for i in survivors], getattr(rows, "source", "rows"), dropped)
    return Curation(
        kept=after,
        dropped=dropped,
        table=_tables.table(rows, (profile, grams), survivors, verdicts, reasons),
        pairs=_tables.pairs(rows, heldout, reasons, partners),
        composition=_tables.composition(profile, profile.take(survivors)),
    )


def overlap(train: Sequence[Row], heldout: Sequence[Row], *, ngram: int = 8) -> pd.DataFrame:
    """Find training rows that hold a held-out prompt, or most of it.

    A pair counts where runs of `ngram` words that both have cover more than half of the held-out
    prompt's words; a prompt shorter than `ngram` has to occur whole. Templates that many prompts
    share are then no false alarm.

    Args:
        train: rows with `prompt`, and `completion` where there is one.
        heldout: rows with `prompt`.
        ngram: words in a row that count as copied.
    Returns:
        row, partner (its held-out one), share (of the partner's words), text, partner_text.
    Source: Lambert et al. 2024, Tulu 3, arXiv 2411.15124, section 3.2.

    >>> ask = lambda text: {"prompt": [{"role": "user", "content": text}], "answer": "42"}
    >>> overlap([ask("Quick: what is 12 + 30?")], [ask("What is 12 + 30?")])[["row", "share"]]
       row  share
    0    0    1.0
    """
    import pandas as pd

    matches = _overlap.pairs(
        lambda: map(_measures.row_text, train),
        [_measures.asked_text(row) for row in heldout],
        ngram,
    )
    frame = pd.DataFrame(matches, columns=["row", "partner", "share"])
    frame["text"] = [_measures.row_text(train[row]) for row in frame["row"]]
    frame["partner_text"] = [_measures.asked_text(heldout[row]) for row in frame["partner"]]
    return frame


def _check(
    rows: Sequence[Row], near: float, ngram: int, max_tokens: int | None, tokenizer: Any
) -> None:
    if not rows:
        raise ValueError("there is no row to curate; expected rows with prompt and completion")
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping) or "prompt" not in row:
            has = sorted(row) if isinstance(row, Mapping) else type(row).__name__
            raise ValueError(
                f"row {index} has no field 'prompt' (it has {has}); load rows with "
                "postlab.datasets.instruction_rows, or build them in its format"
            )
    if not 0 < near <= 1:
        raise ValueError(f"near must be a similarity above 0 and at most 1, got {near!r}")
    if ngram < 1:
        raise ValueError(f"ngram must be at least one word, got {ngram!r}")
    if max_tokens is not None and tokenizer is None:
        raise ValueError("max_tokens needs the tokenizer that counts them: pass tokenizer=")


def _finding(row: Row, verdict: bool | None) -> str | None:
    if _measures.malformed(row):
        return "malformed"
    if _measures.truncated(_measures.reply_of(row)):
        return "truncated"
    return "wrong" if verdict is not None and not verdict else None


def _too_long(rows: Sequence[Row], max_tokens: int | None, tokenizer: Any) -> list[int]:
    if max_tokens is None:
        return []
    indices = []
    for index, row in enumerate(rows):
        reply = {"role": "assistant", "content": _measures.reply_of(row)}
        text = tokenizer.apply_chat_template([*_measures.prompt_of(row), reply], tokenize=False)
        if len(tokenizer(text, add_special_tokens=False)["input_ids"]) > max_tokens:
            indices.append(index)
    return indices


def _open(reasons: Sequence[str | None]) -> np.ndarray:
    return np.array([i for i, reason in enumerate(reasons) if reason is None], dtype=int)


def _contaminated(
    rows: Sequence[Row], heldout: Sequence[Row], ngram: int
) -> Iterator[tuple[int, int]]:
    if not heldout:
        return iter(())
    copies = overlap(rows, heldout, ngram=ngram).drop_duplicates("row")
    return zip(copies["row"].tolist(), copies["partner"].tolist(), strict=True)


def _exact(rows: Sequence[Row], reasons: list[str | None]) -> Iterator[tuple[int, int]]:
    """Rows whose words an earlier open row has, and that row."""
    left = _open(reasons)
    first = _near.exact_duplicates(_measures.row_text(rows[i]) for i in left)
    later = np.flatnonzero(first != np.arange(len(left)))
    return zip(left[later].tolist(), left[first[later]].tolist(), strict=True)


def _nearly(
    grams: _near.Grams, reasons: list[str | None], near: float
) -> Iterator[tuple[int, int]]:
    rows = _open(reasons)
    later, first = _near.near_duplicates(grams.take(rows), near)
    return zip(rows[later].tolist(), rows[first].tolist(), strict=True)
