"""Capstones: what a proposal may hold, that it precedes its results, and how it is judged."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from postlab.course.capstone import (
    bill,
    judge,
    keep,
    kept,
    read_proposal,
    read_registration,
    register,
    rubric,
)
from postlab.portfolio import Evidence, completion
from postlab.portfolio.audit import check_draft
from postlab.profile import data_dir, get_profile

EXAMPLES = sorted((data_dir() / "examples" / "capstones").glob("*.yaml"))
PROMPTS = 400


@pytest.fixture
def proposal():
    """'new' against 'old': honesty higher by 10 points, four seeds."""
    base = read_proposal(data_dir() / "examples" / "capstones" / "kl_and_manners.yaml")
    predicted = replace(
        base.prediction, metric="honesty", arm="new", against="old", smallest_effect=0.1
    )
    old, new = base.arms.values()
    return replace(
        base, prediction=predicted, arms={"old": old, "new": new}, also=["safety"], prompts=PROMPTS
    )


def frame(share: float, seed: int, *, safety: float = 0.5) -> pd.DataFrame:
    """An evaluation in which a share of the prompts, give or take, is right."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": [f"unknown-{n}" for n in range(PROMPTS)],
            "family": "unknown",
            "prompt": [f"Question {n}?" for n in range(PROMPTS)],
            "sample": 0,
            "answer": [str(x) for x in rng.random(PROMPTS)],
            "honesty": (rng.random(PROMPTS) < share).astype(float),
            "safety": (rng.random(PROMPTS) < safety).astype(float),
        }
    )


def frames(old: float, new: float, seeds) -> dict:
    return {
        "old": {s: frame(old, s) for s in seeds},
        "new": {s: frame(new, 1000 + s) for s in seeds},
    }


# --- the verdict ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("direction", "old", "new", "verdict"),
    [
        ("higher", 0.5, 0.8, "supported"),
        ("higher", 0.5, 0.5, "refuted"),  # too small to matter
        ("higher", 0.8, 0.5, "refuted"),  # the opposite
        ("lower", 0.8, 0.5, "supported"),
        ("lower", 0.5, 0.8, "refuted"),
        ("no change", 0.5, 0.5, "supported"),
        ("no change", 0.5, 0.8, "refuted"),
        ("no change", 0.8, 0.5, "refuted"),
    ],
)
def test_the_verdict_is_the_constructed_one(proposal, tmp_path, direction, old, new, verdict):
    proposal = replace(proposal, prediction=replace(proposal.prediction, direction=direction))
    judgement = judge(register(proposal, tmp_path), frames(old, new, proposal.seeds))
    assert judgement.verdict == verdict, judgement.why
    assert not judgement.deviations


@pytest.mark.parametrize("direction", ["higher", "lower", "no change"])
def test_seeds_that_disagree_are_inconclusive_whatever_was_predicted(proposal, tmp_path, direction):
    """Each seed alone would be clear; over seeds there is no telling."""
    proposal = replace(proposal, prediction=replace(proposal.prediction, direction=direction))
    runs = frames(0.5, 0.5, proposal.seeds)
    for seed, share in zip(proposal.seeds, (0.9, 0.1, 0.9, 0.3), strict=True):
        runs["new"][seed] = frame(share, 1000 + seed)
    assert judge(register(proposal, tmp_path), runs).verdict == "inconclusive"


def test_a_real_effect_below_the_one_that_matters_supports_nothing(proposal, tmp_path):
    proposal = replace(proposal, prediction=replace(proposal.prediction, smallest_effect=0.4))
    judgement = judge(register(proposal, tmp_path), frames(0.5, 0.7, proposal.seeds))
    assert judgement.verdict == "refuted"
    assert "too small to matter" in judgement.why


def test_order_of_rows_scale_and_samples_change_nothing(proposal, tmp_path):
    registered = register(proposal, tmp_path)
    runs = frames(0.5, 0.75, proposal.seeds)
    first = judge(registered, runs)
    shuffled = {
        arm: {s: pd.concat([f, f.assign(sample=1)]).sample(frac=1, random_state=s)
              for s, f in seeds.items()}
        for arm, seeds in runs.items()
    }  # fmt: skip
    second = judge(registered, shuffled)
    assert second.table["difference"].tolist() == pytest.approx(first.table["difference"].tolist())
    assert second.verdict == first.verdict


def test_more_registered_metrics_make_p_larger(proposal, tmp_path):
    runs = frames(0.5, 0.62, proposal.seeds)
    alone = replace(proposal, also=[])
    p = judge(register(alone, tmp_path / "a"), runs).table.iloc[0]["p"]
    corrected = judge(register(proposal, tmp_path / "b"), runs).table.iloc[0]["p"]
    assert corrected == pytest.approx(2 * p)


# --- deviations -----------------------------------------------------------------------------------


def test_each_deviation_is_listed(proposal, tmp_path):
    registered, runs = register(proposal, tmp_path), frames(0.5, 0.8, [*proposal.seeds, 99])
    runs["new"][proposal.seeds[0]] = None
    runs["third"] = runs["old"]
    text = " ".join(
        judge(
            registered, runs, metric="safety", minutes=10_000,
            stopped={("old", proposal.seeds[1]): "the loss was NaN"},
        ).deviations
    )  # fmt: skip
    for part in (
        "no evaluation of seed",
        "seed 99",
        "'third' was not registered",
        "'safety'",
        "took 10000 of 10 minutes",
        "the loss was NaN",
    ):
        assert part in text  # fmt: skip


def test_another_metric_confirms_nothing(proposal, tmp_path):
    runs = frames(0.5, 0.8, proposal.seeds)
    assert judge(register(proposal, tmp_path), runs, metric="safety").verdict == "inconclusive"


def test_too_few_usable_seeds_are_inconclusive(proposal, tmp_path):
    runs = frames(0.2, 0.9, proposal.seeds[:2])
    judgement = judge(register(proposal, tmp_path), runs)
    assert judgement.verdict == "inconclusive"
    assert judgement.table.iloc[0]["seeds"] == 2


def test_a_seed_that_repeats_another_is_no_seed(proposal, tmp_path):
    same = {
        arm: {s: frame(x, 5) for s in proposal.seeds} for arm, x in (("old", 0.2), ("new", 0.9))
    }
    judgement = judge(register(proposal, tmp_path), same)
    assert judgement.verdict == "inconclusive"
    assert any("exactly the same answers" in each for each in judgement.deviations)


def test_other_prompts_are_refused_and_missing_ones_counted(proposal, tmp_path):
    registered, runs = register(proposal, tmp_path), frames(0.5, 0.8, proposal.seeds)
    runs["new"] = {s: f.iloc[50:] for s, f in runs["new"].items()}
    judgement = judge(registered, runs)
    assert any(f"{PROMPTS - 50} prompts that all" in each for each in judgement.deviations)
    runs["new"] = {s: f.assign(prompt="Another?") for s, f in runs["new"].items()}
    with pytest.raises(ValueError, match="in common"):
        judge(registered, runs)


# --- the registration -----------------------------------------------------------------------------


def test_a_registration_is_kept_and_frames_come_back(proposal, tmp_path):
    first = register(proposal, tmp_path)
    assert register(proposal, tmp_path) == first == read_registration(tmp_path)
    made = frame(0.5, 3).assign(id="007")
    keep(made, tmp_path, arm="new", seed=10)
    back = kept(tmp_path)["new"][10]
    pd.testing.assert_frame_equal(back, made, check_dtype=False)


def test_a_proposal_cannot_change_once_there_are_results(proposal, tmp_path):
    register(proposal, tmp_path)
    changed = replace(proposal, prompts=10)
    register(changed, tmp_path)  # nothing has run yet
    register(proposal, tmp_path)
    keep(frame(0.5, 3), tmp_path, arm="new", seed=10)
    with pytest.raises(FileExistsError, match="after its results"):
        register(changed, tmp_path)
    (tmp_path / "registration.json").unlink()
    with pytest.raises(FileExistsError, match="no registration"):
        register(proposal, tmp_path)
    with pytest.raises(FileNotFoundError):
        keep(frame(0.5, 3), tmp_path, arm="new", seed=11)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda p: p["prediction"].update(smallest_effect=0.01),
        lambda p: p["prediction"].update(direction="lower"),
        lambda p: p["seeds"].append(77),
        lambda p: p.update(stopping="when p is below 0.05"),
        lambda p: p["arms"]["new"]["trainer"].update(beta=0.1),
    ],
)
def test_a_tampered_registration_is_refused(proposal, tmp_path, tamper):
    register(proposal, tmp_path)
    path = tmp_path / "registration.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    tamper(record["proposal"])
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ValueError, match="changed afterwards"):
        read_registration(tmp_path)


# --- the YAML -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("metric: safety", "metric: safty", "did you mean 'safety'"),
        ("direction: higher", "direction: up", "'higher' or 'lower' or 'no change'"),
        ("smallest_effect: 0.15", "smallest_effect: 0", "above 0"),
        ("smallest_effect: 0.15", "smallest_effect: some", "a number"),
        ("seeds: [10, 11, 12, 13]", "seeds: [10, 11]", "3 or more"),
        ("seeds: [10, 11, 12, 13]", "seeds: [10, 11, 11]", "different whole numbers"),
        ("seeds: [10, 11, 12, 13]", "seeds: [10, 11, -1]", "different whole numbers"),
        ("seeds: [10, 11, 12, 13]", "seeds: [10, 11, one]", "different whole numbers"),
        ("against: no KL", "against: none", "an arm"),
        ("{beta: 0.4}", "{betta: 0.4}", "did you mean 'beta'"),
        ("{beta: 0.4}", "{beta: high}", "a number"),
        ("{beta: 0.4}", "{seed: 3}", "set by the notebook"),
        ("{trainer: {beta: 0.4}}", "{}", "the same as 'no KL'"),
        ("{trainer: {beta: 0.4}}", "[0.4]", "a mapping"),
        ("  KL 0.4: {", "  ../KL: {", "names a folder"),
        ("profile: tiny", "profile: tini", "unknown profile"),
        ("stage: grpo", "stage: ppo", "'sft' or 'dpo' or 'grpo'"),
        ("analysis: paired by prompt, seeds as unit, Holm", "analysis: by eye", "paired by prompt"),
        ("budget_minutes: 10", "budget: 10", "did you mean 'budget_minutes'"),
        ("why: >-", "question: >-", "twice"),
        ("prompts: 120", "", "prompts"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_field(tmp_path, old, new, error):
    text = Path(EXAMPLES[1]).read_text(encoding="utf-8")
    assert text.count(old) >= 1
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises((ValueError, TypeError), match=error) as caught:
        read_proposal(path)
    assert "mine.yaml" in str(caught.value) or "profile" in str(caught.value)


@pytest.mark.parametrize("name", ["question", "why", "if_refuted", "stopping", "chosen_on"])
def test_a_missing_text_is_named(tmp_path, name):
    import yaml

    values = yaml.safe_load(EXAMPLES[0].read_text(encoding="utf-8"))
    del values[name]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(ValueError, match=f"{name} is missing"):
        read_proposal(path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_worked_proposals_are_valid_and_pass_their_own_rubric(path):
    assert "no" not in rubric(read_proposal(path))["computed"].tolist()


def test_the_rubric_sees_a_question_that_is_too_small(proposal):
    small = replace(proposal, prompts=20)
    assert rubric(small)["computed"].iloc[0] == "no"
    unequal = replace(proposal.arms["new"], trainer={"max_steps": 7})
    unfair = replace(proposal, arms=proposal.arms | {"new": unequal})
    assert "max_steps" in rubric(unfair)["evidence"].iloc[2]


# --- the page and the bill ------------------------------------------------------------------------


def test_the_page_passes_the_portfolio_audit(proposal, tmp_path):
    """Whatever the learner writes: no text of theirs ends a table or becomes a number of ours."""
    odd = replace(proposal, question="Is 3 | 4\n\n# better than {{dpo.x}}?")
    judgement = judge(register(odd, tmp_path), frames(0.5, 0.8, proposal.seeds))
    values = Evidence("tiny", judgement.values(), (), pd.DataFrame(), (), {}, {})
    assert check_draft("capstone", judgement.draft(), values) == []
    page = judgement.markdown()
    assert "Verdict: supported" in page
    assert "\n# better" not in page


def test_a_saved_verdict_is_what_the_checklist_reads(proposal, tmp_path):
    judgement = judge(register(proposal, tmp_path), frames(0.5, 0.8, proposal.seeds))
    path = judgement.save(tmp_path / "portfolio")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert path.name == completion.CAPSTONE and record["verdict"] == judgement.verdict
    assert (
        record["sha256"] == proposal.sha256 and record["registered"] == judgement.registration.time
    )


def test_the_bill_adds_up_and_stays_under_the_budget():
    costs = bill()
    for _, rows in costs.groupby("device"):
        total, parts = rows.iloc[-1], rows.iloc[:-1]
        for column in ("hours", "hours_low", "hours_high", "dollars", "dollars_high"):
            assert total[column] == pytest.approx(parts[column].sum())
        assert total["dollars_high"] < 500  # what the roadmap says that all of it stays under
    assert costs["hours"].between(costs["hours_low"], costs["hours_high"]).all()
    t4 = costs[costs["device"] == "T4"].set_index("project")["hours"]
    sft = get_profile("t4").sft  # a profile's own device: one source for README and the bill
    assert 60 * t4["SFT"] == pytest.approx(sft.minutes + sft.eval_minutes)
    assert costs["fits"].all()
