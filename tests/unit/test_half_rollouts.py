"""Completions from float16 weights in TRL's own GRPOTrainer, and the weights that correct them."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer

from postlab import decoding
from postlab.datasets import math_rows
from postlab.half_rollouts import half_rollout_func, halved, truncated_importance_sampling
from postlab.lab import Lab
from postlab.models import load_policy, trainable
from postlab.profile import get_profile
from postlab.rollout_trl import rollout_func

SETTINGS = {
    "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none",
    "disable_tqdm": True, "per_device_train_batch_size": 16, "num_generations": 8,
    "max_completion_length": 24, "learning_rate": 1e-3, "logging_steps": 1,
    "save_strategy": "no", "max_steps": 2, "seed": 3, "temperature": 0.8,
}  # fmt: skip
LARGE = dict(
    vocab_size=96, hidden_size=512, intermediate_size=768, num_hidden_layers=2,
    num_attention_heads=8, num_key_value_heads=2, max_position_embeddings=128,
)  # fmt: skip


def brief_reward(completions, **columns) -> list[float]:
    return [-float(len(one[0]["content"])) for one in completions]  # few groups are silent


def grpo(tmp_path, monkeypatch, rolls, **settings) -> GRPOTrainer:
    monkeypatch.setenv("POSTLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    place = Lab(get_profile("tiny"), 0).checkpoint("sft")
    policy, tokenizer = load_policy(place, profile="tiny", bits=32)
    return GRPOTrainer(
        model=trainable(policy),
        processing_class=tokenizer,
        reward_funcs=[brief_reward],
        train_dataset=Dataset.from_list(math_rows("tinyworld", split="train", n=40, seed=0)),
        args=GRPOConfig(output_dir=str(tmp_path / "out"), **SETTINGS | settings),
        rollout_func=rolls,
    )


def shifted(ratio: float):
    """A sampler that says each token was `ratio` times less likely than it was for the policy."""

    def rolls(prompts, trainer):
        out = rollout_func(prompts, trainer)
        gap = torch.tensor(ratio).log().item()
        out["logprobs"] = [[logp - gap for logp in logps] for logps in out["logprobs"]]
        return out

    return rolls


def batch_of(trainer: GRPOTrainer) -> dict:
    torch.manual_seed(0)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    rows = [trainer.train_dataset[i] for i in range(2) for _ in range(8)]
    return trainer._generate_and_score_completions(rows)


def loss_and_gradient(trainer: GRPOTrainer, inputs: dict) -> tuple[float, torch.Tensor]:
    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    grads = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]
    return loss.item(), torch.cat(grads)


@pytest.mark.parametrize(("ratio", "weight"), [(1.5, 1.5), (0.5, 0.5), (5.0, 2.0)])
def test_the_weight_is_the_ratio_up_to_the_cap(tmp_path, monkeypatch, ratio, weight):
    trainer = grpo(tmp_path, monkeypatch, shifted(ratio))
    inputs = batch_of(trainer)
    plain, gradient = loss_and_gradient(trainer, inputs)
    truncated_importance_sampling(trainer)
    weighed, own = loss_and_gradient(trainer, inputs)
    assert gradient.abs().max() > 1e-4
    assert own == pytest.approx(weight * gradient, abs=1e-4 * gradient.abs().max().item())
    assert weighed == pytest.approx(weight * plain, abs=1e-5)
    again, _ = loss_and_gradient(trainer, inputs)  # the weights do not pile up
    assert again == pytest.approx(weighed, abs=1e-6)
    noted = trainer._metrics["train"]["sampling/importance_sampling_ratio/mean"]
    assert noted == pytest.approx([weight, weight], abs=1e-3)


def test_the_loss_is_that_of_trls_correction_for_vllm(tmp_path, monkeypatch):
    trainer = grpo(tmp_path, monkeypatch, rollout_func)
    inputs = batch_of(trainer)
    torch.manual_seed(1)
    inputs["sampling_per_token_logps"] += torch.randn_like(inputs["sampling_per_token_logps"])
    length = inputs["completion_ids"].shape[1]
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    with torch.no_grad():
        logps = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, length)[0]
    ratio = (logps - inputs["sampling_per_token_logps"]).exp().clamp(max=2.0)
    trainer.use_vllm = True
    expected = loss_and_gradient(trainer, inputs | {"importance_sampling_ratio": ratio})
    trainer.use_vllm = False
    truncated_importance_sampling(trainer, cap=2.0)
    loss, gradient = loss_and_gradient(trainer, inputs)
    assert loss == pytest.approx(expected[0], abs=1e-6)
    assert gradient == pytest.approx(expected[1], abs=1e-5 * expected[1].abs().max().item())
    assert (ratio == 2).any() and (ratio < 1).any()


def test_the_policys_own_draws_have_weight_one(tmp_path, monkeypatch):
    trainer = grpo(tmp_path, monkeypatch, half_rollout_func)
    truncated_importance_sampling(trainer)
    trainer.train()
    means = [
        entry["sampling/importance_sampling_ratio/mean"]
        for entry in trainer.state.log_history
        if "reward" in entry
    ]
    assert means == pytest.approx([1.0, 1.0], abs=1e-4)  # tiny's matrices are too small to halve


def test_without_the_correction_it_refuses(tmp_path, monkeypatch):
    trainer = grpo(tmp_path, monkeypatch, half_rollout_func)
    with pytest.raises(ValueError, match=r"truncated_importance_sampling\(trainer\) before train"):
        half_rollout_func([row["prompt"] for row in trainer.train_dataset][:2], trainer)


def test_what_the_engine_cannot_do_is_trls_and_is_not_weighed(tmp_path, monkeypatch):
    trainer = grpo(tmp_path, monkeypatch, half_rollout_func, top_k=5)
    truncated_importance_sampling(trainer)
    inputs = batch_of(trainer)
    assert "sampling_per_token_logps" not in inputs
    assert torch.isfinite(trainer._compute_loss(trainer.model, inputs))
    assert not trainer._metrics["train"]["sampling/importance_sampling_ratio/mean"]


def test_a_cap_below_one_is_refused(tmp_path, monkeypatch):
    trainer = grpo(tmp_path, monkeypatch, rollout_func)
    with pytest.raises(ValueError, match=r"cap is 0\.5; expected 1 or more"):
        truncated_importance_sampling(trainer, cap=0.5)


@pytest.mark.skipif(
    "fbgemm" not in torch.backends.quantized.supported_engines, reason="torch without FBGEMM"
)
@pytest.mark.parametrize(
    ("kind", "config"), [(LlamaForCausalLM, LlamaConfig), (Qwen2ForCausalLM, Qwen2Config)]
)
def test_halved_weights_answer_nearly_as_the_policy(kind, config):
    torch.manual_seed(0)
    model = kind(config(**LARGE)).eval()
    for name, part in model.named_parameters():  # a new Qwen2's biases are zero
        if name.endswith("bias"):
            torch.nn.init.normal_(part, std=0.5)
    prompts = [[5, 7, 9, 11], [4, 6]] * 4
    engine = decoding.read(model, 40)

    def drawn(decoder):
        return decoder.decode(
            prompts,
            new_tokens=16,
            stops=set(),
            draw=lambda logits, rows: logits.argmax(-1),
            temperature=1.0,
        )

    exact, close = drawn(engine), drawn(halved(engine))
    pairs = [
        (a, b)
        for ids, others, left, right in zip(exact[0], close[0], exact[1], close[1], strict=True)
        for same, other, a, b in zip(ids, others, left, right, strict=True)
        if ids == others
    ]
    gap = torch.tensor([a - b for a, b in pairs]).abs()
    assert len(pairs) >= 16 and 0 < gap.max() < 0.02  # halved, and nearly the same
