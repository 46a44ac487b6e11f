"""Rows that say which replies are better: pairs for DPO and reward models, single ones for KTO."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from postlab.datasets import _everyday, _messages, _rows, instructions
from postlab.datasets._fields import CONVERSATIONS, LABELS, PROMPTS, Fields, Format, choose_format
from postlab.datasets._messages import Drop, Message, Odd
from postlab.tinyworld import corpus

_PAIRS = (
    ("chosen", "rejected"),
    ("chosen_messages", "rejected_messages"),
    ("chosen_response", "rejected_response"),
    ("response_chosen", "response_rejected"),
    ("preferred_output", "non_preferred_output"),  # OpenAI's fine-tuning
    ("response_j", "response_k"),  # StackExchange, where j is the better one
)
_ASKED: tuple[str, ...] = (
    "prompt",
    *CONVERSATIONS[1::-1],
    *PROMPTS[1:],
    "history",
    "context",
    "trajectory",
)
_ASKED += CONVERSATIONS[2:]

Which = Literal[0, 1] | None  # the better of two replies; None for a tie


def _by_name(first: str, second: str) -> Callable[[Any], Which]:
    """Reads a verdict that names one of the two; whatever else is a tie only if it says so."""

    def read(verdict: Any) -> Which:
        word = str(verdict).strip().lower()
        if word.startswith("tie") or word in ("equal", "same", "both", "neither", "both_bad"):
            return None
        if word not in (first, second):
            raise Odd(
                "with a verdict that is unknown",
                f"got {word!r:.40}, expected {first!r}, {second!r} or 'tie'",
            )
        return 0 if word == first else 1

    return read


def _by_sign(verdict: Any) -> Which:
    """HelpSteer: below zero the first reply is better, above it the second."""
    if not isinstance(verdict, int | float) or isinstance(verdict, bool):
        raise Odd("with a verdict that is unknown", f"got {verdict!r:.40}, expected a number")
    return None if verdict == 0 else int(verdict > 0)  # type: ignore[return-value]


# Two replies and the field that says which is better.
_COMPARED: dict[Format, Callable[[Any], Which]] = {
    ("response_1", "response_2", "preference_strength"): _by_sign,  # HelpSteer2
    ("response1", "response2", "overall_preference"): _by_sign,  # HelpSteer3
    ("human_ref_a", "human_ref_b", "labels"): _by_name("1", "0"),  # SHP
    ("response_0", "response_1", "better_response_id"): _by_name("0", "1"),  # PKU-SafeRLHF
    ("output_1", "output_2", "preference"): _by_name("1", "2"),  # AlpacaFarm
    ("response_1", "response_2", "preference"): _by_name("1", "2"),
    ("response_a", "response_b", "preference"): _by_name("a", "b"),
    ("response_a", "response_b", "winner"): _by_name("model_a", "model_b"),
    ("response_a", "response_b", "chosen"): _by_name("a", "b"),
    ("conversation_a", "conversation_b", "winner"): _by_name("model_a", "model_b"),  # LMSYS
}
_SCORED = (("answer_0", "answer_1", "score_0", "score_1"),)  # WebGPT
_RANKED = "answers"  # Nectar: {"answer", "rank"}; StackExchange: {"text", "pm_score"}

_FORMATS: tuple[Format, ...] = (
    *((prompt, *_PAIRS[0]) for prompt in _ASKED),
    _PAIRS[0],
    *((prompt, *pair) for pair in _PAIRS[1:] for prompt in _ASKED),
    *_PAIRS[1:],
    *((prompt, *fields) for fields in (*_COMPARED, *_SCORED) for prompt in _ASKED),
    *(fields for fields in _COMPARED if fields[0].startswith("conversation")),
    *((prompt, _RANKED) for prompt in _ASKED),
)


def preference_rows(
    source: str,
    *,
    split: str,
    n: int | None = None,
    seed: int = 0,
    columns: Mapping[str, str | None] | None = None,
    tokenizer: Any = None,
    control_tokens: _rows.OnControlTokens = "count",
) -> list[dict]:
    """Rows for DPOTrainer: `prompt`, `chosen` and `rejected`, each a list of messages.

    The prompt may be text, messages, ShareGPT `conversations` or an Alpaca instruction; chosen and
    rejected may be text, one message, or whole conversations that begin with the prompt, as
    messages or as a transcript (HH-RLHF). Two replies with a verdict (HelpSteer, SHP, SafeRLHF,
    WebGPT, LMSYS) become a pair, and of several that are ranked (Nectar) the best and the worst. A
    `margin` is kept for RewardTrainer. A pair whose replies are equal, in text or in rank, teaches
    nothing and is dropped, and so is one with an empty reply.

    Args:
        source: "tinyworld", or "tinyworld-english", where the prompt holds what has to be known;
            "everyday", "ultrafeedback", a Hub id, or a JSON, JSONL or Parquet file.
        split: the split's name, with a range of rows if wanted: "train[:5000]". A file is one
            split whatever it is called here, so take held-out rows from another range of it.
        n: at most so many rows, drawn with seed; None for all, in their order.
        seed: of the draw.
        columns, tokenizer, control_tokens: as in `instruction_rows`.
    Returns, Raises: as `instruction_rows`.
    Taught in week 5.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "pairs.jsonl")
    >>> _ = path.write_text('{"prompt": "2 + 3?", "chosen": "5", "rejected": "6"}\\n'
    ...                     '{"prompt": "2 + 4?", "chosen": "6", "rejected": "6"}')
    >>> rows = preference_rows(str(path), split="train")
    >>> len(rows), rows[0]["chosen"], rows.dropped
    (1, [{'role': 'assistant', 'content': '5'}], {'with chosen equal to rejected': 1})
    """
    options = _rows.Options(columns, tokenizer, control_tokens)
    if source in _rows.EMBEDDED:
        make: Callable[..., list[dict]] = _everyday.preference_rows
        if source != "everyday":
            make = partial(corpus.preference_rows, with_context=source == "tinyworld-english")
        return _rows.embedded(make, source, split, n, seed, options)
    return _rows.collect(source, split, n, seed, _convert, options)


def unpaired_rows(
    source: str,
    *,
    split: str,
    n: int | None = None,
    seed: int = 0,
    columns: Mapping[str, str | None] | None = None,
    tokenizer: Any = None,
    control_tokens: _rows.OnControlTokens = "count",
) -> list[dict]:
    """Rows for KTOTrainer: `prompt`, `completion` and `label`, True where the reply is desirable.

    Prompt and reply are read as by `instruction_rows`. The label is a field `label`, `kto_tag`,
    `is_desirable`, `is_correct` or `is_safe` that holds true or false; a rating becomes one only by
    your own threshold. KTO needs rows of both kinds.

    Args:
        source: a Hub id such as "trl-lib/kto-mix-14k", or a JSON, JSONL or Parquet file.
        split, n, seed, columns, tokenizer, control_tokens: as in `instruction_rows`.
    Returns, Raises: as `instruction_rows`.
    Source: Ethayarajh et al. 2024 (KTO), arXiv 2402.01306.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "votes.jsonl")
    >>> _ = path.write_text('{"prompt": "2 + 3?", "completion": "6", "label": false}')
    >>> unpaired_rows(str(path), split="train")[0]["label"]
    False
    """
    options = _rows.Options(columns, tokenizer, control_tokens)
    if source in _rows.EMBEDDED:
        raise ValueError(
            f"{source} has no unpaired rows: make them of preference_rows with "
            "trl.data_utils.unpair_preference_dataset"
        )
    return _rows.collect(source, split, n, seed, _unpaired, options)


def _unpaired(row: Fields) -> dict:
    label = row.label()
    if label is None:
        field = next((name for name in LABELS if name in row), None)
        raise Odd(
            "no field 'label' that says true or false",
            f"it has {row.described()}" if field is None else f"{field!r} is {row[field]!r:.40}",
        )
    return {**instructions.prompt_and_completion(row), "label": label[1]}


def _convert(row: Fields) -> dict:
    hint = "; for a completion with a label take unpaired_rows" if row.first(LABELS) else ""
    fields = choose_format(row, _FORMATS, hint)
    asked = fields[0] if fields[0] in _ASKED else None
    sides = _sides(row, fields if asked is None else fields[1:])
    if asked and _messages.is_transcript(row[asked]):  # its 'Assistant: ' goes before the replies
        sides = [[{**turn, "content": turn["content"].strip()} for turn in side] for side in sides]
    before = [side[:-1] for side in sides]
    if before[0] != before[1]:
        raise Drop("whose two replies answer different prompts")
    shared = before[0]
    if asked is None and not shared:
        raise Odd(
            "no field 'prompt', and chosen and rejected are no whole conversations",
            f"it has {row.described()}",
        )
    prompt = row.prompt(asked) if asked else []
    if shared and prompt[-len(shared) :] != shared:
        # Else the prompt has it already, and perhaps more.
        if prompt and prompt[-1] != shared[-1]:
            row.left.add(f"field {asked!r}, which the replies' own beginning contradicts")
        prompt = row.with_system(shared)
    chosen, rejected = (_messages.checked_reply(side[-1:]) for side in sides)
    if _said(chosen) == _said(rejected):
        raise Drop("with chosen equal to rejected")
    tools = row.tools(prompt)
    pair = {"prompt": _messages.checked_prompt(prompt), "chosen": chosen, "rejected": rejected}
    return pair | tools | _margin(row)


def _sides(row: Fields, fields: Format) -> list[list[Message]]:
    """The chosen and the rejected side of a pair, of two judged replies, or of a ranking."""
    if fields == (_RANKED,):
        return _ranked(row[_RANKED])
    sides = [row.messages(field, role="assistant") for field in fields[:2]]
    if fields in _COMPARED:
        better = _COMPARED[fields](row[fields[2]])
    elif fields in _SCORED:
        scores = [row[field] for field in fields[2:]]
        numbers = all(isinstance(score, int | float) for score in scores)
        better = _by_sign(scores[1] - scores[0] if numbers else scores)
    else:
        return sides
    if better is None:
        raise Drop("with replies that are judged equal")
    return sides[::-1] if better else sides


def _ranked(answers: Any) -> list[list[Message]]:
    """The best and the worst of answers that have a rank (1 is best) or a score."""
    if not isinstance(answers, list) or not all(isinstance(each, Mapping) for each in answers):
        raise Odd(f"field {_RANKED!r} must hold ranked answers", f"got {answers!r:.80}")
    placed = []
    for answer in answers:
        text = answer.get("answer", answer.get("text"))
        if "rank" in answer:
            place = answer["rank"]
        else:
            score = answer.get("pm_score", answer.get("score"))
            place = -score if isinstance(score, int | float) else None
        if not isinstance(text, str) or not isinstance(place, int | float):
            raise Odd(f"an answer of field {_RANKED!r} has no text or rank", f"{answer!r:.80}")
        placed.append((place, text))
    placed.sort(key=lambda each: each[0])
    if len(placed) < 2 or placed[0][0] == placed[-1][0]:
        raise Drop("with replies that are judged equal")
    return [
        _messages.messages_of(text, _RANKED, role="assistant")
        for _, text in (placed[0], placed[-1])
    ]


def _said(reply: list[Message]) -> tuple:
    return reply[0]["content"].strip(), reply[0].get("tool_calls")


def _margin(row: Fields) -> dict[str, float]:
    margin = row.get("margin")
    if margin is None or isinstance(margin, bool) or not isinstance(margin, int | float):
        return {}
    return {"margin": float(margin)}
