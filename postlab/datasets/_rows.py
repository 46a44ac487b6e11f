"""Raw rows from the Hub or a file, and the message lists they are turned into.

Shared by instructions, preferences and math. A row that lacks a field it needs is an error that
names it; a row that has the fields but cannot be learned from (an empty reply, say) is dropped and
counted in `Rows.dropped`. Nothing is cleaned or deduplicated here: that is curation.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# name -> Hub id, configuration
# The embedded world; in English its facts stand in the prompt, for models that never read of it.
EMBEDDED = ("tinyworld", "tinyworld-english")
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
SHUFFLE_BUFFER = 10_000  # rows of a stream held in memory to draw from
SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet")

_SPLIT = re.compile(r"([\w.-]+)(?:\[(\d*):(\d*)\])?")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant"}
_ROLES |= {role: role for role in ("system", "user", "assistant")}

Message = dict[str, str]


class Rows(list):
    """A list of rows that remembers its source and what was left out.

    Attributes:
        source: as it was asked for.
        dropped: reason -> number of rows that were read and dropped.
    """

    def __init__(self, rows: Sequence[dict], source: str, dropped: Mapping[str, int]) -> None:
        super().__init__(rows)
        self.source = source
        self.dropped = dict(dropped)


class Drop(Exception):
    """Raised by a converter for a row that is complete but cannot be learned from."""


def collect(
    source: str, split: str, n: int | None, seed: int, convert: Callable[[dict, str], dict]
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
        said = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "it is empty"
        raise ValueError(f"{source}, split {split!r} has no usable row: {said}")
    return Rows(rows, str(source), dropped)


def choose_format(raw: Mapping, formats: Mapping[str, Sequence[str]], where: str) -> str:
    """The format most of whose fields a row has; an error where one of them is missing.

    >>> choose_format({"question": "?"}, {"qa": ("question", "answer")}, "a.json, row 3")
    Traceback (most recent call last):
    ValueError: a.json, row 3: no field 'answer' (it has question; needed are question, answer)
    """
    present = {key for key, value in raw.items() if value is not None}
    share = {name: len(present & set(fields)) / len(fields) for name, fields in formats.items()}
    best = max(share, key=lambda name: share[name])
    if share[best] == 0:
        known = " or ".join(" + ".join(fields) for fields in formats.values())
        raise ValueError(f"{where}: no field of a known format (it has {_names(present)}; {known})")
    for field in formats[best]:
        if field not in present:
            raise ValueError(
                f"{where}: no field {field!r} (it has {_names(present)}; "
                f"needed are {', '.join(formats[best])})"
            )
    return best


def messages_of(value: Any, where: str, field: str, *, role: str = "user") -> list[Message]:
    """Text, a message or a list of them, as `from`/`value` or `role`/`content`, as messages.

    >>> messages_of([{"from": "human", "value": "Hi"}], "a.json, row 1", "conversations")
    [{'role': 'user', 'content': 'Hi'}]
    """
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    listed = [value] if isinstance(value, Mapping) else value
    if not isinstance(listed, Sequence):
        got = type(value).__name__
        raise ValueError(f"{where}: field {field!r} must be text or a list of messages, got {got}")
    return [_message(each, where, field) for each in listed]


def _message(value: Any, where: str, field: str) -> Message:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: field {field!r} must hold messages, got {value!r:.80}")
    read = []
    for key in ("from", "value") if "from" in value else ("role", "content"):
        if not isinstance(value.get(key), str):
            raise ValueError(
                f"{where}: a message of field {field!r} has no text {key!r} "
                f"(it has {_names(value)})"
            )
        read.append(value[key])
    if read[0] not in _ROLES:
        raise Drop(f"with the unknown role {read[0]!r}")
    return {"role": _ROLES[read[0]], "content": read[1]}


def alpaca_prompt(raw: Mapping, where: str) -> list[Message]:
    """Alpaca's instruction, with its input below it where there is one."""
    parts = [text_of(raw, "instruction", where)]
    if raw.get("input"):
        parts.append(text_of(raw, "input", where))
    return messages_of("\n\n".join(parts), where, "instruction")


def text_of(raw: Mapping, field: str, where: str) -> str:
    """A field's text; numbers are allowed, since answers are often stored so."""
    value = raw[field]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{where}: field {field!r} must be text, got {type(value).__name__}")
    return str(value)


def with_system(prompt: list[Message], raw: Mapping) -> list[Message]:
    """The prompt with the row's own system prompt in front, unless it has one already."""
    system = raw.get("system_prompt") or raw.get("system")
    if not isinstance(system, str) or not system.strip():
        return prompt
    if not prompt or prompt[0]["role"] == "system":
        return prompt
    return [{"role": "system", "content": system}, *prompt]


def checked_prompt(prompt: list[Message]) -> list[Message]:
    """A prompt chat templates accept: perhaps a system message, then turns that alternate."""
    turns = prompt[1:] if prompt and prompt[0]["role"] == "system" else prompt
    if not turns or any(not turn["content"].strip() for turn in turns):
        raise Drop("with an empty prompt")
    expected = ["user", "assistant"] * len(turns)
    if len(turns) % 2 == 0 or [t["role"] for t in turns] != expected[: len(turns)]:
        raise Drop("whose turns do not alternate from user to user")
    return prompt


def checked_reply(reply: list[Message]) -> list[Message]:
    """One assistant message with something in it."""
    if len(reply) != 1 or reply[0]["role"] != "assistant":
        raise Drop("without an assistant's reply")
    if not reply[0]["content"].strip():
        raise Drop("with an empty reply")
    return reply


def _names(fields: Any) -> str:
    return ", ".join(sorted(map(str, fields))) or "none"


def _read(source: str, split: str, n: int | None, seed: int) -> Iterator[tuple[int, Any]]:
    """(number counted from 1, raw row), in file order for n=None, else shuffled by seed."""
    matched = _SPLIT.fullmatch(split)
    if not matched:
        raise ValueError(f"split must be a name such as 'train' or 'train[:1000]', got {split!r}")
    name, first, last = matched[1], int(matched[2] or 0), int(matched[3]) if matched[3] else None
    path = Path(source).expanduser()
    if source not in KNOWN and path.is_file():
        rows = list(_file_rows(path))[first:last]
        if n is not None:
            random.Random(seed).shuffle(rows)
        return iter(rows)
    if source in KNOWN or (_HUB_ID.fullmatch(source) and path.suffix not in SUFFIXES):
        return _hub_rows(source, name, first, last, None if n is None else seed)
    raise ValueError(
        f"unknown source {source!r}: it is neither a file that exists, nor a Hub id such as "
        f"'org/name', nor one of {', '.join((*EMBEDDED, *KNOWN))}"
    )


def _file_rows(path: Path) -> Iterator[tuple[int, Any]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        yield from enumerate(pyarrow.parquet.read_table(path).to_pylist(), 1)
        return
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: cannot read {path.suffix or 'no'} suffix, only {SUFFIXES}")
    text = path.read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("["):
        try:
            yield from enumerate(json.loads(text), 1)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {error.lineno}: broken JSON, {error.msg}") from None
        return
    # split("\n"), not splitlines(): JSON strings may hold other line separators as they are.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{path}, line {number}: broken JSON, {error.msg}; expected an array of "
                    "objects or one object a line"
                ) from None


def _hub_rows(
    source: str, split: str, first: int, last: int | None, seed: int | None
) -> Iterator[tuple[int, Any]]:
    from datasets import load_dataset

    repo, config = KNOWN.get(source, (source, None))
    try:
        stream = load_dataset(
            repo, config, split=split, revision=REVISIONS.get(source), streaming=True
        )
        stream = stream.skip(first) if first else stream
        stream = stream if last is None else stream.take(last - first)
        if seed is not None:
            stream = stream.shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER)
        yield from enumerate(stream, 1)
    except (OSError, ValueError) as error:
        raise OSError(
            f"cannot read {repo!r}, split {split!r}, from the Hub ({error}). Without network take "
            "source='tinyworld' or a local JSON, JSONL or Parquet file"
        ) from error
