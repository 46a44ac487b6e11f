"""The weights a stage leaves behind: out to a folder, and back into a model with none missing.

Left out: merging adapters (`postlab.models.export`) and adapters other than the one that trains.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

ADAPTER = "default"  # the adapter that trains; TRL and postlab give others other names


def save_weights(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the trained adapter, or the full model, as safetensors, with the tokenizer."""
    if hasattr(model, "peft_config"):
        model.save_pretrained(str(folder), selected_adapters=[ADAPTER])
    else:
        model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's card names the base by its local path


def load_weights(model: Any, folder: Path) -> None:
    """Put saved weights into `model` in place; every saved tensor must fit, none may be missing.

    Raises:
        ValueError: if names or shapes differ: the model was built with other settings.
    """
    from safetensors.torch import load_file

    saved: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        saved |= load_file(file)
    if hasattr(model, "peft_config"):
        from peft import get_peft_model_state_dict, set_peft_model_state_dict

        # "auto" would ask the Hub whether the vocabulary changed
        expected = get_peft_model_state_dict(
            model, adapter_name=ADAPTER, save_embedding_layers=False
        )
        _check_fit(saved, expected, folder)
        set_peft_model_state_dict(model, saved, adapter_name=ADAPTER)
        return
    expected = model.state_dict()
    present = {expected[name].data_ptr() for name in saved if name in expected}
    tied = {name for name, value in expected.items() if value.data_ptr() in present}
    _check_fit(saved, {k: v for k, v in expected.items() if k in saved or k not in tied}, folder)
    model.load_state_dict(saved, strict=False)


def check_trainable(model: Any) -> None:
    """See that the adapter that is saved can learn: PEFT loads one frozen unless told otherwise.

    Such a training ends without an error where gradient checkpointing, or another adapter, keeps
    the loss differentiable. It changes nothing that is saved.

    Raises:
        ValueError: if nothing of the adapter, or without one of the model, is trainable.
    """
    adapter = hasattr(model, "peft_config")
    learns = [name for name, p in model.named_parameters() if p.requires_grad]
    if adapter:
        learns = [name for name in learns if ADAPTER in name.split(".")]
    if not learns:
        what = f"The adapter {ADAPTER!r}" if adapter else "The model"
        raise ValueError(
            f"{what} has no trainable parameter, so training would change nothing; expected an "
            f"adapter that learns. Load it with FastLanguageModel.from_pretrained(folder), or with "
            f"PeftModel.from_pretrained(model, folder, is_trainable=True)."
        )


def finite(model: Any) -> bool:
    """True if every trainable weight is a finite number."""
    return all(bool(p.isfinite().all()) for p in model.parameters() if p.requires_grad)


def bytes_needed(model: Any) -> int:
    """About what a checkpoint takes: the trainable weights and two fp32 moments of each."""
    trained = (p for p in model.parameters() if p.requires_grad)
    return sum(p.numel() * (p.element_size() + 8) for p in trained)


def least_bytes(model: Any, args: Any) -> tuple[int, int]:
    """The least that the final model and one checkpoint take, in bytes; 0 if none is saved.

    Optimizers other than Adam, and those of 8 bits, may keep less than two fp32 moments: theirs
    are not counted.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    final = sum(p.numel() * p.element_size() for p in trained)
    if args.save_strategy == "no":
        return final, 0
    optimizer = str(args.optim).lower()
    moments = 8 if "adamw" in optimizer and "bit" not in optimizer else 0
    return final, final + moments * sum(p.numel() for p in trained)


def _check_fit(saved: dict[str, Any], expected: dict[str, Any], folder: Path) -> None:
    odd = sorted(saved.keys() ^ expected.keys())
    odd += [n for n in saved if n in expected and saved[n].shape != expected[n].shape]
    if odd:
        raise ValueError(
            f"The weights in {folder.parent.name}/{folder.name} do not fit this model: {len(odd)} "
            f"tensors differ, the first is {odd[0]}. Build the model with the settings in that "
            f"run's manifest.json."
        )
