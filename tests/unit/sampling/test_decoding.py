"""The engine against the model's own `generate`: the same tokens, log-probs, distribution."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from scipy import stats
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from postlab.lab import Lab
from postlab.models import load_policy
from postlab.profile import get_profile
from postlab.sampling import decoding, end_of_turn, render, rollout
from postlab.tinyworld.tasks import heldout_suite

V = 48
SIZES = {
    "vocab_size": V, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    "initializer_range": 0.4, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
PROMPTS = [[5, 6, 7], [9, 8, 7, 6, 5, 4, 3, 2], [11], [5, 6, 7], [9, 8, 7, 6, 5, 4, 3, 2], [20, 21]]
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip


def llama(seed: int = 0, **settings) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**SIZES | settings)).eval()


def qwen(**settings) -> Qwen2ForCausalLM:
    torch.manual_seed(3)
    model = Qwen2ForCausalLM(Qwen2Config(**SIZES | settings)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return model


def adapted(model, seed: int = 4, **settings):
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], **settings)
    model = get_peft_model(model, config)
    grown(model, seed)
    return model.eval()


def grown(model, seed: int) -> None:
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)


def two_adapters():
    model = adapted(llama())
    model.add_adapter("other", LoraConfig(r=2, target_modules=["v_proj"]))
    grown(model, 5)
    model.set_adapter("other")
    return model.eval()


MODELS = {
    "grouped heads": llama,
    "one head each": lambda: llama(num_key_value_heads=4),
    "one key head": lambda: llama(num_key_value_heads=1),
    "tied": lambda: llama(tie_word_embeddings=True),
    "biases": lambda: llama(attention_bias=True, mlp_bias=True),
    "wide heads": lambda: llama(head_dim=16),
    "llama3 positions": lambda: llama(rope_parameters=LLAMA3),
    "qwen": qwen,
    "qwen, tied": lambda: qwen(tie_word_embeddings=True),
    "adapter": lambda: adapted(llama()),
    "adapter, rank-stabilised": lambda: adapted(qwen(), use_rslora=True),
    "second adapter": two_adapters,
    "matrices in oneDNN's layout": lambda: llama(hidden_size=256, intermediate_size=1024),
}


def by_generate(model, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    out = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False
    )
    return [cut(tokens) for tokens in out[:, width:].tolist()]


def cut(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(1) + 1] if 1 in tokens else tokens


def greedy(model, prompts: list[list[int]], new_tokens: int, temperature: float | None = None):
    engine = decoding.read(model, max(map(len, prompts)) + new_tokens)
    return engine.decode(
        prompts,
        new_tokens=new_tokens,
        stops={1},
        draw=lambda logits, rows: logits.argmax(dim=-1),
        temperature=temperature,
    )


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_greedy_tokens_are_those_of_generate(make):
    model = make()
    answers, logps = greedy(model, PROMPTS, 20)
    assert answers == by_generate(model, PROMPTS, 20)
    assert logps == [[]] * len(PROMPTS)


@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo"])
def test_greedy_answers_of_the_shipped_stages_are_those_of_generate(stage):
    """On held-out prompts of all families; rounding may decide only between logits that tie."""
    model, tokenizer = load_policy(
        Lab(get_profile("tiny"), 0).checkpoint(stage), profile="tiny", bits=32
    )
    rows = [row for row in heldout_suite(n=6) if not row.get("temperature")]
    prompts = [tokenizer(render(tokenizer, row["prompt"])).input_ids for row in rows]
    width, end = max(map(len, prompts)), end_of_turn(tokenizer)
    ids = torch.tensor([[end] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    out = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=48, do_sample=False, eos_token_id=end
    )[:, width:].tolist()
    expected = [a[: a.index(end) + 1] if end in a else a for a in out]
    answers, _ = decoding.read(model, width + 48).decode(
        prompts, new_tokens=48, stops={end}, draw=lambda logits, rows: logits.argmax(dim=-1)
    )
    assert len(prompts) >= 36 and len({len(answer) for answer in answers}) > 5
    for prompt, ours, theirs in zip(prompts, answers, expected, strict=True):
        if ours != theirs:
            first = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
            with torch.no_grad():
                logits = model(torch.tensor([prompt + ours[:first]])).logits[0, -1]
            assert abs(logits[ours[first]] - logits[theirs[first]]) < 1e-3


def ending_early() -> LlamaForCausalLM:
    """Answers of many lengths: the end of turn is made likely."""
    model = llama(7)
    with torch.no_grad():
        model.lm_head.weight[1] *= 4
    return model


def test_answers_that_end_leave_and_the_others_go_on_as_alone():
    model = ending_early()
    prompts = [[a, b] + [7] * (a % 4) for a in range(2, 14) for b in range(2, 6)]
    answers, _ = greedy(model, prompts, 24)
    assert len({len(answer) for answer in answers}) > 5
    assert answers == by_generate(model, prompts, 24)
    assert answers[:5] == [greedy(model, [prompt], 24)[0][0] for prompt in prompts[:5]]


@pytest.mark.parametrize("make", [ending_early, lambda: adapted(qwen())])
def test_log_probs_are_the_models_own(make):
    model, heat = make(), 0.7
    answers, logps = greedy(model, PROMPTS, 16, temperature=heat)
    for prompt, answer, found in zip(PROMPTS, answers, logps, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        own = (logits / heat).log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]
        assert found == pytest.approx(own.tolist(), abs=1e-4)


def test_draws_follow_the_softmax():
    model, n, heat = llama(1), 4000, 1.3
    asked = [rollout.Rollout(str(i), 0, [5, 6, 7], heat, 2) for i in range(n)]
    engine = rollout._decoder(model, asked)
    for start in range(0, n, 500):
        rollout._decode(engine, asked[start : start + 500], {1}, seed=0)
    with torch.no_grad():
        wanted = (model(torch.tensor([[5, 6, 7]])).logits[0, -1] / heat).softmax(-1)
    first = torch.bincount(torch.tensor([one.answer[0] for one in asked]), minlength=V)
    assert _fits(first, wanted)
    assert not _fits(first, wanted**1.1 / (wanted**1.1).sum())  # a wrong temperature is seen
    common = int(first.argmax())  # and the second token, given the commonest first one
    with torch.no_grad():
        wanted = (model(torch.tensor([[5, 6, 7, common]])).logits[0, -1] / heat).softmax(-1)
    second = [one.answer[1] for one in asked if one.answer[0] == common]
    assert len(second) > 300
    assert _fits(torch.bincount(torch.tensor(second), minlength=V), wanted)


def _fits(counts: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Chi-square at 0.1%; what is expected less than five times is one class."""
    expected = wanted.double() * counts.sum()
    rare = expected < 5
    seen = torch.cat([counts[~rare], counts[rare].sum()[None]]).double()
    due = torch.cat([expected[~rare], expected[rare].sum()[None]])
    return stats.chisquare(seen, due * seen.sum() / due.sum()).pvalue > 1e-3


class Plain:
    """As much of a tokenizer as `answer` asks for."""

    chat_template = "x"
    pad_token_id, eos_token_id, unk_token_id, all_special_ids = 0, 1, None, [0, 1]


@pytest.mark.parametrize("heat", [0.0, 1.0])
def test_answers_are_the_same_with_and_without_the_engine(monkeypatch, heat):
    monkeypatch.setattr(rollout, "end_of_turn", lambda tokenizer: 1)
    model = adapted(ending_early())

    def answers() -> list[list[int]]:
        asked = [
            rollout.Rollout(str(i), k, p, heat, 12) for i, p in enumerate(PROMPTS) for k in range(4)
        ]
        with torch.no_grad(), rollout.unchanged(model, None):
            for _ in rollout.answer(model, Plain(), asked, seed=2):
                pass
        return [one.answer for one in asked]

    ours = answers()
    monkeypatch.setattr(rollout, "_decoder", lambda *args: None)
    assert ours == answers()
    assert heat == 0 or len({tuple(answer) for answer in ours}) > 12


def test_weights_are_read_as_they_are_now_and_left_alone():
    model = adapted(llama())
    before = copy.deepcopy(model.state_dict())
    first, _ = greedy(model, PROMPTS, 12)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with model.disable_adapter():
        assert greedy(model, PROMPTS, 12)[0] == by_generate(model, PROMPTS, 12) != first
    grown(model, 9)
    assert greedy(model, PROMPTS, 12)[0] == by_generate(model, PROMPTS, 12) != first


def hooked():
    model = llama()
    model.model.layers[1].register_forward_hook(lambda module, args, out: out)
    return model


def with_own_forward():
    model = llama()
    model.model.layers[1].mlp.forward = lambda x: x
    return model


def merged():
    model = adapted(llama())
    model.merge_adapter()
    return model


UNREADABLE = {
    "another architecture": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=V, n_embd=32, n_layer=1, n_head=2)
    ),
    "bfloat16": lambda: llama().to(torch.bfloat16),
    "a hook": hooked,
    "a forward of one's own": with_own_forward,
    "another activation": lambda: llama(hidden_act="gelu"),
    "positions that depend on the length": lambda: llama(
        rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    ),
    "a sliding window": lambda: qwen(
        use_sliding_window=True, sliding_window=4, max_window_layers=0
    ),
    "DoRA": lambda: adapted(llama(), use_dora=True),
    "prompt tuning": lambda: get_peft_model(
        llama(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    ),
    "an adapter on the embedding": lambda: get_peft_model(
        llama(), LoraConfig(r=2, target_modules=["embed_tokens"])
    ),
    "a merged adapter": merged,
    "no model": lambda: object(),
}


@pytest.mark.parametrize("make", UNREADABLE.values(), ids=UNREADABLE)
def test_any_other_model_is_left_to_generate(make):
    assert decoding.read(make(), 32) is None
