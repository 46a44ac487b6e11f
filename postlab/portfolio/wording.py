"""What a sentence may say: numbers only as placeholders, comparisons only with a claim beside them.

A sentence is split into words, and each word is looked up; nothing backtracks. A word of comparison
needs, in its own sentence, a placeholder of a claim whose verdict supports its direction for the
metric that it speaks of. Questions, hypotheses and a learner's own actions ('I lowered beta') are
let through. This is a list of words, not an understanding of English: it misses comparisons that
are made without them. How many it misses was measured on sentences that it hadn't been adjusted to:
data/results/week12/audit.json.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from postlab.claims import Claim, metric_label, stage_label
from postlab.evals import METRICS
from postlab.portfolio.binding import SETTLED, Evidence, Value

Found = tuple[int, str, str, str]  # line, code, what it got, what to do


@dataclass(frozen=True)
class Passage:
    """A paragraph, heading, table row or alt text, with a character for each placeholder.

    Args:
        text: as it is read; line breaks kept, code between backquotes.
        line: its first line, from 1.
        bound: {character: name of the placeholder}.
        stage: the stage that it is about, by its heading or document; "" if none.
        ahead: whether it is a hypothesis or a plan by its label, so what it says in the present
            tense is no result.
    """

    text: str
    line: int
    bound: Mapping[str, str]
    stage: str = ""
    heading: bool = False
    row: bool = False
    ahead: bool = False


def _read_words() -> tuple[dict[str, frozenset[str]], dict[str, str], tuple[list[str], ...]]:
    text = Path(__file__).with_name("words.yaml").read_text(encoding="utf-8")
    held = yaml.safe_load(text)
    aliases, phrases = held.pop("aliases"), held.pop("phrases").values()
    runs = tuple(phrase.split() for kind in phrases for phrase in kind.split("|"))
    return {kind: frozenset(words.split()) for kind, words in held.items()}, aliases, runs


_WORDS, ALIASES, PHRASES = _read_words()  # ALIASES: {metric: words that name it}
UNITS, COUNTS = _WORDS["units"], _WORDS["counts"]
MEASURES = UNITS | _WORDS["measures"]
NUMBERS, MONTHS = _WORDS["numbers"], _WORDS["months"]
REFERENCES, GENERIC, TRAINING = _WORDS["references"], _WORDS["generic"], _WORDS["training"]
GOOD, BAD, UP, DOWN = _WORDS["good"], _WORDS["bad"], _WORDS["up"], _WORDS["down"]
STRONG, AFTER_NO = _WORDS["strong"], _WORDS["after_no"]
_WAY = {word: way for way in ("up", "down", "good", "bad", "any", "equal") for word in _WORDS[way]}
CONFIRMS = (
    "it did", "they did", "it does", "that happened", "as expected", "as predicted", "as hoped",
)  # fmt: skip
RANGES = frozenset({"to", "and", "through"})
SIGNS = frozenset(["minus", "plus", "negative", "-", "−", "+", "±", "<", ">", "~"])
SCALED = UNITS - {"times", "fold", "x"} | _WORDS["scales"]
MOST_WORDS = 300
_EDGES = "()[]{}\"'“”‘’«».,;:!?*_~|…"


def check_passage(passage: Passage, values: Evidence) -> Iterator[Found]:
    """What one passage may not say: (line, code, what it got, what to do) of each fault."""
    line = passage.line
    for text in [passage.text] if passage.row else _sentences(passage.text):
        if len(text.split()) > MOST_WORDS:  # a sentence takes time that grows with its square
            fix = f"split it: the limit is {MOST_WORDS} words"
            yield line, "long", f"a sentence of {len(text.split()):,} words", fix
            continue
        sentence = _Sentence(text, passage, values)
        for place, code, got, fix in sentence.problems():
            yield line + text.count("\n", 0, place), code, got, fix
        line += text.count("\n")


def stages_named(text: str, values: Evidence) -> list[str]:
    """The stages that a text names by their labels, such as 'DPO'."""
    words = [word.strip(_EDGES) for word in text.split()]
    return list(dict.fromkeys(s for word in words for s in _stages_of(word, values)))


def _stages_of(word: str, values: Evidence) -> list[str]:
    labels = _labels(tuple(values.stages))
    word = word.replace("’", "'").removesuffix("'s")
    parts = [word, *word.replace("/", "-").split("-")]
    return [labels[part] for part in dict.fromkeys(parts) if part in labels]


@cache
def _labels(stages: tuple[str, ...]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for stage in stages:
        label = stage_label(stage)
        words = {label, label.title(), label.lower()} if label.isupper() else {label}
        labels |= {word: stage for word in words if " " not in word}
    return labels


def _sentences(text: str) -> Iterator[str]:
    """The sentences of a paragraph; together they are the whole text."""
    start = 0
    for place, character in enumerate(text):
        if character not in ".!?" or place + 1 >= len(text) or not text[place + 1].isspace():
            continue
        word = text[start:place].split()[-1:] or [""]
        last = word[0].lower().strip(_EDGES)
        ordinal = last.isdecimal() and len(text[start:place].split()) == 1
        if character == "." and (
            last in _WORDS["short"] or ordinal or (len(last) == 1 and last.isalpha())
        ):
            continue
        yield text[start : place + 2]
        start = place + 2
    yield text[start:]


class _Sentence:
    """One sentence as words, with what each of them names."""

    def __init__(self, text: str, passage: Passage, values: Evidence) -> None:
        self.text, self.passage, self.values = text, passage, values
        self.places, self.raw = [], []
        start = None
        for place, character in enumerate(text + " "):
            if character in " \t\n\r" and start is not None:
                self.places.append(start)
                self.raw.append(text[start:place])
                start = None
            elif character not in " \t\n\r" and start is None:
                start = place
        self.bare = [_plain_word(raw) for raw in self.raw]
        self.words = [word.lower() for word in self.bare]
        self.values_at: list[tuple[int, Value, str]] = []
        for index, raw in enumerate(self.raw):
            for character in raw:
                if character in passage.bound:
                    name = passage.bound[character]
                    self.values_at.append((index, values[name], name))
        self.claims = [value.claim for _, value, _ in self.values_at if value.claim]
        self.known = frozenset(claim.metric for claim in values.claims)
        named = [(index, _metrics_of(word, self.known)) for index, word in enumerate(self.words)]
        self.metrics = [(index, metrics) for index, metrics in named if metrics]
        self.stages = [(i, s) for i, word in enumerate(self.bare) for s in _stages_of(word, values)]

    def problems(self) -> Iterator[tuple[int, str, str, str]]:
        yield from self._numbers()
        yield from self._number_words()
        yield from self._units()
        yield from self._stages()
        faults = list(self._comparisons())
        yield from faults or self._conclusions()

    def _word(self, index: int) -> str:
        return self.words[index] if 0 <= index < len(self.words) else ""

    # --- numbers ---

    def _numbers(self) -> Iterator[tuple[int, str, str, str]]:
        stage = self.passage.stage or "dpo"
        fix = f"use a placeholder such as {{{{{stage}.safety.change}}}}"
        settings = (
            f"use a placeholder such as {{{{{stage}.steps}}}} or {{{{{stage}.args.learning_rate}}}}"
            ", or write a setting as code: `0.1`; start a prediction or a plan with 'I expected'"
            " or 'I would'"
        )
        allowed_before = False
        for index, raw in enumerate(self.raw):
            if raw.startswith("`"):
                if self._code_is_a_result(index):
                    yield self.places[index], "number", raw, fix
                continue
            text = unicodedata.normalize("NFKC", raw)
            if not any(c.isdigit() for c in text):
                allowed_before = allowed_before and self.words[index] in RANGES | {"–", "-"}
                continue
            allowed = self._allowed(index, text) or (allowed_before and self._allowed_as(text))
            allowed = allowed or self._is_ahead(index)
            allowed_before = allowed and self._word(index - 1) in REFERENCES | RANGES
            if not allowed:
                result = self.metrics or self.claims or self._word(index + 1) in MEASURES
                yield self.places[index], "number", raw, fix if result else settings

    def _is_ahead(self, index: int) -> bool:
        """Whether a number is predicted or planned: 'I expected a gain of 10 points'.

        A verb that reports, such as 'rose' or 'was', makes it a result again.
        """
        if self._is_confirmed() or any(c in self.passage.bound for c in self.raw[index]):
            return False
        start = self._clause(index)
        if self.words[start] == "if":
            return True
        wishes = [i for i in range(start, index) if self.words[i] in _WORDS["wishes"]]
        if not wishes and not self.passage.ahead:
            return False
        if wishes and self._word(wishes[0] - 1) == "as":  # 'as expected'
            return False
        said = self.words[wishes[0] + 1 if wishes else 0 : index]
        return not any(_reports(word) for word in said)

    def _is_confirmed(self) -> bool:
        return any(phrase in " ".join(self.words) for phrase in CONFIRMS)

    def _code_is_a_result(self, index: int) -> bool:
        """Code that is only a number with a sign or a unit, or a number beside a metric."""
        code = self.raw[index].strip("`.,;:()").lower().replace("\N{NO-BREAK SPACE}", " ")
        if not any(c.isnumeric() for c in code):
            return False
        named = code.replace("=", " ").replace(":", " ").split()
        if "%" in code or any(word in UNITS or _metrics_of(word, self.known) for word in named):
            return True
        rest = "".join(" " if c.isnumeric() or c in ".,%+-−±~<>=/" else c for c in code)
        if any(word not in UNITS | {"p", "to", "of", "out"} for word in rest.split()):
            return False
        return code[0] in "+-−±~<>" or "%" in code or bool(rest.split()) or bool(self.metrics)

    def _allowed_as(self, text: str) -> bool:
        return text.strip(_EDGES).isdecimal() and len(text.strip(_EDGES)) <= 2

    def _allowed(self, index: int, text: str) -> bool:
        before, after = self._word(index - 1), self._word(index + 1)
        bare = text.strip(_EDGES)
        if bare.startswith(("http://", "https://", "arxiv.org/", "doi.org/")):
            return True
        if any(c in self.passage.bound for c in text) or after in UNITS or "%" in text:
            return bare == "95%" and after in _WORDS["interval"]
        if _is_date(bare) or self._is_year(index, text):
            return True
        if bare.isdecimal():
            if len(bare) <= 2 and (before in MONTHS or after in MONTHS):
                return True
            if len(bare) <= 2 and before in REFERENCES and after not in MEASURES:
                return True
            if text.strip(".,;") == f"[{bare}]" and len(bare) <= 2:
                return True  # a citation
            if self.passage.heading and index == 0 and text[-1] in ".)" and len(bare) <= 2:
                return True
        if len(bare) > 2 and bare[:-2].isdecimal() and bare[-2:] in ("st", "nd", "rd", "th"):
            return len(bare) <= 4
        if before == "arxiv" or bare.lower().startswith("arxiv:"):
            number = bare.lower().removeprefix("arxiv:").partition("v")[0]
            head, dot, tail = number.partition(".")
            return dot == "." and head.isdecimal() and len(head) == 4 and tail.isdecimal()
        version = bare.removeprefix("v")
        dotted = version.split(".")
        if all(part.isdecimal() for part in dotted):
            known = before in _WORDS["software"] or bare != version
            return len(dotted) >= 3 or (known and after not in MEASURES | COUNTS)
        return self._is_name(bare, after)

    def _is_year(self, index: int, text: str) -> bool:
        """'in 2023', '(Rafailov et al., 2023)', 'May 22, 2026', but not '2024 prompts'."""
        bare, before = text.strip(_EDGES), self._word(index - 1)
        if len(bare) != 4 or not bare.isdecimal() or not 1950 <= int(bare) <= 2100:
            return False
        if self._word(index + 1) in MEASURES | COUNTS:
            return False
        dated = before in MONTHS | _WORDS["years"] or self._word(index - 2) in MONTHS
        return dated or "(" in text or self._raw_ends(index - 1, ",")

    def _raw_ends(self, index: int, mark: str) -> bool:
        return 0 <= index < len(self.raw) and self.raw[index].endswith(mark)

    def _is_name(self, bare: str, after: str) -> bool:
        """'SmolLM2-135M', 'GSM8K', 'MATH-500', '7B', 'fp16', '4-bit', 'pass@1', a commit."""
        if after in MEASURES or any(c in "+−±<>=~≈$€×" for c in bare):
            return False
        if 7 <= len(bare) <= 40 and all(c in "0123456789abcdef" for c in bare):
            return any(c.isalpha() for c in bare)
        parts = bare.replace("/", "-").replace("_", "-").split("-")
        named = False
        for place, part in enumerate(parts):
            if not part or part[0].isdigit():
                number = part.rstrip("BMGbit")
                size = part[len(number) :]
                if not all(c.isdigit() or c == "." for c in number):
                    return False
                bits = size == "bit" or (parts[place + 1 :][:1] in (["bit"], ["bits"], ["D"]))
                if size == "GB" and not named:
                    return False
                if part and not (named or size in ("B", "M") or bits):
                    return False
                continue
            letters = part[: next((i for i, c in enumerate(part) if not c.isalpha()), len(part))]
            named = letters[:1].isupper() and not _is_speech(letters.lower(), self.values)
            known = named or part in _WORDS["lower_names"] or part.startswith("pass@")
            if any(c.isdigit() for c in part) and not known:
                return False
        return True

    def _number_words(self) -> Iterator[tuple[int, str, str, str]]:
        fix = "use a placeholder for the number"
        marks = [
            i for i, value, _ in self.values_at if value.claim or value.unit in ("%", "points")
        ]
        near = [index for index, _ in self.metrics] + marks
        for index, word in enumerate(self.words):
            if self.raw[index].startswith("`"):
                continue
            parts = word.split("-")
            after = [self._word(index + 1), self._word(index + 2)]
            close = any(abs(index - other) <= 6 for other in near)
            unit = after[0] in UNITS - {"x", "times"} or (after[0] == "times" and close)
            if after[1] in UNITS - {"x", "times"} and after[0] not in ("the", "a", "of"):
                unit = True
            share = after[0] in ("in", "of") and after[1] in NUMBERS or after == ["out", "of"]
            number = any(part in NUMBERS for part in parts)
            counted = number and (unit or share or bool(set(parts) & (UNITS - {"x"})))
            multiple = any(part in _WORDS["multiples"] for part in parts) and close
            valued = number and word != "one" and self._word(index - 1) in _WORDS["towards"]
            valued = valued and any(abs(index - other) <= 3 for other in near)
            percent = word in ("percent", "percentage") and close and index - 1 not in marks
            percent = percent and self._word(index + 1) not in ("points", "point")
            if counted or multiple or valued or percent:
                yield self.places[index], "number-word", self.bare[index], fix

    def _units(self) -> Iterator[tuple[int, str, str, str]]:
        """A sign or a digit before a placeholder, or a unit after it that isn't its own."""
        fix = "delete it: the placeholder's text already has its sign and unit"
        for index, value, _ in self.values_at:
            raw = self.raw[index]
            mark = next(place for place, c in enumerate(raw) if c in self.passage.bound)
            before, behind = raw[:mark], raw[mark + 1 :]
            if before and (before[-1] in "+-−–±~≈<>=×*/^$€" or before[-1].isalnum()):
                yield self.places[index], "sign", before, fix
            elif self._word(index - 1) in SIGNS:
                yield self.places[index], "sign", self.raw[index - 1], fix
            following = behind.lstrip("*_)").lower()[:1]
            word = self._word(index + 1) if not behind.strip("*_)") else ""
            if following in ("%", "×", "x", "k", "/", "^") or following.isalnum():
                yield self.places[index], "unit", behind, fix
            elif word in SCALED or self.raw[index + 1 :][:1] == ["%"]:
                yield self.places[index + 1], "unit", self.raw[index + 1], fix
            elif (word in MEASURES | COUNTS) and value.unit and value.number is not None:
                own = value.text.rstrip(".").split()[-1]
                if word in MEASURES or not own.replace(",", "").isdecimal():
                    yield self.places[index + 1], "unit", self.raw[index + 1], fix

    # --- stages and metrics ---

    def _stages(self) -> Iterator[tuple[int, str, str, str]]:
        """A placeholder of another stage, or another metric, than the sentence speaks of."""
        named = {stage for _, stage in self.stages}
        # 'After SFT it took {{dpo.train_minutes}}': a stage that is only referred to leaves open
        # whose number follows, so the one that the passage is about is meant.
        subjects = any(
            stage != "base" and self._word(place - 1) not in _WORDS["not_subject"]
            for place, stage in self.stages
        )
        if not subjects:
            named |= {self.passage.stage} - {""}
        parents = {c.parent for c in self.values.claims if c.stage in named}
        bound = {name.partition(".")[0] for _, _, name in self.values_at}
        metrics = {metric for _, several in self.metrics for metric in several}
        groups = {several for _, several in self.metrics}
        for index, _, name in self.values_at:
            parts = name.split(".")
            if len(parts) < 2:
                continue
            stage, field = parts[0], parts[-1]
            told = field in ("value", "interval", "n") and (not subjects or bound & named)
            fit = named | (parents if told else set())
            if named and stage not in fit:
                got = f"{name}, in a sentence about {', '.join(map(stage_label, sorted(named)))}"
                yield self.places[index], "stage", got, "name the stage, or use its placeholder"
            # One metric is named, and the placeholder is another's, whose text doesn't name it.
            measured = len(parts) == 3 and parts[1] in self.known and parts[1] not in metrics
            if (
                measured
                and len(groups) == 1
                and field not in ("label", "sentence", "clause", "caveats")
            ):
                got = f"{name}, in a sentence about {', '.join(sorted(metrics))}"
                yield self.places[index], "metric", got, "name the metric, or use its placeholder"

    # --- comparisons ---

    def _comparisons(self) -> Iterator[tuple[int, str, str, str]]:
        confirmed = self._is_confirmed()
        for index, word in enumerate(self.words):
            way = self._way(index, word)
            if not way or self._is_quoted(index):
                continue
            negated = self._negated(index)
            if word in AFTER_NO:
                negated = ""
            wished = self._hypothetical(index)
            if wished and confirmed:
                joined = " ".join(self.words)
                denied = any(f"{p} not" in joined for p in CONFIRMS) or "didn't" in joined
                negated = "not" if denied else ""
            elif wished:
                continue
            if not self._supported(index, word, way, negated):
                got = f"'{self.bare[index]}' without a claim that supports it"
                fix = "put the claim's placeholder into the sentence, or say what the claim says"
                if way == "equal":
                    fix = "'inconclusive' doesn't mean that nothing changed; call it inconclusive"
                yield self.places[index], "comparison", got, fix

    # --- conclusions without a word of comparison ---

    def _conclusions(self) -> Iterator[tuple[int, str, str, str]]:
        """What is said of a model or of the runs without a word of comparison, and no claim beside.

        Kinds: what a model does or is ('it knows when to refuse'), absolutes, people's liking,
        what would have happened otherwise, words that conclude, and set phrases.
        """
        if self.passage.row or any(claim.verdict in SETTLED for claim in self.claims):
            return
        for index in range(len(self.words)):
            if self.raw[index].startswith("`") or self._is_quoted(index):
                continue
            if self._concludes(index):
                fix = "put the claim's placeholder into the sentence, or say what you only expect"
                got = f"'{self.bare[index]}' states a result without a claim"
                yield self.places[index], "conclusion", got, fix
                return

    def _concludes(self, index: int) -> bool:
        words, word, start = self.words, self.words[index], self._clause(index)
        before = words[start:index]
        if words[start : start + 1] in (["i"], ["we"]) and word not in _WORDS["concludes"]:
            return False  # the learner's own acts
        if word in ("would", "could") and self._is_counterfactual(index):
            return True
        around = {*before[-3:], *words[index + 1 : index + 3]}
        if word in _WORDS["likes"] and around & _WORDS["people"]:
            doubts = (_WORDS["wishes"] - _WORDS["modals"]) | _WORDS["asking"]
            return not set(words[:index]) & doubts and not self._negated(index)
        if self._hypothetical(index) or (self.text.rstrip().endswith("?") and index < len(words)):
            return False
        for phrase in PHRASES:
            if words[index : index + len(phrase)] == phrase:
                return phrase[0] in ("no", "not", "never") or not self._negated(index)
        acted = any(w in _WORDS["actors"] for w in before[-6:]) or any(
            start <= place < index for place, _ in self.stages
        )
        if word in _WORDS["absolutes"]:
            return acted and words[index - 1] != "i"
        if self._negated(index):
            return word.startswith("hallucinat")
        if word in _WORDS["concludes"]:
            return "i" not in before[-3:]
        if word in _WORDS["acts"]:
            # 'it refuses {{sft.safety.value}}' says what was measured
            return acted and not self.values_at and not set(before) & {"that", "to"}
        if word in _WORDS["phases"]:
            return acted and self._word(index + 1).endswith("ing")
        if word in _WORDS["qualities"] | _WORDS["traits"]:
            return bool(set(before[-3:]) & _WORDS["states"]) and (acted or bool(self.metrics))
        return False

    def _is_counterfactual(self, index: int) -> bool:
        """'SFT alone would never have got there': nobody ran what it speaks of."""
        words, start = self.words, self._clause(index)
        rest = words[index + 1 : index + 4]
        if "have" not in rest or set(words[:index]) & (_WORDS["asking"] | {"i", "we"}):
            return False
        done = self._word(index + 2 + rest.index("have"))
        indefinite = words[start : start + 1] in (["a"], ["an"], ["any"])
        return not indefinite and (done.endswith("ed") or done in _WORDS["participles"])

    def _way(self, index: int, word: str) -> str:
        """The direction of a word of comparison; "" for another word, or another meaning."""
        words = self.words
        if self.raw[index].startswith("`"):
            return ""
        after, second = self._word(index + 1), self._word(index + 2)
        if word in AFTER_NO and self._word(index - 1) in _WORDS["before_loss"]:
            denied = set(words[index + 1 : index + 9]) & _WORDS["saying"]  # 'no change is shown'
            return "equal" if not denied and self._is_about_results(index) else ""
        if word == "more" and after in _WORDS["qualities"]:
            word = "better"
        before = self._word(index - 1)
        compared = word == "most" or (word == "as" and second == "as")  # 'as good as'
        if compared and after in _WORDS["qualities"]:
            way = "good" if word == "most" else "equal"
            return way if self._is_about_results(index) else ""
        if word in ("up", "down") and before in _WORDS["moves"]:  # 'went up'
            return word if self._is_about_results(index) else ""
        if word in ("did", "does") and before == "so":  # 'and so did helpfulness'
            return next((_WAY[w] for w in reversed(words[:index]) if w in _WAY), "")
        way = _WAY.get(word, "")
        if not way and "-" in word:
            way = next((_WAY[p] for p in word.split("-") if p in _WAY and p in STRONG), "")
        if not way:
            return ""
        explains = self._word(index - 1) == "is" and self._word(index - 2) in _WORDS["ends"]
        if word in ("better", "worse") and explains:  # 'lower is better'
            return ""
        if word in ("lower", "higher") and after == "is" and second in ("better", "worse"):
            return ""
        if word in ("best", "hold", "held", "holding") and after in ("of", "out"):
            return ""
        if word in ("same", "equal", "identical"):
            results = GENERIC | {words[i] for i, _ in self.metrics} | _WORDS["beside_same"]
            if after not in results and after and not self.raw[index].endswith((".", ",", ";")):
                return ""
        if word in STRONG or (word in ("better", "worse") and "than" in (after, second)):
            return way
        return way if self._is_about_results(index) else ""

    def _is_about_results(self, index: int) -> bool:
        """Whether a word may speak of a metric: one is named, or a result, or a bound claim."""
        near = self.words[index + 1 : index + 4]
        metrics = {i for i, _ in self.metrics}
        if set(near) & TRAINING and not metrics & set(range(index, index + 3)):
            return False
        if self._word(index - 1) in ("i", "we", "you") and not metrics & {index + 1, index + 2}:
            return False
        named = bool(metrics or self.claims or set(self.words) & GENERIC)
        return named or (bool(self.stages) and not set(self.words) & TRAINING)

    def _is_quoted(self, index: int) -> bool:
        raw = self.raw[index].strip(".,;:!?)(")
        return len(raw) > 2 and raw[0] in "\"'“‘" and raw[-1] in "\"'”’"

    def _clause(self, index: int) -> int:
        """Where the clause of a word begins."""
        for place in range(index - 1, -1, -1):
            ends = self.raw[place].endswith((",", ";", ":", "—", "–"))
            if ends or self.words[place] in _WORDS["stops"]:
                return place + 1
        return 0

    def _negated(self, index: int) -> str:
        """'not', 'saying' if it is only denied that the runs show something, or ''."""
        start = self._clause(index)
        for place in range(index - 1, max(start, index - 12) - 1, -1):
            word = self.words[place]
            denies = word in _WORDS["negations"] or word in ("fails", "failed")
            if denies or word.endswith(("n't", "n’t")):
                if set(self.words[place:index]) & _WORDS["saying"]:
                    return "saying"
                return "not" if index - place <= 5 else ""
        return ""

    def _hypothetical(self, index: int) -> bool:
        words, start = self.words, self._clause(index)
        if self.text.rstrip().endswith("?") and self._word(0) in _WORDS["question"]:
            finite = words[index].endswith("s") and self._word(0) in ("does", "did", "do")
            return not finite
        before = words[start:index]
        if set(before) & _WORDS["asking"] and not set(before) & {"no", "matter"}:
            return True
        said = (self.words[place : place + 2] for place in range(index - 1))
        if any(a in _WORDS["modals"] and b in _WORDS["saying"] for a, b in said):
            return True  # 'a reviewer could say that'
        if self._word(index + 1) in ("would", "could", "might", "may"):  # 'a drop would go unseen'
            return True
        some = set(words[max(0, index - 2) : index]) & {"a", "an", "any"}
        if some and set(words[index + 1 : index + 6]) & (_WORDS["modals"] - {"should"}):
            return True  # 'a drop in safety would count against it'
        if self.passage.ahead and not _reports(words[index]):
            return True
        that = [i for i in range(start, index) if words[i] == "that"]
        guesses = set(words[max(start, that[0] - 2) : that[0]]) if that else set[str]()
        if guesses & _WORDS["guesses"] and not _reports(words[index]):
            return True  # 'my hypothesis was that DPO improves safety'
        wishes = [place for place in range(start, index) if words[place] in _WORDS["wishes"]]
        if not wishes or words[max(0, wishes[-1] - 1)] in ("as",):
            return False
        modal = words[wishes[-1]] in _WORDS["modals"]
        infinitive = "to" in words[wishes[-1] + 1 : index] or "a" in words[wishes[-1] + 1 : index]
        word = words[index]
        finite = word.endswith(("s", "ed")) and word not in ("gains", "improvements", "is")
        finite = finite or word in ("rose", "fell", "grew", "lost", "won", "held", "beat")
        return (modal and not (finite and "have" not in before)) or infinitive or not finite

    def _supported(self, index: int, word: str, way: str, negated: str) -> bool:
        claims, stage = self.claims, self._subject(index) or self.passage.stage
        pairs = zip(self.words, [*self.words[1:], ""], strict=True)
        if any(w in _WORDS["everywhere"] and after.startswith("metric") for w, after in pairs):
            claims = self.values.of(stage)
            return bool(claims) and all(_agrees(c, word, way, negated) for c in claims)
        wanted = self._targets(index)
        if wanted:
            each = [[c for c in claims if c.metric in several] for several in wanted]
        else:
            each = [claims]
        subject = self._subject(index)
        if subject and word in GOOD | BAD | UP | DOWN:
            each = [[c for c in part if c.stage == subject] for part in each]
        return all(
            any(_agrees(claim, word, way, negated) for claim in part)
            and not (negated and any(_contradicts(claim, word, way) for claim in part))
            for part in each
        )

    def _targets(self, index: int) -> list[frozenset[str]]:
        """The metrics that a word speaks of: the nearest, and those that are listed with it."""
        if not self.metrics:
            return []
        order = sorted(self.metrics, key=lambda m: (abs(m[0] - index), m[0] < index))
        place, first = order[0]
        found = [first]
        for other, several in self.metrics:
            if other > place:
                between = [w for w in self.words[place + 1 : other] if w]
                if all(w in ("and", "or", "both", "nor") for w in between):
                    found.append(several)
                    place = other
                else:
                    break
        return found

    def _subject(self, index: int) -> str:
        """The stage before a word that is said to have done it; '' if none is."""
        if self.passage.row:
            return ""
        for place, stage in reversed(self.stages):
            if place < index and self._word(place - 1) not in _WORDS["not_subject"]:
                return stage
        return ""


def _moves(claim: Claim, word: str, way: str) -> bool:
    """Whether a claim's verdict is a supported change in the direction of a word."""
    better = METRICS[claim.metric][1] if claim.metric in METRICS else "none"
    verdict = claim.verdict
    if way == "good":
        rose = word in ("gain", "gains", "gained") and (verdict == "up")
        return verdict == "better" or rose
    if way == "bad":
        return verdict == "worse"
    up = verdict == "up" or verdict == {"up": "better", "down": "worse"}.get(better)
    down = verdict == "down" or verdict == {"up": "worse", "down": "better"}.get(better)
    if word in ("lose", "loses", "lost", "losing"):
        return verdict == "worse" or down
    return up if way == "up" else down


def _contradicts(claim: Claim, word: str, way: str) -> bool:
    """Whether a claim supports what a sentence denies."""
    return way in ("good", "bad", "up", "down") and _moves(claim, word, way)


def _agrees(claim: Claim, word: str, way: str, negated: str) -> bool:
    """Whether a claim supports a word, or does not contradict its denial."""
    verdict, settled = claim.verdict, claim.verdict in SETTLED
    if way == "equal":
        return settled if negated else verdict in ("equal", "equivalent")
    if way == "any":
        return not settled if negated else settled
    if not negated:
        return _moves(claim, word, way)
    if _moves(claim, word, way):
        return False
    better = METRICS[claim.metric][1] if claim.metric in METRICS else "none"
    harm = way == "bad" or (way, better) in (("up", "down"), ("down", "up"))
    # 'It did not get worse' says that it held, which no inconclusive claim supports.
    return settled or not harm or negated == "saying"


def _reports(word: str) -> bool:
    """Whether a verb tells what happened: 'improved', 'rose', 'was', but not 'improves'."""
    return word in _WORDS["reports"] or (word.endswith("ed") and word in _WAY)


def _plain_word(raw: str) -> str:
    """A word without marks at its edges, compatibility forms and accents."""
    text = unicodedata.normalize("NFKD", raw)
    text = "".join(c for c in text if not unicodedata.combining(c))
    return text.strip(_EDGES).replace("’", "'").replace("\N{NON-BREAKING HYPHEN}", "-")


def _metrics_of(word: str, known: frozenset[str]) -> frozenset[str]:
    """The metrics that a word names."""
    by_word, word = _by_word(known), word.removesuffix("'s")
    return frozenset().union(*(by_word.get(part, frozenset()) for part in [word, *word.split("/")]))


@cache
def _by_word(known: frozenset[str]) -> dict[str, frozenset[str]]:
    names: dict[str, set[str]] = {}
    for metric in known:
        words = ALIASES.get(metric, metric_label(metric).lower().replace(",", ""))
        for word in {*words.split(), metric, metric.replace("_", "-")}:
            if word not in ("on", "of", "the", "right", "words", "chat"):
                names.setdefault(word, set()).add(metric)
    return {word: frozenset(metrics) for word, metrics in names.items()}


def _is_speech(letters: str, values: Evidence) -> bool:
    """Whether the letters before digits are an ordinary word or a stage, so no model's name."""
    stages = {stage.lower() for stage in values.stages}
    known = frozenset(claim.metric for claim in values.claims)
    ordinary = MEASURES - set("hsx") | COUNTS | NUMBERS | GENERIC
    ordinary |= _WORDS["towards"] | _WORDS["ordinary"]
    return letters in ordinary | stages | _WAY.keys() or bool(_metrics_of(letters, known))


def _is_date(text: str) -> bool:
    parts = text.split("-")
    return [len(p) for p in parts] == [4, 2, 2] and all(p.isdecimal() for p in parts)
