"""What `smoke.py` does in each child process: make a model, train five steps, check what came out.

One part, one process, so that a hang, a kill or an exhausted memory ends that part alone. What a
part finds is written at once, a line of JSON each, and so survives its process. The trainer is
built as the notebooks build it; without Unsloth, or without TRL and PEFT, by what is there.
Simplified: rows are filled up to the profile's length, since the largest batch is what has to fit.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STEPS, KILLED_AFTER = 5, 2  # the checkpoint that the killed run leaves
# Measured peak to preflight's: above it a plan that "fits" would not, below it the model is not
# there. Unsloth's losses take as much of a large card as they find, or less.
MEMORY = (0.25, 1.3)
SLOWEST = 0.5  # of preflight's slowest usual pace
SAME_LOSS, SAME_ADAPTER = 0.02, 0.25  # relative; an adapter that starts again is about 1 off


@dataclass(frozen=True)
class Setup:
    """What runs where; a child process gets it whole.

    Args:
        folder: for weights, checkpoints and reports; deleted at the end.
        device: "cuda:0", or "cpu" in a dry run.
        engine: "unsloth", "trl" (TRL's own trainers and PEFT) or "loop" (postlab.scratch).
        bits: of the base's weights.
        shapes: section to the model whose shape it has, "" for the embedded base.
        preflight: the device's name for `postlab.preflight.estimate`.
        changed: trainer arguments set on the command line.
    """

    folder: Path
    device: str
    profile: str
    engine: str
    bits: int
    shapes: Mapping[str, str]
    preflight: str | None
    changed: Mapping[str, Any] = field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()

    @property
    def dry(self) -> bool:
        return self.device == "cpu"

    def model_dir(self, section: str) -> str:
        """The folder of the section's base model."""
        if not self.shapes[section]:
            from postlab.models import tiny_base

            return str(tiny_base())
        return str(self.folder / self.shapes[section].rpartition("/")[2])


class Report:
    """Checks and measurements of a part, appended to a file as they are made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, **line: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=True) + "\n")

    def check(self, name: str, passed: bool | None, evidence: str) -> None:
        """None: cannot be checked here, and the evidence says why."""
        self.write(check={"name": name, "passed": passed, "evidence": plain(evidence)})

    def measured(self, **values: Any) -> None:
        self.write(measured=values)


def plain(text: Any) -> str:
    """A message in one line, without this machine's folders.

    >>> plain("no file /srv/me/x/model.bin")
    'no file model.bin'
    """
    return re.sub(r"(?<![\w.])/(?:[^\s/'\":]+/)+", "", " ".join(str(text).split()))[:400]


def child(setup: Setup, part: str) -> None:
    """Run one part in this process; its output goes to a log, its results to a report."""
    if hasattr(os, "setsid"):
        os.setsid()  # so that it can be killed with all that it starts
    log = os.open(setup.folder / f"{part}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.stdout = sys.stderr = os.fdopen(log, "w", buffering=1)
    os.chdir(setup.folder)  # Unsloth's compiled trainers land where one works
    os.environ["POSTLAB_RUNS"] = str(setup.folder / "runs")
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    report, code = Report(setup.folder / f"{part}.jsonl"), 0
    try:
        PARTS[part](setup, report)
    except BaseException as error:
        traceback.print_exc()
        advice = "; try --set per_device_train_batch_size=1" * ("out of memory" in str(error))
        report.check("no error", False, f"{type(error).__name__}: {error}"[:300] + advice)
        code = 1
    sys.stdout.flush()
    os._exit(code)  # a forked child must not run its parent's exit handlers


def end_with(parent: int) -> None:
    """End this process when its parent is gone: nobody would stop it, and it holds the GPU."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


# --- the parts -----------------------------------------------------------------------------------


def weights(setup: Setup, report: Report) -> None:
    """Random weights of each shape that a section asks for."""
    import torch

    from postlab.preflight import architecture, estimate
    from postlab.profile import get_profile

    if not setup.dry:
        ready = torch.cuda.is_available()
        about = torch.cuda.get_device_capability(0) if ready else "no GPU for this torch"
        report.check(
            "cuda", ready, f"torch {torch.__version__}, CUDA {torch.version.cuda}, {about}"
        )
        if not ready:
            return
    for name in sorted({*setup.shapes.values()} - {""}):
        import smoke_model

        begun = time.monotonic()
        section = next(s for s, shape in setup.shapes.items() if shape == name)
        total = smoke_model.write_model(
            Path(setup.model_dir(section)), architecture(name), bits=setup.bits,
            dtype=get_profile(setup.profile).dtype or "bfloat16", device=setup.device,
        )  # fmt: skip
        seconds = time.monotonic() - begun
        plan = estimate("sft", model=name, device="T4", batch=1, length=8, bits=setup.bits)
        ratio = total / 2**30 / plan.weights_gib
        evidence = f"{name}: {total / 2**30:.2f} GiB in {seconds:.0f} s, {ratio:.3f} of preflight's"
        report.check("size", abs(ratio - 1) < 0.02, evidence)


def sft(setup: Setup, report: Report) -> None:
    """Five steps from fresh adapters, then a few held-out prompts with the policy they leave."""
    evaluation(setup, report, *train_stage(setup, report, "sft"))


def dpo(setup: Setup, report: Report) -> None:
    """Five steps from the SFT section's adapter, or from a fresh one where there is none."""
    train_stage(setup, report, "dpo")


def grpo(setup: Setup, report: Report) -> None:
    """Five steps on sums, paid by `math_reward` and by a reward that random weights can earn."""
    train_stage(setup, report, "grpo")


def train_stage(setup: Setup, report: Report, stage: str) -> tuple[Any, Any]:
    if setup.engine == "loop":
        import smoke_loop

        return smoke_loop.train(setup, report, stage)
    trainer = train(setup, report, stage)
    return trainer.model, trainer.processing_class


def killed(setup: Setup, report: Report) -> None:
    """SFT again in a run folder of its own, killed in the step after its checkpoint."""
    from transformers import TrainerCallback

    class Killer(TrainerCallback):
        watches_only = True  # not part of what is trained, so not of the run's key

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == KILLED_AFTER + 1:
                os.kill(os.getpid(), signal.SIGKILL)

    trainer = make_trainer(setup, "sft", resumable=True)
    trainer.add_callback(Killer())
    smoke_run(setup).train(trainer)
    report.check("killed", False, "the run ended before it was killed")


def resumed(setup: Setup, report: Report) -> None:
    """The killed run goes on in a new process and ends where an uninterrupted one does."""
    run = smoke_run(setup)
    left = sorted(path.parent.name for path in run.checkpoints.glob("*/sha256.json"))
    report.check(
        "checkpoint", left == [f"checkpoint-{KILLED_AFTER}"], f"left by the killed run: {left}"
    )
    trainer = make_trainer(setup, "sft", resumable=True)
    log = run.train(trainer)
    manifest = run.manifest or {}
    goes_on = (manifest.get("resumed_from"), manifest.get("steps"))
    report.check(
        "resumed", goes_on == (f"checkpoint-{KILLED_AFTER}", STEPS),
        f"from {goes_on[0]}, ended at step {goes_on[1]} of {STEPS}",
    )  # fmt: skip
    whole = read_report(setup.folder / "sft.jsonl")["measured"].get("losses")
    report.check("loss series", *same_losses(losses_of(log), whole))
    adapter = setup.folder / "sft" / f"checkpoint-{STEPS}"
    report.check("same adapter", *same_adapter(run.model_dir, adapter))


def smoke_run(setup: Setup) -> Any:
    from postlab.runs import Run

    return Run(setup.profile, 0, "smoke", None)


# --- one training --------------------------------------------------------------------------------


def train(setup: Setup, report: Report, stage: str) -> Any:
    """Five steps with the profile's trainer, and every check of them."""
    from transformers import TrainerCallback, set_seed

    class Watch(TrainerCallback):
        watches_only = True

        def __init__(self) -> None:
            self.skipped: list[int] = []  # by the fp16 scaler
            self.times: list[float] = []

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            synchronize(setup)
            self.times.append(time.monotonic())
            if trainer.accelerator.optimizer_step_was_skipped:
                self.skipped.append(state.global_step)

    trainer, watch = make_trainer(setup, stage), Watch()
    trainer.add_callback(watch)
    before, base = adapters(trainer.model), base_sum(trainer.model)
    set_seed(trainer.args.seed)
    reset_peak(setup)
    started = time.monotonic()
    trainer.train()
    conclude(
        setup, report, stage, log=trainer.state.log_history, how=vars(trainer.args),
        skipped=watch.skipped, times=[started, *watch.times], peak=peak_gib(setup),
        prompt=longest_prompt(trainer), model=trainer.model, before=before, base=base,
    )  # fmt: skip
    return trainer


def conclude(
    setup: Setup,
    report: Report,
    stage: str,
    *,
    log: list[dict[str, Any]],
    how: Mapping[str, Any],
    skipped: list[int],
    times: list[float],
    peak: tuple[float, float] | None,
    prompt: int,
    model: Any,
    before: Mapping[str, Any],
    base: int,
) -> None:
    """Every check of five steps.

    Args:
        log: an entry per step: step, loss, grad_norm, and reward_std under GRPO.
        how: the trainer's arguments.
        skipped: steps that the fp16 scaler didn't take.
        times: when training began, and when each step ended.
        peak: GiB allocated and reserved.
        prompt: tokens of GRPO's longest prompt.
        before, base: adapters and the sum of the frozen bytes before the first step.
    """
    report.measured(
        losses=losses_of(log), skipped=skipped,
        grad_norms=[float(entry["grad_norm"]) for entry in log if "grad_norm" in entry],
        step_s=[round(b - a, 3) for a, b in zip(times, times[1:], strict=False)],
    )  # fmt: skip
    for one in precision(stage, log, skipped=skipped, fp16=how["fp16"]):
        report.check(*one)
    report.check("adapters move", *moved(before, adapters(model)))
    after = base_sum(model)
    evidence = f"the frozen weights' bytes add up to {base} before and {after} after"
    report.check("base stays", after == base, evidence)
    compare(setup, report, stage, how, peak=peak, times=times[1:], prompt=prompt)


def settings(setup: Setup, stage: str) -> dict[str, Any]:
    """The profile's trainer arguments for a stage, cut to five steps."""
    from postlab.profile import get_profile

    own = dict(getattr(get_profile(setup.profile), stage).trainer)
    cut: dict[str, Any] = dict(max_steps=STEPS, save_steps=STEPS, logging_steps=1)
    # Five whole steps would take too long, and of the memory only GRPO's sampling depends on it.
    cut["gradient_accumulation_steps"] = min(2, own["gradient_accumulation_steps"])
    if setup.dry:
        cut["per_device_train_batch_size"] = 8 if stage == "grpo" else 4
        cut |= dict(num_generations=4, max_completion_length=8) if stage == "grpo" else {}
        cut |= {} if stage == "grpo" else dict(max_length=64)
    if own["optim"] == "adamw_8bit" and "no bitsandbytes" in " ".join(setup.fallbacks):
        cut["optim"] = "adamw_torch"
    return own | cut | dict(setup.changed)


def make_trainer(setup: Setup, stage: str, *, resumable: bool = False) -> Any:
    """Model, rows and TRL's trainer, as the notebooks put them together."""
    model, tokenizer = load(setup, stage)  # Unsloth comes before trl
    import trl
    from datasets import Dataset

    from postlab.models import float32_adapters
    from postlab.rewards import math_reward

    how = settings(setup, stage) | ({"save_steps": KILLED_AFTER} if resumable else {})
    config = getattr(trl, f"{stage.upper()}Config")
    output = smoke_run(setup).checkpoints if resumable else setup.folder / stage
    args = config(output_dir=str(output), seed=0, **how)
    more = {"reward_funcs": [math_reward, even_tokens]} if stage == "grpo" else {}
    return getattr(trl, f"{stage.upper()}Trainer")(
        model=float32_adapters(model), processing_class=tokenizer, args=args,
        train_dataset=Dataset.from_list(rows(stage, how, tokenizer)), **more,
    )  # fmt: skip


def load(setup: Setup, stage: str) -> tuple[Any, Any]:
    """The base in the setup's precision with a trainable adapter, and its tokenizer."""
    from postlab.profile import get_profile

    profile, base = get_profile(setup.profile), setup.model_dir(stage)
    start = setup.folder / "sft" / f"checkpoint-{STEPS}"  # a chain, as in the notebooks
    goes_on = stage == "dpo" and (start / "adapter_config.json").exists()
    if setup.engine == "unsloth":
        from unsloth import FastLanguageModel

        model, tokenizer = FastLanguageModel.from_pretrained(
            str(start) if goes_on else base, max_seq_length=profile.max_length,
            dtype=profile.dtype, load_in_4bit=setup.bits == 4,
            use_gradient_checkpointing=profile.lora["use_gradient_checkpointing"],
        )  # fmt: skip
        if not goes_on:
            model = FastLanguageModel.get_peft_model(model, **profile.lora, random_state=0)
        return model, tokenizer

    import torch
    from peft import PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from postlab.models import lora_config

    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=getattr(torch, profile.dtype or "bfloat16"), device_map={"": setup.device}
    )
    if goes_on:
        model = PeftModel.from_pretrained(model, str(start), is_trainable=True)
    else:
        torch.manual_seed(0)
        model = get_peft_model(model, lora_config(profile))
    if settings(setup, stage)["fp16"]:
        # TRL would round the adapters of a 4-bit model to bfloat16, which fp16's scaler refuses.
        model.is_loaded_in_4bit = False
    return model, AutoTokenizer.from_pretrained(base, padding_side="left")


def rows(stage: str, how: Mapping[str, Any], tokenizer: Any) -> list[dict[str, Any]]:
    """Tinyworld's rows; replies are filled up with others until a row is as long as it may be."""
    from postlab.datasets import instruction_rows, math_rows, preference_rows

    n = STEPS * how["per_device_train_batch_size"] * how["gradient_accumulation_steps"]
    if stage == "grpo":
        drawn = math_rows("tinyworld", split="train", n=n)
        return [{"prompt": row["prompt"], "answer": row["answer"]} for row in drawn]
    drawn = (instruction_rows if stage == "sft" else preference_rows)(
        "tinyworld", split="train", n=n
    )
    columns = ("completion",) if stage == "sft" else ("chosen", "rejected")
    texts = [row[columns[0]][-1]["content"] for row in drawn]
    filler = " ".join(texts)
    while len(tokenizer(filler)["input_ids"]) <= how["max_length"]:
        filler += " " + filler

    def long(reply: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": f"{reply} {filler}"}]

    return [
        {"prompt": row["prompt"]} | {name: long(row[name][-1]["content"]) for name in columns}
        for row in drawn
    ]


def even_tokens(completion_ids: list[list[int]], **columns: Any) -> list[float]:
    """Share of even token ids: a reward that differs between random completions.

    >>> even_tokens([[2, 3, 4, 6]])
    [0.75]
    """
    return [sum(i % 2 == 0 for i in ids) / max(1, len(ids)) for ids in completion_ids]


def longest_prompt(trainer: Any) -> int:
    """Tokens of GRPO's longest prompt; 0 for the other stages, whose rows are filled up."""
    first = trainer.train_dataset[0]
    if "answer" not in first:
        return 0
    render = trainer.processing_class.apply_chat_template
    prompts = (render(row["prompt"], tokenize=False) for row in trainer.train_dataset)
    return max(len(trainer.processing_class(text)["input_ids"]) for text in prompts) + 4


# --- the checks ----------------------------------------------------------------------------------

Check = tuple[str, bool | None, str]


def losses_of(log: Iterable[Mapping[str, Any]]) -> list[float]:
    """The loss of each logged step."""
    return [float(entry["loss"]) for entry in log if "loss" in entry]


def precision(
    stage: str, log: list[dict[str, Any]], *, skipped: list[int], fp16: bool
) -> list[Check]:
    """Losses and gradients are numbers, and not the zeros that an overflow leaves.

    On-policy GRPO has a loss of about zero whatever it learns, so there the reward has to differ
    within groups and the gradient must not be zero.
    """
    steps = [entry for entry in log if "loss" in entry]
    losses = losses_of(steps)
    good = len(losses) == STEPS and all(map(math.isfinite, losses))
    if stage != "grpo":
        good = good and all(loss > 0 for loss in losses)
    checks: list[Check] = [("loss", good, f"{STEPS} steps: {show(losses)}")]
    norms = {int(e["step"]): float(e["grad_norm"]) for e in steps if "grad_norm" in e}
    taken = [norm for step, norm in norms.items() if step not in skipped]
    good = bool(taken) and all(math.isfinite(norm) and norm > 0 for norm in taken)
    checks.append(("gradient", good, f"norms of {len(taken)} steps taken: {show(taken)}"))
    if fp16:
        evidence = f"the fp16 scaler skipped {len(skipped)} of {STEPS} steps"
        checks.append(("scaler", len(skipped) < STEPS, evidence))
    if stage == "grpo":
        spread = [float(e["reward_std"]) for e in steps if "reward_std" in e]
        checks.append(("reward", any(s > 0 for s in spread), f"std within groups: {show(spread)}"))
    return checks


def show(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values) or "none"


def adapters(model: Any) -> dict[str, Any]:
    """A copy of everything that is trained, in float32 on the host."""
    trained = ((n, p) for n, p in model.named_parameters() if p.requires_grad)
    return {name: p.detach().float().cpu().clone() for name, p in trained}


def moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[bool, str]:
    """Every matrix B has changed: it starts at zero and gets a gradient from the first step on."""
    changes = {name: float((after[name] - old).abs().max()) for name, old in before.items()}
    second = [name for name in changes if "lora_B" in name or name.endswith(".b")]
    still = [name for name in second if not changes[name] > 0]
    count = sum(change > 0 for change in changes.values())
    largest = max(changes.values(), default=0.0)
    evidence = f"{count} of {len(changes)} tensors, by up to {largest:.2g}"
    return bool(second) and not still and math.isfinite(largest), evidence


def base_sum(model: Any) -> int:
    """The sum of all bytes of the frozen weights, adapters and references left out."""
    import torch

    frozen = [p for n, p in model.named_parameters() if not p.requires_grad and "lora_" not in n]
    return sum(
        int(p.detach().contiguous().view(torch.uint8).sum(dtype=torch.int64)) for p in frozen
    )


def same_losses(losses: list[float], whole: list[float] | None) -> tuple[bool, str]:
    """A resumed run's losses are all there and those of a run that was never killed."""
    evidence = f"resumed {show(losses)}"
    if len(losses) != STEPS or not all(map(math.isfinite, losses)):
        return False, f"{evidence}: expected {STEPS} numbers"
    if not whole or len(whole) != STEPS:
        return True, f"{evidence}; no uninterrupted run to compare with"
    apart = max(abs(a - b) / max(abs(b), 1e-6) for a, b in zip(losses, whole, strict=True))
    return apart <= SAME_LOSS, f"{evidence}; uninterrupted {show(whole)}; {apart:.2%} apart"


def same_adapter(folder: Path, other: Path) -> tuple[bool | None, str]:
    """The B matrices of two adapter folders agree."""
    from safetensors import safe_open

    def read(place: Path) -> dict[str, Any]:
        with safe_open(place / "adapter_model.safetensors", "pt") as file:
            return {n: file.get_tensor(n).float() for n in file.keys() if "lora_B" in n}  # noqa: SIM118

    if not (other / "adapter_model.safetensors").exists():
        return None, "no uninterrupted run to compare with"
    ours, theirs = read(folder), read(other)
    apart = sum(float((ours[n] - theirs[n]).pow(2).sum()) for n in theirs) ** 0.5
    size = sum(float(t.pow(2).sum()) for t in theirs.values()) ** 0.5
    ratio = apart / size if size else math.inf
    return ratio <= SAME_ADAPTER, f"|difference| / |B| = {ratio:.2g} after {STEPS} steps"


def compare(
    setup: Setup,
    report: Report,
    stage: str,
    how: Mapping[str, Any],
    *,
    peak: tuple[float, float] | None,
    times: list[float],
    prompt: int,
) -> None:
    """Peak memory and tokens per second beside what preflight says of the same settings."""
    from postlab.preflight import estimate
    from postlab.profile import get_profile

    profile, grpo = get_profile(setup.profile), stage == "grpo"
    length = prompt + how["max_completion_length"] if grpo else how["max_length"]
    batch, accumulation = how["per_device_train_batch_size"], how["gradient_accumulation_steps"]
    sequences = batch * (2 if stage == "dpo" else 1)
    plan = estimate(
        stage, model=setup.shapes[stage] or setup.model_dir(stage), device=setup.preflight or "T4",
        batch=sequences, length=length, bits=setup.bits, lora_rank=profile.lora["r"],
        group=how.get("num_generations", 1) if grpo else 1,
        new_tokens=how["max_completion_length"] if grpo else 0, accumulation=accumulation,
        checkpointing=bool(how["gradient_checkpointing"]),
        optimizer="adamw_8bit" if "8bit" in str(how["optim"]).lower() else "adamw",
        engine="unsloth" if setup.engine == "unsloth" else "trl",
    )  # fmt: skip
    steady = times[-1] - times[0]  # the first step compiles and warms up
    speed = sequences * accumulation * length * (len(times) - 1) / steady
    report.measured(
        batch=batch, accumulation=accumulation, length=length, tokens_per_s=round(speed, 1),
        preflight={
            "total_gib": round(plan.total_gib, 3), "reserved_gib": round(plan.reserved_gib, 3),
            "tokens_per_s": [round(pace, 1) for pace in plan.tokens_per_s_range],
        },
    )  # fmt: skip
    if peak:
        report.measured(peak_gib={"allocated": round(peak[0], 3), "reserved": round(peak[1], 3)})
    # Preflight is about TRL's trainers on a known GPU.
    report.check("memory", *memory_as_planned(peak, plan.total_gib, judged=setup.engine != "loop"))
    judged = setup.preflight is not None and not setup.dry and setup.engine != "loop"
    report.check("speed", *speed_as_planned(speed, plan.tokens_per_s_range, judged=judged))


def memory_as_planned(
    peak: tuple[float, float] | None, planned: float, *, judged: bool = True
) -> tuple[bool | None, str]:
    """The measured peak is near preflight's; Unsloth's kernels may need much less."""
    if peak is None:
        return None, f"not measured on a CPU; preflight: {planned:.2f} GiB"
    ratio = peak[0] / planned
    evidence = f"{peak[0]:.2f} GiB allocated, {peak[1]:.2f} reserved; {ratio:.2f} of preflight's"
    return MEMORY[0] <= ratio <= MEMORY[1] if judged else None, f"{evidence} {planned:.2f}"


def speed_as_planned(
    speed: float, pace: tuple[float, float], *, judged: bool = True
) -> tuple[bool | None, str]:
    """No slower than half of the slow end of what preflight calls usual."""
    middle = math.sqrt(pace[0] * pace[1])
    evidence = f"{speed:,.0f} tokens/s, {speed / middle:.2f} of preflight's {middle:,.0f}"
    evidence += f" ({pace[0]:,.0f} to {pace[1]:,.0f})"
    return speed >= SLOWEST * pace[0] if judged else None, evidence


def evaluation(setup: Setup, report: Report, model: Any, tokenizer: Any) -> None:
    """A few held-out prompts answered and scored where the policy is."""
    from postlab.evals import evaluate, suite_rows

    batches: set[int] = set()
    embedding = model.get_input_embeddings()
    hook = embedding.register_forward_hook(lambda m, args, out: batches.add(len(args[0])))
    reset_peak(setup)
    begun = time.monotonic()
    suite = suite_rows("tinyworld", 1 if setup.dry else 2, 0)
    frame = evaluate(model, tokenizer, suite)
    seconds = time.monotonic() - begun
    hook.remove()
    peak, tokens = peak_gib(setup), float(frame["length"].sum())
    report.measured(evaluation={
        "answers": len(frame), "batch": max(batches, default=None), "seconds": round(seconds, 1),
        "tokens_per_s": round(tokens / seconds, 1), "peak_gib": peak and round(peak[0], 3),
    })  # fmt: skip
    good = {row["id"] for row in suite} == set(frame["id"]) and tokens > 0
    where = f"in batches of up to {max(batches)}" if batches else "by the CPU engine"
    report.check(
        "evaluation", good, f"{len(frame)} answers, {tokens / seconds:.0f} tokens/s, {where}"
    )


# --- the device ----------------------------------------------------------------------------------


def synchronize(setup: Setup) -> None:
    if not setup.dry:
        import torch

        torch.cuda.synchronize()


def reset_peak(setup: Setup) -> None:
    if not setup.dry:
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gib(setup: Setup) -> tuple[float, float] | None:
    """GiB allocated and reserved at the peak; None on a CPU."""
    if setup.dry:
        return None
    import torch

    return torch.cuda.max_memory_allocated() / 2**30, torch.cuda.max_memory_reserved() / 2**30


def read_report(path: Path) -> dict[str, Any]:
    """The checks and measurements that a part has written so far."""
    checks: list[dict[str, Any]] = []
    measured: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # cut short by a kill
        checks += [entry["check"]] if "check" in entry else []
        measured |= entry.get("measured", {})
    return {"checks": checks, "measured": measured}


PARTS: dict[str, Callable[[Setup, Report], None]] = {
    "weights": weights, "sft": sft, "dpo": dpo, "grpo": grpo, "killed": killed, "resumed": resumed,
}  # fmt: skip
