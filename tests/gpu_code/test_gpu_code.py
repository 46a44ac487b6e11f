"""Unsloth's GPU code beside TRL, PEFT and transformers, as far as a CPU can take it.

Two processes run the same stages of the embedded base: `side.py trl` and `side.py unsloth`. What a
CPU cannot show stays unknown: 4-bit and 16-bit arithmetic, compiled kernels, torch.compile,
offloaded checkpoints, vLLM, memory, speed.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from differences import ABSENT, CONFIGURATIONS, KERNELS
from safetensors.numpy import load_file

HERE = Path(__file__).parent
TRITON = Path(sys.prefix) / "share" / "gpu-code"
ROUNDING = 1e-5  # float32, values of order 1
SUMS = 5e-5  # and of order 100: log-probs of whole completions
pytestmark = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="Triton, which Unsloth's kernels need, is installed on Linux and x86-64 only; this is "
    f"{platform.system()} on {platform.machine()}",
)


@dataclass(frozen=True)
class Side:
    report: dict[str, Any]
    tensors: dict[str, np.ndarray]

    def part(self, name: str) -> Any:
        self.check(name)
        return self.report[name]

    def __getitem__(self, name: str) -> np.ndarray:
        self.check("policies", name.split("/")[0])
        return self.tensors[name]

    def check(self, *parts: str) -> None:
        for failed, trace in self.report["failed"].items():
            if failed in ("trainers", "stubs", *parts):
                pytest.fail(f"`{failed}` raised in its own process, unmeasured:\n{trace}")


@pytest.fixture(scope="session")
def sides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Side]:
    if importlib.util.find_spec("triton") is None and not TRITON.is_dir():
        pytest.fail(f"Triton is not in {TRITON}, where `make gpu-code` puts it; run that.")
    return run_sides(tmp_path_factory.mktemp("gpu_code"))


def run_sides(folder: Path) -> dict[str, Side]:
    """Both processes, at the same time."""
    running = {}
    try:
        for name in ("trl", "unsloth"):
            (folder / name).mkdir()
            command = [sys.executable, str(HERE / "side.py"), name, str(folder / name)]
            with (folder / name / "log").open("w") as log:
                running[name] = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder / name)
        return {name: finished(name, process, folder / name) for name, process in running.items()}
    finally:
        for process in running.values():
            process.kill()


def finished(name: str, process: subprocess.Popen, folder: Path) -> Side:
    status = process.wait(timeout=800)
    if status:
        tail = "\n".join((folder / "log").read_text(errors="replace").splitlines()[-25:])
        pytest.fail(f"`side.py {name}` ended with status {status}; it should end with 0:\n{tail}")
    report = json.loads((folder / "measured.json").read_text())
    return Side(report, load_file(folder / "tensors.safetensors"))


@pytest.fixture
def trl(sides: dict[str, Side]) -> Side:
    return sides["trl"]


@pytest.fixture
def unsloth(sides: dict[str, Side]) -> Side:
    return sides["unsloth"]


# --- the configurations ---------------------------------------------------------------------------


@pytest.mark.parametrize("stage", CONFIGURATIONS)
def test_the_configurations_differ_in_what_is_listed_and_nothing_else(
    sides: dict[str, Side], stage: str
):
    theirs, ours = (sides[name].part("configurations")[stage] for name in ("trl", "unsloth"))
    values = {name: (theirs.get(name, ABSENT), ours.get(name, ABSENT)) for name in theirs | ours}
    assert {k: v for k, v in values.items() if v[0] != v[1]} == CONFIGURATIONS[stage]


def test_every_configuration_is_listed(sides: dict[str, Side]):
    for side in sides.values():
        assert set(side.part("configurations")) == set(CONFIGURATIONS)


# --- forward and backward -------------------------------------------------------------------------

TRAINED = ["labels, padded right", "no labels, padded left"]


@pytest.mark.parametrize(
    "case",
    [*(f"plain {batch}" for batch in (*TRAINED, "no labels, padded right")),
     *(f"fused {batch}" for batch in TRAINED)],
)  # fmt: skip
def test_loss_and_gradients_are_those_of_transformers_and_peft(trl: Side, unsloth: Side, case: str):
    """`fused`: with the hand-written LoRA layers, and every kernel through the interpreter."""
    for figure in ("loss", "gradient"):
        theirs = trl[f"{case.replace('fused', 'plain')}/{figure}"]
        assert gap(theirs, unsloth[f"{case}/{figure}"]) <= ROUNDING and largest(theirs) > 1e-3


def test_with_labels_unsloth_attends_to_padding_on_the_left(trl: Side, unsloth: Side):
    """It drops the mask, as causal attention never reaches padding on the right, where SFT pads."""
    name = "plain labels, padded left/loss"
    assert gap(trl[name], unsloth[name]) > 1e-3
    assert gap(trl[name], trl["plain labels, padded right/loss"]) <= ROUNDING


@pytest.mark.parametrize(
    "kernel", ["rms_norm", "swiglu", "swiglu_backward", "rope", "cross_entropy"]
)
def test_the_triton_kernels_compute_what_torch_does(unsloth: Side, kernel: str):
    for figure, error in unsloth.part("kernels")[kernel].items():
        assert error <= ROUNDING, figure


def test_the_fused_policy_runs_these_kernels(unsloth: Side):
    assert set(unsloth.part("launched")) == KERNELS


# --- the trainers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sft", "dpo", "grpo"])
def test_a_step_has_the_loss_and_the_gradients_of_trl(trl: Side, unsloth: Side, method: str):
    for figure in ("loss", "gradient"):
        theirs, ours = trl[f"{method}/{figure}"], unsloth[f"{method}/{figure}"]
        assert gap(theirs, ours) <= ROUNDING
    assert largest(trl[f"{method}/gradient"]) > 1e-3


def test_unsloth_trains_sft_on_batches_without_padding(trl: Side, unsloth: Side):
    assert (trl["sft/padding_free"], unsloth["sft/padding_free"]) == (0, 1)


def test_dpo_keeps_a_copy_of_the_starting_adapter_as_its_reference(trl: Side, unsloth: Side):
    for side in (trl, unsloth):
        assert side["dpo/has_ref"] == 1
        assert gap(side["dpo/reference"], side["dpo/start"]) <= SUMS
        assert gap(side["dpo/start"], side["dpo/base"]) > 0.1


def test_grpo_with_a_kl_term_refers_to_the_base_under_unsloth_and_to_the_start_under_trl(
    trl: Side, unsloth: Side
):
    assert (trl["grpo_with_kl/has_ref"], unsloth["grpo_with_kl/has_ref"]) == (1, 0)
    assert gap(trl["grpo_with_kl/reference"], trl["grpo_with_kl/start"]) <= SUMS
    assert gap(unsloth["grpo_with_kl/reference"], unsloth["grpo_with_kl/base"]) <= SUMS
    assert gap(trl["grpo_with_kl/start"], trl["grpo_with_kl/base"]) > 0.1


def gap(theirs: np.ndarray, ours: np.ndarray) -> float:
    return float(np.abs(theirs - ours).max())


def largest(values: np.ndarray) -> float:
    return float(np.abs(values).max())


def table(sides: dict[str, Side]) -> Iterator[str]:
    """What was measured, as markdown."""
    yield "| Unsloth's GPU code, float32 | beside | max abs error value | max abs error gradient |"
    yield "|---|---|---|---|"
    for kernel, errors in sides["unsloth"].part("kernels").items():
        gradient = f"{errors['gradient']:.1e}" if "gradient" in errors else ""
        yield f"| kernel {kernel} | torch | {errors['value']:.1e} | {gradient} |"
    for name in sides["unsloth"].tensors:
        if name.endswith("/loss"):
            case = name.removesuffix("/loss")
            pairs = [
                (sides["trl"][f"{case.replace('fused', 'plain')}/{figure}"],
                 sides["unsloth"][f"{case}/{figure}"])
                for figure in ("loss", "gradient")
            ]  # fmt: skip
            errors = " | ".join(f"{gap(*pair):.1e}" for pair in pairs)
            yield f"| {case} | transformers, PEFT, TRL | {errors} |"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(*table(run_sides(Path(scratch))), sep="\n")
