"""A model folder's configuration, written so that servers on transformers 4 read it as well.

transformers 5 saves a tokenizer class, a list of special tokens and rotary settings under names
that transformers 4 doesn't know. vLLM and other servers that still run on it stop with an error,
or, for a base of the rotary embedding other than 10,000, answer nonsense without one.
"""

import json
from pathlib import Path
from typing import Any

from postlab.chat import end_of_turn_id

# What transformers 5 writes for tokenizers that have no class of their own.
TRANSFORMERS_5_ONLY = ("TokenizersBackend", "SentencePieceBackend", "PythonBackend")
FAST = "PreTrainedTokenizerFast"  # transformers 5 knows it as another name of TokenizersBackend


def make_servable(folder: Path, tokenizer: Any) -> None:
    """Rewrite the configurations in a folder, for transformers 4 and for stopping at a turn's end.

    The tokenizer's ids and the weights stay the same. An adapter folder has only a tokenizer.

    Args:
        folder: with tokenizer_config.json, and config.json if it holds a whole model.
        tokenizer: the one that was saved there.
    """
    config = _read(folder / "config.json")
    own = _read(folder / "tokenizer_config.json")
    if own.get("tokenizer_class") in TRANSFORMERS_5_ONLY:
        own["tokenizer_class"] = FAST
    if isinstance(own.get("extra_special_tokens"), list):  # transformers 4 expects a mapping
        own["additional_special_tokens"] = own.pop("extra_special_tokens")
    for private in ("backend", "is_local", "local_files_only"):
        own.pop(private, None)
    if limit := config.get("max_position_embeddings"):  # not what rows were cut to in training
        own["model_max_length"] = limit
    _write(folder / "tokenizer_config.json", own)
    if not config:
        return
    rope = dict(config.get("rope_parameters") or {})
    if "rope_theta" in rope:
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = None if rope.get("rope_type", "default") == "default" else rope
    if "dtype" in config:
        config["torch_dtype"] = config["dtype"]
    _write(folder / "config.json", config)
    generation = _read(folder / "generation_config.json")
    ends = [end_of_turn_id(tokenizer)] if tokenizer.chat_template else []
    before = generation.get("eos_token_id", config.get("eos_token_id"))
    ends += before if isinstance(before, list) else [before]
    unique = [end for end in dict.fromkeys(ends) if end is not None]
    if unique:
        generation["eos_token_id"] = unique[0] if len(unique) == 1 else unique
    generation.pop("_from_model_config", None)
    _write(folder / "generation_config.json", generation)


def halve(folder: Path) -> None:
    """Round a model folder's 32-bit weights to 16: to float16 if all fit, else to bfloat16."""
    import torch
    from safetensors.torch import load_file, save_file

    files, largest = sorted(folder.glob("*.safetensors")), 0.0
    for file in files:
        wide = [t for t in load_file(file).values() if t.dtype == torch.float32]
        largest = max([largest, *(float(t.abs().max()) for t in wide)])
    half = torch.float16 if largest < torch.finfo(torch.float16).max else torch.bfloat16
    for file in files if largest else ():
        tensors = load_file(file)
        narrow = {n: t.to(half) if t.dtype == torch.float32 else t for n, t in tensors.items()}
        save_file(narrow, file, metadata={"format": "pt"})
        file.chmod(0o644)  # servers run as another user
    if largest:
        name = str(half).removeprefix("torch.")
        config = _read(folder / "config.json") | {"dtype": name, "torch_dtype": name}
        _write(folder / "config.json", config)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")
