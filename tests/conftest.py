"""What every test run shares: no network, no learner's runs, no screen, and the GPU's skip."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

# Before any test module imports a library that reads them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["UNSLOTH_DISABLE_STATISTICS"] = "1"
os.environ["MPLBACKEND"] = "Agg"

GPU_TESTS = Path(__file__).parent / "gpu"


@pytest.fixture(autouse=True)
def _own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runs folder of the test's own, and no profile or seed from the person's shell."""
    monkeypatch.setenv("POSTLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("POSTLAB_PROFILE", raising=False)
    monkeypatch.delenv("POSTLAB_SEED", raising=False)


@pytest.fixture
def read_only() -> Iterator[Callable[[Path], None]]:
    """Close a folder to writing: by a mount for root, whom permissions do not stop, else by those.

    Skips the test for root without the right to mount.
    """
    undo: list[Callable[[], object]] = []

    def mount(*arguments: object) -> None:
        if subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode:
            pytest.skip("root without the right to mount has no read-only folder")

    def close(folder: Path) -> None:
        if os.geteuid() == 0:
            mount("--bind", folder, folder)
            undo.append(partial(subprocess.run, ["umount", str(folder)], check=True))
            mount("-o", "remount,ro,bind", folder)
            return
        for place in (folder, *filter(Path.is_dir, folder.rglob("*"))):
            place.chmod(0o555)
            undo.append(partial(place.chmod, 0o755))

    yield close
    for step in undo:
        step()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if shutil.which("nvidia-smi"):
        return
    skip = pytest.mark.skip(reason="no NVIDIA GPU: nvidia-smi is not on PATH")
    for item in items:
        if GPU_TESTS in item.path.parents:
            item.add_marker(skip)
