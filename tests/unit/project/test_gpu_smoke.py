"""`make gpu-smoke` on a CPU: its dry run, its budget, and faults that it has to notice."""

from __future__ import annotations

import doctest
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "tests" / "gpu" / "smoke.py"
sys.path.insert(0, str(SCRIPT.parent))

import smoke  # noqa: E402
import smoke_sections as sections  # noqa: E402
from smoke import Outcome, Section, run_all  # noqa: E402

TRAINS = all(importlib.util.find_spec(name) for name in ("torch", "transformers", "trl", "peft"))


def dry_run(folder: Path, *options: str) -> tuple[subprocess.CompletedProcess, dict]:
    command = [sys.executable, str(SCRIPT), "--dry-run", "--record", str(folder), *options]
    command += ["--minutes", "14"]  # seconds on an idle machine
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=880)
    return done, json.loads((folder / "dry-run.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess, dict, str]:
    """One dry run of everything, and verified.json as it was before."""
    if not TRAINS:
        pytest.skip("needs torch, transformers, trl and peft")
    before = (ROOT / "data" / "results" / "verified.json").read_text(encoding="utf-8")
    return *dry_run(tmp_path_factory.mktemp("record")), before


def checks_of(record: dict, section: str) -> dict[str, dict]:
    (one,) = (s for s in record["sections"] if s["name"] == section)
    return {check["name"]: check for check in one["checks"]}


def test_a_dry_run_trains_resumes_and_evaluates(dry: tuple) -> None:
    done, record, before = dry
    assert done.returncode == 0, done.stdout + done.stderr
    assert {s["name"]: s["status"] for s in record["sections"]} == dict.fromkeys(
        ("weights", "sft", "dpo", "grpo", "resume"), "passed"
    )
    for stage in ("sft", "dpo", "grpo"):
        checks = checks_of(record, stage)
        assert {"loss", "gradient", "adapters move", "base stays", "memory", "speed"} <= {*checks}
        assert checks["memory"]["passed"] is None  # a CPU has no such peak
    assert checks_of(record, "sft")["evaluation"]["passed"]
    assert checks_of(record, "grpo")["reward"]["passed"]
    assert {"killed", "checkpoint", "resumed", "loss series", "same adapter"} <= {
        *checks_of(record, "resume")
    }
    losses = next(s for s in record["sections"] if s["name"] == "sft")["measured"]["losses"]
    assert len(losses) == sections.STEPS and all(loss > 0 for loss in losses)
    after = (ROOT / "data" / "results" / "verified.json").read_text(encoding="utf-8")
    assert after == before  # only a GPU is verified


def test_the_record_names_the_versions_but_no_host_and_no_path(dry: tuple) -> None:
    _, record, _ = dry
    expected = {"device", "date", "commit", "versions", "profile", "engine", "bits", "shapes"}
    expected |= {"fallbacks", "passed", "verdict", "seconds", "sections", "tokenizer", "changed"}
    assert set(record) == expected
    assert {"torch", "trl", "unsloth", "bitsandbytes"} <= set(record["versions"])
    assert {"name", "driver", "compute_capability", "gpu"} <= set(record["device"])
    for section in record["sections"]:
        keys = {"name", "status", "checks", "measured", "seconds", "limit_s", "why"}
        assert set(section) == keys
        assert all(set(check) == {"name", "passed", "evidence"} for check in section["checks"])
    text = json.dumps(record)
    for private in (str(ROOT), str(Path.home()), "/tmp", os.uname().nodename):
        assert private not in text or len(private) < 4, private


def test_an_adapter_that_never_moves_fails(dry: tuple, tmp_path: Path) -> None:
    done, record = dry_run(tmp_path, "--only", "sft", "--set", "learning_rate=0.0")
    assert done.returncode == 1
    failed = {name for name, c in checks_of(record, "sft").items() if c["passed"] is False}
    assert failed == {"adapters move"}
    assert record["changed"] == {"learning_rate": 0.0} and not record["passed"]


@pytest.mark.skipif(not TRAINS, reason="needs torch and transformers")
def test_without_trl_a_hand_written_loop_trains(tmp_path: Path) -> None:
    done, record = dry_run(tmp_path, "--without", "trl,peft,unsloth,bitsandbytes")
    assert done.returncode == 0, done.stdout + done.stderr
    statuses = {s["name"]: s["status"] for s in record["sections"]}
    assert statuses == dict.fromkeys(("weights", "sft", "dpo", "grpo"), "passed") | {
        "resume": "not run"
    }
    assert record["engine"] == "loop" and len(record["fallbacks"]) == 2
    assert not record["passed"]  # a section was not run


# --- the checks ----------------------------------------------------------------------------------


def log(losses: list[float], norms: list[float], **more: float) -> list[dict]:
    pairs = enumerate(zip(losses, norms, strict=True), start=1)
    return [{"step": i, "loss": loss, "grad_norm": norm, **more} for i, (loss, norm) in pairs]


def failed(stage: str, entries: list[dict], *, skipped: tuple = (), fp16: bool = True) -> set[str]:
    checks = sections.precision(stage, entries, skipped=list(skipped), fp16=fp16)
    return {name for name, passed, _ in checks if not passed}


GOOD = [2.0, 1.9, 1.8, 1.7, 1.6]
NAN, INF = math.nan, math.inf


def test_precision_passes_a_healthy_run_and_one_whose_scaler_skipped_a_step() -> None:
    assert failed("sft", log(GOOD, GOOD)) == set()
    assert failed("dpo", log(GOOD, [INF, *GOOD[1:]]), skipped=(1,)) == set()
    assert failed("grpo", log([0.0] * 5, GOOD, reward_std=0.2), fp16=False) == set()


@pytest.mark.parametrize(
    ("stage", "losses", "norms", "skipped", "expected"),
    [
        ("sft", [0.0] * 5, GOOD, (), {"loss"}),  # an overflow that a filter turned into zero
        ("sft", [2.0, NAN, 0.0, 0.0, 0.0], [1.0, NAN, NAN, NAN, NAN], (), {"loss", "gradient"}),
        ("sft", GOOD[:4], GOOD[:4], (), {"loss"}),  # a step short
        ("dpo", GOOD, [0.0] * 5, (), {"gradient"}),
        ("dpo", GOOD, [1.0, INF, 1.0, 1.0, 1.0], (1,), {"gradient"}),  # taken, though infinite
        ("sft", GOOD, [INF] * 5, (1, 2, 3, 4, 5), {"gradient", "scaler"}),
        ("grpo", [0.0] * 5, [0.0] * 5, (), {"gradient", "reward"}),  # all rewards alike
    ],
)
def test_precision_notices(
    stage: str, losses: list, norms: list, skipped: tuple, expected: set
) -> None:
    entries = log(losses, norms, **({"reward_std": 0.0} if stage == "grpo" else {}))
    assert failed(stage, entries, skipped=skipped) == expected


def test_every_b_matrix_has_to_move() -> None:
    torch = pytest.importorskip("torch")
    before = {"x.lora_A.w": torch.ones(2), "x.lora_B.w": torch.zeros(2)}
    assert not sections.moved(before, before)[0]
    assert not sections.moved(before, before | {"x.lora_A.w": torch.zeros(2)})[0]
    assert sections.moved(before, before | {"x.lora_B.w": torch.ones(2)})[0]
    assert not sections.moved(before, before | {"x.lora_B.w": torch.tensor([1.0, NAN])})[0]
    assert not sections.moved({}, {})[0]


def test_a_frozen_weight_that_changes_by_one_bit_is_noticed() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[0].requires_grad_(False)
    before = sections.base_sum(model)
    with torch.no_grad():
        model[1].weight += 1.0
    assert sections.base_sum(model) == before  # that one is trained
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nextafter(model[0].weight[0, 0], torch.tensor(INF))
    assert sections.base_sum(model) != before


def test_a_resumed_run_has_the_losses_of_one_that_was_not_killed() -> None:
    assert sections.same_losses(GOOD, [loss * 1.01 for loss in GOOD])[0]
    assert not sections.same_losses(GOOD, [*GOOD[:2], 2.0, 1.9, 1.8])[0]  # began again at step 3
    assert not sections.same_losses(GOOD[2:], GOOD)[0]
    assert sections.same_losses(GOOD, None)[0]  # nothing to compare with, and says so


def test_memory_and_speed_are_judged_by_preflight() -> None:
    assert sections.memory_as_planned((6.0, 7.0), 5.5)[0]
    assert not sections.memory_as_planned((9.0, 9.5), 5.5)[0]
    assert not sections.memory_as_planned((0.4, 0.5), 5.5)[0]  # the model was not on the GPU
    assert sections.memory_as_planned(None, 5.5)[0] is None
    assert sections.speed_as_planned(900.0, (400.0, 1600.0))[0]
    assert not sections.speed_as_planned(150.0, (400.0, 1600.0))[0]
    assert sections.speed_as_planned(150.0, (400.0, 1600.0), judged=False)[0] is None


# --- the budget ----------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def run_parts(
    sections_: list[Section],
    folder: Path,
    takes: dict[str, float],
    *,
    limit: float = 100.0,
    **codes,
) -> list[Outcome]:
    """Run sections whose parts take so many seconds and end with such codes."""
    clock = Clock()

    def start(part: str, allowed: float) -> int | None:
        clock.now += min(takes[part], allowed)
        return None if takes[part] > allowed else codes.get(part, 0)

    return run_all(sections_, folder, start, limit=limit, clock=clock)


A, B, C = (Section(name, (name,), limit=60, least=20) for name in "abc")


def test_what_does_not_fit_into_the_time_is_not_run(tmp_path: Path) -> None:
    outcomes = run_parts([A, B, C], tmp_path, {"a": 50, "b": 40, "c": 10})
    assert [o.status for o in outcomes] == ["passed", "passed", "not run"]
    assert "5 s of 100" in outcomes[2].why and outcomes[2].checks == []


def test_a_section_at_its_own_limit_fails_and_the_next_one_runs(tmp_path: Path) -> None:
    outcomes = run_parts([A, B], tmp_path, {"a": 900, "b": 10}, limit=200)
    assert [o.status for o in outcomes] == ["failed", "passed"]
    assert outcomes[0].checks[-1]["name"] == "time" and outcomes[0].seconds == 60


def test_a_section_stopped_by_the_time_for_all_is_not_run(tmp_path: Path) -> None:
    outcomes = run_parts([A, B], tmp_path, {"a": 50, "b": 55})
    assert [o.status for o in outcomes] == ["passed", "not run"]
    assert outcomes[1].seconds == 45  # 100 less 5 for the record and 50
    assert "stopped" in outcomes[1].why


def test_a_part_that_dies_fails_its_section_only_where_it_should_live(tmp_path: Path) -> None:
    killed = -signal.SIGKILL
    pair = Section("resume", ("x", "y"), 60, 1, dies=frozenset({"x"}))
    (good,) = run_parts([pair], tmp_path, {"x": 1, "y": 1}, x=killed)
    assert good.status == "passed" and good.checks[0]["name"] == "killed"
    (lived,) = run_parts([pair], tmp_path, {"x": 1, "y": 1})
    assert lived.why == "failed: killed" and lived.seconds == 1  # y is not started
    outcomes = run_parts([A, B], tmp_path, {"a": 1, "b": 1}, a=killed)
    assert [o.status for o in outcomes] == ["failed", "passed"]
    assert "host's memory" in outcomes[0].checks[-1]["evidence"]


def test_without_weights_nothing_else_is_run(tmp_path: Path) -> None:
    first = Section("weights", ("weights",), 60, 1)
    outcomes = run_parts([first, A], tmp_path, {"weights": 1, "a": 1}, weights=1)
    assert [o.status for o in outcomes] == ["failed", "not run"]


def test_checks_written_before_a_kill_are_kept(tmp_path: Path) -> None:
    report = sections.Report(tmp_path / "a.jsonl")
    report.check("loss", True, "2.0")
    with report.path.open("a") as file:
        file.write('{"check": {"name": "cut sh')
    (outcome,) = run_parts([A], tmp_path, {"a": 900}, limit=200)
    assert [c["name"] for c in outcome.checks] == ["loss", "time"]


@pytest.mark.skipif(sys.platform != "linux", reason="the dry run forks on Linux only")
def test_a_hung_part_and_what_it_started_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoke, "import_engine", lambda setup: None)
    setup = sections.Setup(tmp_path, "cpu", "tiny", "trl", 32, {}, "cpu")

    def hang(setup: sections.Setup, report: sections.Report) -> None:
        nested = subprocess.Popen(["sleep", "300"])
        report.measured(pid=nested.pid)
        time.sleep(300)

    monkeypatch.setitem(sections.PARTS, "hang", hang)
    begun = time.monotonic()
    code = smoke.start_with(setup)("hang", 3.0)
    assert code is None and time.monotonic() - begun < 30
    assert gone(sections.read_report(tmp_path / "hang.jsonl")["measured"]["pid"])


def gone(pid: int, patience: float = 60.0) -> bool:
    """Whether a process ends in that time; nobody may have collected its exit status."""
    status = Path(f"/proc/{pid}/status")
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            if "Z (zombie)" in status.read_text():
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="the dry run forks on Linux only")
def test_a_part_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; import smoke, smoke_sections as sections\n"
        "def wait(setup, report): report.measured(pid=sections.os.getpid()); time.sleep(300)\n"
        "smoke.import_engine = lambda setup: None; sections.PARTS['wait'] = wait\n"
        "setup = sections.Setup(Path(sys.argv[1]), 'cpu', 'tiny', 'trl', 32, {}, 'cpu')\n"
        "smoke.start_with(setup)('wait', 300)"
    )
    search = os.pathsep.join((str(ROOT), str(SCRIPT.parent)))
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env=os.environ | {"PYTHONPATH": search}
    )
    deadline = time.monotonic() + 120
    while not (measured := sections.read_report(tmp_path / "wait.jsonl")["measured"]):
        assert time.monotonic() < deadline and parent.poll() is None
        time.sleep(0.1)
    parent.kill()
    parent.wait()
    assert gone(measured["pid"])


# --- the device and the record -------------------------------------------------------------------


def outcome(status: str = "passed", names: tuple = ()) -> list[Outcome]:
    names = names or tuple(s.name for s in smoke.SECTIONS)
    return [Outcome(name, status, [], {}, 1.0, 9.0) for name in names]


@pytest.fixture
def t4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sections.Setup:
    monkeypatch.delenv("POSTLAB_PROFILE", raising=False)
    for place in (smoke, sys.modules["postlab.profile"]):
        monkeypatch.setattr(place, "gpu", lambda: ("Tesla T4", 15360))
    (tmp_path / "results").mkdir()
    return smoke.choose(tmp_path, dry=False)


def test_a_t4_gets_its_profile_and_a_smaller_shape_for_grpo(t4: sections.Setup) -> None:
    assert (t4.profile, t4.preflight) == ("t4", "T4")
    if t4.bits == 4:
        assert (t4.shapes["dpo"], t4.shapes["grpo"]) == (smoke.SEVEN, smoke.SMALL)
    how = sections.settings(t4, "grpo")
    assert (how["max_steps"], how["num_generations"], how["fp16"]) == (5, 8, True)
    assert how["max_completion_length"] == 256  # the profile's own


def test_without_unsloth_and_bitsandbytes_a_smaller_shape_is_not_quantized(
    t4: sections.Setup, tmp_path: Path
) -> None:
    bare = smoke.choose(tmp_path, dry=False, without={"unsloth", "bitsandbytes"})
    assert bare.bits == 16 and set(bare.shapes.values()) == {smoke.SMALL}
    assert sections.settings(bare, "sft")["optim"] == "adamw_torch"
    assert any("bitsandbytes" in line for line in bare.fallbacks)
    loop = smoke.choose(tmp_path, dry=False, without={"unsloth", "trl"})
    assert loop.engine == "loop" and loop.bits == 16


@pytest.mark.parametrize(
    ("passed", "changed", "stamped"),
    [(True, {}, True), (False, {}, False), (True, {"a": 1}, False)],
)
def test_only_a_whole_unchanged_run_on_a_gpu_is_stamped(
    t4: sections.Setup, tmp_path: Path, passed: bool, changed: dict, stamped: bool
) -> None:
    setup = smoke.replace(t4, changed=changed)
    outcomes = outcome("passed" if passed else "not run")
    record = smoke.make_record(setup, outcomes, seconds=NAN)
    assert record["passed"] is passed
    place = smoke.keep(record, setup, data=tmp_path)
    assert place.endswith("results/gpu/tesla-t4.json") and str(tmp_path) not in place
    written = json.loads((tmp_path / "results" / "gpu" / "tesla-t4.json").read_text())
    assert written["seconds"] == "nan" and written["device"]["name"] == "Tesla T4"
    verified = tmp_path / "results" / "verified.json"
    assert verified.exists() is stamped
    if stamped:
        entry = json.loads(verified.read_text())["t4"]["gpu-smoke"]
        assert entry == {"date": record["date"], "device": "Tesla T4"}


def test_some_sections_alone_are_not_a_whole_run(t4: sections.Setup) -> None:
    record = smoke.make_record(t4, outcome(names=("weights", "sft")), seconds=1.0)
    assert not record["passed"]


@pytest.mark.parametrize(
    ("device", "preflight", "file"),
    [
        ("Tesla T4", "T4", "tesla-t4"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB", "nvidia-a100-sxm4-80gb"),
        ("NVIDIA A100-PCIE-40GB", "A100 40GB", "nvidia-a100-pcie-40gb"),
        ("NVIDIA H100 80GB HBM3", "H100", "nvidia-h100-80gb-hbm3"),
        ("NVIDIA H200", "H200", "nvidia-h200"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090", "nvidia-geforce-rtx-4090"),
        ("NVIDIA L4", "L4", "nvidia-l4"),
        ("NVIDIA GeForce RTX 4060 Ti", "RTX 4060 Ti", "nvidia-geforce-rtx-4060-ti"),
        ("NVIDIA GeForce RTX 3070 Laptop GPU", None, "nvidia-geforce-rtx-3070-laptop-gpu"),
        ("NVIDIA L40S", "L40S", "nvidia-l40s"),
        ("NVIDIA L40", None, "nvidia-l40"),
    ],
)
def test_a_device_s_names(device: str, preflight: str | None, file: str) -> None:
    assert smoke.preflight_name(device) == preflight
    assert smoke.slug(device) == file


def test_messages_lose_their_folders() -> None:
    assert sections.plain("no file /srv/me/x/model.bin\n here") == "no file model.bin here"
    assert sections.plain("3/4 of 5 tokens/s") == "3/4 of 5 tokens/s"


@pytest.mark.parametrize("module", [smoke, sections])
def test_its_examples_run(module: object) -> None:
    ran = doctest.testmod(module)
    assert ran.attempted and not ran.failed


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (["--only", "sfd"], "sfd"),
        (["--without", "vllm"], "vllm"),
        (["--set", "beta"], "NAME=VALUE"),
    ],
)
def test_a_mistyped_option_names_what_is_known(options: list[str], phrase: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2 and phrase in done.stderr and "expected" in done.stderr


def test_on_a_machine_without_a_gpu_it_says_so() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 1 and "--dry-run" in done.stderr


# --- the random weights --------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "tied"), [("mistral", False), ("qwen2", True)])
def test_a_written_model_loads_in_four_bits_and_is_as_large_as_its_shape_says(
    family: str, tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    bitsandbytes = pytest.importorskip("bitsandbytes")
    import smoke_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from postlab.preflight import Architecture, architecture

    monkeypatch.setattr(smoke_model, "SHARD", 50_000)  # several files
    shape = Architecture("small", family, 2, 64, 4, 2, 16, 128, 1500, tied)
    folder = tmp_path / "model"
    size = smoke_model.write_model(folder, shape, bits=4, dtype="float32", device="cpu")
    assert len(list(folder.glob("*.safetensors"))) > 1
    as_read = architecture(folder)
    assert as_read.parameters == shape.parameters  # config.json is that shape
    codes = shape.linear_parameters / 2 + shape.other_parameters * 4
    assert codes < size < 1.2 * codes
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map="cpu")
    layer = model.model.layers[1].mlp.down_proj
    assert isinstance(layer, bitsandbytes.nn.Linear4bit) and layer.weight.quant_state.nested
    weight = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    assert abs(float(weight.detach().std()) - smoke_model.STD) < 0.002
    ids = torch.arange(3, 19)[None]
    loss = float(model(input_ids=ids, labels=ids).loss.detach())
    assert abs(loss - math.log(1500)) < 0.5  # random weights know nothing
    assert len(AutoTokenizer.from_pretrained(folder)) < shape.vocab


def test_a_full_disk_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    import smoke_model

    from postlab.preflight import architecture

    usage = type("Usage", (), {"free": 10**9})
    monkeypatch.setattr(smoke_model.shutil, "disk_usage", lambda place: usage)
    with pytest.raises(OSError, match="TMPDIR"):
        smoke_model.write_model(
            tmp_path / "m", architecture(smoke.SEVEN), bits=4, dtype="float16", device="cpu"
        )
    assert not list((tmp_path / "m").iterdir())
