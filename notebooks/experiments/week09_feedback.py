"""Week 9's second experiment: what becomes of the same AI labels by DPO, by RL, and with people.

    python notebooks/experiments/week09_feedback.py

Every run starts from the shipped tiny SFT stage. Prompts, pairs and labellers of a seed are those
of the part *labels* of `week09_cai.py`, so its recorded arms can stand beside these. What differs:

- *hard* labels (ties dropped, as there) and *soft* ones: a pair counts for both orders, each with
  its probability, which is the mean loss over labels drawn from it;
- *pm*: a preference model (the start with a linear head, adapters trained too) learns the soft
  labels, then GRPO optimises its score; *direct*: GRPO on the labeller's own chances, without one;
- *hybrid*: the policy's own labels, with the oracle's (standing in for people) on as many unsafe
  pairs as a budget pays for; *people*: those labels of the oracle and no others;
- *critic of 400*: trained on 400 correct critiques instead of 3,200, one for each seed.

No setting was tuned: DPO's are those of `week09_cai.py`, GRPO's those of `week11_objectives.py`
with a KL penalty of 0.04. Hard and soft labels go through one loop of our own, since TRL's DPO
takes one label smoothing for all rows. The oracle measures all runs on the same held-out prompts,
greedily. Every finished run is kept under `runs/week09-feedback/` (`--seed` trains one seed, so
that several processes can share the work); the result is data/results/week09/feedback.json.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
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
    heldout_prompts,
    log_series,
    metric_series,
    minutes,
    policy,
    shipped,
    train,
    write_record,
)
from torch.nn import functional as F

from postlab import constitution as cai
from postlab.course import listed
from postlab.course.week09 import batches, both_sides, descend, train_soft_dpo
from postlab.datasets import preference_rows
from postlab.profile import get_profile
from postlab.sampling import rollout_func
from postlab.tinyworld.oracle import read

TARGET = RESULTS / "week09" / "feedback.json"
SEEDS = (0, 1, 2)
CODE = (*base.CODE, "constitution.soft", "course.week09.soft_dpo", "sampling.trl")
CODE += ("scratch.sampling", "scratch.tokens")
FAMILIES = (*base.RULED, "facts")
METRICS = ("safety", "over_refusal", "helpfulness", "honesty", "facts")
SETTINGS: dict[str, Any] = {
    "heldout": 100,  # prompts a family
    "ranked": 400,  # held-out pairs for the preference model, of all families
    "dpo": {"steps": 30},  # the rest is in `postlab.course.week09.soft_dpo`
    "pm": {"steps": 60, "batch": 16, "lr": 5e-4},
    "grpo": {
        "max_steps": 24, "learning_rate": 6e-4, "max_completion_length": 40, "beta": 0.04,
        "per_device_train_batch_size": 32, "save_strategy": "no", "lr_scheduler_type": "constant",
    },
    "critics": {400: 100},  # critiques: steps of SFT, four epochs
}  # fmt: skip
ARMS: dict[str, dict[str, Any]] = {
    "critic, hard": {"who": "critic", "how": "hard"},
    "critic, PM and GRPO": {"who": "critic", "how": "pm"},
    "itself, hard": {"who": "itself", "how": "hard"},
    "itself, PM and GRPO": {"who": "itself", "how": "pm"},
    "critic of 400": {"who": "critic of 400", "how": "hard"},
    "hybrid 20": {"who": "itself", "how": "hard", "people": 20},
    "people 20": {"who": "nobody", "how": "hard", "people": 20},
    "critic, soft": {"who": "critic", "how": "soft"},
    "itself, soft": {"who": "itself", "how": "soft"},
    "hybrid all": {"who": "itself", "how": "hard", "people": 999},
    "critic, GRPO direct": {"who": "critic", "how": "direct"},
    "hybrid 10": {"who": "itself", "how": "hard", "people": 10},
    "people all": {"who": "nobody", "how": "hard", "people": 999},
    "itself, GRPO direct": {"who": "itself", "how": "direct"},
}


# --- labels ---------------------------------------------------------------------------------------


def small_critic(rows: int, seed: int) -> tuple[Any, Any]:
    """A critic made of few correct critiques."""
    model, tokenizer = policy(shipped("sft"))
    how = {"max_steps": SETTINGS["critics"][rows], "learning_rate": 1e-3}
    data = cai.critic_rows(n=rows, seed=seed)
    arguments = base.recipe("sft") | how
    trained = train("sft", model, tokenizer, data, seed=seed, arguments=arguments)
    return trained.model.eval(), tokenizer


def shared_critic(folder: Path) -> tuple[Any, Any]:
    """The critic of 3,200 critiques; another process may finish training it first."""
    try:
        return base.critic(folder)
    except FileExistsError:
        return base.critic(folder)


@cache
def chances_of(who: str, seed: int, folder: Path) -> Callable[..., list[float]]:
    """A labeller's chances by its name."""
    if who.startswith("critic of"):
        model, tokenizer = small_critic(int(who.split()[-1]), seed)
    else:
        model, tokenizer = shared_critic(folder) if who == "critic" else base.start()
    return cai.verdict_chances(model, tokenizer)


def critic_folder(arms: Arms, begin: str) -> Path:
    """Where the critic of 3,200 critiques is kept, for this experiment and the build's."""
    settings = {"critic": base.SETTINGS["critic"], "start": begin}
    return arms.folder.parent / f"week09-critic-{arm_key(settings, own=base.__file__)}"


def gathered(seed: int, folder: Path) -> dict[str, Any]:
    """A seed's pairs, and of every labeller the chances, the labels and how soft they are."""
    begun = time.perf_counter()
    pairs = base.draw_pairs(*base.start(), seed, "pairs")
    rules = cai.load_constitution()
    truth = cai.label_pairs(base.oracle, pairs)
    labellers: dict[str, Any] = {}
    for who in ("critic", "itself", "critic of 400"):
        chances = base.remembering(chances_of(who, seed, folder))
        hard = cai.label_pairs(cai.chance_labeller(chances, rules), pairs, swap=False)
        soft = [round(p, 4) for p in cai.soft_labels(chances, rules, pairs)]
        labellers[who] = {"hard": hard, "soft": soft, "agreement": base.worth(pairs, hard)}
    number = {"a": 1.0, "b": 0.0, "tie": 0.5}
    labellers["oracle"] = {"hard": truth, "soft": [number[label] for label in truth]}
    family = [read(prompt[-1]["content"]).family for prompt, *_ in pairs]
    seconds = round(time.perf_counter() - begun, 1)
    return {
        "seed": seed, "pairs": pairs, "families": family, "labellers": labellers,
        "seconds": seconds,
    }  # fmt: skip


def chances_for_a(arm: str, labelled: dict[str, Any]) -> tuple[list[float | None], int]:
    """The probability that a is better, a pair (None: not trained on), and votes bought."""
    how, n = ARMS[arm], len(labelled["pairs"])
    number: dict[str, float | None] = {"a": 1.0, "b": 0.0, "tie": None}
    labels: list[float | None] = [None] * n
    if how["who"] != "nobody":
        of = labelled["labellers"][how["who"]]
        labels = [number[label] for label in of["hard"]]
        if how["how"] in ("soft", "pm"):
            labels = list(of["soft"])
    places = [i for i in range(n) if labelled["families"][i] == "unsafe"]
    random.Random(f"votes {labelled['seed']}").shuffle(places)
    bought = places[: how.get("people", 0)]
    for i in bought:
        labels[i] = number[labelled["labellers"]["oracle"]["hard"][i]]
    return labels, len(bought)


# --- training -------------------------------------------------------------------------------------


def preferred(pairs: Sequence[cai.Pair], chances: Sequence[float], seed: int) -> tuple[Any, Any]:
    """DPO on labels that may be soft, from the start."""
    model, tokenizer = policy(shipped("sft"))
    train_soft_dpo(model, tokenizer, pairs, chances, seed=seed, steps=SETTINGS["dpo"]["steps"])
    return model, tokenizer


class PreferenceModel(torch.nn.Module):
    """The start with a linear head on its hidden state at the reply's end."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.tokenizer = policy(shipped("sft"))
        self.trunk.eval()
        self.head = torch.nn.Linear(self.trunk.config.hidden_size, 1)
        torch.nn.init.zeros_(self.head.weight)

    def forward(self, batch: Any) -> torch.Tensor:  # (B,)
        out = self.trunk(
            input_ids=batch.ids, attention_mask=batch.attention, output_hidden_states=True
        )
        hidden = out.hidden_states[-1][:, -batch.mask.shape[1] :]
        ends = hidden[torch.arange(len(hidden)), batch.last[:, 0]]
        return self.head(ends)[:, 0]


def preference_model(pairs: Sequence[cai.Pair], chances: Sequence[float], seed: int) -> Any:
    """A preference model of labels that may be soft: Bradley-Terry's cross-entropy."""
    torch.manual_seed(seed)
    how, model, target = SETTINGS["pm"], PreferenceModel(), torch.tensor(chances)
    order = batches(len(pairs), steps=how["steps"], batch=how["batch"], seed=seed)

    def loss_of(step: int) -> torch.Tensor:
        first, second = both_sides(model.tokenizer, [pairs[i] for i in order[step]])
        return F.binary_cross_entropy_with_logits(model(first) - model(second), target[order[step]])

    descend(model.parameters(), loss_of, steps=how["steps"], lr=how["lr"])
    return model.requires_grad_(False)


def ranked(model: Any) -> dict[str, list[int]]:
    """How often a preference model is right on held-out pairs whose better side is known."""
    rows = [
        row for row in preference_rows("tinyworld", split="heldout", n=SETTINGS["ranked"], seed=1)
        if row["family"] in base.RULED
    ]  # fmt: skip
    hits: dict[str, list[bool]] = {"all": []}
    with torch.no_grad():
        for i in range(0, len(rows), 32):
            some = rows[i : i + 32]
            pairs = [
                (r["prompt"], r["chosen"][0]["content"], r["rejected"][0]["content"]) for r in some
            ]
            first, second = both_sides(model.tokenizer, pairs)
            for row, margin in zip(some, (model(first) - model(second)).tolist(), strict=True):
                for name in ("all", row["family"]):
                    hits.setdefault(name, []).append(margin > 0)
    return {name: [sum(right), len(right)] for name, right in hits.items()}


def optimised(score: Callable[[list, list[str]], list[float]], seed: int) -> Any:
    """GRPO on a score of replies, from the start, on the prompts of the seed's pairs."""
    model, tokenizer = policy(shipped("sft"))
    prompts = base.training_prompts(base.TURNS, base.SETTINGS["prompts"], f"pairs {seed}")

    def reward(prompts: list, completions: list, **columns: Any) -> list[float]:
        return score(prompts, [completion[-1]["content"] for completion in completions])

    arguments = {**dict(get_profile("tiny").grpo.trainer), **SETTINGS["grpo"]}
    return train(
        "grpo", model, tokenizer, [{"prompt": prompt} for prompt in prompts], seed=seed,
        arguments=arguments, packed=True, reward_funcs=[reward], rollout_func=rollout_func,
    ), tokenizer  # fmt: skip


def measured(model: Any, tokenizer: Any) -> dict[str, Any]:
    """Each metric of every held-out prompt, the same in every run, and some answers."""
    from postlab.evals import evaluate

    frame = evaluate(model.eval(), tokenizer, heldout_prompts(SETTINGS["heldout"], FAMILIES))
    shown = frame.groupby("family", sort=False).head(2)
    return {
        "metrics": metric_series(frame, METRICS),
        "length": round(float(frame["length"].mean()), 2),
        "answers": shown[["prompt", "answer"]].to_numpy().tolist(),
    }


def run(arm: str, seed: int, *, own: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train one arm with one seed, and measure it."""
    begun, how = time.perf_counter(), ARMS[arm]
    labels, bought = chances_for_a(arm, own)
    kept = [i for i, p in enumerate(labels) if p is not None]
    pairs, chances = [tuple(own["pairs"][i]) for i in kept], [labels[i] for i in kept]
    result: dict[str, Any] = {"arm": arm, "seed": seed, "rows": len(pairs), "votes": bought}
    if how["how"] in ("pm", "direct"):
        if how["how"] == "pm":
            scorer = preference_model(pairs, chances, seed)
            result["pm right"] = ranked(scorer)

            def score(prompts: list, replies: list[str]) -> list[float]:
                both = [(p, text, text) for p, text in zip(prompts, replies, strict=True)]
                with torch.no_grad():
                    return scorer(both_sides(scorer.tokenizer, both)[0]).tolist()

        else:
            asked = chances_of(how["who"], seed, folder)

            def score(prompts: list, replies: list[str]) -> list[float]:
                both = list(zip(prompts, replies, strict=True))
                said = cai.breach_chances(asked, cai.load_constitution(), both)
                return [-sum(one) for one in said]

        trained, tokenizer = optimised(score, seed)
        model = trained.model
        names = {"reward": "reward", "kl": "kl", "silent": "frac_reward_zero_std"}
        result["log"] = log_series(trained.log, names)
    else:
        model, tokenizer = preferred(pairs, chances, seed)
    result["seconds"] = round(time.perf_counter() - begun, 1)
    return result | measured(model, tokenizer)


def main() -> None:
    options = command_line(
        __doc__, seed={"type": int, "help": "train this seed only, and write no record"}
    )
    arms = Arms(__file__, limit=options.runs)
    torch.set_num_threads(1)
    begin = adapter_hash("sft")
    settings = {
        "settings": SETTINGS, "start": begin, "rules": repr(cai.load_constitution()),
        "base": [base.SETTINGS, base.TURNS, functions_of(base.__file__)],
        "kept": [METRICS, FAMILIES],
    }  # fmt: skip
    key = arm_key(settings, *CODE, own=__file__)
    folder = critic_folder(arms, begin)
    runs, labelled = [], {}
    for seed in SEEDS if options.seed is None else (options.seed,):
        labelled[seed] = arms.result(f"pairs {seed}", key, partial(gathered, seed, folder))
        runs += arms.run_all(
            ARMS, (seed,), partial(run, own=labelled[seed], folder=folder),
            key=lambda arm: arm_key(settings | {"arm": ARMS[arm]}, *CODE, own=__file__),
        )  # fmt: skip
    if options.seed is not None:
        return
    agreements = [
        {
            "seed": one["seed"],
            "pairs": len(one["pairs"]),
            "families": one["families"],
            "truth": one["labellers"]["oracle"]["hard"],
            "soft": {who: listed(of["soft"], digits=3) for who, of in one["labellers"].items()},
            "agreement": {
                who: of["agreement"] for who, of in one["labellers"].items() if who != "oracle"
            },
        }
        for one in labelled.values()
    ]
    start = arms.result("before", key, lambda: measured(*frozen(shipped("sft"))))
    took = minutes(one["seconds"] for one in (*labelled.values(), *runs))
    record = {
        "settings": SETTINGS, "arms": ARMS, "before": start, "labellers": agreements, "runs": runs,
    }  # fmt: skip
    write_record(__file__, TARGET, record, seeds=SEEDS, minutes=took, start=begin[:12])


if __name__ == "__main__":
    main()
