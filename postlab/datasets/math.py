"""Mathematics with answers that can be checked: prompts for GRPO and evaluation."""

import json
from collections.abc import Mapping
from typing import Any

from postlab.datasets import _everyday, _messages, _rows
from postlab.datasets._fields import Fields, Format, choose_format
from postlab.rewards import answers_match, extract_answer
from postlab.tinyworld import corpus

# What the rewards and evaluations look for has to be in the prompt, or format is a guessing game.
INSTRUCTION = "Work it out step by step. End with a line that holds #### and the number alone."

_QUESTIONS = ("question", "problem", "prompt", "query", "instruction")
_ANSWERS: tuple[str, ...] = (
    "answer",
    "final_answer",
    "expected_answer",
    "ground_truth",
)
_ANSWERS += ("reward_model.ground_truth",)  # verl
_WORKED = ("solution", "response", "output", "generated_solution")
_FORMATS: tuple[Format, ...] = tuple(
    (question, answer) for answer in (*_ANSWERS, *_WORKED) for question in _QUESTIONS
)
_LONGEST_BARE = 60  # characters of a `solution` that may be the answer itself


def math_rows(
    source: str,
    *,
    split: str,
    n: int | None = None,
    seed: int = 0,
    instruction: str | None = INSTRUCTION,
    columns: Mapping[str, str | None] | None = None,
    tokenizer: Any = None,
    control_tokens: _rows.OnControlTokens = "count",
) -> list[dict]:
    r"""Rows for GRPOTrainer and math_reward: `prompt`, a list of messages, and `answer`, the gold.

    Understood are `question`, `problem`, `prompt` or `query` with `answer`, `final_answer`,
    `expected_answer`, `ground_truth` or verl's `reward_model`, or with a worked `solution` or
    `response`. Of a worked answer the gold is what follows `####` (GSM8K) or 'The answer is'
    (MetaMath) or stands in `\boxed{}` (MATH). Prompts are always message
    lists: of a prompt that is text TRL applies no chat template, and the policy only rambles.

    Args:
        source: "tinyworld", "everyday", "gsm8k", a Hub id, or a JSON, JSONL or Parquet file.
        split: the split's name, with a range of rows if wanted: "train[:5000]". A file is one
            split whatever it is called here, so take held-out rows from another range of it.
        n: at most so many rows, drawn with seed; None for all, in their order.
        seed: of the draw.
        instruction: added below each question, None for none. Tinyworld's and everyday's rows are
            left as they are: tinyworld's questions are all its model knows.
        columns, tokenizer, control_tokens: as in `instruction_rows`.
    Returns, Raises: as `instruction_rows`.
    Source: GSM8K, Cobbe et al. 2021, arXiv 2110.14168. Taught in week 7.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "sums.jsonl")
    >>> _ = path.write_text('{"question": "2 + 3?", "answer": "2 + 3 = 5\\n#### 5"}')
    >>> math_rows(str(path), split="train", instruction=None)[:]
    [{'prompt': [{'role': 'user', 'content': '2 + 3?'}], 'answer': '5'}]
    """
    options = _rows.Options(columns, tokenizer, control_tokens)
    if source in _rows.EMBEDDED:
        make = _everyday.math_rows if source == "everyday" else corpus.math_rows
        return _rows.embedded(make, source, split, n, seed, options)
    return _rows.collect(source, split, n, seed, lambda row: _convert(row, instruction), options)


def _convert(row: Fields, instruction: str | None) -> dict:
    question, answer = choose_format(row, _FORMATS)
    answer = row.first(["answer_number"]) or answer  # MGSM, whose `answer` is worked in words
    for field in ("problem_is_valid", "solution_is_valid"):  # NuminaMath 1.5
        if field in row and row[field] != "Yes":
            raise _messages.Drop(f"whose field {field!r} is not 'Yes'")
    prompt = _messages.checked_prompt(row.prompt(question))
    text = _unlisted(row.text(answer))
    worked = "####" in text or "\\boxed" in text
    gold = extract_answer(text, strict=True) if worked else text.strip()
    if answer in _WORKED and not worked and gold:
        _, marked, said = text.rpartition("The answer is")
        gold = said.strip(" :.\n") if marked else gold
        if not marked and (answer != "solution" or len(gold) > _LONGEST_BARE):
            raise _messages.Drop("with a solution that marks no answer")
    if not gold:
        raise _messages.Drop("with an empty answer")
    if not answers_match(gold, gold):  # a proof, say: nothing could be paid
        raise _messages.Drop("with an answer that math_reward can't read")
    if instruction:
        question = f"{prompt[-1]['content']}\n\n{instruction}"
        prompt = [*prompt[:-1], {"role": "user", "content": question}]
    return {"prompt": prompt, "answer": gold}


def _unlisted(text: str) -> str:
    """The one answer of a list in JSON, as Skywork-OR1 has it: '["34"]'."""
    if not (text.startswith('["') and text.endswith('"]')):
        return text
    try:
        (answer,) = json.loads(text)
    except ValueError:  # no JSON, or several answers
        return text
    return str(answer)
