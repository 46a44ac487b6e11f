"""One form for reporting what is wrong with a run, a template or a plan; and a log reader.

`diagnose` reads the log history of a trainer and nothing else: no weights, no samples. What it
looks for is in rules*.py, one function per rule. Left out: what a log does not show, such as a
reward that pays for the wrong thing with no second measure beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from postlab.doctor.log import MIN_POINTS, Seen, Severity, read, unknown
from postlab.doctor.rules import TREND_RULES, dead, nan, nan_as_zero, recovered


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
_LAST_GOOD = (
    "go back to the last good checkpoint; look for rows whose reply max_length cuts off, a rate "
    "that is too high, or an fp16 overflow"
)
_ADVICE: dict[str, tuple[Severity, str, str]] = {  # code: severity, why, fix
    # numbers that are none
    "nan_as_zero": (
        "error",
        "the weights are no longer numbers, and logging_nan_inf_filter shows the loss as 0",
        f"set logging_nan_inf_filter=False, then {_LAST_GOOD}",
    ),
    "nan": (
        "error",
        "a loss that is not a number makes the weights it reaches useless",
        _LAST_GOOD,
    ),
    "nan_metric": (
        "warning",
        "the run goes on, but this value is not computed, and a penalty made of it is lost too",
        "recompute it for one batch in float32; look for rows without a trained token, for a "
        "reference or sampler that returns -inf, and for a logged standard deviation of one value",
    ),
    # any trainer
    "nothing_trained": (
        "error",
        "a loss of exactly 0 means that no token is trained on, or that a NaN is shown as 0",
        "decode the labels of one batch: if all are -100, repair the template, the response marker "
        "or max_length; else set logging_nan_inf_filter=False to see whether the loss is NaN",
    ),
    "loss_at_chance": (
        "error",
        "the model predicts as if it had never been trained, so the rate is not the problem",
        "check that the weights were loaded (read the warnings of from_pretrained), that tokenizer "
        "and model belong together, and that labels are not shifted twice or shuffled",
    ),
    "lr_too_high": (
        "error",
        "steps this large overshoot, and undo what the run or its start had learned",
        "divide the rate by three to ten, warm up, keep max_grad_norm at 1, and start again from "
        "the parent",
    ),
    "lr_too_low": (
        "warning",
        "there is a gradient, and the run ends where it began",
        "compare the rate with what is usual: for LoRA 1e-4 to 2e-4 (SFT), 5e-6 to 5e-5 (pairs, "
        "GRPO); for full fine-tuning a tenth of it. Only if yours is below, raise it, by three "
        "at a time; else look at the data, the labels and the reward",
    ),
    "adapter_still": (
        "error",
        "the policy is the one it started from: the weights that are used take no step",
        "load the adapter trainable, let the trainer make its own optimizer, see that one matrix "
        "of each LoRA pair is not 0 and that the schedule is not at its end",
    ),
    "gradient_spikes": (
        "warning",
        "clipping limits each such step, but its direction is that of one bad batch",
        "keep max_grad_norm at 1 or below; find the batches of those steps and read their longest "
        "and shortest rows; prefer bf16 to fp16",
    ),
    "overfitting": (
        "warning",
        "the training rows are learned by heart, and other rows get worse",
        "keep the checkpoint with the lowest evaluation loss (load_best_model_at_end); train for "
        "fewer epochs or on more rows",
    ),
    "averages_over_too_little": (
        "warning",
        "such a curve shows the luck of a batch, and what looks like a trend may be none",
        "log less often or accumulate gradients, and smooth over many points before you judge",
    ),
    # pairs
    "prefers_rejected": (
        "error",
        "the policy makes the rejected replies more likely than the chosen ones, not less",
        "print three rows and see whether chosen and rejected are swapped; then check that both "
        "keep their reply after truncation, and that the reference is the model you start from",
    ),
    "reference_differs": (
        "warning",
        "a policy that starts as its reference has a reward of 0, so these are two models",
        "check what the reference is: with an adapter that goes on training it is the base without "
        "it; merge the adapter first, or load it a second time as ref_model or ref_adapter_name",
    ),
    "pairs_told_apart": (
        "warning",
        "there is nothing left to learn, and what tells the pairs apart may not be quality",
        "look for what gives them away (length, format, another model's style) and measure on "
        "held-out pairs; train for less long, or lower the rate or raise beta",
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
    # groups of completions
    "truncation": (
        "warning",
        "an answer cut before its end is scored 0, however right its beginning",
        "read a few: if they would end, raise max_completion_length; if they never end, pass "
        "prompts as message lists so that the chat template is applied, and check the end token",
    ),
    "no_learning_signal": (
        "error",
        "equal rewards make every advantage 0, so these groups give no gradient",
        "read ten answers with their rewards and check tags and parser; then take easier prompts, "
        "larger groups or a graded reward",
    ),
    "dead_reward": (
        "warning",
        "a reward that no answer ever gets teaches nothing, and it may never have matched",
        "score a gold answer with it: it must be paid; then show the form in the prompt or teach "
        "it by a short SFT",
    ),
    "reward_saturation": (
        "warning",
        "prompts that are always solved teach nothing, and their sampling is paid all the same",
        "take harder prompts, drop those that are solved every time, or stop here",
    ),
    "reward_stuck": (
        "warning",
        "the policy is trained on differences between answers, and none of it shows in the reward",
        "read answers with their rewards: is the better one paid more? Then look at the share of "
        "cut answers, the number of groups a step and the rate",
    ),
    "reward_forgotten": (
        "warning",
        "what the policy had learned is lost again, and its last checkpoint is not its best",
        "take the checkpoint with the best held-out score; then lower the rate or raise beta, and "
        "see what entropy, KL and length did where the fall began",
    ),
    "entropy_collapse": (
        "error",
        "a group has become one answer, G times: sampling finds nothing better any more",
        "sample at temperature 1, lower the rate, add a KL term or raise epsilon_high, and go back "
        "to a checkpoint before the fall",
    ),
    "entropy_high": (
        "error",
        "the policy writes nearly at random, so its answers teach little and its language is lost",
        "go back to a checkpoint before the rise, with a lower rate and max_grad_norm of 1; if it "
        "is high from the start, check the weights, the temperature and the chat template",
    ),
    "entropy_rises": (
        "error",
        "the policy writes more and more at random, and reward and language go with it",
        "go back to a checkpoint before the rise; lower epsilon_high and the rate, add a KL term, "
        "and check that sampler and trainer agree",
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
    "reward_with_length": (
        "warning",
        "many judges pay for length, and no second measure says that the answers became better",
        "read the best paid answers beside those of the start; compare at equal length, and add a "
        "measure that is not trained on",
    ),
    "length_drift": (
        "warning",
        "length that buys nothing costs sampling time, and passes for quality with many judges",
        "read the longest answers; look for a reward that likes length; use loss_type dr_grpo or "
        "dapo, which do not divide by an answer's own length",
    ),
    "sampler_differs": (
        "warning",
        "answers are sampled from one distribution and trained under another, which biases the "
        "gradient and can end in collapse",
        "give both engines the same weights, precision and temperature; keep the importance "
        "sampling correction on, and stop while the reward is still good",
    ),
    "kl_blow_up": (
        "error",
        "the policy has left the model it started from, and what that one knew goes with it",
        "lower the rate first, then raise beta; go back to a checkpoint before the leap",
    ),
    "kl_high_from_start": (
        "warning",
        "before the first step policy and reference are one model, so their KL should be 0",
        "check which model is the reference (with an adapter it may be the base without it), and "
        "that both run in the same precision with the same template",
    ),
    "too_much_clipped": (
        "warning",
        "a clipped token gives no gradient: the batch is too old or the steps are too large",
        "take fewer steps per batch of answers (num_iterations, steps_per_generation) or lower the "
        "rate; with GSPO, epsilon may be meant for single tokens",
    ),
    "grpo_zero_loss": (
        "info",
        "advantages sum to 0 in a group and the ratio is 1 on policy: the value is 0, its gradient "
        "is not",
        "nothing; watch reward, frac_reward_zero_std and entropy instead",
    ),
    # nothing to go by
    "too_short": (
        "info",
        f"a trend needs {MIN_POINTS} points, so only faults that need none were looked for",
        "lower logging_steps, or train longer",
    ),
    "unknown_keys": (
        "info",
        "no value in it has a name that the rules know, so nothing was looked for",
        'name yours: diagnose(log, keys={"loss": "my/loss", "reward": "my/reward"})',
    ),
}
CODES = {code: why for code, (_, why, _) in _ADVICE.items()}  # and what each means
# A finding explains others: they would repeat it, or advise the opposite.
_MOVES = frozenset({"lr_too_low", "reward_stuck"})
_CALMS = frozenset({"chosen_logp_falls", "grpo_zero_loss"})
_EXPLAINS: dict[str, frozenset[str]] = {
    "nan_as_zero": _MOVES | _CALMS | {"nothing_trained"},
    "nan": _MOVES | _CALMS | {"nothing_trained"},
    "nothing_trained": _MOVES
    | {"nan_metric", "adapter_still", "lr_too_high", "averages_over_too_little"},
    "loss_at_chance": _MOVES | {"lr_too_high", "overfitting"},
    "lr_too_high": _MOVES
    | _CALMS
    | {"prefers_rejected", "reference_differs", "entropy_rises", "reward_forgotten"},
    "reference_differs": _MOVES | {"chosen_logp_falls"},
    "lr_too_low": frozenset({"reward_stuck"}),
    "adapter_still": _MOVES | {"pairs_told_apart"},
    "overfitting": _MOVES | {"chosen_logp_falls"},
    "prefers_rejected": _MOVES | {"chosen_logp_falls"},
    "pairs_told_apart": _MOVES | _CALMS,
    "chosen_logp_collapse": _MOVES | {"chosen_logp_falls"},
    "no_learning_signal": _MOVES | _CALMS | {"averages_over_too_little", "reward_saturation"},
    "reward_saturation": _MOVES,
    "entropy_collapse": _MOVES | {"no_learning_signal"},
    "entropy_high": _MOVES | _CALMS | {"entropy_rises"},
    "entropy_rises": _MOVES | _CALMS,
    "reward_forgotten": _MOVES | _CALMS,
    "format_up_accuracy_down": _MOVES | {"reward_traded"},
    "reward_traded": _MOVES,
    "reward_with_length": frozenset({"length_drift"}),
    "length_drift": _MOVES,
    "sampler_differs": _MOVES | {"kl_high_from_start"},
    "kl_blow_up": _MOVES | _CALMS,
    "too_much_clipped": _MOVES,
    "gradient_spikes": frozenset({"lr_too_low"}),
    "unknown_keys": frozenset({"too_short"}),
}
Function = TypeVar("Function", bound=Callable[..., Any])


def listed(codes: Mapping[str, str]) -> str:
    """A line for each code of a finding and what it means."""
    return "".join(f"    {code}: {meaning}\n" for code, meaning in codes.items())


def finds(codes: Mapping[str, str]) -> Callable[[Function], Function]:
    """Let `help` of a function list the codes of its findings; without docstrings, nothing."""

    def with_codes(function: Function) -> Function:
        if function.__doc__:
            function.__doc__ += f"\n    Codes:\n\n{listed(codes)}"
        return function

    return with_codes


@finds(CODES)
def diagnose(
    log_history: Sequence[Mapping[str, Any]], *, keys: Mapping[str, str] | None = None
) -> list[Finding]:
    """What a training log shows: faults as warnings and errors, what only looks bad as info.

    Known are the names that TRL's trainers log (SFT, DPO, ORPO, CPO, KTO, reward model, GRPO, RLOO,
    PPO), Unsloth's notebook tables, verl's and NeMo-RL's, and usual names of loops written by hand,
    such as `reward_avg`; for others there is `keys`. Faults that need no trend are seen from five
    entries on, trends from eight. Values that are no finite numbers are passed over. After a loss
    that is NaN, the other rules see what was logged before.

    Args:
        log_history: `trainer.state.log_history`, or any list of dicts with a number per name.
        keys: TRL's name for a value and the one it has in this log: {"reward": "train/score"}.
    Returns:
        The findings, errors first; an empty list if there is nothing to say. `CODES` has the
        meaning of each code.
    Raises:
        TypeError: if it is not a list of dicts, or `keys` not a dict of names.
    Taught in week 8.

    >>> flat = [{"step": i, "loss": 0.7, "rewards/margins": 0.0} for i in range(8)]
    >>> [(finding.code, finding.severity) for finding in diagnose(flat)]
    [('adapter_still', 'error')]
    >>> diagnose([{"iter": 1, "objective": 0.5}])[0].code
    'unknown_keys'
    """
    log = read(log_history, keys=keys)
    seen: dict[str, Seen] = {}
    # 1. Look for NaN first, because it makes every later number worthless.
    places = dead(log)
    seen |= {"nan_as_zero": nan_as_zero(log), "nan": nan(log)}
    # 2. Look at what was logged before, or beside a batch that left the weights whole.
    before = log if not places else log.without(places) if recovered(log, places) else None
    before = before or log.until(places[0])
    if not places and len(log.entries) < MIN_POINTS:
        seen["too_short"] = f"{len(log.entries)} logged training steps"
    if names := unknown(log_history, log):
        seen["unknown_keys"] = f"the log has {', '.join(names[:6])}{', …' if names[6:] else ''}"
    seen |= {rule.__name__: rule(before) for rule in TREND_RULES}
    # 3. Return what was found, with advice, the most severe first.
    findings = [_finding(code, evidence) for code, evidence in seen.items() if evidence]
    explained = {other for finding in findings for other in _EXPLAINS.get(finding.code, ())}
    findings = [finding for finding in findings if finding.code not in explained]
    return sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity))


def _finding(code: str, seen: Seen) -> Finding:
    severity, why, fix = _ADVICE[code]
    if isinstance(seen, tuple):
        severity, seen = seen
    return Finding(code, severity, seen, why, fix)
