"""Run.train with plain TRL trainers on a tiny random Llama: reuse, resume, NaN, full disk, kill."""

from __future__ import annotations

import errno
import gc
import importlib
import json
import math
import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_model import build_tiny
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, set_seed
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from postlab import storage
from postlab.runs import Run, processes, training, weights
from postlab.runs import run as runs
from postlab.runs.training import NaNLoss
from postlab.sampling import rollout_func
from postlab.storage import DiskFull, ReadOnlyFolder, StageBusy

torch.set_num_threads(1)  # a forked child hangs in a pool of threads it does not have
gc.collect()
gc.freeze()  # every training starts with a collection: spare it the libraries' own objects
CPU = dict(use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none")
ROWS = [
    {
        "prompt": [{"role": "user", "content": f"What is {a} + {b}?"}],
        "completion": [{"role": "assistant", "content": f"The answer is {a + b}."}],
    }
    for a in range(4)
    for b in range(4)
]
PAIRS = [
    {"prompt": r["prompt"], "chosen": r["completion"], "rejected": ROWS[-1 - i]["completion"]}
    for i, r in enumerate(ROWS)
]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("base") / "tiny-base", hidden=16, layers=1)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("POSTLAB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def policy(base: Path, *, lora: bool = True, dropout: float = 0.1):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if not lora:
        return model
    set_seed(0)
    return get_peft_model(
        model, LoraConfig(r=2, lora_alpha=4, lora_dropout=dropout, target_modules=["q_proj"])
    )


def sft(base: Path, run: Run, *, model=None, rows=ROWS, cls=SFTTrainer, callbacks=(), **config):
    settings = dict(max_steps=6, per_device_train_batch_size=4, learning_rate=1e-2) | CPU
    settings |= dict(logging_steps=1, save_steps=2, seed=3) | config
    return cls(
        model=model or policy(base),
        args=SFTConfig(output_dir=run.checkpoints, **settings),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(base),
        callbacks=list(callbacks),
    )


class Stop(TrainerCallback):
    """A kill after a step, seen from inside: the exception leaves training where it stands."""

    watches_only = True  # so that it is not part of the key

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def losses(log) -> list[float]:
    return [entry["loss"] for entry in log if "loss" in entry]


def lora(model) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if "lora_" in n}


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_complete_run_is_loaded_and_not_trained_again(base, root, capsys):
    run = Run("tiny", 0, "sft", "base")
    first = sft(base, run)
    log = run.train(first)
    assert len(losses(log)) == 6 and run.complete
    second = sft(base, run)
    assert not same(lora(first.model), lora(second.model))
    again = run.train(second)
    assert again == log and second.state.global_step == 0
    assert same(lora(first.model), lora(second.model))
    assert "sft: loaded from runs/tiny/seed-0/sft" in capsys.readouterr().out
    # the trainer that trained may be handed in again: what it is must not have changed its key
    assert run.train(first) == log and first.state.global_step == 6


def test_a_helper_of_a_callback_in_another_module_makes_the_run_stale(
    base, root, tmp_path, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mycallbacks.py").write_text(
        "import myhelper\nfrom transformers import TrainerCallback\n"
        "class Touch(TrainerCallback):\n"
        "    def on_step_begin(self, args, state, control, model=None, **parts):\n"
        "        myhelper.touch(model)\n"
    )
    texts = {
        "trained": "def touch(model): pass\n",
        "loaded": "def touch(model):\n    'Does nothing.'\n    pass\n",
        "trained again": "def touch(model): model.train()\n",
    }
    run, logs = Run("tiny", 0, "sft", "base"), []
    for what, text in texts.items():
        (tmp_path / "myhelper.py").write_text(text)
        for name in ("myhelper", "mycallbacks"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        callback = importlib.import_module("mycallbacks").Touch()
        trainer = sft(base, run, callbacks=[callback], max_steps=2)
        logs.append(run.train(trainer))
        assert (trainer.state.global_step == 0) == (what == "loaded"), what
    assert "changed since: code.callback Touch" in capsys.readouterr().out


def test_what_training_left_in_an_object_does_not_train_again(base, root):
    """A list that the notebook's own code appends to is no setting once the run is over."""

    class Count(TrainerCallback):
        def __init__(self, first):
            self.steps = [first]

        def on_step_end(self, args, state, control, **parts):
            self.steps.append(state.global_step)

    run, count = Run("tiny", 0, "sft", "base"), Count(0)
    run.train(sft(base, run, callbacks=[count], max_steps=2))
    assert count.steps == [0, 1, 2]
    for callback, trained in ((count, False), (Count(0), False), (Count(7), True)):
        trainer = sft(base, run, callbacks=[callback], max_steps=2)
        run.train(trainer)
        assert (trainer.state.global_step > 0) is trained


def test_a_run_that_cannot_be_compared_is_trained_again_and_says_why(base, root, capsys):
    class Reads(TrainerCallback):
        def __init__(self):
            self.lines = (line for line in "ab")

    run = Run("tiny", 0, "sft", "base")
    for _ in range(2):
        trainer = sft(base, run, callbacks=[Reads()], max_steps=2)
        run.train(trainer)
        assert trainer.state.global_step == 2
    out = capsys.readouterr().out
    assert "can't be told: callback Reads.lines (generator)" in out


@pytest.mark.parametrize("name", ["model/tokenizer.json", "model/adapter_config.json"])
def test_complete_means_the_tokenizer_the_settings_and_the_log_too(base, root, name, capsys):
    run = Run("tiny", 0, "sft", "base")
    run.train(sft(base, run, max_steps=2))
    file = run.folder / name
    file.write_text(file.read_text().replace("1", "2"))
    with pytest.raises(runs.DamagedStage, match=name):
        runs.find_stage("tiny", 0, "sft")
    trainer = sft(base, run, max_steps=2)
    run.train(trainer)
    assert trainer.state.global_step == 2
    assert f"damaged: {name}" in capsys.readouterr().out


def test_a_complete_run_is_loaded_from_a_read_only_folder(base, root, read_only):
    run = Run("tiny", 0, "sft", "base")
    log = run.train(sft(base, run, max_steps=2))
    read_only(root)
    assert run.train(sft(base, run, max_steps=2)) == log
    with pytest.raises(ReadOnlyFolder, match="set POSTLAB_RUNS to a folder you can write to"):
        run.train(sft(base, run, max_steps=3))


def test_the_run_folder_says_what_made_it_and_names_no_place(base, root):
    run = Run("tiny", 0, "sft", "base")
    run.train(sft(base, run))
    manifest = run.manifest
    assert {k: manifest[k] for k in ("stage", "parent", "profile", "seed", "status", "steps")} == {
        "stage": "sft",
        "parent": "base",
        "profile": "tiny",
        "seed": 0,
        "status": "complete",
        "steps": 6,
    }
    assert manifest["config"]["learning_rate"] == 1e-2 and manifest["config"]["save_steps"] == 2
    assert manifest["lora"]["r"] == 2 and manifest["data"]["train"]["rows"] == 16
    assert manifest["wall_s"] >= manifest["train_s"] > 0 and manifest["peak_rss_gb"] > 0.1
    assert manifest["weights_sha256"] == storage.weights_hash(run.model_dir)
    text = (run.folder / "manifest.json").read_text()
    assert str(base.parent) not in text and str(root) not in text and "token>" not in text
    state = json.loads((run.folder / "trainer_state.json").read_text())
    assert state["global_step"] == 6
    names = {f.name for f in run.model_dir.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= names
    assert "README.md" not in names and not list(run.folder.glob(".*.tmp-*"))


def test_logging_and_saving_habits_do_not_make_another_run(base):
    run = Run("tiny", 0, "sft", "base")
    run.train(sft(base, run))
    other = sft(base, run, logging_steps=3, save_steps=5, save_total_limit=1)
    run.train(other)
    assert other.state.global_step == 0


@pytest.mark.parametrize(
    "change, named",
    [
        (dict(learning_rate=2e-2), "config.learning_rate (0.01 → 0.02)"),
        (dict(rows=ROWS[:-1]), "data.train.rows (16 → 15)"),
        (dict(seed=4), "config.seed (3 → 4)"),
    ],
)
def test_a_changed_run_is_moved_aside_and_the_message_says_what_changed(
    base, capsys, change, named
):
    run = Run("tiny", 0, "sft", "base")
    run.train(sft(base, run, max_steps=1))
    old = storage.weights_hash(run.model_dir)
    run.train(sft(base, run, max_steps=1, **change))
    previous = run.folder.with_name("sft.previous")
    assert storage.weights_hash(previous / "model") == old
    message = capsys.readouterr().out
    assert "sft.previous" in message and named in message
    run.train(sft(base, run, max_steps=1))
    assert run.folder.with_name("sft.previous-2").exists()


def test_another_parent_makes_another_run(base):
    Run("tiny", 0, "sft", "base").train(sft(base, Run("tiny", 0, "sft"), max_steps=1))
    child = Run("tiny", 0, "dpo", "sft")
    child.train(sft(base, child, max_steps=1))
    Run("tiny", 0, "sft", "base").train(
        sft(base, Run("tiny", 0, "sft"), max_steps=1, learning_rate=1)
    )
    child.train(sft(base, child, max_steps=1))
    assert child.folder.with_name("dpo.previous").exists()


def dpo(base: Path, run: Run, start: Path, **config):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, start, is_trainable=True)
    settings = dict(max_steps=6, per_device_train_batch_size=4, learning_rate=0.3) | CPU
    settings |= dict(logging_steps=1, save_steps=2, seed=3) | config
    return DPOTrainer(
        model=model,
        args=DPOConfig(output_dir=run.checkpoints, **settings),
        train_dataset=Dataset.from_list(PAIRS),
        processing_class=AutoTokenizer.from_pretrained(base),
    )


def moved(base: Path, folder: Path) -> Path:
    """An adapter that differs from the base, as SFT leaves it."""
    model = policy(base)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.5)
    model.save_pretrained(folder)
    return folder


def spaces(completions, **columns):
    return [float(str(c).count(" ")) for c in completions]


def grpo(base: Path, run: Run, start: Path, *, rollout_func=None, **config):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, start, is_trainable=True)
    settings = dict(max_steps=4, per_device_train_batch_size=4, learning_rate=1e-2) | CPU
    settings |= dict(num_generations=2, max_completion_length=4, beta=0.1)
    settings |= dict(logging_steps=1, save_steps=2, seed=3) | config
    return GRPOTrainer(
        model=model,
        reward_funcs=spaces,
        rollout_func=rollout_func,
        args=GRPOConfig(output_dir=run.checkpoints, **settings),
        train_dataset=Dataset.from_list([{"prompt": r["prompt"]} for r in ROWS]),
        processing_class=AutoTokenizer.from_pretrained(base),
    )


def engine(prompts, trainer):
    """`rollout_func`, and a test that fails when TRL had to sample in its place."""
    drawn = rollout_func(prompts, trainer)
    assert drawn["logprobs"] is not None
    return drawn


@pytest.mark.parametrize("kind", ["sft", "dpo", "grpo", "rollouts"])
def test_a_resumed_run_ends_as_an_uninterrupted_one(base, tmp_path, capsys, kind):
    start = moved(base, tmp_path / "start")
    make = {
        "sft": lambda run: sft(base, run),
        "dpo": lambda run: dpo(base, run, start),
        "grpo": lambda run: grpo(base, run, start),
        "rollouts": lambda run: grpo(base, run, start, rollout_func=engine),
    }[kind]
    whole = Run("tiny", 0, kind)
    want = make(whole)
    log = whole.train(want)

    part = Run("tiny", 1, kind)
    first = make(part)
    stop = Stop(3)
    first.add_callback(stop)
    with pytest.raises(KeyboardInterrupt):
        part.train(first)
    second = make(part)
    resumed = part.train(second)
    assert f"{kind}: goes on from checkpoint-2" in capsys.readouterr().out
    assert losses(resumed) == pytest.approx(losses(log), abs=1e-6)
    saved, wanted = lora(second.model), lora(want.model)
    assert all(torch.allclose(saved[name], wanted[name], atol=1e-6) for name in wanted)


def stopped_at_5(base, run):
    trainer = sft(base, run)
    trainer.add_callback(Stop(5))
    with pytest.raises(KeyboardInterrupt):
        run.train(trainer)
    return trainer


@pytest.mark.parametrize(
    "file", ["adapter_model.safetensors", "optimizer.pt", "trainer_state.json", storage.SEAL]
)
def test_a_truncated_checkpoint_is_skipped_and_the_one_before_it_is_taken(base, capsys, file):
    run = Run("tiny", 0, "sft")
    stopped_at_5(base, run)
    victim = run.checkpoints / "checkpoint-4" / file
    victim.write_bytes(victim.read_bytes()[:-20])
    run.train(sft(base, run))
    message = capsys.readouterr().out
    assert "checkpoint-4 was cut short or is damaged" in message
    assert "goes on from checkpoint-2" in message and run.complete


def test_without_an_intact_checkpoint_training_starts_again(base):
    whole = Run("tiny", 9, "sft")
    log = whole.train(sft(base, whole))
    run = Run("tiny", 0, "sft")
    stopped = stopped_at_5(base, run)
    for folder in run.checkpoints.glob("checkpoint-*"):
        weights_file = folder / "adapter_model.safetensors"
        data = bytearray(weights_file.read_bytes())
        data[-1] ^= 0xFF  # the length is right, one bit pattern is not
        weights_file.write_bytes(bytes(data))
    with pytest.raises(RuntimeError, match="already taken 5 steps"):
        run.train(stopped)  # a half-trained model is no start
    assert losses(run.train(sft(base, run))) == pytest.approx(losses(log), abs=1e-6)


def test_a_saved_model_that_is_damaged_is_trained_again(base, capsys):
    run = Run("tiny", 0, "sft")
    run.train(sft(base, run, max_steps=1))
    file = run.model_dir / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(runs.DamagedStage, match="sft .*the weights in model/"):
        runs.find_stage("tiny", 0, "sft")
    run.train(sft(base, run, max_steps=1))
    assert "damaged" in capsys.readouterr().out
    assert runs.find_stage("tiny", 0, "sft") == run.model_dir


def never(*args, **kwargs):
    raise AssertionError("nothing may be trained")


def stands(path: Path, what: str) -> None:
    """Put something in the way of what a run writes at its end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if what == "link":
        (path.parent.parent / "elsewhere").mkdir()
        path.symlink_to(path.parent.parent / "elsewhere")
    elif what == "dangling link":
        path.symlink_to(path.parent / "nowhere")
    elif what == "folder":
        path.mkdir()
    else:
        path.write_text("not a folder")


@pytest.mark.parametrize(
    "name, what",
    [
        ("model", "link"),
        ("model", "dangling link"),
        ("model", "file"),
        ("trainer_state.json", "folder"),
        ("trainer_state.json", "link"),
        ("samples.jsonl", "folder"),
        ("eval.jsonl", "dangling link"),
    ],
)
def test_what_stands_in_the_way_of_the_end_is_found_before_the_start(base, name, what, monkeypatch):
    run = Run("tiny", 0, "sft")
    trainer = sft(base, run, max_steps=1)
    stands(run.folder / name, what)
    with monkeypatch.context() as patch, pytest.raises(FileExistsError) as error:
        patch.setattr(trainer, "train", never)
        run.train(trainer)
    kind = "symbolic link" if "link" in what else what
    assert f"{name} in runs/tiny/seed-0/sft is a {kind}" in str(error.value)
    (run.folder / name).rename(run.folder.parent / "moved away")
    run.train(trainer)
    assert run.complete


def test_a_whole_stage_may_be_a_link_to_another_disk(base, tmp_path):
    run = Run("tiny", 0, "sft")
    (tmp_path / "big disk").mkdir()
    run.folder.parent.mkdir(parents=True)
    run.folder.symlink_to(tmp_path / "big disk")
    run.train(sft(base, run, max_steps=1))
    assert run.complete and run.folder.is_symlink() and (tmp_path / "big disk" / "model").is_dir()


def test_a_folder_that_takes_no_write_is_found_before_the_start(base, read_only, monkeypatch):
    """Not the stage's parent, which the lock finds: the folder itself, or that of checkpoints."""
    for seed, name in ((0, "."), (1, "checkpoints")):
        run = Run("tiny", seed, "sft")
        trainer = sft(base, run, max_steps=1)
        read_only((run.folder / name).resolve())
        monkeypatch.setattr(trainer, "train", never)
        with pytest.raises(ReadOnlyFolder, match="set POSTLAB_RUNS"):
            run.train(trainer)


@pytest.mark.parametrize("fails", ["rename", "fsync"])
def test_a_disk_that_fails_is_found_before_the_start(base, fails, monkeypatch):
    run = Run("tiny", 0, "sft")
    trainer = sft(base, run, max_steps=1)

    def broken(path, *rest):
        if ".trial" in str(path):
            raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(storage, "rename" if fails == "rename" else "sync", broken)
    monkeypatch.setattr(trainer, "train", never)
    with pytest.raises(DiskFull, match="input/output error while saving a trial file of sft"):
        run.train(trainer)
    assert not list(run.folder.rglob(".*.tmp-*"))


def test_too_little_space_is_found_before_the_start(base, monkeypatch):
    run = Run("tiny", 0, "sft")
    trainer = sft(base, run, max_steps=2)
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    free = 4 * trained + 12 * trained  # the model, and a checkpoint with Adam's moments
    usage = SimpleNamespace(free=free - 1)
    with monkeypatch.context() as patch, pytest.raises(DiskFull) as error:
        patch.setattr("postlab.runs.place.shutil.disk_usage", lambda folder: usage)
        patch.setattr(trainer, "train", never)
        run.train(trainer)
    assert "Nothing of sft was trained" in str(error.value) and "run this again" in str(error.value)
    usage.free = free
    monkeypatch.setattr("postlab.runs.place.shutil.disk_usage", lambda folder: usage)
    run.train(trainer)
    assert run.complete


class Vanish(Stop):
    """The run folder goes while it trains, or another run takes its place."""

    def __init__(self, step: int, run: Run, becomes: dict | None) -> None:
        super().__init__(step)
        self.run, self.becomes = run, becomes

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            shutil.rmtree(self.run.folder.parent)
            if self.becomes:
                self.run.folder.mkdir(parents=True)
                (self.run.folder / "manifest.json").write_text(json.dumps(self.becomes))


@pytest.mark.parametrize("step", [1, 6])
def test_a_folder_that_vanishes_under_a_run_is_made_again(base, step):
    whole, run = Run("tiny", 9, "sft"), Run("tiny", 0, "sft")
    log = whole.train(sft(base, whole))
    vanish = Vanish(step, run, None)
    assert losses(run.train(sft(base, run, callbacks=[vanish]))) == losses(log)
    assert run.complete and {"config", "data", "key", "code"} <= run.manifest.keys()
    late = sft(base, run)
    run.train(late)
    assert late.state.global_step == 0  # reused


def test_a_run_that_took_the_folder_is_left_alone(base, capsys):
    run, other = Run("tiny", 0, "sft"), {"status": "complete", "key": "another", "config": {}}
    trainer = sft(base, run, callbacks=[Vanish(6, run, other)])
    with pytest.raises(StageBusy, match="now holds another run"):
        run.train(trainer)
    assert run.manifest == other
    run.train(trainer)  # saved, not trained again; the other run is kept
    assert run.complete and (run.folder.parent / "sft.previous").is_dir()
    assert trainer.state.global_step == 6


@pytest.mark.parametrize("text", ["{", "[]", '{"log_history": 3}', None])
def test_a_damaged_log_of_a_complete_run_is_seen_whatever_its_manifest_lists(base, text, capsys):
    run = Run("tiny", 0, "sft")
    run.train(sft(base, run, max_steps=1))
    manifest = run.manifest
    del manifest["files"]  # as earlier versions wrote it
    (run.folder / "manifest.json").write_text(json.dumps(manifest))
    state = run.folder / "trainer_state.json"
    state.unlink() if text is None else state.write_text(text)
    with pytest.raises(runs.DamagedStage, match=r"trainer_state.json.* Delete runs/tiny/seed-0"):
        _ = run.log
    with pytest.raises(runs.DamagedStage, match="trainer_state.json"):
        runs.find_stage("tiny", 0, "sft")
    log = run.train(sft(base, run, max_steps=1))
    assert "damaged: trainer_state.json" in capsys.readouterr().out and log == run.log


class NaNAt4(SFTTrainer):
    """A loss that is NaN from step 4 on, as fp16 overflow makes it."""

    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        bad = self.state.global_step >= 3
        if isinstance(loss, tuple):
            return (loss[0] * math.nan, *loss[1:]) if bad else loss
        return loss * math.nan if bad else loss


@pytest.mark.parametrize("logging_steps, seen", [(1, 4), (5, 4)])
def test_a_nan_loss_stops_with_a_diagnosis_and_keeps_the_checkpoint(base, logging_steps, seen):
    run = Run("tiny", 0, "sft")
    with pytest.raises(NaNLoss) as caught:
        run.train(sft(base, run, cls=NaNAt4, logging_steps=logging_steps))
    message = str(caught.value)
    assert f"sft stopped at step {seen}" in message and "checkpoint-2 is intact" in message
    assert "learning_rate (it is 0.01)" in message
    assert training.last_intact(run.checkpoints).name == "checkpoint-2" and not run.complete


def test_a_nan_that_was_never_logged_is_not_saved_as_a_model(base):
    run = Run("tiny", 0, "sft")
    with pytest.raises(NaNLoss, match="no checkpoint was written"):
        run.train(sft(base, run, cls=NaNAt4, logging_strategy="no", save_strategy="no"))
    assert not run.model_dir.exists()


def test_fp16_overflows_are_borne_for_a_while_and_nan_hidden_as_zero_is_not():
    assert training.bad_number({"loss": 0.4, "grad_norm": math.inf}) == "grad_norm"
    assert training.bad_number({"loss": 0.0, "grad_norm": math.nan}) == "loss"
    assert training.bad_number({"loss": math.nan, "grad_norm": 1.0}) == "loss"
    assert training.bad_number({"loss": 0.0, "grad_norm": 0.2}) is None
    assert training.bad_number({"train_runtime": 3.0}) is None


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("how", ["torch.save", "safetensors", "text", "EDQUOT", "EIO"])
def test_a_disk_full_during_a_checkpoint_loses_nothing(base, monkeypatch, how):
    run = Run("tiny", 0, "sft")
    trainer = sft(base, run)
    saves = []

    def fails(*args, **kwargs):
        saves.append(1)
        if len(saves) == 2:
            if how == "torch.save":  # what torch says of a full disk
                raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 7")
            if how == "safetensors":
                raise ValueError("I/O error: No space left on device (os error 28)")
            if how in ("EDQUOT", "EIO"):  # Google Drive's answers
                raise OSError(getattr(errno, how), how)
            no_space()
        return plain(*args, **kwargs)

    plain = trainer._save_optimizer_and_scheduler
    monkeypatch.setattr(trainer, "_save_optimizer_and_scheduler", fails)
    with pytest.raises(DiskFull) as caught:
        run.train(trainer)
    message = str(caught.value)
    assert "a checkpoint of sft" in message and "are needed in runs/tiny/seed-0/sft" in message
    assert "it goes on from checkpoint-2, the last complete one" in message
    assert str(run.folder) not in message
    assert training.last_intact(run.checkpoints).name == "checkpoint-2"
    resumed = run.train(sft(base, run))
    assert run.complete and len(losses(resumed)) == 6


@pytest.mark.parametrize("point", ["weights", "state", "manifest"])
def test_a_disk_full_at_the_end_keeps_the_trained_model(base, monkeypatch, point):
    run = Run("tiny", 0, "sft")
    trainer = sft(base, run, save_strategy="no")
    with monkeypatch.context() as patch:
        if point == "weights":
            patch.setattr(weights, "save_weights", no_space)
        elif point == "state":
            patch.setattr(trainer.state, "save_to_json", no_space, raising=False)
            patch.setattr(type(trainer.state), "save_to_json", no_space)
        else:
            plain = storage.atomic_text

            def fails(path, text):
                if '"complete"' in text:
                    no_space()
                plain(path, text)

            patch.setattr(storage, "atomic_text", fails)
        with pytest.raises(DiskFull, match="the final model of sft"):
            run.train(trainer)
        assert not run.complete and not list(run.folder.glob(".*.tmp-*"))
    log = run.train(trainer)  # the same cell again, with room on the disk: saved, not trained
    assert run.complete and trainer.state.global_step == 6 and len(losses(log)) == 6


def test_a_run_killed_after_its_last_step_takes_no_further_one(base, monkeypatch):
    whole, run = Run("tiny", 9, "sft"), Run("tiny", 0, "sft")
    log = whole.train(sft(base, whole))
    with monkeypatch.context() as patch, pytest.raises(DiskFull):
        patch.setattr(weights, "save_weights", no_space)
        run.train(sft(base, run))
    late = sft(base, run)
    assert losses(run.train(late)) == losses(log) and late.state.global_step == 6
    assert storage.weights_hash(run.model_dir) == storage.weights_hash(whole.model_dir)


def test_other_errors_are_not_called_a_full_disk(base, monkeypatch):
    run = Run("tiny", 0, "sft")
    trainer = sft(base, run)
    monkeypatch.setattr(
        trainer, "_save_optimizer_and_scheduler", lambda *a: (_ for _ in ()).throw(OSError("no"))
    )
    with pytest.raises(OSError, match="no"):
        run.train(trainer)


def test_a_full_model_is_saved_and_loaded_too(base):
    run = Run("tiny", 0, "sft")
    first = sft(base, run, model=policy(base, lora=False), max_steps=2, learning_rate=1e-3)
    run.train(first)
    assert (run.model_dir / "model.safetensors").exists()
    second = sft(base, run, model=policy(base, lora=False), max_steps=2, learning_rate=1e-3)
    run.train(second)
    assert second.state.global_step == 0
    assert same(dict(first.model.named_parameters()), dict(second.model.named_parameters()))


def test_adapters_of_another_shape_are_refused(base, tmp_path):
    policy(base).save_pretrained(tmp_path / "a")
    model = AutoModelForCausalLM.from_pretrained(base)
    other = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"]))
    with pytest.raises(ValueError, match="2 tensors differ"):
        weights.load_weights(other, tmp_path / "a")
    more = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=2, target_modules=["q_proj", "v_proj"]),
    )
    with pytest.raises(ValueError, match="v_proj"):
        weights.load_weights(more, tmp_path / "a")


def test_trained_embeddings_come_back_with_the_adapter(base, tmp_path):
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.25)
    weights.save_weights(model, AutoTokenizer.from_pretrained(base), tmp_path / "a")
    other = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    weights.load_weights(other, tmp_path / "a")
    assert same(dict(model.named_parameters()), dict(other.named_parameters()))


def test_the_output_dir_must_be_the_runs_own(base, tmp_path):
    run = Run("tiny", 0, "sft")
    with pytest.raises(ValueError, match="output_dir=run.checkpoints"):
        run.train(sft(base, Run("tiny", 1, "sft")))


def frozen(base: Path, tmp_path: Path, *, checkpointing: bool = False, other: bool = False):
    policy(base).save_pretrained(tmp_path / "a")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, tmp_path / "a")  # is_trainable is False by default
    if other:
        model.load_adapter(tmp_path / "a", "other", is_trainable=True)
    if checkpointing:
        model.enable_input_require_grads()
    return model


@pytest.mark.parametrize("how", [{}, {"checkpointing": True}, {"other": True}])
def test_an_adapter_that_was_loaded_untrainable_is_an_error(base, tmp_path, how):
    run = Run("tiny", 0, "sft")
    trainer = sft(base, run, model=frozen(base, tmp_path, **how))
    with pytest.raises(ValueError, match="'default' has no trainable .* is_trainable=True"):
        run.train(trainer)
    assert run.manifest is None


def test_a_full_model_that_is_frozen_is_an_error_too(base):
    run = Run("tiny", 0, "sft")
    trainer = sft(base, run, model=policy(base, lora=False))
    trainer.model.requires_grad_(False)
    with pytest.raises(ValueError, match="The model has no trainable"):
        run.train(trainer)


def test_two_processes_do_not_train_the_same_stage(base):
    run = Run("tiny", 0, "sft")
    with run._lock(), pytest.raises(StageBusy, match="runs/tiny/seed-0/sft"):
        run.train(sft(base, run))


def test_the_trainer_prints_one_line_and_no_log_dictionaries(base, capsys):
    run = Run("tiny", 0, "sft")
    run.train(sft(base, run, disable_tqdm=True))
    out = capsys.readouterr().out
    assert out.startswith("sft 25% 50% 75% 100% loss ") and out.count("\n") == 1


def killed_at(write: int, make, run: Run) -> None:
    """Train in this process and die by SIGKILL just before its n-th write reaches the disk."""
    plain, count = storage.sync, 0

    def counted(path):
        nonlocal count
        count += 1
        if count == write:
            os.kill(os.getpid(), signal.SIGKILL)
        plain(path)

    storage.sync = counted
    run.train(make(run))


# (write, the step that is safe then): in the first manifest; in the seal of a checkpoint, in that
# of the next; in the final model, state and manifest; never.
MOMENTS = {
    "sft": [(1, 0), (5, 0), (20, 2), (28, 6), (10, 6), (1000, 6)],
    "dpo": [(1, 0), (9, 0), (24, 2), (34, 6), (10, 6), (1000, 6)],
    "grpo": [(1, 0), (9, 0), (24, 2), (34, 6), (10, 6), (1000, 6)],
    "rollouts": [(1, 0), (9, 0), (24, 2), (34, 6), (10, 6), (1000, 6)],
}


@pytest.mark.parametrize("kind", list(MOMENTS))
def test_a_kill_at_any_moment_loses_no_more_than_the_last_steps(base, tmp_path, kind):
    start = moved(base, tmp_path / "start")

    make = {
        "sft": lambda run: sft(base, run),
        "dpo": lambda run: dpo(base, run, start),
        "grpo": lambda run: grpo(base, run, start, max_steps=6),
        "rollouts": lambda run: grpo(base, run, start, max_steps=6, rollout_func=engine),
    }[kind]
    whole = Run("tiny", 9, kind)
    whole.train(make(whole))
    run = Run("tiny", 0, kind)
    fork = multiprocessing.get_context("fork")
    for write, steps in MOMENTS[kind]:
        process = fork.Process(target=killed_at, args=(write, make, run))
        process.start()
        process.join(60)
        last = training.last_intact(run.checkpoints)
        assert last is None if steps == 0 else last.name == f"checkpoint-{steps}", write
        assert run.complete is (write == 1000) is (process.exitcode == 0), write
    pair = [r.model_dir / "adapter_model.safetensors" for r in (run, whole)]
    assert pair[0].read_bytes() == pair[1].read_bytes()
    assert losses(run.log) == pytest.approx(losses(whole.log), abs=1e-6)
    # the draws go on as well: a loss on its policy's own samples is about 0
    if kind in ("grpo", "rollouts"):
        seen, wanted = ([e["reward"] for e in r.log if "reward" in e] for r in (run, whole))
        assert seen == wanted and len(set(wanted)) > 1
    assert not list(run.folder.glob(".*.tmp-*"))


def test_each_process_of_a_launch_has_luck_of_its_own(tmp_path, monkeypatch):
    """GRPO would otherwise sample all processes' prompts with the same random numbers."""
    trainer = SimpleNamespace(
        model=torch.nn.Linear(1, 1),
        callback_handler=SimpleNamespace(callbacks=[]),
        add_callback=lambda callback: None,
    )
    args = SimpleNamespace(seed=7)
    luck = []
    for rank in (0, 1, 2):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        added = training.attach(trainer, stage="grpo", checkpoints=tmp_path, resume=None)
        set_seed(args.seed)  # as `fit` does, before the order of the rows is drawn
        for callback in added[1:]:  # the first one only draws
            callback.on_train_begin(args, state=None, control=None)
        luck.append(torch.rand(1).item())
    assert len(set(luck)) == 3
    set_seed(args.seed)
    assert luck[0] == torch.rand(1).item()  # one process is as it was
