"""What every test run shares: no network, no learner's runs, no screen, and the GPU's skip."""

from __future__ import annotations

import os
import shutil
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if shutil.which("nvidia-smi"):
        return
    skip = pytest.mark.skip(reason="no NVIDIA GPU: nvidia-smi is not on PATH")
    for item in items:
        if GPU_TESTS in item.path.parents:
            item.add_marker(skip)
