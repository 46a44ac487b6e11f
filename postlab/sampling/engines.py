"""Which engine answers on a GPU, and answers by vLLM where a policy comes with it.

- `generate`, the model's own; on a CPU the decoder of `decoding` stands in for it.
- `unsloth`, the `generate` that Unsloth puts in its place on a GPU.
- `vllm`, if the policy has a `vllm_engine`: Unsloth attaches one to a model that was loaded with
  `fast_inference=True`, and `started_vllm` attaches one while an evaluation lasts, if
  POSTLAB_VLLM=1 asks for it.

All give the same kind of answers: tokens, up to and with the one that ended the answer, greedy or
drawn from softmax(logits / T) with a seed for each answer. They do not give the same answers, since
they round differently and vLLM's seeds bring other luck, so an evaluation's key names the engine.

What this leaves out: several GPUs, adapters other than LoRA, several adapters at once, and engines
that sleep between GRPO's steps (the model's own `generate` answers then). It follows vLLM 0.20 to
0.30 as read in its source; postlab's tests run it against a stand-in, since vLLM needs a GPU.
"""

from __future__ import annotations

import gc
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from itertools import count
from typing import TYPE_CHECKING, Any

from postlab.profile import check_vllm, vllm_requested
from postlab.sampling.memory import SHARE

if TYPE_CHECKING:
    from postlab.sampling.rollout import Rollout

UNSLOTHS = ("unsloth_fast_generate", "unsloth_base_fast_generate")
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM can set aside room for
AMPERE = (8, 0)  # compute capability; vLLM with TRL 1.x does not run on a T4, which has 7.5
_ids = count(1_000_001)  # vLLM keeps adapters by number; Unsloth counts its own from 1


def engine_name(policy: Any) -> str:
    """What answers for a policy: "generate", "unsloth", or "vllm" and its version.

    The same engine gives the same answers, up to rounding; another one does not.
    """
    if _attached(policy) is not None or _startable(policy):
        return f"vllm {metadata.version('vllm')}"
    return "unsloth" if by_unsloth(policy) else "generate"


def by_unsloth(policy: Any) -> bool:
    """Whether Unsloth's own `generate` answers; only on a GPU does it replace the model's."""
    if getattr(getattr(policy, "device", None), "type", None) != "cuda":
        return False
    core = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
    return getattr(core.generate, "__name__", "") in UNSLOTHS


def luck(seed: int, rollout: Rollout) -> int:
    """The seed of one answer: of the evaluation's seed, the prompt and the sample, nothing else."""
    key = hashlib.sha256(f"{seed}|{rollout.name}|{rollout.sample}".encode()).digest()
    return int.from_bytes(key[:4], "big")


@dataclass(frozen=True)
class Vllm:
    """A vLLM engine that holds a policy's base, and the adapter to answer with."""

    llm: Any
    lora: Any  # a LoRARequest, or None for the base's own weights

    def fill(self, batch: list[Rollout], stops: set[int], seed: int) -> None:
        """Fill in the answers of a batch.

        Raises:
            ValueError: if a prompt and its answer are longer than the engine's limit.
        """
        from vllm import SamplingParams

        limit = self.llm.llm_engine.vllm_config.model_config.max_model_len
        for rollout in batch:
            if len(rollout.prompt) + rollout.new_tokens > limit:
                raise ValueError(
                    f"row {rollout.name!r}: {len(rollout.prompt)} prompt tokens and"
                    f" {rollout.new_tokens} new ones exceed the {limit} that vLLM was started for;"
                    " load the model with a larger max_seq_length, shorten the prompt or set a"
                    " lower max_new_tokens"
                )
        # Whatever is not named here is vLLM's plain default: no top-p, top-k or penalty. Its own
        # ideas of what ends a text are off, so that the same tokens end an answer as elsewhere.
        how = [
            SamplingParams(
                temperature=rollout.temperature,
                max_tokens=rollout.new_tokens,
                seed=luck(seed, rollout),
                stop_token_ids=sorted(stops),
                ignore_eos=True,
                detokenize=False,
            )
            for rollout in batch
        ]
        prompts = [{"prompt_token_ids": rollout.prompt} for rollout in batch]
        outs = self.llm.generate(prompts, how, use_tqdm=False, lora_request=self.lora)
        for rollout, out in zip(batch, outs, strict=True):
            rollout.answer = list(out.outputs[0].token_ids)


@contextmanager
def vllm_of(policy: Any) -> Iterator[Vllm | None]:
    """The policy's vLLM engine with its adapter as it is now; None if another engine answers."""
    llm = _attached(policy)
    if llm is None:
        yield None
        return
    adapter = _adapter(policy)
    if adapter is None:
        yield Vllm(llm, None)
        return
    from vllm.lora.request import LoRARequest

    # vLLM reads an adapter from a folder, and once for each number.
    with tempfile.TemporaryDirectory(prefix="postlab-adapter-") as folder:
        # Without a look at the Hub whether the embeddings were resized: they are not adapted.
        policy.save_pretrained(folder, selected_adapters=[adapter], save_embedding_layers=False)
        path = folder if adapter == "default" else os.path.join(folder, adapter)
        number = next(_ids)
        yield Vllm(llm, LoRARequest(f"postlab-{number}", number, path))


@contextmanager
def started_vllm(policy: Any, *, longest: int) -> Iterator[None]:
    """Attach a vLLM engine to a policy for as long as this lasts, if POSTLAB_VLLM=1 asks for one.

    Nothing happens without that variable, without vLLM or a GPU that it runs on, if the policy has
    an engine already, or if it is no LoRA policy: only below an adapter do the base's weights
    certainly equal those of its folder, from which vLLM loads a copy of its own.

    Args:
        longest: tokens of the longest prompt with its answer.
    """
    if not _startable(policy):
        yield
        return
    import torch
    from vllm import LLM

    core, rank = policy.get_base_model(), max(c.r for c in policy.peft_config.values())
    gc.collect()
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(policy.device)
    quantized = bool(getattr(policy.config, "quantization_config", None))
    policy.vllm_engine = LLM(
        model=core.name_or_path,
        quantization="bitsandbytes" if quantized else None,
        dtype="bfloat16" if torch.cuda.is_bf16_supported() else "float16",
        skip_tokenizer_init=True,  # tokens in, tokens out
        trust_remote_code=False,
        enable_lora=True,
        max_lora_rank=next((size for size in RANKS if size >= rank), RANKS[-1]),
        max_model_len=longest,
        gpu_memory_utilization=int(100 * SHARE * free / total) / 100,
        enforce_eager=True,  # an evaluation is over before compiling pays
        seed=0,
    )
    try:
        yield
    finally:
        del policy.vllm_engine
        gc.collect()
        torch.cuda.empty_cache()


def _attached(policy: Any) -> Any:
    """The policy's vLLM engine if it can answer for the policy as it is now, else None."""
    llm = getattr(policy, "vllm_engine", None)
    if llm is None or vllm_requested() is False:
        return None
    engine = llm.llm_engine
    if getattr(engine, "is_sleeping", bool)():
        return None
    try:
        adapter = _adapter(policy)
    except _Unservable:
        return None
    room = getattr(engine.vllm_config, "lora_config", None)
    if adapter is not None and (room is None or _rank(policy, adapter) > room.max_lora_rank):
        return None
    return llm


def _startable(policy: Any) -> bool:
    if not vllm_requested() or getattr(policy, "vllm_engine", None) is not None:
        return False
    if getattr(getattr(policy, "device", None), "type", None) != "cuda":
        return False
    import torch

    if torch.cuda.get_device_capability(policy.device) < AMPERE:
        return False
    check_vllm()
    try:
        _adapter(policy)
    except _Unservable:
        return False
    return bool(getattr(policy, "peft_config", None))


class _Unservable(Exception):
    """vLLM cannot answer with this policy's weights."""


def _adapter(policy: Any) -> str | None:
    """The policy's one active LoRA adapter, or None if it answers with its base's weights.

    Raises:
        _Unservable: if it answers with anything else.
    """
    configs = getattr(policy, "peft_config", None)
    if not configs:
        return None
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in policy.modules() if isinstance(module, BaseTunerLayer)]
    saved = any(getattr(config, "modules_to_save", None) for config in configs.values())
    whole = hasattr(policy, "get_base_model")  # else it is the model inside of a PEFT model
    if saved or not (whole and layers) or any(layer.merged for layer in layers):
        raise _Unservable
    if all(layer.disable_adapters for layer in layers):
        return None
    active = {tuple(layer.active_adapters) for layer in layers}
    if any(layer.disable_adapters for layer in layers) or len(active) != 1:
        raise _Unservable
    names = active.pop()
    config = configs[names[0]] if len(names) == 1 else None
    kind = str(getattr(config, "peft_type", "")).removeprefix("PeftType.")
    if kind != "LORA" or config is None or config.use_dora or config.bias != "none":
        raise _Unservable
    return names[0]


def _rank(policy: Any, adapter: str) -> int:
    config = policy.peft_config[adapter]
    return max([config.r, *(config.rank_pattern or {}).values()])
