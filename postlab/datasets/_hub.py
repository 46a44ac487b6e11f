"""Rows of a data set on the Hub, streamed: only what is needed is downloaded.

How much that is: the rows before a range's start, the n rows asked for and those they are drawn
among, rounded up to what is fetched at a time (some 8 MB, or a row group of Parquet where that is
more) and fetched more than once at the start, where the fields are looked up: some 20 MB for a few
rows of a large file. A draw is therefore one among the first rows of the range, not of the whole
set. A JSON array on the Hub is downloaded whole.
"""

import itertools
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from postlab.redaction import redact

# name -> Hub id, configuration
KNOWN = {
    "openhermes": ("teknium/OpenHermes-2.5", None),
    "slimorca": ("Open-Orca/SlimOrca", None),
    # The cleaned binarisation: scores come from the ratings, TruthfulQA prompts are out. The first
    # UltraFeedback's overall_score had a bug that turned 1 into 10.
    "ultrafeedback": ("argilla/ultrafeedback-binarized-preferences-cleaned", None),
    "gsm8k": ("openai/gsm8k", "main"),
}
# Three are pinned to commits, taken from published records of the Hub's `main`; this project has
# not fetched a row at them yet. OpenHermes is NOT pinned: its `main` holds one JSON array of
# 1.9 GB, which can only be read whole, so the Hub's own Parquet conversion is streamed instead, and
# that is a branch. It changes only when the data set does (last in 2024).
REVISIONS = {
    "openhermes": "refs/convert/parquet",
    "slimorca": "ce9ed009ef3292bac33d3520afaf5ec804066120",
    "ultrafeedback": "770076f077c4c5e298498fa32f804857f46d5134",
    "gsm8k": "740312add88f781978c0658806c59bc2815b9866",
}
SHUFFLE_BUFFER = 10_000  # rows of a stream held in memory to draw from, at most
DRAWN_FROM = 5  # rows waiting for each row asked for: 1,000 rows are drawn among the first 6,000

_PARQUET_BYTES = 8 << 20  # fetched at a time where a limit is set; Arrow's own choice is 32 MiB
_JSON_BYTES = 1 << 20


def hub_rows(
    source: str, split: str, first: int, last: int | None, n: int | None, seed: int
) -> Iterator[tuple[int, Any]]:
    """(number from 1, row) of rows first to last, in order, or where n is given drawn by seed."""
    repo, config = KNOWN.get(source, (source, None))
    try:
        stream = _stream(repo, config, REVISIONS.get(source), split, whole=n is None and not last)
        # Not the stream's own skip: on Parquet, datasets 4.8.5 skips too few rows, and a range
        # meant to be held out would hold rows of the one that is trained on.
        numbered = itertools.islice(enumerate(stream, 1), first, last)
        size = None if n is None else min(SHUFFLE_BUFFER, DRAWN_FROM * n)
        yield from numbered if size is None else _shuffled(numbered, size, seed)
    except Exception as error:  # of four libraries: the network's, the Hub's, datasets', Arrow's
        advice = "Without network take source='tinyworld' or a local JSON, JSONL or Parquet file"
        _refuse(f"{repo!r}, split {split!r}, from the Hub", error, advice)


def whole_split(
    source: str,
    *,
    config: str | None = None,
    split: str = "train",
    revision: str | None = None,
    file: str | None = None,
) -> list[dict[str, Any]]:
    """Every row of a small set as it is, in order; for sets that are only evaluated on.

    Args:
        source: a Hub id, or a local CSV, JSON, JSON Lines or Parquet file, for which nothing else
            is needed.
        config, split, revision: as on the Hub.
        file: the one JSON file to read, of a repository that the library doesn't read by itself.
    Raises:
        OSError: if it can't be read, or its terms have to be accepted on the Hub first.
    """
    try:
        from datasets import load_dataset

        path = Path(source).expanduser()
        if path.is_file():
            kind = {".csv": "csv", ".parquet": "parquet"}.get(path.suffix.lower(), "json")
            return load_dataset(kind, data_files=str(path), split="train").to_list()
        if file:
            place = f"hf://datasets/{source}@{revision or 'main'}/{file}"
            return load_dataset("json", data_files=place, split="train").to_list()
        return load_dataset(source, config, split=split, revision=revision).to_list()
    except Exception as error:  # of four libraries, as above
        advice = (
            "Where its page asks you to accept terms, do so and set HF_TOKEN. Or take a file of its"
            " rows that you have: source='rows.csv', .json, .jsonl or .parquet"
        )
        _refuse(f"{source!r}, split {split!r}", error, advice)


def _refuse(what: str, error: Exception, advice: str) -> NoReturn:
    cause = " ".join(f"{type(error).__name__}: {error}".split())
    shown = redact(cause)
    raise OSError(f"cannot read {what} ({shown:.500}). {advice}") from (
        error if shown == cause else None  # a traceback would show the secret
    )


def _stream(
    repo: str, config: str | None, revision: str | None, split: str, *, whole: bool
) -> Iterable[Any]:
    """The split's rows as they come; where not all are wanted, fetched in small pieces."""
    import pyarrow
    import pyarrow.dataset
    from datasets import load_dataset_builder

    builder = load_dataset_builder(repo, config, revision=revision)
    if not whole and hasattr(builder.config, "fragment_scan_options"):  # Parquet
        pieces = pyarrow.CacheOptions(range_size_limit=_PARQUET_BYTES)
        options = pyarrow.dataset.ParquetFragmentScanOptions(cache_options=pieces)
        builder.config.fragment_scan_options = options
    if not whole and hasattr(builder.config, "chunksize"):  # JSON Lines
        builder.config.chunksize = _JSON_BYTES
    return builder.as_streaming_dataset(split=split)


def _shuffled(rows: Iterable[Any], size: int, seed: int) -> Iterator[Any]:
    """The rows, each drawn from the `size` that wait at the time.

    >>> sorted(_shuffled(range(5), 2, 0)), list(_shuffled(range(100), 10, 0))[0] < 10
    ([0, 1, 2, 3, 4], True)
    """
    chooser = random.Random(seed)
    waiting: list[Any] = []
    for row in rows:
        waiting.append(row)
        if len(waiting) > size:
            place = chooser.randrange(size)
            waiting[place], waiting[-1] = waiting[-1], waiting[place]
            yield waiting.pop()
    chooser.shuffle(waiting)
    yield from waiting
