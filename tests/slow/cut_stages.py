"""A week's stage in ten short steps, for `test_two_processes`: `python cut_stages.py 03`.

Environment: ACCUMULATION, the trainer's gradient_accumulation_steps; TRACE, a file that gets a line
"RANK WHAT" for each evaluation, and each write to a run folder; FAIL, if set, makes the first
process's first evaluation raise an error. GRPO's completions depend on the prompt alone.
"""

from __future__ import annotations

import dataclasses
import os
import re
import runpy
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import postlab.evals
import postlab.profile
import postlab.runs
import postlab.sampling

STAGES_SCRIPT = Path(__file__).resolve().parents[2] / "notebooks" / "stages.py"
SHORT = {"max_steps": 10, "save_steps": 5, "logging_steps": 1}


def cut(stage: postlab.profile.StageConfig) -> postlab.profile.StageConfig:
    accumulation = int(os.environ.get("ACCUMULATION", 1))
    short = SHORT | {"gradient_accumulation_steps": accumulation}
    return dataclasses.replace(stage, rows=400, trainer=dict(stage.trainer) | short)


def traced(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with open(os.environ["TRACE"], "a", encoding="utf-8") as file:
            file.write(f"{os.environ.get('RANK', '0')} {what}\n")
        if what == "evaluates" and "FAIL" in os.environ:
            raise OSError("the evaluation broke off")
        return function(*args, **kwargs)

    return call


def fixed_completions(prompts: list, trainer: Any) -> dict[str, list | None]:
    """The same answers to a prompt in any process: some of them right, of several lengths."""
    tokenizer = trainer.processing_class
    prompt_ids, _, _ = trainer._tokenize_prompts(prompts)
    completion_ids = []
    for place, prompt in enumerate(prompts):
        question = prompt[-1]["content"]
        terms = [int(term) for term in re.findall(r"\d+", question)]
        member = place % trainer.num_generations
        luck = zlib.crc32(f"{question} {member}".encode())
        worked = "+".join(map(str, terms[: 1 + luck % 3]))
        right = luck // 3 % 5 < 2
        text = f"{worked}. #### {sum(terms) + (not right)}"
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        completion_ids.append([*ids, tokenizer.eos_token_id])
    return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": None}


if __name__ == "__main__":
    tiny = postlab.profile.PROFILES["tiny"]
    stages = {name: cut(getattr(tiny, name)) for name in ("sft", "dpo", "grpo")}
    postlab.profile.PROFILES["tiny"] = dataclasses.replace(tiny, eval_prompts=2, **stages)
    postlab.sampling.rollout_func = fixed_completions
    postlab.evals.evaluate = traced(postlab.evals.evaluate, "evaluates")
    postlab.runs.Run._write = traced(postlab.runs.Run._write, "writes")
    sys.argv = [str(STAGES_SCRIPT), *sys.argv[1:]]
    runpy.run_path(str(STAGES_SCRIPT), run_name="__main__")
