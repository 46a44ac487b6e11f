"""The arithmetic and the command line of bench/steps.py; the timings themselves are not a test."""

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from modules import module_at

PATH = Path(__file__).resolve().parents[3] / "bench" / "steps.py"


@pytest.fixture(scope="module")
def steps():
    return module_at(PATH, "bench_steps")


def test_ratio_and_interval_by_hand(steps):
    # Log ratios 0, ln 2, 2 ln 2: mean ln 2, standard error ln 2 / sqrt(3), t(0.975, 2) = 4.302653.
    found = steps.paired_ratio([1.0, 2.0, 4.0], [1.0, 1.0, 1.0])
    half = 4.302653 * math.log(2) / math.sqrt(3)
    assert found.ratio == pytest.approx(2.0)
    assert found.low == pytest.approx(2 * math.exp(-half), rel=1e-5)
    assert found.high == pytest.approx(2 * math.exp(half), rel=1e-5)
    assert found.n == 3


def test_record_of_the_optional_lines_follows_from_its_seconds(steps):
    """data/results/bench/options.json, and the figures that week 3 quotes from it."""
    root = PATH.parents[1]
    record = json.loads((root / "data/results/bench/options.json").read_text())
    prose = (root / "notebooks/src/week03_sft_unsloth.py").read_text()
    for stage in record["stages"].values():
        seconds, plain = stage["seconds_per_step"], stage["seconds_per_step"]["neither"]
        assert set(stage["ratio"]) == set(seconds) - {"neither"}
        for name, ratio in stage["ratio"].items():
            again = steps.paired_ratio(seconds[name], plain)
            assert (again.ratio, again.low, again.high) == pytest.approx(
                (ratio["ratio"], ratio["low"], ratio["high"])
            )
            for figure in (again.ratio, again.low, again.high):
                assert f"{figure:.2f}" in prose


def test_rounds_cancel_what_both_sides_share(steps):
    # A machine that becomes ten times slower changes no ratio, and equal ratios leave no doubt.
    found = steps.paired_ratio([1.1, 11.0, 2.2], [1.0, 10.0, 2.0])
    assert (found.ratio, found.low, found.high) == pytest.approx((1.1, 1.1, 1.1))
    back = steps.paired_ratio([1.0, 10.0, 2.5], [1.1, 11.0, 2.0])
    there = steps.paired_ratio([1.1, 11.0, 2.0], [1.0, 10.0, 2.5])
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
def test_verdict_needs_the_whole_interval(steps, low, high, verdict):
    assert steps.Ratio(1.0, low, high, 5).verdict == verdict


@pytest.mark.parametrize(
    ("ours", "plain"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 0.0], [1.0, 1.0])]
)
def test_bad_times_are_refused(steps, ours, plain):
    with pytest.raises(ValueError, match="expected"):
        steps.paired_ratio(ours, plain)


def test_the_childs_command_reads_back(steps, tmp_path):
    args = steps.parse(["--steps", "7", "--model", str(tmp_path), "--rows", "synthetic"])
    command = steps.child_command(args, "plain", "grpo", 3)
    assert command[:2] == [sys.executable, str(PATH)]
    read = steps.parse(command[2:])
    assert (read.child, read.stage, read.steps, read.seed) == ("plain", "grpo", 7, 3)
    assert (read.model, read.rows) == (str(tmp_path), "synthetic")
    default = steps.parse(steps.child_command(steps.parse([]), "ours", "sft", 0)[2:])
    assert (default.model, default.rows, default.steps) == ("", "profile", 20)


@pytest.mark.parametrize(
    "argv", [["--steps", "0"], ["--rounds", "1"], ["--child", "ours"], ["--stage", "ppo"]]
)
def test_bad_commands_are_refused(steps, argv, capsys):
    with pytest.raises(SystemExit):
        steps.parse(argv)
    assert "usage" in capsys.readouterr().err


def fake_children(steps, monkeypatch, **odd):
    """Replace the processes by a record of their order; `odd` changes what ours reports."""
    order = []

    def run(command, **kwargs):
        args = steps.parse(command[2:])
        order.append(args.child + ("*" if args.record or args.replay else ""))
        slow = {"ours": 2.0, "unsloth": 0.5}.get(args.child, 1.0)
        found = {"seconds": [slow] * 2, "tokens": 64, "trained": 8, "multiplied": 1000}
        found["losses"] = [1.5, 1.25 if args.child == "ours" else 1.0]
        found |= odd if args.child == "ours" else {}
        return SimpleNamespace(returncode=0, stdout=f"chatter\n{json.dumps(found)}\n", stderr="")

    monkeypatch.setattr(steps.subprocess, "run", run)
    monkeypatch.setattr(steps, "machine", lambda: {"gflops": 1e-3, "gbytes": 1.0})
    return order


def test_order_alternates_and_the_result_holds_every_round(steps, monkeypatch, tmp_path, capsys):
    order = fake_children(steps, monkeypatch)
    monkeypatch.setattr(steps, "provenance", lambda argv: {"command": " ".join(argv)})
    out = tmp_path / "bench" / "steps.json"
    steps.main(["--rounds", "2", "--steps", "2", "--stage", "dpo", "--out", str(out)])
    assert order == ["ours", "unsloth", "plain", "loop", "unsloth", "plain", "loop", "ours"]
    written = json.loads(out.read_text())
    assert written["provenance"]["command"].startswith("--rounds 2")
    found = written["stages"]["dpo"]
    ours = found["ratio"]["ours"]
    assert (ours["ratio"], ours["low"], ours["high"], ours["n"]) == pytest.approx((2, 2, 2, 2))
    assert ours["verdict"] == "slower" and len(found["rounds"]) == 2
    assert found["ratio"]["unsloth"]["ratio"] == pytest.approx(0.5)
    assert found["largest_loss_gap"] == {"ours": 0.25, "unsloth": 0.0, "loop": 0.0}
    # 64 tokens in two steps, 6 products of 1000 weights each, a million a second
    assert found["floor"] == pytest.approx(6 * 1000 * 32 / 1e6)
    assert "ours    2.000 s, 2.00 of it (2.00 to 2.00), slower" in capsys.readouterr().out


def test_a_stage_measured_again_leaves_the_others_record(steps, monkeypatch, tmp_path):
    fake_children(steps, monkeypatch)
    monkeypatch.setattr(steps, "provenance", lambda argv: {"command": " ".join(argv)})
    out = tmp_path / "steps.json"
    old = {"provenance": {"command": "all"}, "stages": {"sft": {"ratio": 1}, "dpo": {"ratio": 2}}}
    out.write_text(json.dumps(old))
    steps.main(["--rounds", "2", "--steps", "2", "--stage", "dpo", "--out", str(out)])
    written = json.loads(out.read_text())
    assert written["provenance"] == {"command": "all"} and written["stages"]["sft"] == {"ratio": 1}
    assert written["stages"]["dpo"]["provenance"]["command"].startswith("--rounds 2")
    assert written["stages"]["dpo"]["ratio"]["ours"]["ratio"] == pytest.approx(2)


def test_grpos_losses_are_compared_on_the_same_answers(steps, monkeypatch, tmp_path):
    order = fake_children(steps, monkeypatch, tokens=65)  # by luck: no reason to refuse
    monkeypatch.setattr(steps, "provenance", lambda argv: {})
    out = tmp_path / "steps.json"
    steps.main(["--rounds", "2", "--steps", "2", "--stage", "grpo", "--out", str(out)])
    assert order[-2:] == ["ours*", "plain*"]
    assert json.loads(out.read_text())["stages"]["grpo"]["largest_loss_gap"] == {"ours": 0.25}


@pytest.mark.parametrize("odd", [{"tokens": 65}, {"trained": 9}])
def test_sides_which_did_different_work_are_not_compared(steps, monkeypatch, odd):
    fake_children(steps, monkeypatch, **odd)
    with pytest.raises(RuntimeError, match="different work"):
        steps.one_round(steps.parse(["--steps", "2"]), "sft", 0)


def test_made_up_rows_are_right():
    sides = sys.modules["sides"]
    row = sides._made_up("grpo", 7)
    a, b = row["prompt"][0]["content"].removeprefix("What is ").removesuffix("?").split("+")
    assert int(a) + int(b) == int(row["answer"])
    pair = sides._made_up("dpo", 7)
    assert pair["chosen"][0]["content"].endswith(f"#### {row['answer']}")
    assert not pair["rejected"][0]["content"].endswith(f"#### {row['answer']}")
