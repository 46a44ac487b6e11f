"""Which week of the course explains a finding of the doctor, of a template check or of a preflight.

A finding itself names no week, so that the library can be used without the course. Left out: what
the weeks say about it.
"""

from __future__ import annotations

OF_CODE = {
    # training logs: `postlab.doctor`
    "nan_as_zero": 3,
    "nan": 3,
    "nan_metric": 3,
    "nothing_trained": 3,
    "loss_at_chance": 1,
    "overfitting": 3,
    "gradient_spikes": 3,
    "reference_differs": 5,
    "prefers_rejected": 5,
    "pairs_told_apart": 5,
    "dead_reward": 8,
    "reward_stuck": 8,
    "reward_with_length": 8,
    "entropy_high": 8,
    "entropy_rises": 8,
    "reward_forgotten": 8,
    "sampler_differs": 8,
    "too_much_clipped": 8,
    "kl_high_from_start": 7,
    "no_learning_signal": 7,
    "reward_saturation": 8,
    "entropy_collapse": 8,
    "truncation": 7,
    "format_up_accuracy_down": 8,
    "reward_traded": 11,
    "length_drift": 8,
    "kl_blow_up": 7,
    "adapter_still": 2,
    "chosen_logp_collapse": 5,
    "chosen_logp_falls": 5,
    "grpo_zero_loss": 7,
    "averages_over_too_little": 8,
    # chat templates: `postlab.chat.check_template`
    "no_template": 1,
    "double_bos": 1,
    "missing_bos": 3,
    "end_of_turn_not_trained": 1,
    "pad_equals_end_of_turn": 3,
    "prompt_trained": 1,
    "assistant_prefix_drift": 1,
    "trained_after_end": 1,
    "message_lost": 1,
    "system_lost": 1,
    "reasoning_lost": 1,
    "tool_call_lost": 1,
    "tool_call_quoted": 1,
    "control_token_typed": 1,
    "row_malformed": 1,
    "template_error": 1,
    "template_runs_away": 1,
    "template_token_split": 1,
    "digits_cut_wrongly": 1,
    "untrained_template_token": 3,
    "right_padding": 1,
    # plans: `postlab.preflight`
    "does_not_fit": 2,
    "tight": 2,
    "emulated_bf16": 3,
    "rough_shape": 2,
}
OF_ANY_STAGE = ("lr_too_high", "lr_too_low", "too_short", "unknown_keys")
OF_STAGE = {"sft": 3, "dpo": 5, "grpo": 7}
OF_DOCTOR = 8


def week_of(code: str, *, stage: str | None = None) -> int:
    """The week that explains a finding.

    Args:
        code: of the finding.
        stage: "sft", "dpo" or "grpo", whose log it is: a learning rate, for example, is explained
            where its trainer is. Without a stage such findings belong to the doctor's own week.
    Raises:
        ValueError: if the code or the stage is unknown.

    >>> week_of("kl_blow_up"), week_of("lr_too_high", stage="dpo"), week_of("lr_too_high")
    (7, 5, 8)
    """
    if stage is not None and stage not in OF_STAGE:
        raise ValueError(f"stage is {stage!r:.40}; expected one of {', '.join(OF_STAGE)}")
    if code in OF_ANY_STAGE:
        return OF_DOCTOR if stage is None else OF_STAGE[stage]
    if code not in OF_CODE:
        known = ", ".join([*OF_CODE, *OF_ANY_STAGE])
        raise ValueError(f"no finding has the code {code!r:.60}; expected one of {known}")
    return OF_CODE[code]
