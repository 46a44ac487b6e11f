"""One form for reporting what is wrong with a run, a template or a plan; and a log reader.

`diagnose` reads the log history of TRL's SFT, DPO or GRPO trainer and nothing else: no weights, no
samples. What it looks for is in rules*.py, one function per rule. Left out: what a log does not
show, such as a reward that pays for the wrong thing with no second measure beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from postlab.doctor.log import MIN_POINTS, read
from postlab.doctor.rules import TREND_RULES, dead, nan, nan_as_zero

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One fault that was seen, why it matters and what to do about it.

    Args:
        code: stable short name, such as "double_bos".
        severity: "info", "warning" or "error".
        evidence: what was observed, with the values.
        why: what it does to training or generation.
        fix: what to change.

    >>> finding = Finding("double_bos", "error", "<s><s>", "unseen", "tokenise once")
    >>> print(finding)
    error double_bos: <s><s>; unseen. Fix: tokenise once
    """

    code: str
    severity: Severity
    evidence: str
    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.severity} {self.code}: {self.evidence}; {self.why}. Fix: {self.fix}"


_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
_NO_NUMBERS = "the weights are not numbers any more"
_ADVICE: dict[str, tuple[Severity, str, str]] = {  # code: severity, why, fix
    "nan_as_zero": (
        "error",
        f"{_NO_NUMBERS}, and logging_nan_inf_filter shows the loss as 0",
        "set logging_nan_inf_filter=False and go back to the last good checkpoint; look for rows "
        "whose reply max_length cuts off, a rate too high, fp16 overflow",
    ),
    "nan": (
        "error",
        _NO_NUMBERS,
        "go back to the last good checkpoint; look for rows whose reply max_length cuts off, a "
        "rate too high, fp16 overflow",
    ),
    "no_learning_signal": (
        "error",
        "equal rewards make every advantage 0, so these groups give no gradient",
        "read ten answers with their rewards and check tags and parser; then take easier prompts, "
        "larger groups or a graded reward",
    ),
    "reward_saturation": (
        "warning",
        "prompts that are always solved teach nothing, and their sampling is paid all the same",
        "take harder prompts, drop those that are solved every time, or stop here",
    ),
    "entropy_collapse": (
        "error",
        "a group has become one answer, G times: sampling finds nothing better any more",
        "sample at temperature 1, lower the rate, add a KL term or raise epsilon_high, and go back "
        "to a checkpoint before the fall",
    ),
    "truncation": (
        "warning",
        "an answer cut before its end is scored 0, however right its beginning",
        "raise max_completion_length; where answers never end, pass prompts as message lists so "
        "that the chat template is applied, and read a few",
    ),
    "format_up_accuracy_down": (
        "error",
        "the policy pays for the cheaper reward with the one you meant",
        "lower the weight of the first, or pay it only where the answer is right",
    ),
    "reward_traded": (
        "warning",
        "a log cannot tell a trade that a weight or a multiplier ordered from a judge that is "
        "fooled",
        "where you ordered it, read its price on held-out prompts; where you did not, read ten "
        "answers that the rising reward pays best, and lower its weight",
    ),
    "length_drift": (
        "warning",
        "length that buys nothing costs sampling time, and passes for quality with many judges",
        "read the longest answers; look for a reward that likes length; use loss_type dr_grpo or "
        "dapo, which do not divide by an answer's own length",
    ),
    "kl_blow_up": (
        "error",
        "the policy has left the model it started from, and what that one knew goes with it",
        "lower the rate first, then raise beta; go back to a checkpoint before the leap",
    ),
    "lr_too_high": (
        "error",
        "steps so large overshoot, and undo what the run or its start had learnt",
        "divide the rate by ten, warm up, keep max_grad_norm at 1, start again from the parent",
    ),
    "lr_too_low": (
        "warning",
        "there is a gradient, and the run ends where it began",
        "raise the rate tenfold until the curve moves; LoRA bears about ten times the rate of full "
        "fine-tuning",
    ),
    "adapter_still": (
        "error",
        "the policy is the one it started from: the weights that are used take no step",
        "load the adapter trainable, let the trainer make its own optimizer, see that one matrix "
        "of each LoRA pair is not 0 and that the schedule is not at its end",
    ),
    "chosen_logp_collapse": (
        "warning",
        "probability has gone to replies that are in no pair: the policy leaves its data",
        "add a likelihood term ('sft' in loss_type), raise beta, lower the rate; read samples",
    ),
    "chosen_logp_falls": (
        "info",
        "only the difference is in the loss, and replies that share words fall together",
        "nothing, while the fall stays small beside the rejected replies'",
    ),
    "grpo_zero_loss": (
        "info",
        "advantages sum to 0 in a group and the ratio is 1 on policy: the value is 0, its gradient "
        "is not",
        "nothing; watch reward, frac_reward_zero_std and entropy instead",
    ),
    "averages_over_too_little": (
        "warning",
        "such a curve shows the luck of a batch, and what looks like a trend may be none",
        "log less often or accumulate gradients, and smooth over many points before you judge",
    ),
    "too_short": (
        "info",
        f"a trend needs {MIN_POINTS} points, so only NaN was looked for",
        "lower logging_steps, or train longer",
    ),
}

CODES = frozenset(_ADVICE)


def diagnose(log_history: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """What a training log shows: faults as warnings and errors, what only looks bad as info.

    Values that are no finite numbers are passed over, but for a loss that is NaN: there the other
    rules see what was logged before it.

    Args:
        log_history: `trainer.state.log_history` of TRL's SFT, DPO or GRPO trainer.
    Returns:
        The findings, errors first; an empty list if there is nothing to say.
    Raises:
        TypeError: if it is not a list of dicts.
    Taught in week 8.

    >>> flat = [{"step": i, "loss": 0.7, "rewards/margins": 0.0} for i in range(8)]
    >>> [(finding.code, finding.severity) for finding in diagnose(flat)]
    [('adapter_still', 'error')]
    """
    log = read(log_history)
    # 1. Look for NaN first, because it makes every later number worthless.
    evidence = {rule.__name__: rule(log) for rule in (nan_as_zero, nan)}
    # 2. Look for trends in what was logged before any NaN.
    places = dead(log)
    before = log.until(places[0]) if places else log
    if not places and len(log.entries) < MIN_POINTS:
        evidence["too_short"] = f"{len(log.entries)} logged training steps"
    evidence |= {rule.__name__: rule(before) for rule in TREND_RULES}
    # 3. Return what was found, with advice, the most severe first.
    findings = [_finding(code, text) for code, text in evidence.items() if text]
    return sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity))


def _finding(code: str, evidence: str) -> Finding:
    severity, why, fix = _ADVICE[code]
    return Finding(code, severity, evidence, why, fix)
