"""`rollout_func` in GRPOTrainer and the engine in DistillationTrainer, on the shipped SFT stage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from scipy import stats
from trl import DistillationConfig, DistillationTrainer, GRPOConfig, GRPOTrainer

from postlab.datasets import math_rows
from postlab.lab import Lab
from postlab.models import load_policy, trainable
from postlab.profile import get_profile
from postlab.rewards import math_reward
from postlab.sampling import draw, rollout_func, sample_with_engine

SETTINGS = {
    "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none",
    "disable_tqdm": True, "per_device_train_batch_size": 16, "num_generations": 8,
    "max_completion_length": 24, "learning_rate": 1e-3, "logging_steps": 1, "save_steps": 2,
    "max_steps": 4, "seed": 3, "temperature": 0.8,
}  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("POSTLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    return tmp_path


def grpo(place: Path, folder: str = "out", **settings) -> GRPOTrainer:
    lab = Lab(get_profile("tiny"), 0)
    policy, tokenizer = load_policy(lab.checkpoint("sft"), profile="tiny", bits=32)
    return GRPOTrainer(
        model=trainable(policy),
        processing_class=tokenizer,
        reward_funcs=[math_reward],
        train_dataset=Dataset.from_list(math_rows("tinyworld", split="train", n=40, seed=0)),
        args=GRPOConfig(output_dir=str(place / folder), **SETTINGS | settings),
        rollout_func=rollout_func,
    )


def prompts(trainer: GRPOTrainer) -> list:
    return [row["prompt"] for row in trainer.train_dataset for _ in range(2)][:16]


def refuse(*args, **kwargs):
    raise AssertionError("generate was called")


def test_completions_end_as_trls_do_and_carry_the_policys_log_probs(place, monkeypatch):
    trainer = grpo(place)
    monkeypatch.setattr(type(trainer.model.get_base_model()), "generate", refuse)
    out = rollout_func(prompts(trainer), trainer)
    ends = set(trainer.eos_token_ids)
    assert {len(ids) for ids in out["completion_ids"]} != {24}
    for asked, answer, logps in zip(*map(out.get, out), strict=True):
        assert 0 < len(answer) <= 24 and not ends & set(answer[:-1])
        assert len(answer) == 24 or answer[-1] in ends
        with torch.no_grad():
            logits = trainer.model(torch.tensor([asked + answer])).logits[0, len(asked) - 1 : -1]
        own = (logits / 0.8).log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]
        assert logps == pytest.approx(own.tolist(), abs=1e-4)
    expected, _, _ = trainer._tokenize_prompts(prompts(trainer))
    assert out["prompt_ids"] == expected


def losses(trainer: GRPOTrainer) -> list[tuple]:
    keys = ("step", "loss", "reward", "completions/mean_length")
    return [tuple(e[k] for k in keys) for e in trainer.state.log_history if "reward" in e]


def test_a_killed_training_goes_on_with_the_same_completions(place):
    whole = grpo(place, "whole")
    whole.train()
    shutil.copytree(place / "whole" / "checkpoint-2", place / "killed" / "checkpoint-2")
    torch.rand(7)  # other luck, which the checkpoint's has to replace
    resumed = grpo(place, "killed")
    resumed.train(resume_from_checkpoint=str(place / "killed" / "checkpoint-2"))
    assert len(losses(whole)) == 4 and losses(resumed)[-2:] == losses(whole)[-2:]
    weights = dict(resumed.model.named_parameters())
    for name, parameter in whole.model.named_parameters():
        assert torch.equal(parameter, weights[name]), name


@pytest.mark.parametrize(
    "settings",
    [{"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.1}, {"repetition_penalty": 1.1},
     {"generation_kwargs": {"min_new_tokens": 24}}],
    ids=lambda settings: next(iter(settings)),
)  # fmt: skip
def test_what_the_engine_cannot_do_is_left_to_trl(place, settings):
    trainer = grpo(place, **settings)
    out = rollout_func(prompts(trainer), trainer)
    assert out["logprobs"] is None and len(out["completion_ids"]) == 16
    if "generation_kwargs" in settings:
        assert {len(ids) for ids in out["completion_ids"]} == {24}


def test_an_unreadable_policy_is_left_to_trl(place):
    trainer = grpo(place)
    trainer.model.get_base_model().model.register_forward_hook(lambda module, args, out: out)
    assert rollout_func(prompts(trainer), trainer)["logprobs"] is None


def test_draws_follow_the_softmax_at_the_temperature():
    torch.manual_seed(0)
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -30.0])
    found = torch.bincount(draw(logits.repeat(20_000, 1), 0.7), minlength=5)
    due = 20_000 * (logits.double() / 0.7).softmax(-1)
    assert (
        found[4] == 0 and stats.chisquare(found[:4], due[:4] * 20_000 / due[:4].sum()).pvalue > 0.01
    )
    warmer = 20_000 * (logits.double() / 0.8).softmax(-1)
    wrong = stats.chisquare(found[:4], warmer[:4] * 20_000 / warmer[:4].sum()).pvalue
    assert wrong < 1e-6


def test_distillation_samples_with_the_engine_and_learns(place, monkeypatch):
    lab = Lab(get_profile("tiny"), 0)
    student, tokenizer = load_policy(lab.checkpoint("sft"), profile="tiny", bits=32)
    teacher, _ = load_policy(lab.checkpoint("grpo"), profile="tiny", bits=32)
    kept = {k: v for k, v in SETTINGS.items() if k not in ("num_generations", "save_steps")}
    trainer = DistillationTrainer(
        model=trainable(student),
        teacher_model=teacher,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(math_rows("tinyworld", split="train", n=40, seed=0)),
        args=DistillationConfig(output_dir=str(place / "out"), **kept | {"max_steps": 3}),
    )
    assert sample_with_engine(trainer) is trainer
    monkeypatch.setattr(type(trainer.model.get_base_model()), "generate", refuse)
    before = [p.detach().clone() for p in trainer.model.parameters() if p.requires_grad]
    trainer.train()
    after = [p for p in trainer.model.parameters() if p.requires_grad]
    assert any((a - b).abs().max() > 1e-4 for a, b in zip(after, before, strict=True))
    lengths = [e["completions/mean_length"] for e in trainer.state.log_history if "loss" in e]
    assert len(lengths) == 3 and all(0 < length <= 24 for length in lengths)
