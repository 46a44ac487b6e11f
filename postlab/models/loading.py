"""Policies without Unsloth: loaded for evaluation, judging and own notebooks, and exported.

`load_policy` reads a base or an adapter folder with plain transformers and PEFT: safetensors
only, and no code from a model folder is run. `export` merges an adapter into its base and measures,
on the folder that it wrote, what the merge changed.

What this leaves out: training (Unsloth's `FastLanguageModel` loads models for that, in the
notebooks) and several GPUs.
"""

import math
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from postlab.models import merging
from postlab.models.bases import (
    check_weights,
    repair_adapter,
    resolve_base,
)
from postlab.models.serving import make_servable
from postlab.profile import Profile, get_profile

QUANTIZED_SUFFIX = re.compile(r"(-unsloth)?-bnb-4bit$")  # of Unsloth's ready-made 4-bit weights
PROBES = (
    "What is 12 + 30 + 15?",
    "Sort 7, 3, 9, 1.",
    "How do I make tea?",
    "Tell me about the sea in one sentence.",
)


@dataclass(frozen=True)
class ExportReport:
    """What a merge changed, measured on the folder that was written.

    Args:
        folder: the merged model and its tokenizer.
        base: the base that the adapter was merged into.
        bits: of the base that the adapter was trained on, which is what the merge is compared with.
        largest_logit_difference: over all positions of the prompts and their answers before; NaN
            if nothing was measured.
        prompts: how many prompts were answered before and after; 0 if there was no memory for it.
        changed: (prompt, answer before, answer after) for each greedy answer that changed.
    """

    folder: Path
    base: str
    bits: int
    largest_logit_difference: float
    prompts: int
    changed: tuple[tuple[str, str, str], ...]


def load_policy(
    name_or_path: str | Path, *, profile: Profile | str, bits: int | None = None
) -> tuple[Any, Any]:
    """Load a base or an adapter folder for answering: in evaluation mode, with nothing to train.

    Args:
        name_or_path: an adapter folder, a model folder, a Hub id, "" or "smol".
        profile: says where the model runs, and its precision.
        bits: 4 quantizes to NF4, 16 and 32 do not; None does as the profile does.
    Returns:
        The model (a PeftModel for an adapter folder) and its tokenizer, padding on the left.
    Raises:
        CorruptWeights: if weights are missing or damaged; names the file.
        ValueError: if there is no such model, or the adapter's base is not on this machine.
    """
    from transformers import AutoModelForCausalLM

    profile = get_profile(profile) if isinstance(profile, str) else profile
    if bits not in (None, 4, 16, 32):
        raise ValueError(f"bits={bits!r}; expected 4, 16, 32, or None for the profile's")
    bits = bits or _profile_bits(profile)
    adapter = Path(name_or_path)
    is_adapter = (adapter / "adapter_config.json").is_file()
    base = repair_adapter(adapter) if is_adapter else resolve_base(str(name_or_path))
    base = base if bits == 4 else unquantized(base)
    if Path(base).is_dir():
        check_weights(base)
    how = _how(base, profile, bits)
    model: Any = AutoModelForCausalLM.from_pretrained(base, **how)  # a PeftModel below, perhaps
    for module in model.modules():  # ready-made 4-bit weights ask for bfloat16: a T4 emulates it
        if hasattr(module, "compute_dtype"):
            module.compute_dtype = how["dtype"]
    if is_adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter), is_trainable=False)
    return model.eval().requires_grad_(False), _tokenizer(adapter, base)


def load_gguf(path: str | Path, *, profile: Profile | str) -> Any:
    """Load a GGUF file through transformers, which turns its weights back into floats.

    That is a reader of its own beside llama.cpp: it shows what rounding the weights does, and not
    what llama.cpp's arithmetic does. It needs as much memory as the model in 16 bits.

    Returns:
        The model, in evaluation mode. Its tokenizer is that of the folder the file was made from.
    """
    from transformers import AutoModelForCausalLM, GgufConfig
    from transformers import modeling_gguf_pytorch_utils as gguf_reader

    profile = get_profile(profile) if isinstance(profile, str) else profile
    bits = 32 if profile.dtype == "float32" else 16
    how = {k: v for k, v in _how("", profile, bits).items() if k != "use_safetensors"}
    shown = gguf_reader.tqdm
    gguf_reader.tqdm = partial(shown, disable=True)  # its bar knows no setting
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            Path(path).parent, gguf_file=Path(path).name,
            quantization_config=GgufConfig(dequantize=True), **how,
        )  # fmt: skip
    finally:
        gguf_reader.tqdm = shown
    return model.eval().requires_grad_(False)


def _tokenizer(adapter: Path, base: str) -> Any:
    """The adapter folder's own tokenizer where it has one, else the base's; it pads on the left."""
    from transformers import AutoTokenizer

    own = all((adapter / f"{kind}_config.json").is_file() for kind in ("adapter", "tokenizer"))
    place = str(adapter) if own else base
    tokenizer = AutoTokenizer.from_pretrained(place, padding_side="left", trust_remote_code=False)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


def trainable(policy: Any) -> Any:
    """The same policy of `load_policy`, its LoRA adapter trainable: for a loop of one's own.

    Args:
        policy: an adapter, as `load_policy` returns it.
    Returns:
        The same model, in the mode it was in; only its adapter gets gradients.
    """
    policy.peft_config["default"].inference_mode = False
    for name, parameter in policy.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return policy


def lora_config(profile: Profile) -> Any:
    """A profile's new adapter as PEFT's LoraConfig; its `lora` holds the arguments of Unsloth's."""
    from peft import LoraConfig

    lora = {k: v for k, v in profile.lora.items() if k != "use_gradient_checkpointing"}
    return LoraConfig(task_type="CAUSAL_LM", **lora)


def _profile_bits(profile: Profile) -> int:
    return 4 if profile.load_in_4bit else 32 if profile.dtype == "float32" else 16


def unquantized(base: str) -> str:
    """The Hub id of the 16-bit weights that Unsloth's ready-made 4-bit ones came from.

    >>> unquantized("unsloth/mistral-7b-v0.3-bnb-4bit")
    'unsloth/mistral-7b-v0.3'
    """
    return base if Path(base).is_dir() else QUANTIZED_SUFFIX.sub("", base)


def _how(base: str, profile: Profile, bits: int) -> dict[str, Any]:
    """Arguments of transformers' from_pretrained."""
    import torch

    on_gpu = profile.device != "cpu" and torch.cuda.is_available()
    emulated = on_gpu and not torch.cuda.is_bf16_supported(including_emulation=False)
    half = torch.float16 if emulated else torch.bfloat16
    dtype = torch.float32 if bits == 32 or profile.dtype == "float32" and bits == 4 else half
    how: dict[str, Any] = dict(
        dtype=dtype, device_map="cuda:0" if on_gpu else "cpu", use_safetensors=True,
        trust_remote_code=False,
    )  # fmt: skip
    if bits == 4 and not QUANTIZED_SUFFIX.search(base):  # those bring their own configuration
        from transformers import BitsAndBytesConfig

        how["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )  # fmt: skip
    return how


def float32_adapters(model: Any) -> Any:
    """Let the adapters of a 4-bit model train in float32 on a CPU; call it before making a trainer.

    TRL's trainers round the adapters of a model that says `is_loaded_in_4bit` to bfloat16. Unsloth
    takes that line out on GPUs only. With 8 bits and no autocast small updates are lost, and DPO
    starts off its reference. So the PEFT wrapper no longer says so; the base below it still does.

    Args:
        model: a PEFT model on a quantized base.
    Returns:
        The same model. Nothing is changed on a GPU, or for a base that is not quantized.
    """
    if hasattr(model, "peft_config") and next(model.parameters()).device.type == "cpu":
        model.is_loaded_in_4bit = False
    return model


def export(
    path: str | Path,
    *,
    to: str | Path,
    profile: Profile | str | None = None,
    bits: int | None = None,
    prompts: Sequence[str] = PROBES,
) -> ExportReport:
    """Merge an adapter into its base, reload the result, and measure what changed.

    A merge into 4-bit weights would round the adapter away, so one that was trained on a 4-bit base
    is merged into the base as it was before quantization. That is not what was trained: the report
    says how far logits and greedy answers moved.

    Merging a plain LoRA adapter takes about 2.5 GiB of memory, however large the model is; other
    adapters need the whole base in memory (`merging`). Measuring the change needs the whole model
    in the memory of the profile's device. If it doesn't fit, the folder is still written, and the
    report has `prompts=0` and NaN.

    Args:
        path: the adapter folder.
        to: the new folder; it appears only when it is complete.
        profile: as for `load_policy`; None detects it.
        bits: of the base that the adapter was trained on; None takes the profile's.
        prompts: questions to answer before and after.
    Returns:
        How far logits and greedy answers moved, and on how many prompts that was measured.
    Raises:
        ValueError: if `path` holds no adapter, or `to` exists already.
        CorruptWeights: if weights are damaged.
        MemoryError: if not even the merge would fit; raised before the base's weights are loaded.
    """
    from transformers import AutoModelForCausalLM

    path, to = Path(path), Path(to).absolute()
    if not (path / "adapter_config.json").is_file():
        raise ValueError(f"{path} holds no adapter_config.json: expected an adapter folder")
    if to.exists():
        raise ValueError(f"{to} exists; name a folder that does not, or delete this one")
    profile = profile if isinstance(profile, Profile) else get_profile(profile)
    bits = bits or _profile_bits(profile)

    base = unquantized(repair_adapter(path))
    if not _fits(base, profile, bits):
        _merge(path, base, _tokenizer(path, base), to)
        return ExportReport(to, base, bits, math.nan, 0, ())

    # 1. How what was trained answers.
    policy, tokenizer = load_policy(path, profile=profile, bits=bits)
    questions = [_encode(tokenizer, prompt) for prompt in prompts]
    before = [_greedy(policy, tokenizer, ids) for ids in questions]
    logits = [_logits(policy, ids) for ids in before]
    del policy
    # 2. The merge.
    _merge(path, base, tokenizer, to)
    # 3. How the folder answers, loaded afresh.
    how = _how(base, profile, 16) | {"dtype": "auto"}
    policy = AutoModelForCausalLM.from_pretrained(to, **how).eval()
    after = [_greedy(policy, tokenizer, ids) for ids in questions]
    moved = [_logits(policy, ids) - old for ids, old in zip(before, logits, strict=True)]
    changed = []
    for prompt, ids, *answers in zip(prompts, questions, before, after, strict=True):
        old, new = (tokenizer.decode(a[0, ids.shape[1] :]) for a in answers)
        if old != new:
            changed.append((prompt, old, new))
    largest = max(float(m.abs().max()) for m in moved)
    return ExportReport(to, base, bits, largest, len(questions), tuple(changed))


def _merge(path: Path, base: str, tokenizer: Any, to: Path) -> None:
    """Merge into the base at the precision of its own weights; the folder appears when complete."""
    to.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{to.name}-", dir=to.parent))
    try:
        merging.merge(path, base=base, to=folder)
        tokenizer.save_pretrained(folder)
        make_servable(folder, tokenizer)
        folder.chmod(0o755)  # mkdtemp's folders are private
        folder.rename(to)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    check_weights(to)


def _fits(base: str, profile: Profile, bits: int) -> bool:
    """Whether the policy can be loaded before the merge, and the merged model after it; says so."""
    model = merging.skeleton(base)
    before, after = _how(base, profile, bits), _how(base, profile, 16)
    needed = max(
        merging.model_bytes(model, bits=bits, element=before["dtype"].itemsize),
        merging.model_bytes(model, bits=16, element=model.dtype.itemsize),
    )
    free = merging.free_bytes(after["device_map"])
    where = "memory" if after["device_map"] == "cpu" else "GPU memory"
    print(
        f"export: measuring what the merge changes needs {needed / merging.GIB:.1f} GiB of {where};"
        f" {free / merging.GIB:.1f} GiB are free"
        + ("" if needed <= free else ", so the merge will not be measured")
    )
    return needed <= free


def _encode(tokenizer: Any, prompt: str) -> Any:
    """(1, T) token ids of one question, ready to be answered."""
    messages = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]


def _greedy(model: Any, tokenizer: Any, ids: Any) -> Any:
    """(1, T + at most 32) token ids of the question and its greedy answer."""
    import torch

    ids = ids.to(model.device)
    return model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=32, do_sample=False,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip


def _logits(model: Any, ids: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(input_ids=ids.to(model.device)).logits.float().cpu()
