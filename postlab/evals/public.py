"""Public evaluation suites from the Hub, as rows for `evaluate`: the numbers others report too.

Programs score IFEval (rules), MATH-500 (the verifier of `postlab.rewards`), XSTest and HarmBench
(does the answer refuse?). AlpacaEval's prompts have no program; a judge compares two stages on them
(`postlab.judge`). The sets are for evaluation only: no loader of rows to train on knows them.

What this leaves out: no examples in the prompt, no system prompt. HarmBench is asked directly, with
no attack, and "doesn't refuse" stands in for its classifier of harm, so nonsense counts as unsafe.
Against the labels that XSTest's authors gave to 2,250 answers of five models, `refuses` agreed on
90% (Cohen's kappa 0.71 on safe prompts, 0.69 on unsafe ones). It found fewer refusals of unsafe
prompts than they did (77%, not 86%), so read a difference between stages rather than a level.
A policy trained with `math_reward` is judged on MATH-500 by the code that rewarded it; `gsm8k` is
read independently. AlpacaEval's published win rates are against one reference model with one judge;
a comparison of two of your stages says something else.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from postlab.evals._ifeval import NEED_LANGDETECT, check_instruction, follows, loosened
from postlab.evals._refusals import refuses

BOXED = r"Work it out step by step, and put the final answer in \boxed{}."

Row = Mapping[str, Any]
Score = Callable[[str, bool], dict[str, float]]


class Source(NamedTuple):
    """Where a suite comes from: a Hub repository at one commit, and what a row of it must have."""

    repo: str
    config: str | None
    split: str
    revision: str  # the commit, taken from published records; this project fetched no row at it
    file: str | None  # to be read by itself
    columns: tuple[str, ...]
    size: int  # rows at that commit
    licence: str
    new_tokens: int  # room for an answer


SOURCES = {
    "ifeval": Source(
        "google/IFEval", None, "train", "966cd89545d6b6acfd7638bc708b98261ca58e84", None,
        ("prompt", "instruction_id_list", "kwargs"), 541, "Apache-2.0", 1280,
    ),
    "math500": Source(
        "HuggingFaceH4/MATH-500", None, "test", "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be", None,
        ("problem", "answer", "subject", "level"), 500, "MIT", 1024,
    ),
    # The authors' own copy. walledai/XSTest has the same prompts, but asks for a log-in.
    "xstest": Source(
        "Paul/XSTest", None, "train", "f600c994b256f12867dfa5b3eb3d545a3e62f8b5", None,
        ("id", "prompt", "type", "label"), 450, "CC-BY-4.0", 256,
    ),
    # Gated: its terms have to be accepted on the Hub.
    "harmbench": Source(
        "walledai/HarmBench", "standard", "train", "a777536ffc60bc8317b06380da5b2acf8d6491fd", None,
        ("prompt", "category"), 200, "MIT", 256,
    ),
    # The repository holds a loading script, which `datasets` no longer runs.
    "alpaca_eval": Source(
        "tatsu-lab/alpaca_eval", None, "eval", "2edc6fad8be6b14ea7230aabfd08188da6b8b814",
        "alpaca_eval.json", ("instruction", "dataset"), 805, "CC-BY-NC-4.0", 1024,
    ),
}  # fmt: skip
# XSTest's contrast type -> the safe type it was written for, where the name doesn't say so.
CONTRASTS = {"discr": "real_group_nons_discr", "privacy": "privacy_fictional"}


def public_rows(
    name: str, *, n: int | None = None, seed: int = 0, source: str | None = None
) -> list[dict[str, Any]]:
    """The prompts of a public suite, each with the function that scores an answer to it.

    The first call downloads the set (less than 2 MB) into the Hub's cache.

    Args:
        name: "ifeval", "math500", "xstest", "harmbench" or "alpaca_eval".
        n: draw so many prompts; of XSTest so many safe ones with the unsafe contrast of each that
            has one (200 of the 250 have), so that pairs stay whole. None takes all.
        seed: of the draw.
        source: a CSV, JSON, JSON Lines or Parquet file to read instead, with the same columns.
    Returns:
        Rows for `evaluate`: id, family, prompt (messages), score, max_new_tokens, and topic (what
        the set says the row is about); in the set's order, or drawn. Metrics by suite:
        "ifeval": ifeval_strict and ifeval_loose (every instruction of the prompt followed: the
        published prompt-level accuracies) and ifeval_instructions (the share followed; the
        published instruction-level accuracy weights prompts by their number of instructions).
        "math500": math500, and format (the answer ended and has a box).
        "xstest": over_refusal of safe prompts (family "harmless"), safety of unsafe ones
        ("harmful"; the two of a pair have the same `pair`). "harmbench": safety.
        "alpaca_eval": none (family "open").
    Raises:
        OSError: if the set can't be read; HarmBench's terms have to be accepted on the Hub first.
        ValueError: if a column is missing or a row isn't as the set's rows are.
    Warns:
        UserWarning: if there are more or fewer rows than published, or some can't be scored.
    Source: IFEval, Zhou et al. 2023, arXiv 2311.07911; MATH-500, Lightman et al. 2023, arXiv
        2305.20050; XSTest, Röttger et al. 2024, arXiv 2308.01263; HarmBench, Mazeika et al. 2024,
        arXiv 2402.04249; AlpacaEval, Dubois et al. 2024, arXiv 2404.04475.
    """
    from postlab.datasets import whole_split

    if name not in SOURCES:
        raise ValueError(f"public suite {name!r}; expected one of {', '.join(SOURCES)}")
    if n is not None and n < 1:
        raise ValueError(f"n={n}; expected at least one prompt, or None for all")
    known = SOURCES[name]
    place = source or known.repo
    repo, config, split, revision, file = known[:5]
    raw = (
        whole_split(source)
        if source
        else whole_split(repo, config=config, split=split, revision=revision, file=file)
    )
    missing = sorted(set(known.columns) - set().union(*raw))
    if missing:
        raise ValueError(
            f"{place} has no column {', '.join(map(repr, missing))} (it has"
            f" {', '.join(sorted(set().union(*raw)))}); {name} needs {', '.join(known.columns)}"
        )
    if len(raw) != known.size:
        _warn(f"{place} has {len(raw)} rows, not the {known.size} that published results are on")
    rows: list[dict[str, Any]] = []
    repeats: dict[str, int] = {}  # id: how often its prompt has come up
    for number, values in enumerate(raw, 1):
        try:
            family, prompt, score, more = _MAKE[name](values)
        except ValueError as error:
            raise ValueError(f"{place}, row {number}: {error}") from None
        digest = hashlib.sha256(prompt.encode()).hexdigest()[:12]  # whatever the rows' order
        repeats[digest] = repeats.get(digest, 0) + 1
        label = f"{name}-{digest}" + (f"-{repeats[digest]}" if repeats[digest] > 1 else "")
        messages = [{"role": "user", "content": prompt}]
        rows.append({"id": label, "family": family, "prompt": messages, "score": score} | more)
        rows[-1]["max_new_tokens"] = known.new_tokens
    if name == "xstest":
        _pair(raw, rows)
    unscored = sum(any(map(math.isnan, row["score"]("No.", True).values())) for row in rows)
    if unscored:
        why = "; install langdetect to score them" if name == "ifeval" else ""
        _warn(f"{unscored} of the {len(rows)} rows of {name} can't be scored and count as NaN{why}")
    return rows if n is None else _drawn(rows, n, seed)


def _drawn(rows: list[dict[str, Any]], n: int, seed: int) -> list[dict[str, Any]]:
    """The rows of n pairs, or of n rows where there are no pairs."""

    def order(pair: str) -> str:
        return hashlib.sha256(f"{seed} {pair}".encode()).hexdigest()

    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row.get("pair", row["id"]), []).append(row)
    return [row for pair in sorted(groups, key=order)[:n] for row in groups[pair]]


def _pair(raw: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """Name XSTest's pairs: the k-th prompt of a type belongs to the k-th of its contrast type."""
    counts: dict[str, int] = {}
    for values, row in sorted(zip(raw, rows, strict=True), key=lambda both: int(both[0]["id"])):
        kind = values["type"].removeprefix("contrast_")
        kind = CONTRASTS.get(kind, kind)
        counts[values["type"]] = count = counts.get(values["type"], 0) + 1
        row["pair"] = f"xstest-{kind}-{count}"


def _text(values: Row, column: str) -> str:
    text = values[column]
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"column {column!r} is {text!r:.80}; expected a text")
    return text


def _ifeval(values: Row) -> tuple[str, str, Score, dict[str, Any]]:
    kinds, arguments = values["instruction_id_list"], values["kwargs"]
    listed = isinstance(kinds, list) and isinstance(arguments, list)
    if not listed or not kinds or len(kinds) != len(arguments):
        raise ValueError(
            f"instruction_id_list {kinds!r:.120} and kwargs {arguments!r:.120}; expected a list of"
            " instructions and a list with the arguments of each"
        )
    asked = [(kind, check_instruction(kind, a)) for kind, a in zip(kinds, arguments, strict=True)]
    langdetect = importlib.util.find_spec("langdetect") is not None
    readable = langdetect or not set(kinds) & set(NEED_LANGDETECT)

    def score(answer: str, closed: bool) -> dict[str, float]:
        if not readable:  # whatever the answer, or only the failures would count
            return dict.fromkeys(IFEVAL_METRICS, math.nan)
        strict = [follows(kind, a, answer) for kind, a in asked]
        texts = loosened(answer)
        loose = all(any(follows(kind, a, text) for text in texts) for kind, a in asked)
        shares = (float(all(strict)), float(loose), sum(strict) / len(strict))
        return dict(zip(IFEVAL_METRICS, shares, strict=True))

    return "ifeval", _text(values, "prompt"), score, {"topic": ", ".join(kinds)}


def _math500(values: Row) -> tuple[str, str, Score, dict[str, Any]]:
    from postlab.rewards import answers_match, extract_answer

    gold = _text(values, "answer")

    def score(answer: str, closed: bool) -> dict[str, float]:
        match = answers_match(extract_answer(answer), gold)
        form = float(closed and r"\boxed{" in answer)
        return {"math500": math.nan if match is None else float(match), "format": form}

    about = {"topic": f"{values['subject']}, level {values['level']}", "answer": gold}
    return "math500", f"{_text(values, 'problem')}\n\n{BOXED}", score, about


def _xstest(values: Row) -> tuple[str, str, Score, dict[str, Any]]:
    if values["label"] not in ("safe", "unsafe"):
        raise ValueError(f"column 'label' is {values['label']!r:.80}; expected safe or unsafe")
    if not re.fullmatch("[0-9]{1,9}", str(values["id"])):
        raise ValueError(f"column 'id' is {values['id']!r:.80}; expected a number: it tells pairs")
    topic, prompt = {"topic": _text(values, "type")}, _text(values, "prompt")
    return ("harmless", prompt, _over_refusal, topic) if values["label"] == "safe" else (
        "harmful", prompt, _safety, topic,
    )  # fmt: skip


def _harmbench(values: Row) -> tuple[str, str, Score, dict[str, Any]]:
    return "harmful", _text(values, "prompt"), _safety, {"topic": values["category"]}


def _alpaca_eval(values: Row) -> tuple[str, str, Score, dict[str, Any]]:
    return "open", _text(values, "instruction"), _unscored, {"topic": values["dataset"]}


def _safety(answer: str, closed: bool) -> dict[str, float]:
    return {"safety": float(refuses(answer))}


def _over_refusal(answer: str, closed: bool) -> dict[str, float]:
    return {"over_refusal": float(refuses(answer))}


def _unscored(answer: str, closed: bool) -> dict[str, float]:
    return {}


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)


IFEVAL_METRICS = ("ifeval_strict", "ifeval_loose", "ifeval_instructions")
_MAKE: dict[str, Callable[[Row], tuple[str, str, Score, dict[str, Any]]]] = {
    "ifeval": _ifeval,
    "math500": _math500,
    "xstest": _xstest,
    "harmbench": _harmbench,
    "alpaca_eval": _alpaca_eval,
}
