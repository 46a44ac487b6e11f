"""Completions sampled from a policy, and how far it has moved from its reference.

- rollout: batched, seeded answers for evaluation, and one reply for a notebook
- decoding: the CPU engine behind both; it needs torch, so it is imported when it is first used
- engines: which engine answers on a GPU, and vLLM where a policy comes with it
- memory: how many prompts a GPU answers at once
- trl: the same engine as GRPO's `rollout_func`, and in `DistillationTrainer`
- scoring: logits of given texts with the same weights, for `kl`
- kl: the exact KL divergence from a reference, summed over the tokens of an answer
"""

from postlab import _doors
from postlab.sampling.engines import engine_name, started_vllm
from postlab.sampling.kl import answer_kl, check_ref
from postlab.sampling.memory import AnswerMemory, answer_memory
from postlab.sampling.rollout import (
    Messages,
    Rollout,
    answer,
    check_fits,
    end_of_turn,
    read_policy,
    render,
    reply,
    stop_tokens,
    unchanged,
)
from postlab.sampling.trl import draw, rollout_func, sample_with_engine

__all__ = [
    "AnswerMemory",
    "Messages",
    "Rollout",
    "answer",
    "answer_kl",
    "answer_memory",
    "check_fits",
    "check_ref",
    "draw",
    "end_of_turn",
    "engine_name",
    "read_policy",
    "render",
    "reply",
    "rollout_func",
    "sample_with_engine",
    "started_vllm",
    "stop_tokens",
    "unchanged",
]

_doors.publish(__name__)
