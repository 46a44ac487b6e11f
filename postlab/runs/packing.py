"""No work on padding or on repeated beginnings: a batch's texts packed into fewer, fuller rows.

A padded batch of tinyworld's dialogues is half padding, and on a CPU each padded position costs as
much as a real one. So does each copy of a prompt that several texts begin with: the chosen and the
rejected reply of a pair, or a group of GRPO's answers. `without_padding` moves the real tokens of a
batch into fewer rows on their way into the decoder, those of a shared beginning once, and hands its
hidden states back to every position that they belong to. Everything outside, the trainer, its
losses and its counts, sees the padded batch it made; results differ by rounding (and, where there
is dropout, by its luck). Only the states of padded positions are others: each gets those of its
text's last token, in whatever batch the text is. `logits/chosen` of TRL's CPO and ORPO shows it, a
mean over the padding too.

A hidden state depends on the tokens up to its own position and on nothing else, so texts with the
same beginning have the same states there, and their gradients add up. A row is then a tree of
tokens, and a token attends to the path from the root to itself. Where nothing is shared,
transformers' own packed-sequence mask keeps the texts of a row apart: where positions start anew
and no attention mask is given, attention stops. TRL's `padding_free` does the same with a single
row, in which most of attention's work is masked away, and for SFT alone.

Left out: GPUs, where Unsloth has its own way; sampling, which `decoding` does; models that are not
in KINDS; noise in the embeddings (NEFTune) and rotations that depend on a batch's length; masks
with holes; shared beginnings where attention has a window or there is dropout, which should differ
between texts; and the output head, which still sees the padding.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

KINDS = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
)  # decoders whose masks come from `create_causal_mask`
ROW = 128  # tokens: attention's work grows with a row's length, so rows are not made longer
WORTH_SHARING = 0.25  # of a text; sharing less would only tie texts to the same row
ATTENTION = ("sdpa", "eager", "flex_attention")  # those that keep the texts of a row apart
WORTH = 0.9  # moving the tokens pays where it leaves out a tenth of the positions


@contextmanager
def without_padding(model: Any) -> Iterator[None]:
    """While inside, `model` computes on a batch's real tokens only, and once on shared beginnings.

    Args:
        model: a causal LM, with adapters or without. On a GPU, or of a kind that was not tried,
            it is left as it is.
    """
    decoder = _decoder(model)
    if decoder is None:
        yield
        return
    padded, before = decoder.forward, vars(decoder).get("forward")
    # a method's function, so that a copy of the model does not compute with this model's weights
    function = getattr(padded, "__func__", lambda _, *args, **kwargs: padded(*args, **kwargs))

    # by its `__module__`, `decoding` knows a forward that changes no answer
    @functools.wraps(getattr(padded, "__func__", padded))
    def packed(decoder: Any, *args: Any, **kwargs: Any) -> Any:
        layout = None if args else _packable(decoder, kwargs)
        if layout is None:
            return function(decoder, *args, **kwargs)
        # unused places repeat the first token; each is a text of its own that nothing attends to
        output = function(
            decoder,
            **kwargs
            | {
                "input_ids": kwargs["input_ids"].flatten()[layout.take],
                "attention_mask": _as_mask(layout.sees, decoder),
                "position_ids": layout.positions,
            },
        )
        states = output.last_hidden_state.flatten(0, 1).index_select(0, layout.back.flatten())
        output.last_hidden_state = states.unflatten(0, layout.back.shape)
        return output

    packed.without_padding = True  # type: ignore[attr-defined]  # a function takes any attribute
    decoder.forward = MethodType(packed, decoder)
    try:
        yield
    finally:
        if before is None:
            del decoder.forward
        else:
            decoder.forward = before


def is_packed(model: Any) -> bool:
    """True inside `without_padding`: then results differ by rounding from those outside."""
    decoder = _decoder(model)
    return hasattr(vars(decoder).get("forward") if decoder else None, "without_padding")


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a (B, T) batch go: R rows of L places."""

    take: Tensor  # (R, L) for each place an index into the B*T positions
    positions: Tensor  # (R, L) counted from 0 in each text, 0 where there is none
    back: Tensor  # (B, T) for each position an index into the R*L places; padding: its text's last
    sees: Tensor | None  # (R, L, L) places that each place attends to; None if nothing is shared


def lay_out(mask: Tensor, ids: Tensor | None = None) -> Layout | None:
    """Pack a batch's texts, longest first into the first row with room; shared beginnings once.

    1. Sort the texts by their tokens, so that those with the same beginning are neighbours.
    2. Bundle neighbours while a quarter of the next text or more is shared and a row has room.
    3. Put the bundles into rows, the largest first, each into the first row with room for it.
    4. Walk along each row's texts: a token that is shared with the text before has its place.

    Args:
        mask: (B, T) of 1 at real tokens and 0 at padding, on either side.
        ids: (B, T) tokens; without them nothing is shared.
    Returns:
        None where too little would be saved, or a text has no token or a hole.

    >>> import torch
    >>> of = lay_out(torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 1, 1, 1]]))
    >>> of.take.tolist(), of.positions.tolist()
    ([[0, 1, 2, 3, 9, 10, 11, 4]], [[0, 1, 2, 3, 0, 1, 2, 0]])
    >>> of.back.tolist()
    [[0, 1, 2, 3], [7, 7, 7, 7], [6, 4, 5, 6]]
    >>> of = lay_out(torch.ones(2, 3), torch.tensor([[5, 6, 7], [5, 6, 8]]))
    >>> of.take.tolist(), of.positions.tolist(), of.back.tolist()
    ([[0, 1, 2, 5]], [[0, 1, 2, 2]], [[0, 1, 2], [0, 1, 3]])
    >>> of.sees[0].int().tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]
    """
    import torch

    real = [row.nonzero()[:, 0] for row in mask.cpu()]
    lengths = [len(row) for row in real]
    if min(lengths, default=0) == 0 or any(at[-1] - at[0] >= len(at) for at in real):
        return None
    width = max(ROW, *lengths)
    # 1. and 2. Each bundle is a list of (text, tokens shared with the text before).
    if ids is None:
        bundles = [[(text, 0)] for text in range(len(real))]
    else:
        tokens = [row[at].tolist() for row, at in zip(ids.cpu(), real, strict=True)]
        bundles = _bundles(tokens, width)
    # 3.
    sizes = [sum(lengths[text] - shared for text, shared in bundle) for bundle in bundles]
    rows: list[list[tuple[int, int]]] = []
    used: list[int] = []
    for i in sorted(range(len(bundles)), key=lambda i: (-sizes[i], bundles[i][0])):
        row = next((r for r, n in enumerate(used) if n + sizes[i] <= width), len(rows))
        if row == len(rows):
            rows.append([])
            used.append(0)
        rows[row] += bundles[i]
        used[row] += sizes[i]
    height, width = len(rows), max(used)
    if height * width > WORTH * mask.numel():
        return None
    # 4.
    take = torch.zeros(height, width, dtype=torch.long)
    positions = torch.zeros(height, width, dtype=torch.long)
    back = torch.zeros(mask.shape, dtype=torch.long)
    alone = all(len(bundle) == 1 for bundle in bundles)
    sees = None if alone else torch.eye(width).bool().repeat(height, 1, 1)
    for row, texts in enumerate(rows):
        end, path = 0, torch.empty(0, dtype=torch.long)
        for text, shared in texts:
            n = lengths[text]
            begin, end = end, end + n - shared
            path = torch.cat([path[:shared], torch.arange(begin, end)])  # the text's places
            take[row, begin:end] = text * mask.shape[1] + real[text][shared:]
            positions[row, begin:end] = torch.arange(shared, n)
            back[text] = row * width + path[-1]
            back[text, real[text]] = row * width + path
            if sees is not None:
                new = sees[row, begin:end]
                new[:, path[:shared]] = True
                new[:, begin:end] = torch.ones(end - begin, end - begin).tril().bool()
    return Layout(take, positions, back, sees)


def _bundles(texts: list[list[int]], width: int) -> list[list[tuple[int, int]]]:
    """Texts with the same beginning, each with the number of tokens shared with the one before."""
    bundles: list[list[tuple[int, int]]] = []
    size, before = 0, -1
    for text in sorted(range(len(texts)), key=texts.__getitem__):
        n = len(texts[text])
        shared = _shared(texts[before], texts[text]) if bundles else 0
        if bundles and shared >= n * WORTH_SHARING and size + n - shared <= width:
            bundles[-1].append((text, shared))
            size += n - shared
        else:
            bundles.append([(text, 0)])
            size = n
        before = text
    return bundles


def _shared(one: list[int], other: list[int]) -> int:
    """The number of tokens that two texts begin with in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _packable(decoder: Any, kwargs: dict[str, Any]) -> Layout | None:
    """`lay_out` of a training batch; None for sampling and for what asks for more than states."""
    config = decoder.config
    ids, mask = kwargs.get("input_ids"), kwargs.get("attention_mask")
    if ids is None or mask is None or kwargs.get("use_cache") is not False:
        return None
    if mask.dim() != 2 or mask.shape != ids.shape or config._attn_implementation not in ATTENTION:
        return None
    if any(kwargs.get(name) is not None for name in ("position_ids", "past_key_values")):
        return None
    more = ("output_hidden_states", "output_attentions")  # by an argument, or else by the config
    if any(kwargs.get(name) or getattr(config, name, False) for name in more):
        return None
    if "is_causal" in kwargs or not getattr(config, "is_causal", True):
        return None
    # what depends on a batch's shape: noise in the embeddings, rotations by the longest text
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    noisy = hasattr(decoder.get_input_embeddings(), "neftune_noise_alpha")
    if noisy or rope in ("dynamic", "longrope"):
        return None
    windowed = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    windowed |= {getattr(config, "sliding_window", None)} - {None}
    trees = not windowed and config._attn_implementation in ("sdpa", "eager")
    return lay_out(mask, ids if trees and not _has_dropout(decoder) else None)


def _has_dropout(decoder: Any) -> bool:
    """Dropout that is on: then copies of a token have different states."""
    from torch.nn import Dropout

    if decoder.training and getattr(decoder.config, "attention_dropout", 0):
        return True
    return any(isinstance(m, Dropout) and m.training and m.p > 0 for m in decoder.modules())


def _as_mask(sees: Tensor | None, decoder: Any) -> Tensor | None:
    """(R, 1, L, L) mask as the model's attention takes it: bool, or added to the scores."""
    import torch

    if sees is None or decoder.config._attn_implementation == "sdpa":
        return None if sees is None else sees[:, None]
    return torch.zeros(sees.shape, dtype=decoder.dtype).masked_fill(~sees, -torch.inf)[:, None]


def _decoder(model: Any) -> Any:
    """The stack of layers below the head, or None where the batch has to stay as it is."""
    config = getattr(model, "config", None)
    if getattr(config, "model_type", None) not in KINDS or model.device.type != "cpu":
        return None
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(whole, "model", None)
