"""The command `postlab`: what it prints, its exit status, and what it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from postlab import terminal
from postlab.chat import TEMPLATE_CODES, check_template
from postlab.doctor import CODES, diagnose
from postlab.profile import data_dir

BASE = data_dir() / "tiny-base"
STILL = [{"step": i, "loss": 0.7, "rewards/margins": 0.0} for i in range(8)]


def ask(capsys, *words: object) -> tuple[int, str, str]:
    status = terminal.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def lines(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_doctor_reads_every_form_of_a_log(capsys, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints" / "checkpoint-8").mkdir(parents=True)
    state = run / "checkpoints" / "checkpoint-8" / "trainer_state.json"
    state.write_text(json.dumps({"log_history": STILL}))
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(STILL))
    found = []
    listed = [lines(tmp_path / name, STILL) for name in ("log.jsonl", "log.json", "log.txt")]
    for path in (state, bare, *listed, state.parent, run):
        status, out, _ = ask(capsys, "doctor", path, "--json")
        assert status == 1
        found.append([finding["code"] for finding in json.loads(out)])
    assert found == [["adapter_still"]] * 7


def test_doctor_says_well_and_what_counts_as_ill(capsys, tmp_path):
    well = [{"step": i, "loss": 2 - i / 20, "learning_rate": 1e-4} for i in range(20)]
    status, out, _ = ask(capsys, "doctor", lines(tmp_path / "a.jsonl", well))
    assert (status, out) == (0, "nothing was found\n")
    clipped = [
        {"step": i, "loss": 0.1, "reward": 0.4 + i / 50, "completions/clipped_ratio": 0.9}
        for i in range(12)
    ]
    path = lines(tmp_path / "b.jsonl", clipped)
    severities = {f["severity"] for f in json.loads(ask(capsys, "doctor", path, "--json")[1])}
    assert ask(capsys, "doctor", path)[0] == ("error" in severities)
    assert ask(capsys, "doctor", path, "--fail-on", "warning")[0] == 1


@pytest.mark.parametrize(
    ("text", "named"),
    [("{", "JSON"), ('{"steps": 3}', "'steps'"), ('"text"', "list"), ("[1]", "list")],
)
def test_doctor_names_what_is_no_log(capsys, tmp_path, text, named):
    path = tmp_path / "state.json"
    path.write_text(text)
    status, out, err = ask(capsys, "doctor", path)
    assert (status, out) == (2, "") and named in err and "Traceback" not in err
    path.write_bytes(b"\x7fELF\xd0\x00")
    status, _, err = ask(capsys, "doctor", path)
    assert status == 2 and "state.json" in err and "UTF-8" in err
    status, _, err = ask(capsys, "doctor", tmp_path / "absent.json")
    assert status == 2 and err.startswith(f"postlab doctor: {tmp_path / 'absent.json'}: ")
    assert ask(capsys, "doctor", tmp_path)[0] == 2  # a folder without a log


def test_preflight_fits_or_not(capsys):
    words = ("preflight", "--stage", "grpo", "--device", "T4", "--model")
    status, out, _ = ask(capsys, *words, "Qwen/Qwen2.5-1.5B")
    assert status == 0 and "GiB" in out
    status, out, _ = ask(capsys, *words, "meta-llama/Llama-3.1-70B", "--json")
    assert status == 1 and json.loads(out)["fits"] is False
    status, _, err = ask(capsys, *words, "nobody/nothing")
    assert status == 2 and "nobody/nothing" in err


@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo", "reward"])
def test_preflight_needs_no_sizes(capsys, stage):
    status, out, _ = ask(
        capsys, "preflight", "--stage", stage, "--model", "mistralai/Mistral-7B-v0.3",
        "--device", "H100", "--examples", 1000, "--json",
    )  # fmt: skip
    plan = json.loads(out)
    assert status == 0 and plan["hours"] > 0 and plan["settings"]["length"] > 0


def test_template_reads_a_folder(capsys):
    status, out, _ = ask(capsys, "template", BASE, "--json")
    assert status == 0 and isinstance(json.loads(out), list)
    status, _, err = ask(capsys, "template", BASE / "nothing")
    assert status == 2 and "nothing" in err


def test_template_says_what_is_no_tokenizer(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_text("")
    for place, named in (
        (".", "weights.bin"),
        ("./absent", "no folder"),
        ("weights.bin", "folder"),
    ):
        status, out, err = ask(capsys, "template", place)
        assert (status, out) == (2, "") and named in err and "tokenizer" in err


def test_help_lists_every_finding(capsys):
    """In the terminal and in Python, from one dict for each kind."""
    for command, function, codes in (
        ("doctor", diagnose, CODES),
        ("template", check_template, TEMPLATE_CODES),
    ):
        with pytest.raises(SystemExit):
            terminal.main([command, "--help"])
        for text in (capsys.readouterr().out, function.__doc__):
            assert all(f"    {code}: {meaning}\n" in text for code, meaning in codes.items())


def test_rows_takes_no_kind_that_drops_most(capsys, tmp_path):
    """One solution that marks an answer makes no mathematics of a file of instructions."""
    sums = [{"instruction": "Add 2 and 3.", "output": "5. #### 5"}]
    rows = [{"instruction": f"Say {i}.", "output": f"Here: {i}, gladly."} for i in range(9)]
    status, out, _ = ask(capsys, "rows", lines(tmp_path / "i.jsonl", sums + rows), "--json")
    assert (status, json.loads(out)["kind"], json.loads(out)["kept"]) == (0, "instruction", 10)
    most = lines(tmp_path / "m.jsonl", sums * 3 + rows[:1])
    status, out, _ = ask(capsys, "rows", most, "--json")
    assert (status, json.loads(out)["kind"], json.loads(out)["kept"]) == (1, "math", 3)


def test_rows_finds_the_kind_and_counts_what_is_dropped(capsys, tmp_path):
    pairs = [{"prompt": "2 + 3?", "chosen": "5", "rejected": "6"}]
    status, out, _ = ask(capsys, "rows", lines(tmp_path / "p.jsonl", pairs), "--json")
    assert status == 0 and json.loads(out)["kind"] == "preference"
    rows = [{"instruction": "Add 2 and 3.", "output": text} for text in ("5", "", "five")]
    path = lines(tmp_path / "i.jsonl", rows)
    status, out, _ = ask(capsys, "rows", path, "--json")
    counts = json.loads(out)
    assert status == 1 and counts["kind"] == "instruction"
    assert (counts["read"], counts["kept"], sum(counts["dropped"].values())) == (3, 2, 1)
    status, _, err = ask(capsys, "rows", lines(tmp_path / "x.jsonl", [{"weather": "wet"}]))
    assert status == 2 and "weather" in err


def test_a_row_cannot_steer_the_terminal(capsys, tmp_path):
    rows = [{"instruction": "Add.", "output": "\x1b[2Jgone\x07"}]
    _, out, _ = ask(capsys, "rows", lines(tmp_path / "i.jsonl", rows))
    assert "gone" in out and "\x1b" not in out and "\x07" not in out


def test_json_has_no_nan():
    assert terminal._plain({"a": [float("nan"), float("inf"), 1.5, True, "nan"]}) == {
        "a": [None, None, 1.5, True, "nan"]
    }


def test_no_command_loads_torch(tmp_path):
    log = lines(tmp_path / "log.jsonl", STILL)
    pairs = lines(tmp_path / "p.jsonl", [{"prompt": "a?", "chosen": "b", "rejected": "c"}])
    asked = [
        ["doctor", str(log)], ["rows", str(pairs)],
        ["preflight", "--stage", "sft", "--model", "Qwen/Qwen2.5-1.5B", "--device", "T4"],
    ]  # fmt: skip
    code = (
        "import sys; from postlab.terminal import main\n"
        f"for words in {asked!r}: main(words)\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
