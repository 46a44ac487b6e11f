"""The doctor: each rule on either side of its threshold, malformed logs, and the recorded runs."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from modules import module_at

from postlab.course import week_of
from postlab.course.doctor_weeks import OF_ANY_STAGE, OF_CODE
from postlab.doctor import Finding, diagnose
from postlab.doctor.diagnosis import _ADVICE
from postlab.doctor.rules import TREND_RULES
from postlab.profile import data_dir

ROOT = Path(__file__).resolve().parents[3]
RECORDED = data_dir() / "results" / "week08"
STEPS = 16
MATH, FORMAT = "rewards/math_reward/mean", "rewards/format_reward/mean"


def ramp(first: float, last: float) -> list[float]:
    return [first + (last - first) * i / (STEPS - 1) for i in range(STEPS)]


def halves(first: float, last: float) -> list[float]:
    return [first] * (STEPS // 2) + [last] * (STEPS // 2)


def quick(first: float, last: float) -> list[float]:
    """At its last value from the third step on."""
    return [first, (first + last) / 2, *[last] * (STEPS - 2)]


def shaken(first: float, last: float) -> list[float]:
    """Halves whose points jump by 0.4."""
    return [mean + 0.2 * (-1) ** i for i, mean in enumerate(halves(first, last))]


def log(columns: dict) -> list[dict]:
    """A log history of 16 steps: a number stands for all of them, None for a key not logged."""
    columns = {name: value for name, value in columns.items() if value is not None}
    entries = []
    for i in range(STEPS):
        entry = {k: v[i] if isinstance(v, list) else v for k, v in columns.items()}
        entries.append(entry | {"step": i + 1})
    return [*entries, {"step": STEPS, "train_runtime": 9.0, "train_loss": 0.3}]


SFT = {
    "loss": ramp(2.0, 0.2), "grad_norm": 0.4, "learning_rate": 2e-3, "entropy": 0.2,
    "mean_token_accuracy": ramp(0.6, 0.95), "num_tokens": [600.0 * i for i in range(STEPS)],
}  # fmt: skip
DPO = {
    "loss": ramp(0.69, 0.2), "grad_norm": 1.0, "learning_rate": 4e-4,
    "rewards/margins": ramp(0.0, 3.0), "rewards/chosen": ramp(0.0, 0.4),
    "rewards/rejected": ramp(0.0, -2.6), "logps/chosen": ramp(-20.0, -19.2),
    "rewards/accuracies": [0.5, 0.625, *[0.875] * 14],
}  # fmt: skip
GRPO = {
    "loss": -0.1, "grad_norm": 0.2, "learning_rate": 1e-4, "entropy": ramp(0.5, 0.2),
    "reward": ramp(0.2, 0.8), "reward_std": 0.4, "frac_reward_zero_std": [0.25, 0.375] * 8,
    "completions/clipped_ratio": 0.0, "completions/mean_length": 30.0,
    MATH: ramp(0.2, 0.8), "kl": None,
}  # fmt: skip
BASES = {"sft": SFT, "dpo": DPO, "grpo": GRPO}


def codes(columns: dict, *, stage: str) -> set[str]:
    return {finding.code for finding in diagnose(log(BASES[stage] | columns))}


@pytest.mark.parametrize("stage", BASES)
def test_a_healthy_log_brings_nothing(stage: str):
    assert diagnose(log(BASES[stage])) == []


FLAT = {"reward": 0.4, MATH: 0.4, "entropy": 0.3}
TWO = {MATH: None, "rewards/truth/mean": halves(0.5, 0.2)}
SAME = {"reward_std": 0.2, "frac_reward_zero_std": 0.75}
SIDES = [  # code, stage, what is just a fault, what is just none
    ("nan_as_zero", "sft", {"loss": halves(1, 0.0), "grad_norm": halves(1, math.nan)},
     {"loss": halves(1, 0.01), "grad_norm": halves(1, math.nan)}),
    ("nan_as_zero", "sft", {"loss": halves(1, 0.0), "mean_token_accuracy": halves(0.5, 0.0)},
     {"loss": halves(1, 0.0), "mean_token_accuracy": halves(0.5, 1.0)}),
    ("nan", "grpo", {"loss": halves(-0.1, math.nan)}, {"loss": halves(-0.1, 0.0)}),
    ("no_learning_signal", "grpo", FLAT | {"frac_reward_zero_std": 0.75},
     FLAT | {"frac_reward_zero_std": 0.74}),
    ("no_learning_signal", "grpo", {"reward": 0.0, "frac_reward_zero_std": 1.0},
     {"reward": 1.0, "reward_std": 0.0, "frac_reward_zero_std": 1.0}),
    ("no_learning_signal", "grpo",  # one of two rewards was learnt, and is silent where it is full
     FLAT | {"frac_reward_zero_std": 0.75, MATH: halves(0.5, 0.59)},
     FLAT | {"frac_reward_zero_std": 0.75, MATH: halves(0.5, 0.61)}),
    ("no_learning_signal", "grpo",  # where no group speaks, nothing was learnt from them
     FLAT | {"frac_reward_zero_std": 0.95, MATH: halves(0.5, 0.61)},
     FLAT | {"frac_reward_zero_std": 0.94, MATH: halves(0.5, 0.61)}),
    ("reward_saturation", "grpo", SAME | {"reward": [1.0, 0.8] * 8},
     SAME | {"reward": [1.0, 0.78] * 8}),
    ("reward_saturation", "grpo", SAME | {"reward": 0.95},
     SAME | {"reward": 0.95, "frac_reward_zero_std": 0.74}),
    ("reward_saturation", "grpo", SAME | {"reward": 0.5, "reward_std": 0.17},
     SAME | {"reward": 0.5, "reward_std": 0.18}),
    ("truncation", "grpo", {"completions/clipped_ratio": 0.1},
     {"completions/clipped_ratio": 0.09}),
    ("truncation", "grpo", {"completions/clipped_ratio": halves(0.0, 0.1)},
     {"completions/clipped_ratio": halves(0.9, 0.0)}),
    ("format_up_accuracy_down", "grpo",
     {FORMAT: halves(0.1, 0.9), MATH: halves(0.5, 0.39)},
     {FORMAT: halves(0.1, 0.9), MATH: halves(0.5, 0.41)}),
    ("reward_traded", "grpo",
     TWO | {"rewards/judge/mean": halves(0.5, 0.61)},
     TWO | {"rewards/judge/mean": halves(0.5, 0.59)}),
    ("reward_traded", "grpo",
     TWO | {"rewards/judge/mean": halves(0.5, 0.9)},
     TWO | {"rewards/judge/mean": halves(0.5, 0.9), "rewards/truth/mean": halves(0.5, 0.41)}),
    ("format_up_accuracy_down", "grpo",  # had within three steps, before the first quarter ends
     {FORMAT: quick(0.5, 1.0), MATH: quick(0.25, 0.0)},
     {FORMAT: quick(0.5, 1.0), MATH: quick(0.25, 0.2)}),
    ("reward_traded", "grpo",  # the same move of both, and more noise than they moved apart
     TWO | {"rewards/judge/mean": halves(0.3, 0.6)},
     {MATH: None, "rewards/truth/mean": shaken(0.5, 0.2), "rewards/judge/mean": shaken(0.3, 0.6)}),
    ("reward_traded", "grpo",  # what rises is a matter of form: that is the other rule's
     TWO | {"rewards/judge/mean": halves(0.1, 0.9)},
     TWO | {FORMAT: halves(0.1, 0.9)}),
    ("format_up_accuracy_down", "grpo",  # what falls is a matter of form
     {MATH: halves(0.9, 0.1), FORMAT: halves(0.1, 0.9)},
     {MATH: halves(0.1, 0.9), FORMAT: halves(0.9, 0.1)}),
    ("length_drift", "grpo", FLAT | {"completions/mean_length": halves(20, 31)},
     FLAT | {"completions/mean_length": halves(20, 29)}),
    ("length_drift", "grpo", FLAT | {"completions/mean_length": halves(20, 40)},
     {"completions/mean_length": halves(20, 40)}),  # the reward of the healthy log rises with it
    ("length_drift", "grpo",
     {"completions/mean_length": halves(40, 20), MATH: halves(0.5, 0.4)},
     FLAT | {"completions/mean_length": halves(40, 20)}),
    ("length_drift", "grpo",  # what it lost, it lost within three steps
     {"completions/mean_length": halves(9, 4), MATH: quick(0.12, 0.0)},
     {"completions/mean_length": halves(9, 4), MATH: quick(0.06, 0.0)}),
    ("kl_blow_up", "grpo", {"kl": halves(0.0, 0.5)}, {"kl": halves(0.0, 0.49)}),
    ("lr_too_high", "sft", {"loss": halves(2.0, 2.4)}, {"loss": halves(2.0, 2.3)}),
    ("lr_too_high", "sft",  # the loss had leapt before the first logged point
     {"loss": ramp(8.0, 4.0), "entropy": halves(0.2, 1.2)},
     {"loss": ramp(8.0, 4.0), "entropy": halves(0.2, 1.1)}),
    ("lr_too_high", "dpo", {"loss": halves(0.69, 0.9)}, {"loss": halves(0.69, 0.75)}),
    ("lr_too_high", "grpo", {"reward": halves(0.8, 0.4)}, {"reward": halves(0.8, 0.41)}),
    ("lr_too_low", "sft", {"loss": halves(2.0, 1.95), "learning_rate": 1e-4},
     {"loss": halves(2.0, 1.8), "learning_rate": 1e-4}),
    ("lr_too_low", "sft", {"loss": halves(2.0, 1.95), "learning_rate": 1e-4},
     {"loss": halves(2.0, 1.95), "learning_rate": 2e-4}),
    ("lr_too_low", "dpo", {"rewards/margins": ramp(0, 0.05), "learning_rate": 1e-6},
     {"rewards/margins": ramp(0, 0.07), "learning_rate": 1e-6}),
    ("lr_too_low", "grpo", FLAT | {"learning_rate": 1e-5}, FLAT | {"learning_rate": 1.1e-5}),
    ("lr_too_low", "grpo", FLAT | {"learning_rate": 1e-6},
     FLAT | {"learning_rate": 1e-6, "entropy": ramp(0.4, 0.2)}),
    ("adapter_still", "dpo", {"rewards/margins": 0.0}, {"rewards/margins": ramp(0, 1e-4)}),
    ("adapter_still", "sft", {"grad_norm": 0.0}, {"grad_norm": [0.0] * 15 + [0.1]}),
    ("adapter_still", "sft", {"learning_rate": 0.0}, {"learning_rate": [0.0] * 15 + [1e-5]}),
    ("adapter_still", "grpo", {"grad_norm": 0.0},  # silent groups have no gradient either
     {"grad_norm": 0.0, "frac_reward_zero_std": 1.0}),
    ("chosen_logp_collapse", "dpo",
     {"rewards/chosen": ramp(0, -3), "logps/chosen": halves(-20, -30)},
     {"rewards/chosen": ramp(0, -3), "logps/chosen": halves(-20, -29)}),
    ("chosen_logp_collapse", "dpo",
     {"rewards/chosen": ramp(0, -3), "logps/chosen": halves(-1, -3)},
     {"rewards/chosen": ramp(0, -3), "logps/chosen": halves(-1, -2.9)}),
    ("chosen_logp_falls", "dpo", {"rewards/chosen": ramp(0, -0.2)}, {"rewards/chosen": ramp(0, 0)}),
    ("chosen_logp_falls", "dpo",
     {"rewards/chosen": ramp(0, -3), "logps/chosen": halves(-20, -29)},
     {"rewards/chosen": ramp(0, -3), "logps/chosen": halves(-20, -30)}),
    ("grpo_zero_loss", "grpo", {"loss": 1e-3}, {"loss": 1.1e-3}),
    ("grpo_zero_loss", "grpo", {"loss": 0.0}, {"loss": 0.0, "grad_norm": 0.0}),
    ("averages_over_too_little", "dpo", {"rewards/accuracies": [0.25, 0.75, 0.5, 1.0] * 4},
     {"rewards/accuracies": [0.2, 0.8, 0.6, 1.0] * 4}),
    ("averages_over_too_little", "grpo", {"frac_reward_zero_std": [0.5, 0.0, 1.0, 0.5] * 4},
     {"frac_reward_zero_std": [1 / 3, 0.0, 1.0, 1 / 3] * 4}),
    ("averages_over_too_little", "sft", {"num_tokens": [256.0 * i for i in range(STEPS)]},
     {"num_tokens": [257.0 * i for i in range(STEPS)]}),
]  # fmt: skip
COLLAPSED = {
    "reward": 0.5, "reward_std": 0.5, "entropy": halves(0.5, 0.05),
    "frac_reward_zero_std": halves(0.2, 0.75),
}  # fmt: skip
SIDES += [
    ("entropy_collapse", "grpo", COLLAPSED | {"reward": ramp(0.3, 0.6)}, COLLAPSED | change)
    for change in (
        {"reward": ramp(0.3, 0.6), "entropy": halves(0.5, 0.051)},
        {"reward": ramp(0.3, 0.6), "frac_reward_zero_std": halves(0.2, 0.74)},
        {"reward": 0.9, "reward_std": 0.3},  # at its top: the end of a good run
    )
]


@pytest.mark.parametrize(("code", "stage", "fault", "none"), SIDES)
def test_a_rule_speaks_on_one_side_of_its_threshold(code: str, stage: str, fault: dict, none: dict):
    assert code in codes(fault, stage=stage)
    assert code not in codes(none, stage=stage)


def test_every_rule_has_its_sides_and_its_advice():
    rules = {rule.__name__ for rule in TREND_RULES} | {"nan", "nan_as_zero"}
    assert {code for code, *_ in SIDES} == rules
    assert set(_ADVICE) == rules | {"too_short"}


def test_a_finding_gives_its_figures():
    (high,) = diagnose(log(DPO | {"loss": halves(0.69, 1.5)}))
    assert high.severity == "error"
    assert "0.69 to 1.5" in high.evidence and "4.0e-04" in high.evidence
    (cut,) = diagnose(log(GRPO | {"completions/clipped_ratio": 0.31}))
    assert "31%" in cut.evidence
    assert all(isinstance(finding, Finding) for finding in (high, cut))


def test_every_finding_has_its_week():
    assert set(_ADVICE) <= set(OF_CODE) | set(OF_ANY_STAGE)
    assert {week_of(code, stage="sft") for code in _ADVICE} <= set(range(1, 13))
    assert [week_of("lr_too_low", stage=stage) for stage in ("sft", "dpo", "grpo")] == [3, 5, 7]
    for code, stage, named in (("nonesuch", None, "nonesuch"), ("nan", "ppo", "ppo")):
        with pytest.raises(ValueError, match=named):
            week_of(code, stage=stage)


def test_errors_come_first():
    found = diagnose(log(GRPO | {"loss": 0.0, "completions/clipped_ratio": 0.4, "kl": 3.0}))
    assert [finding.severity for finding in found] == ["error", "warning", "info"]


def test_after_a_nan_only_what_came_before_is_read():
    """Margins that are 0 from the NaN on are no still adapter, and no rate too low."""
    dead = {"loss": 0.0, "rewards/margins": 0.0, "grad_norm": math.nan, "step": 99}
    found = diagnose([*log(DPO)[:-1], *[dead] * 40])
    assert [finding.code for finding in found] == ["nan_as_zero"]
    assert "step 99" in found[0].evidence and "40" in found[0].evidence


def test_an_infinite_gradient_beside_a_finite_loss_is_fp16_at_work():
    assert diagnose(log(SFT | {"grad_norm": [math.inf, math.nan, *[0.4] * 14]})) == []


# --- malformed logs ---


@pytest.mark.parametrize("wrong", [{"log_history": []}, "loss", b"loss", None, 3, iter([])])
def test_what_is_no_log_is_refused_with_the_fix(wrong: object):
    with pytest.raises(TypeError, match=r"expected a list of dicts: trainer.state.log_history"):
        diagnose(wrong)


def test_an_entry_that_is_no_dict_is_named():
    with pytest.raises(TypeError, match="a list that holds a str"):
        diagnose([{"loss": 1.0}, "loss"])


@pytest.mark.parametrize("short", [[], [{}], [{"eval_loss": 1.0}], log(SFT)[:7]])
def test_a_short_log_is_said_to_be_short(short: list):
    assert [(finding.code, finding.severity) for finding in diagnose(short)] == [
        ("too_short", "info")
    ]


def test_a_short_log_with_a_nan_is_not_excused():
    assert [finding.code for finding in diagnose([{"loss": math.nan}])] == ["nan"]


@pytest.mark.parametrize("stage", BASES)
@pytest.mark.parametrize("junk", ["n/a", None, (), True, math.nan, math.inf, -math.inf, {"a": 1}])
def test_values_that_are_no_numbers_are_passed_over(stage: str, junk: object):
    """Any one column may be junk in any step: no error, and no fault but a loss that is NaN."""
    for name, values in BASES[stage].items():
        if values is None:
            continue
        listed = values if isinstance(values, list) else [values] * STEPS
        found = codes({name: [*listed[:5], junk, *listed[6:]]}, stage=stage)
        is_nan = name == "loss" and isinstance(junk, float)
        assert found - {"too_short"} == ({"nan"} if is_nan else set()), name
        assert codes({name: junk}, stage=stage) <= {"nan", "too_short"}, name


@pytest.mark.parametrize("stage", BASES)
def test_no_key_is_needed(stage: str):
    for name in BASES[stage]:
        assert codes({name: None}, stage=stage) <= {"too_short"}


def test_keys_that_are_no_text_and_huge_numbers_do_no_harm():
    assert diagnose([{**entry, 7: "x"} for entry in log(GRPO)]) == []
    assert codes({"loss": halves(1.0, 1e308)}, stage="sft") == {"nan"}
    assert "lr_too_high" in codes({"loss": halves(1.0, 1e99)}, stage="sft")


def test_the_log_is_left_as_it_was():
    given = log(GRPO)
    before = json.dumps(given)
    diagnose(given)
    assert json.dumps(given) == before


def test_it_runs_without_torch():
    code = (
        "import sys; from postlab.doctor import diagnose; diagnose([]);"
        "print({'torch', 'numpy', 'pandas', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- the recorded runs ---


@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo"])
def test_the_shipped_stages_bring_no_warning(stage: str):
    state = json.loads((data_dir() / "tiny-stages" / stage / "trainer_state.json").read_text())
    assert [f for f in diagnose(state["log_history"]) if f.severity != "info"] == []


@pytest.fixture(scope="module")
def experiment():
    return module_at(ROOT / "notebooks" / "experiments" / "week08_logs.py", "week08_logs")


@pytest.fixture(scope="module")
def summary() -> dict:
    return json.loads((RECORDED / "doctor.json").read_text())


@pytest.mark.parametrize("split", ["tuning", "held_out"])
def test_the_summary_is_what_the_rules_make_of_the_committed_logs(experiment, summary, split):
    assert summary[split] == experiment.summary(experiment.recorded(split))


def test_on_the_held_out_split_only_a_small_fall_is_missed_and_there_is_one_false_alarm(summary):
    """What was missed: sums were right in a tenth of the answers, so there was little to lose."""
    held_out = summary["held_out"]
    assert held_out["misses"] == ["in-words"]
    assert held_out["hits"] == held_out["faults"] - 1 >= 18
    assert held_out["false_alarms"] == ["no-room: entropy_collapse"]
    assert held_out["healthy"] == 4


def test_what_was_missed_had_little_to_lose(experiment):
    (missed,) = (r for r in experiment.recorded("held_out") if r["name"] == "in-words")
    sums = [e[MATH] for e in missed["log_history"] if MATH in e]
    assert max(sum(sums[:2]) / 2, quarters(missed, MATH)[0] / (len(sums) // 4)) < 0.12


def quarters(result: dict, name: str) -> tuple[float, float]:
    """Sums of the first and the last quarter of a series."""
    series = [e[name] for e in result["log_history"] if name in e]
    return sum(series[: len(series) // 4]), sum(series[-(len(series) // 4) :])


def test_a_run_is_absent_only_where_its_log_shows_no_trace_of_the_fault(experiment):
    """By the numbers themselves and not by the rules: what should have fallen ends no lower."""
    made = {r["name"]: r for split in experiment.SPLITS for r in experiment.recorded(split)}
    fell = {"third-sure-of-nothing": "entropy", "fifth-fooled-judge": MATH}
    fell["eighth-hot-grpo"] = "reward"
    assert {name for name, r in made.items() if r["spec"].get("absent")} == set(fell)
    for name, series in fell.items():
        first, last = quarters(made[name], series)
        assert last > first, name
    first, last = quarters(made["third-herd"], "entropy")
    assert last < 0.1 * first  # where an entropy did collapse


def test_the_herd_pays_half_of_each_group_the_most_said_first(experiment):
    said = ["a", "b", "b", "c", "b", "a", "d", "e"]
    assert experiment.herd_reward(said) == [1, 1, 1, 0, 1, 0, 0, 0]
    assert experiment.herd_reward(["x"] * 8 + said)[:8] == [1, 1, 1, 1, 0, 0, 0, 0]


def test_each_kind_is_in_both_splits_and_no_held_out_run_repeats_a_tuning_one(experiment):
    tuning, held_out = (experiment.SPLITS[split].values() for split in ("tuning", "held_out"))
    rules = {rule.__name__ for rule in TREND_RULES} | {"nan_as_zero", None}
    assert {spec["kind"] for spec in tuning} == {spec["kind"] for spec in held_out} == rules
    for specs in (tuning, held_out):
        healthy = [spec["stage"] for spec in specs if spec["kind"] is None]
        assert {"dpo", "grpo", "sft"} == set(healthy)
    assert not {spec["seed"] for spec in tuning} & {spec["seed"] for spec in held_out}
    for spec in held_out:
        made = [{**spec, "seed": 0}, *({**other, "seed": 0} for other in tuning)]
        assert made[0] not in made[1:], "another seed alone is no test"


@pytest.mark.parametrize("split", ["tuning", "held_out"])
def test_a_log_says_what_made_it(experiment, split):
    runs = {run["name"]: run for run in experiment.recorded(split)}
    assert set(runs) == set(experiment.stored(split)) == set(experiment.SPLITS[split])
    for name, spec in experiment.SPLITS[split].items():
        found = runs[name]
        assert found["spec"] == spec, "the settings changed: run the script again"
        assert found["provenance"]["seeds"] == [spec["seed"]]
        assert found["provenance"]["command"] == "python notebooks/experiments/week08_logs.py"
        assert len(found["log_history"]) > 10


def test_no_verdict_has_changed_since_the_held_out_logs_were_made(summary):
    """A rule that changes one has seen the held-out split: make a new one, of other runs."""
    verdicts = {
        split: {one["name"]: one["found"] for one in summary[split]["logs"]} for split in summary
    }
    seal = hashlib.sha256(json.dumps(verdicts, sort_keys=True).encode()).hexdigest()
    assert seal.startswith("0b42e18dc556cef0")
