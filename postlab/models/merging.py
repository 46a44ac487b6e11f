"""Merge an adapter into its base one file at a time, and estimate the memory a model needs.

W' = W + scaling * B @ A concerns one matrix at a time, so the whole model need not be in memory.
PEFT puts the adapter on a base without values ("meta"), which says which matrix has which scaling;
the base's files are read tensor by tensor, and the result is written file by file. That is for
plain LoRA of linear layers. Whatever else an adapter may hold (DoRA, biases, trained embeddings, a
tied head) is merged by PEFT, with the whole base in memory. Left out: merging on a GPU.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

GIB = 2**30
SHARD = 10**9  # bytes of a written file
OVERHEAD = GIB // 2  # what loading takes beside the weights, and a short answer's activations


def skeleton(base: str) -> Any:
    """The base model without values: every shape and no memory. Only its config is read."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=config.dtype or torch.float32)


def model_bytes(model: Any, *, bits: int, element: int) -> int:
    """What it takes to load a model and answer a short question.

    Args:
        model: a skeleton.
        bits: 4 for NF4 in linear layers (4.13 bits with its constants).
        element: bytes of a weight that is not quantized.
    """
    from torch.nn import Linear

    total = sum(p.numel() for p in model.parameters())  # tied weights count once
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if isinstance(m, Linear) and m is not head]
    quantized = sum(m.weight.numel() for m in linear) if bits == 4 else 0
    return int(quantized * 4.13 / 8) + (total - quantized) * element + OVERHEAD


def free_bytes(device: str) -> int:
    """Memory that is free on "cpu" or a CUDA device."""
    if device == "cpu":
        import psutil

        return psutil.virtual_memory().available
    import torch

    return torch.cuda.mem_get_info(device)[0]


def merge(adapter: Path, *, base: str, to: Path) -> None:
    """Write merged weights and configs into the folder `to`, in the precision of the base's files.

    Args:
        adapter: its folder.
        base: a folder or a Hub id with weights that are not quantized.
    Raises:
        MemoryError: if it won't fit; raised before any of the base's weights are loaded.
        ValueError: if a merged weight is not finite.
    """
    from peft import PeftConfig, get_peft_model
    from peft.tuners.lora import LoraLayer
    from safetensors.torch import load_file
    from transformers import GenerationConfig

    model = skeleton(base)
    whole = model_bytes(model, bits=16, element=model.dtype.itemsize)
    config = PeftConfig.from_pretrained(str(adapter))
    config.init_lora_weights = False  # some start from the base's weights, which aren't loaded
    policy = get_peft_model(model, config, low_cpu_mem_usage=True)
    modules = policy.get_base_model().named_modules()
    layers = {name: layer for name, layer in modules if isinstance(layer, LoraLayer)}
    matrices = load_file(adapter / "adapter_model.safetensors")
    places = _tensor_files(base) if _plain(policy, layers, matrices) else {}
    if not {f"{name}.weight" for name in layers} <= places.keys():  # not plain, or named otherwise
        _merge_whole(adapter, base=base, to=to, needed=whole)
        return
    _check_fits(min(2 * SHARD + OVERHEAD, whole))
    deltas = {
        f"{name}.weight": (*(matrices[key] for key in _keys(name)), layer.scaling["default"])
        for name, layer in layers.items()
    }
    _merge_by_file(deltas, places, to)
    model.config.save_pretrained(to)
    with suppress(OSError):  # the base has none
        GenerationConfig.from_pretrained(base).save_pretrained(to)


def _keys(layer: str) -> tuple[str, str]:
    """The names under which PEFT saves a layer's A and B."""
    return f"base_model.model.{layer}.lora_A.weight", f"base_model.model.{layer}.lora_B.weight"


def _plain(policy: Any, layers: dict[str, Any], matrices: dict[str, Any]) -> bool:
    """Whether the adapter is an A and a B for each of some linear layers, and nothing else."""
    from peft.tuners.lora import Linear

    config, head = policy.config, policy.get_base_model().get_output_embeddings()
    return (
        all(type(layer) is Linear and not layer.fan_in_fan_out for layer in layers.values())
        and matrices.keys() == {key for name in layers for key in _keys(name)}
        and not (config.tie_word_embeddings and head in layers.values())
        and getattr(config, "quantization_config", None) is None
    )


def _tensor_files(base: str) -> dict[str, str]:
    """Which of the base's safetensors files holds a tensor; a Hub id is downloaded first."""
    from safetensors import safe_open
    from transformers.utils.hub import cached_file, get_checkpoint_shard_files

    whole = cached_file(base, "model.safetensors", _raise_exceptions_for_missing_entries=False)
    files = [whole]
    if whole is None:
        index = cached_file(base, "model.safetensors.index.json")
        files, _ = get_checkpoint_shard_files(base, index)
    places: dict[str, str] = {}
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            places |= dict.fromkeys(tensors.keys(), file)
    return places


def _merge_by_file(deltas: dict[str, Any], places: dict[str, str], to: Path) -> None:
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors import safe_open
    from safetensors.torch import save_file

    def read(name: str) -> Any:
        with safe_open(places[name], framework="pt") as file:
            return file.get_tensor(name)  # mapped: its bytes are read when they are used

    # 1. Which tensors go into one file.
    plan = split_torch_state_dict_into_shards(
        {name: read(name).to("meta") for name in places},
        filename_pattern="model{suffix}.safetensors", max_shard_size=SHARD,
    )  # fmt: skip
    for file, names in plan.filename_to_tensors.items():
        tensors = {}
        for name in names:
            tensors[name] = weight = read(name)
            # 2. W + scaling * B @ A, in float32 and rounded where PEFT rounds.
            if name in deltas:
                a, b, scaling = deltas[name]
                tensors[name] = weight + (b.float() @ a.float() * scaling).to(weight.dtype)
                if not tensors[name].isfinite().all():
                    raise ValueError(
                        f"the merged {name} holds NaN or infinity: the adapter or the base is"
                        f" damaged, or the sum overflows {weight.dtype}"
                    )
        # 3. Written, and out of memory before the next file.
        save_file(tensors, to / file, metadata={"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        text = json.dumps(index, indent=2) + "\n"
        (to / "model.safetensors.index.json").write_text(text, "utf-8")


def _merge_whole(adapter: Path, *, base: str, to: Path, needed: int) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    _check_fits(needed)
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype="auto", device_map="cpu", use_safetensors=True, trust_remote_code=False
    )
    merged = PeftModel.from_pretrained(model, str(adapter), torch_device="cpu")
    merged.merge_and_unload(safe_merge=True).save_pretrained(to)


def _check_fits(needed: int) -> None:
    free = free_bytes("cpu")
    print(f"export: merging needs {needed / GIB:.1f} GiB of memory; {free / GIB:.1f} GiB are free")
    if needed > free:
        raise MemoryError(
            f"Merging needs {needed / GIB:.1f} GiB of memory, but {free / GIB:.1f} GiB are free. "
            "Close other notebooks and programs, or export on a machine with more memory."
        )
