"""Solutions with step labels, for process reward models and for measuring them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from postlab.datasets import _messages, _rows
from postlab.datasets._fields import Fields, Format, choose_format, text_of
from postlab.datasets._messages import Odd

_PROCESSBENCH = ("problem", "steps", "label")
_PRM800K = ("question", "label")
_SHEPHERD = ("input", "label")
_STEPWISE = ("prompt", "completions", "labels")
_FORMATS: tuple[Format, ...] = (_PROCESSBENCH, _PRM800K, _SHEPHERD, _STEPWISE)
_UNREADABLE = "field 'label' has a step that cannot be read"
_TAG = "ки"  # Math-Shepherd's mark behind every step
_FIRST = re.compile(r"\s*step 1:", re.IGNORECASE)


def step_rows(
    source: str,
    *,
    split: str,
    n: int | None = None,
    seed: int = 0,
    columns: Mapping[str, str | None] | None = None,
    tokenizer: Any = None,
    control_tokens: _rows.OnControlTokens = "count",
) -> list[dict]:
    """Rows in TRL's stepwise form, with labels 1 (right), 0 (wrong) and None (nobody knows).

    Reads ProcessBench (`problem`, `steps`, `label`: the place of the first wrong step, -1 for
    none; what follows it nobody labelled), PRM800K's phases (`question.problem`, `label.steps`: the
    solution that was gone on with, rated 1, 0 or -1; a neutral 0 counts as right, as in the
    paper's best results; a step that the annotator wrote, where all others were wrong, as right),
    Math-Shepherd (`input` with a mark behind every step, from the last 'Step 1:' before the first
    mark, `label` the same text with + or - in its place) and TRL's own form (`prompt`,
    `completions`, `labels`).

    Args:
        source: a Hub id such as "Qwen/ProcessBench", or a JSON, JSONL or Parquet file.
        split: the split's name, with a range of rows if wanted: "gsm8k[:100]". A file is one
            split whatever it is called here.
        n: at most so many rows, drawn with seed; None for all, in their order.
        seed: of the draw.
        columns, tokenizer, control_tokens: as in `instruction_rows`.
    Returns:
        As `instruction_rows`. A row of ProcessBench also has `right`, whether its final answer is.
    Raises:
        As `instruction_rows`.
    Source: Zheng et al. 2024 (ProcessBench), arXiv 2412.06559; Lightman et al. 2023 (PRM800K),
        arXiv 2305.20050; Wang et al. 2023 (Math-Shepherd), arXiv 2312.08935. Taught in week 10.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "bench.jsonl")
    >>> _ = path.write_text('{"problem": "2+3+4?", "steps": ["2+3=6", "6+4=10", "10"], '
    ...                     '"label": 0, "final_answer_correct": false}')
    >>> step_rows(str(path), split="test")[0]["labels"]
    [0, None, None]
    """
    options = _rows.Options(columns, tokenizer, control_tokens)
    if source in _rows.EMBEDDED:
        raise ValueError(
            f"{source} has no file of step labels: draw solutions with prm.sample_solutions and "
            "label them with prm.oracle_labels"
        )
    return _rows.collect(source, split, n, seed, _convert, options)


def _convert(raw: Fields) -> dict:
    readers = {
        _PROCESSBENCH: _processbench,
        _PRM800K: _prm800k,
        _SHEPHERD: _shepherd,
        _STEPWISE: _stepwise,
    }
    row = readers[choose_format(raw, _FORMATS)](raw)
    if not row["completions"]:
        raise _messages.Drop("without a step")
    if any(not step.strip() for step in row["completions"]):
        raise _messages.Drop("with an empty step")
    row["prompt"] = _messages.checked_prompt(row["prompt"])
    return row


def _processbench(raw: Fields) -> dict:
    prompt = raw.messages("problem")
    steps = _texts(raw["steps"], "steps")
    first = raw["label"]
    if not isinstance(first, int) or isinstance(first, bool) or not -1 <= first < len(steps):
        raise Odd(
            "field 'label' must be the place of the first wrong step",
            f"-1 to {len(steps) - 1}, got {first!r:.40}",
        )
    labels: list[int | None] = [1] * len(steps)
    if first >= 0:
        labels[first:] = [0] + [None] * (len(steps) - first - 1)
    row = {"prompt": prompt, "completions": steps, "labels": labels}
    right = raw.get("final_answer_correct")
    return row if right is None else row | {"right": bool(right)}


def _prm800k(raw: Fields) -> dict:
    question, label = raw["question"], raw["label"]
    if not isinstance(question, Mapping) or question.get("problem") is None:
        raise Odd("field 'question' has no 'problem'")
    if not isinstance(label, Mapping) or not isinstance(label.get("steps"), Sequence):
        raise Odd("field 'label' has no list 'steps'")
    if label.get("finish_reason") in ("give_up", "bad_problem"):
        raise _messages.Drop(f"which the annotator left ({label['finish_reason']})")
    prompt = raw.messages("question.problem")
    steps, labels = [], []
    for number, step in enumerate(label["steps"]):
        at = f"step {number} of field 'label'"
        chosen = _chosen(step, at)
        if chosen is None:
            break
        if not isinstance(chosen.get("text"), str):
            raise Odd(_UNREADABLE, f"{at} has no text")
        rating = chosen.get("rating")
        if rating not in (1, 0, -1, None):
            raise Odd(_UNREADABLE, f"{at} is rated {rating!r:.40}; expected 1, 0, -1 or null")
        steps.append(_messages.whole(chosen["text"], "label"))
        labels.append(None if rating is None else int(rating >= 0))
    return {"prompt": prompt, "completions": steps, "labels": labels}


def _chosen(step: Any, at: str) -> Mapping | None:
    """The completion that the solution goes on with: the annotator's, a person's, or the wrong one.

    Where none was chosen, the first one is the step that ended the solution. A person wrote a step
    where all others were rated -1, one that is right (openai/prm800k, README).
    """
    if not isinstance(step, Mapping) or not isinstance(step.get("completions"), Sequence | None):
        raise Odd(_UNREADABLE, f"{at} has no list 'completions'")
    options, place = step.get("completions") or [], step.get("chosen_completion")
    if place is None:
        human = step.get("human_completion")
        if not isinstance(human, str | Mapping | None):
            raise Odd(
                _UNREADABLE, f"{at}: human_completion must hold a text or null, got {human!r:.40}"
            )
        if isinstance(human, str) and human:
            return {"text": human, "rating": 1}
        if human:
            return human if human.get("rating") is not None else {**human, "rating": 1}
        place = 0
    if not isinstance(place, int) or not 0 <= place < max(1, len(options)):
        raise Odd(
            _UNREADABLE, f"{at}: chosen_completion is {place!r:.40} of {len(options)} completions"
        )
    if options and not isinstance(options[place], Mapping):
        raise Odd(_UNREADABLE, f"{at} holds no completion but {options[place]!r:.40}")
    return options[place] if options else None


def _shepherd(raw: Fields) -> dict:
    text, marked = (raw.text(field) for field in ("input", "label"))
    if _TAG not in text:
        raise Odd(f"field 'input' has no mark {_TAG!r} behind its steps")
    begins = [match.start() for match in _FIRST.finditer(text)]
    candidates = [place for place in begins if place < text.index(_TAG)]
    if not candidates:  # where the question ends is a guess then
        raise _messages.Drop("with a mark in the question" if begins else "without 'Step 1:'")
    begin = candidates[-1]  # an earlier one belongs to the question
    pieces, at, labels = text.split(_TAG), 0, []
    for number, piece in enumerate(pieces[:-1]):
        at += len(piece)
        if marked[at - len(piece) : at] != piece or marked[at : at + 1] not in ("+", "-"):
            raise Odd(_UNREADABLE, f"it has no + or - for step {number + 1} of field 'input'")
        labels.append(int(marked[at] == "+"))
        at += 1
    question, pieces[0] = text[:begin], pieces[0][begin:]
    steps = [piece.strip() for piece in pieces[:-1]]
    return {
        "prompt": _messages.messages_of(question.strip(), "input"),
        "completions": steps,
        "labels": labels,
    }


def _stepwise(raw: Fields) -> dict:
    steps = _texts(raw["completions"], "completions")
    labels = raw["labels"]
    if not isinstance(labels, Sequence) or isinstance(labels, str):
        raise Odd("field 'labels' must be a list", f"got {type(labels).__name__}")
    odd = [x for x in labels if x is not None and (not isinstance(x, int) or x not in (0, 1))]
    if odd or len(labels) != len(steps):
        raise Odd(
            "field 'labels' must hold true, false or null for each step",
            f"got {list(labels)!r:.60} for {len(steps)} steps",
        )
    return {
        "prompt": raw.messages("prompt"),
        "completions": steps,
        "labels": [None if x is None else int(x) for x in labels],
    }


def _texts(value: Any, field: str) -> list[str]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise Odd(f"field {field!r} must be a list", f"got {type(value).__name__}")
    return [text_of(one, field) for one in value]
