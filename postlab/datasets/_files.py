"""Rows of a local JSON, JSON Lines or Parquet file, without holding the file in memory.

Held at a time: of JSON Lines one line; of a JSON array a mebibyte of text, or one row where that is
longer; of Parquet the columns of one row group, compressed, and a batch of rows. So n rows of a
file cost the memory of n rows. What it costs instead is a second pass: the rows are counted first
and then drawn, and where many are dropped there are further passes.
"""

import json
import random
import re
import sys
from array import array
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet")

_CHUNK = 2**20  # characters of a JSON array read at a time
_BATCH = 1_000  # Parquet rows turned into Python objects at a time
_BOM = b"\xef\xbb\xbf"
_OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "gzip"}
_LONGEST_TOKEN = (
    16  # characters of what JSON may be cut in, strings apart: -Infinity, \\ud83d\\ud83d
)
_SPACE = re.compile(r"[ \t\r\n]*")

Row = tuple[int, int, Any]  # place among the file's rows from 0, number to name it by, the row
Reader = Callable[[Path, Sequence[int]], Iterator[Row]]  # the file, the places in order


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
    order = array("q", range(count(path))[first:last])
    random.Random(seed).shuffle(order)
    start, size = 0, n
    while start < len(order):
        places = order[start : start + size]
        rows = {place: (number, row) for place, number, row in rows_at(path, sorted(places))}
        for place in places:
            yield rows.pop(place)
        start, size = start + size, 2 * size  # many are dropped: fewer passes


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
    return _lines, lambda path: sum(1 for _ in _filled_lines(path))


def _filled_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of each line that is not blank.

    Bytes are split at b"\\n" only: JSON strings may hold other line separators as they are.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(_BOM) if number == 1 else line
            if line.strip():
                yield number, line


def _lines(path: Path, places: Sequence[int]) -> Iterator[Row]:
    chosen, stop = _chosen(places)
    for place, (number, line) in enumerate(_filled_lines(path)):
        if place >= stop:
            return
        if place in chosen:
            # Bytes that are not UTF-8 become surrogates, which name their field when it is read.
            text = line.decode("utf-8", "surrogateescape")
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise ValueError(
                    f"{path}, row {number}: broken JSON in line {number}, "
                    f"{getattr(error, 'msg', error)}; expected an array of objects or one object "
                    "a line"
                ) from None
            yield place, number, row


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
    decode = json.JSONDecoder().raw_decode
    text, line, ended = file.read(_CHUNK), 1, False
    at, last = text.index("[") + 1, False
    if text.startswith("]", _after_space(text, at)):
        at, last = text.index("]", at) + 1, True
    while not last:
        try:
            parsed, problem, stands = _element(decode, text, at), "it ends too early", len(text)
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
            line += text.count("\n", 0, at)
            more = file.read(max(_CHUNK, len(text)))  # twice as much: a long row stays linear
            text, at, ended = text[at:] + more, 0, not more
    rest = text[at:] + file.read(_CHUNK)
    if rest.strip():
        raise _Broken(f"line {line + text.count(chr(10), 0, at)}, text after the array's end")


def _element(decode: Callable, text: str, at: int) -> tuple[Any, int, bool] | None:
    """(element, where the next one begins, whether it is the last); None if the text ends first."""
    element, end = decode(text, _after_space(text, at))
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

    chosen, stop = _chosen(places)
    file = _open_parquet(path)
    place = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if place >= stop:
            return
        if not any(each in chosen for each in range(place, place + rows)):
            place += rows
            continue
        try:
            for batch in file.iter_batches(batch_size=_BATCH, row_groups=[group]):
                here = [p for p in range(place, place + len(batch)) if p in chosen]
                picked = batch.take(pyarrow.array([p - place for p in here], pyarrow.int64()))
                for each, row in zip(here, picked.to_pylist(), strict=True):
                    yield each, each + 1, row
                place += len(batch)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path}, row {place + 1} or soon after it: broken Parquet ({error})"
            ) from None


def _open_parquet(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(
            f"{path}, row 1: not a Parquet file, or one that was cut off ({error})"
        ) from None


def _chosen(places: Sequence[int]) -> tuple[Container[int], int]:
    """(a fast test whether a place is among these, the place to stop at)."""
    stop = places[-1] + 1 if places else 0
    return places if isinstance(places, range) else frozenset(places), stop
