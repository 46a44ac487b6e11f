"""Rows of a local JSON, JSON Lines or Parquet file, without holding the file in memory.

Held at a time: of JSON Lines one line; of a JSON array a mebibyte of text, or one row where that is
longer; of Parquet some pages and a small batch of rows, in which a text that is repeated stands
once. So n rows of a file cost the memory of n rows, however far the file expands. No row may be
longer than 64 MiB: nobody trains on it. What it costs instead is a second pass: the rows are
counted first and then drawn, and where many are dropped there are further passes.
"""

import itertools
import json
import random
import re
import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet")

_CHUNK = 2**20  # characters of a JSON array read at a time
_LONGEST_ROW = 2**26  # bytes of JSON, or characters of an array's element
_BATCH = 250  # Parquet rows read at a time, at most
_BATCH_BYTES = 2**24  # of them, by the mean of their row group
_REPEATED = 2**23  # bytes of a column in a row group, up to which its texts are held once each
_SHUFFLED = 4_000_000  # places that are held to be shuffled; of more, those that are drawn
_BOM = b"\xef\xbb\xbf"
_OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "gzip"}
_LONGEST_TOKEN = (
    16  # characters of what JSON may be cut in, strings apart: -Infinity, \\ud83d\\ud83d
)
_SPACE = re.compile(r"[ \t\r\n]*")

Row = tuple[int, int, Any]  # place among the file's rows from 0, number to name it by, the row
Reader = Callable[[Path, Sequence[int]], Iterator[Row]]  # the file, the places in order


@dataclass(frozen=True)
class Unread:
    """Stands for a row that was not read, and says why."""

    reason: str
    detail: str


_TOO_LONG = Unread("longer than 64 MiB", "no model is trained on such a row")


def file_rows(
    path: Path, first: int, last: int | None, n: int | None, seed: int
) -> Iterator[tuple[int, Any]]:
    """(number from 1, row) of rows first to last: in order, or where n is given drawn by seed.

    Of JSON Lines the number is the line's, so that an editor finds it. Rows that are not asked for
    are not looked at: JSON Lines that are not drawn may be broken.
    """
    rows_at, count = _reader(path)
    if n is None:
        for _, number, row in rows_at(path, range(first, sys.maxsize if last is None else last)):
            yield number, row
        return
    order, size = _drawn(range(count(path))[first:last], seed), n
    while places := list(itertools.islice(order, size)):
        rows = {place: (number, row) for place, number, row in rows_at(path, sorted(places))}
        for place in places:
            yield rows.pop(place)
        size *= 2  # many are dropped: fewer passes


def _drawn(places: range, seed: int) -> Iterator[int]:
    """The places in random order, each once.

    >>> sorted(_drawn(range(3, 7), 0))
    [3, 4, 5, 6]
    """
    chooser = random.Random(seed)
    if len(places) <= _SHUFFLED:
        order = array("q", places)
        chooser.shuffle(order)
        yield from order
        return
    moved: dict[int, int] = {}  # Fisher and Yates from the front, of which only the swaps are held
    for at in range(len(places)):
        other = chooser.randrange(at, len(places))
        place = moved.get(other, other)
        moved[other] = moved.pop(at, at)
        yield places[place]


def _reader(path: Path) -> tuple[Reader, Callable[[Path], int]]:
    """How the file is read, and how its rows are counted; an error for what cannot be read."""
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise ValueError(
            f"{path}: cannot read a file whose name ends in {kind or 'no suffix'}, only in "
            f"{', '.join(SUFFIXES)}"
        )
    if kind == ".parquet":
        return _parquet, lambda path: _open_parquet(path).metadata.num_rows
    with path.open("rb") as file:
        start = file.read(_CHUNK)
    for mark, name in _OTHER_ENCODINGS.items():
        if start.startswith(mark):
            raise ValueError(f"{path}, row 1: the file is {name}; save it as plain UTF-8 text")
    if start.removeprefix(_BOM).lstrip().startswith(b"["):
        return _array, lambda path: sum(1 for _ in _array(path, range(sys.maxsize)))
    return _lines, lambda path: sum(1 for _ in _filled_lines(path, ()))


def _filled_lines(path: Path, chosen: Container[int]) -> Iterator[tuple[int, bytes | None]]:
    """(number, bytes) of each line that is not blank; None where it is not chosen, or too long.

    Bytes are split at b"\\n" only: JSON strings may hold other line separators as they are.
    """
    number = place = 0
    with path.open("rb") as file:
        while piece := file.readline(_CHUNK):
            number += 1
            piece = piece.removeprefix(_BOM) if number == 1 else piece
            parts, size, filled = [piece], len(piece), not piece.isspace() and bool(piece)
            # A long line comes in pieces, and is put together only if it is asked for.
            while not piece.endswith(b"\n") and (piece := file.readline(_CHUNK)):
                size, filled = size + len(piece), filled or not piece.isspace()
                if size <= _LONGEST_ROW and place in chosen:
                    parts.append(piece)
            if filled:
                kept = size <= _LONGEST_ROW and place in chosen
                yield number, b"".join(parts) if kept else None
                place += 1


def _lines(path: Path, places: Sequence[int]) -> Iterator[Row]:
    chosen, stop = _chosen(places)
    for place, (number, line) in enumerate(_filled_lines(path, chosen)):
        if place >= stop:
            return
        if place not in chosen:
            continue
        if line is None:
            yield place, number, _TOO_LONG
            continue
        # Bytes that are not UTF-8 become surrogates, which name their field when it is read.
        text = line.decode("utf-8", "surrogateescape")
        del line
        try:
            row = _DECODER.decode(text)
        except _Twice as twice:
            row = twice.unread
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path}, row {number}: broken JSON in line {number}, "
                f"{getattr(error, 'msg', error)}; expected an array of objects or one object "
                "a line"
            ) from None
        yield place, number, row


class _Twice(Exception):
    """A name occurs twice in one JSON object, of which Python would keep the last."""

    def __init__(self, name: str) -> None:
        self.unread = Unread(f"with the field {name!r} twice", "one of the two would be lost")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
_PLAIN = json.JSONDecoder()


def _array(path: Path, places: Sequence[int]) -> Iterator[Row]:
    chosen, stop = _chosen(places)
    place = 0
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        elements = _elements(file)
        while place < stop:
            try:
                row = next(elements)
            except StopIteration:
                return
            except _Broken as broken:
                raise ValueError(f"{path}, row {place + 1}: broken JSON in {broken}") from None
            if place in chosen:
                yield place, place + 1, row
            place += 1


class _Broken(Exception):
    """Says in which line and how the text of an array is broken."""


def _elements(file: TextIO) -> Iterator[Any]:
    """The elements of a JSON array, parsed as the text comes in."""
    text, line, ended = file.read(_CHUNK), 1, False
    at, last = text.index("[") + 1, False
    if text.startswith("]", _after_space(text, at)):
        at, last = text.index("]", at) + 1, True
    while not last:
        try:
            parsed, problem, stands = _element(text, at), "it ends too early", len(text)
        except (ValueError, RecursionError) as error:
            parsed, problem = None, str(getattr(error, "msg", error))
            stands = getattr(error, "pos", at)
            # An element cut off by the end of what was read fails there, or at an opening quote.
            cut = stands >= len(text) - _LONGEST_TOKEN or problem.startswith("Unterminated")
            ended = ended or not cut
        if parsed is not None:
            element, at, last = parsed
            yield element
        elif ended:
            raise _Broken(f"line {line + text.count(chr(10), 0, stands)}, {problem}")
        else:
            if len(text) - at > _LONGEST_ROW:
                raise _Broken(f"line {line + text.count(chr(10), 0, at)}, a row over 64 MiB")
            line += text.count("\n", 0, at)
            more = file.read(max(_CHUNK, len(text)))  # twice as much: a long row stays linear
            text, at, ended = text[at:] + more, 0, not more
    rest = text[at:] + file.read(_CHUNK)
    if rest.strip():
        raise _Broken(f"line {line + text.count(chr(10), 0, at)}, text after the array's end")


def _element(text: str, at: int) -> tuple[Any, int, bool] | None:
    """(element, where the next one begins, whether it is the last); None if the text ends first."""
    begin = _after_space(text, at)
    try:
        element, end = _DECODER.raw_decode(text, begin)
    except _Twice as twice:
        element, end = twice.unread, _PLAIN.raw_decode(text, begin)[1]
    end = _after_space(text, end)
    if end == len(text):
        return None
    if text[end] not in ",]":
        raise json.JSONDecodeError("Expecting ',' delimiter", text, end)
    return element, end + 1, text[end] == "]"


def _after_space(text: str, at: int) -> int:
    """The first place from `at` on that is no white space."""
    space = _SPACE.match(text, at)
    assert space is not None  # the pattern matches no space as well
    return space.end()


def _parquet(path: Path, places: Sequence[int]) -> Iterator[Row]:
    import pyarrow

    file = _open_parquet(path)
    begin = 0
    for group in range(file.num_row_groups):
        about = file.metadata.row_group(group)
        place, begin = begin, begin + about.num_rows
        wanted = _among(places, place, begin)
        mean = about.total_byte_size // max(1, about.num_rows)
        if mean > _LONGEST_ROW:
            yield from ((each, each + 1, _TOO_LONG) for each in wanted)
        elif wanted:
            size = max(1, min(_BATCH, _BATCH_BYTES // max(1, mean)))
            try:
                for batch in file.iter_batches(batch_size=size, row_groups=[group]):
                    here = _among(wanted, place, place + len(batch))
                    whole = batch.to_pylist() if len(here) == len(batch) else None
                    for each in here:  # one by one, a row of a draw costs its own memory only
                        at = each - place
                        yield (
                            each,
                            each + 1,
                            whole[at] if whole else batch[at : at + 1].to_pylist()[0],
                        )
                    place += len(batch)
                    if place > wanted[-1]:
                        break
            except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
                raise ValueError(
                    f"{path}, row {place + 1} or soon after it: broken Parquet ({error})"
                ) from None


def _open_parquet(path: Path) -> Any:
    """The file, set to keep a repeated text once and to read a column's pages as they come."""
    import pyarrow
    import pyarrow.parquet

    try:
        about = pyarrow.parquet.read_metadata(path)
        texts = [
            about.schema.column(place).path
            for place in range(len(about.schema))
            if about.schema.column(place).physical_type == "BYTE_ARRAY"
            # A larger column has many texts, and to look for repetitions would cost their memory.
            and all(
                about.row_group(group).column(place).total_uncompressed_size <= _REPEATED
                for group in range(about.num_row_groups)
            )
        ]
        return pyarrow.parquet.ParquetFile(
            path, metadata=about, read_dictionary=texts, buffer_size=_CHUNK, pre_buffer=False
        )
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(
            f"{path}, row 1: not a Parquet file, or one that was cut off ({error})"
        ) from None


def _among(places: Sequence[int], first: int, end: int) -> Sequence[int]:
    """Those of the sorted places from first up to end."""
    return places[bisect_left(places, first) : bisect_left(places, end)]


def _chosen(places: Sequence[int]) -> tuple[Container[int], int]:
    """(a fast test whether a place is among these, the place to stop at)."""
    stop = places[-1] + 1 if places else 0
    return places if isinstance(places, range) else frozenset(places), stop
