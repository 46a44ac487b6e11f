"""Who criticises, revises and compares: a function from conversations to the next replies.

`policy_speaker` is any chat model in memory, the policy itself above all; `endpoint_speaker` one
behind an OpenAI-compatible address. Whatever else takes conversations and gives as many texts is a
speaker too, a function of five lines in a test included.

Left out: streaming, and several questions at a time to an endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from postlab.judge import endpoint_chat
from postlab.sampling import Messages, Rollout, answer, check_fits, render, unchanged

Speaker = Callable[[Sequence[Messages]], list[str]]  # conversations in, one reply to each out
Chances = Callable[[Sequence[Messages]], list[float]]
OPENINGS = ("It breaks the rule", "It keeps the rule")
_BATCH_ROWS = 64  # conversations per forward pass


def policy_speaker(
    model: Any, tokenizer: Any, *, new_tokens: int = 40, temperature: float = 0.0, seed: int = 0
) -> Speaker:
    """A chat model in memory as speaker: the policy itself, or another local HF model.

    Control tokens inside a message are taken out before the chat template sees it, so that a reply
    cannot open a turn of its own. The model's modes are as before afterwards.

    Args:
        model: a causal LM, plain, PEFT or Unsloth.
        tokenizer: its own, with a chat template.
        new_tokens: where a reply is cut.
        temperature: 0 for verdicts and revisions, which should be the same each time; 1 to sample
            replies. A draw depends on the seed and the conversation's place in the list.
    Returns:
        A speaker; it raises ValueError where a conversation is longer than the model's positions.
    Raises:
        ValueError: if temperature or new_tokens is out of range.
    Taught in week 9.
    """
    if temperature < 0 or new_tokens < 1:
        raise ValueError(f"{temperature=}, {new_tokens=}; expected at least 0, and at least 1")
    special = _special(tokenizer)

    def speak(conversations: Sequence[Messages]) -> list[str]:
        import torch

        rollouts = []
        for number, messages in enumerate(conversations):
            ids = _ids(tokenizer, messages, special)
            rollouts.append(Rollout(str(number), 0, ids, temperature, new_tokens))
            check_fits(model, rollouts[-1])
        with torch.no_grad(), unchanged(model, tokenizer):
            for _ in answer(model, tokenizer, rollouts, seed=seed):
                pass
        return [tokenizer.decode(one.answer, skip_special_tokens=True).strip() for one in rollouts]

    return speak


def endpoint_speaker(url: str, *, model: str, max_tokens: int = 256, **options: Any) -> Speaker:
    """A model behind an OpenAI-compatible address as speaker; all conversations are sent there.

    Each answer is kept, by its conversation, as long as the speaker lives, and in a file with
    `log=`. After a failure call it again with the same conversations: it goes on where it stopped,
    and nothing is paid for twice.

    Args:
        url: up to and with `/v1`, as for `judge.endpoint_judge`, whose care for the key holds.
        model: the name the server knows it by.
        max_tokens: where a reply is cut.
        options: key_variable, timeout, deadline, retries, log, usd_per_million and allow_http, as
            for `judge.endpoint_judge`.
    Returns:
        A speaker; it raises `judge.JudgeError` at the first question that fails.
    Raises:
        ValueError: if the url cannot be used.
    Taught in week 9.
    """
    chat = endpoint_chat(url, model=model, max_tokens=max_tokens, **options)

    def speak(conversations: Sequence[Messages]) -> list[str]:
        return [chat(list(messages)).strip() for messages in conversations]

    return speak


def verdict_chances(model: Any, tokenizer: Any, *, batch_rows: int = _BATCH_ROWS) -> Chances:
    """How likely a critic in memory is to say 'It breaks the rule' and not 'It keeps the rule'.

    A verdict in words is a threshold at one half; this is what it was cut from, and it can rank two
    replies that have the same verdict. An endpoint does not tell.

    Args:
        model: a causal LM, as for `policy_speaker`.
        tokenizer: its own, with a chat template.
        batch_rows: conversations per forward pass; lower it for a large model.
    Returns:
        conversations that ask for a verdict -> a chance each, between 0 and 1: of the two openings
        at the first token in which they differ, and of no others.
    Raises:
        ValueError: if the two openings are the same to this tokenizer.
    Source: Bai et al. 2022, arXiv 2212.08073, section 4.1 (labels from the options' log-probs).
        Taught in week 9.
    """
    both = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in OPENINGS]
    at = next((i for i, (x, y) in enumerate(zip(*both, strict=False)) if x != y), None)
    if at is None:
        raise ValueError(f"this tokenizer sees no difference between {OPENINGS}")
    special = _special(tokenizer)

    def chances(conversations: Sequence[Messages]) -> list[float]:
        import torch
        from torch.nn.utils.rnn import pad_sequence

        # 1. Each conversation, followed by the tokens that both openings share.
        prompts = [_ids(tokenizer, talk, special) + both[0][:at] for talk in conversations]
        for number, ids in enumerate(prompts):
            check_fits(model, Rollout(str(number), 0, ids, 0.0, 1))
        # 2. In batches of similar length, the probability of one opening against the other.
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        chance_of: dict[int, float] = {}
        with torch.no_grad(), unchanged(model, tokenizer):
            for places in (order[i : i + batch_rows] for i in range(0, len(order), batch_rows)):
                rows = [torch.tensor(prompts[i], device=model.device) for i in places]
                batch = pad_sequence(rows, batch_first=True)  # right: the mask hides the zeros
                ends = torch.tensor([len(row) for row in rows], device=model.device)
                mask = (torch.arange(batch.shape[1], device=model.device) < ends[:, None]).long()
                logits = model(input_ids=batch, attention_mask=mask).logits.float()
                last = logits[torch.arange(len(rows)), ends - 1]  # (B, V)
                odds = last[:, both[0][at]] - last[:, both[1][at]]
                chance_of.update(zip(places, odds.sigmoid().tolist(), strict=True))
        return [chance_of[i] for i in range(len(prompts))]

    return chances


def _special(tokenizer: Any) -> list[str]:
    """The control tokens, longest first."""
    added = map(str, tokenizer.added_tokens_decoder.values())
    return sorted({*tokenizer.all_special_tokens, *added}, key=len, reverse=True)


def _ids(tokenizer: Any, messages: Messages, special: Sequence[str]) -> list[int]:
    """A conversation's tokens by the chat template, no control token in what was said."""
    plain = [{**turn, "content": _without(turn["content"], special)} for turn in messages]
    return tokenizer(render(tokenizer, plain), add_special_tokens=False)["input_ids"]


def _without(text: str, special: Sequence[str]) -> str:
    """The text with no control token left; taking one out must not leave another behind."""
    before = None
    while before != text:
        before = text
        for token in special:
            text = text.replace(token, "") if len(token) > 1 else text
    return text
