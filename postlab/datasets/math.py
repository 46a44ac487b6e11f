"""Mathematics with answers that can be checked: prompts for GRPO and evaluation."""

from collections.abc import Mapping

from postlab.datasets import _messages, _rows
from postlab.rewards import answers_match, extract_answer
from postlab.tinyworld import corpus

# What the rewards and evaluations look for has to be in the prompt, or format is a guessing game.
INSTRUCTION = "Work it out step by step. End with a line that holds #### and the number alone."

_FORMATS = {
    "question": ("question", "answer"),
    "problem": ("problem", "answer"),
    "worked": ("problem", "solution"),
    "prompt": ("prompt", "answer"),
}


def math_rows(
    source: str,
    *,
    split: str,
    n: int | None = None,
    seed: int = 0,
    instruction: str | None = INSTRUCTION,
) -> list[dict]:
    r"""Rows for GRPOTrainer and math_reward: `prompt`, a list of messages, and `answer`, the gold.

    Understood are `question`, `problem` or `prompt` with `answer`, and `problem` with `solution`.
    Of a worked answer the gold is what follows `####` (GSM8K) or stands in `\boxed{}` (MATH).
    Prompts are always message
    lists: of a prompt that is text TRL applies no chat template, and the policy only rambles.

    Args:
        source: "tinyworld", "gsm8k", a Hub id, or a JSON, JSONL or Parquet file.
        split: the split's name, with a range of rows if wanted: "train[:5000]". A file is one
            split whatever it is called here, so take held-out rows from another range of it.
        n: at most so many rows, drawn with seed; None for all, in their order.
        seed: of the draw.
        instruction: added below each question, None for none. Tinyworld's rows are left as they
            are: its questions are all its model knows.
    Returns:
        The rows, a list that shows how many were read and, in `dropped`, left out by reason.
    Raises:
        ValueError: for a row without a field it needs; it names source, row (from 1; the line
            of JSON Lines) and field.
        OSError: where the Hub cannot be read.
    Source: GSM8K, Cobbe et al. 2021, arXiv 2110.14168. Taught in week 7.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "sums.jsonl")
    >>> _ = path.write_text('{"question": "2 + 3?", "answer": "2 + 3 = 5\\n#### 5"}')
    >>> math_rows(str(path), split="train", instruction=None)[:]
    [{'prompt': [{'role': 'user', 'content': '2 + 3?'}], 'answer': '5'}]
    """
    if source in _rows.EMBEDDED:
        return _rows.embedded(corpus.math_rows, source, split, n, seed)
    return _rows.collect(
        source, split, n, seed, lambda raw, where: _convert(raw, where, instruction)
    )


def _convert(raw: Mapping, where: str, instruction: str | None) -> dict:
    question, answer = _FORMATS[_messages.choose_format(raw, _FORMATS, where)]
    prompt = _messages.messages_of(raw[question], where, question)
    prompt = _messages.checked_prompt(_messages.with_system(prompt, raw, where))
    text = _messages.text_of(raw, answer, where)
    worked = "####" in text or "\\boxed" in text
    gold = extract_answer(text, strict=True) if worked else text.strip()
    if not gold:
        raise _messages.Drop("with an empty answer")
    if not answers_match(gold, gold):  # a proof, say: no completion could ever be paid
        raise _messages.Drop("with an answer that math_reward can't read")
    if instruction:
        question = f"{prompt[-1]['content']}\n\n{instruction}"
        prompt = [*prompt[:-1], {"role": "user", "content": question}]
    return {"prompt": prompt, "answer": gold}
