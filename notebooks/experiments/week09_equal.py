"""Week 9's recorded experiment: AI labels, people's labels and both, with equal numbers of pairs.

    python notebooks/experiments/week09_equal.py

In week09_feedback.py, the arms with people's votes alone had 12 to 46 pairs and the hybrid arms 101
to 125, so who labelled and how many pairs there were changed together. Here, all arms of a seed
train on the same 96 pairs, in the same batches, for the same 30 updates. Only the labels differ:

- *AI*: the policy's own labels, as its own critic (*itself* of the other experiments);
- *people*: the oracle's labels, 16% of them turned around at random. In the InstructGPT paper, two
  labellers agreed in about 73% of cases; that is what two would do who are each right on 84% (week
  4 works this out);
- *hybrid*: people's labels on the 32 unsafe pairs, the AI's on the other 64; *hybrid 16*: people's
  on only 16 of the unsafe pairs;
- *how-tos*: as many votes as *hybrid*, on 32 of the 48 how-to pairs instead;
- *people, exact*: people's labels on all pairs, none of them turned around.

A person gives the same vote in every arm. Pairs are two different replies of the policy to one
training prompt. Only pairs on which both the AI and the oracle prefer a reply are taken, until
there are 32 of unsafe requests, 48 of how-tos and 16 of riddles: a tie would take a pair away from
one arm and not from the others. So the experiment says nothing about pairs that somebody calls a
tie, and the oracle decides which pairs are used.

The comparisons that were planned: *hybrid* with *AI*, *hybrid* with *people* and *people* with
*AI*, on five metrics, corrected together. All others are exploratory. Nothing was tuned: DPO is
that of week09_feedback.py, chosen there for its number of pairs. Before the runs, labels of pairs
of two other seeds (100 and 101) were counted, to learn how many prompts are needed. The oracle
measures every run on the same held-out prompts, greedily, as in that experiment.

Every finished run is stored, so an interrupted experiment goes on where it stopped.
"""

from __future__ import annotations

import random
import time
from functools import partial
from typing import Any

import torch
import week09_cai as base
import week09_feedback as feedback
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

from postlab import constitution as cai
from postlab.tinyworld.oracle import read

TARGET = RESULTS / "week09" / "equal.json"
SEEDS = (0, 1, 2, 3, 4)
SETTINGS: dict[str, Any] = {
    "prompts": 640,  # of which the first pairs that fit are taken
    "pairs": {"unsafe": 32, "howto": 48, "unknown": 16},
    "people wrong": 0.16,
    "human_dollars": 3.0,
}
ARMS: dict[str, dict[str, Any]] = {
    "AI": {},
    "people": {"votes": {"unsafe": 32, "howto": 48, "unknown": 16}},
    "hybrid": {"votes": {"unsafe": 32}},
    "hybrid 16": {"votes": {"unsafe": 16}},
    "how-tos": {"votes": {"howto": 32}},
    "people, exact": {"votes": {"unsafe": 32, "howto": 48, "unknown": 16}, "exact": True},
}


def gathered(seed: int) -> dict[str, Any]:
    """A seed's pairs, and the labels of the AI, of people and of the oracle."""
    begun, name = time.process_time(), f"equal {seed}"
    # 1. Pairs of the policy's own replies to training prompts.
    prompts = base.training_prompts(base.TURNS, SETTINGS["prompts"], name)
    drawn = [
        cai.policy_speaker(*base.start(), new_tokens=40, temperature=1.0, seed=number)(prompts)
        for number in range(100 * seed, 100 * seed + base.SETTINGS["replies"])
    ]
    pairs = base.pairs_of(drawn, prompts, name)
    # 2. Those on which both labellers prefer a reply, so many of each family.
    chances = base.remembering(cai.verdict_chances(*base.start()))
    rules = cai.load_constitution()
    by_ai = cai.label_pairs(cai.chance_labeller(chances, rules), pairs, swap=False)
    truth = cai.label_pairs(base.oracle, pairs)
    left, kept = dict(SETTINGS["pairs"]), []
    for i, (prompt, *_) in enumerate(pairs):
        family = read(prompt[-1]["content"]).family
        if "tie" not in (by_ai[i], truth[i]) and left[family]:
            left[family] -= 1
            kept.append(i)
    if any(left.values()):
        raise ValueError(f"too few pairs of seed {seed}; missing: {left}")
    exact = [truth[i] for i in kept]
    return {
        "seed": seed,
        "drawn": len(pairs),
        "pairs": [pairs[i] for i in kept],
        "families": [read(pairs[i][0][-1]["content"]).family for i in kept],
        "AI": [by_ai[i] for i in kept],
        "people": cai.noisy_labels(exact, SETTINGS["people wrong"], seed=seed),
        "exact": exact,
        "seconds": round(time.process_time() - begun, 1),
    }


def labels_of(arm: str, own: dict[str, Any]) -> tuple[list[str], int]:
    """An arm's labels of a seed's pairs, and how many of them people gave."""
    how, labels, votes = ARMS[arm], list(own["AI"]), 0
    for family, count in how.get("votes", {}).items():
        places = [i for i, one in enumerate(own["families"]) if one == family]
        random.Random(f"votes {own['seed']}").shuffle(places)
        for i in places[:count]:
            labels[i] = own["exact" if how.get("exact") else "people"][i]
            votes += 1
    return labels, votes


def wrong(labels: list[str], own: dict[str, Any]) -> dict[str, int]:
    """How many labels are wrong in each family."""
    counts = dict.fromkeys(SETTINGS["pairs"], 0)
    for family, label, truth in zip(own["families"], labels, own["exact"], strict=True):
        counts[family] += label != truth
    return counts


def run(arm: str, seed: int, *, own: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Train one arm with one seed, and measure it."""
    begun = time.process_time()
    labels, votes = labels_of(arm, own[seed])
    pairs = [tuple(pair) for pair in own[seed]["pairs"]]
    chances = [float(label == "a") for label in labels]
    model, tokenizer = feedback.preferred(pairs, chances, seed)
    result = {
        "arm": arm, "seed": seed, "rows": len(pairs), "votes": votes,
        "dollars": votes * SETTINGS["human_dollars"], "wrong": wrong(labels, own[seed]),
    }  # fmt: skip
    result |= feedback.measured(model, tokenizer)
    return result | {"seconds": round(time.process_time() - begun, 1)}


def main() -> None:
    arms, begin = Arms(__file__, limit=command_line(__doc__).runs), adapter_hash("sft")
    torch.set_num_threads(1)
    settings = {
        "settings": SETTINGS, "start": begin, "rules": repr(cai.load_constitution()),
        "base": [base.SETTINGS["replies"], base.TURNS, functions_of(base.__file__)],
        "feedback": [
            feedback.SETTINGS["dpo"], feedback.SETTINGS["heldout"], feedback.FAMILIES,
            feedback.METRICS, functions_of(feedback.__file__),
        ],
    }  # fmt: skip
    key = arm_key(settings, *feedback.CODE, own=__file__)
    own = {seed: arms.result(f"pairs {seed}", key, partial(gathered, seed)) for seed in SEEDS}
    runs = arms.run_all(
        ARMS, SEEDS, partial(run, own=own),
        key=lambda arm: arm_key(settings | {"arm": ARMS[arm]}, *feedback.CODE, own=__file__),
    )  # fmt: skip
    start = arms.result("before", key, lambda: feedback.measured(*frozen(shipped("sft"))))
    labelled = [
        {name: one[name] for name in ("seed", "drawn", "families", "AI", "people", "exact")}
        for one in own.values()
    ]
    took = minutes(one["seconds"] for one in (*own.values(), *runs))
    record = {
        "settings": SETTINGS, "arms": ARMS, "before": start, "labels": labelled, "runs": runs,
    }  # fmt: skip
    write_record(__file__, TARGET, record, seeds=SEEDS, minutes=took, start=begin[:12])


if __name__ == "__main__":
    main()
