"""Samples of lm-evaluation-harness 0.4.13 and inspect-ai 0.3, in the schema of their real files."""

import json
import sys
import warnings
import zipfile
import zlib

import numpy as np
import pandas as pd
import pytest

from postlab import evals
from postlab.evals import read_samples
from postlab.stats import mcnemar

ODD = "Größe \u2028 \N{GRINNING FACE} {brace"  # U+2028 ends a line for str.splitlines only


def lm_eval(doc, score, *, filter="none", metric="exact_match", template="{}", text="a reply"):
    """A line of samples_<task>_<date>.jsonl."""
    question = f"{ODD} {doc}?"
    return {
        "doc_id": doc,
        "doc": {"question": question},
        "target": "4",
        "arguments": {"gen_args_0": {"arg_0": template.format(question), "arg_1": {"until": []}}},
        "resps": [[text]],
        "filtered_resps": [text],
        "filter": filter,
        "metrics": [metric],
        "doc_hash": f"hash-{doc}",
        "prompt_hash": "p",
        "target_hash": "t",
        metric: score,
    }


def write_lines(path, rows):
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    return path


def inspect(name, scores, *, epoch=1, question=None, **more):
    """A sample of an inspect log."""
    message = {"role": "assistant", "content": f"reply {epoch}"}
    return {
        "id": name,
        "epoch": epoch,
        "input": question or f"{ODD} {name}?",
        "target": "4",
        "output": {
            "choices": [{"message": message, "stop_reason": "stop"}],
            "completion": f"reply {epoch}",
        },
        "scores": {scorer: {"value": value, "answer": "x"} for scorer, value in scores.items()},
        "events": [],
    } | more


HEADER = {"version": 2, "status": "success", "eval": {"task": "sums", "model": "mockllm/model"}}


def write_log(path, samples, *, header=HEADER, packed=None):
    """An inspect log by its suffix; `packed` compresses the entries of an .eval with Zstandard."""
    if path.suffix == ".json":
        path.write_text(json.dumps(header | {"samples": samples}), "utf-8")
        return path
    entries = {"_journal/start.json": {"version": 2, "eval": header["eval"]}}
    for sample in samples:
        entries[f"samples/{sample['id']}_epoch_{sample['epoch']}.json"] = sample
    entries |= {"summaries.json": [{}], "header.json": header}
    how = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, value in entries.items():
            raw = json.dumps(value).encode()
            archive.writestr(name, packed(raw) if packed else raw)
            if packed:  # the directory is written on closing
                entry = archive.getinfo(name)
                entry.compress_type, entry.file_size, entry.CRC = 93, len(raw), zlib.crc32(raw)
    return path


def test_lm_eval_files_pair_by_document_whatever_their_order(tmp_path):
    rng = np.random.default_rng(0)
    before, after = (rng.integers(0, 2, 300) for _ in range(2))
    a = [lm_eval(doc, float(score)) for doc, score in enumerate(before)]
    b = [lm_eval(doc, bool(score)) for doc, score in enumerate(after)]
    order = rng.permutation(300)
    files = {
        "base": write_lines(tmp_path / "samples_sums_2026-11-30T18-48-46.123456.jsonl", a),
        "sft": str(write_lines(tmp_path / "samples_b.jsonl", [b[i] for i in order])),
    }
    frame = read_samples(files["base"])
    assert list(frame.columns) == [*evals.NON_METRICS, "exact_match"]
    first = frame.iloc[0].to_dict()
    assert first["prompt"] == f"{ODD} 0?" and first["answer"] == "a reply"
    assert (first["id"], first["family"], first["sample"]) == ("hash-0", "sums", 0)
    row = evals.compare(files).iloc[1]
    exact = mcnemar(before, after)
    assert (row["n"], row["p"]) == (300, exact.p)
    assert row["difference"] == pytest.approx((exact.gained - exact.lost) / 300)


def test_one_of_several_filters_has_to_be_chosen(tmp_path):
    rows = [lm_eval(d, 0.0, filter="strict-match") for d in range(3)]
    rows += [lm_eval(d, 1.0, filter="flexible-extract") for d in range(3)]
    path = write_lines(tmp_path / "samples_gsm8k.jsonl", rows)
    with pytest.raises(ValueError, match="'strict-match', 'flexible-extract'"):
        read_samples(path)
    with pytest.raises(ValueError, match="'strict-match', 'flexible-extract'"):
        read_samples(path, filter="loose")
    assert read_samples(path, filter="flexible-extract")["exact_match"].tolist() == [1, 1, 1]


def test_identical_documents_are_samples_of_one_prompt_but_no_row_occurs_twice(tmp_path):
    rows = [lm_eval(0, 1.0), lm_eval(1, 0.0) | {"doc_hash": "hash-0"}, lm_eval(2, 0.0)]
    path = write_lines(tmp_path / "samples_a.jsonl", rows)
    assert read_samples(path)["sample"].tolist() == [0, 1, 0]
    assert evals.compare({"base": path}).iloc[0]["n"] == 2
    write_lines(path, rows + rows[:1])
    with pytest.raises(ValueError, match="document 0 occurs twice"):
        read_samples(path)


def test_a_loglikelihood_has_no_answer_and_a_value_of_the_whole_task_is_refused(tmp_path):
    row = lm_eval(0, 1.0, metric="acc") | {"metrics": ["acc", "f1"], "f1": [0, 1]}
    row |= {"resps": [[["-3.5", "False"]], [["-1.5", "True"]]]}
    path = write_lines(tmp_path / "samples_a.jsonl", [row])
    with pytest.raises(ValueError, match=r"'f1' is \[0, 1\].*some of 'acc'"):
        read_samples(path)
    frame = read_samples(path, metrics=["acc"])
    assert frame["answer"].tolist() == [""] and frame["acc"].tolist() == [1.0]


@pytest.mark.parametrize("name", ["log.eval", "log.json", "zstandard.eval"])
def test_an_inspect_log(tmp_path, name):
    packed = None
    if name == "zstandard.eval":
        pyarrow = pytest.importorskip("pyarrow")

        def packed(raw):  # two frames, as inspect writes large entries
            halves = raw[: len(raw) // 2], raw[len(raw) // 2 :]
            codec = pyarrow.Codec("zstd")
            return b"".join(codec.compress(half, asbytes=True) for half in halves)

    letters = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
    samples = [
        inspect(
            i, {"match": letter, "answer": i % 2 == 0, "many": {"f1": 0.25, "ok": "C"}}, epoch=e
        )
        for e in (1, 2)
        for i, letter in enumerate(letters, 1)
    ]
    samples.append(inspect(5, {"match": None}, choices=["A", "B"]))
    samples.append(inspect(6, {}, error={"message": "timeout"}))
    samples.append(inspect(7, {"match": float("nan")}, question=[{"content": [{"text": "hi"}]}]))
    path = write_log(tmp_path / name, samples, packed=packed)
    with pytest.warns(UserWarning, match="11 samples.* 3 in match, 3 in answer_score.*1 ended in"):
        frame = read_samples(path)
    assert list(frame)[6:] == ["match", "answer_score", "many/f1", "many/ok"]
    assert frame["match"].tolist()[:8] == [*letters.values()] * 2
    assert frame["answer_score"].tolist()[:4] == [0, 1, 0, 1]
    assert frame["sample"].tolist() == [0] * 4 + [1] * 4 + [0] * 3
    assert frame["answer"].tolist()[3:5] == ["reply 1", "reply 2"] and frame["closed"].all()
    assert frame["prompt"].tolist()[8:] == [f"{ODD} 5?\nA\nB", f"{ODD} 6?", "hi"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is missing in this one
        table = evals.compare({"base": frame.iloc[:8], "sft": frame.iloc[:8]})
    assert set(table[table["metric"] == "match"]["n"]) == {4}


def test_zstandard_without_pyarrow_says_what_to_do(tmp_path, monkeypatch):
    path = write_log(tmp_path / "log.eval", [inspect(1, {"match": "C"})], packed=lambda raw: raw)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match="inspect log convert --to json"):
        read_samples(path)


def test_an_unfinished_log_is_read_with_a_warning(tmp_path):
    path = write_log(tmp_path / "log.eval", [inspect(1, {"match": "C"})])
    bare = tmp_path / "bare.eval"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(bare, "w") as new:
        for name in ("_journal/start.json", "samples/1_epoch_1.json"):
            new.writestr(name, old.read(name))
    with pytest.warns(UserWarning, match="status is 'started'"):
        assert read_samples(bare)["family"].tolist() == ["sums"]


def test_an_archive_that_expands_too_far_is_refused_before_it_is_expanded(tmp_path):
    for name, members in {"one.eval": 1, "many.eval": 8}.items():
        with zipfile.ZipFile(
            tmp_path / name, "w", zipfile.ZIP_DEFLATED, compresslevel=1
        ) as archive:
            for i in range(members):
                archive.writestr(f"samples/{i}_epoch_1.json", bytes(1000))
                archive.getinfo(f"samples/{i}_epoch_1.json").file_size = 2**28 + 2 - members
        with pytest.raises(ValueError, match="bytes"):
            read_samples(tmp_path / name)


GOOD = json.dumps(lm_eval(0, 1.0)) + "\n"
LOG = HEADER | {"samples": [inspect(1, {"match": "C"})]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("samples_a.jsonl", "", "is empty"),
        ("samples_a.jsonl", GOOD + GOOD[:90], "line 2: broken JSON, or a file cut off"),
        ("samples_a.jsonl", "[" * 99_999, "broken JSON"),
        ("samples_a.jsonl", '{"prompt": "hi"}\n', "has the fields 'prompt'; expected a sample of"),
        ("samples_a.jsonl", "3\n", "is 3; expected"),
        ("samples_a.jsonl", b"\xff\xfe", "broken JSON"),
        ("results_a.json", '{"results": {}, "configs": {}}', "pass the file samples_<task>_<date>"),
        ("a.json", "[1]", r"is \[1\]; expected a log of inspect-ai"),
        ("a.json", json.dumps(LOG)[:-9], "cut off"),
        ("a.json", json.dumps(LOG | {"samples": None}), "no samples"),
        (
            "a.json",
            json.dumps(LOG | {"samples": LOG["samples"] * 2}),
            "'1' occurs twice in epoch 1",
        ),
        ("a.json", json.dumps(LOG | {"samples": [inspect(1, {})]}), "none of its 1 samples"),
        ("a.json", json.dumps(LOG | {"samples": [inspect(1, {"m": "good"})]}), "'m' is 'good'"),
        ("a.json", json.dumps(LOG | {"samples": [inspect(1, {"m": 1e999})]}), "'m' is inf"),
        ("a.eval", "no zip", "not an .eval archive"),
        ("a.csv", "", "ending in .csv; expected lm-eval's"),
    ],
)
def test_what_cannot_be_read_says_why_and_what_is_expected(tmp_path, name, content, message):
    content = content.encode() if isinstance(content, str) else content
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_samples(tmp_path / name)


def test_names_that_are_not_there(tmp_path):
    path = write_log(tmp_path / "a.json", LOG["samples"])
    with pytest.raises(ValueError, match="no metric 'acc'; expected some of 'match'"):
        read_samples(path, metrics=["acc"])
    with pytest.raises(TypeError, match=r"\['match'\]"):
        read_samples(path, metrics="match")
    with pytest.raises(ValueError, match="only lm-eval's samples have filters"):
        read_samples(path, filter="none")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_samples(tmp_path / "b.json")


def test_a_folder_stands_for_the_one_file_of_samples_in_it(tmp_path):
    with pytest.raises(ValueError, match="--log_samples"):
        read_samples(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "results_2026.json").write_text('{"results": {}}', "utf-8")
    write_lines(tmp_path / "model" / "samples_a.jsonl", [lm_eval(0, 1.0)])
    assert read_samples(tmp_path)["family"].tolist() == ["a"]
    write_log(tmp_path / "2026-11-30T18-48-46_b_x.json", LOG["samples"])
    with pytest.raises(ValueError, match="2 files.*T18-48-46_b_x.json.*samples_a.jsonl"):
        read_samples(tmp_path)


def test_prompts_that_do_not_pair_are_counted(tmp_path):
    a = write_lines(tmp_path / "samples_a.jsonl", [lm_eval(d, 1.0) for d in range(5)])
    chat = [lm_eval(d, 1.0, template="<user>{}") for d in (0, 1)]
    b = write_lines(tmp_path / "samples_b.jsonl", chat + [lm_eval(d, 1.0) for d in (2, 7)])
    with pytest.raises(ValueError, match="2 only in 'base', 1 only in 'sft', 2 with the same id"):
        evals.compare({"base": a, "sft": b})
    frames = {stage: pd.DataFrame(read_samples(path)) for stage, path in (("base", a), ("c", a))}
    frames["c"]["prompt"] = "<user>" + frames["c"]["prompt"]
    with pytest.raises(ValueError, match=r'frame\["prompt"\] = frame\["id"\]'):
        evals.compare(frames)
    by_id = {stage: frame.assign(prompt=frame["id"]) for stage, frame in frames.items()}
    assert evals.compare(by_id)["n"].tolist() == [5, 5]


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_archive_is_refused_whatever_its_compression(tmp_path, compression):
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("samples/1_epoch_1.json", json.dumps({"id": 1, "epoch": 1, "input": "q"}))
    whole = path.read_bytes()
    body = len("samples/1_epoch_1.json") + 30  # the local header's fixed part
    version = whole.index(b"PK\x01\x02") + 6  # that is needed to unpack, in the directory
    for place, size in ((body + 9, 8), (version, 1)):
        path.write_bytes(whole[:place] + b"\xff" * size + whole[place + size :])
        with pytest.raises(ValueError, match=r"cannot be read|not an \.eval archive"):
            read_samples(path)


@pytest.mark.parametrize("frames", [["a.jsonl"], {"a": 5}, {"a": pd.DataFrame({"acc": [1.0]})}])
def test_what_compare_cannot_read_is_named(frames):
    with pytest.raises(TypeError, match="expected"):
        evals.compare(frames)
