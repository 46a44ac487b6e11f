"""The extras' helpers: rounded weights, importance weights, and figures."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch

from postlab.course.extras import (
    OtherSampler,
    corrected,
    draw_pair_sources,
    draw_two_copies,
    draw_who_scores,
    fake_quantised,
    importance_weights,
    plot_budget,
    plot_curves,
    plot_likelihoods,
    plot_sources,
    plot_thinking,
    plot_turns,
    plot_verdict,
)

LOG = math.log


def test_a_row_is_rounded_by_its_own_scale():
    weight = torch.tensor([[1.0, 0.4, -0.6], [10.0, 4.0, -6.0], [0.0, 0.0, 0.0]])
    rounded = fake_quantised(weight, 2)
    assert rounded.tolist() == [[1.0, 0.0, -1.0], [10.0, 0.0, -10.0], [0.0, 0.0, 0.0]]


def test_each_bit_halves_the_largest_error():
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    most = weight.abs().amax(dim=1, keepdim=True)
    for bits in (3, 4, 8):
        step = most / (2 ** (bits - 1) - 1)
        assert ((fake_quantised(weight, bits) - weight).abs() <= step / 2 + 1e-6).all()


# Two answers: ratios 3 and 1/2 (their product 1.5), and 4 with padding behind it.
RATIOS = torch.tensor([[LOG(3.0), LOG(0.5)], [LOG(4.0), LOG(9.0)]])
MASK = torch.tensor([[1.0, 1.0], [1.0, 0.0]])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("token_truncate", [[2.0, 0.5], [2.0, 1.0]]),
        ("token_mask", [[0.0, 0.5], [0.0, 1.0]]),
        ("sequence_truncate", [[1.5], [2.0]]),
        ("sequence_mask", [[1.5], [0.0]]),
    ],
)
def test_weights_by_hand(mode: str, expected: list):
    weights = importance_weights(RATIOS, MASK, mode, 2.0)
    torch.testing.assert_close(weights, torch.tensor(expected))


def test_an_unknown_mode_is_named():
    with pytest.raises(ValueError, match="'token'; expected one of token_truncate"):
        importance_weights(RATIOS, MASK, "token", 2.0)


def title(fig) -> str:
    return " ".join(fig.get_suptitle().split())


def test_the_verdict_names_the_token_with_the_largest_share():
    assert title(plot_verdict(["#", "5", "8"], [3.0, 0.5, 0.5])).startswith("Token 1 of 3 gets 75%")


def test_the_curves_say_when_the_mean_over_seeds_gets_there():
    rows = [
        {"arm": arm, "seed": seed, "step": step, "tokens": tokens, "passes": tokens, "accuracy": a}
        for arm, accuracies in {"GRPO": (0.5, 0.9), "reverse KL": (0.94, 1.0)}.items()
        for seed in (0, 1)
        for step, (tokens, a) in enumerate(zip((1.0, 2.0), accuracies, strict=True))
    ]
    assert title(plot_curves(pd.DataFrame(rows))).endswith("GRPO never, reverse KL 2000")


@pytest.mark.parametrize("draw", [draw_who_scores, draw_two_copies, draw_pair_sources])
def test_pictures_fit_a_phone(draw):
    assert draw().get_size_inches()[0] <= 7


# --- the correction in TRL's trainer --------------------------------------------------------------


def corrected_trainer(folder, sampler, mode=None, **settings):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from postlab.datasets import math_rows
    from postlab.lab import Lab
    from postlab.models import load_policy, trainable
    from postlab.profile import get_profile
    from postlab.rewards import math_reward

    policy, tokenizer = load_policy(
        Lab(get_profile("tiny"), 0).checkpoint("sft"), profile="tiny", bits=32
    )
    recipe = get_profile("tiny").grpo.trainer
    args = {"per_device_train_batch_size": 16, "num_generations": 8, "max_completion_length": 24}
    return corrected(GRPOTrainer, mode=mode)(
        model=trainable(policy),
        processing_class=tokenizer,
        reward_funcs=math_reward,
        rollout_func=sampler,
        train_dataset=Dataset.from_list(math_rows("tinyworld", split="train", n=40, seed=0)),
        args=GRPOConfig(output_dir=str(folder), seed=0, **recipe | args | settings),
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("POSTLAB_RUNS", str(tmp_path / "runs"))
    return tmp_path


@pytest.mark.parametrize("mode", ["token_truncate", "sequence_mask"])
def test_the_corrected_loss_is_trls_own_where_vllm_samples(folder, mode: str):
    trainer = corrected_trainer(folder, OtherSampler(bits=3), mode)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1  # as `train` would set it
    rows = [row for row in trainer.train_dataset.select(range(2)) for _ in range(8)]
    batch = trainer._prepare_inputs(rows)
    assert batch["advantages"].shape == batch["completion_mask"].shape
    assert trainer.mismatch[0][1] > 0.01  # three bits are far from the policy
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    seen = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    mask = batch["completion_mask"]
    with torch.no_grad():
        logps, *_ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, seen, mask.shape[1]
        )
    ratios = (logps - batch["sampling_per_token_logps"]) * mask
    weights = importance_weights(ratios, mask, mode, 2.0).expand_as(mask)
    kept = weights > 0
    plain = torch.where(kept, batch["advantages"] / weights.clamp(min=1e-9), 0.0)
    ours = trainer._compute_loss(trainer.model, batch)
    trainer.use_vllm = True
    theirs = trainer._compute_loss(
        trainer.model, batch | {"advantages": plain, "importance_sampling_ratio": weights}
    )
    parameters = [p for p in trainer.model.parameters() if p.requires_grad]
    gradients = [torch.autograd.grad(loss, parameters) for loss in (ours, theirs)]
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_a_sampler_without_lag_is_the_policy_and_an_old_one_is_not(folder):
    settings = {"max_steps": 3, "learning_rate": 1e-3, "save_strategy": "no"}
    for lag, alike in ((0, True), (2, False)):
        trainer = corrected_trainer(folder, OtherSampler(lag=lag), **settings)
        trainer.train()
        largest = [most for _, most in trainer.mismatch]
        assert largest[0] < 1e-3  # nothing has been trained yet
        assert (max(largest) < 1e-3) == alike


def test_the_title_of_turns_compares_the_first_arm_with_the_last_on_the_last_kind():
    rows = [
        {"arm": arm, "kind": kind, "seeds": [share, share + 0.2]}
        for arm, share in (("single turns", 0.1), ("conversations", 0.7))
        for kind in ("first question", "follow-up")
    ]
    figure = plot_turns(pd.DataFrame(rows))
    said = figure._suptitle.get_text().replace("\n", " ")
    assert said == "Follow-up: 20% right after single turns, 80% after conversations"
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["first question", "follow-up"]


# --- thinking models ---


def test_thinking_says_how_reward_and_length_moved():
    rows = [
        {"seed": seed, "step": step, "reward": 0.1 * step + 0.1 * seed, "tokens": 10.0 + step}
        for seed in (0, 1)
        for step in (1, 2, 3)
    ]
    said = title(plot_thinking(pd.DataFrame(rows)))
    assert said == (
        "With the reward (0.15 to 0.25), the answers grow from 11 to 12 tokens, though nobody pays "
        "for length"
    )


def test_a_budget_names_both_ends():
    rows = [
        {"budget": budget, "value": value, "low": value, "high": value, "cut": 1 - value}
        for budget, value in ((0, 0.0), (16, 0.25), (48, 1.0))
    ]
    said = title(plot_budget(pd.DataFrame(rows)))
    assert said == ("Forced to answer after 0 tokens, 0% of the sums are right; after 48, 100%")


# --- pairs from the policy itself ---


def test_likelihoods_name_the_family_whose_chosen_replies_differ_most():
    medians = {"arithmetic": (-math.log(40), -math.log(4)), "facts": (-0.1, -0.1)}
    rows = [
        {"family": family, "source": source, "side": side, "logp": logp + shift}
        for family, logps in medians.items()
        for source, logp in zip(("offline", "on-policy"), logps, strict=True)
        for side in ("chosen", "rejected")
        for shift in (-1.0, 0.0, 1.0)
    ]
    figure = plot_likelihoods(pd.DataFrame(rows))
    assert title(figure) == (
        "Arithmetic: the policy would give the median chosen reply of the offline pairs once in "
        "40 samples, its own once in 4"
    )
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["arithmetic (3)", "facts (3)"]  # pairs, not replies


def test_sources_have_a_panel_per_metric_and_a_row_per_arm():
    rows = [
        {"metric": metric, "arm": arm, "seeds": [0.4, 0.6], "mean": 0.5, "low": 0.2, "high": 0.8,
         "start": 0.3}
        for metric in ("sums", "facts", "safety")
        for arm in ("offline", "iterative")
    ]  # fmt: skip
    figure = plot_sources(pd.DataFrame(rows), "A finding")
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in panels] == ["sums", "facts", "safety"]
    labels = [text.get_text() for text in panels[0].get_yticklabels()]
    assert labels == ["offline", "iterative"]
    assert [text.get_text() for text in panels[0].texts] == ["50%", "50%"]
