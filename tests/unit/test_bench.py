"""The arithmetic and the command line of bench/stages.py; the timings themselves are not a test."""

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from modules import module_at

PATH = Path(__file__).resolve().parents[2] / "bench" / "stages.py"


@pytest.fixture(scope="module")
def stages():
    return module_at(PATH, "bench_stages")


def test_ratio_and_interval_by_hand(stages):
    # Log ratios 0, ln 2, 2 ln 2: mean ln 2, standard error ln 2 / sqrt(3), t(0.975, 2) = 4.302653.
    found = stages.paired_ratio([1.0, 2.0, 4.0], [1.0, 1.0, 1.0])
    half = 4.302653 * math.log(2) / math.sqrt(3)
    assert found.ratio == pytest.approx(2.0)
    assert found.low == pytest.approx(2 * math.exp(-half), rel=1e-5)
    assert found.high == pytest.approx(2 * math.exp(half), rel=1e-5)
    assert found.n == 3


def test_pairs_cancel_what_both_sides_share(stages):
    # A machine that becomes ten times slower changes no ratio, and equal ratios leave no doubt.
    found = stages.paired_ratio([1.1, 11.0, 2.2], [1.0, 10.0, 2.0])
    assert (found.ratio, found.low, found.high) == pytest.approx((1.1, 1.1, 1.1))
    back = stages.paired_ratio([1.0, 10.0, 2.5], [1.1, 11.0, 2.0])
    there = stages.paired_ratio([1.1, 11.0, 2.0], [1.0, 10.0, 2.5])
    inverse = (1 / there.ratio, 1 / there.high, 1 / there.low)
    assert (back.ratio, back.low, back.high) == pytest.approx(inverse)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.06, 1.20, "slower"),
        (1.04, 1.20, "not shown slower"),
        (0.90, 1.10, "not shown slower"),
        (0.8, 0.99, "faster"),
    ],
)
def test_verdict_needs_the_whole_interval(stages, low, high, verdict):
    assert stages.Ratio(1.0, low, high, 5).verdict == verdict


@pytest.mark.parametrize(
    ("ours", "plain"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 0.0], [1.0, 1.0])]
)
def test_bad_times_are_refused(stages, ours, plain):
    with pytest.raises(ValueError, match="expected"):
        stages.paired_ratio(ours, plain)


def test_the_childs_command_reads_back(stages, tmp_path):
    args = stages.parse(["--steps", "7", "--model", str(tmp_path), "--rows", "synthetic"])
    command = stages.child_command(args, "plain", "grpo", 3)
    assert command[:2] == [sys.executable, str(PATH)]
    read = stages.parse(command[2:])
    assert (read.child, read.stage, read.steps, read.seed) == ("plain", "grpo", 7, 3)
    assert (read.model, read.rows) == (str(tmp_path), "synthetic")
    default = stages.parse(stages.child_command(stages.parse([]), "ours", "sft", 0)[2:])
    assert (default.model, default.rows, default.steps) == ("", "profile", 20)


@pytest.mark.parametrize(
    "argv", [["--steps", "0"], ["--pairs", "1"], ["--child", "ours"], ["--stage", "ppo"]]
)
def test_bad_commands_are_refused(stages, argv, capsys):
    with pytest.raises(SystemExit):
        stages.parse(argv)
    assert "usage" in capsys.readouterr().err


def fake_children(stages, monkeypatch, **odd):
    """Replace the processes by a record of their order; `odd` changes what ours reports."""
    order = []

    def run(command, **kwargs):
        side = command[command.index("--child") + 1]
        order.append(side)
        found = {"seconds": [2.0 if side == "ours" else 1.0] * 2, "tokens": 64, "trained": 8}
        found |= odd if side == "ours" else {}
        return SimpleNamespace(returncode=0, stdout=f"chatter\n{json.dumps(found)}\n", stderr="")

    monkeypatch.setattr(stages.subprocess, "run", run)
    return order


def test_order_alternates_and_the_result_holds_every_pair(stages, monkeypatch, tmp_path, capsys):
    order = fake_children(stages, monkeypatch)
    monkeypatch.setattr(stages, "provenance", lambda argv: {"command": " ".join(argv)})
    out = tmp_path / "bench" / "stages.json"
    stages.main(["--pairs", "2", "--steps", "2", "--stage", "dpo", "--out", str(out)])
    assert order == ["ours", "plain", "plain", "ours"]
    written = json.loads(out.read_text())
    assert written["provenance"]["command"].startswith("--pairs 2")
    found = written["stages"]["dpo"]
    assert (found["ratio"], found["low"], found["high"], found["n"]) == pytest.approx((2, 2, 2, 2))
    assert found["verdict"] == "slower" and len(found["pairs"]) == 2
    assert "dpo" in capsys.readouterr().out


@pytest.mark.parametrize("odd", [{"tokens": 65}, {"trained": 9}])
def test_sides_which_did_different_work_are_not_compared(stages, monkeypatch, odd):
    fake_children(stages, monkeypatch, **odd)
    with pytest.raises(RuntimeError, match="different work"):
        stages.measure(stages.parse(["--steps", "2"]), "sft", 0)


def test_made_up_rows_are_right(stages):
    row = stages._made_up("grpo", 7)
    a, b = row["prompt"][0]["content"].removeprefix("What is ").removesuffix("?").split("+")
    assert int(a) + int(b) == int(row["answer"])
    pair = stages._made_up("dpo", 7)
    assert pair["chosen"][0]["content"].endswith(f"#### {row['answer']}")
    assert not pair["rejected"][0]["content"].endswith(f"#### {row['answer']}")
