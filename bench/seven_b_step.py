"""One real QLoRA step of a 7B on a CPU, and how far preflight's estimate of its memory is off.

    python bench/seven_b_step.py                # Mistral-7B-v0.3's shape, minutes, 6 GB of memory

The model is transformers' own `MistralForCausalLM` with random weights: linear layers are
bitsandbytes' `Linear4bit` (NF4, double quantisation), made and quantised one matrix at a time, so
that no more than one of them exists in float32; LoRA is PEFT's, checkpointing transformers', the
optimizer AdamW. Embeddings, head and norms are float32, as in every CPU profile here: a CPU without
bf16 units would convert a bf16 matrix at each use, and on a GPU, where they are bf16, the estimate
counts 2 bytes for them instead of 4.

What is measured is the peak resident memory of forward, backward and update, less what was resident
after the imports, with a malloc that gives freed blocks back; `--as-usual` leaves malloc as it is,
and shows the holes that quantising leaves. Left out: what the model answers (its weights are
noise), and a second step.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memory import RESULTS, forget_peak, provenance, resident_gib, return_blocks, write

from postlab.preflight import Architecture, architecture, estimate
from postlab.profile import PROJECTIONS

MODEL = "mistralai/Mistral-7B-v0.3"
SCALE = 0.02  # standard deviation of the random weights


def build(shape: Architecture, *, layers: int) -> Any:
    """The model with `layers` of its layers, in NF4; at most one float32 matrix at a time."""
    import torch
    from bitsandbytes.nn import Linear4bit, Params4bit
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        num_hidden_layers=layers, hidden_size=shape.hidden, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, head_dim=shape.head_dim, vocab_size=shape.vocab,
        intermediate_size=shape.intermediate, tie_word_embeddings=shape.tied, sliding_window=None,
        use_cache=False,
    )  # fmt: skip
    with torch.device("meta"):
        model = MistralForCausalLM(config)
    for layer in model.model.layers:
        for part in (layer.self_attn, layer.mlp):
            for name in PROJECTIONS:
                if hasattr(part, name):
                    setattr(part, name, _quantised(getattr(part, name), Linear4bit, Params4bit))
    for module in model.modules():  # what is left on "meta": embeddings, head, norms
        for name, value in list(module.named_parameters(recurse=False)):
            if value.is_meta:
                made = torch.ones(value.shape) if value.ndim == 1 else _normal(value.shape)
                setattr(module, name, torch.nn.Parameter(made, requires_grad=False))
    model.model.rotary_emb = type(model.model.rotary_emb)(config)  # its frequencies are no weights
    return model


def _normal(shape: Any) -> Any:
    import torch

    return torch.empty(shape).normal_(std=SCALE)


def _quantised(linear: Any, linear_4bit: Any, params_4bit: Any) -> Any:
    import torch

    made = linear_4bit(
        linear.in_features, linear.out_features, bias=False, compute_dtype=torch.float32,
        quant_type="nf4", compress_statistics=True, device="meta",
    )  # fmt: skip
    weight = params_4bit(
        _normal(linear.weight.shape), requires_grad=False, quant_type="nf4",
        compress_statistics=True, module=made,
    )  # fmt: skip
    made.weight = weight.to("cpu")  # quantises
    return made


def step(model: Any, *, length: int, rank: int) -> dict[str, Any]:
    """Attach adapters, take one step, and time its parts."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(PROJECTIONS))
    model = get_peft_model(model, config)
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    ids = torch.randint(0, model.config.vocab_size, (1, length))
    clock = [time.perf_counter()]
    loss = model(input_ids=ids, labels=ids).loss
    clock.append(time.perf_counter())
    loss.backward()
    clock.append(time.perf_counter())
    norm = float(torch.nn.utils.clip_grad_norm_(trained, 1.0))
    optimizer.step()
    clock.append(time.perf_counter())
    seconds = [round(b - a, 2) for a, b in zip(clock, clock[1:], strict=False)]
    return {
        "trained": sum(p.numel() for p in trained),
        "loss": float(loss.detach()),
        "gradient_norm": norm,
        "seconds": dict(zip(("forward", "backward", "update"), seconds, strict=True)),
    }


def run(layers: int, length: int, rank: int) -> dict[str, Any]:
    """Build, step, and compare with the estimate."""
    import bitsandbytes  # noqa: F401  (all imports before memory is first read)
    import peft  # noqa: F401
    import torch
    from transformers import MistralForCausalLM  # noqa: F401

    torch.manual_seed(0)
    imports = resident_gib("VmRSS")
    shape = architecture(MODEL)
    begun = time.perf_counter()
    model = build(shape, layers=layers)
    built = time.perf_counter() - begun
    build_peak, built_gib = resident_gib("VmHWM") - imports, resident_gib("VmRSS") - imports
    forget_peak()
    found = step(model, length=length, rank=rank)
    found["seconds"]["build"] = round(built, 2)
    measured = resident_gib("VmHWM") - imports
    linear = sum(p.numel() * 2 for n, p in model.named_parameters() if "base_layer" in n)
    return found | {
        "quantised_parameters": linear,
        "imports_gib": imports,
        "build_peak_gib": build_peak,
        "built_gib": built_gib,
        "measured_gib": measured,
    }


def compare(found: dict[str, Any], *, layers: int, length: int, rank: int) -> dict[str, Any]:
    """The estimate beside what was measured, part by part."""
    known = architecture(MODEL)
    config = dict(
        model_type=known.family, num_hidden_layers=layers, hidden_size=known.hidden,
        num_attention_heads=known.heads, num_key_value_heads=known.kv_heads,
        head_dim=known.head_dim, intermediate_size=known.intermediate, vocab_size=known.vocab,
        tie_word_embeddings=known.tied,
    )  # fmt: skip
    asked = dict(batch=1, length=length, bits=4, lora_rank=rank)
    with tempfile.TemporaryDirectory() as folder:  # --layers makes another model of it
        (Path(folder) / "config.json").write_text(json.dumps(config))
        whole = estimate("sft", model=folder, device="cpu", **asked)
    parts = ("weights", "adapters", "gradients", "optimizer", "activations")
    return {"model": MODEL, "layers": layers, "parameters": whole.parameters} | asked | found | {
        "predicted_parts_gib": {part: getattr(whole, f"{part}_gib") for part in parts},
        "predicted_gib": whole.total_gib,
        "error": whole.total_gib / found["measured_gib"] - 1,
        "predicted_seconds_range": [length / speed for speed in whole.tokens_per_s_range[::-1]],
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=architecture(MODEL).layers)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--as-usual", action="store_true", help="leave malloc as it is")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    if not args.as_usual:
        return_blocks()
    sizes = dict(layers=args.layers, length=args.length, rank=args.rank)
    result = compare(run(**sizes), **sizes)
    print(
        f"measured {result['measured_gib']:.3f} GiB, predicted {result['predicted_gib']:.3f}"
        f" ({result['error']:+.1%}); seconds {result['seconds']}"
    )
    name = "seven_b_step_as_usual" if args.as_usual else "seven_b_step"
    command = "python bench/seven_b_step.py" + (" --as-usual" if args.as_usual else "")
    write(name, {"provenance": provenance(command)} | result, args.out)


if __name__ == "__main__":
    main()
