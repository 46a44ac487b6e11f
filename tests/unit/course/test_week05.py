"""Week 5's figures say what they draw; its functions and record say where numbers come from."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from modules import module_at

from postlab.course.week05 import figures
from postlab.profile import data_dir
from postlab.scratch.losses import dpo_loss
from postlab.scratch.preferences import implicit_margins, length_bias

ROOT = Path(__file__).resolve().parents[3]
EXPERIMENT = ROOT / "notebooks" / "experiments" / "week05_preferences.py"
RECORDED = data_dir() / "results" / "week05" / "preferences.json"


def title(figure) -> str:
    return " ".join(figure._suptitle.get_text().replace("\N{MINUS SIGN}", "-").split())


def test_margins_are_those_inside_the_dpo_loss():
    policy, ref = -torch.rand(2, 6, 4)
    mask = (torch.arange(4) < torch.tensor([[4], [2], [3], [1], [4], [2]])).long()
    found = implicit_margins(policy, ref, mask, beta=0.3)
    sums = {"policy": (policy * mask).sum(1), "ref": (ref * mask).sum(1)}
    sides = {f"{n}_{s}": v for n, x in sums.items() for s, v in
             zip(("chosen", "rejected"), x.chunk(2), strict=True)}  # fmt: skip
    loss = dpo_loss(**sides, beta=0.3)
    assert torch.allclose(-torch.nn.functional.logsigmoid(found), loss, atol=1e-6)


def test_a_policy_that_is_its_reference_has_no_margins():
    logps = -torch.rand(4, 3)
    assert not implicit_margins(logps, logps, torch.ones(4, 3), beta=9.0).any()


def test_length_bias_finds_the_line_that_made_the_margins_whatever_is_added():
    extra = torch.tensor([-3, 0, 1, 8])
    slope, intercept = length_bias(0.25 * extra + 2, extra)
    assert slope.item() == pytest.approx(0.25) and intercept.item() == pytest.approx(2)
    slope, intercept = length_bias(0.25 * extra + 7, extra)
    assert slope.item() == pytest.approx(0.25) and intercept.item() == pytest.approx(7)


def test_the_title_of_log_probs_goes_from_first_to_last_step():
    rows = [
        {"arm": "a", "seed": seed, "step": step, "logps/chosen": -1.0 - step, "logps/rejected": -9}
        for step in (0, 5)
        for seed in (0, 1)
    ]
    assert "a -1.0 to -6.0" in title(figures.plot_logps(pd.DataFrame(rows), ["a"]))


def test_the_headline_of_arms_is_the_first_measures_means():
    frame = pd.DataFrame({"arm": ["a", "a", "b"], "seed": [0, 1, 0], "kl": [1.0, 2.0, 4.0]})
    assert title(figures.plot_arms(frame, ["a", "b"], {"kl": "KL"})) == "KL: a 1.50; b 4.00"


def test_margins_name_the_share_above_nought_and_the_worst_group():
    said = title(figures.plot_margins({"sums": [-1.0, 1.0], "facts": [1.0, 2.0]}))
    assert said.startswith("75% of 4 held-out pairs") and said.endswith("50% of those on sums")


def test_a_length_line_says_its_slope():
    said = title(figures.plot_length([0, 1, 2], [1, 2, 3], slope=1.0, intercept=1.0))
    assert "+1.00 of margin; 1.0 at equal length" in said


def test_a_reply_said_twice_is_longer_and_the_row_else_the_same():
    experiment = module_at(EXPERIMENT, "week05_preferences")
    row = {"prompt": 1, "chosen": [{"role": "assistant", "content": "Yes."}], "rejected": 2}
    found = experiment.said_twice(row)
    assert found["chosen"][0]["content"] == "Yes. Yes." and row["chosen"][0]["content"] == "Yes."
    assert found["prompt"] == 1 and found["rejected"] == 2


@pytest.mark.skipif(not RECORDED.is_file(), reason=f"{RECORDED.name} is not recorded")
def test_the_recorded_run_says_where_it_comes_from():
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    wanted = {"command", "commit", "seeds", "date", "device", "versions"}
    assert wanted <= set(recorded["provenance"]) and RECORDED.stat().st_size < 400_000
    runs = pd.DataFrame(recorded["runs"])
    assert set(runs["arm"]) == set(recorded["arms"])
    assert (runs.groupby("arm")["seed"].nunique() == len(recorded["provenance"]["seeds"])).all()


@pytest.mark.skipif(not RECORDED.is_file(), reason=f"{RECORDED.name} is not recorded")
def test_every_recorded_run_met_the_same_pairs_and_prompts():
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    pairs = len(recorded["pairs_family"])
    assert pairs == recorded["settings"]["heldout_pairs"]
    before = recorded["pairs_before"]
    assert {len(logps) for logps in before.values()} == {pairs}
    prompts = [{k: len(scores) for k, scores in r["prompts"].items()} for r in recorded["runs"]]
    assert all(each == prompts[0] for each in prompts)
    for run in recorded["runs"]:
        assert run["pairs"].keys() == before.keys()
        assert {len(logps) for logps in run["pairs"].values()} == {pairs}
