"""Log-probs of tokens, and sums and means over those that count.

Log-probs in nats. A mask is 1 on the tokens that count; what stands elsewhere, NaN included, has no
effect on a result or its gradient.

Left out: chunking of the vocabulary to save memory (`token_logps` holds (B, T, V) at once), and
sums over several devices. Half-precision logits are taken up to float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from postlab.scratch.shapes import check_mask


def token_logps(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-probability of each label: what every loss here is made of.

    Args:
        logits: (B, T, V), already aligned: logits[:, t] predict labels[:, t].
        labels: (B, T) token ids.
    Returns:
        (B, T) nats.
    Raises:
        ValueError: if the shapes do not fit, or a label is not in the vocabulary (such as -100).
    Taught in week 1.

    >>> token_logps(torch.tensor([[[1.0, 3.0]]]).log(), torch.tensor([[1]])).exp()  # 3 / (1 + 3)
    tensor([[0.7500]])
    """
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)} and labels {tuple(labels.shape)}; expected"
            " (B, T, V) and (B, T): align them with logits[:, :-1] and input_ids[:, 1:]"
        )
    if labels.numel() and not 0 <= labels.min() <= labels.max() < logits.shape[-1]:
        raise ValueError(
            f"labels run from {int(labels.min())} to {int(labels.max())}, the vocabulary from 0 to"
            f" {logits.shape[-1] - 1}; put any token id where a label is ignored, and mask it"
        )
    return _log_softmax(logits).gather(-1, labels[..., None]).squeeze(-1)


def entropy(logits: Tensor) -> Tensor:
    """How undecided the policy is at each position: 0 if certain, log V if every token is as good.

    Args:
        logits: (..., V); -inf rules a token out.
    Returns:
        (...) nats.
    Taught in week 4.

    >>> entropy(torch.zeros(1, 4)).exp()  # as undecided as among four
    tensor([4.])
    """
    logps = _log_softmax(logits)
    finite = logps.clamp(min=torch.finfo(logps.dtype).min)  # 0 * -inf would be NaN
    return -(logps.exp() * finite).sum(-1)


def masked_mean(x: Tensor, mask: Tensor, *, dim: int | None = None) -> Tensor:
    """Mean over the tokens that count: of everything, or along `dim`.

    Args:
        x: any shape.
        mask: as x.
    Raises:
        ValueError: if a mean would be over no token at all.

    >>> masked_mean(torch.tensor([[1.0, 3.0], [8.0, 9.0]]), torch.tensor([[1, 1], [1, 0]]))
    tensor(4.)
    """
    check_mask(x, mask, dim=dim, needed=True)
    return masked_sum(x, mask, dim=dim) / mask.sum(dim)


def masked_sum(
    x: Tensor, mask: Tensor, *, divisor: float | Tensor = 1.0, dim: int | None = None
) -> Tensor:
    """Sum over the tokens that count, divided by a constant that does not depend on the mask.

    >>> masked_sum(torch.tensor([[1.0, 3.0], [8.0, 9.0]]), torch.tensor([[1, 1], [1, 0]]), dim=1)
    tensor([4., 8.])
    """
    check_mask(x, mask)
    return x.masked_fill(mask == 0, 0).sum(dim) / divisor


def _log_softmax(logits: Tensor) -> Tensor:
    """(..., V) nats; bfloat16 has three digits, too few for a ratio of probabilities."""
    half = logits.dtype in (torch.float16, torch.bfloat16)
    return logits.log_softmax(-1, dtype=torch.float32 if half else None)
