"""GRPO's completions from half-precision weights, and the correction that this needs: an option.

Sampling a larger model on a CPU is bound by reading its weights, so float16 ones take about half
the time. They answer by slightly other probabilities than the policy's, which makes training
off-policy; `truncated_importance_sampling` puts that right, as TRL does for vLLM and for it alone.

What this leaves out: int8 (with activations in int8 as well it was faster again, but log-probs of
SmolLM2 were off by a nat and more, and no truncated weight corrects that), matrices that are too
small to gain, machines without FBGEMM, and everything that `rollout_trl` leaves to TRL.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from postlab import rollout_trl


def half_rollout_func(prompts: list, trainer: Any) -> dict[str, list | None]:
    """Like `rollout_trl.rollout_func`, from float16 weights; use it with the correction below.

    Args:
        prompts: messages or strings, the same one once for each completion of its group.
        trainer: the GRPOTrainer, given to `truncated_importance_sampling` before it trains.
    Returns:
        `prompt_ids`, `completion_ids`, and `logprobs` in nats by the halved weights; without them
        where TRL sampled, from the policy itself.
    Raises:
        ValueError: if the trainer would train on these completions as if the policy had drawn them.
    """
    if "_compute_loss" not in vars(trainer):
        raise ValueError(
            "half_rollout_func draws from other probabilities than the policy's, and this trainer"
            " does not correct for it; call truncated_importance_sampling(trainer) before train()"
        )
    prompt_ids, images, _ = trainer._tokenize_prompts(prompts)
    engine = None if images or trainer.tools else rollout_trl._engine(trainer, prompt_ids)
    if engine is None:
        return rollout_trl.rollout_func(prompts, trainer)
    completion_ids, logps = halved(engine).decode(
        prompt_ids,
        new_tokens=trainer.max_completion_length,
        stops=set(trainer.eos_token_ids),
        draw=lambda logits, rows: rollout_trl.draw(logits, trainer.temperature),
        temperature=trainer.temperature,
    )
    return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": logps}


def halved(decoder: Any) -> Any:
    """A `decoding.Decoder` whose large matrices are float16; sums are still float32."""
    import torch

    if "fbgemm" not in torch.backends.quantized.supported_engines:
        return decoder
    parts = ("qkv", "out", "gate_up", "down")
    with torch.inference_mode():
        layers = [
            replace(layer, **{part: _half(getattr(layer, part)) for part in parts})
            for layer in decoder.layers
        ]
        return replace(decoder, layers=layers, head=_half(decoder.head))


def _half(product: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same product in float16, if it is one of those that `decoding` found worth packing."""
    import torch

    held = inspect.getclosurevars(product).nonlocals
    if "packed" not in held:
        return product
    packed = torch.ops.quantized.linear_prepack_fp16(held["packed"].to_dense(), held["bias"])
    return lambda x: torch.ops.quantized.linear_dynamic_fp16(x, packed)


def truncated_importance_sampling(trainer: Any, *, cap: float = 2.0) -> None:
    """Weight each token's loss by min(policy / sampler, cap), the sampler's probability given.

    Without a weight the gradient is that of another policy's answers. The cap keeps a token that
    the sampler held for unlikely from ruling a batch; it biases the gradient towards 0.

    Args:
        trainer: a GRPOTrainer whose `rollout_func` returns `logprobs`; changed in place.
        cap: the largest weight.
    Raises:
        ValueError: if the cap is below 1, which would weigh down right answers as well.
    Source: Yao et al. 2025, 'Your efficient RL framework secretly brings you off-policy RL
        training'; TRL's `vllm_importance_sampling_correction`.
    """
    if cap < 1:
        raise ValueError(f"cap is {cap}; expected 1 or more (2 is usual)")
    loss_of, logps_of = trainer._compute_loss, trainer._get_per_token_logps_and_entropies

    def compute_loss(model: Any, inputs: dict[str, Any]) -> Any:
        inputs = dict(inputs)  # TRL keeps its own for a second step on the same completions

        def weighing(*args: Any, **kwargs: Any) -> Any:
            found = logps_of(*args, **kwargs)
            _weigh(trainer, inputs, found[0].detach(), cap)
            return found

        trainer._get_per_token_logps_and_entropies = weighing
        try:
            return loss_of(model, inputs)
        finally:
            del trainer._get_per_token_logps_and_entropies

    trainer._compute_loss = compute_loss


def _weigh(trainer: Any, inputs: dict[str, Any], logps: Any, cap: float) -> None:
    """Put the weights, (B, T), into the advantages: TRL multiplies them with every token's loss."""
    import torch

    sampler = inputs.get("sampling_per_token_logps")
    if sampler is None:  # TRL drew these from the policy itself
        return
    old = inputs.get("old_per_token_logps")  # the policy at sampling time; else it is this one
    mask = inputs["completion_mask"].bool()
    gap = torch.where(mask, (logps if old is None else old) - sampler, 0.0)
    weights = gap.exp().clamp(max=cap)
    advantages = inputs["advantages"]
    inputs["advantages"] = (advantages[:, None] if advantages.dim() == 1 else advantages) * weights
    noted = trainer._metrics["train" if trainer.model.training else "eval"]
    noted["sampling/importance_sampling_ratio/mean"].append(weights[mask].mean().item())
    noted["sampling/importance_sampling_ratio/max"].append(weights[mask].max().item())
