"""Dynamic sampling inside TRL's own GRPOTrainer, on the shipped SFT stage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from postlab.course.week08 import dynamic_sampling
from postlab.course.week08.resampling import teaches
from postlab.datasets import math_rows
from postlab.lab import Lab
from postlab.models import load_policy, trainable
from postlab.profile import get_profile
from postlab.rewards import math_reward

SETTINGS = {
    "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none",
    "disable_tqdm": True, "per_device_train_batch_size": 16, "num_generations": 4,
    "max_completion_length": 24, "learning_rate": 1e-3, "logging_steps": 1, "save_steps": 2,
    "max_steps": 4, "seed": 3, "scale_rewards": "none",
}  # fmt: skip
ROWS = math_rows("tinyworld", split="train", n=40, seed=0)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("POSTLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    return tmp_path


def trainer_of(place: Path, reward, folder: str = "out", *, tries: int = 3, **settings):
    policy, tokenizer = load_policy(
        Lab(get_profile("tiny"), 0).checkpoint("sft"), profile="tiny", bits=32
    )
    sample, given = dynamic_sampling(ROWS, reward, tries=tries)
    trainer = GRPOTrainer(
        model=trainable(policy),
        processing_class=tokenizer,
        reward_funcs=given,
        rollout_func=sample,
        train_dataset=Dataset.from_list(ROWS).select_columns(["prompt", "answer"]),
        args=GRPOConfig(output_dir=str(place / folder), **SETTINGS | settings),
    )
    return trainer, sample


def batch_of(trainer: GRPOTrainer) -> list:
    return [row["prompt"] for row in ROWS[:4] for _ in range(4)]


def groups(values: list) -> list[list]:
    return [values[at : at + 4] for at in range(0, len(values), 4)]


def test_silent_groups_are_replaced_by_other_prompts_with_their_own_gold(place):
    trainer, sample = trainer_of(place, math_reward, tries=8)
    trainer.model.train()
    out = sample(batch_of(trainer), trainer)
    tokenizer, gold = trainer.processing_class, {}
    for row in ROWS:
        ids = trainer._tokenize_prompts([row["prompt"]])[0][0]
        gold[tuple(ids)] = row["answer"]
    asked = [gold[tuple(ids)] for ids in out["prompt_ids"]]
    texts = tokenizer.batch_decode(out["completion_ids"], skip_special_tokens=True)
    assert out["known_reward"] == math_reward(texts, answer=asked)
    assert all(len(set(group)) == 1 for group in groups(asked))  # a group has one prompt
    assert sum(len(set(group)) > 1 for group in groups(out["known_reward"])) >= 3
    assert sample.sampled[0] > 16 and sample.sampled[0] % 4 == 0


def test_groups_that_teach_stay_and_nothing_is_drawn_for_them(place):
    luck = iter(range(10_000))
    trainer, sample = trainer_of(place, lambda completions, **_: [next(luck) for _ in completions])
    trainer.model.train()
    out = sample(batch_of(trainer), trainer)
    assert sample.sampled == [16] and out["known_reward"] == list(range(16))
    assert out["prompt_ids"] == trainer._tokenize_prompts(batch_of(trainer))[0]


def test_after_the_last_try_a_silent_group_is_kept(place):
    trainer, sample = trainer_of(place, lambda completions, **_: [1.0] * len(completions))
    trainer.model.train()
    out = sample(batch_of(trainer), trainer)
    assert sample.sampled == [16 * 4] and len(out["completion_ids"]) == 16
    assert out["prompt_ids"] == trainer._tokenize_prompts(batch_of(trainer))[0]


def test_an_evaluation_is_not_changed(place):
    trainer, sample = trainer_of(place, lambda completions, **_: [1.0] * len(completions))
    trainer.model.eval()
    trainer.num_generations_eval = 2
    sample(batch_of(trainer)[::2], trainer)
    assert sample.sampled == [8]


def test_trls_log_shows_the_rewards_of_what_was_kept(place):
    kept = []
    trainer, sample = trainer_of(place, math_reward)

    def noting(prompts, trainer):
        kept.append(sample(prompts, trainer))
        return kept[-1]

    trainer.rollout_func = noting
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(logged) == len(kept) == 4
    for entry, out in zip(logged, kept, strict=True):
        assert entry["reward"] == pytest.approx(sum(out["known_reward"]) / 16)
        silent = sum(len(set(group)) == 1 for group in groups(out["known_reward"])) / 4
        assert entry["frac_reward_zero_std"] == pytest.approx(silent)


def test_a_killed_training_goes_on_with_the_same_prompts_and_completions(place):
    whole, _ = trainer_of(place, math_reward, "whole")
    whole.train()
    shutil.copytree(place / "whole" / "checkpoint-2", place / "killed" / "checkpoint-2")
    torch.rand(7)  # other luck, which the checkpoint's has to replace
    resumed, _ = trainer_of(place, math_reward, "killed")
    resumed.train(resume_from_checkpoint=str(place / "killed" / "checkpoint-2"))
    weights = dict(resumed.model.named_parameters())
    for name, parameter in whole.model.named_parameters():
        assert torch.equal(parameter, weights[name]), name


def test_where_trl_samples_there_are_no_log_probs(place):
    trainer, sample = trainer_of(place, math_reward, top_k=5)
    trainer.model.train()
    assert sample(batch_of(trainer), trainer)["logprobs"] is None


@pytest.mark.parametrize(
    ("given", "taught"),
    [
        ([0, 0], False),
        ([0, 1], True),
        ([None, 1], False),
        ([None, None], False),
        ([0, None, 1], True),
    ],
)
def test_a_group_teaches_if_two_rewards_differ(given, taught):
    assert teaches([{"known_reward": one} for one in given]) is taught


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="tries is 0"):
        dynamic_sampling(ROWS, math_reward, tries=0)
    twice = [ROWS[0], ROWS[0] | {"answer": "-1"}]
    with pytest.raises(ValueError, match="differ elsewhere"):
        dynamic_sampling(twice, math_reward)
