"""What an evaluation asks: named suites and the check of rows brought along.

A row is {"id", "family", "prompt" (messages), "score" (answer, closed -> {metric: number})}
with, if it likes, "temperature", "samples" and "max_new_tokens" of its own, and "kl": False where
KL is not to be measured.

What this leaves out: GSM8K is asked without examples and with one final answer each, so its shares
are not comparable to published few-shot or majority-vote ones; a refusal is told by its opening.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

REFUSAL = re.compile(
    r"^\W*((i['’]?m|i am) (sorry|afraid|unable|not able)|sorry\b|as an ai\b"
    r"|i (cannot|can['’]t|will not|won['’]t))",
    re.IGNORECASE,
)

# One plain number, and the same alone on the line that ends the reply.
NUMBER = re.compile(r"(?<![0-9.,])-?[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?")
FILES = (".jsonl", ".ndjson")  # of rows of one's own
FINAL = re.compile(rf"#### *\$?({NUMBER.pattern})\.?\s*$")


def suite_rows(suite: Any, n: int | None, seed: int) -> list[Mapping[str, Any]]:
    """A suite's rows, by name or as given, checked, at most `n` a family.

    Args:
        suite: a name in SUITES or several joined by "+"; rows of your own, each with `id`,
            `family`, `prompt` (messages) and `score`, a function of an answer and whether it ended,
            or with `prompt` and the name of a `scorer` and what it needs, as in `evals.own`; or a
            JSONL file of the latter.
        n: prompts per family at most; None takes all.
        seed: of the prompts that a named suite draws.
    Returns:
        The rows, in the suite's order.
    Raises:
        ValueError: if the name is unknown, there is no row, or a row lacks a field or has a wrong
            one; of a file, the message names the line.
        OSError: if there is no such file.
    """
    from postlab.evals.own import own_rows

    if n is not None and n < 1:
        raise ValueError(f"n={n}; expected at least one prompt a family, or None for all")
    if isinstance(suite, str) and not suite.endswith(FILES):
        if "truthfulqa" in suite:
            raise ValueError(
                f"suite {suite!r}: no program here can tell whether a free answer is true. Run"
                " lm-eval's task truthfulqa_gen, which compares answers with TruthfulQA's true and"
                " false references by BLEU and ROUGE, or ask its questions as rows of your own and"
                " let a judge compare two stages"
            )
        unknown = [name for name in suite.split("+") if name not in SUITES]
        if unknown:
            raise ValueError(
                f"suite {unknown[0]!r} is unknown; expected one of {', '.join(SUITES)}, several"
                " joined by '+', or a file of your own that ends in .jsonl"
            )
        suite = [row for name in suite.split("+") for row in SUITES[name](n, seed)]
    rows, selected = list(own_rows(suite)), []
    counts: dict[str, int] = {}  # family: rows so far
    ids = set()
    if not rows:
        raise ValueError("the suite is empty; expected rows with id, family, prompt and score")
    for where, row in rows:
        for name in ("id", "family", "prompt", "score"):
            if name not in row:
                raise ValueError(
                    f"{where} has no field {name!r} (it has {sorted(row)}); each row needs id,"
                    " family, prompt (a message list) and score(answer, closed), or prompt and"
                    " scorer"
                )
        prompt = row["prompt"]
        if isinstance(prompt, str) or not prompt or prompt[-1].get("role") == "assistant":
            raise ValueError(
                f"{where}: field 'prompt' is {prompt!r:.80}; expected a message"
                " list that ends with the user, as [{'role': 'user', 'content': ...}]"
            )
        if row["id"] in ids:
            raise ValueError(f"{where}: id {row['id']!r} occurs twice")
        ids.add(row["id"])
        counts[row["family"]] = counts.get(row["family"], 0) + 1
        if n is None or counts[row["family"]] <= n:
            selected.append(row)
    return selected


def _tinyworld(n: int | None, seed: int, **options: Any) -> list[dict[str, Any]]:
    from postlab.tinyworld.tasks import heldout_suite

    if n is not None:
        options["n"] = n
    return heldout_suite(seed=seed, **options)


def _gsm8k(n: int | None, seed: int) -> list[dict[str, Any]]:
    from postlab.datasets import math_rows

    rows = []
    for row in math_rows("gsm8k", split="test", n=n, seed=seed):
        name = hashlib.sha256(row["prompt"][-1]["content"].encode()).hexdigest()[:12]
        rows.append(
            {
                "id": f"gsm8k-{name}",
                "family": "gsm8k",
                "prompt": row["prompt"],
                "score": _gsm8k_score(row["answer"]),
                "max_new_tokens": 320,  # room to work it out
            }
        )
    return rows


def _gsm8k_score(gold: str) -> Callable[[str, bool], dict[str, float]]:
    """Right in the asked-for form, right in any form, in the form at all, refused.

    Answers are read here and not by postlab.rewards: what a policy learns to please in its reward's
    extractor then shows as a difference between the two.
    """
    gold_value = _value(gold)

    def score(answer: str, closed: bool) -> dict[str, float]:
        asked_for = FINAL.search(answer) if answer.count("####") == 1 else None
        numbers = NUMBER.findall(answer)
        scores = {}
        for name, text in (
            ("gsm8k_strict", asked_for and asked_for[1]),
            ("gsm8k_lenient", asked_for[1] if asked_for else numbers[-1] if numbers else None),
        ):
            right = text is not None and _value(text) == gold_value
            scores[name] = math.nan if gold_value is None else float(right)
        refused = float(REFUSAL.match(answer) is not None)
        return scores | {"format": float(closed and asked_for is not None), "refusal": refused}

    return score


def _value(number: str) -> Decimal | None:
    try:
        return Decimal(number.strip().replace(",", ""))
    except InvalidOperation:
        return None


def _everyday(n: int | None, seed: int) -> list[dict[str, Any]]:
    """The held-out prompts; if not all are asked, drawn so that look-alikes stay together."""
    from postlab.evals.everyday import everyday_rows

    return _shuffled(everyday_rows("held_out"), n, seed)


def _everyday_small(n: int | None, seed: int) -> list[dict[str, Any]]:
    from postlab.evals.everyday import within_reach

    return _shuffled(within_reach(), n, seed)


def _shuffled(rows: list[dict[str, Any]], n: int | None, seed: int) -> list[dict[str, Any]]:
    if n is None:
        return rows

    def drawn(row: Mapping[str, Any]) -> str:
        name = row.get("pair", row["id"]).replace("_sampled", "")
        return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()

    return sorted(rows, key=drawn)


def _public(name: str) -> Callable[[int | None, int], list[dict[str, Any]]]:
    def rows(n: int | None, seed: int) -> list[dict[str, Any]]:
        from postlab.evals.public import public_rows

        return public_rows(name, n=n, seed=seed)

    return rows


_NAMES = (
    "zero one two three four five six seven eight nine",
    "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
    "twenty thirty forty fifty sixty seventy eighty ninety",
)
UNITS, TEENS, TENS = (names.split() for names in _NAMES)
IN_WORDS = {word: value for value, word in enumerate(UNITS + TEENS)}
IN_WORDS |= {word: 10 * value for value, word in enumerate(TENS, 2)}
_SMALL = rf"(?:(?:{'|'.join(TENS)})(?:[- ](?:{'|'.join(UNITS[1:])}))?|{'|'.join(TEENS + UNITS)})"
SPELLED = re.compile(
    rf"\b(?:(?:a|{'|'.join(UNITS[1:])})[- ]hundred(?:(?: and)?[- ]{_SMALL})?|{_SMALL})\b"
)
AMOUNT = re.compile(  # an ordinal, and a digit inside a name, is none
    r"(?<![a-z0-9_])-?(?:[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?|\.[0-9]+)(?![0-9]|(?:st|nd|rd|th)\b)"
)
STEP = re.compile(r"\bstep [0-9]+\b")
BESIDE = re.compile(  # before a number that says when or of how many
    r"\b(?:in(?:to)?|after|for|per|than|within|over|every|(?<!total )(?<!sum )of) $"
)
COMPARED = re.compile(  # '9 is the largest of the 3'
    r"\b(?:than|sum of|product of|difference between|(?:\w{2,12}est|most|out)\b.{0,20}\bof)\b"
)
ASIDE = re.compile(r"\([^()]*\)")
REASON = re.compile(r",? (?:because|since|who)\b|; the (?:others?|rest)\b")
STATES = re.compile(r"is|are|was|were|remain|altogether")
TOTAL = re.compile(r"[^0-9]{0,30}\b(?:in total|in all|altogether|overall)\W{0,9}$")
CENTS = re.compile(
    r"([0-9]) (dollars?|euros?|pounds?)(?:,? and|,)? ([0-9]{1,2}) (?:cents?|pence)\b"
)
MARKED = re.compile(
    r"####|\\boxed\{|\b(?:answer|result)(?: [a-z']{1,15}){0,6}?(?: is| are| was| be|:| =)"
)
# What comes before the outcome in the sentence that concludes an answer.
LEADS = re.compile(  # a colon only before the last words: 'get on: 24'
    r"=|\u2192|:(?= -?[0-9][0-9.,]{0,15}(?: [a-z]{1,15}){0,2}\W{0,3}$)|\b(?:it's|that's|is|are|was"
    r"|were|be|has|have|had|gets?|got|makes?|made|leaves?|equals?|gives?|needs?|costs?|pays?|paid"
    r"|spends?|spent|takes?|took|keeps?|becomes?|remains?|so|therefore|thus|hence|totals?"
    r"|altogether|left with)\b"
)
OPERATOR = re.compile(
    r"(?: [a-z]{1,15}){0,2} ?(?:[-+*/x\u00d7\u00f7]|plus|minus|times|multiplied by|divided by) ?"
)
TYPED = str.maketrans({"\u2212": "-", "\xa0": " ", "\u202f": "", "\u2009": "", "$": ""})


def last_number(answer: str) -> Decimal | None:
    """The number that an answer gives as its outcome; None if it gives none.

    In this order: what follows the last '####', '\\\\boxed{' or 'the answer is'; in the last
    sentence with a number, what follows its last '=', verb or 'so', unless that is itself a sum;
    else that sentence's last number. Numbers may be spelled, to 999.

    >>> last_number("Each has 3, so it is 3 x 4 = 12 after 2 days.")
    Decimal('12')
    """
    text = _digits(answer)
    for mark in reversed(list(MARKED.finditer(text))[-5:]):
        clause = re.split(r"(?<=[.!?])\s|\n", text[mark.end() : mark.end() + 200].lstrip(" :\n"))[0]
        number = AMOUNT.match(clause)
        if number and not re.match(OPERATOR.pattern + "[0-9]", clause[number.end() :]):
            return _value(number[0])
        if AMOUNT.search(clause):
            return _outcome(clause)
    for sentence in reversed(re.split(r"(?<=[.!?])\s+|\n+", text)):
        if AMOUNT.search(sentence):
            return _outcome(sentence)
    return Decimal(1) if re.search(r"\bone\b", text) else None


def _digits(answer: str) -> str:
    """The answer in small letters, its spelled numbers in digits and without list marks.

    'one' stays, which is mostly a pronoun.
    """
    text = answer.translate(TYPED).replace("**", "").lower()
    rows = filter(None, (" ".join(row.split()) for row in text.splitlines()))
    lines, due = [], 1
    for line in rows:
        if line.startswith((f"{due}. ", f"{due}) ")):  # the next item of a list
            line, due = line[len(str(due)) + 2 :], due + 1
        lines.append(STEP.sub("step", line))
    text = SPELLED.sub(_spelled, "\n".join(lines))
    return CENTS.sub(lambda m: f"{m[1]}.{int(m[3]):02} {m[2]}", text)


def _spelled(match: re.Match[str]) -> str:
    if match[0] == "one":
        return "one"
    total = 0
    for word in re.split(r"[- ]", match[0]):
        total = max(total, 1) * 100 if word == "hundred" else total + IN_WORDS.get(word, 0)
    return str(total)


def _outcome(sentence: str) -> Decimal | None:
    """The number on which a sentence with numbers comes down."""
    *_, last = AMOUNT.finditer(sentence)
    sentence = sentence[max(0, last.end() - 1000) : last.end() + 100]
    aside = ASIDE.sub("", sentence)
    sentence = aside if AMOUNT.search(aside) else sentence
    conclusion = REASON.split(sentence, maxsplit=1)[0]
    sentence = conclusion if AMOUNT.search(conclusion) else sentence
    numbers = list(AMOUNT.finditer(sentence))
    joined = set()  # numbers that stand beside an operator
    for left, right in zip(numbers, numbers[1:], strict=False):
        if OPERATOR.fullmatch(sentence, left.end(), right.start()):
            joined |= {left, right}
    leads = [m for m in LEADS.finditer(sentence) if m.end() <= numbers[-1].start()]
    if TOTAL.match(sentence, numbers[-1].end()):
        return _value(numbers[-1][0])
    if not leads:
        free = [n for n in numbers if not BESIDE.search(sentence[: n.start()][-12:])]
        return _value((free or numbers)[-1][0])
    after = [number for number in numbers if number.start() >= leads[-1].end()]
    before = numbers[: len(numbers) - len(after)]
    alone = [number for number in after if number not in joined]
    between = sentence[leads[-1].end() : after[0].start()]
    compared = COMPARED.search(between)
    if before and before[-1] not in joined and (compared or not alone):
        chosen = before[-1]  # '12 is 5 plus 7', '9 is more than 8'
    elif len(leads) == len(before) == 1 and before[0].start() == 0 and STATES.match(leads[0][0]):
        # '12 apples are left after 3 days', but '5 weeks are 35 days'
        chosen = before[0] if between.strip() else (alone or after)[0]
    else:
        chosen = alone[0] if alone else after[-1]
    return _value(chosen[0])


# The suites that have a name.
SUITES: dict[str, Callable[[int | None, int], list[dict[str, Any]]]] = {
    "tinyworld": _tinyworld,
    "tinyworld-english": lambda n, seed: _tinyworld(n, seed, with_context=True),
    "gsm8k": _gsm8k,
    "everyday": _everyday,
    "everyday-small": _everyday_small,
}
SUITES |= {name: _public(name) for name in ("ifeval", "math500", "xstest", "harmbench")}
SUITES |= {"alpaca_eval": _public("alpaca_eval")}
