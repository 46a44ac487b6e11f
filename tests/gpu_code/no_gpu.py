"""Load Unsloth's GPU code in a process that has no GPU, and run it on the CPU.

`UNSLOTH_ALLOW_CPU=1` is the switch of Unsloth's own tests: its GPU files then load without a GPU,
but leave TRL's trainers alone, so `generate_trainers` calls what a GPU would have called. The
kernels run through Triton's interpreter, one Python operation at a time. Only the processes that
tests/gpu_code starts may do any of this, since it changes torch for the whole process.

Left out: streams, memory and clocks of a GPU, torch.compile, 16-bit arithmetic, 4-bit weights.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

# Set-up puts Triton here and not among the packages, where torch and transformers would use it.
TRITON = Path(sys.prefix) / "share" / "gpu-code"
TRAINERS = ("sft_trainer", "dpo_trainer", "grpo_trainer")


def load_unsloth(scratch: Path) -> None:
    """Import Unsloth as on a GPU; what it writes goes to `scratch`."""
    os.environ |= {
        "UNSLOTH_ALLOW_CPU": "1",
        "CUDA_VISIBLE_DEVICES": "",  # the same code path on a machine that has a GPU
        "TRITON_INTERPRET": "1",
        "UNSLOTH_COMPILE_DISABLE": "1",
        "TORCH_COMPILE_DISABLE": "1",
        "UNSLOTH_COMPILE_LOCATION": str(scratch / "generated"),
        "UNSLOTH_DISABLE_STATISTICS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    if TRITON.is_dir():
        sys.path.append(str(TRITON))
    importlib.import_module("unsloth")


def generate_trainers() -> None:
    """Replace TRL's SFT, DPO and GRPO trainers and configs by Unsloth's, as its import would."""
    rl = importlib.import_module("unsloth.models.rl")
    trainer = importlib.import_module("unsloth.trainer")
    os.environ["UNSLOTH_ALLOW_CPU"] = "0"
    rl.PatchRL(importlib.import_module("unsloth.models.llama").FastLlamaModel)
    rl.patch_trl_disable_gradient_checkpointing()
    for name in TRAINERS:
        rl._patch_trl_rl_trainers(name)
    trainer._patch_trl_trainer()


def stand_in_for_cuda() -> None:
    """Answer the questions that Unsloth asks CUDA as a T4 would, and keep every tensor here."""
    import torch
    import triton.language as tl

    card = SimpleNamespace(
        name="Tesla T4", total_memory=15 * 2**30, major=7, minor=5, multi_processor_count=40
    )
    cuda: Any = torch.cuda
    cuda.get_device_properties = lambda *_: card
    cuda.get_device_capability = lambda *_: (card.major, card.minor)
    cuda.current_device = lambda: 0
    cuda.mem_get_info = lambda *_: (card.total_memory, card.total_memory)
    for name in ("empty_cache", "synchronize", "ipc_collect", "reset_peak_memory_stats"):
        setattr(cuda, name, lambda *_: None)
    cuda.Stream = cuda.default_stream = cuda.current_stream = _Stream
    cuda.stream = lambda _: contextlib.nullcontext()
    answers: dict[str, Any] = {
        "torch_gpu_device": lambda *_: contextlib.nullcontext(),
        "device_context": lambda *_: contextlib.nullcontext(),
        "get_current_device": lambda *_: 0,
        "DEVICE_TYPE_TORCH": "cpu",
        "DEVICE_COUNT": 1,
        "get_dataset_num_proc": lambda *_, **__: None,  # no fork: it would wait for our threads
        # Looked up at each call: the interpreter replaces `tl.cast` while a kernel runs.
        "triton_cast": lambda x, dtype: tl.cast(x, dtype),
    }
    for module in _unsloth_modules():
        for name, answer in answers.items():
            if name in vars(module):
                setattr(module, name, answer)
    _on_cpu().__enter__()


def _unsloth_modules() -> list[ModuleType]:
    loaded = [name for name in sys.modules if name.split(".")[0] in ("unsloth", "unsloth_zoo")]
    return [sys.modules[name] for name in loaded if sys.modules[name] is not None]


class _Stream:
    """A CUDA stream's methods and context, which do nothing."""

    cuda_stream = 0

    def __init__(self, *_: object, **__: object) -> None: ...

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: self

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None: ...


def _on_cpu() -> Any:
    """A torch mode in which "cuda" and a card's number both mean the CPU."""
    import torch
    from torch.overrides import TorchFunctionMode

    def here(device: Any) -> Any:
        if isinstance(device, int) and not isinstance(device, bool):
            return "cpu:0"  # with its number, by which Unsloth finds its tables of angles
        named = isinstance(device, str) and device.startswith("cuda")
        typed = isinstance(device, torch.device) and device.type == "cuda"
        return "cpu" if named or typed else device

    class OnCpu(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            kwargs = dict(kwargs or {})
            if "device" in kwargs:
                kwargs["device"] = here(kwargs["device"])
            if getattr(function, "__name__", "") == "to":
                args = (args[0], *map(here, args[1:]))
            if function is torch.device:
                args = tuple(map(here, args))
            return function(*args, **kwargs)

    return OnCpu()


def record_kernels() -> set[str]:
    """The names of the Triton kernels that run from now on."""
    from triton.runtime.interpreter import InterpretedFunction

    launched: set[str] = set()
    run = InterpretedFunction.run

    def recorded(self, *args, **kwargs):
        launched.add(self.fn.__name__)
        return run(self, *args, **kwargs)

    InterpretedFunction.run = recorded
    return launched
