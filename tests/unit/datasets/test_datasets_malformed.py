"""What a loader says of input that cannot be read: the file, the row and the field."""

from __future__ import annotations

import io
import json
import os

import pytest

from postlab.datasets import _files, instruction_rows, math_rows, preference_rows

GOOD = {"prompt": "2 + 3?", "completion": "5"}
PAIR = {"prompt": "2 + 3?", "chosen": "5", "rejected": "6"}


def lines(*rows: object) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def array(*rows: object) -> bytes:
    return json.dumps(rows, indent=1).encode()


def parquet(*rows: dict) -> bytes:
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)
    return file.getvalue()


def damaged(content: bytes) -> bytes:
    """A Parquet file whose pages are overwritten and whose footer is whole."""
    return content[:4] + b"\xff" * 40 + content[44:]


# What is wrong: loader, file name, its bytes, what the error says after the file's path.
MALFORMED = {
    "a field missing": (
        instruction_rows, "a.jsonl", lines(GOOD, *[{"prompt": "?"}] * 2),
        "row 2: no field 'completion'",
    ),
    "a field null": (
        preference_rows, "a.json", array(PAIR, *[PAIR | {"rejected": None}] * 2),
        "row 2: no field 'rejected'",
    ),
    "a field misspelt": (
        math_rows, "a.jsonl", lines({"question": "?", "anwser": "5"}),
        "row 1: no field 'answer' (it has anwser, question",
    ),
    "a Parquet column null": (
        instruction_rows, "a.parquet", parquet(GOOD, *[GOOD | {"completion": None}] * 2),
        "row 2: no field 'completion'",
    ),
    "no known field": (
        instruction_rows, "a.jsonl", lines(GOOD, *[{"sentence": "5"}] * 2),
        "row 2: no field of a known format (it has sentence; known are messages or",
    ),
    "a row that is text": (
        instruction_rows, "a.json", array(GOOD, "5", "6"),
        "row 2: expected an object with named fields, got '5'",
    ),
    "a row that is null": (
        instruction_rows, "a.jsonl", lines(GOOD, None, None), "row 2: expected an object",
    ),
    "a row that is a list": (
        instruction_rows, "a.jsonl", lines(GOOD, ["2 + 3?"], ["5"]), "row 2: expected an object",
    ),
    "one object that holds the rows": (
        instruction_rows, "a.json", json.dumps({"train": [GOOD]}).encode(),
        "row 1: no field of a known format (it has train",
    ),
    "NaN for a text": (
        instruction_rows, "a.jsonl", lines({"instruction": "?", "output": float("nan")}),
        "row 1: field 'output' must be text, got nan",
    ),
    "NaN in Parquet": (
        math_rows, "a.parquet",
        parquet(*[{"question": "?", "answer": number} for number in (5.0, *[float("nan")] * 2)]),
        "row 2: field 'answer' must be text, got nan",
    ),
    "infinity for an answer": (
        math_rows, "a.json", array({"question": "?", "answer": float("inf")}),
        "row 1: field 'answer' must be text, got float",
    ),
    "a truth value for an answer": (
        math_rows, "a.jsonl", lines({"question": "?", "answer": True}),
        "row 1: field 'answer' must be text, got bool",
    ),
    "a list for an instruction": (
        instruction_rows, "a.jsonl", lines({"instruction": ["?"], "output": "5"}),
        "row 1: field 'instruction' must hold messages, got '?'",
    ),
    "an object for an Alpaca input": (
        instruction_rows, "a.jsonl", lines({"instruction": "?", "input": {"a": 1}, "output": "5"}),
        "row 1: field 'input' must be text, got dict",
    ),
    "a list for a system prompt": (
        instruction_rows, "a.jsonl", lines(GOOD | {"system": ["Be brief.", "No."]}),
        "row 1: field 'system' must be text, got list",
    ),
    "a number for the messages": (
        instruction_rows, "a.jsonl", lines({"messages": 5}),
        "row 1: field 'messages' must be text or a list of messages, got int",
    ),
    "messages that are text": (
        instruction_rows, "a.jsonl", lines({"messages": ["Hi"]}),
        "row 1: field 'messages' must hold messages, got 'Hi'",
    ),
    "a message without content": (
        instruction_rows, "a.jsonl", lines({"messages": [{"role": "user"}]}),
        "row 1: a message of field 'messages' has no text 'content' (it has role)",
    ),
    "a message with an image": (
        instruction_rows, "a.jsonl",
        lines({"messages": [{"role": "user", "content": [{"type": "image", "url": "a.png"}]}]}),
        "row 1: with a part of the type 'image'",
    ),
    "a ShareGPT message without value": (
        preference_rows, "a.jsonl",
        lines({"conversations": [{"from": "human"}], "chosen": "5", "rejected": "6"}),
        "row 1: a message of field 'conversations' has no text 'value' (it has from)",
    ),
    "chosen and rejected without their prompt": (
        preference_rows, "a.jsonl", lines({"chosen": "5", "rejected": "6"}),
        "row 1: no field 'prompt'",
    ),
    "a line cut off": (
        instruction_rows, "a.jsonl", lines(GOOD, GOOD)[:-9], "row 2: broken JSON in line 2",
    ),
    "an array cut off in a row": (
        instruction_rows, "a.json", array(GOOD, GOOD)[:-12], "row 2: broken JSON in line 8",
    ),
    "an array cut off after a row": (
        instruction_rows, "a.json", array(GOOD, GOOD)[:-2],
        "row 2: broken JSON in line 9, it ends too early",
    ),
    "an array without a comma": (
        instruction_rows, "a.json", b'[{"prompt": "?"\n "completion": "5"}]',
        "row 1: broken JSON in line 2, Expecting ',' delimiter",
    ),
    "two arrays one after the other": (
        instruction_rows, "a.json", array(GOOD) + b"\n" + array(GOOD),
        "row 2: broken JSON in line 6, text after the array's end",
    ),
    "a row nested without end": (
        instruction_rows, "a.jsonl", lines(GOOD) + b'\n{"prompt": ' + b"[" * 200_000,
        "row 2: broken JSON in line 2",
    ),
    "a number with too many digits": (
        instruction_rows, "a.json", b'[{"prompt": ' + b"9" * 5_000 + b"}]",
        "row 1: broken JSON in line 1, Exceeds the limit",
    ),
    "Latin-1 for UTF-8": (
        instruction_rows, "a.jsonl",
        lines(GOOD) + ('\n{"prompt": "é", "completion": "5"}' * 2).encode("latin-1"),
        "row 2: field 'prompt' is no Unicode text (at character 0: the file is not UTF-8",
    ),
    "Latin-1 in an array": (
        instruction_rows, "a.json", '[{"prompt": "?", "completion": "aé"}]'.encode("latin-1"),
        "row 1: field 'completion' is no Unicode text (at character 1",
    ),
    "half a character": (
        instruction_rows, "a.jsonl", lines({"messages": [{"role": "user", "content": "\ud83d"}]}),
        "row 1: field 'messages' is no Unicode text (at character 0",
    ),
    "UTF-16": (
        instruction_rows, "a.json", array(GOOD).decode().encode("utf-16"),
        "row 1: the file is UTF-16; save it as plain UTF-8",
    ),
    "a compressed file": (
        instruction_rows, "a.jsonl", b"\x1f\x8b\x08\x00", "row 1: the file is gzip",
    ),
    "Parquet cut off": (
        instruction_rows, "a.parquet", parquet(GOOD)[:-30],
        "row 1: not a Parquet file, or one that was cut",
    ),
    "Parquet with broken pages": (
        instruction_rows, "a.parquet", damaged(parquet(GOOD)),
        "row 1 or soon after it: broken Parquet",
    ),
    "JSON named Parquet": (
        instruction_rows, "a.parquet", lines(GOOD), "row 1: not a Parquet file",
    ),
    "an empty Parquet file": (instruction_rows, "a.parquet", b"", "row 1: not a Parquet file"),
}  # fmt: skip


@pytest.mark.parametrize("n", [None, 50], ids=["in order", "drawn"])
@pytest.mark.parametrize("wrong", MALFORMED)
def test_the_error_names_file_row_and_field(tmp_path, wrong, n):
    load, name, content, said = MALFORMED[wrong]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        load(str(path), split="train", n=n)
    assert str(error.value).startswith(f"{path}, {said}")


@pytest.mark.parametrize("chunk", [20, 33, 64])
def test_a_broken_array_is_named_by_its_row_and_line_wherever_it_is_read_in_parts(
    tmp_path, monkeypatch, chunk
):
    monkeypatch.setattr(_files, "_CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_bytes(
        array(*[GOOD] * 20).replace(b'": "5"', b'": 5"', 15).replace(b'": 5"', b'": "5"', 14)
    )
    with pytest.raises(ValueError, match="a.json, row 15: broken JSON in line 60, "):
        instruction_rows(str(path), split="train")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b""),
        ("a.json", b"[]"),
        ("a.json", b" [ \n]\n"),
        ("a.jsonl", b"\xef\xbb\xbf\n \n"),
        ("a.parquet", parquet(GOOD)),
    ],
)
def test_a_file_without_rows_says_that_it_is_empty(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    split = "train[1:]" if name == "a.parquet" else "train"
    for n in (None, 5):
        with pytest.raises(
            ValueError, match=rf"{name}, split .* has no usable row: no row is there"
        ):
            instruction_rows(str(path), split=split, n=n)


def test_what_is_no_file_of_rows_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "folder.json").mkdir()
    for folder in (tmp_path, tmp_path / "folder.json"):
        with pytest.raises(ValueError, match="is a folder: name one of its files"):
            instruction_rows(str(folder), split="train")
    for name in ("rows.csv", "rows"):
        (tmp_path / name).write_text("prompt,completion")
        with pytest.raises(ValueError, match=f"{name}: cannot read a file whose name ends in"):
            instruction_rows(str(tmp_path / name), split="train")
    (tmp_path / "rows.JSONL").write_bytes(lines(GOOD))
    assert len(instruction_rows(tmp_path / "rows.JSONL", split="train")) == 1
    with pytest.raises(ValueError, match="asks for no row: its range ends before it begins"):
        instruction_rows(str(tmp_path / "rows.JSONL"), split="train[5:5]")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_a_pipe_or_a_device_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "rows.jsonl")
    for path in (tmp_path / "rows.jsonl", "/dev/zero"):
        with pytest.raises(ValueError, match="is not a regular file"):
            instruction_rows(str(path), split="train")
