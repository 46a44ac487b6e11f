"""Week 4's tolerance: how near the build's reference comes to the optimum, over ten seeds.

    python notebooks/experiments/week04_build.py

It trains nine rewards and a policy with the reference steps of Build 4.1, as its check does, and
writes data/results/week04/build.json: the largest error of a reward, and the policy's total
variation distance from the closed form for the true rewards. The check uses seed 0 only; its
tolerances lie above all ten, with room for steps that are written differently.
"""

from __future__ import annotations

import torch
from _common import RESULTS, command_line, write_record

from postlab.course.week04 import nine, ppo_reference

SEEDS = tuple(range(10))


def distances(seed: int) -> dict[str, float]:
    """How far the two reference steps end from what is known exactly."""
    world = nine.nine_replies()
    true = world.rewards - world.rewards.mean()
    learned = nine.learn_rewards(ppo_reference.reward_model_step, seed=seed)
    policy, _ = nine.train_policy(ppo_reference.ppo_step, world.rewards, seed=seed)
    optimum = nine.closed_form(world.rewards, nine.probabilities(world.start), nine.BETA)
    away = nine.total_variation(nine.probabilities(policy), optimum)
    error = float((learned - true).abs().max())
    return {"seed": seed, "reward_error": round(error, 4), "away": round(away, 5)}


def main() -> None:
    command_line(__doc__, runs=False)
    torch.set_num_threads(1)
    record = {"runs": [distances(seed) for seed in SEEDS]}
    write_record(
        __file__, RESULTS / "week04" / "build.json", record, seeds=SEEDS, packages=("torch",)
    )


if __name__ == "__main__":
    main()
