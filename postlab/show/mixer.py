"""The soup mixer: a slider an objective, and what the averaged policy answers at those weights.

A part of `postlab.show`. The sliders are shares of a whole: what they show is scaled to add up
to 1, and written out, before the adapters are averaged (`objectives.soup`) and asked anew. Answers
are a model's words and are escaped. Without a kernel a page shows the answers of equal weights.

Left out: answers while a slider is still moving, sampling, and scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets

from postlab.constitution import policy_speaker
from postlab.objectives import soup
from postlab.show.pages import WIDE, bundle, button, label, shown, text_html

Answers = Callable[[Mapping[str, float]], list[str]]
_SLIDER_STEPS = 12  # of a slider: thirds, quarters and sixths are on it


def soup_mixer(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    adapters: Sequence[str],
    new_tokens: int = 40,
) -> SoupMixer:
    """Move the weights of a soup, and read what it answers.

    Args:
        model: a PeftModel that holds the adapters; its active adapter is the soup afterwards.
        tokenizer: with a chat template.
        prompts: questions, answered greedily.
        adapters: names of the adapters to average, a slider each.
        new_tokens: where an answer is cut.
    Returns:
        SoupMixer: the last value of a cell shows it.
    Raises:
        ValueError: if there is no prompt or no adapter, or the model does not hold one of them.
    Taught in week 11.
    """

    absent = [name for name in adapters if name not in model.peft_config]
    if absent:
        raise ValueError(
            f"the model holds no adapter {', '.join(absent)}; expected some of "
            f"{', '.join(model.peft_config)}"
        )

    def answers(weights: Mapping[str, float]) -> list[str]:
        speak = policy_speaker(soup(model, weights), tokenizer, new_tokens=new_tokens)
        return speak([[{"role": "user", "content": text}] for text in prompts])

    return SoupMixer(answers, prompts, adapters)


class SoupMixer:
    """Sliders and answers; made by `soup_mixer`, or of any function from weights to answers.

    >>> mixer = SoupMixer(lambda w: [f"{w['a']:.2f} of a"], ["Which?"], ["a", "b"])
    >>> mixer
    weights a 0.50, b 0.50
    <BLANKLINE>
    Which?
      0.50 of a
    """

    def __init__(self, answers: Answers, prompts: Sequence[str], adapters: Sequence[str]) -> None:
        if not len(prompts) or not len(adapters):
            raise ValueError(
                f"{len(prompts)} prompts, {len(adapters)} adapters; expected one of each at least"
            )
        self._answers, self._prompts = answers, list(prompts)
        self._known: dict[tuple[float, ...], list[str]] = {}
        self._page = ipywidgets.HTML(layout=WIDE)
        wide = {"width": "380px"}
        self._sliders = {
            name: ipywidgets.IntSlider(
                _SLIDER_STEPS // 3,
                0,
                _SLIDER_STEPS,
                description=label(name),
                continuous_update=False,
                layout=wide,
            )
            for name in adapters
        }
        for slider in self._sliders.values():
            slider.observe(lambda _: self._refresh(), "value")
        alone = [button(f"Only {name}", lambda _, name=name: self._only(name)) for name in adapters]
        alone.append(button("All alike", lambda _: self._only(None)))
        bar = ipywidgets.Box(alone, layout={"flex_flow": "row wrap"})
        self.widget = ipywidgets.VBox([*self._sliders.values(), bar, self._page], layout=WIDE)
        self._quiet = False
        self._refresh()

    @property
    def weights(self) -> dict[str, float]:
        """What the sliders say, scaled to add up to 1; all alike where all are at 0."""
        values = {name: slider.value for name, slider in self._sliders.items()}
        total = sum(values.values())
        return {n: v / total if total else 1 / len(values) for n, v in values.items()}

    @property
    def answers(self) -> list[str]:
        """At the weights that are set; each mixture is asked once."""
        weights = self.weights
        key = tuple(weights.values())
        if key not in self._known:
            self._known[key] = self._answers(weights)
        return self._known[key]

    def __repr__(self) -> str:
        lines = [f"weights {self._weights_text()}", ""]
        for prompt, text in self._pairs():
            lines += [shown(prompt), f"  {shown(text)}"]
        return "\n".join(lines)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return bundle(self.widget, repr(self), self._html())

    def _pairs(self) -> list[tuple[str, str]]:
        """Prompts and answers; a failing model must not take the sliders away."""
        try:
            return list(zip(self._prompts, self.answers, strict=True))
        except Exception as error:
            return [("no answers", f"{type(error).__name__}: {error}")]

    def _weights_text(self) -> str:
        return ", ".join(f"{name} {weight:.2f}" for name, weight in self.weights.items())

    def _html(self) -> str:
        rows = "".join(
            f'<div style="margin:8px 0"><b>{text_html(prompt)}</b>'
            f'<div style="margin-left:24px">{text_html(text)}</div></div>'
            for prompt, text in self._pairs()
        )
        return f"<div>{text_html(f'weights {self._weights_text()}')}</div>{rows}"

    def _only(self, name: str | None) -> None:
        self._quiet = True  # one mixture is wanted, not one a slider that moves
        for other, slider in self._sliders.items():
            slider.value = _SLIDER_STEPS // 3 if name is None else _SLIDER_STEPS * (other == name)
        self._quiet = False
        self._refresh()

    def _refresh(self) -> None:
        if not self._quiet:
            self._page.value = self._html()
