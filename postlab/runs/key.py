"""What made a stage, as data with a hash: config, LoRA, rows, parent weights, code and versions.

`describe(trainer)` reads all of it from the live trainer, so a notebook can't forget a setting.
The code that made the rows, the template or the weights doesn't count: they are hashed themselves.
A part that can't be hashed, such as a streamed dataset, is named, and a run with such a part is
never reused. Left out: the hardware.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from postlab import storage
from postlab.redaction import redact
from postlab.runs.code import ours, own_function, plain, stored_names, trace_code
from postlab.runs.packing import is_packed

PLACES = re.compile(
    r"output_dir|logging_dir|run_name|push_to_hub|hub_|trackio|project|.*_hub_token"
)
VOLATILE = re.compile(
    r"report_to|disable_tqdm|log_|logging_|save_|dataset_num_proc|dataloader_(num_w|pin|pref|pers)|local_rank"
    r"|do_|resume_from|num_completions_to_print|skip_memory|ddp_timeout|restore_callback|enable_jit"
)
PARTS = ("config", "lora", "model", "tokenizer", "data", "parent_weights", "code", "versions")
FUNCTIONS = (
    "rollout_func",
    "compute_loss_func",
    "data_collator",
    "compute_metrics",
    "preprocess_logits_for_metrics",
    "formatting_func",
    "tools",
    "environment_factory",
    "optimizer_cls_and_kwargs",
)
MODELS = ("ref_model", "reward_model", "value_model", "teacher_model")  # beside the trained one
# Callbacks that print, plot or count, and have no effect on training.
BYSTANDERS = (
    "DefaultFlowCallback",
    "PrinterCallback",
    "ProgressCallback",
    "NotebookProgressCallback",
)


def describe(trainer: Any) -> dict[str, Any]:
    """What shapes the stage that `trainer` is about to train, ready for JSON.

    It holds no absolute paths and no secrets, so neither has a part in the key.
    """
    parts = {
        "config": _config(trainer.args),
        "lora": _lora(trainer.model),
        "model": _model(trainer.model),
        "tokenizer": _tokenizer(trainer.processing_class),
        "data": {"train": _rows(trainer.train_dataset), "eval": _rows(trainer.eval_dataset)},
        "code": describe_code(trainer),
        "versions": versions(),
    }
    return redact(parts)


def unreadable(parts: dict[str, Any]) -> list[str]:
    """The parts of a description that couldn't be hashed, as 'where (type)'.

    They may have changed without any sign of it.
    """
    streams = [
        f"{name} rows ({rows['stream']})"
        for name, rows in (parts.get("data") or {}).items()
        if rows and rows.get("stream")
    ]
    return streams + list((parts.get("code") or {}).get("unreadable", []))


def digest(parts: Any) -> str:
    """SHA-256 of the parts that shape the result, which excludes logging and saving settings.

    Args:
        parts: anything that JSON can hold, such as the description in a run's manifest.
    Returns:
        64 hexadecimal digits.
    """
    parts = _keyed(parts) if isinstance(parts, dict) else parts
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Name what differs between two descriptions, with the values if they are short.

    >>> changes({"config": {"seed": 0}}, {"config": {"seed": 1}})
    ['config.seed (0 → 1)']
    """
    # A manifest of an earlier version may hold secrets.
    before, after = (dict(_leaves(redact(_keyed(parts)))) for parts in (old, new))
    named = []
    for name in sorted(before.keys() | after.keys()):
        a, b = before.get(name), after.get(name)
        if a != b:
            short = all(len(str(value)) <= 24 for value in (a, b))
            named.append(f"{name} ({a} → {b})" if short else name)
    return named


def versions() -> dict[str, str | None]:
    """Versions of the training libraries; unsloth only if it is loaded, since it patches them."""
    names = ["torch", "transformers", "trl", "peft"] + ["unsloth"] * ("unsloth" in sys.modules)
    installed: dict[str, str | None] = {}
    for name in names:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = None
    return installed


def _config(args: Any) -> dict[str, Any]:
    config = args.to_dict()
    for name in config:
        if name.endswith("_token"):  # to_dict masks eos_token too; `redact` takes out the secrets
            config[name] = getattr(args, name)
    config["world_size"] = args.world_size
    return {name: plain(value) for name, value in config.items() if not PLACES.match(name)}


def _keyed(parts: dict[str, Any]) -> dict[str, Any]:
    # A damaged manifest may hold anything here: it is compared as it is.
    keyed = {k: v for k, v in parts.items() if isinstance(v, dict)}
    rest = {k: v for k, v in parts.items() if k not in keyed}
    if keyed.get("config"):  # a folder that was evaluated but never trained here has none
        keyed["config"] = {k: v for k, v in keyed["config"].items() if not VOLATILE.match(k)}
    if (keyed.get("model") or {}).get("weights"):  # the contents count, not the folder's name
        keyed["model"] = {k: v for k, v in keyed["model"].items() if k != "base"}
    if keyed.get("versions"):  # suffixes such as "+cpu" name a build, and hardware is left out
        keyed["versions"] = {
            k: v.partition("+")[0] if isinstance(v, str) else v
            for k, v in keyed["versions"].items()
        }
    return keyed | rest


def _lora(model: Any) -> dict[str, Any] | None:
    configs = getattr(model, "peft_config", None)
    if not configs:
        return None
    lora = configs.get("default", next(iter(configs.values()))).to_dict()
    hidden = {
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "auto_mapping",
        "peft_version",
    }
    return {name: plain(value) for name, value in lora.items() if name not in hidden}


def _model(model: Any) -> dict[str, Any]:
    config = model.config
    name = getattr(config, "_name_or_path", "") or ""
    quantization = getattr(config, "quantization_config", None)
    return (
        {
            "base": plain(name) if Path(name).is_dir() else name,
            "revision": getattr(config, "_commit_hash", None),
            "weights": storage.weights_hash(Path(name)) if name and Path(name).is_dir() else None,
            "dtype": str(getattr(config, "dtype", None)),
            "quantization": plain(quantization) if quantization else None,
            "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        }
        | ({"without_padding": True} if is_packed(model) else {})
        | _architecture(config, name)
    )


def _architecture(config: Any, name: str) -> dict[str, Any]:
    """The settings of a model that no folder or Hub id describes."""
    return {} if name or not hasattr(config, "to_dict") else {"config": plain(config.to_dict())}


def _tokenizer(tokenizer: Any) -> dict[str, Any]:
    described = {"template": getattr(tokenizer, "chat_template", None), "size": len(tokenizer)}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        state = json.loads(backend.to_str())
        # a call with padding or truncation changes the tokenizer's state
        described["state"] = {k: v for k, v in state.items() if k not in ("padding", "truncation")}
    text = json.dumps(described, sort_keys=True, default=str)
    return {
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "eos": plain(tokenizer.eos_token),
        "pad": plain(tokenizer.pad_token),
    }


def _rows(dataset: Any) -> Any:
    if dataset is None:
        return None
    if isinstance(dataset, dict):
        return {str(name): _rows(rows) for name, rows in dataset.items()}
    if not hasattr(dataset, "__len__"):  # a stream has no contents to hash until it is read
        return {"rows": None, "sha256": None, "stream": type(dataset).__name__}
    sha = hashlib.sha256()
    for row in _each(dataset):
        # reference log-probs are results, not data: their last digits differ between machines
        content = {name: value for name, value in row.items() if not name.startswith("ref_")}
        sha.update(json.dumps(content, sort_keys=True, default=_content).encode() + b"\n")
    described = {"rows": len(dataset), "sha256": sha.hexdigest()}
    if getattr(dataset, "_format_type", None) == "custom":  # a function changes rows when read
        described["transform"] = trace_code(dataset._format_kwargs).sha256[:16]
    return described


def _content(value: Any) -> Any:
    """A value of a row that is no text or number, such as an image."""
    described = plain(value)
    return trace_code(value).sha256 if described == type(value).__qualname__ else described


def _each(dataset: Any) -> Iterable[dict[str, Any]]:
    if not hasattr(dataset, "with_format"):
        return (dataset[index] for index in range(len(dataset)))
    batches = dataset.with_format(None).iter(batch_size=1000)
    return (
        dict(zip(batch, values, strict=True))
        for batch in batches
        for values in zip(*batch.values(), strict=True)
    )


def describe_code(trainer: Any) -> dict[str, Any]:
    """{an object the trainer was given: hash of its code and of everything that code reaches}."""
    known = {id(trainer): "the trainer", id(getattr(trainer, "model", None)): "the model"}
    known[id(getattr(trainer, "processing_class", None))] = "the tokenizer"
    parts: dict[str, Any] = {"trainer_source": type(trainer)}
    for index, reward in enumerate(getattr(trainer, "reward_funcs", None) or []):
        name = getattr(reward, "__name__", type(reward).__name__)
        parts[f"reward {name}" if f"reward {name}" not in parts else f"reward {name} {index}"] = (
            reward
        )
    for name in FUNCTIONS:
        if getattr(trainer, name, None) is not None:
            parts[name] = getattr(trainer, name)
    for callback in trainer.callback_handler.callbacks:
        kind = type(callback)
        bystander = kind.__name__ in BYSTANDERS or ".integrations" in kind.__module__
        if (ours(kind) or not bystander) and not getattr(kind, "watches_only", False):
            # A library's callback holds parts of the trainer; its own settings are plain values.
            parts[f"callback {kind.__name__}"] = callback if ours(kind) else _settings(callback)
    for name in MODELS:
        if getattr(trainer, name, None) is not None:
            parts[name] = getattr(trainer, name)
    if getattr(trainer, "tools", None):
        parts["tools as told"] = [_told(tool) for tool in trainer.tools]
    parts |= _own_settings(trainer) | _patches(trainer) | _optimizer(trainer)
    code: dict[str, Any] = {"trainer": type(trainer).__name__}
    hidden: list[str] = []
    for name, thing in parts.items():
        read = trace_code(thing, name, known=known)
        code[name] = read.sha256[:16]
        hidden += read.unreadable
    return code | ({"unreadable": hidden} if hidden else {})


def _settings(thing: Any) -> tuple[str, str, dict[str, Any]]:
    values = {
        n: v for n, v in sorted(vars(thing).items()) if isinstance(v, bool | int | float | str)
    }
    return type(thing).__module__, type(thing).__qualname__, values


def _told(tool: Any) -> list[Any]:
    """What stands in the prompt of a tool: here a docstring and type hints do count."""
    hints = getattr(tool, "__annotations__", None) or {}
    return [inspect.getdoc(tool), {name: str(hint) for name, hint in hints.items()}]


def _patches(trainer: Any) -> dict[str, Any]:
    """Methods that one put into this one trainer, as in `trainer.compute_loss = mine`."""
    values = {n: v for n, v in sorted(vars(trainer).items()) if n not in FUNCTIONS}
    return {
        f"trainer.{name}": value
        for name, value in values.items()
        if own_function(getattr(value, "__func__", value))
    }


def _own_settings(trainer: Any) -> dict[str, Any]:
    """The arguments that a trainer class of your own stores, such as a weight in its loss."""
    names: set[str] = set()
    for kind in type(trainer).__mro__:
        if ours(kind):
            names |= stored_names(kind)
    values = vars(trainer)
    return {f"trainer.{name}": values[name] for name in sorted(names & values.keys())}


def _optimizer(trainer: Any) -> dict[str, Any]:
    """The optimizer or schedule that the trainer was given; without one it creates its own."""
    if not hasattr(trainer, "_postlab_optimizer"):
        optimizer, schedule = (
            getattr(trainer, name, None) for name in ("optimizer", "lr_scheduler")
        )
        described: dict[str, Any] = {}
        if optimizer is not None:
            groups = [
                g | {"params": [tuple(getattr(p, "shape", ())) for p in g["params"]]}
                for g in optimizer.param_groups
            ]
            described["optimizer"] = [type(optimizer), groups]
        if schedule is not None:
            state = {k: v for k, v in vars(schedule).items() if k != "optimizer"}
            described["lr_scheduler"] = [type(schedule), state]
        with suppress(AttributeError):  # a test's stand-in with fixed attributes
            trainer._postlab_optimizer = described
        return described
    return trainer._postlab_optimizer


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value
