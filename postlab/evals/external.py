"""Samples that lm-evaluation-harness or inspect-ai saved, as a frame that `compare` takes.

Both write what a model answered to each document and how that was scored. Here it becomes what
`evaluate` returns, so that the paired tests and corrections serve whoever evaluates elsewhere.

What this leaves out: the harnesses' own aggregation. `compare` averages the epochs or the
identical documents of a prompt, whatever reducer the log names, and a metric that only exists for a
whole task (F1, perplexity, BLEU) has no value per document to pair.
"""

from __future__ import annotations

import json
import math
import re
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab.evals.evaluation import METRICS, NON_METRICS

if TYPE_CHECKING:  # pandas loads when a file is read, not on import
    import pandas as pd

LARGEST = 2**28  # bytes of one document of JSON: a sample, or a line
LARGEST_LOG = 2**30  # bytes of a whole .json log, which is parsed at once
EXPANSION = 500  # times its size that an .eval archive may expand; small ones expand 20 times
ZSTANDARD = 93  # inspect's default compression; zipfile knows it from Python 3.14 on
LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}  # inspect's correct, partial, incorrect, none
WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}  # as inspect reads them, in any case
# A scorer of theirs with a name of ours gets a suffix: `answer` would replace the answers, and
# `refusal` would get our label and direction. Not read later: users may add metrics to METRICS.
TAKEN = frozenset((*METRICS, *NON_METRICS))

_DATE = re.compile(r"_[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9.-]+$")
_INSIDE = re.compile(r"samples_.*\.jsonl|.*\.eval|[0-9]{4}-[0-9]{2}-[0-9]{2}T.*\.json", re.DOTALL)
_SAMPLE = re.compile(r"_epoch_[0-9]+(?:/sample)?\.json\Z")  # the second form: chunked samples
_SHOWN = 10  # names in an error

Row = tuple[dict[str, Any], dict[str, Any]]  # columns but metrics; metrics as they stand


def read_samples(
    path: str | Path, *, metrics: Sequence[str] | None = None, filter: str | None = None
) -> pd.DataFrame:
    """Read saved samples of lm-evaluation-harness or inspect-ai, to `compare` two models.

    Args:
        path: `samples_<task>_<date>.jsonl` of `lm_eval --log_samples`, an inspect log (`.eval` or
            `.json`), or a folder with exactly one of these.
        metrics: the metrics to keep, None for all. A score of inspect's is named after its scorer,
            one of a dictionary `scorer/key`; a name that postlab uses itself ends in `_score`.
        filter: which of lm-eval's filters to read, such as 'strict-match', if there are several.
    Returns:
        A row per document and sample, in the file's order: id (lm-eval's doc_hash, inspect's sample
        id), family (the task), prompt (lm-eval: the context as it was sent, few-shot examples and
        template included; inspect: the sample's input), sample (from 0: the epoch, or the number
        among identical documents), answer ('' for log-likelihoods), closed (inspect: stopped by
        itself; None for lm-eval), then a float column per metric: booleans are 0 or 1, C, P, I, N
        are 1, 0.5, 0, 0, and a missing score is NaN. A warning counts the missing ones.
    Raises:
        ValueError: if the file is of another kind, broken, empty, or too large; if a document
            occurs twice; if a score is no number; or if there are filters or files to choose from.
        FileNotFoundError: if there is no such file.
    Figures and findings call a change better or worse only if postlab.evals.METRICS says which
    way is better: `METRICS["exact_match"] = ("Exact match", "up", "share")`.
    """
    import pandas as pd

    path = _the_file(Path(path))
    if path.suffix == ".jsonl":
        rows, notes = _lm_eval_rows(path, filter), ""
    else:
        if filter is not None:
            raise ValueError(f"{path}: {filter=}, but only lm-eval's samples have filters")
        rows, notes = _inspect_rows(path)
    names = list(dict.fromkeys(name for _, scores in rows for name in scores))
    if not names:
        raise ValueError(f"{path}: none of its {len(rows):,} samples has a score{notes}")
    columns = {name: f"{name}_score" if name in TAKEN else name for name in names}
    if len(set(columns.values())) < len(columns):
        raise ValueError(
            f"{path}: two metrics would have one name among {_listed(columns.values())}"
        )
    if isinstance(metrics, str):
        raise TypeError(f"metrics is {metrics!r}; expected a list of names, as [{metrics!r}]")
    if unknown := [name for name in metrics or () if name not in columns.values()]:
        raise ValueError(
            f"{path}: no metric {unknown[0]!r}; expected some of {_listed(columns.values())}"
        )
    chosen = {n: column for n, column in columns.items() if metrics is None or column in metrics}
    if not chosen:
        raise ValueError(f"{path}: metrics is empty; expected {_listed(columns.values())}")
    for name, column in chosen.items():
        for row, scores in rows:
            value = _number(scores.get(name))
            if value is None:
                usable = [
                    columns[n] for n in names if all(_number(s.get(n)) is not None for _, s in rows)
                ]
                advice = f"pass metrics=[...] with some of {_listed(usable)}"
                raise ValueError(
                    f"{path}: {column!r} is {scores[name]!r:.80} for the document {row['id']!r}, "
                    "which is no number per document; "
                    + (advice if usable else "nor is any other metric, so there's nothing to pair")
                )
            row[column] = value
    frame = pd.DataFrame([row for row, _ in rows])[[*NON_METRICS, *chosen.values()]]
    missing = {name: int(frame[name].isna().sum()) for name in chosen.values()}
    if notes or any(missing.values()):
        counts = ", ".join(f"{count:,} in {name}" for name, count in missing.items() if count)
        warnings.warn(
            f"{path.name}: {len(frame):,} samples; missing scores, which compare leaves out: "
            f"{counts or 'none'}{notes}",
            stacklevel=2,
        )
    return frame


def _the_file(path: Path) -> Path:
    """The file with the samples: itself, or the only one in a folder."""
    if path.is_dir():
        # lm-eval makes a folder per model in its output path.
        inside = [file for pattern in ("*", "*/*") for file in path.glob(pattern)]
        files = sorted(file for file in inside if _INSIDE.fullmatch(file.name))
        if len(files) != 1:
            names = _listed(str(file.relative_to(path)) for file in files)
            raise ValueError(
                f"{path} holds {len(files)} files of samples ({names}); expected one. Name the file"
                ", or read several tasks one by one and join them with pandas.concat"
                if files
                else f"{path} holds neither samples_*.jsonl nor logs of inspect-ai; lm-eval writes"
                " samples with --log_samples"
            )
        return files[0]
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected a file of samples, or its folder")
    if path.suffix not in (".jsonl", ".json", ".eval"):
        raise ValueError(
            f"{path}: got a file ending in {path.suffix or 'no suffix'}; expected lm-eval's "
            "samples_*.jsonl, or inspect's *.eval or *.json"
        )
    return path


def _lm_eval_rows(path: Path, filter: str | None) -> list[Row]:
    samples = []
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LARGEST + 1), b""), 1):
            if line.strip():
                sample = _parsed(line, f"{path}, line {number}")
                if not isinstance(sample, dict) or not {"doc_id", "resps"} <= set(sample):
                    raise ValueError(
                        f"{path}, line {number}: {_shape(sample)}; expected a sample of lm-eval, "
                        "with doc_id, arguments, resps and its metrics"
                    )
                samples.append(_lm_eval_sample(sample))
    if not samples:
        raise ValueError(f"{path} is empty; expected a sample per line")
    filters = list(dict.fromkeys(name for name, *_ in samples))
    if (filter is None and len(filters) > 1) or (filter is not None and filter not in filters):
        raise ValueError(
            f"{path}: {filter=}; pass the one to read, filter={filters[0]!r} for instance, out of "
            f"{_listed(filters)}"
        )
    family, rows, documents = _DATE.sub("", path.stem.removeprefix("samples_")), [], set()
    copies: Counter[str] = Counter()
    for name, doc_id, row, scores in samples:
        if filter is None or name == filter:
            if doc_id in documents:
                raise ValueError(
                    f"{path}: the document {doc_id} occurs twice; is this the output of two runs?"
                )
            documents.add(doc_id)
            row |= {"family": family, "sample": copies[row["id"]], "closed": None}
            copies[row["id"]] += 1  # datasets do hold a document twice: one prompt, two samples
            rows.append((row, scores))
    return rows


def _lm_eval_sample(sample: Mapping[str, Any]) -> tuple[str, str, dict[str, Any], dict[str, Any]]:
    """(filter, doc_id, row, metrics) of a line; the rest of it is not kept."""
    names = sample.get("metrics")
    if not isinstance(names, list):  # older versions don't list them
        names = [name for name in sample if name not in _LM_EVAL_FIELDS]
    doc_id = str(sample["doc_id"])
    answer = _first(sample["resps"], deepest=2)  # of the document's requests, the first try
    row = {
        "id": str(sample.get("doc_hash") or doc_id),
        "prompt": _text(_first(sample.get("arguments"))),
        "answer": answer if isinstance(answer, str) else "",
    }
    scores = {str(name): sample.get(str(name)) for name in names}
    return str(sample.get("filter", "none")), doc_id, row, scores


_LM_EVAL_FIELDS = {
    *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"),
    *("doc_hash", "prompt_hash", "target_hash"),
}


def _inspect_rows(path: Path) -> tuple[list[Row], str]:
    """The rows of a log, and what a reader should know about it, ready to be added to a message."""
    if path.suffix == ".eval":
        header, samples = _archive(path)
    else:
        with path.open("rb") as file:
            log = _parsed(file.read(LARGEST_LOG + 1), str(path), LARGEST_LOG)
        if isinstance(log, dict) and "results" in log and "eval" not in log:
            raise ValueError(
                f"{path} holds lm-eval's results for whole tasks; pairing needs every document: "
                "pass the file samples_<task>_<date>.jsonl beside it, which --log_samples writes"
            )
        if not isinstance(log, dict) or not isinstance(log.get("eval"), dict):
            raise ValueError(f"{path}: {_shape(log)}; expected a log of inspect-ai")
        saved = log.get("samples")
        header, samples = log, iter(saved if isinstance(saved, list) else ())
    rows: list[Row] = []
    family, errors, seen = str(_dict(header.get("eval")).get("task", path.stem)), 0, set()
    for sample in samples:
        if not isinstance(sample, dict) or not {"id", "epoch", "input"} <= set(sample):
            raise ValueError(f"{path}: {_shape(sample)}; expected a sample with id, epoch, input")
        name, epoch = str(sample["id"]), sample["epoch"]
        if not isinstance(epoch, int):
            raise ValueError(f"{path}: the sample {name!r} has {epoch=}; expected a whole number")
        if (name, epoch) in seen:
            raise ValueError(f"{path}: the sample {name!r} occurs twice in epoch {epoch}")
        seen.add((name, epoch))
        output = _dict(sample.get("output"))
        scores: dict[str, Any] = {}
        for scorer, score in _dict(sample.get("scores")).items():
            value = score.get("value") if isinstance(score, dict) else score
            if isinstance(value, dict):
                scores |= {f"{scorer}/{key}": part for key, part in value.items()}
            else:
                scores[scorer] = value
        choice = _dict(_first(output.get("choices"), deepest=1))
        row = {"id": name, "family": family, "sample": epoch - 1}
        row["prompt"] = _text([sample["input"], sample.get("choices")])
        row["answer"] = _text(output.get("completion") or _dict(choice.get("message")))
        row["closed"] = choice.get("stop_reason") == "stop"
        rows.append((row, scores))
        errors += bool(sample.get("error"))
    if not rows:
        raise ValueError(f"{path} holds no samples; was it written with --no-log-samples?")
    status = header.get("status", "started")
    notes = f"; {errors:,} ended in an error" if errors else ""
    if status != "success":
        notes += f"; the evaluation's status is {status!r}, so there may be samples missing"
    return rows, notes


def _archive(path: Path) -> tuple[dict[str, Any], Iterator[Any]]:
    """The header of an .eval archive, {} where it was never finished, and its samples."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}  # a later one counts
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path}: not an .eval archive, or one cut off ({error})") from None
    samples = [e for n, e in entries.items() if n.startswith("samples/") and _SAMPLE.search(n)]
    total = sum(entry.file_size for entry in samples)
    if total > max(LARGEST, EXPANSION * path.stat().st_size):
        raise ValueError(
            f"{path}: its samples expand to {total:,} bytes, more than {EXPANSION} times its size; "
            "no evaluation compresses so well"
        )
    header = entries.get("header.json") or entries.get("_journal/start.json")
    read = _dict(next(_read_entries(path, [header]))) if header else {}
    return read, _read_entries(path, samples)


def _read_entries(path: Path, entries: Iterable[zipfile.ZipInfo]) -> Iterator[Any]:
    with zipfile.ZipFile(path) as archive:
        for entry in entries:
            where = f"{path}, {entry.filename}"
            if entry.file_size > LARGEST:
                raise ValueError(
                    f"{where}: {entry.file_size:,} bytes; at most {LARGEST:,} are read"
                )
            if entry.compress_type == ZSTANDARD:
                content = _zstandard(path, entry)
            else:
                try:
                    content = archive.read(entry)
                except Exception as error:  # each compression has its own
                    raise ValueError(f"{where}: cannot be read ({error})") from None
            yield _parsed(content, where)


def _zstandard(path: Path, entry: zipfile.ZipInfo) -> bytes:
    """An entry in the compression that zipfile doesn't know before Python 3.14."""
    try:
        import pyarrow
    except ImportError:
        raise ValueError(
            f"{path} is compressed with Zstandard, which needs pyarrow: pip install pyarrow, or "
            f"write the log as JSON with: inspect log convert --to json --output-dir . {path.name}"
        ) from None
    with path.open("rb") as file:
        # The lengths of name and extra field in the local header differ from the directory's.
        file.seek(entry.header_offset)
        local = file.read(30)
        if len(local) < 30 or local[:4] != b"PK\x03\x04":
            raise ValueError(
                f"{path}, {entry.filename}: cannot be read (no entry where it should be)"
            )
        file.seek(int.from_bytes(local[26:28], "little"), 1)
        file.seek(int.from_bytes(local[28:30], "little"), 1)
        packed = file.read(entry.compress_size)
    try:
        with pyarrow.CompressedInputStream(pyarrow.py_buffer(packed), "zstd") as stream:
            content = bytes(stream.read(entry.file_size + 1))
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}, {entry.filename}: cannot be read ({error})") from None
    if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
        raise ValueError(f"{path}, {entry.filename}: cannot be read (damaged)")
    return content


def _parsed(text: bytes, where: str, most: int = LARGEST) -> Any:
    if len(text) > most:
        raise ValueError(f"{where}: more than {most:,} bytes, which is the most that is read")
    try:
        return json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        problem = getattr(error, "msg", None) or error
        raise ValueError(f"{where}: broken JSON, or a file cut off ({problem})") from None


def _number(value: Any) -> float | None:
    """A score as a float, NaN where there is none; None for what is not a number."""
    if value is None:
        return math.nan
    if isinstance(value, str):
        if value in LETTERS:
            return LETTERS[value]
        if value.lower() in WORDS:
            return WORDS[value.lower()]
    if isinstance(value, str | int | float):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return None if math.isinf(number) else number
    return None


def _first(value: Any, deepest: int = 3) -> Any:
    """The first element of the first element and so on; None where there is none."""
    for _ in range(deepest):
        if isinstance(value, dict):
            value = list(value.values())
        if not isinstance(value, list):
            break
        value = value[0] if value else None
    return value


def _text(content: Any, depth: int = 0) -> str:
    """Text, or the texts of a message, of its parts or of a list of messages, a line each."""
    if isinstance(content, dict):
        content = content.get("content") or content.get("text")
    if isinstance(content, list) and depth < 9:  # real ones are four deep
        return "\n".join(text for item in content if (text := _text(item, depth + 1)))
    return content if isinstance(content, str) else ""


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _shape(value: Any) -> str:
    return f"has the fields {_listed(value)}" if isinstance(value, dict) else f"is {value!r:.80}"


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(repr(name) for name in every[:_SHOWN]) + more
