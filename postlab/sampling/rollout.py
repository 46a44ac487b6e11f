"""Answers drawn from a policy for evaluation: batched, seeded, and without a trace in the policy.

`answer` fills in rollouts: on a CPU with `decoding` where it can read the model, with vLLM if the
policy comes with it (`engines`), else with the model's own `generate` (plain, PEFT or Unsloth).
The first and the last give the same answers, up to rounding. There, sampling is
argmax(logits / T + Gumbel noise), which draws from softmax(logits / T), with a generator for each
answer: a draw does not depend on its neighbours in the batch, nor on how many there are.

What this leaves out: top-p, top-k and penalties (an evaluation looks at the policy itself), and
several devices. GRPO's training rollouts are TRL's own.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from postlab.sampling.engines import by_unsloth, luck, vllm_of
from postlab.sampling.memory import MOST, AnswerMemory, answer_memory

KEPT = 2**25  # logits a batch may keep: 128 MiB of float32
Messages = list[dict[str, str]]  # a conversation: {"role": ..., "content": ...} per message


@dataclass
class Rollout:
    """One answer wanted and what came out, as tokens, the one that ended it included."""

    name: str  # of the prompt; with `sample` and the seed it decides the luck of the draw
    sample: int
    prompt: list[int]
    temperature: float
    new_tokens: int
    answer: list[int] = field(default_factory=list)
    # (len(answer), V): what the policy predicted at each token, if `answer` was to keep it
    logits: Any = field(default=None, repr=False, compare=False)


def answer(
    policy: Any,
    tokenizer: Any,
    rollouts: Iterable[Rollout],
    *,
    seed: int,
    keep_logits: bool = False,
) -> Iterator[list[Rollout]]:
    """Fill in the answers of rollouts, one batch after the other; use it inside `unchanged`.

    1. Group the rollouts: a batch holds one temperature and one limit.
    2. Sort each group by length, so that a batch needs little padding.
    3. Answer batch by batch, with the engine that suits the policy. A GPU gets as many prompts at
       once as its free memory holds (`memory`), and half as many if that was too many after all.

    Args:
        rollouts: each gets its `answer`; temperature 0 is greedy.
        keep_logits: whether each also gets the `logits` that its tokens were chosen from, for the
            KL; only the CPU engine has them, and only of a batch whose logits take little memory.
    Yields:
        Each batch of rollouts when its answers are complete.
    Raises:
        RuntimeError: if a GPU's memory does not suffice for one prompt alone.
    """
    # 1. Each call decodes at one temperature, up to one limit.
    groups: dict[tuple[float, int], list[Rollout]] = {}
    for rollout in rollouts:
        groups.setdefault((rollout.temperature, rollout.new_tokens), []).append(rollout)
    stops = stop_tokens(policy, tokenizer)
    with vllm_of(policy) as vllm:
        every = [rollout for group in groups.values() for rollout in group]
        decoder = _decoder(policy, every) if vllm is None else None

        def fill(batch: list[Rollout]) -> None:
            if vllm is not None:
                vllm.fill(batch, stops, seed)
            elif decoder is not None:
                _decode(decoder, batch, stops, seed, keep_logits)
            else:
                _generate(policy, batch, stops, tokenizer.pad_token_id, seed)

        for group in groups.values():
            # 2. The luck depends on the rollout, not on its position: sorting changes no answer.
            group.sort(key=lambda rollout: len(rollout.prompt))
            # 3. vLLM makes batches of its own; it gets the group in parts to show progress.
            parts = max(MOST, -(-len(group) // 8))
            rows = _batch_rows(policy, group) if vllm is None else parts
            yield from _batches(policy, group, rows, fill)


def _batches(
    policy: Any, group: list[Rollout], rows: int, fill: Callable[[list[Rollout]], None]
) -> Iterator[list[Rollout]]:
    """A group's batches, filled in; after one that did not fit, all are half as large."""
    import torch

    done = 0
    while done < len(group):
        batch = group[done : done + rows]
        try:
            fill(batch)
        except torch.OutOfMemoryError as error:
            full = str(error)
        else:
            yield batch
            done += len(batch)
            continue
        # Out here the error is gone, and with it what its traceback held.
        release_buffers(policy)
        torch.cuda.empty_cache()
        if len(batch) == 1:
            raise RuntimeError(_too_large(policy, batch[0], full))
        rows = len(batch) // 2


def _too_large(policy: Any, rollout: Rollout, full: str) -> str:
    need = _memory(policy, [rollout]).total(1) / 2**30
    return (
        f"the GPU's memory does not suffice to answer row {rollout.name!r} alone:"
        f" {len(rollout.prompt)} prompt tokens and {rollout.new_tokens} new ones take about"
        f" {need:.2f} GiB besides the model; restart the kernel or delete what else is on the GPU"
        f" (a trainer, a second model), or set a lower max_new_tokens. PyTorch said: {full}"
    )


def read_policy(policy: Any, longest: int) -> Any:
    """A decoder with the policy's current weights for the CPU engine; None if it can't read them.

    Args:
        longest: length of the longest prompt with its answer, in tokens.
    """
    from postlab.sampling import decoding

    return decoding.read(policy, longest)


def reply(policy: Any, tokenizer: Any, text: str, *, new_tokens: int = 72) -> str:
    """What a policy says to one message, greedily: for talking to it in a notebook.

    Args:
        text: the user's message.
        new_tokens: where to stop if it does not end its turn.
    Returns:
        The reply's text, special tokens stripped.
    """
    import torch

    ids = tokenizer(
        render(tokenizer, [{"role": "user", "content": text}]), add_special_tokens=False
    )
    rollout = Rollout("reply", 0, ids["input_ids"], 0.0, new_tokens)
    with torch.no_grad(), unchanged(policy, tokenizer):
        next(answer(policy, tokenizer, [rollout], seed=0))
    return tokenizer.decode(rollout.answer, skip_special_tokens=True).strip()


def render(tokenizer: Any, messages: Messages, *, prompt: bool = True) -> str:
    """Messages as text by the chat template, ready for the assistant's turn if `prompt`.

    Args:
        messages: a conversation, {"role": ..., "content": ...} per message.
        prompt: whether the text ends where the assistant's turn begins.
    Returns:
        The text, not tokenized, with special tokens written out.
    Raises:
        ValueError: if the tokenizer has no chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "the tokenizer has no chat template, so prompts cannot be put in the form the policy"
            " was trained on; load the tokenizer of the trained stage or set .chat_template"
        )
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)


def end_of_turn(tokenizer: Any) -> int:
    """The id of the token that ends an assistant's turn, read off the chat template.

    Not taken from `eos_token` (a base model's is the end of a document) nor from `pad_token`.

    Args:
        tokenizer: a tokenizer with a chat template.
    Returns:
        A token id.
    Raises:
        ValueError: if there is no chat template, or nothing that ends a turn.
    """
    mark = "postlab"
    turn = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": mark}]
    text = render(tokenizer, turn, prompt=False)
    tail = tokenizer(text[text.rindex(mark) + len(mark) :], add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids) | set(getattr(tokenizer, "added_tokens_decoder", {}))
    for token in tail:
        if token in special:
            return token
    if tokenizer.eos_token_id is None:
        raise ValueError(
            "the chat template ends an assistant's turn with no special token and the tokenizer has"
            " no eos_token; set tokenizer.eos_token to what ends a turn"
        )
    return tokenizer.eos_token_id


def stop_tokens(policy: Any, tokenizer: Any) -> set[int]:
    """Every token that ends a reply: the end of turn, of sequence, and any other control token.

    A reply that opens another turn is over, though not well ended: what follows is no answer.
    """
    ends = getattr(getattr(policy, "generation_config", None), "eos_token_id", None)
    stops = set(ends if isinstance(ends, (list, tuple)) else [ends]) | set(
        tokenizer.all_special_ids
    )
    added = getattr(tokenizer, "added_tokens_decoder", {})
    stops |= {token for token, text in added.items() if text.special}
    return (stops - {None, tokenizer.unk_token_id}) | {end_of_turn(tokenizer)}


@contextmanager
def unchanged(model: Any, tokenizer: Any = None) -> Iterator[None]:
    """Evaluation mode inside; every flag that `generate` or PEFT may turn is put back outside.

    Unsloth's `generate` on a GPU calls its `for_inference`, which switches gradient checkpointing,
    the cache and the padding side of the tokenizer it keeps, and it leaves the keys and values of
    the last batch on the layers. PEFT makes an adapter trainable when it is switched on.
    """
    flags = ("training", "gradient_checkpointing", "_flag_for_generation")
    before = [(m, {k: vars(m)[k] for k in flags if k in vars(m)}) for m in model.modules()]
    grads = [(p, p.requires_grad) for p in model.parameters()]
    # Unsloth's own record of the configs in which it turned the cache off to train
    noted = getattr(model, "_unsloth_use_cache_originals", None) or ()
    configs = [model.config, *(config for config, _ in noted)]
    caches = [(c, c.use_cache) for c in configs if getattr(c, "use_cache", None) is not None]
    kept = [vars(m).get("_saved_temp_tokenizer") for m in model.modules()]
    tokenizers = [t for t in (tokenizer, *kept) if hasattr(t, "padding_side")]
    sides = [(t, t.padding_side) for t in tokenizers]
    hidden = os.environ.pop("UNSLOTH_RETURN_HIDDEN_STATES", None)  # else logits are not logits
    model.eval()
    try:
        yield
    finally:
        for module, saved in before:
            for name in set(flags) & set(vars(module)) - set(saved):
                delattr(module, name)
            vars(module).update(saved)
        for parameter, trained in grads:
            parameter.requires_grad_(trained)
        for config, cache in caches:
            config.use_cache = cache
        for one, side in sides:
            one.padding_side = side
        release_buffers(model)
        if hidden is not None:
            os.environ["UNSLOTH_RETURN_HIDDEN_STATES"] = hidden


def check_fits(policy: Any, rollout: Rollout) -> None:
    """Raise a ValueError if prompt and answer are longer than the model's positions."""
    limit = getattr(policy.config, "max_position_embeddings", None) or math.inf
    if len(rollout.prompt) + rollout.new_tokens > limit:
        raise ValueError(
            f"row {rollout.name!r}: {len(rollout.prompt)} prompt tokens and {rollout.new_tokens}"
            f" new ones exceed the model's {limit} positions; shorten the prompt or set a lower"
            " max_new_tokens"
        )


def release_buffers(model: Any) -> None:
    """Free the keys and values that Unsloth's `generate` leaves on a model's layers on a GPU.

    They are as large as the batch, and would be missing from the training that follows.
    """
    graphs = sys.modules.get("unsloth.models._decode_graphs")
    if graphs is not None:
        graphs.release_for_training(model)


def _batch_rows(policy: Any, group: list[Rollout]) -> int:
    """Rows a generation batch: on a GPU, what its free memory holds for the longest of a group."""
    device = next(policy.parameters()).device
    if device.type == "cuda":
        import torch

        torch.cuda.empty_cache()  # what torch holds and nobody uses counts as free
        free, _ = torch.cuda.mem_get_info(device)
        return _memory(policy, group).rows(free)
    # A tiny model is bound by overhead, a large one by memory.
    size = sum(p.numel() for p in policy.parameters())
    return 256 if size < 2e7 else 32 if size < 1e9 else 16


def _memory(policy: Any, group: list[Rollout]) -> AnswerMemory:
    """What answering a group takes on a GPU."""
    dtype = getattr(policy.config, "dtype", None) or policy.dtype
    return answer_memory(
        policy.config,
        prompt=max(len(rollout.prompt) for rollout in group),
        new_tokens=group[0].new_tokens,
        element=2 if "16" in str(dtype) else 4,
        unsloth=by_unsloth(policy),
    )


class _Noise:
    """Logits over T plus Gumbel noise, -log of an exponential draw, a generator per answer."""

    def __init__(self, batch: list[Rollout], seed: int, device: Any) -> None:
        import torch

        self.temperature, self.generators = batch[0].temperature, []
        for rollout in batch:
            generator = torch.Generator(device=device)
            self.generators.append(generator.manual_seed(luck(seed, rollout)))

    def __call__(self, scores: Any, slots: Iterable[tuple[int, int]]) -> Any:
        """(n, V) scores with noise in each slot of them, from its answer's generator."""
        # 1. Temperature.
        scores = scores / self.temperature
        # 2. Gumbel noise: the argmax of the noisy scores is a sample from softmax(scores / T).
        for slot, row in slots:
            noise = scores.new_empty(scores.shape[1])
            scores[slot] -= noise.exponential_(generator=self.generators[row]).log_()
        return scores


def _decoder(policy: Any, rollouts: list[Rollout]) -> Any:
    """The engine for these rollouts, or None where `generate` has to serve."""
    if not rollouts or getattr(getattr(policy, "device", None), "type", None) != "cpu":
        return None
    return read_policy(policy, max(len(r.prompt) + r.new_tokens for r in rollouts))


def _decode(
    decoder: Any, batch: list[Rollout], stops: set[int], seed: int, keep_logits: bool = False
) -> None:
    """Fill in the answers of a batch with the engine."""
    noise = _Noise(batch, seed, "cpu") if batch[0].temperature > 0 else None
    steps: list[tuple[Any, list[int]]] = []  # each step's logits (n, V), and whose rows they are
    kept = 0

    def draw(logits: Any, rows: list[int]) -> Any:  # (n, V), an answer each -> (n,)
        nonlocal kept
        kept += logits.numel()
        if keep_logits and kept <= KEPT:
            steps.append((logits, list(rows)))
        return (noise(logits, enumerate(rows)) if noise else logits).argmax(dim=-1)

    answers, _ = decoder.decode(
        [rollout.prompt for rollout in batch],
        new_tokens=batch[0].new_tokens,
        stops=stops,
        draw=draw,
    )
    for rollout, tokens in zip(batch, answers, strict=True):
        rollout.answer = tokens
    if steps and kept <= KEPT:
        import torch

        order = torch.tensor([row for _, rows in steps for row in rows]).argsort(stable=True)
        every = torch.cat([logits for logits, _ in steps])[order]  # answer by answer
        for rollout, part in zip(batch, every.split([len(a) for a in answers]), strict=True):
            rollout.logits = part


def _generate(
    policy: Any, batch: list[Rollout], stops: set[int], pad: int | None, seed: int
) -> None:
    """Fill in the answers of a batch: left-padded prompts, one call of the model's `generate`."""
    import torch
    from transformers import LogitsProcessorList

    # 1. Prompts padded on the left, so that every answer begins in column `width`.
    device = next(policy.parameters()).device
    width = max(len(rollout.prompt) for rollout in batch)
    pad = min(stops) if pad is None else pad  # only ever behind a stop or under a zero mask
    gaps = [width - len(rollout.prompt) for rollout in batch]
    ids = [[pad] * gap + rollout.prompt for gap, rollout in zip(gaps, batch, strict=True)]
    mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
    processors = LogitsProcessorList()
    if batch[0].temperature > 0:
        noise = _Noise(batch, seed, device)

        def noised(input_ids: Any, scores: Any) -> Any:  # (B, T), (B, V) -> (B, V)
            started, last = input_ids.shape[1] > width, input_ids[:, -1].tolist()
            # an answer that ended needs no noise
            slots = [(i, i) for i, token in enumerate(last) if not (started and token in stops)]
            return noise(scores, slots)

        processors.append(noised)

    # 2. Greedy decoding of the noisy scores amounts to sampling.
    out = policy.generate(
        input_ids=torch.tensor(ids, device=device),
        attention_mask=torch.tensor(mask, device=device),
        max_new_tokens=batch[0].new_tokens,
        eos_token_id=sorted(stops),
        pad_token_id=pad,
        logits_processor=processors,
        use_cache=True,
        # The rest keeps out what a model's own generation_config would bring in.
        do_sample=False,
        num_beams=1,
        temperature=1.0,
        top_p=1.0,
        top_k=50,
        repetition_penalty=1.0,
    )
    release_buffers(policy)
    # 3. Keep each answer up to the token that ended it; the rest is padding.
    for rollout, tokens in zip(batch, out[:, width:].tolist(), strict=True):
        ended = next((i for i, token in enumerate(tokens) if token in stops), len(tokens))
        rollout.answer = tokens[: ended + 1]
