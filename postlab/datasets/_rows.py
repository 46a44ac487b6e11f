"""Raw rows from the Hub or a file, read and converted until enough of them are good.

Shared by all loaders. A row that cannot be read (a field is missing, it has images) and a row that
cannot be learned from (its reply is empty, say) are dropped and counted by reason; where most rows
cannot be read, the file is probably of another kind, and the error names the first. Fields that
were not used and control tokens typed in texts are counted, too. Nothing is cleaned or deduplicated
here: that is curation.
"""

import html
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from postlab.chat import control_tokens as token_counter
from postlab.datasets._fields import Fields
from postlab.datasets._files import SUFFIXES, Unread, file_rows
from postlab.datasets._hub import KNOWN, hub_rows
from postlab.datasets._messages import Drop, Odd
from postlab.redaction import redact

# Shipped with the package: the embedded world (in English its facts stand in the prompt, for models
# that never read of it), and the suite for real models.
EMBEDDED = ("tinyworld", "tinyworld-english", "everyday")

OnControlTokens = Literal["count", "drop", "refuse"]

_MOST_REASONS = 50  # told apart; further ones are counted together
_ENOUGH_ODD = 100  # of a draw, before it is given up
_SHOWN = 8  # names of unused fields in a line

_SPLIT = re.compile(r"([\w.-]+)(?:\[(\d*):(\d*)\])?")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class Rows(list):
    """A list of rows that remembers its source and what was left out, and shows itself so.

    Attributes:
        source: as it was asked for.
        dropped: reason -> number of rows that were read and dropped.
        unused: what was not used of the rows that were kept -> in how many of them: names of
            fields, 'an unanswered last turn'.
        control_tokens: control token -> how often it is typed in the texts of the rows that were
            kept; empty, too, where no tokenizer was given.

    >>> Rows([{"prompt": "2 + 3?"}], "sums.jsonl", {"with an empty reply": 2}, {"topic": 1})
    Rows: 1 of the 3 read from sums.jsonl; dropped: 2 with an empty reply; not used: topic
    """

    def __init__(
        self,
        rows: Sequence[Mapping],
        source: str,
        dropped: Mapping[str, int],
        unused: Mapping[str, int] = {},
        control_tokens: Mapping[str, int] = {},
    ) -> None:
        super().__init__(rows)
        self.source = source
        self.dropped = dict(dropped)
        self.unused = dict(unused)
        self.control_tokens = dict(control_tokens)

    @property
    def read(self) -> int:
        """Rows read: those kept and those dropped."""
        return len(self) + sum(self.dropped.values())

    def __repr__(self) -> str:
        drops = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.items())
        extra = f"; not used: {_listed(self.unused)}" if self.unused else ""
        if self.control_tokens:
            extra += f"; control tokens in texts: {_counted(self.control_tokens)}"
        return (
            f"Rows: {len(self):,} of the {self.read:,} read from {self.source}; "
            f"dropped: {drops or 'none'}{extra}"
        )

    def _repr_html_(self) -> str:
        counts = {f"read from {self.source}": self.read}
        counts |= {f"dropped, {reason}": count for reason, count in self.dropped.items()}
        counts["kept"] = len(self)
        counts |= {f"not used in those kept: {name}": count for name, count in self.unused.items()}
        counts |= {f"control token {t} in texts": n for t, n in self.control_tokens.items()}
        lines = "".join(
            f"<tr><td style='text-align:left'>{html.escape(what)}</td><td>{count:,}</td></tr>"
            for what, count in counts.items()
        )
        return f"<table><tr><th style='text-align:left'>rows</th><th></th></tr>{lines}</table>"


@dataclass(frozen=True)
class Options:
    """What all loaders take beside a source, a split and a draw; see `instruction_rows`."""

    columns: Mapping[str, str | None] | None = None
    tokenizer: Any = None
    control_tokens: OnControlTokens = "count"

    def __post_init__(self) -> None:
        if self.control_tokens not in get_args(OnControlTokens):
            raise ValueError(
                f"control_tokens must be one of {', '.join(get_args(OnControlTokens))}, "
                f"got {self.control_tokens!r}"
            )
        if self.control_tokens != "count" and self.tokenizer is None:
            raise ValueError(
                f"control_tokens={self.control_tokens!r} needs the tokenizer whose tokens they "
                "are: pass tokenizer="
            )


@dataclass
class _Control:
    """Counts the control tokens in rows, and drops or refuses rows that hold some."""

    options: Options
    tokens: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    first: str = ""

    def __post_init__(self) -> None:
        tokenizer = self.options.tokenizer
        self._count = token_counter(tokenizer) if tokenizer is not None else None

    def look(self, row: Mapping, where: str) -> None:
        typed = self._count(row) if self._count else None
        if not typed:
            return
        if self.options.control_tokens == "drop":
            raise Drop("with control tokens in its texts")
        if self.options.control_tokens == "refuse":
            raise ValueError(
                f"{where}: control tokens in its texts: {_counted(typed)}; the tokenizer reads "
                "them as real turns. control_tokens='drop' drops such rows, 'count' keeps them"
            )
        self.tokens.update(typed)
        self.rows += 1
        self.first = self.first or where

    def warn(self, kept: int) -> None:
        if self.rows:
            warnings.warn(
                f"{self.rows:,} of {kept:,} rows hold control tokens in their texts, which the "
                f"tokenizer reads as real turns: {_counted(self.tokens)}; the first is "
                f"{self.first}. control_tokens='drop' drops such rows",
                stacklevel=4,
            )


def _counted(tokens: Mapping[str, int]) -> str:
    return ", ".join(f"{token} ({count:,})" for token, count in tokens.items())


def _listed(unused: Mapping[str, int]) -> str:
    more = len(unused) - _SHOWN
    return ", ".join(list(unused)[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def embedded(
    make: Callable[..., list[dict]],
    source: str,
    split: str,
    n: int | None,
    seed: int,
    options: Options,
) -> Rows:
    """Rows shipped with the package, as a function makes them: none is odd.

    Args:
        make: such as `corpus.sft_rows`.
        source: one of EMBEDDED.
    """
    _check_number(n)
    if options.columns:
        raise ValueError(f"columns= is for rows of a file or the Hub; {source} has its own names")
    rows: list[dict] = []
    dropped: Counter[str] = Counter()
    control = _Control(options)
    for number, row in enumerate(make(split=split, n=n, seed=seed), 1):
        try:
            control.look(row, f"{source}, row {number}")
            rows.append(row)
        except Drop as reason:
            dropped[str(reason)] += 1
    control.warn(len(rows))
    return Rows(rows, source, dropped, control_tokens=control.tokens)


def collect(
    source: str,
    split: str,
    n: int | None,
    seed: int,
    convert: Callable[[Fields], dict],
    options: Options,
) -> Rows:
    """Read a source and convert row by row until n rows are good; count those dropped."""
    _check_number(n)
    rows: list[dict] = []
    dropped: Counter[str] = Counter()
    unused: Counter[str] = Counter()
    control = _Control(options)
    read = odd = 0
    first, place = "", 0  # the odd row with the lowest number, since a draw is in no order
    for number, raw in _read(str(source), split, n, seed):
        where = f"{source}, row {number}"
        read += 1
        try:
            row, left = _converted(raw, convert, options.columns)
            control.look(row, where)
            rows.append(row)
            unused.update(left)
        except (Drop, Odd) as fault:
            reason = fault.reason if isinstance(fault, Odd) else str(fault)
            known = reason in dropped or len(dropped) < _MOST_REASONS
            dropped[reason if known else "for other reasons"] += 1
            if isinstance(fault, Odd):
                odd += 1
                if not first or number < place:
                    first, place = f"{where}: {fault}", number
        # Of a draw, rows as odd as this tell enough: a large file is not read to its end.
        hopeless = n is not None and odd >= max(n, _ENOUGH_ODD) and 2 * odd > read
        if hopeless or (n is not None and len(rows) == n):
            break
    faults = ", ".join(f"{count:,} {reason}" for reason, count in dropped.most_common(5))
    if 2 * odd > read:
        raise ValueError(
            f"{first}. Of the {read:,} rows read {odd:,} cannot be used ({faults}): take another "
            "loader if the data is of another kind, or name its columns with columns="
        )
    if not rows:
        raise ValueError(
            f"{source}, split {split!r} has no usable row: {faults or 'no row is there'}"
        )
    control.warn(len(rows))
    by_count = sorted(unused.items(), key=lambda field: (-field[1], field[0]))  # the same each time
    return Rows(rows, str(source), dropped, dict(by_count), control.tokens)


def _check_number(n: Any) -> None:
    if n is not None and (not isinstance(n, int) or n < 1):
        raise ValueError(f"n must be a positive number of rows, or None for all, got {n!r}")


def _converted(
    raw: Any, convert: Callable[[Fields], dict], columns: Mapping[str, str | None] | None
) -> tuple[dict, set[str]]:
    """(the row, what of it was not used)."""
    if isinstance(raw, Unread):
        raise Odd(raw.reason, raw.detail)
    if not isinstance(raw, Mapping):
        raise Odd("expected an object with named fields", f"got {raw!r:.80}")
    fields = Fields(raw, columns)
    fields.refuse_media()
    row = convert(fields)
    return row, fields.unused()


def _read(source: str, split: str, n: int | None, seed: int) -> Iterator[tuple[int, Any]]:
    """(number counted from 1, raw row), in file order for n=None, else drawn by seed."""
    matched = _SPLIT.fullmatch(split)
    if not matched:
        raise ValueError(f"split must be a name such as 'train' or 'train[:1000]', got {split!r}")
    name, first, last = matched[1], int(matched[2] or 0), int(matched[3]) if matched[3] else None
    if last is not None and last <= first:
        raise ValueError(f"split {split!r} asks for no row: its range ends before it begins")
    path = Path(os.path.expanduser(source))  # Path.expanduser raises where there is no such user
    if source not in KNOWN and path.is_dir():
        raise ValueError(f"{source} is a folder: name one of its files ({', '.join(SUFFIXES)})")
    if source not in KNOWN and path.is_file():
        return file_rows(path, first, last, n, seed)
    if source not in KNOWN and path.exists():  # a pipe or a device, which may never end
        raise ValueError(f"{source} is not a regular file: write its rows into one first")
    if source in KNOWN or (_HUB_ID.fullmatch(source) and path.suffix.lower() not in SUFFIXES):
        return hub_rows(source, name, first, last, n, seed)
    raise ValueError(
        f"unknown source {redact(source)!r}: it is neither a file that exists, nor a Hub id such "
        f"as 'org/name', nor one of {', '.join((*EMBEDDED, *KNOWN))}"
    )
