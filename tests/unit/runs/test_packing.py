"""`without_padding`: the same numbers from fewer positions."""

from __future__ import annotations

import random
import time
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
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
from transformers.integrations.neftune import activate_neftune
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from postlab import datasets
from postlab.lab import Lab
from postlab.models import load_policy, trainable
from postlab.profile import get_profile
from postlab.rewards import math_reward
from postlab.runs import Run, without_padding
from postlab.runs.packing import ROW, is_packed, lay_out
from postlab.sampling import decoding, rollout_func

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
        self.trained: list[int] = []  # those whose gradients are kept
        layer = next(module for name, module in model.named_modules() if name.endswith("layers.0"))
        layer.register_forward_hook(self.note, with_kwargs=True)

    def note(self, module, args, kwargs, output) -> None:
        states = args[0] if args else kwargs["hidden_states"]
        self.seen.append(states.shape[0] * states.shape[1])
        if torch.is_grad_enabled():
            self.trained.append(self.seen[-1])


def loss_of(model, inputs) -> torch.Tensor:
    logits = model(**inputs, use_cache=False).logits[:, :-1]
    both = inputs["attention_mask"][:, 1:] * inputs["attention_mask"][:, :-1]
    logps = logits.log_softmax(-1).gather(2, inputs["input_ids"][:, 1:, None])[..., 0]
    return -(logps * both).sum() / both.sum()


def positions_of_equal_training(model, inputs) -> list[int]:
    """The positions that packing leaves, once loss and gradients are found to be the plain ones."""
    plain = loss_of(model, inputs)
    plain.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    count = Positions(model)
    with without_padding(model):
        packed = loss_of(model, inputs)
        packed.backward()
    assert packed.item() == pytest.approx(plain.item(), rel=1e-6)
    for name, p in model.named_parameters():
        assert torch.allclose(p.grad, expected[name], atol=1e-6), name
    return count.seen


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", MODELS)
def test_loss_and_gradients_are_those_of_the_padded_batch(kind, attention, side):
    seen = positions_of_equal_training(small(kind, attention), batch(side))
    assert seen == [127]  # in one row, as all of them are shorter together than ROW


def branching(side: str) -> dict[str, torch.Tensor]:
    """Four texts with 20 tokens in common, and four with 15, of which two are equal."""
    inputs = batch("right", [40, 30, 25, 33, 20, 40, 40, 21])
    ids = inputs["input_ids"]
    ids[1:4, :20], ids[5:8, :15], ids[6] = ids[0, :20], ids[4, :15], ids[5]
    if side == "left":
        turned = [
            row.roll(40 - int(n))
            for row, n in zip(ids, inputs["attention_mask"].sum(1), strict=True)
        ]
        return {
            "input_ids": torch.stack(turned),
            "attention_mask": inputs["attention_mask"].flip(1),
        }
    return inputs


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_shared_beginning_is_computed_once_with_the_same_gradients(kind, attention, side):
    seen = positions_of_equal_training(small(kind, attention), branching(side))
    # 20 + 20 + 10 + 5 + 13 and 20 + 25 + 0 + 6; 249 tokens with repetitions
    assert seen == ([320] if "window" in kind else [119])


def test_the_layout_does_not_depend_on_the_order_of_the_texts():
    model, inputs = small("llama").eval(), branching("right")
    order = torch.tensor([6, 3, 0, 7, 5, 1, 4, 2])
    with torch.no_grad(), without_padding(model):
        count = Positions(model)
        usual = model(**inputs, use_cache=False).logits
        other = model(**{k: v[order] for k, v in inputs.items()}, use_cache=False).logits
    real = inputs["attention_mask"][order].bool()
    torch.testing.assert_close(other[real], usual[order][real])
    assert count.seen == [119, 119]


def texts_of(luck: random.Random) -> list[list[int]]:
    """Random texts, many of which begin like another one, or are the beginning of another one."""
    texts: list[list[int]] = []
    for _ in range(luck.randint(1, 12)):
        old = luck.choice(texts) if texts and luck.random() < 0.7 else []
        new = [luck.randint(1, 3) for _ in range(luck.choice([0, 1, 5, 60]))]
        texts.append((old[: luck.randint(0, len(old))] + new) or [1])
    return texts


@pytest.mark.parametrize("sharing", [False, True])
def test_every_token_sees_its_own_text_up_to_itself_and_nothing_else(sharing):
    luck = random.Random(0)
    tried = branched = 0
    for _ in range(300):
        texts = texts_of(luck)
        lengths = [len(text) for text in texts]
        side = luck.choice(["left", "right"])
        mask = batch(side, lengths)["attention_mask"]
        ids = torch.zeros_like(mask)
        ids[mask.bool()] = torch.tensor([token for text in texts for token in text])
        laid = lay_out(mask, ids if sharing else None)
        if laid is None:
            continue
        tried += 1
        branched += laid.sees is not None
        height, width = laid.take.shape
        assert width <= max(ROW, *lengths) and height * width <= 0.9 * mask.numel()
        laid_ids, positions = ids.flatten()[laid.take].flatten(), laid.positions.flatten()
        places = [row[at.bool()] for row, at in zip(laid.back, mask, strict=True)]
        for text, path in zip(texts, places, strict=True):
            assert laid_ids[path].tolist() == text
            assert positions[path].tolist() == list(range(len(text)))
            assert len(set(path.tolist())) == len(text)
            row = int(path[0]) // width
            assert (path // width == row).all()
            if laid.sees is not None:
                seen = laid.sees[row][path % width]
                for i in range(len(path)):
                    assert seen[i].nonzero()[:, 0].tolist() == sorted(
                        (path[: i + 1] % width).tolist()
                    )
        used = torch.zeros(height * width, dtype=torch.bool)
        used[torch.cat(places)] = True
        assert not positions[~used].any()  # each a text of its own
        if not sharing:
            assert laid.sees is None and int(used.sum()) == sum(lengths)
        elif laid.sees is not None:
            assert int(used.sum()) < sum(lengths)
    assert tried > 50 and (branched > 30) == sharing


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


def padded_by(inputs: dict[str, torch.Tensor], left: int, right: int) -> dict[str, torch.Tensor]:
    return {k: torch.nn.functional.pad(v, (left, right)) for k, v in inputs.items()}


def test_a_mask_with_a_hole_stays_as_it_is():
    inputs = batch()
    inputs["attention_mask"][1, 20:22] = 0  # the positions after a hole go on counting
    model = small("llama")
    count = Positions(model)
    with torch.no_grad():
        plain = loss_of(model, inputs)
        with without_padding(model):
            assert torch.equal(loss_of(model, inputs), plain)
    assert count.seen == [320, 320]


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_rotations_by_a_batchs_length_stay_as_they_are(kind):
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    rope = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0}
    rope |= {"original_max_position_embeddings": 42} | factors if kind == "longrope" else {}
    keys = SMALL | {"max_position_embeddings": 42, "rope_parameters": rope}
    model, inputs = LlamaForCausalLM(LlamaConfig(**keys)), padded_by(batch(), 0, 10)
    with torch.no_grad():
        with without_padding(model):
            packed = loss_of(model, inputs)
        assert torch.equal(packed, loss_of(model, inputs))


def test_noisy_embeddings_keep_their_noise():
    model, inputs = small("llama"), branching("right")
    activate_neftune(model, 5.0)  # its size depends on the shape of a batch
    losses = []
    for way in (nullcontext, without_padding):
        torch.manual_seed(0)
        with torch.no_grad(), way(model):
            losses.append(loss_of(model, inputs).item())
    assert losses[0] == losses[1]


@pytest.mark.parametrize("where", ["adapter", "attention"])
def test_dropout_differs_between_texts_with_the_same_beginning(where):
    model = small("llama")
    if where == "attention":
        model.config.attention_dropout = 0.1
        for layer in model.model.layers:
            layer.self_attn.attention_dropout = 0.1
    else:
        model = get_peft_model(model, LoraConfig(r=2, lora_dropout=0.1, init_lora_weights=False))
    ids = torch.randint(1, 64, (2, 30)).repeat(4, 1)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    inputs = padded_by(inputs, 10, 0)
    with torch.no_grad(), without_padding(model):
        logits = model(**inputs, use_cache=False).logits
        assert not torch.allclose(logits[0], logits[2], atol=1e-4)
        model.eval()
        logits = model(**inputs, use_cache=False).logits
        assert torch.equal(logits[0], logits[2])


def test_states_and_directions_that_the_config_asks_for():
    model, inputs = small("llama"), branching("right")
    model.config.output_hidden_states = True
    with torch.no_grad(), without_padding(model):
        assert model(**inputs, use_cache=False).hidden_states[0].shape == (8, 40, 32)
    model = small("llama")
    model.config.is_causal = False  # each token sees the whole text
    with torch.no_grad():
        plain = loss_of(model, inputs)
        with without_padding(model):
            assert torch.equal(loss_of(model, inputs), plain)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_positions_do_not_depend_on_the_rest_of_the_batch(side):
    """GRPO divides their probabilities, under a mask: an infinite ratio times zero is no number."""
    model, inputs = small("llama").eval(), branching(side)
    with torch.no_grad(), without_padding(model):
        usual = model(**inputs, use_cache=False).logits
        part = {k: v[2:6] for k, v in inputs.items()}
        torch.testing.assert_close(model(**part, use_cache=False).logits, usual[2:6])
    at = 0 if side == "left" else -1
    last = -1 if side == "left" else int(inputs["attention_mask"][2].sum()) - 1
    assert torch.equal(usual[2, at], usual[2, last])


def test_a_copy_of_the_model_has_its_own_weights():
    model, inputs = small("llama").eval(), branching("right")
    with torch.no_grad(), without_padding(model):
        expected = loss_of(model, inputs)
        copy = deepcopy(model)  # such as a reference, or an average of the weights
        for p in model.parameters():
            p.mul_(2)
        assert torch.equal(loss_of(copy, inputs), expected)
        assert not torch.equal(loss_of(model, inputs), expected)


def test_long_texts_are_laid_out_in_less_time_than_a_square_of_their_length_takes():
    began = time.process_time()
    for _ in range(64):
        torch.ones(2000, 2000).tril().bool()
    squares = time.process_time() - began
    mask = batch(lengths=[2000 - 30 * i for i in range(64)])["attention_mask"]
    began = time.process_time()
    alone = lay_out(mask, torch.arange(mask.numel()).view(mask.shape))
    same = lay_out(torch.ones(64, 2000), torch.ones(64, 2000).long())
    assert time.process_time() - began < squares
    assert alone is not None and alone.sees is None
    assert same is not None and same.take.shape == (1, 2000)


@pytest.mark.parametrize("how", ["inside", "merged", "transformers' own"])
def test_adapters_without_a_wrapper(how):
    model, inputs = small("llama"), branching("right")
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    if how == "transformers' own":
        model.add_adapter(config)
    else:
        wrapped = get_peft_model(model, config)
        model = wrapped.merge_and_unload() if how == "merged" else wrapped.get_base_model()
    plain, count = loss_of(model, inputs), Positions(model)
    with without_padding(model):
        assert loss_of(model, inputs).item() == pytest.approx(plain.item(), rel=1e-6)
    assert count.seen == [119]


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


def grpo_trainer(output: Path):
    profile = get_profile("tiny")
    model, tokenizer = policy()
    settings = dict(profile.grpo.trainer) | {"max_steps": 2, "logging_steps": 1}
    rows = datasets.math_rows("tinyworld", split="train", n=64)
    return GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows).select_columns(["prompt", "answer"]),
        reward_funcs=[math_reward],
        rollout_func=rollout_func,  # luck by torch's seed, whichever way the steps are computed
        args=GRPOConfig(output_dir=str(output), seed=0, **settings),
    )


def test_grpo_computes_a_groups_prompt_once(runs):
    logs, positions = [], []
    for way in (nullcontext, without_padding):
        trainer = grpo_trainer(runs / way.__name__)  # made here, as it sets the seed
        count = Positions(trainer.model)
        with way(trainer.model):
            trainer.train()
        logs.append(trainer.state.log_history)
        positions.append(sum(count.trained))
    assert positions[1] < 0.55 * positions[0]
    for name in ("loss", "grad_norm", "reward", "entropy", "completions/mean_length"):
        plain, ours = ([entry[name] for entry in log if name in entry] for log in logs)
        assert len(ours) == 2 and ours == pytest.approx(plain, rel=2e-3, abs=2e-4), name


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
    left = {"sft": 0.75, "dpo": 0.6}[stage]  # a pair has one prompt
    assert sum(fewer.seen) < left * sum(usual.seen) and len(fewer.seen) == len(usual.seen)
    timed = ("runtime", "per_second", "total_flos")
    for mine, theirs in zip(ours.state.log_history, plain.state.log_history, strict=True):
        for name, value in theirs.items():
            if not any(word in name for word in timed):
                assert mine[name] == pytest.approx(value, rel=2e-4, abs=2e-4), name


def test_the_engine_reads_a_policy_in_training():
    model, _ = policy()
    with without_padding(model):
        assert decoding.read(model, 64) is not None
