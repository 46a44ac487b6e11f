"""What Unsloth 2026.10.9's GPU trainers change of TRL 1.14.2's: the whole list.

The test fails when an entry is missing here and when one no longer holds. Values are texts, as
`str` writes them: (TRL's, Unsloth's). ABSENT: that side has no such field.
"""

from __future__ import annotations

ABSENT = "absent"
Differences = dict[str, tuple[str, str]]

# Fields that Unsloth adds, at their defaults.
ADDED: Differences = {
    "context_parallel_size": (ABSENT, "1"),
    "unsloth_logit_chunk_multiplier": (ABSENT, "None"),
    "unsloth_num_chunks": (ABSENT, "-1"),
    "vllm_sampling_params": (ABSENT, "None"),
}
# In all three. The second and third matter in the trainer's own evaluation, which is off here.
EVERY: Differences = ADDED | {
    "gradient_checkpointing_kwargs": ("None", "{'use_reentrant': True}"),  # for its offloading
    "per_device_eval_batch_size": ("8", "4"),
    "eval_accumulation_steps": ("None", "2"),
    "torch_empty_cache_steps": ("None", "250"),  # memory, against some speed
}
SFT: Differences = EVERY | {
    "loss_type": ("chunked_nll", "nll"),  # the same loss; each has a fused head of its own
    "padding_free": ("False", "None"),  # decided when the trainer is built, by measured speeds
    "max_seq_length": (ABSENT, "None"),
    "context_parallel_backend": (ABSENT, "ring"),
    "context_parallel_rotate_method": (ABSENT, "allgather"),
}
DPO: Differences = EVERY | {
    "padding_free": ("False", "None"),  # None is False here
    "max_seq_length": (ABSENT, "None"),
    "context_parallel_backend": (ABSENT, "ulysses"),
}
GRPO: Differences = EVERY | {
    "generation_kwargs": ("None", "{}"),
    "router_aux_loss_coef": ("None", "0.0"),  # mixtures of experts: their balance is not trained
    "vllm_importance_sampling_correction": ("True", "False"),  # with vLLM only
    "context_parallel_backend": (ABSENT, "ulysses"),
}
# TRL takes `epsilon` for an upper clip that is not set, Unsloth DAPO's value.
UNSET: Differences = GRPO | {"epsilon_high": ("None", "0.28")}

OF_STAGE = {"sft": SFT, "warm_start": SFT, "dpo": DPO, "grpo": GRPO}
CONFIGURATIONS: dict[str, Differences] = {
    **{f"t4 {stage}": listed for stage, listed in OF_STAGE.items()},
    **{f"rented {stage}": listed for stage, listed in OF_STAGE.items() if stage != "warm_start"},
    **{f"{profile} grpo, epsilon_high not set": UNSET for profile in ("t4", "rented")},
}

# The Triton kernels that the fused policy's forward and backward passes run.
KERNELS = {
    "_rms_layernorm_forward", "_rms_layernorm_backward", "_rope_embedding_QK",
    "_fg_kernel", "_DWf_DW_dfg_kernel",  # SwiGLU, there and back
}  # fmt: skip
