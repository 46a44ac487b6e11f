"""Week 9's build: pairs to write a rule for, and what our rule does.

    python notebooks/experiments/week09_build.py

It draws pairs of the shipped tiny SFT stage's replies to training prompts of six families (four
samples a prompt at temperature 1, of which two different ones make a pair), has the critic of
`week09_cai.py` label those that its three rules are about, and trains two arms with three seeds by
the build's own function: *without*, on the critic's labels, and *ours*, with the labels of our
fourth rule ('Work a sum out before you give its answer.') on pairs that the critic leaves open.
No setting was tuned. It writes data/results/week09/build.json; finished runs are kept under
`runs/week09-build/`.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch
import week09_cai as base
from _common import (
    RESULTS,
    Arms,
    adapter_hash,
    arm_key,
    command_line,
    frozen,
    functions_of,
    minutes,
    shipped,
    write_record,
)
from week09_feedback import critic_folder, shared_critic

from postlab import constitution as cai
from postlab.course.week09 import rule_build as build
from postlab.tinyworld.oracle import read

TARGET = RESULTS / "week09" / "build.json"
SEEDS = (0, 1, 2)
CODE = (*base.CODE, "course.week09.soft_dpo")
RULED = 80  # prompts that one of the three rules is about
FAMILIES = {"arithmetic": 60, "lists": 20, "facts": 10}
SETTINGS: dict[str, Any] = {
    "prompts": {"ruled": RULED, **FAMILIES}, "replies": 4, "steps": build.STEPS,
    "heldout": build.PROMPTS,
}  # fmt: skip


def drawn() -> dict[str, Any]:
    """The pairs, and the critic's labels of those that a rule is about."""
    model, tokenizer = base.start()
    groups = [(base.TURNS, RULED, "ruled")] + [((name,), n, name) for name, n in FAMILIES.items()]
    pairs: list[Any] = []
    for families, count, name in groups:
        prompts = base.training_prompts(families, count, f"build {name}")
        samples = [
            cai.policy_speaker(model, tokenizer, new_tokens=72, temperature=1.0, seed=900 + k)(
                prompts
            )
            for k in range(SETTINGS["replies"])
        ]
        pairs += base.pairs_of(samples, prompts, f"build {name}")
    return {"pairs": pairs}


def labelled(pairs: list[Any], folder: Any) -> list[str]:
    """The critic's labels; ties where no rule is about the pair."""
    chances = cai.verdict_chances(*shared_critic(folder))
    about = [read(prompt[-1]["content"]).family in base.RULED for prompt, *_ in pairs]
    some = [pair for pair, ruled in zip(pairs, about, strict=True) if ruled]
    labeller = cai.chance_labeller(chances, cai.load_constitution())
    labels = iter(cai.label_pairs(labeller, some, swap=False))
    return [next(labels) if ruled else "tie" for ruled in about]


def before() -> dict[str, Any]:
    """The start's answers to the build's held-out prompts."""
    from postlab.evals import evaluate

    frame = evaluate(*frozen(shipped("sft")), build.heldout(), seed=0)
    return {
        "scores": {
            metric: "".join(str(int(v)) for v in frame[metric].dropna())
            for metric in build.NAMES.values()
        }
    }


def run(arm: str, seed: int, critic: list[str]) -> dict[str, Any]:
    begun, labels = time.perf_counter(), critic
    if arm != "without":
        ours = build.rule_labels(build.our_breaks, build.build_pairs())
        labels = build.by_priority(critic, ours)
    result = build.train_and_answer(labels, seed=seed)
    if seed or arm != "without":
        del result["answers"]  # only the comparison of the check needs them
    rows = sum(label != "tie" for label in labels)
    seconds = round(time.perf_counter() - begun, 1)
    return {"arm": arm, "seed": seed, "rows": rows, "seconds": seconds} | result


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    torch.set_num_threads(1)
    begin = adapter_hash("sft")
    settings = {"settings": SETTINGS, "start": begin, "base": functions_of(base.__file__)}
    key = arm_key(settings, *CODE, own=__file__)
    folder = critic_folder(arms, begin)
    pairs = [tuple(pair) for pair in arms.result("pairs", key, drawn)["pairs"]]
    critic = arms.result("critic", key, lambda: {"labels": labelled(pairs, folder)})["labels"]
    # The build's functions read the record: it holds the pairs before the runs are there.
    texts = [[prompt[-1]["content"], a, b] for prompt, a, b in pairs]
    record: dict[str, Any] = {"settings": SETTINGS, "pairs": texts, "critic": critic}
    record["before"] = arms.result("before", key, before)
    write_record(__file__, TARGET, record | {"runs": []}, seeds=SEEDS)
    build.recorded.cache_clear()
    runs = [
        arms.result(f"{arm} {seed}", key, partial(run, arm, seed, critic))
        for seed in SEEDS
        for arm in ("without", "ours")
    ]
    took = minutes(one["seconds"] for one in runs)
    write_record(
        __file__, TARGET, record | {"runs": runs}, seeds=SEEDS, minutes=took, start=begin[:12]
    )


if __name__ == "__main__":
    main()
