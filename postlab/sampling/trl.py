"""GRPO's completions by the engine of `decoding`: `GRPOTrainer(..., rollout_func=rollout_func)`.

`DistillationTrainer` has no such argument; `sample_with_engine(trainer)` does it there.

TRL samples with `generate`, one row a completion: every prompt is filled in once for each of its
group, and who has finished stays in the batch to the end. The engine does neither. It draws from
the same distribution with other luck, from torch's global generator, whose state the trainer's
checkpoints hold; so a run that was killed goes on with the same completions.

Left out: what the engine cannot do (GPUs, other models, top-p, top-k, min-p, penalties, images,
tools, vLLM). There TRL's own sampling serves, unasked.
"""

from __future__ import annotations

from typing import Any

PLAIN = {
    "top_p": (None, 1.0),
    "top_k": (None, 0),
    "min_p": (None, 0.0),
    "repetition_penalty": (1.0,),
}


def rollout_func(prompts: list, trainer: Any) -> dict[str, list | None]:
    """Sample a completion for each prompt, as TRL's `rollout_func` is asked to.

    Args:
        prompts: messages or strings, the same one once for each completion of its group.
        trainer: the GRPOTrainer; its temperature and completion length hold.
    Returns:
        `prompt_ids` and `completion_ids`, lists of tokens, the token that ended one included, and
        `logprobs`: of each token in nats at the trainer's temperature; None where TRL sampled.
    """
    prompt_ids, images, fields = trainer._tokenize_prompts(prompts)
    engine = None if images or trainer.tools else _engine(trainer, prompt_ids)
    if engine is None:
        training = trainer.model.training
        group = trainer.num_generations if training else trainer.num_generations_eval
        completion_ids, logps = trainer._generate_single_turn(prompt_ids, images, fields, group)
    else:
        completion_ids, logps = _decode(engine, prompt_ids, trainer)
    return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": logps}


def sample_with_engine(trainer: Any) -> Any:
    """Let TRL's DistillationTrainer sample the student's completions with the engine.

    Args:
        trainer: a DistillationTrainer; its own sampling stays where the engine can't serve.
    Returns:
        The same trainer.
    """
    generate = trainer._generate_single_turn

    def single_turn(prompt_ids: list[list[int]], images: Any, *rest: Any) -> list[list[int]]:
        engine = None if images or trainer.tools else _engine(trainer, prompt_ids)
        if engine is None:
            return generate(prompt_ids, images, *rest)
        return _decode(engine, prompt_ids, trainer)[0]

    trainer._generate_single_turn = single_turn
    return trainer


def _decode(
    engine: Any, prompt_ids: list[list[int]], trainer: Any
) -> tuple[list[list[int]], list[list[float]]]:
    """Completions as the trainer's settings want them, and their log-probs in nats."""
    return engine.decode(
        prompt_ids,
        new_tokens=trainer.max_completion_length,
        stops=set(trainer.eos_token_ids),
        draw=lambda logits, rows: draw(logits, trainer.temperature),
        temperature=trainer.temperature,
    )


def draw(logits: Any, temperature: float) -> Any:
    """(n, V) logits -> (n,) tokens from softmax(logits / temperature), with torch's global RNG."""
    import torch

    # Inverse transform sampling, which needs one random number per row instead of V.
    # 1. Cumulative probabilities (n, V), in float64: float32 sums would lose small probabilities.
    sums = (logits.double() / temperature).softmax(dim=-1).cumsum(dim=-1)
    # 2. A uniform number below the total, which may differ slightly from 1 because of rounding.
    luck = torch.rand(len(logits), 1, dtype=torch.float64) * sums[:, -1:]
    # 3. The first token whose cumulative probability exceeds it.
    return torch.searchsorted(sums, luck, right=True)[:, 0].clamp_(max=logits.shape[1] - 1)


def _engine(trainer: Any, prompt_ids: list[list[int]]) -> Any:
    """The policy read for decoding, or None where TRL's own sampling has to serve."""
    args = trainer.args
    if (
        trainer.accelerator.device.type != "cpu"
        or trainer.accelerator.num_processes > 1
        or args.use_vllm
        or args.generation_kwargs
        or any(getattr(args, name, plain[0]) not in plain for name, plain in PLAIN.items())
    ):
        return None
    from postlab.sampling import decoding

    longest = max(map(len, prompt_ids)) + trainer.max_completion_length
    return decoding.read(trainer.accelerator.unwrap_model(trainer.model), longest)
