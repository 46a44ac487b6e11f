"""The rollout explorer: a prompt's group of answers, step by step, coloured by their advantage.

A part of `postlab.show`. `record_groups` stands before a reward function, which sees all that TRL's
trainer samples, and notes it; `rollout_explorer` shows it. GRPO gives every token of an answer the
same credit, and the colours show just that: blue is made more likely, red less, the paler the less.
As colours do not come through everywhere (GitHub takes style out), the advantage stands before each
answer.

Left out: log-probs, rewards of several functions at once, and answers over 300 tokens in full.
"""

from __future__ import annotations

import functools
import html
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import ipywidgets

from postlab.chat import visible
from postlab.show.pages import WIDE, bundle, button, shown, text_html

_MAX_TOKENS = 300  # shown of one answer
_UP, _DOWN = "0,114,178", "213,94,0"  # Okabe and Ito's blue and vermillion
_LINE_STYLE = "font-family:monospace;white-space:pre-wrap;line-height:1.7;margin:2px 0"
_TOKEN_STYLE = "padding:1px 0;border-right:1px solid rgba(128,128,128,0.35)"


@dataclass(frozen=True)
class Answer:
    """One sampled answer: its tokens as text, its reward (None: not scored) and its advantage."""

    tokens: tuple[str, ...]
    reward: float | None
    advantage: float


@dataclass(frozen=True)
class Group:
    """The answers to one prompt at one training step, counted from 1."""

    step: int
    prompt: str
    answers: tuple[Answer, ...]

    @property
    def silent(self) -> bool:
        """Whether all rewards are equal, so that the group teaches nothing."""
        return not any(answer.advantage for answer in self.answers)


class Recording(Protocol):
    """A reward function in TRL's protocol, with the groups that it has scored so far."""

    groups: list[Group]

    def __call__(self, **columns: Any) -> list[float | None]: ...


def advantages_of(rewards: Sequence[float | None]) -> list[float]:
    """One group's advantages as TRL has them: by mean and deviation of those that were scored.

    >>> [round(a, 2) for a in advantages_of([1.0, 0.0, 0.0, 0.0, None])]
    [1.5, -0.5, -0.5, -0.5, 0.0]
    """
    scored = [reward for reward in rewards if reward is not None]
    if len(set(scored)) < 2:
        return [0.0] * len(rewards)
    mean, deviation = statistics.fmean(scored), statistics.stdev(scored)
    return [0.0 if r is None else (r - mean) / (deviation + 1e-4) for r in rewards]


def record_groups(reward: Callable, tokenizer: Any, *, group_size: int) -> Recording:
    """A reward function that scores as `reward` does, and notes each group it sees.

    Hand it to `GRPOTrainer` as `reward_funcs`; afterwards its list `groups` is what
    `rollout_explorer` shows.

    Args:
        reward: of TRL's protocol.
        tokenizer: the policy's.
        group_size: `num_generations`.
    Returns:
        The function, with an attribute `groups`: a list of `Group`.
    """
    groups: list[Group] = []

    @functools.wraps(reward)
    def watched(prompts: list, completions: list, completion_ids: list, **columns: Any) -> list:
        columns |= {"prompts": prompts, "completion_ids": completion_ids}
        rewards = reward(completions=completions, **columns)
        step = getattr(columns.get("trainer_state"), "global_step", len(groups)) + 1
        for first in range(0, len(prompts), group_size):
            part = slice(first, first + group_size)
            texts = [tuple(map(tokenizer.decode, ids)) for ids in completion_ids[part]]
            scored = zip(texts, rewards[part], advantages_of(rewards[part]), strict=True)
            prompt = prompts[first]
            question = prompt if isinstance(prompt, str) else prompt[-1]["content"]
            groups.append(Group(step, question, tuple(Answer(*one) for one in scored)))
        return rewards

    recording = cast(Recording, watched)
    recording.groups = groups
    return recording


def rollout_explorer(groups: Sequence[Group]) -> RolloutExplorer:
    """Go through a run's groups: a prompt, its answers, rewards, advantages, step by step.

    Args:
        groups: of `record_groups`, or made by hand.
    Returns:
        RolloutExplorer: the last value of a cell shows it.
    Raises:
        ValueError: if there is no group.
    Taught in week 7.

    >>> answers = (Answer(("#### ", "5"), 1.0, 0.71), Answer(("#### ", "6"), 0.0, -0.71))
    >>> rollout_explorer([Group(1, "What is 2+3?", answers)])
    step 1, prompt 1 of 1: What is 2+3?
    mean reward 0.50
    <BLANKLINE>
    advantage +0.71  reward 1  ####·5
    advantage -0.71  reward 0  ####·6
    """
    if not len(groups):
        raise ValueError("groups is empty; train with a `record_groups` reward first, or make some")
    return RolloutExplorer(groups)


class RolloutExplorer:
    """The groups of a training run, one at a time; made by `rollout_explorer`."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._steps: dict[int, list[Group]] = {}
        for group in groups:
            self._steps.setdefault(group.step, []).append(group)
        # It opens, and stays without a kernel, on a group that teaches something.
        self._first = next((group for group in groups if not group.silent), groups[0])
        self._page = ipywidgets.HTML(layout=WIDE)
        steps = list(self._steps)
        wide = {"width": "340px"}
        self._step = ipywidgets.SelectionSlider(
            options=steps, value=self._first.step, description="step", layout=wide
        )
        place = self._steps[self._first.step].index(self._first) + 1
        many = len(self._steps[self._first.step])
        self._prompt = ipywidgets.IntSlider(place, 1, many, description="prompt", layout=wide)
        moves = [
            button(label, lambda _, way=way: self._move(way))
            for label, way in (("Earlier step", -1), ("Later step", 1))
        ]
        self._step.observe(lambda _: self._refresh(), "value")
        self._prompt.observe(lambda _: self._refresh(), "value")
        controls = [self._step, *moves, self._prompt]
        bar = ipywidgets.Box(controls, layout={"flex_flow": "row wrap"})
        self.widget = ipywidgets.VBox([bar, self._page], layout=WIDE)
        self._refresh()

    @property
    def group(self) -> Group:
        """The group that is shown."""
        return self._steps[self._step.value][self._prompt.value - 1]

    def __repr__(self) -> str:
        return _text(self._first, *self._place(self._first))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        steps = list(self._steps)
        more = f"<div>(one of {sum(map(len, self._steps.values()))} groups"
        more += f" in steps {steps[0]} to {steps[-1]})</div>"
        page = _html(self._first, *self._place(self._first)) + more
        return bundle(self.widget, repr(self), page)

    def _place(self, group: Group) -> tuple[int, int]:
        return self._steps[group.step].index(group) + 1, len(self._steps[group.step])

    def _move(self, way: int) -> None:
        steps = list(self._steps)
        at = steps.index(self._step.value) + way
        self._step.value = steps[min(max(at, 0), len(steps) - 1)]

    def _refresh(self) -> None:
        self._prompt.max = len(self._steps[self._step.value])
        self._page.value = _html(self.group, *self._place(self.group))


def _head(group: Group, place: int, many: int) -> str:
    return f"step {group.step}, prompt {place} of {many}"


def _about(group: Group) -> str:
    scored = [answer.reward for answer in group.answers if answer.reward is not None]
    mean = f"mean reward {statistics.fmean(scored):.2f}" if scored else "no answer was scored"
    return mean + (": all the same, so nothing is learned here" if group.silent else "")


def _label(answer: Answer) -> str:
    reward = "none" if answer.reward is None else f"{answer.reward:g}"
    return f"advantage {answer.advantage:+.2f}  reward {reward}"


def _tokens(answer: Answer) -> list[str]:
    hidden = len(answer.tokens) - _MAX_TOKENS
    texts = [visible(token) for token in answer.tokens[:_MAX_TOKENS]]
    return texts + [f"\N{HORIZONTAL ELLIPSIS} {hidden} tokens more"] * (hidden > 0)


def _text(group: Group, place: int, many: int) -> str:
    lines = [f"{_head(group, place, many)}: {shown(group.prompt)}", _about(group), ""]
    lines += [f"{_label(answer)}  {''.join(_tokens(answer))}" for answer in group.answers]
    return "\n".join(lines)


def _html(group: Group, place: int, many: int) -> str:
    lines = []
    for answer in group.answers:
        strength = min(abs(answer.advantage) / 2, 1) * 0.6
        colour = _UP if answer.advantage > 0 else _DOWN
        back = f"background-color:rgba({colour},{strength:.2f});" if answer.advantage else ""
        spans = "".join(
            f'<span style="{back}{_TOKEN_STYLE}">{html.escape(token)}</span>'
            for token in _tokens(answer)
        )
        lines.append(f'<pre style="{_LINE_STYLE}"><b>{_label(answer)}</b>  {spans}</pre>')
    head = f"<div><b>{html.escape(_head(group, place, many))}</b></div>{text_html(group.prompt)}"
    return f"{head}<div>{_about(group)}</div>{''.join(lines)}"
