"""Prompts and completions as one batch, and completions drawn from a model by plain forward passes.

The from-scratch loops (reward model, PPO, DPO) all work on `Rollouts`. A model is whatever can be
called like transformers' causal models: with `input_ids` and `attention_mask` it returns `logits`,
`hidden_states` and `past_key_values`. `TableLM` is one that is small enough to enumerate.

What this leaves out: top-p, top-k, temperatures other than 1 (PPO's ratio wants the policy itself)
and positions counted from the first real token (rotary embeddings do not mind the padding).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Rollouts:
    """A batch of prompts, padded on the left, and completions, padded on the right.

    Args:
        ids: (B, P + T) tokens; every completion begins in column P.
        attention: (B, P + T), 1 on tokens that are not padding.
        mask: (B, T), 1 on completion tokens, the one that ends the reply included.
    """

    ids: Tensor
    attention: Tensor
    mask: Tensor

    @property
    def completions(self) -> Tensor:
        """(B, T) tokens."""
        return self.ids[:, -self.mask.shape[1] :]

    @property
    def last(self) -> Tensor:
        """(B, 1) position of each completion's last token, in 0..T-1."""
        return self.mask.sum(dim=1, keepdim=True).long() - 1

    def ended(self, eos: int) -> Tensor:
        """(B,) bool: whether the completion's last token is `eos`."""
        return self.completions.gather(1, self.last)[:, 0] == eos

    def rows(self, index: Tensor) -> "Rollouts":
        """The rows of `index`, in its order."""
        return Rollouts(self.ids[index], self.attention[index], self.mask[index])


def pack(prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> Rollouts:
    """Put given prompts and completions into one batch, to be scored or trained on.

    Args:
        prompts: B lists of token ids.
        completions: B lists of token ids, one for each prompt.
    Returns:
        Prompts padded on the left and completions on the right, with the mask of completion tokens.
    Raises:
        ValueError: if their numbers differ, or a prompt or completion has no token.

    >>> batch = pack([[7], [7, 8]], [[1, 2], [3]])
    >>> batch.ids.tolist(), batch.mask.tolist(), batch.last.flatten().tolist()
    ([[0, 7, 1, 2], [7, 8, 3, 0]], [[1, 1], [1, 0]], [1, 0])
    """
    if len(prompts) != len(completions):
        raise ValueError(
            f"got {len(prompts)} prompts and {len(completions)} completions; expected a completion "
            "for each prompt"
        )
    for name, texts in (("prompts", prompts), ("completions", completions)):
        empty = next((b for b, text in enumerate(texts) if not len(text)), None)
        if empty is not None or not len(texts):
            where = "is empty" if empty is None else f"has no token in row {empty}"
            raise ValueError(f"{name} {where}; give every row at least one token")
    width, length = (max(map(len, texts)) for texts in (prompts, completions))
    ids = torch.zeros(len(prompts), width + length, dtype=torch.long)
    attention = torch.zeros_like(ids)
    for b, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        real = slice(width - len(prompt), width + len(completion))
        ids[b, real], attention[b, real] = torch.tensor([*prompt, *completion]), 1
    return Rollouts(ids, attention, attention[:, width:])


@torch.no_grad()
def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    eos: int | None,
    max_new_tokens: int,
    generator: torch.Generator | None = None,
) -> Rollouts:
    """Draw a completion for each prompt from the model itself: temperature 1, nothing cut off.

    Args:
        prompts: token ids, of any lengths; give one several times to draw several completions.
        eos: the token that ends a reply; None if only the limit does.
        max_new_tokens: the limit, at least 1.
        generator: decides the draw; None uses torch's own.
    Raises:
        ValueError: if a prompt has no token, or the limit is below 1.

    >>> model = TableLM(3)
    >>> _ = model.table.weight.data.copy_(torch.tensor([[0, 9, 0], [0, 0, 9], [9, 0, 0], [9, 0, 0]])
    ...                                   * 10)  # start -> 0 -> 1 -> 2 -> 0
    >>> sample(model, [[model.start]], eos=2, max_new_tokens=5).completions.tolist()
    [[0, 1, 2]]
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens}; expected at least 1")
    # 1. Pad the prompts on the left, so that all completions begin in the same column.
    start = pack(prompts, [[0]] * len(prompts))  # its extra column is removed below
    ids, attention = start.ids[:, :-1], start.attention[:, :-1]
    width, feed, cache = ids.shape[1], ids, None
    alive = torch.ones(len(ids), 1, dtype=torch.bool)
    for _ in range(max_new_tokens):
        # 2. Run the prompts once, then only the newest token: the cache holds the rest.
        out = model(input_ids=feed, attention_mask=attention, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        # 3. Sample from the model's distribution; pad a completion that has ended with 0.
        feed = torch.multinomial(out.logits[:, -1].softmax(-1), 1, generator=generator)  # (B, 1)
        feed = feed.where(alive, 0)
        ids = torch.cat([ids, feed], dim=1)
        attention = torch.cat([attention, alive.long()], dim=1)
        # 4. A completion ends with its eos, which still counts as one of its tokens.
        alive = alive & (feed != eos) if eos is not None else alive
        if not alive.any():
            break
    return Rollouts(ids, attention, attention[:, width:])


def completion_states(model: Any, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
    """Logits (B, T, V) and last hidden states (B, T, H) that each completion token was chosen from.

    Both stand one position before the token: a causal model predicts the next one.

    >>> model, batch = TableLM(3), pack([[3], [3]], [[1, 2], [0]])
    >>> logits, hidden = completion_states(model, batch)
    >>> logits.shape, hidden.argmax(-1).tolist()  # start, then 1; start, then 0
    (torch.Size([2, 2, 3]), [[3, 1], [3, 0]])
    """
    out = model(
        input_ids=rollouts.ids, attention_mask=rollouts.attention, output_hidden_states=True
    )
    # The logits at position t predict token t + 1, so completions are read one column earlier.
    before = slice(-rollouts.mask.shape[1] - 1, -1)
    return out.logits[:, before], out.hidden_states[-1][:, before]


class TableLM(nn.Module):
    """A causal model whose next token depends on the last one alone: a table of logits.

    Over completions of at most two tokens that is no restriction: every distribution over them has
    such a table. So it is the unlimited policy that proofs speak of, with few enough completions to
    enumerate. The prompt is the single token `start`, which is never emitted.

    Args:
        vocabulary: V, the number of tokens it can emit; `start` is V.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.start = vocabulary
        self.table = nn.Embedding(vocabulary + 1, vocabulary)
        nn.init.zeros_(self.table.weight)

    def forward(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        hidden = nn.functional.one_hot(input_ids, self.start + 1).to(self.table.weight.dtype)
        return SimpleNamespace(
            logits=self.table(input_ids), hidden_states=(hidden,), past_key_values=None
        )
