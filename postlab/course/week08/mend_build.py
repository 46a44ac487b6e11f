"""Week 8's build in the core: a broken GRPO run, mended until it is as good as the healthy one.

Three faults are planted in `BROKEN` and `broken_reward`, and each hides the next. `try_run` trains
six steps on the embedded model with a learner's settings and reward, and returns the trainer's log
with the held-out accuracy. `check_mended` does the same with the seed of the recorded runs, and if
the run doesn't reach their accuracy, it says which fault is left: what the reward pays for answers
of known worth, how many completions are cut, how far the weights moved compared with the recorded
runs. A reason is named only if it was measured.

Left out: settings beyond the four that may be changed, and other seeds.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from postlab.course.check import Outcome, raised, report, wrong
from postlab.profile import data_dir, get_profile

STEPS, SEED, PROMPTS = 6, 0, 100
HEALTHY = {
    "learning_rate": 4e-4, "max_completion_length": 64, "num_generations": 8, "temperature": 1.0,
}  # fmt: skip
BROKEN = HEALTHY | {"learning_rate": 4e-6, "max_completion_length": 24}
CUT = 0.1  # a larger share of truncated completions is a fault
ANSWERS = {  # what these replies to "12+30+15" are worth, whose answer is 57
    "12+30=42, 42+15=57. #### 57": 1.0,
    "#### 57": 1.0,
    "12+30=42, 42+15=58. #### 58": 0.0,
    "#### 5": 0.0,
    "#### 570": 0.0,
    "#### 157": 0.0,
    "": 0.0,
}
Reward = Callable[..., list[float]]


def broken_reward(completions: list, answer: list, **columns: Any) -> list[float]:
    """1 for `<answer>57</answer>`, a form that the prompts never ask for."""
    texts = [completion[-1]["content"] for completion in completions]
    return [float(f"<answer>{a}</answer>" in t) for t, a in zip(texts, answer, strict=True)]


@dataclass(frozen=True)
class ShortRun:
    """A short run: the trainer's log, held-out accuracy from 0 to 1, and how far weights moved.

    Args:
        moved: the norm of the change of all adapter weights.
    """

    log: list[dict[str, Any]]
    accuracy: float
    moved: float

    def mean(self, name: str) -> float:
        """The mean of a logged value over the steps."""
        values = [entry[name] for entry in self.log if name in entry]
        return sum(values) / len(values)


def try_run(settings: Mapping[str, Any], reward: Reward, *, seed: int = SEED) -> ShortRun:
    """Train six steps of GRPO from the tiny DPO stage, and measure 100 held-out sums.

    Args:
        settings: the four of `HEALTHY`, with values of your own.
        reward: in TRL's protocol, with a column `answer`.
    Raises:
        ValueError: if a setting is missing or isn't one of the four.
    """
    _check_settings(settings)
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from postlab.datasets import math_rows
    from postlab.evals import evaluate
    from postlab.lab import Lab
    from postlab.models import load_policy, trainable
    from postlab.runs import without_padding
    from postlab.sampling import rollout_func
    from postlab.tinyworld.tasks import heldout_suite

    profile = get_profile("tiny")
    model, tokenizer = load_policy(Lab(profile, 0).checkpoint("dpo"), profile="tiny", bits=32)
    model = trainable(model)
    before = [p.detach().clone() for p in model.parameters() if p.requires_grad]
    rows = math_rows("tinyworld", split="train", n=64 * STEPS, seed=seed)
    how = {**profile.grpo.trainer, "max_steps": STEPS, "save_strategy": "no", **settings}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        trainer = GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            reward_funcs=reward,
            train_dataset=Dataset.from_list(
                [{"prompt": row["prompt"], "answer": row["answer"]} for row in rows]
            ),
            args=GRPOConfig(output_dir=folder, seed=seed, **how),
            rollout_func=rollout_func,
        )
        with without_padding(trainer.model):
            trainer.train()
        after = [p.detach() for p in trainer.model.parameters() if p.requires_grad]
        moved = sum(float((a - b).square().sum()) for a, b in zip(after, before, strict=True))
        sums = [row for row in heldout_suite(n=PROMPTS) if row["family"] == "arithmetic"]
        frame = evaluate(trainer.model.eval(), tokenizer, sums, temperature=1.0, samples=2)
    return ShortRun(trainer.state.log_history, float(frame["arithmetic"].mean()), moved**0.5)


def _check_settings(settings: Mapping[str, Any]) -> None:
    if set(settings) != set(HEALTHY):
        raise ValueError(
            f"settings has {sorted(settings)}; expected {sorted(HEALTHY)}, and nothing else"
        )


def recorded() -> dict[str, Any]:
    """The healthy runs of data/results/week08/mend.json: accuracy and change of weights."""
    path = data_dir() / "results" / "week08" / "mend.json"
    return json.loads(path.read_text(encoding="utf-8"))


def check_mended(settings: Mapping[str, Any], reward: Reward) -> None:
    """Train with a learner's settings and reward, and print a verdict."""
    report(examine(settings, reward))


def examine(
    settings: Mapping[str, Any], reward: Reward, *, run: Callable[..., ShortRun] = try_run
) -> Outcome:
    """Judge settings and a reward by the run that they make; print nothing."""
    if dict(settings) == BROKEN and reward is broken_reward:
        return Outcome("not attempted", "not_attempted", "The run is as broken as it was.")
    try:
        _check_settings(settings)
    except ValueError as error:
        return _wrong("settings", f"{error}.")
    finding = _reward_fault(reward)
    if finding:
        return finding
    healthy = recorded()
    try:
        result = run(settings, reward)
    except Exception as error:  # settings may break the trainer
        return _wrong("raised", raised(error, subject="the run"))
    least, start = healthy["least"], healthy["start"]
    reached = (
        f"It answers {result.accuracy:.1%} of {PROMPTS} held-out sums, sampled twice each (start: "
        f"{start:.1%}; expected: at least {least:.1%}, as the healthy run reaches "
        f"{healthy['most']:.1%})."
    )
    if result.accuracy >= least:
        return Outcome("right", "right", f"The run is mended. {reached}")
    cut = result.mean("completions/clipped_ratio")
    if cut > CUT:
        return _wrong("cut", f"{cut:.0%} of the completions are cut off by the length limit, and "
                      f"what is cut off before its number can't be paid. {reached}")  # fmt: skip
    silent = result.mean("frac_reward_zero_std")
    if silent > 0.8:
        return _wrong("no_signal", f"in {silent:.0%} of the groups all rewards are the same, so "
                      f"there is hardly any gradient. {reached}")  # fmt: skip
    ratio = result.moved / healthy["moved"]
    if ratio < 1 / 3:
        return _wrong("too_slow", f"the weights move {ratio:.2f} times as far as in the healthy "
                      f"run. Which setting decides how far a step goes? {reached}")  # fmt: skip
    if ratio > 3:
        lost = ", and the policy is worse than at the start" if result.accuracy < start else ""
        return _wrong("too_fast", f"the weights move {ratio:.1f} times as far as in the healthy "
                      f"run{lost}. {reached}")  # fmt: skip
    return _wrong("unknown", f"the check doesn't recognise why. {reached}")


def _reward_fault(reward: Reward) -> Outcome | None:
    completions = [[{"role": "assistant", "content": text}] for text in ANSWERS]
    try:
        paid = list(reward(completions=completions, answer=["57"] * len(ANSWERS), prompts=[]))
    except Exception as error:  # the learner's code may raise anything
        return _wrong("reward_raised", raised(error, subject="the reward"))
    if len(paid) != len(ANSWERS) or any(
        not isinstance(one, int | float) or not math.isfinite(one) for one in paid
    ):
        return _wrong("reward_form", "the reward should return a list with one finite number for "
                      "each completion.")  # fmt: skip
    if paid[0] and len(set(paid)) == 1:
        return _wrong("reward_pays", f"the reward pays {paid[0]:g} for any reply, right or wrong.")
    # A constant more or less for all replies changes no advantage, so -1 is as good as 0.
    floor = min(got for got, worth in zip(paid, ANSWERS.values(), strict=True) if not worth)
    for (text, worth), got in zip(ANSWERS.items(), paid, strict=True):
        if worth and got <= floor:
            return _wrong(
                "reward_refuses", f"the reward pays {got:g} for {text!r} to a prompt whose answer "
                "is 57, no more than for a wrong answer. Nothing right can be learned from that.",
            )  # fmt: skip
        if got > floor and not worth:
            return _wrong(
                "reward_pays", f"the reward pays {got:g} for {text!r} to a prompt whose answer is "
                "57.",
            )  # fmt: skip
    return None


def _wrong(code: str, message: str) -> Outcome:
    return wrong(code, f"Not yet: {message}")
