"""One measurement of bench/steps.py, in a process of its own: some training steps, one way.

`ours` is what the notebooks do: Unsloth loads and adapts the model, TRL trains inside `Run.train`,
under the notebooks' two optional lines, and GRPO samples by `rollout_func`. `unsloth` is the same
without the run folder and these. `plain` is transformers, PEFT and TRL alone. `loop` is plain
PyTorch on the batches of the plain trainer: a step's cost without a trainer (bench/loops.py).

All get the same model, rows, config and seed: for SFT and DPO fresh adapters on the base, for GRPO
the shipped DPO stage, whose answers end where they end.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

COLUMNS = {
    "sft": ["prompt", "completion"],
    "dpo": ["prompt", "chosen", "rejected"],
    "grpo": ["prompt", "answer"],
}
SIDES = ("ours", "unsloth", "plain", "loop")
OPTIONS = ("without_padding", "freed_memory_kept")  # the optional lines around `run.train`
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
WARM_UP = 2  # steps before the measured ones: allocator, caches, first batches


def measure(
    side: str,
    stage: str,
    *,
    model: str,
    rows: str,
    steps: int,
    seed: int,
    record: str = "",
    replay: str = "",
    options: Sequence[str] = OPTIONS,
    clock: str = "wall",
) -> dict[str, Any]:
    """Train WARM_UP + steps steps one way.

    Args:
        model: a folder in place of the embedded base.
        rows: "profile" or "synthetic".
        options: which of OPTIONS our side uses.
        clock: "wall", or "cpu" for CPU seconds of all threads.
        record: a file for GRPO's completions, written; `replay`: such a file, taken for sampling.
    Returns:
        seconds a step after the first WARM_UP, the loss of every step, the tokens trained on, as
        TRL counts them, and the numbers of trained and of multiplied weights.
    """
    if side in ("ours", "unsloth"):
        os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
        import unsloth  # noqa: F401  (before trl, transformers and peft)
    from postlab.profile import get_profile

    profile = get_profile("tiny")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["POSTLAB_RUNS"] = folder
        run = None
        if side == "ours":
            from postlab.runs import Run

            run = Run(profile.name, seed, stage)
        policy, tokenizer = _policy(side, stage, profile, model, seed)
        output = run.checkpoints if run else Path(folder) / "out"
        rolls = _rollouts(side, record, replay) if stage == "grpo" else None
        if stage == "grpo":
            _warm_up_reward()
        trainer = _trainer(
            stage, profile, policy, tokenizer, rows, WARM_UP + steps, seed, output, rolls
        )
        if side == "loop":
            from loops import train

            seconds, losses, tokens = train(stage, trainer, WARM_UP + steps, CLOCKS[clock])
        else:
            seconds = _timed(trainer, run, options, CLOCKS[clock])
            history = trainer.state.log_history
            losses = [entry["loss"] for entry in history if "loss" in entry]
            tokens = [entry["num_tokens"] for entry in history if "num_tokens" in entry][-1]
    assert side in ("ours", "unsloth") or "unsloth" not in sys.modules, (
        "plain TRL must not see Unsloth's patches"
    )
    return {
        "seconds": seconds[WARM_UP:],
        "losses": losses,
        "tokens": tokens,
        "trained": sum(p.numel() for p in policy.parameters() if p.requires_grad),
        "multiplied": _multiplied(policy),
    }


def _warm_up_reward() -> None:
    """Load the reward's LaTeX parser, a second or more, which else falls into one of the steps."""
    from postlab.rewards import answers_match

    answers_match("$x^2$", "$x^2$")


def _multiplied(policy: Any) -> int:
    """Weights of the frozen model that each token is multiplied with, its head among them."""
    config = policy.config
    every = sum(p.numel() for name, p in policy.named_parameters() if "lora_" not in name)
    return every - (0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size)


def _policy(side: str, stage: str, profile: Any, model: str, seed: int) -> tuple[Any, Any]:
    if stage == "grpo" and not model:
        from postlab.lab import Lab
        from postlab.models import load_policy, trainable

        policy, tokenizer = load_policy(Lab(profile, 0).checkpoint("dpo"), profile="tiny", bits=32)
        return trainable(policy), tokenizer
    make = _unsloth_policy if side in ("ours", "unsloth") else _plain_policy
    return make(profile, _base(model), seed)


def _rollouts(side: str, record: str, replay: str) -> Any:
    """A `rollout_func`: the engine's, as it is, written down, or read back; None for TRL's own."""
    if side != "ours" and not replay:
        return None
    from postlab.sampling import rollout_func

    steps: list[dict[str, Any]] = json.loads(Path(replay).read_text()) if replay else []

    def again(prompts: list, trainer: Any) -> dict[str, Any]:
        return steps.pop(0)

    def noted(prompts: list, trainer: Any) -> dict[str, Any]:
        steps.append(rollout_func(prompts, trainer) | {"logprobs": None})
        Path(record).write_text(json.dumps(steps))
        return steps[-1]

    return again if replay else noted if record else rollout_func


def _base(model: str) -> str:
    if model:
        return model
    from postlab.models import tiny_base

    return str(tiny_base())


def _unsloth_policy(profile: Any, base: str, seed: int) -> tuple[Any, Any]:
    from unsloth import FastLanguageModel

    policy, tokenizer = FastLanguageModel.from_pretrained(
        base,
        max_seq_length=profile.max_length,
        dtype=_dtype(profile),
        load_in_4bit=profile.load_in_4bit,
    )
    policy = FastLanguageModel.get_peft_model(policy, **profile.lora, random_state=seed)
    return policy, tokenizer


def _plain_policy(profile: Any, base: str, seed: int) -> tuple[Any, Any]:
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from postlab.models import lora_config

    torch.manual_seed(seed)
    policy = AutoModelForCausalLM.from_pretrained(base, dtype=_dtype(profile))
    policy = get_peft_model(policy, lora_config(profile))  # TRL's config turns checkpointing on
    return policy, AutoTokenizer.from_pretrained(base)


def _dtype(profile: Any) -> Any:
    import torch

    return getattr(torch, profile.dtype) if profile.dtype else None


def _trainer(
    stage: str,
    profile: Any,
    policy: Any,
    tokenizer: Any,
    rows: str,
    steps: int,
    seed: int,
    to: Path,
    rolls: Any,
) -> Any:
    import trl
    from datasets import Dataset

    settings = getattr(profile, stage)
    config = dict(settings.trainer) | {"max_steps": steps, "seed": seed, "output_dir": str(to)}
    config["logging_steps"] = 1
    extra: dict[str, Any] = {}
    if stage == "grpo":
        from postlab.rewards import math_reward

        extra["reward_funcs"] = [math_reward]
        if rolls:
            extra["rollout_func"] = rolls
    kind = stage.upper()
    return getattr(trl, f"{kind}Trainer")(
        model=policy,
        args=getattr(trl, f"{kind}Config")(**config),
        train_dataset=Dataset.from_list(_rows(stage, settings, rows, seed)).select_columns(
            COLUMNS[stage]
        ),
        processing_class=tokenizer,
        **extra,
    )


def _rows(stage: str, settings: Any, rows: str, seed: int) -> list[dict[str, Any]]:
    """The stage's training rows, or made-up sums of the same shape for a model of your own."""
    if rows == "synthetic":
        return [_made_up(stage, i) for i in range(1024)]
    from postlab import datasets

    loader = {"sft": "instruction_rows", "dpo": "preference_rows", "grpo": "math_rows"}[stage]
    load = getattr(datasets, loader)
    return load(settings.source, split="train", n=settings.rows, seed=seed)


def _made_up(stage: str, i: int) -> dict[str, Any]:
    a, b = 2 + i % 50, 3 + i % 47
    prompt = [{"role": "user", "content": f"What is {a}+{b}?"}]
    good = [{"role": "assistant", "content": f"{a}+{b}={a + b}. #### {a + b}"}]
    bad = [{"role": "assistant", "content": f"#### {a + b + 1}"}]
    return {
        "sft": {"prompt": prompt, "completion": good},
        "dpo": {"prompt": prompt, "chosen": good, "rejected": bad},
        "grpo": {"prompt": prompt, "answer": str(a + b)},
    }[stage]


def _timed(
    trainer: Any, run: Any, options: Sequence[str], clock: Callable[[], float]
) -> list[float]:
    """Train, through the run folder if there is one; seconds from step end to step end."""
    from transformers import TrainerCallback

    from postlab import runs

    stamps: list[float] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            stamps.append(clock())

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            stamps.append(clock())

    trainer.add_callback(Clock())
    with ExitStack() as stack:
        if run and "freed_memory_kept" in options:
            stack.enter_context(runs.freed_memory_kept())
        if run and "without_padding" in options:
            stack.enter_context(runs.without_padding(trainer.model))
        run.train(trainer) if run else trainer.train()
    return [b - a for a, b in zip(stamps, stamps[1:], strict=False)]
