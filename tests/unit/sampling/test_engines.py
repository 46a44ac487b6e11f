"""Answers by vLLM, with a stand-in for it: which policies it serves, and what it is asked for.

The stand-in takes the arguments of vLLM 0.20 to 0.30 and no others, and answers with a real Llama
and the adapter it is given, so that its greedy answers must be those of `generate`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from postlab import profile
from postlab.evals import key
from postlab.sampling import engine_name, engines, rollout, started_vllm

END, VERSION = 1, "0.25.1"


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=48, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
        initializer_range=0.4, eos_token_id=END, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight[END] *= 2.5  # some answers end, and some do not
    return model


def lora(r: int = 4, **settings) -> LoraConfig:
    settings = {"target_modules": ["q_proj", "down_proj"]} | settings
    return LoraConfig(r=r, lora_alpha=8, task_type="CAUSAL_LM", **settings)


def adapted(config: LoraConfig | None = None) -> PeftModel:
    model = get_peft_model(llama(), config or lora())
    model.add_adapter("other", lora(2))
    grown(model)
    return model.eval()


def grown(model) -> None:
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)


@dataclass
class SamplingParams:
    """The fields of vLLM's that are used here, checked as it checks them."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = None
    max_tokens: int | None = 16
    stop_token_ids: list[int] = field(default_factory=list)
    ignore_eos: bool = False
    detokenize: bool = True

    def __post_init__(self) -> None:
        assert 0 <= self.temperature <= 2 and self.max_tokens >= 1 and self.seed != -1
        assert all(type(token) is int for token in self.stop_token_ids)


@dataclass(frozen=True)
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


class LLM:
    """vLLM's `LLM` as far as it is used here, on the weights of `llama()`."""

    started: list[dict] = []

    def __init__(self, **options) -> None:
        self.started.append(options)
        self.calls: list[SimpleNamespace] = []
        self.asleep = False
        limits = SimpleNamespace(max_model_len=options.get("max_model_len", 64))
        room = SimpleNamespace(max_lora_rank=options.get("max_lora_rank", 16))
        configs = SimpleNamespace(model_config=limits, lora_config=room)
        self.llm_engine = SimpleNamespace(vllm_config=configs, is_sleeping=lambda: self.asleep)

    def generate(self, prompts, sampling_params=None, *, use_tqdm=True, lora_request=None):
        assert not self.asleep and len(prompts) == len(sampling_params)
        model, files = llama(), {}
        if lora_request is not None:
            folder = Path(lora_request.lora_path)
            files = {file.name for file in folder.iterdir()}
            model = PeftModel.from_pretrained(model, folder).eval()
        call = SimpleNamespace(params=sampling_params, lora=lora_request, files=files)
        self.calls.append(call)
        return [
            SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(self.one(model, p, how)))])
            for p, how in zip(prompts, sampling_params, strict=True)
        ]

    def one(self, model, prompt, how) -> list[int]:
        ids, answer = list(prompt["prompt_token_ids"]), []
        dice = torch.Generator().manual_seed(how.seed)
        stops = set(how.stop_token_ids) | (set() if how.ignore_eos else {7})  # of its own config
        while len(answer) < how.max_tokens and not (answer and answer[-1] in stops):
            with torch.no_grad():
                logits = model(torch.tensor([ids + answer])).logits[0, -1]
            if how.temperature:
                chances = (logits / how.temperature).softmax(-1)
                answer.append(int(torch.multinomial(chances, 1, generator=dice)))
            else:
                answer.append(int(logits.argmax()))
        return answer


@pytest.fixture(autouse=True)
def vllm(monkeypatch):
    module, requests = ModuleType("vllm"), ModuleType("vllm.lora.request")
    module.LLM, module.SamplingParams, requests.LoRARequest = LLM, SamplingParams, LoRARequest
    for name, part in (("vllm", module), ("vllm.lora", ModuleType("vllm.lora"))):
        monkeypatch.setitem(sys.modules, name, part)
    monkeypatch.setitem(sys.modules, "vllm.lora.request", requests)
    monkeypatch.setattr(engines, "metadata", SimpleNamespace(version=lambda name: VERSION))
    monkeypatch.setattr(profile, "_version", lambda name: VERSION)
    monkeypatch.setattr(rollout, "end_of_turn", lambda tokenizer: END)
    monkeypatch.setattr(LLM, "started", [])
    monkeypatch.delenv("POSTLAB_VLLM", raising=False)


class Plain:
    """As much of a tokenizer as `answer` asks for."""

    chat_template = "x"
    pad_token_id, eos_token_id, unk_token_id, all_special_ids = 0, END, None, [0, END]


def requests(heat: float, n: int = 6) -> list[rollout.Rollout]:
    return [
        rollout.Rollout(f"r{i}", k, [3 + 5 * i % 45] * (1 + i % 3), heat, 8)
        for i in range(n)
        for k in range(2 if heat else 1)
    ]


def answers(policy, asked) -> list[list[int]]:
    with torch.no_grad(), rollout.unchanged(policy):
        batches = list(rollout.answer(policy, Plain(), asked, seed=3))
    assert sum(map(len, batches)) == len(asked)
    return [one.answer for one in asked]


def with_engine(policy, **options):
    policy.vllm_engine = LLM(**options)
    return policy


# ---- the answers


@pytest.mark.parametrize("which", ["default", "other", "disabled", "no adapters"])
def test_greedy_answers_are_those_of_generate(which):
    policy = llama() if which == "no adapters" else adapted()
    if which == "other":
        policy.set_adapter("other")
    elif which == "disabled":
        policy.base_model.disable_adapter_layers()
    expected = answers(policy, requests(0.0))
    assert {answer[-1] == END for answer in expected} == {True, False}
    assert answers(with_engine(policy), requests(0.0)) == expected
    (call,) = policy.vllm_engine.calls
    if which in ("disabled", "no adapters"):
        assert call.lora is None
    else:
        assert {"adapter_config.json", "adapter_model.safetensors"} <= call.files
        assert not Path(call.lora.lora_path).exists()


def test_each_set_of_weights_has_a_number_of_its_own():
    policy = with_engine(adapted())
    first = answers(policy, requests(0.0))
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B.default" in name:
                parameter.zero_()
    assert answers(policy, requests(0.0)) != first  # vLLM would keep what a number stood for
    a, b = (call.lora.lora_int_id for call in policy.vllm_engine.calls)
    assert a != b and min(a, b) > 10**6


def test_sampled_answers_depend_on_seed_name_and_sample_only():
    policy = with_engine(adapted())
    names = [(one.name, one.sample) for one in requests(1.0)]
    whole = dict(zip(names, answers(policy, requests(1.0)), strict=True))
    assert len(set(map(tuple, whole.values()))) > 8
    few = requests(1.0)[4:7]
    assert answers(policy, few) == [whole[one.name, one.sample] for one in few]
    params = policy.vllm_engine.calls[0].params
    assert len({how.seed for how in params}) == 12 and all(0 <= how.seed < 2**32 for how in params)
    how = params[0]
    assert (how.temperature, how.max_tokens, how.stop_token_ids) == (1.0, 8, [0, END])
    assert how.ignore_eos and not how.detokenize
    assert (how.top_p, how.top_k, how.repetition_penalty) == (1.0, 0, 1.0)


def test_many_answers_come_in_parts_so_that_progress_shows(monkeypatch):
    monkeypatch.setattr(rollout, "MOST", 4)
    policy = with_engine(llama())
    batches = list(rollout.answer(policy, Plain(), requests(0.0, n=30), seed=0))
    assert [len(batch) for batch in batches] == [4] * 7 + [2]


def test_an_answer_longer_than_the_engine_allows_is_an_error():
    policy = with_engine(llama(), max_model_len=9)
    with pytest.raises(ValueError, match=r"row 'r1': 2 prompt tokens and 8 new ones exceed the 9"):
        answers(policy, requests(0.0))


# ---- which engine


def merged():
    policy = adapted()
    policy.merge_adapter()
    return policy


def two_at_once():
    policy = adapted()
    policy.base_model.set_adapter(["default", "other"])
    return policy


UNSERVED = {
    "merged": merged,
    "two adapters at once": two_at_once,
    "embeddings trained": lambda: adapted(lora(modules_to_save=["embed_tokens"])),
    "DoRA": lambda: adapted(lora(use_dora=True)),
    "a rank beyond the engine's": lambda: adapted(lora(32)),
    "a layer beyond it": lambda: adapted(lora(4, rank_pattern={"q_proj": 32})),
}


@pytest.mark.parametrize("make", UNSERVED.values(), ids=UNSERVED)
def test_what_vllm_cannot_serve_is_left_to_generate(make):
    policy = make()
    expected = answers(policy, requests(0.0))
    policy.vllm_engine = LLM()
    assert engine_name(policy) == "generate"
    assert answers(policy, requests(0.0)) == expected and not policy.vllm_engine.calls


def test_the_model_inside_a_peft_model_is_left_to_generate():
    """Its layers have the adapters, but it could not save them for vLLM."""
    assert engine_name(with_engine(adapted().get_base_model())) == "generate"


def test_a_sleeping_or_forbidden_engine_does_not_answer(monkeypatch):
    policy = with_engine(llama())
    assert engine_name(policy) == f"vllm {VERSION}"
    policy.vllm_engine.asleep = True
    assert engine_name(policy) == "generate"
    policy.vllm_engine.asleep = False
    monkeypatch.setenv("POSTLAB_VLLM", "0")
    assert engine_name(policy) == "generate"
    answers(policy, requests(0.0))
    assert not policy.vllm_engine.calls


def on_cuda(monkeypatch, capability: tuple[int, int] = (9, 0)) -> None:
    """Llamas say that they lie on a GPU; their tensors stay where they are."""
    monkeypatch.setattr(LlamaForCausalLM, "device", torch.device("cuda", 0), raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (60 * 2**30, 80 * 2**30))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)


def unsloth_fast_generate(*args, **kwargs):
    raise AssertionError("not called")


def test_unsloths_generate_is_another_engine_on_a_gpu_only(monkeypatch):
    model = llama()
    model.generate = unsloth_fast_generate
    policy = get_peft_model(model, lora())
    assert engine_name(model) == engine_name(policy) == "generate"
    on_cuda(monkeypatch)
    assert engine_name(model) == engine_name(policy) == "unsloth"
    assert engine_name(llama()) == "generate"


def test_the_key_names_every_engine_but_the_models_own(monkeypatch):
    monkeypatch.setattr("postlab.sampling.render", lambda tokenizer, prompt: "hi")
    monkeypatch.setattr("postlab.sampling.end_of_turn", lambda tokenizer: END)
    prompt = [{"role": "user", "content": "?"}]
    rows = [{"id": "a", "family": "b", "prompt": prompt, "score": lambda answer, closed: {}}]

    class Tokenizer(Plain):
        def __call__(self, text, **options):
            return {"input_ids": [3]}

    def engine(policy):
        inputs = key.answer_inputs(policy, Tokenizer(), rows, seed=0, samples=1)
        return json.loads(json.dumps(inputs))["engine"]

    plain, fast = llama(), llama()
    fast.generate = unsloth_fast_generate
    assert engine(plain) == key.ENGINE
    assert engine(with_engine(llama())) == [key.ENGINE, f"vllm {VERSION}"]
    on_cuda(monkeypatch)
    assert engine(plain) == key.ENGINE and engine(fast) == [key.ENGINE, "unsloth"]


# ---- an engine of our own


def test_vllm_starts_only_if_asked_for_on_a_gpu_that_it_runs_on(monkeypatch):
    policy = adapted()
    with started_vllm(policy, longest=40):  # a CPU
        assert not hasattr(policy, "vllm_engine")
    on_cuda(monkeypatch)
    with started_vllm(policy, longest=40):  # nobody asked
        assert engine_name(policy) == "generate"
    monkeypatch.setenv("POSTLAB_VLLM", "1")
    on_cuda(monkeypatch, (7, 5))  # a T4
    with started_vllm(policy, longest=40):
        assert engine_name(policy) == "generate"
    on_cuda(monkeypatch)
    with started_vllm(llama(), longest=40):  # its folder may hold other weights
        pass
    with started_vllm(merged(), longest=40):
        pass
    assert not LLM.started


def test_a_started_engine_answers_and_goes_again(monkeypatch):
    policy = adapted()
    expected = answers(policy, requests(0.0))
    monkeypatch.setenv("POSTLAB_VLLM", "1")
    on_cuda(monkeypatch)
    policy.get_base_model().name_or_path = "unsloth/mistral-7b-v0.3-bnb-4bit"
    assert engine_name(policy) == f"vllm {VERSION}"  # as the key of the evaluation will say
    with pytest.raises(KeyError), started_vllm(policy, longest=40):
        assert engine_name(policy) == f"vllm {VERSION}"
        assert answers(policy, requests(0.0)) == expected
        assert len(policy.vllm_engine.calls) == 1
        raise KeyError
    assert "vllm_engine" not in vars(policy)
    (how,) = LLM.started
    assert how["model"] == "unsloth/mistral-7b-v0.3-bnb-4bit" and how["quantization"] is None
    assert (how["max_model_len"], how["max_lora_rank"], how["enable_lora"]) == (40, 8, True)
    assert how["gpu_memory_utilization"] == 0.6  # 0.8 of what is free, of all there is
    assert how["trust_remote_code"] is False and how["skip_tokenizer_init"] is True


def test_evaluate_starts_it_and_measures_kl_with_the_policy_itself(monkeypatch):
    from postlab import evals

    spans = []

    def started(policy, *, longest):
        spans.append(longest)
        return started_vllm(policy, longest=longest)

    monkeypatch.setattr(evals.evaluation, "started_vllm", started)
    monkeypatch.setattr(evals.evaluation, "render", lambda tokenizer, prompt: "hi")
    monkeypatch.setattr(evals.evaluation, "end_of_turn", lambda tokenizer: END)
    monkeypatch.setenv("POSTLAB_VLLM", "1")
    on_cuda(monkeypatch)

    class Tokenizer(Plain):
        padding_side = "right"

        def __call__(self, text, **options):
            return {"input_ids": [3, 8]}

        def decode(self, ids, **options):
            return " ".join(map(str, ids))

    prompt = [{"role": "user", "content": "?"}]
    row = {"family": "b", "prompt": prompt, "score": lambda answer, closed: {}}
    rows = [row | {"id": "a", "max_new_tokens": 6}, row | {"id": "b", "max_new_tokens": 9}]
    policy = adapted()
    frame = evals.evaluate(policy, Tokenizer(), rows, ref="base")
    assert spans == [2 + 9] and len(LLM.started) == 1
    assert (frame["kl"] > 0).all() and not hasattr(policy, "vllm_engine")
