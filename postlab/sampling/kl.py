"""How far a policy has moved from a reference: the exact KL of each step along its own answers.

KL(policy || ref), in nats, over the whole vocabulary at each position of an answer, summed over the
answer, end of turn included, at temperature 1 whatever the answer was drawn at.

What this leaves out: gradients, and the KL of answers that were not given. On answers sampled at
temperature 1 the sum is an unbiased estimate of the KL of whole answers, of no more variance than
the usual log p - log q (Amini et al. 2025, arXiv 2504.10637); along greedy answers it describes.

On a CPU both models are scored with the engine's merged matrices (`scoring`) where it can read
them, else with their own forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from postlab.sampling.rollout import Rollout, read_policy

if TYPE_CHECKING:
    from torch import Tensor

LOGITS = 2**25  # numbers a forward pass may return: 128 MiB of float32 a model
ROWS = 64  # texts in a forward pass: more would only be padded to the longest of more


def check_ref(policy: Any, ref: Any) -> None:
    """Raise a ValueError if `ref` is neither a model, 'base' nor an adapter of the policy."""
    known = list(getattr(policy, "peft_config", {}))
    if ref is None or hasattr(ref, "modules") or (known and ref in ("base", *known)):
        return
    raise ValueError(
        f"ref is {ref!r}; expected a model, 'base' (a PEFT policy with its adapters off) or one of"
        f" the policy's adapters {known}"
    )


def answer_kl(policy: Any, ref: Any, rollouts: list[Rollout]) -> list[float]:
    """KL(policy || ref) of each rollout's answer; use it inside `sampling.unchanged`, without grad.

    1. Batch the distinct texts by length.
    2. Run both models on the same texts; the policy only if it didn't keep its logits.
    3. At each position of an answer, sum p(v) (log p(v) - log q(v)) over the vocabulary.

    Args:
        ref: another model, an adapter of `policy` by name, or 'base': its adapters off.
        rollouts: answered, with prompts of like length.
    Returns:
        Nats an answer: sum over its positions of sum over v of p(v) (log p(v) - log q(v)).
    Raises:
        ValueError: if the vocabularies differ.
    """
    vocabulary = policy.get_output_embeddings().weight.shape[0]
    longest = max(len(rollout.prompt) + len(rollout.answer) for rollout in rollouts)
    positions = longest - min(len(rollout.prompt) for rollout in rollouts) + 1
    rows = min(ROWS, max(1, LOGITS // (positions * vocabulary)))
    # 1. Greedy answers to the same prompt are often identical; each text is computed once.
    distinct = {(*rollout.prompt, -1, *rollout.answer): rollout for rollout in rollouts}
    nats: dict[tuple[int, ...], float] = {}
    texts = sorted(distinct, key=len)  # texts of like length share a batch: little padding
    score_policy, score_ref = _scorers(policy, ref, longest)
    for some in (texts[i : i + rows] for i in range(0, len(texts), rows)):
        batch = [distinct[text] for text in some]
        # 2. Logits (B, T, V) of both models, starting at the shortest prompt's last token.
        first = min(len(rollout.prompt) for rollout in batch) - 1  # it predicts the first answer
        theirs = score_ref(batch, first)
        if theirs.shape[-1] != vocabulary:
            raise ValueError(
                f"ref has {theirs.shape[-1]} tokens in its vocabulary, the policy {vocabulary};"
                " a KL needs the same tokenizer"
            )
        kept = all(rollout.logits is not None for rollout in batch)
        ours = None if kept else score_policy(batch, first)
        # 3. Sum over the whole vocabulary, not just the sampled tokens: the KL is never negative.
        for i, (text, rollout) in enumerate(zip(some, batch, strict=True)):
            start = len(rollout.prompt) - 1 - first
            steps = slice(start, start + len(rollout.answer))
            p = rollout.logits if ours is None else ours[i, steps]
            p, q = (x.float().log_softmax(-1) for x in (p, theirs[i, steps].to(p.device)))  # (T, V)
            nats[text] = float((p.exp() * (p - q)).sum())
    return [nats[(*rollout.prompt, -1, *rollout.answer)] for rollout in rollouts]


def _scorers(policy: Any, ref: Any, longest: int) -> list[Callable[[list[Rollout], int], Tensor]]:
    """Two functions of a batch and a first position that return logits: policy's, reference's."""
    engines = []
    for which in (None, ref):
        with _reference(policy, policy if which is None else which) as model:
            on_cpu = getattr(getattr(model, "device", None), "type", None) == "cpu"
            engines.append(read_policy(model, longest) if on_cpu else None)
    # Both by one way: where one model has to use its own forward pass, the other does too.
    if all(engines):
        from postlab.sampling import scoring

        def by_engine(engine: Any) -> Callable[[list[Rollout], int], Tensor]:
            return lambda batch, first: scoring.logits(engine, _padded(batch)[0], first)

        return [by_engine(engine) for engine in engines]

    def by_itself(batch: list[Rollout], first: int) -> Tensor:
        return _logits(policy, batch, first)

    def by_reference(batch: list[Rollout], first: int) -> Tensor:
        with _reference(policy, ref) as model:
            return _logits(model, batch, first)

    return [by_itself, by_reference]


@contextmanager
def _reference(policy: Any, ref: Any) -> Iterator[Any]:
    """The reference model; the policy's adapters are as before afterwards, but for their grads."""
    if not isinstance(ref, str):
        yield ref
    elif ref == "base":
        with policy.disable_adapter():
            yield policy
    else:
        active, named = list(policy.active_adapters), policy.active_adapter
        policy.set_adapter(ref)
        try:
            yield policy
        finally:
            policy.base_model.set_adapter(active)
            policy.active_adapter = named


def _logits(model: Any, batch: list[Rollout], first: int) -> Any:
    """Logits (B, T - first, V) of prompts with their answers, by the model's own forward pass."""
    device = next(model.parameters()).device
    ids, mask = _padded(batch)
    width = ids.shape[1]
    out = model(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        logits_to_keep=width - first,
        use_cache=False,
    )
    return out.logits[:, first - width :]


def _padded(batch: list[Rollout]) -> tuple[Tensor, Tensor]:
    """(B, T) tokens of prompts with their answers, and a mask of 1 on them.

    Padded on the right: under a causal mask no real position can see the padding.
    """
    import torch

    width = max(len(rollout.prompt) + len(rollout.answer) for rollout in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, rollout in enumerate(batch):
        text = torch.tensor(rollout.prompt + rollout.answer)
        ids[i, : len(text)], mask[i, : len(text)] = text, 1
    return ids, mask
