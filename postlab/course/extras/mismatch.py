"""Samplers that aren't quite the policy, and TRL's importance-sampling correction without vLLM.

`OtherSampler` is a `rollout_func` for GRPOTrainer whose completions come from a quantised copy of
the weights, or from weights some steps old. `corrected` makes a GRPOTrainer of TRL weigh its
tokens by p/q, as TRL does only where vLLM samples. Left out: more updates than one per batch, where
the ratio to the old policy and the ratio to the sampler are two different things.
"""

from __future__ import annotations

import copy
from collections import deque
from typing import TYPE_CHECKING, Any

from postlab.sampling import draw, read_policy

if TYPE_CHECKING:
    from torch import Tensor

MODES = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")


def fake_quantised(weight: Tensor, bits: int) -> Tensor:
    """The matrix rounded to `bits` bits per weight, one scale per row, back in its own dtype.

    Args:
        weight: (rows, columns).
        bits: 2 or more; 8 leaves the integers from -127 to 127.

    >>> import torch
    >>> fake_quantised(torch.tensor([[1.0, 0.4, -0.6]]), 2).tolist()  # integers -1, 0, 1
    [[1.0, 0.0, -1.0]]
    """
    most = 2 ** (bits - 1) - 1
    scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / most
    return (weight / scale).round() * scale


def importance_weights(log_ratios: Tensor, mask: Tensor, mode: str, limit: float) -> Tensor:
    """What each token's loss is multiplied by where the sampler q isn't the policy p.

    Args:
        log_ratios: (B, T) log p - log q of the sampled tokens, nats.
        mask: (B, T), 1 on completion tokens.
        mode: one of `MODES`, TRL's names: the ratio of a token or of the whole answer, and whether
            one above `limit` is cut down to it (truncated) or set to 0 (masked).
        limit: TRL's `vllm_importance_sampling_clip_max`.
    Returns:
        (B, T) for tokens, (B, 1) for sequences.
    Raises:
        ValueError: if there is no such mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    level, action = mode.split("_")
    summed = log_ratios * mask
    ratio = (summed if level == "token" else summed.sum(-1, keepdim=True)).exp()
    return ratio.clamp(max=limit) if action == "truncate" else ratio * (ratio <= limit)


def corrected(trainer_class: Any, *, mode: str | None, limit: float = 2.0) -> Any:
    """A GRPOTrainer that knows the sampler's log-probs, with or without the correction.

    With one update per batch, the policy's own ratio is 1, and to multiply a token's loss by its
    weight is to multiply its advantage. Each batch's (mean log q - log p, largest |log p - log q|)
    is kept in `mismatch`; the mean is the KL from the sampler to the policy, estimated per token.

    Args:
        trainer_class: TRL's GRPOTrainer.
        mode, limit: as in `importance_weights`; with None tokens are not weighed.
    """
    import torch

    class Corrected(trainer_class):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.mismatch: list[tuple[float, float]] = []

        def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
            batch = super()._generate_and_score_completions(inputs)
            # 1. log p of the sampled tokens under the policy that is trained.
            ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
            attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
            mask = batch["completion_mask"]  # (B, T)
            with torch.no_grad():
                logps, *_ = self._get_per_token_logps_and_entropies(
                    self.model, ids, attention, mask.shape[1]
                )
            # 2. log p - log q: the sampler's log-probs came with its completions.
            log_ratios = (logps - batch["sampling_per_token_logps"]) * mask
            self.mismatch.append(
                (-(log_ratios.sum() / mask.sum()).item(), log_ratios.abs().max().item())
            )
            # 3. A weight for each token's advantage: (B,) becomes (B, T).
            if mode is not None:
                weights = importance_weights(log_ratios, mask, mode, limit)
                batch["advantages"] = batch["advantages"][:, None] * weights.expand_as(mask)
            return batch

    return Corrected


class OtherSampler:
    """A `rollout_func` whose completions come from another copy of the weights.

    Args:
        bits: of the copy's matrices; None leaves them in float32.
        lag: how many optimizer steps old the copy is; at the start it is as old as training.
    Raises:
        ValueError: when called, if the model isn't one that the CPU engine reads.
    """

    def __init__(self, *, bits: int | None = None, lag: int = 0) -> None:
        self.bits = bits
        self.copies: deque[Any] = deque(maxlen=lag + 1)

    def __call__(self, prompts: list, trainer: Any) -> dict[str, Any]:
        prompt_ids, _, _ = trainer._tokenize_prompts(prompts)
        self.copies.append(self.snapshot(trainer.accelerator.unwrap_model(trainer.model)))
        longest = max(map(len, prompt_ids)) + trainer.max_completion_length
        engine = read_policy(self.copies[0], longest)
        if engine is None:
            raise ValueError("expected a float32 Llama or Qwen2 on a CPU, as the engine reads")
        completion_ids, logps = engine.decode(
            prompt_ids,
            new_tokens=trainer.max_completion_length,
            stops=set(trainer.eos_token_ids),
            draw=lambda logits, rows: draw(logits, trainer.temperature),
            temperature=trainer.temperature,
        )
        return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": logps}

    def snapshot(self, policy: Any) -> Any:
        """The policy as it is now, its adapter merged, its matrices rounded to `bits`."""
        import torch

        merged = copy.deepcopy(policy).merge_and_unload()
        if self.bits is not None:
            with torch.no_grad():
                for name, module in merged.named_modules():
                    if isinstance(module, torch.nn.Linear) and "lm_head" not in name:
                        module.weight.copy_(fake_quantised(module.weight, self.bits))
        return merged
