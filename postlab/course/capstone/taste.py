"""The part of a rubric for research taste that a program can check; the rest is for a reader."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from scipy import stats as scipy_stats

from postlab.claims import is_share
from postlab.course.capstone.judging import Judgement, size_text
from postlab.course.capstone.proposal import Proposal
from postlab.stats import minimum_detectable_effect

if TYPE_CHECKING:
    import pandas as pd

CHANGED = 0.25  # share of prompts assumed to change between two arms, one way or the other
LENGTHS = ("max_steps", "num_train_epochs", "per_device_train_batch_size",
           "gradient_accumulation_steps")  # fmt: skip


def rubric(proposal: Proposal, judgement: Judgement | None = None) -> pd.DataFrame:
    """Six questions of taste, each with what can be computed of its answer.

    Args:
        judgement: what `judge` returned, once there is one.
    Returns:
        question, computed ("yes", "no" or "for a reader"), evidence.
    """
    import pandas as pd

    predicted = proposal.prediction

    def size(value: float) -> str:
        return size_text(predicted.metric, value).lstrip("+")

    answers = proposal.if_supported.strip() != proposal.if_refuted.strip()
    pair = [proposal.settings(name) for name in (predicted.arm, predicted.against)]
    unequal = [name for name in LENGTHS if len({str(one.get(name)) for one in pair}) > 1]
    one_prompt = 1 / proposal.prompts
    fine = not is_share(predicted.metric) or predicted.smallest_effect >= one_prompt
    rows = [
        ("Can this question be answered at this size?", *_answerable(proposal)),
        ("Would the answer change what someone does?", _yes(answers),
         f"If supported: {proposal.if_supported} If refuted: {proposal.if_refuted}"),
        ("Is the baseline the strongest cheap one?", "no" if unequal else "for a reader",
         f"The two arms differ in {', '.join(unequal)}, so their compute is unequal" if unequal
         else f"Equal steps and batches. {proposal.baseline_because}"),
        ("Were the settings chosen on other data than the answer is measured on?",
         "for a reader", proposal.chosen_on),
        ("Is the smallest effect that matters stated, and measurable?", _yes(fine),
         f"{size(predicted.smallest_effect)}; one prompt is {size(one_prompt)}"),
        ("Is the result reported, whatever it is?", "yes" if judgement else "for a reader",
         f"{judgement.verdict}, with {len(judgement.table)} comparisons and "
         f"{len(judgement.deviations)} deviations" if judgement else "Nothing has been judged yet"),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["question", "computed", "evidence"])


def _answerable(proposal: Proposal) -> tuple[str, str]:
    """Whether seeds and prompts can show the smallest effect that matters."""
    predicted, n = proposal.prediction, len(proposal.seeds)
    limits = {}
    if proposal.spread is not None:
        half = float(scipy_stats.t.ppf(0.975, n - 1)) * proposal.spread / math.sqrt(n)
        limits[f"{n} seeds"] = half
    if is_share(predicted.metric):
        found = minimum_detectable_effect(proposal.prompts, disagreement=CHANGED)
        limits[f"{proposal.prompts} prompts"] = found
    if not limits:
        return (
            "for a reader",
            "The spread over seeds is unknown; a pilot with other seeds would measure it",
        )
    sizes = {by: size_text(predicted.metric, size).lstrip("+") for by, size in limits.items()}
    listed = ", ".join(f"{by}: {size}" for by, size in sizes.items())
    text = f"Smallest detectable effect, with {listed}"
    enough = max(limits.values()) <= predicted.smallest_effect
    if enough and proposal.spread is None:
        return "for a reader", f"{text}; the spread over seeds is unknown"
    return _yes(enough), text


def _yes(condition: bool) -> str:
    return "yes" if condition else "no"
