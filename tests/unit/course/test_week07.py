"""Week 7: GRPO's loss in an enumerated world, readings of answers, figures and the records."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from modules import module_at

from postlab.course import listed
from postlab.course.week07 import figures
from postlab.evals import readings
from postlab.evals.forms import last_number
from postlab.profile import data_dir
from postlab.runs import frames
from postlab.scratch.grpo import grpo_loss, reinforce_loss
from postlab.scratch.losses import group_advantages, reduce_token_loss, token_logps
from postlab.scratch.sampling import TableLM, completion_states, pack

ROOT = Path(__file__).resolve().parents[3]
EXPERIMENTS = ROOT / "notebooks" / "experiments"
RECORDED = data_dir() / "results" / "week07"


def title(figure) -> str:
    return " ".join(figure._suptitle.get_text().replace("\N{MINUS SIGN}", "-").split())


# --- the losses ---


def test_reinforce_on_every_answer_is_the_gradient_of_the_expected_reward():
    """Nine completions of two tokens, each as often as the policy draws it."""
    model, rewards = TableLM(3), torch.randn(9, generator=torch.Generator().manual_seed(1))
    model.table.weight.data = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    batch = pack([[3]] * 9, [[a, b] for a in range(3) for b in range(3)])

    def logps():
        return token_logps(completion_states(model, batch)[0], batch.completions)

    chance = logps().sum(1).exp()
    (exact,) = torch.autograd.grad((chance * rewards).sum(), model.table.weight)
    counts = (chance.detach() * 20_000).round().long()  # the sample that has no luck in it
    drawn = torch.repeat_interleave(torch.arange(9), counts)
    loss = reinforce_loss(logps()[drawn], rewards[drawn], batch.mask[drawn])
    (found,) = torch.autograd.grad(loss, model.table.weight)
    assert torch.allclose(-found, exact, atol=2e-3) and exact.abs().max() > 0.05


def test_the_baseline_makes_reinforce_blind_to_a_constant():
    logps, rewards = -torch.rand(5, 4), torch.randn(5)
    mask = (torch.arange(4) < torch.tensor([[4], [1], [2], [3], [4]])).long()
    one, two = (reinforce_loss(logps, rewards + shift, mask) for shift in (0.0, 7.0))
    assert torch.allclose(one, two, atol=1e-5)


def test_on_policy_the_loss_is_nought_and_its_gradient_is_reinforce_by_group():
    logps = (-torch.rand(6, 3, generator=torch.Generator().manual_seed(0))).requires_grad_()
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 0]])
    advantages, now = group_advantages(torch.tensor([1.0, 0, 0, 1, 1, 0]), 3), logps.detach()
    loss = grpo_loss(logps, advantages, mask, old_logps=now, ref_logps=now, beta=0.3)
    assert abs(loss.item()) < 1e-6
    (gradient,) = torch.autograd.grad(loss, logps)
    wanted = -advantages[:, None] * mask / mask.sum(1, keepdim=True) / 6
    assert torch.allclose(gradient, wanted, atol=1e-6) and wanted.abs().max() > 0.05


def test_without_a_clip_in_reach_it_is_the_reduced_token_loss():
    old = -torch.rand(4, 5)
    logps, advantages = old + 0.05 * torch.randn(4, 5), torch.randn(4)
    mask = (torch.arange(5) < torch.tensor([[5], [2], [3], [1]])).long()
    loss = grpo_loss(logps, advantages, mask, old_logps=old, ref_logps=old)
    plain = -(logps - old).exp() * advantages[:, None]
    assert torch.allclose(loss, reduce_token_loss(plain, mask, how="grpo"), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mask": torch.zeros(2, 3)}, "mask"),
        ({"beta": -0.1}, "beta"),
        ({"old_logps": torch.zeros(2, 1)}, "old_logps"),
    ],
)
def test_what_does_not_fit_is_refused(change, said):
    x = torch.zeros(2, 3)
    given = {"mask": torch.ones(2, 3), "old_logps": x, "ref_logps": x, "beta": 0.1} | change
    mask = given.pop("mask")
    with pytest.raises(ValueError, match=said):
        grpo_loss(x, torch.ones(2), mask, **given)


# --- readings ---

READ = [  # answer to 12+30+15, strict, lenient
    ("12+30=42, 42+15=57. #### 57", 1, 1),
    ("#### 57", 1, 1),
    ("It is 57.", 0, 1),
    ("57", 0, 1),
    ("#### 57 or so", 0, 1),
    ("#### 56", 0, 0),
    ("12+30=42, 42+15=57. No, 58.", 0, 0),
    ("#### -57", 0, 0),
    ("", 0, 0),
    ("no idea", 0, 0),
    ("#### 5757", 0, 0),
]


@pytest.mark.parametrize(("answer", "strict", "lenient"), READ)
def test_an_answer_is_read_strictly_and_leniently(answer, strict, lenient):
    from postlab.tinyworld.oracle import read
    from postlab.tinyworld.tasks import score

    asked = "What is 12+30+15?"
    row = {"id": "a", "family": "arithmetic", "prompt": asked, "answer": answer}
    row["arithmetic"] = score(read(asked), answer, True)["arithmetic"]
    found = readings(pd.DataFrame([row])).iloc[0]
    assert (found["strict"], found["lenient"]) == (strict, lenient)
    assert found["format"] == strict - lenient


def test_lenient_reading_shares_no_code_with_the_reward():
    source = (ROOT / "postlab" / "evals" / "forms.py").read_text(encoding="utf-8")
    assert "import" in source and "from postlab.rewards" not in source


def test_samples_of_a_prompt_are_averaged_and_another_family_is_refused():
    rows = {"id": ["a", "a"], "family": "arithmetic_sampled", "prompt": "What is 2+3?"}
    rows |= {"answer": ["#### 5", "4"], "arithmetic_sampled": [1.0, 0.0]}
    frame = pd.DataFrame(rows)
    assert readings(frame, "arithmetic_sampled").to_numpy().tolist() == [[0.5, 0.5, 0.0]]
    with pytest.raises(ValueError, match="no answer of the family 'arithmetic'; the frame has"):
        readings(frame)


def test_gsm8k_is_read_by_its_own_columns():
    rows = {"id": ["a"], "family": "gsm8k", "prompt": "?", "answer": "5"}
    frame = pd.DataFrame(rows | {"gsm8k_strict": [0.0], "gsm8k_lenient": [1.0]})
    assert readings(frame, "gsm8k").iloc[0].tolist() == [0.0, 1.0, -1.0]


def test_a_number_of_many_digits_is_no_number_in_part():
    assert last_number("1234567890") is None and last_number("x=-3") == -3


# --- figures ---


def test_a_climb_says_the_spread_half_way():
    rows = [
        {"method": m, "seed": s, "step": t, "best": 0.1 * s + 0.01 * t}
        for m in ("plain", "better")
        for s in (1, 2)
        for t in range(1, 11)
    ]
    said = title(figures.plot_climb(pd.DataFrame(rows)))
    assert said.startswith("P(best answer) after 5 updates: from 15% to 25% plain")


def test_two_runs_are_called_the_same_only_if_they_are():
    ours = pd.DataFrame({"reward": [0.5, 0.75], "grad_norm": [1.0, 1.0]})
    names = ("yours", "TRL")
    assert title(figures.plot_pair(ours, ours, names=names)).endswith("the same")
    other = ours.assign(reward=[0.5, 0.5])
    assert title(figures.plot_pair(ours, other, names=names)).endswith("apart by up to 0.25")


def test_the_other_titles_are_what_is_drawn():
    reuse = pd.DataFrame({"update": [1, 2], "outside": [0.0, 0.2], "clipped": [0.0, 0.15]})
    assert "0% of the tokens at the first update and 15.0% at update 2" in title(
        figures.plot_reuse(reuse)
    )
    good = pd.DataFrame({"reward": [0.5, 0.9], "silent": [0.0, 0.5]})
    said = title(figures.plot_hunt(good, good[:1].assign(reward=0.1)))
    assert "colleague's reward is 0.10" in said and "yours was 0.50" in said
    gains = [
        {"run": run, "part": part, "points": points, "low": points - 1, "high": points + 1}
        for run, both in (("a", (30, 0)), ("b", (40, 5)))
        for part, points in zip(("sums", "format"), both, strict=True)
    ]
    said = title(figures.plot_gains(pd.DataFrame(gains)))
    assert said == "Gains of 30 to 45 points, of which mere format 0.0 to 5.0"
    steps = {"step": [1, 2], "learning_rate": [1.0, 0.5], "reward": [0.2, 0.4]}
    run = pd.DataFrame(steps).assign(arm="recipe", seed=0)
    assert title(figures.plot_schedule(run)).endswith("five steps: recipe 0.30")


# --- the experiments ---


def test_an_answer_loses_its_marker_and_nothing_else():
    experiment = module_at(EXPERIMENTS / "week07_arms.py", "week07_arms")
    assert experiment.unmarked("12+30=42, 42+15=57. #### 57") == "12+30=42, 42+15=57."
    assert experiment.unmarked("#### 57") == experiment.unmarked("57") == "57"


def test_the_strict_reward_pays_for_marked_answers_only():
    experiment = module_at(EXPERIMENTS / "week07_arms.py", "week07_arms")
    said = [[{"role": "assistant", "content": text}] for text in ("#### 57", "57", "#### 5")]
    assert experiment.strict_reward(said, answer=["57"] * 3) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("name", ["seeds", "arms"])
def test_a_record_says_where_it_comes_from(name):
    recorded = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    wanted = {"command", "commit", "seeds", "date", "device", "versions"}
    assert wanted <= set(recorded["provenance"])
    assert (RECORDED / f"{name}.json").stat().st_size < 150_000


def test_grpo_gains_twenty_points_on_each_of_five_seeds_and_they_are_no_format():
    """The bar of the issue, on the record: 200 held-out sums a seed, the oracle's extractor."""
    recorded = json.loads((RECORDED / "seeds.json").read_text(encoding="utf-8"))
    assert [one["seed"] for one in recorded["seeds"]] == [0, 1, 2, 3, 4]
    for one in recorded["seeds"]:
        means = {
            (when, how): torch.tensor(one[when][f"arithmetic, {how}"], dtype=float).mean().item()
            for when in ("start", "end")
            for how in ("strict", "lenient")
        }
        assert len(one["end"]["arithmetic, strict"]) == 200
        assert means["end", "strict"] - means["start", "strict"] >= 0.20
        assert means["end", "lenient"] - means["start", "lenient"] >= 0.20


def test_the_recorded_seed_0_is_the_shipped_stage():
    """By what it did, step by step and sum by sum: its key changes with the reward's wording."""
    recorded = json.loads((RECORDED / "seeds.json").read_text(encoding="utf-8"))["seeds"][0]
    shipped = data_dir() / "tiny-stages" / "grpo"
    state = json.loads((shipped / "trainer_state.json").read_text(encoding="utf-8"))
    log = [entry for entry in state["log_history"] if "reward" in entry]
    for name in ("reward", "loss", "entropy", "completions/mean_length"):
        assert recorded["log"][name] == listed(entry[name] for entry in log), name
    manifest = json.loads((shipped / "manifest.json").read_text(encoding="utf-8"))
    frame = frames.read(shipped, manifest["eval"]["columns"])
    for family in ("arithmetic", "arithmetic_sampled"):
        found = readings(frame, family)
        for how in ("strict", "lenient"):
            assert recorded["end"][f"{family}, {how}"] == listed(found[how])
    sums = frame[frame["family"] == "arithmetic"]
    assert recorded["end"]["tokens"] == listed(sums["length"])
