"""`without_padding`: the same numbers from fewer positions."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from postlab import datasets
from postlab.lab import Lab
from postlab.models import load_policy, trainable
from postlab.profile import get_profile
from postlab.runs import Run, without_padding
from postlab.runs.packing import ROW, is_packed, lay_out
from postlab.sampling import decoding

SMALL = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0,
    "max_position_embeddings": 256,
}  # fmt: skip
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": None}),
    "mistral, window": (MistralForCausalLM, MistralConfig, {"sliding_window": 8}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {}),
}
LENGTHS = [3, 40, 9, 1, 17, 40, 5, 12]


def small(kind: str, attention: str = "sdpa") -> torch.nn.Module:
    cls, config, extra = MODELS[kind]
    torch.manual_seed(1)
    model = cls(config(**SMALL | extra))
    model.set_attn_implementation(attention)
    return model.train()


def batch(side: str = "right", lengths: list[int] = LENGTHS) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    ids = torch.randint(1, 64, (len(lengths), max(lengths)))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    mask = mask if side == "right" else mask.flip(1)
    return {"input_ids": ids * mask, "attention_mask": mask}


class Positions:
    """Counts the positions that go through a model's layers."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.seen: list[int] = []
        layer = next(module for name, module in model.named_modules() if name.endswith("layers.0"))
        layer.register_forward_hook(self.note, with_kwargs=True)

    def note(self, module, args, kwargs, output) -> None:
        states = args[0] if args else kwargs["hidden_states"]
        self.seen.append(states.shape[0] * states.shape[1])


def loss_of(model, inputs) -> torch.Tensor:
    logits = model(**inputs, use_cache=False).logits[:, :-1]
    both = inputs["attention_mask"][:, 1:] * inputs["attention_mask"][:, :-1]
    logps = logits.log_softmax(-1).gather(2, inputs["input_ids"][:, 1:, None])[..., 0]
    return -(logps * both).sum() / both.sum()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", MODELS)
def test_loss_and_gradients_are_those_of_the_padded_batch(kind, attention, side):
    model, inputs = small(kind, attention), batch(side)
    plain = loss_of(model, inputs)
    plain.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    count = Positions(model)
    with without_padding(model):
        packed = loss_of(model, inputs)
        packed.backward()
    assert count.seen == [127]  # in one row, as all of them are shorter together than ROW
    assert packed.item() == pytest.approx(plain.item(), rel=1e-6)
    for name, p in model.named_parameters():
        assert torch.allclose(p.grad, expected[name], atol=1e-6), name


def test_every_token_has_one_place_and_its_own_position():
    luck = random.Random(0)
    tried = 0
    for _ in range(200):
        lengths = [luck.randint(1, luck.choice([4, 30, 200])) for _ in range(luck.randint(1, 12))]
        mask = batch(luck.choice(["left", "right"]), lengths)["attention_mask"]
        laid = lay_out(mask)
        if laid is None:
            continue
        tried += 1
        take, positions, back = laid
        real = mask.flatten().nonzero()[:, 0]
        places = back.flatten()[real]
        assert len(set(places.tolist())) == len(real)
        assert torch.equal(take.flatten()[places], real)
        expected = (mask.cumsum(1) - 1).flatten()[real]
        assert torch.equal(positions.flatten()[places], expected)
        empty = torch.ones(take.numel(), dtype=torch.bool)
        empty[places] = False
        assert not positions.flatten()[empty].any()  # each a text of its own
        assert take.shape[1] <= max(ROW, *lengths) and take.numel() <= 0.9 * mask.numel()
    assert tried > 50


@pytest.mark.parametrize(
    "mask",
    [torch.ones(4, 9), torch.tensor([[1] * 9, [0] * 9, [1] + [0] * 8])],
    ids=["nothing to save", "a text without a token"],
)
def test_some_batches_stay_as_they_are(mask):
    assert lay_out(mask) is None


def test_sampling_and_what_asks_for_more_are_left_alone():
    model, inputs = small("llama").eval(), batch("left")
    expected = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    count = Positions(model)
    mask4 = torch.zeros(8, 1, 40, 40)
    with without_padding(model):
        assert torch.equal(model.generate(**inputs, max_new_tokens=5, do_sample=False), expected)
        states = model(**inputs, use_cache=False, output_hidden_states=True).hidden_states
        assert states[0].shape == (8, 40, 32)
        assert model(**inputs, use_cache=False, position_ids=torch.arange(40)[None]).logits.dim()
        model(input_ids=inputs["input_ids"], attention_mask=mask4, use_cache=False)
        model(input_ids=inputs["input_ids"], use_cache=False)
    assert [n for n in count.seen if n != 8] == [320] * 5  # 8: a token of each answer


def test_other_models_are_left_alone():
    keys = {k: v for k, v in SMALL.items() if k != "head_dim"}
    model = Phi3ForCausalLM(Phi3Config(**keys, eos_token_id=1, bos_token_id=1))
    count = Positions(model)
    with without_padding(model):
        loss_of(model, batch())
    assert count.seen == [320]


def test_the_models_own_forward_comes_back_after_an_error_too():
    model = small("llama")
    with pytest.raises(KeyError), without_padding(model):
        assert "forward" in vars(model.model)
        raise KeyError
    assert "forward" not in vars(model.model)

    def own(*args, **kwargs):
        return type(model.model).forward(model.model, *args, **kwargs)

    model.model.forward = own
    with without_padding(model):
        assert model.model.forward is not own
    assert model.model.forward is own


# In TRL's trainers, on the shipped SFT stage.


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("POSTLAB_RUNS", str(tmp_path / "runs"))
    return tmp_path


def policy():
    model, tokenizer = load_policy(
        Lab(get_profile("tiny"), 0).checkpoint("sft"), profile="tiny", bits=32
    )
    return trainable(model), tokenizer


def trainer_of(stage: str, output: Path):
    profile = get_profile("tiny")
    model, tokenizer = policy()
    load, cls, config, columns = {
        "sft": (datasets.instruction_rows, SFTTrainer, SFTConfig, ["prompt", "completion"]),
        "dpo": (datasets.preference_rows, DPOTrainer, DPOConfig, ["prompt", "chosen", "rejected"]),
    }[stage]
    settings = dict(getattr(profile, stage).trainer) | {"max_steps": 4, "logging_steps": 1}
    return cls(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(load("tinyworld", split="train", n=64)).select_columns(
            columns
        ),
        args=config(output_dir=str(output), seed=0, **settings),
    )


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_a_run_trains_without_padding_and_logs_what_trl_logs(runs, stage):
    plain = trainer_of(stage, runs / "plain")
    usual = Positions(plain.model)
    plain.train()
    run = Run("tiny", 0, stage)
    ours = trainer_of(stage, run.checkpoints)
    fewer = Positions(ours.model)
    with without_padding(ours.model):
        run.train(ours)
    assert run.manifest["model"]["without_padding"] and not is_packed(ours.model)
    assert sum(fewer.seen) < 0.75 * sum(usual.seen) and len(fewer.seen) == len(usual.seen)
    timed = ("runtime", "per_second", "total_flos")
    for mine, theirs in zip(ours.state.log_history, plain.state.log_history, strict=True):
        for name, value in theirs.items():
            if not any(word in name for word in timed):
                assert mine[name] == pytest.approx(value, rel=2e-4, abs=2e-4), name


def test_the_engine_reads_a_policy_in_training():
    model, _ = policy()
    with without_padding(model):
        assert decoding.read(model, 64) is not None
