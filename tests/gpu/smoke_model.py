"""A model of a real 7B's shape with random weights, written in 4 bits without its 16-bit form.

The folder is what transformers and Unsloth expect of a ready-made 4-bit model: NF4 codes with
double-quantized constants, a config, and a tokenizer. Each matrix is drawn and quantized on the
device, one at a time, so a 7B takes 4 GB on disk and well under 2 GB of host memory. Simplified:
the tokenizer is the embedded base's, so that rows use 1,280 of the vocabulary's ids; embeddings,
output head and logits have their full size. Left out: what only trained weights can show.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from postlab.preflight import Architecture
from postlab.profile import PROJECTIONS

SHARD = 2**30  # bytes of tensors held in host memory before they are written
STD = 0.02  # transformers' own for these families


def write_model(
    folder: Path, shape: Architecture, *, bits: int, dtype: str, device: str, seed: int = 0
) -> int:
    """Write a model of this shape with random weights; return its size in bytes.

    Args:
        folder: created here.
        shape: of the family mistral, qwen2 or llama.
        bits: 4 for NF4 (needs bitsandbytes), else the weights are saved as `dtype`.
        dtype: "float16", "bfloat16" or "float32", of all that is not quantized.
        device: where the weights are drawn and quantized.
    Raises:
        OSError: if the disk has too little room.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from postlab.models import tiny_base

    element = 4 if dtype == "float32" else 2
    linear = shape.linear_parameters * (0.52 if bits == 4 else element)
    needed = int(linear + shape.other_parameters * element)
    folder.mkdir(parents=True)
    free = shutil.disk_usage(folder).free
    if free < 1.1 * needed:
        raise OSError(
            f"{free / 1e9:.1f} GB are free for a model of {needed / 1e9:.1f} GB;"
            " free some, or set TMPDIR to a folder on a larger disk"
        )
    config = make_config(shape, bits=bits, dtype=dtype)
    with torch.device("meta"):
        skeleton: Any = AutoModelForCausalLM.from_config(config)
    torch.manual_seed(seed)
    places, total = {}, 0
    named = draw(skeleton, bits=bits, dtype=getattr(torch, dtype), device=device)
    for number, shard in enumerate(in_shards(named)):
        name = f"model-{number:05d}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        places |= dict.fromkeys(shard, name)
        total += sum(tensor.nbytes for tensor in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config.architectures = [type(skeleton).__name__]
    config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_base()).save_pretrained(folder)
    return total


def make_config(shape: Architecture, *, bits: int, dtype: str) -> Any:
    """The shape as transformers writes it, with the embedded tokenizer's special ids."""
    from transformers import AutoConfig, BitsAndBytesConfig

    own = {"mistral": {"sliding_window": None}, "qwen2": {"use_sliding_window": False}}
    config = AutoConfig.for_model(
        shape.family, num_hidden_layers=shape.layers, hidden_size=shape.hidden,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.intermediate, vocab_size=shape.vocab,
        tie_word_embeddings=shape.tied, max_position_embeddings=4096, pad_token_id=0,
        bos_token_id=None, eos_token_id=3, dtype=dtype, **own.get(shape.family, {}),
    )  # fmt: skip
    if bits == 4:
        config.quantization_config = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        ).to_dict()  # fmt: skip
    return config


def draw(skeleton: Any, *, bits: int, dtype: Any, device: str) -> Iterator[tuple[str, Any]]:
    """(name, tensor) of every weight: norms 1, biases 0, the others normal, projections in NF4."""
    import torch

    for name, parameter in skeleton.named_parameters():  # a tied head comes once
        if "norm" in name:
            yield name, torch.ones(parameter.shape, dtype=dtype)
        elif name.endswith("bias"):
            yield name, torch.zeros(parameter.shape, dtype=dtype)
        else:
            weight = torch.empty(parameter.shape, dtype=dtype, device=device).normal_(std=STD)
            if bits == 4 and name.split(".")[-2] in PROJECTIONS:
                yield from quantized(name, weight)
            else:
                yield name, weight.cpu()


def quantized(name: str, weight: Any) -> Iterator[tuple[str, Any]]:
    """What bitsandbytes saves for one 4-bit matrix: codes, constants, and their form."""
    from bitsandbytes.functional import quantize_4bit

    codes, state = quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
    yield name, codes.cpu()
    for part, tensor in state.as_dict(packed=True).items():
        yield f"{name}.{part}", tensor.cpu()


def in_shards(named: Iterator[tuple[str, Any]]) -> Iterator[dict[str, Any]]:
    """The tensors in dictionaries of about SHARD bytes."""
    shard: dict[str, Any] = {}
    for name, tensor in named:
        shard[name] = tensor.contiguous()
        if sum(t.nbytes for t in shard.values()) >= SHARD:
            yield shard
            shard = {}
    if shard:
        yield shard
