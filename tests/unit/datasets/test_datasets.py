"""Loaders: every format from a small file, draws and ranges, what is dropped, real rows."""

import doctest
import json
import os
import random
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from postlab.datasets import _files, _hub, instruction_rows, math_rows, preference_rows
from postlab.datasets.math import INSTRUCTION
from postlab.rewards import math_reward


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def write(folder, rows, name="rows.jsonl"):
    path = Path(folder, name)
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def sums(count):
    return [{"prompt": f"{i} + 1?", "completion": f"{i + 1}"} for i in range(count)]


@pytest.mark.parametrize(
    "name", ["_hub", "_messages", "_rows", "instructions", "preferences", "math"]
)
def test_docstring_examples(name):
    result = doctest.testmod(sys.modules[f"postlab.datasets.{name}"])
    assert result.attempted and not result.failed


@pytest.mark.parametrize(
    ("raw", "prompt", "completion"),
    [
        ({"prompt": "2 + 3?", "completion": "5"}, [user("2 + 3?")], "5"),
        ({"prompt": [user("2 + 3?")], "completion": [assistant("5")]}, [user("2 + 3?")], "5"),
        ({"instruction": "Add.", "input": "", "output": "5"}, [user("Add.")], "5"),
        ({"instruction": "Add.", "input": "2, 3", "output": "5"}, [user("Add.\n\n2, 3")], "5"),
        ({"question": "2 + 3?", "answer": "5\n#### 5"}, [user("2 + 3?")], "5\n#### 5"),
        (
            {"messages": [user("Hi"), assistant("Hello"), user("2 + 3?"), assistant("5")]},
            [user("Hi"), assistant("Hello"), user("2 + 3?")],
            "5",
        ),
        (
            {  # SlimOrca: a system turn, and weights that are not needed
                "conversations": [
                    {"from": "system", "value": "Be brief.", "weight": None},
                    {"from": "human", "value": "2 + 3?", "weight": 0.0},
                    {"from": "gpt", "value": "5", "weight": 1.0},
                ]
            },
            [{"role": "system", "content": "Be brief."}, user("2 + 3?")],
            "5",
        ),
        (
            {  # OpenHermes: the system prompt in its own column; a question left open at the end
                "system_prompt": "Be brief.",
                "conversations": [
                    {"from": "human", "value": "2 + 3?"},
                    {"from": "gpt", "value": "5"},
                    {"from": "human", "value": "And 6?"},
                ],
            },
            [{"role": "system", "content": "Be brief."}, user("2 + 3?")],
            "5",
        ),
    ],
)
def test_instruction_formats(tmp_path, raw, prompt, completion):
    rows = instruction_rows(write(tmp_path, [raw]), split="train")
    assert rows == [{"prompt": prompt, "completion": [assistant(completion)]}]
    assert isinstance(rows, list) and rows.dropped == {}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet"])
def test_the_three_kinds_of_file_say_the_same(tmp_path, name):
    rows = instruction_rows(write(tmp_path, sums(3), name), split="train")
    assert [row["completion"][0]["content"] for row in rows] == ["1", "2", "3"]


def test_json_lines_in_a_json_file_and_a_byte_order_mark_are_read(tmp_path):
    path = Path(tmp_path, "rows.json")
    lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in sums(2))
    path.write_text("\ufeff" + lines.replace("0 + 1?", "a\u2028b"), encoding="utf-8")
    rows = instruction_rows(str(path), split="train")
    assert [row["prompt"][0]["content"] for row in rows] == ["a\u2028b", "1 + 1?"]


@pytest.mark.parametrize(
    "raw",
    [
        {"prompt": "2 + 3?", "chosen": "5", "rejected": "6"},
        {"prompt": [user("2 + 3?")], "chosen": [assistant("5")], "rejected": [assistant("6")]},
        {"instruction": "2 + 3?", "output": "5", "chosen": "5", "rejected": "6"},
        {
            "conversations": [{"from": "human", "value": "2 + 3?"}],
            "chosen": {"from": "gpt", "value": "5"},
            "rejected": {"from": "gpt", "value": "6"},
        },
        {  # UltraFeedback: a prompt, and whole conversations beside it
            "prompt": "2 + 3?",
            "chosen": [user("2 + 3?"), assistant("5")],
            "rejected": [user("2 + 3?"), assistant("6")],
            "chosen-rating": 5.0,
        },
        {
            "chosen": [user("2 + 3?"), assistant("5")],
            "rejected": [user("2 + 3?"), assistant("6")],
        },
    ],
)
def test_preference_formats(tmp_path, raw):
    rows = preference_rows(write(tmp_path, [raw]), split="train")
    assert rows == [
        {"prompt": [user("2 + 3?")], "chosen": [assistant("5")], "rejected": [assistant("6")]}
    ]


def test_a_prompt_that_says_more_than_the_conversations_is_kept(tmp_path):
    system = {"role": "system", "content": "Be brief."}
    whole = {side: [user("2 + 3?"), assistant(side)] for side in ("chosen", "rejected")}
    path = write(tmp_path, [{"prompt": [system, user("2 + 3?")], **whole}])
    assert preference_rows(path, split="train")[0]["prompt"] == [system, user("2 + 3?")]


@pytest.mark.parametrize(
    ("raw", "gold"),
    [
        ({"question": "2 + 3?", "answer": "2+3 = <<2+3=5>>5\n#### 1,205"}, "1,205"),
        ({"question": "2 + 3?", "answer": 5}, "5"),
        ({"prompt": [user("2 + 3?")], "answer": "5"}, "5"),
        ({"problem": "2 + 3?", "solution": r"So \boxed{\frac{10}{2}}."}, r"\frac{10}{2}"),
        ({"problem": "2 + 3?", "solution": "unused \\boxed{9}", "answer": "5"}, "5"),
    ],
)
def test_math_formats(tmp_path, raw, gold):
    path = write(tmp_path, [raw])
    told = [user(f"2 + 3?\n\n{INSTRUCTION}")]
    assert math_rows(path, split="test") == [{"prompt": told, "answer": gold}]
    plain = math_rows(path, split="test", instruction=None)
    assert plain == [{"prompt": [user("2 + 3?")], "answer": gold}]


@pytest.mark.parametrize(
    ("load", "good", "without"),
    [
        (instruction_rows, {"instruction": "Add.", "output": "5"}, "output"),
        (instruction_rows, {"prompt": "2 + 3?", "completion": "5"}, "completion"),
        (preference_rows, {"prompt": "2 + 3?", "chosen": "5", "rejected": "6"}, "rejected"),
        (preference_rows, {"prompt": "2 + 3?", "chosen": "5", "rejected": "6"}, "prompt"),
        (math_rows, {"question": "2 + 3?", "answer": "#### 5"}, "answer"),
    ],
)
@pytest.mark.parametrize("absent", ["no key", "null"])
def test_a_row_without_a_field_is_named_with_file_row_and_field(
    tmp_path, load, good, without, absent
):
    bad = {key: value for key, value in good.items() if key != without}
    bad |= {without: None} if absent == "null" else {}
    path = write(tmp_path, [good, bad, bad])
    with pytest.raises(ValueError, match=f"rows.jsonl, row 2: no field '{without}'"):
        load(path, split="train")
    rows = load(write(tmp_path, [good, bad, good]), split="train")
    assert len(rows) == 2 and len(rows.dropped) == 1
    (reason,) = rows.dropped
    assert reason.startswith(f"no field '{without}'")


@pytest.mark.parametrize(
    ("load", "raw", "message"),
    [
        (instruction_rows, {"line": "5"}, "row 1: no field of a known format .it has line"),
        (instruction_rows, {"text": "5"}, "row 1: field 'text' holds text alone"),
        (instruction_rows, ["5"], "row 1: expected an object with named fields"),
        (instruction_rows, {"messages": ["5"]}, "field 'messages' must hold messages, got '5'"),
        (instruction_rows, {"messages": [{"role": "user"}]}, "has no text 'content' .it has role"),
        (instruction_rows, {"messages": 5}, "field 'messages' must be text or a list of messages"),
        (
            instruction_rows,
            {"instruction": ["a"], "output": "5"},
            "'instruction' must hold messages",
        ),
        (math_rows, {"question": "?", "answer": True}, "field 'answer' must be text, got bool"),
    ],
)
def test_a_field_of_the_wrong_shape_is_named(tmp_path, load, raw, message):
    with pytest.raises(ValueError, match=message):
        load(write(tmp_path, [raw]), split="train")


def test_rows_that_teach_nothing_are_dropped_and_counted(tmp_path):
    pair = {"prompt": "2 + 3?", "chosen": "5", "rejected": "6"}
    other = [user("another"), assistant("6")]
    pairs = [
        pair,
        pair | {"rejected": "5 "},
        pair | {"chosen": "5", "rejected": " \n"},
        pair | {"prompt": ""},
        pair | {"chosen": [user("2 + 3?"), assistant("5")], "rejected": other},
        pair | {"chosen": [assistant("5"), user("2 + 3?")]},
    ]
    rows = preference_rows(write(tmp_path, pairs), split="train")
    assert len(rows) == 1
    assert rows.dropped == {
        "with chosen equal to rejected": 1,
        "with an empty reply": 1,
        "with an empty prompt": 1,
        "whose two replies answer different prompts": 2,
    }
    talks = [
        [user("2 + 3?"), assistant("5")],
        [assistant("Hi"), user("2 + 3?"), assistant("5")],
        [user("2"), user("+ 3?"), assistant("5")],
        [user("2 + 3?"), {"role": "observation", "content": "5"}, assistant("5")],
        [user("2 + 3?")],
    ]
    rows = instruction_rows(write(tmp_path, [{"messages": t} for t in talks]), split="train")
    assert len(rows) == 1 and sum(rows.dropped.values()) == 4
    rows = math_rows(
        write(tmp_path, [{"question": "?", "answer": a} for a in ("5", "", "so\n#### ")]),
        split="train",
    )
    assert len(rows) == 1 and rows.dropped == {"with an empty answer": 2}


def test_a_source_without_one_usable_row_is_an_error_that_says_why(tmp_path):
    path = write(tmp_path, [{"prompt": "2 + 3?", "completion": ""}] * 2)
    with pytest.raises(ValueError, match="no usable row: 2 with an empty reply"):
        instruction_rows(path, split="train")
    with pytest.raises(ValueError, match="no usable row: no row is there"):
        instruction_rows(write(tmp_path, []), split="train")


def test_n_rows_are_drawn_by_seed_and_ranges_are_disjoint(tmp_path):
    path = write(tmp_path, sums(50))

    def numbers(**options):
        return [int(row["completion"][0]["content"]) for row in instruction_rows(path, **options)]

    assert numbers(split="train") == list(range(1, 51))
    drawn = numbers(split="train", n=20, seed=0)
    assert len(set(drawn)) == 20 and drawn == numbers(split="train", n=20, seed=0)
    assert drawn != sorted(drawn) and drawn != numbers(split="train", n=20, seed=1)
    assert numbers(split="train", n=99) != list(range(1, 51))  # fewer than asked for: all, shuffled
    assert numbers(split="train[:40]") == list(range(1, 41))
    assert sorted(numbers(split="test[40:]", n=10)) == list(range(41, 51))


def test_dropped_rows_do_not_count_towards_n(tmp_path):
    rows = [row | {"completion": ""} if i % 2 else row for i, row in enumerate(sums(20))]
    assert len(instruction_rows(write(tmp_path, rows), split="train", n=10)) == 10


@pytest.mark.parametrize("n", [0, -1, 2.5])
def test_n_must_be_a_number_of_rows(tmp_path, n):
    with pytest.raises(ValueError, match="n must be a positive number of rows"):
        instruction_rows(write(tmp_path, sums(3)), split="train", n=n)


@pytest.mark.parametrize(
    ("source", "split", "message"),
    [
        (
            "openhermez",
            "train",
            "unknown source 'openhermez'.*tinyworld-english, everyday, openhermes",
        ),
        ("data/missing.jsonl", "train", "neither a file that exists"),
        ("openhermes", "train[10%:]", r"such as 'train' or 'train\[:1000\]'"),
    ],
)
def test_a_source_or_split_that_cannot_be_is_refused(source, split, message):
    with pytest.raises(ValueError, match=message):
        instruction_rows(source, split=split)


def numbered(rows):
    return [int(row["completion"][0]["content"]) for row in rows]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet"])
def test_a_draw_is_that_of_the_whole_list_whatever_the_file(tmp_path, monkeypatch, name):
    """Rows are drawn without holding the file: the same rows as a shuffle of all of them."""
    monkeypatch.setattr(_files, "_CHUNK", 64)  # an array's rows cross many reads
    path = write(tmp_path, sums(50), name)
    expected = list(range(11, 41))
    random.Random(3).shuffle(expected)
    drawn = instruction_rows(path, split="train[10:40]", n=12, seed=3)
    assert numbered(drawn) == expected[:12]
    assert numbered(instruction_rows(path, split="train[10:40]")) == list(range(11, 41))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet"])
def test_a_draw_goes_on_until_enough_rows_are_good(tmp_path, name):
    rows = [row if i % 10 == 0 else row | {"completion": " "} for i, row in enumerate(sums(200))]
    drawn = instruction_rows(write(tmp_path, rows, name), split="train", n=20, seed=1)
    assert sorted(numbered(drawn)) == list(range(1, 201, 10))
    assert drawn.dropped == {"with an empty reply": drawn.read - 20}


def test_of_parquet_only_the_row_groups_of_a_range_are_read(tmp_path, monkeypatch):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "rows.parquet"
    table = pyarrow.Table.from_pylist(sums(1000))
    pyarrow.parquet.write_table(table, path, row_group_size=100)
    read = []
    iterate = pyarrow.parquet.ParquetFile.iter_batches

    def noted(self, *, batch_size, row_groups):
        read.extend(row_groups)
        return iterate(self, batch_size=batch_size, row_groups=row_groups)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", noted)
    rows = instruction_rows(str(path), split="train[150:310]", n=120)
    assert read == [1, 2, 3] and all(151 <= number <= 310 for number in numbered(rows))


def test_an_array_is_read_like_json_itself_wherever_it_is_cut(tmp_path, monkeypatch):
    rows = [{"prompt": text, "completion": "5"} for text in ('a "]" b', "é\n[,", "\\", "😀" * 9)]
    rows[0]["nested"] = [{"x": [1.5, -2e9, True, None]}, []]
    path = tmp_path / "rows.json"
    for indent, ascii_only in ((None, True), (1, False)):
        path.write_text(json.dumps(rows, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
        for chunk in range(17, 90, 3):
            monkeypatch.setattr(_files, "_CHUNK", chunk)
            assert [row for _, row in _files.file_rows(path, 0, None, None, 0)] == rows


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_a_draw_holds_a_part_of_the_file(tmp_path, name):
    rows = [row | {"prompt": f"{i} + 1?" + " " * 8_000} for i, row in enumerate(sums(3_000))]
    path = write(tmp_path, rows, name)
    del rows
    tracemalloc.start()
    drawn = instruction_rows(path, split="train", n=10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(drawn) == 10 and peak < Path(path).stat().st_size / 3


def test_rows_show_what_was_read_and_dropped_and_escape_it(tmp_path):
    pairs = [{"from": "<b>tool</b>", "value": "5"}, {"from": "gpt", "value": "5"}]
    talks = [[{"from": "human", "value": "2 + 3?"}, reply] for reply in pairs]
    rows = instruction_rows(write(tmp_path, [{"conversations": t} for t in talks]), split="train")
    assert rows.read == 2
    reason = "with the unknown role '<b>tool</b>'"
    assert repr(rows).startswith("Rows: 1 of the 2 read from ") and f"1 {reason}" in repr(rows)
    shown = rows._repr_html_()
    assert "<b>" not in shown and "&lt;b&gt;tool" in shown and "<td>2</td>" in shown
    assert "dropped: none" in repr(instruction_rows("tinyworld", split="train", n=1))


def test_every_known_set_names_a_revision_and_none_is_main():
    assert _hub.REVISIONS.keys() == _hub.KNOWN.keys()
    assert "main" not in _hub.REVISIONS.values()


@pytest.mark.parametrize(
    ("load", "name"),
    [
        (instruction_rows, "sft_rows"),
        (preference_rows, "preference_rows"),
        (math_rows, "math_rows"),
    ],
)
def test_tinyworld_is_asked_with_the_same_arguments(monkeypatch, load, name):
    from postlab.tinyworld import corpus

    asked = {}

    def rows(**options):
        asked.update(options)
        return [{"prompt": [user("2 + 3")], "family": "arithmetic"}]

    monkeypatch.setattr(corpus, name, rows)
    assert load("tinyworld", split="train", n=1, seed=7) == rows()
    assert asked.pop("with_context", False) is False
    assert asked == {"split": "train", "n": 1, "seed": 7}


@pytest.mark.parametrize("load", [instruction_rows, preference_rows])
def test_tinyworld_in_english_tells_what_has_to_be_known(load):
    plain, told = (load(s, split="train", n=60) for s in ("tinyworld", "tinyworld-english"))
    for before, after in zip(plain, told, strict=True):
        question, prompt = before["prompt"][0]["content"], after["prompt"][0]["content"]
        assert prompt.endswith(question)
        assert (" eats " in prompt.removesuffix(question)) == (
            before["family"] in ("facts", "json")
        )


REAL = os.environ.get("POSTLAB_REAL_ROWS")


needs_real_rows = pytest.mark.skipif(
    not REAL,
    reason="set POSTLAB_REAL_ROWS to a folder that holds gsm8k_test.jsonl, "
    "alpaca_instructions.json, short_instructions.json, short_preferences.json "
    "and sharegpt_preferences.json",
)


@needs_real_rows
@pytest.mark.parametrize("n", [None, 100], ids=["all", "100 drawn"])
@pytest.mark.parametrize(
    ("load", "name", "read", "dropped"),
    [
        (instruction_rows, "alpaca_instructions.json", 999, {}),
        (instruction_rows, "short_instructions.json", 1100, {}),
        (instruction_rows, "gsm8k_test.jsonl", 1319, {}),
        (math_rows, "gsm8k_test.jsonl", 1319, {}),
        (preference_rows, "sharegpt_preferences.json", 300, {}),
        (preference_rows, "short_preferences.json", 1100, {"with chosen equal to rejected": 6}),
    ],
)
def test_real_rows(load, name, read, dropped, n):
    rows = load(str(Path(REAL, name)), split="train", n=n)
    if n is None:
        assert (rows.read, rows.dropped) == (read, dropped)
    else:
        assert len(rows) == n and rows.dropped.keys() <= dropped.keys()
    for row in rows:
        assert [turn["role"] for turn in row["prompt"]][-1] == "user"
        for reply in row.keys() & {"completion", "chosen", "rejected"}:
            assert [turn["role"] for turn in row[reply]] == ["assistant"]


@needs_real_rows
def test_real_golds_are_numbers():
    golds = [row["answer"] for row in math_rows(str(Path(REAL, "gsm8k_test.jsonl")), split="test")]
    assert golds[2] == "70000"
    assert all(float(gold.replace(",", "")) == int(gold.replace(",", "")) for gold in golds)


def peak_of(path, n=1):
    """(rows, Python's and Arrow's memory at its peak in bytes) of a draw."""
    import pyarrow

    tracemalloc.start()
    before, arrow = pyarrow.total_allocated_bytes(), []
    rows_at = _files._parquet

    def watched(*arguments):
        for row in rows_at(*arguments):
            arrow.append(pyarrow.total_allocated_bytes() - before)
            yield row

    try:
        _files._parquet = watched
        rows = instruction_rows(str(path), split="train", n=n)
        return rows, tracemalloc.get_traced_memory()[1] + max(arrow, default=0)
    finally:
        _files._parquet = rows_at
        tracemalloc.stop()


@pytest.mark.parametrize("nested", [False, True])
def test_a_small_parquet_file_that_expands_to_much_costs_the_memory_of_its_rows(tmp_path, nested):
    import pyarrow
    import pyarrow.parquet

    text = "x" * 200_000  # 1,000 rows share it: 200 MB, of which the file holds one copy
    talk = [user(text), assistant("5")]
    row = {"messages": talk} if nested else {"prompt": text, "completion": "5"}
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row] * 1_000), path, compression="zstd")
    rows, peak = peak_of(path)
    assert path.stat().st_size < 20_000 and rows[0]["prompt"] == [user(text)]
    assert peak < 10e6
    assert len(instruction_rows(str(path), split="train", n=30)) == 30


def test_an_ordinary_parquet_file_is_read_page_by_page(tmp_path):
    import pyarrow
    import pyarrow.parquet

    chooser = random.Random(0)
    raw = [row | {"prompt": chooser.randbytes(4_000).hex()} for row in sums(5_000)]
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(raw), path)
    del raw
    assert peak_of(path)[1] < 0.75 * path.stat().st_size


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet"])
def test_a_row_too_long_for_any_model_is_not_held(tmp_path, monkeypatch, name):
    monkeypatch.setattr(_files, "_LONGEST_ROW", 100_000)
    raw = [*sums(3), {"prompt": "y" * 300_000, "completion": "5"}]
    path = write(tmp_path, raw, name)
    if name == "rows.jsonl":
        rows = instruction_rows(path, split="train")
        assert len(rows) == 3 and rows.dropped == {"longer than 64 MiB": 1}
        assert instruction_rows(path, split="train", n=4) and rows.read == 4
    elif name == "rows.json":
        monkeypatch.setattr(_files, "_CHUNK", 10_000)
        with pytest.raises(ValueError, match="rows.json, row 4: broken JSON.*a row over 64 MiB"):
            instruction_rows(path, split="train")
    else:
        path = write(tmp_path, raw[3:], name)
        with pytest.raises(ValueError, match="row 1: longer than 64 MiB"):
            instruction_rows(path, split="train")


def test_a_long_line_is_put_together_from_its_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "_CHUNK", 64)
    raw = [row | {"prompt": "é" * (40 * i)} for i, row in enumerate(sums(9), 1)]
    path = tmp_path / "rows.jsonl"
    text = "\n \n".join(json.dumps(row, ensure_ascii=False) for row in raw)
    path.write_text(text + "\n" + " " * 200, encoding="utf-8")
    assert [row["prompt"][0]["content"] for row in instruction_rows(str(path), split="train")] == [
        row["prompt"] for row in raw
    ]
    assert sorted(numbered(instruction_rows(str(path), split="train", n=9))) == list(range(1, 10))


def test_of_very_many_rows_a_draw_holds_those_that_are_drawn(monkeypatch):
    few = list(_files._drawn(range(10, 500), 0))
    monkeypatch.setattr(_files, "_SHUFFLED", 5)
    lazy = _files._drawn(range(10, 500), 0)
    assert sorted(lazy) == sorted(few) == list(range(10, 500))
    assert list(_files._drawn(range(10, 500), 1)) != list(_files._drawn(range(10, 500), 2))
    # Each place comes first equally often: 3,000 draws of 6, expected 500 each.
    firsts = [next(_files._drawn(range(6), seed)) for seed in range(3_000)]
    assert all(420 < firsts.count(place) < 580 for place in range(6))
    last = [list(_files._drawn(range(6), seed))[-1] for seed in range(3_000)]
    assert all(420 < last.count(place) < 580 for place in range(6))


def test_everyday_pairs_choose_each_reply_as_often_as_they_reject_it():
    rows = preference_rows("everyday", split="train", seed=3)
    sides = [Counter(row[side][0]["content"] for row in rows) for side in ("chosen", "rejected")]
    assert sides[0] == sides[1] and len(rows) == 618
    families = {row["prompt"][0]["content"]: row["family"] for row in rows}
    refusals = {row["chosen"][0]["content"] for row in rows if row["family"] == "harmful"}
    for row in rows:
        harmful = families[row["prompt"][0]["content"]] == "harmful"
        assert (row["chosen"][0]["content"] in refusals) == harmful
    again = preference_rows("everyday", split="train", seed=3, n=10)
    assert again == rows[:10] and again != preference_rows("everyday", split="train", n=10)


def test_everyday_teaches_the_form_of_what_later_stages_train():
    taught = Counter(r["family"] for r in instruction_rows("everyday", split="train"))
    assert taught["harmless"] == 159 and taught["answerable"] == 150
    assert 0 < taught["harmful"] < 40 and 0 < taught["unanswerable"] < 40
    sums = math_rows("everyday", split="train")
    assert len(sums) == 240 and taught["arithmetic"] == 60
    assert all(math_reward([row["answer"]], answer=[row["answer"]]) == [1.0] for row in sums)
    for load in (instruction_rows, preference_rows, math_rows):
        with pytest.raises(ValueError, match="split 'held_out' of everyday has no rows to train"):
            load("everyday", split="held_out")
