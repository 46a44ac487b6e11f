"""What a trained preference model says of pairs: implicit margins, and how much of them is length.

Left out: any training; the losses are in `scratch.losses`, and TRL has the trainer.
"""

from torch import Tensor


def implicit_margins(
    policy_logps: Tensor, ref_logps: Tensor, mask: Tensor, *, beta: float
) -> Tensor:
    """Margin of each pair's implicit rewards, from a batch as TRL lays it out.

    Args:
        policy_logps: (2B, T) nats, the B chosen replies first, then the B rejected ones.
        ref_logps: (2B, T) nats, the same tokens under the reference.
        mask: (2B, T), 1 on response tokens.
    Returns:
        (B,) beta times nats: reward of chosen less reward of rejected.
    Source: Rafailov et al. 2023, arXiv 2305.18290, section 4. Taught in week 5.

    >>> import torch
    >>> policy, ref = torch.tensor([[-1.0, -1], [-4, -9]]), torch.tensor([[-2.0, -1], [-2, -1]])
    >>> implicit_margins(policy, ref, torch.tensor([[1, 1], [1, 0]]), beta=0.5)  # .5 * (1 - -2)
    tensor([1.5000])
    """
    rewards = beta * ((policy_logps - ref_logps) * mask).sum(dim=1)
    chosen, rejected = rewards.chunk(2)
    return chosen - rejected


def length_bias(margins: Tensor, extra_tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Least-squares line of margins over length: what a token more brings, and what stays without.

    Args:
        margins: (B,).
        extra_tokens: (B,) tokens of the chosen reply less those of the rejected one, not all equal.
    Returns:
        slope (margin a token) and intercept (margin at equal length), both scalars. The slope is a
        correlation: replies that are longer may also be better.
    Source: ordinary least squares. Taught in week 5.

    >>> import torch
    >>> length_bias(torch.tensor([1.0, 3, 5]), torch.tensor([-1.0, 0, 1]))
    (tensor(2.), tensor(3.))
    """
    extra = extra_tokens.to(margins.dtype)
    away = extra - extra.mean()
    slope = (away * (margins - margins.mean())).sum() / (away**2).sum()
    return slope, margins.mean() - slope * extra.mean()
