"""Week 9's recorded experiment: constitutional AI on the embedded model, and what its labels do.

    python notebooks/experiments/week09_cai.py

The policy is the shipped tiny SFT stage, the rules are data/constitutions/tinyworld.yaml. As its
own critic it calls too many false alarms (measured here), so a *critic* is made of it first, by SFT
on balanced critiques (`constitution.critic_rows`), one for all seeds. Then two parts:

- *chain*: the supervised half (SFT on the policy's replies, revised by the critic), then the
  preference half (pairs drawn from that policy, labelled by the critic, DPO). To keep what no rule
  is about, replies to sums, lists and facts are trained on as the policy gave them; and pairs on
  those and on how-to's are labelled by the oracle: as in the paper, what is harmless comes from the
  model and what is helpful from people (sections 3.2 and 4.1).
- *labels*: DPO alone, from `sft`, on the same pairs in every arm of a seed; only the labels differ:
  the critic's, the policy's own, the critic's with noise from 0 to 40%, the oracle's (whom we call
  the human), with each rule removed in turn, under two rules that conflict, and mixed by budget. At
  40% there is an arm with TRL's robust loss, told the rate (Chowdhury et al. 2024, 2403.00409).

Measured by the oracle on held-out prompts, greedily, before and after; and every labeller's own
agreement with the oracle, a family. Every finished run is kept under `runs/week09-cai/`, so an
interrupted experiment goes on where it stopped; the result is data/results/week09/cai.json.

A seed decides prompts, draws, their order and which labels are turned; all runs start from the one
SFT of seed 0. The critic knows three rules and no other, so the rule that conflicts ('Do not refuse
a wish.') is judged by a critic of one line, `obedient`, and those arms weigh verdicts.

What came before: with the policy as its own critic, by verdicts, revisions spoilt helpfulness (88%
to 51% of 300 sampled how-to's), and it labelled 22% of 50 unsafe pairs the wrong way round. A
critic trained on the SFT set's own mix of critiques still called false alarms on how-to's. Those
trials led to balanced rows and to labels by chance in place of verdicts. A chain of seeds 0 and 1
without the oracle's pairs, how-to's as often as the others and DPO at 4e-4 reached safety 97 and
98%, but over-refusal rose by 6.5 points in both and facts fell from 83 to 25%. With people's pairs
on sums, lists and facts only, at 2e-4, seed 0: safety 97%, over-refusal up by 6 points, facts 73%.
With how-to's as well, among 240 of people's prompts, and 30 steps, over-refusal rose by 2.5, 1.0
and 5.5 points (seeds 0, 1, 2), where at most 5 were wanted. What is here was then chosen by seeds
3, 4 and 5 on training prompts alone: refusals of how-to's drawn at temperature 1 fell from 2.9 to
1.8%. More of people's prompts without more steps changed nothing.

So settings were rejected for the over-refusal of seeds 0, 1 and 2 on the very held-out prompts that
the record is measured on, though the last choice was made on others. What is recorded there of
over-refusal, in the chain, is therefore optimistic, and its interval knows nothing of that choice.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from _common import (
    RESULTS,
    Arms,
    Trained,
    adapter_hash,
    arm_key,
    command_line,
    frozen,
    heldout_prompts,
    metric_series,
    minutes,
    policy,
    shipped,
    train,
    write_record,
)

from postlab import constitution as cai
from postlab.profile import get_profile
from postlab.tinyworld import tasks
from postlab.tinyworld.oracle import METRIC, read

TARGET = RESULTS / "week09" / "cai.json"
SEEDS = (0, 1, 2)
CODE = (
    "tinyworld",
    "evals.evaluation",
    "evals.suites",
    "sampling.rollout",
    "sampling.decoding",
    "constitution.labellers",
    "constitution.criticism",
    "constitution.labels",
    "constitution.rows",
    "constitution.speakers",
)
RULED, UNRULED = ("unsafe", "howto", "unknown"), ("arithmetic", "lists", "facts")
BY_PEOPLE = ("arithmetic", "howto", "facts", "lists", "howto", "facts")  # pairs about helpfulness
TURNS = ("unsafe", "howto", "unknown", "howto")  # what could be refused needlessly comes twice
METRICS = ("safety", "over_refusal", "helpfulness", "honesty", "arithmetic", "lists", "facts")
SETTINGS: dict[str, Any] = {
    "prompts": 360,  # with a rule about them, to be criticised or paired
    "unruled": 180,  # without one, for the supervised half
    "by people": 360,  # for pairs about helpfulness, which people label
    "replies": 4,  # drawn a prompt at temperature 1, of which two different ones make a pair
    "heldout": {"chain": 200, "labels": 100},  # prompts a family
    "critic": {"max_steps": 200, "learning_rate": 1e-3},
    "sft": {"max_steps": 40, "learning_rate": 5e-4},
    "dpo": {"max_steps": 30, "learning_rate": 2e-4},
    "chain's dpo": {"max_steps": 45, "learning_rate": 2e-4},  # it has people's pairs as well
    "budget": 150.0,  # dollars
    "prices": {"ai_dollars": 0.01, "human_dollars": 3.0},
}
OBEY = cai.Rule("obey", "Do not refuse a wish.")
ARMS: dict[str, dict[str, Any]] = {
    "noise 0%": {"labels": "ai"},
    "noise 10%": {"labels": "ai", "noise": 0.1},
    "noise 20%": {"labels": "ai", "noise": 0.2},
    "noise 30%": {"labels": "ai", "noise": 0.3},
    "noise 40%": {"labels": "ai", "noise": 0.4},
    "itself": {"labels": "itself"},
    "noise 40%, robust": {"labels": "ai", "noise": 0.4, "robust": True},
    "oracle": {"labels": "oracle"},
    "without harm": {"labels": "without harm"},
    "without honest": {"labels": "without honest"},
    "without helpful": {"labels": "without helpful"},
    "conflict, counted": {"labels": "conflict, counted"},
    "conflict, harm first": {"labels": "conflict, harm first"},
    "conflict, obey first": {"labels": "conflict, obey first"},
    "budget, human only": {"labels": "oracle", "only": True},
    "budget, ties to humans": {"labels": "ai", "human": "ties"},
    "budget, any to humans": {"labels": "ai", "human": "random"},
    "budget, noise 30% and humans": {"labels": "ai", "noise": 0.3, "human": "random"},
}


@cache
def start() -> tuple[Any, Any]:
    """The start as its own critic and labeller; it is never trained."""
    return frozen(shipped("sft"))


@cache
def critic(folder: Path) -> tuple[Any, Any]:
    """The start, after SFT on balanced critiques: trained once, kept in `folder`."""
    if not folder.exists():
        model, tokenizer = policy(shipped("sft"))
        rows = cai.critic_rows(n=16 * SETTINGS["critic"]["max_steps"], seed=0)
        arguments = recipe("sft") | SETTINGS["critic"]
        trained = train("sft", model, tokenizer, rows, seed=0, arguments=arguments)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            trained.model.eval().save_pretrained(scratch)
            tokenizer.save_pretrained(scratch)
            shutil.copytree(scratch, folder)
    return frozen(folder)


def training_prompts(families: Sequence[str], count: int, name: str) -> list[list[dict[str, str]]]:
    """Different training prompts, the families in turn."""
    rng, texts = random.Random(name), {}
    while len(texts) < count:
        item = tasks.draw(families[len(texts) % len(families)], rng, "train")
        texts.setdefault(tasks.ask(item, rng, "train"), None)
    return [[{"role": "user", "content": text}] for text in texts]


def right(prompt: Sequence[dict[str, str]], reply: str) -> float:
    """The oracle's word: harmless, helpful or honest, whichever the prompt is about."""
    item = read(prompt[-1]["content"])
    return tasks.score(item, reply, True)[METRIC[item.family]]


def oracle(pairs: Sequence[cai.Pair]) -> list[str]:
    """The labeller who knows."""
    sides = [(right(prompt, a), right(prompt, b)) for prompt, a, b in pairs]
    return ["tie" if a == b else "first" if a > b else "second" for a, b in sides]


def remembering(speak: Callable[..., list]) -> Callable[..., list]:
    """The same speaker or chances, asked nothing twice; for what gives the same answer twice."""
    known: dict[str, Any] = {}

    def remembered(talks: Sequence[list[dict[str, str]]]) -> list:
        new = {repr(talk): talk for talk in talks if repr(talk) not in known}
        known.update(zip(new, speak(list(new.values())) if new else [], strict=True))
        return [known[repr(talk)] for talk in talks]

    return remembered


def obedient(speak: cai.Speaker) -> cai.Speaker:
    """A critic who also knows `OBEY`, by one line, and asks `speak` about every other rule."""

    def heard(talks: Sequence[list[dict[str, str]]]) -> list[str]:
        others = iter(speak([talk for talk in talks if OBEY.text not in talk[-1]["content"]]))
        verdicts = []
        for talk in talks:
            if OBEY.text in talk[-1]["content"]:
                refused = "will not help" in talk[-2]["content"]
                verdicts.append("It breaks the rule." if refused else "It keeps the rule.")
            else:
                verdicts.append(next(others))
        return verdicts

    return heard


def labellers(folder: Path) -> dict[str, cai.Labeller]:
    """Who labels, by the name that an arm gives."""
    rules = cai.load_constitution()
    chances = remembering(cai.verdict_chances(*critic(folder)))
    own = cai.verdict_chances(*start())
    speak = remembering(cai.policy_speaker(*critic(folder)))
    by_name = {"ai": cai.chance_labeller(chances, rules), "oracle": oracle}
    by_name["ai, verdicts"] = cai.critic_labeller(speak, rules)
    by_name["itself"] = cai.chance_labeller(own, rules)
    by_name["itself, verdicts"] = cai.critic_labeller(cai.policy_speaker(*start()), rules)
    for rule in rules.rules:
        by_name[f"without {rule.id}"] = cai.chance_labeller(chances, rules.without(rule.id))
    both = cai.Constitution((*rules.rules, OBEY), rules.check, rules.revise)
    by_name["conflict, counted"] = cai.critic_labeller(obedient(speak), both)
    for first in ("harm", "obey"):
        by_name[f"conflict, {first} first"] = cai.critic_labeller(
            obedient(speak), both.ordered(first), weigh="priority"
        )
    return by_name


def pairs_of(drawn: Sequence[Sequence[str]], prompts: Sequence[Any], name: str) -> list[cai.Pair]:
    """Two different replies of those drawn to each prompt, in chance order; none where all agree.

    Args:
        drawn: (draws, n) replies.
    """
    rng, pairs = random.Random(name), []
    for prompt, *replies in zip(prompts, *drawn, strict=True):
        several = sorted({reply for reply in replies if reply})
        if len(several) > 1:
            pairs.append((prompt, *rng.sample(several, 2)))
    return pairs


def draw_pairs(
    model: Any, tokenizer: Any, seed: int, name: str, *, ruled: bool = True
) -> list[cai.Pair]:
    """Pairs of a policy's own replies to prompts that a rule is about, or for people to label."""
    kind, families = ("prompts", TURNS) if ruled else ("by people", BY_PEOPLE)
    prompts = training_prompts(families, SETTINGS[kind], f"{name} {seed}")
    tokens = 40 if ruled else 72
    drawn = [
        cai.policy_speaker(model, tokenizer, new_tokens=tokens, temperature=1.0, seed=number)(
            prompts
        )
        for number in range(100 * seed, 100 * seed + SETTINGS["replies"])
    ]
    return pairs_of(drawn, prompts, f"{name} {seed}")


def gathered(seed: int, folder: Path) -> dict[str, Any]:
    """The pairs of the labels part, and every labeller's labels of them."""
    begun = time.perf_counter()
    pairs = draw_pairs(*start(), seed, "pairs")
    labels = {name: cai.label_pairs(say, pairs) for name, say in labellers(folder).items()}
    seconds = round(time.perf_counter() - begun, 1)
    return {"seed": seed, "pairs": pairs, "labels": labels, "seconds": seconds}


def worth(pairs: Sequence[cai.Pair], labels: Sequence[str]) -> dict[str, Any]:
    """A labeller's agreement with the oracle, over all pairs and a family."""
    truth = cai.label_pairs(oracle, pairs)
    family = [read(prompt[-1]["content"]).family for prompt, *_ in pairs]
    agreements = {}
    for name in ("all", *RULED):
        members = [i for i in range(len(pairs)) if name in ("all", family[i])]
        if not members:
            continue
        one = cai.agreement([labels[i] for i in members], [truth[i] for i in members])
        agreements[name] = {"pairs": len(members)} | {
            part: [round(float(x), 4) for x in (value.value, value.low, value.high)] + [value.n]
            for part, value in vars(one).items()
        }
    return agreements


def labels_of(arm: str, labelled: dict[str, Any]) -> tuple[list[str], float]:
    """An arm's labels of a seed's pairs, and what they would have cost in dollars."""
    how, seed, prices = ARMS[arm], labelled["seed"], SETTINGS["prices"]
    labels, n = list(labelled["labels"][how["labels"]]), len(labelled["pairs"])
    labels = cai.noisy_labels(labels, how.get("noise", 0.0), seed=seed)
    if how.get("only"):  # the whole budget on people, and no label for the rest
        count = min(n, int(SETTINGS["budget"] / prices["human_dollars"]))
        some = cai.mixed_labels(["tie"] * n, labels, count, where="random", seed=seed)
        return some, cai.comparison_cost(human=count, **prices)
    if "human" in how:
        left = SETTINGS["budget"] - cai.comparison_cost(ai=n, **prices)
        count = min(n, int(left / prices["human_dollars"]))
        truth = labelled["labels"]["oracle"]
        labels = cai.mixed_labels(labels, truth, count, where=how["human"], seed=seed)
        return labels, cai.comparison_cost(ai=n, human=count, **prices)
    who = {"human": n} if how["labels"] == "oracle" else {"ai": n}
    return labels, cai.comparison_cost(**who, **prices)


def recipe(stage: str, *, noise: float | None = None) -> dict[str, Any]:
    """The trainer's arguments of a half, all but `output_dir` and `seed`.

    Args:
        noise: for DPO's robust loss, which has to be told how many labels are wrong.
    """
    own = {"save_strategy": "no", "warmup_steps": 4, **SETTINGS[stage]}
    if noise is not None:
        own |= {"loss_type": ["robust", "sft"], "label_smoothing": noise}
    return {**dict(getattr(get_profile("tiny"), stage).trainer), **own}


def last_loss(trained: Trained) -> float:
    """The last loss that the trainer logged."""
    return round([entry["loss"] for entry in trained.log if "loss" in entry][-1], 4)


def measured(model: Any, tokenizer: Any, part: str) -> dict[str, Any]:
    """Each metric of every held-out prompt, the same in every run, and some answers."""
    from postlab.evals import evaluate

    families = RULED + UNRULED if part == "chain" else RULED
    suite = heldout_prompts(SETTINGS["heldout"][part], families)
    frame = evaluate(model.eval(), tokenizer, suite)
    shown = frame[frame["family"].isin(RULED)].groupby("family", sort=False).head(3)
    return {
        "metrics": metric_series(frame, METRICS),
        "length": round(float(frame["length"].mean()), 2),
        "answers": shown[["prompt", "answer"]].to_numpy().tolist(),
    }


def before(part: str) -> dict[str, Any]:
    """The start, on the same prompts."""
    return measured(*start(), part)


def chain(seed: int, folder: Path) -> dict[str, Any]:
    """Both halves with one seed: what was revised, labelled and learned."""
    speak = cai.policy_speaker(*critic(folder))
    rules = cai.load_constitution()
    model, tokenizer = policy(shipped("sft"))
    # 1. The supervised half: sample, check, revise, fine-tune.
    prompts = training_prompts(TURNS, SETTINGS["prompts"], f"revisions {seed}")
    drawn = cai.policy_speaker(model, tokenizer, temperature=1.0, seed=seed)(prompts)
    rows = cai.revised_rows(speak, rules, list(zip(prompts, drawn, strict=True)))
    others = training_prompts(UNRULED, SETTINGS["unruled"], f"unruled {seed}")
    kept = cai.policy_speaker(model, tokenizer, new_tokens=72)(others)
    rows_kept = [
        {"prompt": prompt, "completion": [{"role": "assistant", "content": text}]}
        for prompt, text in zip(others, kept, strict=True)
    ]
    sft = train(
        "sft", model, tokenizer, [*rows, *rows_kept], seed=seed,
        arguments=recipe("sft"),
    )  # fmt: skip
    model = sft.model.eval()
    supervised = measured(model, tokenizer, "chain")
    # 2. The preference half: pairs of the new policy, labelled, DPO.
    pairs = draw_pairs(model, tokenizer, seed, "chain pairs")
    chances = cai.verdict_chances(*critic(folder))
    labels = cai.label_pairs(cai.chance_labeller(chances, rules), pairs)
    others = draw_pairs(model, tokenizer, seed, "other pairs", ruled=False)
    human = cai.labelled_rows(others, cai.label_pairs(oracle, others))
    preferred = cai.labelled_rows(pairs, labels) + human
    dpo = train(
        "dpo", model, tokenizer, preferred, seed=seed,
        arguments=recipe("dpo") | SETTINGS["chain's dpo"],
    )  # fmt: skip
    # 3. What the revisions were worth, and both halves on the held-out prompts.
    after = {family: [] for family in RULED}
    for row in rows:
        family = read(row["prompt"][-1]["content"]).family
        reply = row["completion"][-1]["content"]
        after[family].append((right(row["prompt"], row["before"]), right(row["prompt"], reply)))
    return {
        "seed": seed,
        "revised": {
            family: {
                "replies": len(pairs_), "right before": sum(x for x, _ in pairs_),
                "right after": sum(y for _, y in pairs_), "spoilt": sum(x > y for x, y in pairs_),
            }
            for family, pairs_ in after.items()
        },
        "revisions": sum(bool(row["rules"]) for row in rows),
        "examples": [
            [row["prompt"][-1]["content"], row["before"], row["critique"],
             row["completion"][-1]["content"]]
            for row in rows if row["rules"]
        ][:6],
        "pairs": len(pairs),
        "preferred": len(preferred),
        "by humans": len(human),
        "agreement": worth(pairs, labels),
        "supervised": supervised,
        "cai": measured(dpo.model, tokenizer, "chain"),
        "losses": {"sft": last_loss(sft), "dpo": last_loss(dpo)},
        "seconds": round(sft.seconds + dpo.seconds, 1),
    }  # fmt: skip


def run(arm: str, seed: int, *, labelled: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """DPO from `sft` on one arm's labels of a seed's pairs."""
    pairs = [tuple(pair) for pair in labelled[seed]["pairs"]]
    labels, dollars = labels_of(arm, labelled[seed])
    rows = cai.labelled_rows(pairs, labels)
    model, tokenizer = policy(shipped("sft"))
    noise = ARMS[arm]["noise"] if ARMS[arm].get("robust") else None
    arguments = recipe("dpo", noise=noise)
    trained = train("dpo", model, tokenizer, rows, seed=seed, arguments=arguments)
    return {
        "arm": arm,
        "seed": seed,
        "rows": len(rows),
        "dollars": round(dollars, 2),
        "agreement": worth(pairs, labels)["all"],
        "loss": last_loss(trained),
        "seconds": round(trained.seconds, 1),
    } | measured(trained.model, tokenizer, "labels")


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    begin = adapter_hash("sft")
    settings = {
        "settings": SETTINGS, "start": begin, "rules": repr((cai.load_constitution(), OBEY)),
        "recipes": [recipe("sft"), recipe("dpo")], "kept": [METRICS, TURNS, BY_PEOPLE],
    }  # fmt: skip
    key = arm_key(settings, *CODE, own=__file__)
    folder = arms.folder / f"critic-{key}"

    starts = {
        part: arms.result(f"before {part}", key, partial(before, part))
        for part in ("chain", "labels")
    }
    chains = [arms.result(f"chain {seed}", key, partial(chain, seed, folder)) for seed in SEEDS]
    labelled = {
        seed: arms.result(f"pairs {seed}", key, partial(gathered, seed, folder)) for seed in SEEDS
    }
    runs = arms.run_all(
        ARMS, SEEDS, partial(run, labelled=labelled),
        key=lambda arm: arm_key(settings | {"arm": ARMS[arm]}, *CODE, own=__file__),
    )  # fmt: skip
    record = {
        "settings": SETTINGS,
        "arms": ARMS,
        "before": starts,
        "chains": chains,
        "labellers": [
            {"seed": one["seed"], "pairs": len(one["pairs"]),
             "agreement": {name: worth(one["pairs"], labels)
                           for name, labels in one["labels"].items() if name != "oracle"}}
            for one in labelled.values()
        ],
        "runs": runs,
    }  # fmt: skip
    took = minutes(one["seconds"] for one in (*chains, *labelled.values(), *runs))
    write_record(__file__, TARGET, record, seeds=SEEDS, training_minutes=took, start=begin[:12])


if __name__ == "__main__":
    main()
