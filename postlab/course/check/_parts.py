"""What a check is made of: an exercise with its cases, mistakes and edges, and a trial."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from postlab.course.check._answers import Mistake, WrongAnswer, edited, is_python, source
from postlab.course.check._calls import Call, TookTooLong, call
from postlab.course.check._words import misfit, same, shape

RANDOM_CASES = 6
NAMES = {"torch": torch, "F": F, "math": math, "re": re, "Counter": Counter}  # of wrong answers


@dataclass(frozen=True)
class Case:
    """Inputs, small enough to work out by hand where `why` says how.

    Args:
        about: the inputs in words, to go on from "For …".
        inputs: every argument by name.
        why: how the expected values come about.
    """

    about: str
    inputs: Mapping[str, Any]
    why: str = ""


@dataclass(frozen=True)
class Edge:
    """A case at which a function that is right elsewhere fails for one reason only.

    Args:
        code: of the diagnosis.
        case: the inputs.
        says: what holds there, in a sentence or two; true whatever the learner returned.
        ways: edits of the right answer, each of which makes it fail here and nowhere else.
    """

    code: str
    case: Case
    says: str
    ways: tuple[str, ...]


@dataclass(frozen=True)
class Exercise:
    """What a check needs to know.

    Args:
        name: of the function, and of the check.
        reference: a right function.
        plain: a right function in a few lines, which the wrong answers edit; the reference if None.
        positional: names of the arguments that are passed by position; the others go by name.
        cases: worked by hand, the plainest first.
        random: seed -> inputs; seeds that differ by RANDOM_CASES give the same shapes.
        mistakes: likelier ones first.
        axes: for inputs that can be made smaller, a letter for each axis ("." for one that stays);
            those that share a letter are cut together.
        edges: looked at when all else is right.
        gradients: inputs to which the gradient must flow as in the reference.
        outputs: names of the values, where there are several.
        likely: codes of the mistakes that are looked for in pairs, where all pairs would be slow;
            None for every pair.
    """

    name: str
    reference: Callable[..., Any]
    positional: tuple[str, ...]
    cases: tuple[Case, ...]
    random: Callable[[int], Mapping[str, Any]]
    mistakes: tuple[Mistake, ...]
    plain: Callable[..., Any] | None = None
    edges: tuple[Edge, ...] = ()
    axes: Mapping[str, str] = field(default_factory=dict)
    gradients: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    likely: frozenset[str] | None = None

    @functools.cached_property
    def right_answer(self) -> str:
        """The text that the wrong answers edit."""
        return source(self.plain or self.reference)

    @functools.cached_property
    def wrong_answers(self) -> tuple[WrongAnswer, ...]:
        """Every way of every mistake.

        Raises:
            ValueError: if an edit finds nothing to replace.
        """
        ways = ((mistake, way) for mistake in self.mistakes for way in mistake.ways)
        return tuple(WrongAnswer((mistake,), self._edited(way)) for mistake, way in ways)

    def answers_at(self, edge: Edge) -> tuple[WrongAnswer, ...]:
        """The wrong answers that fail at an edge only."""
        return tuple(WrongAnswer((), self._edited((way,))) for way in edge.ways)

    def _edited(self, way: Sequence[str]) -> str:
        text = edited(self.right_answer, way)
        if text is None or text == self.right_answer:
            raise ValueError(f"{way} edits nothing in:\n{self.right_answer}")
        return text

    def pairs(self) -> Iterator[WrongAnswer]:
        """Wrong answers with two mistakes, where one edit leaves room for the other."""
        texts = {self.right_answer, *(answer.text for answer in self.wrong_answers)}
        ways = [(mistake, way) for mistake in self.mistakes for way in mistake.ways]
        for (one, first), (two, second) in itertools.permutations(ways, 2):
            if one is two or second[0].startswith("def "):
                continue
            text = edited(self.right_answer, (*first, *second))
            if text is not None and text not in texts and is_python(text):
                texts.add(text)
                if self.likely is None or self.likely.issuperset((one.code, two.code)):
                    yield WrongAnswer((one, two), text)

    def function(self, answer: WrongAnswer) -> Callable[..., Any]:
        """A wrong answer, with the names that the right one sees."""
        return answer.function({**NAMES, **(self.plain or self.reference).__globals__})

    def call(self, function: Callable[..., Any], inputs: Mapping[str, Any]) -> Call:
        return call(function, inputs, positional=self.positional)

    def expected(self, inputs: Mapping[str, Any]) -> Any:
        result = self.call(self.reference, inputs)
        assert result.error is None, f"the reference of {self.name} fails: {result.error}"
        return result.value

    def misfit(self, got: Any, want: Any) -> tuple[str, str] | None:
        """A code and a sentence if a value has another form than the wanted one."""
        return misfit(got, want, names=self.outputs)

    def usage(self, inputs: Mapping[str, Any]) -> str:
        """The call in words: "gae(rewards, values, mask, gamma=…, lam=…)"."""
        by_name = [f"{name}=…" for name in inputs if name not in self.positional]
        return f"{self.name}({', '.join([*self.positional, *by_name])})"

    def ordinary_cases(self) -> list[Case]:
        random_inputs = [self.random(seed) for seed in range(RANDOM_CASES)]
        return [*self.cases, *(Case(f"random inputs ({shapes(i)})", i) for i in random_inputs)]


@dataclass
class Trial:
    """A learner's function on the ordinary cases, beside the reference."""

    exercise: Exercise
    function: Callable[..., Any]
    cases: list[Case] = field(init=False)
    wants: list[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.cases = self.exercise.ordinary_cases()
        self.wants = [self.exercise.expected(case.inputs) for case in self.cases]

    @functools.cached_property
    def calls(self) -> list[Call]:
        results: list[Call] = []
        for case in self.cases:
            results.append(self.exercise.call(self.function, case.inputs))
            if isinstance(results[-1].error, TookTooLong):  # once is enough to wait for
                break
        return results

    def wrong(self) -> list[int]:
        """The cases with an error, or with another value than the reference's."""
        pairs = enumerate(zip(self.calls, self.wants, strict=False))
        return [i for i, (result, want) in pairs if not right(result, want)]

    def smallest_by_hand(self) -> int | None:
        """Of the cases worked by hand that are wrong, the one with the fewest numbers."""
        by_hand = [i for i in self.wrong() if i < len(self.exercise.cases)]
        return min(by_hand, key=lambda i: _size(self.cases[i].inputs), default=None)


def right(result: Call, want: Any) -> bool:
    return result.error is None and same(result.value, want)


def _size(inputs: Mapping[str, Any]) -> int:
    values = inputs.values()
    return sum(x.numel() if isinstance(x, Tensor) else len(str(x).split()) for x in values)


def shapes(inputs: Mapping[str, Any]) -> str:
    """The inputs in words: shapes of tensors, numbers and texts as they are."""
    parts = []
    for name, value in inputs.items():
        if isinstance(value, Tensor):
            parts.append(f"{name} {shape(value)}")
        elif isinstance(value, list):
            parts.append(f"{len(value)} {name}" if len(value) > 6 else f"{name} {value}")
        elif isinstance(value, str):
            parts.append(f"{name} {value!r}")
        else:
            parts.append(f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:.4g}")
    return ", ".join(parts)
