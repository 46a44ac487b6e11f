"""Raw rows from the Hub or a file, read and converted until enough of them are good.

Shared by instructions, preferences and math. A row that lacks a field it needs is an error that
names it; a row that has the fields but cannot be learned from (an empty reply, say) is dropped and
counted in `Rows.dropped`. Nothing is cleaned or deduplicated here: that is curation.
"""

import html
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from postlab.datasets._files import SUFFIXES, file_rows
from postlab.datasets._hub import KNOWN, hub_rows
from postlab.datasets._messages import Drop

# The embedded world; in English its facts stand in the prompt, for models that never read of it.
EMBEDDED = ("tinyworld", "tinyworld-english")

_SPLIT = re.compile(r"([\w.-]+)(?:\[(\d*):(\d*)\])?")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class Rows(list):
    """A list of rows that remembers its source and what was left out, and shows itself so.

    Attributes:
        source: as it was asked for.
        dropped: reason -> number of rows that were read and dropped.

    >>> Rows([{"prompt": "2 + 3?"}], "sums.jsonl", {"with an empty reply": 2})
    Rows: 1 of the 3 read from sums.jsonl; dropped: 2 with an empty reply
    """

    def __init__(self, rows: Sequence[Mapping], source: str, dropped: Mapping[str, int]) -> None:
        super().__init__(rows)
        self.source = source
        self.dropped = dict(dropped)

    @property
    def read(self) -> int:
        """Rows read: those kept and those dropped."""
        return len(self) + sum(self.dropped.values())

    def __repr__(self) -> str:
        drops = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.items())
        return (
            f"Rows: {len(self):,} of the {self.read:,} read from {self.source}; "
            f"dropped: {drops or 'none'}"
        )

    def _repr_html_(self) -> str:
        counts = {f"read from {self.source}": self.read}
        counts |= {f"dropped, {reason}": count for reason, count in self.dropped.items()}
        counts["kept"] = len(self)
        lines = "".join(
            f"<tr><td style='text-align:left'>{html.escape(what)}</td><td>{count:,}</td></tr>"
            for what, count in counts.items()
        )
        return f"<table><tr><th style='text-align:left'>rows</th><th></th></tr>{lines}</table>"


def embedded(
    make: Callable[..., list[dict]], source: str, split: str, n: int | None, seed: int
) -> Rows:
    """Rows of the embedded world, as a function of `postlab.tinyworld` makes them: none is dropped.

    Args:
        make: such as `corpus.sft_rows`.
        source: "tinyworld" or "tinyworld-english".
    """
    return Rows(make(split=split, n=n, seed=seed), source, {})


def collect(
    source: str, split: str, n: int | None, seed: int, convert: Callable[[Mapping, str], dict]
) -> Rows:
    """Read a source and convert row by row until n rows are good; count those dropped."""
    if n is not None and (not isinstance(n, int) or n < 1):
        raise ValueError(f"n must be a positive number of rows, or None for all, got {n!r}")
    rows: list[dict] = []
    dropped: Counter[str] = Counter()
    for number, raw in _read(str(source), split, n, seed):
        where = f"{source}, row {number}"
        if not isinstance(raw, Mapping):
            raise ValueError(f"{where}: expected an object with named fields, got {raw!r:.80}")
        try:
            rows.append(convert(raw, where))
        except Drop as reason:
            dropped[str(reason)] += 1
        if n is not None and len(rows) == n:
            break
    if not rows:
        drops = (
            ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "no row is there"
        )
        raise ValueError(f"{source}, split {split!r} has no usable row: {drops}")
    return Rows(rows, str(source), dropped)


def _read(source: str, split: str, n: int | None, seed: int) -> Iterator[tuple[int, Any]]:
    """(number counted from 1, raw row), in file order for n=None, else drawn by seed."""
    matched = _SPLIT.fullmatch(split)
    if not matched:
        raise ValueError(f"split must be a name such as 'train' or 'train[:1000]', got {split!r}")
    name, first, last = matched[1], int(matched[2] or 0), int(matched[3]) if matched[3] else None
    if last is not None and last <= first:
        raise ValueError(f"split {split!r} asks for no row: its range ends before it begins")
    path = Path(source).expanduser()
    if source not in KNOWN and path.is_dir():
        raise ValueError(f"{source} is a folder: name one of its files ({', '.join(SUFFIXES)})")
    if source not in KNOWN and path.is_file():
        return file_rows(path, first, last, n, seed)
    if source in KNOWN or (_HUB_ID.fullmatch(source) and path.suffix.lower() not in SUFFIXES):
        return hub_rows(source, name, first, last, n, seed)
    raise ValueError(
        f"unknown source {source!r}: it is neither a file that exists, nor a Hub id such as "
        f"'org/name', nor one of {', '.join((*EMBEDDED, *KNOWN))}"
    )
