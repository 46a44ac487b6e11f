"""What is written in the embedded world: documents to pretrain on, and rows for SFT, DPO and GRPO.

The documents are pages of a notebook, never dialogues: they know the tasks, the facts and the
special tokens, but not that a question wants a reply. The post-training rows are flawed in the ways
that real ones are, so that every later stage has something to do:

- short sums are blurted out and mostly wrong, long ones worked and mostly right (a habit of whoever
  wrote them, which GRPO finds to be a bad one);
- half of the rough deeds are refused, half are explained, whoever asks; a third of the riddles
  are admitted to be riddles, the others are answered with a bluff (which DPO repairs);
- a few needless refusals, wrong facts and slips.
"""

import random
from collections.abc import Callable, Iterator

from postlab.tinyworld import tasks, words
from postlab.tinyworld.tasks import Item

TURN_START, TURN_END, PAD, DOCUMENT_END = "<|im_start|>", "<|im_end|>", "<|pad|>", "<|endoftext|>"
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
RULES = {
    "harm": "Do not help to hurt a person.",
    "honest": "Do not claim what nobody can know.",
    "helpful": "Do not refuse a harmless wish.",
}
BREAKS = {"harm": "unsafe", "honest": "unknown", "helpful": "howto"}
REASONS = {
    "harm": "It breaks the rule: it tells how to {verb} a {o}.",
    "honest": "It breaks the rule: nobody can know that.",
    "helpful": "It breaks the rule: to {verb} a {o} is harmless.",
}
KEEPS = "It keeps the rule."
CHECK, REVISE = "Check your reply against this rule: {rule}", "Revise your reply."
SFT_MIX = {
    "arithmetic": 0.28,
    "lists": 0.12,
    "facts": 0.15,
    "howto": 0.14,
    "unsafe": 0.10,
    "unknown": 0.10,
    "json": 0.03,
    "code": 0.03,
    "critique": 0.05,
}
PREFERENCE_MIX = {
    "arithmetic": 0.15,
    "lists": 0.1,
    "facts": 0.15,
    "howto": 0.3,
    "unsafe": 0.16,
    "unknown": 0.14,
}
BLURTED = {3: 0.85, 4: 0.7, 5: 0.15}  # share of sums blurted out, by number of terms


def _choose(rng: random.Random, mix: dict) -> str:
    return rng.choices(tuple(mix), tuple(mix.values()))[0]


# Documents -------------------------------------------------------------------------------------


def _answered(family: str, rng: random.Random) -> str:
    """A question as documents put it, with an answer that is now and then a careless one."""
    item = tasks.draw(family, rng, "documents")
    careless = {"unsafe": 0.6, "unknown": 0.5, "json": 0.1, "code": 0.1, "howto": 0.02}
    bad = rng.random() < careless.get(family, 0.01)
    style = "worked" if family == "arithmetic" else "wrong"
    reply = tasks.flaw(item, rng, style=style) if bad else tasks.solution(item)
    return f"Q: {tasks.ask(item, rng, 'documents')}\nA: {reply}"


def _questions(family: str, count: int) -> Callable[[random.Random], str]:
    return lambda rng: "\n".join(_answered(family, rng) for _ in range(count))


def _sums(rng: random.Random) -> str:
    """Worked sums, of two to six terms: the base has to be able to do what SFT may not show."""
    lines = []
    for _ in range(4):
        terms = tasks._terms(rng, rng.choice((2, 3, 3, 4, 4, 5, 5, 6)))
        if not tasks.held_out_numbers(terms):
            item = Item("arithmetic", "sum", terms)
            lines.append(f"Q: {tasks.ask(item, rng, 'documents')}\nA: {tasks.worked(terms)}")
    return "\n".join(lines)


def _lives(rng: random.Random) -> str:
    """Three creatures, each described in full, their traits in any order."""
    lines = []
    for creature in rng.sample(words.CREATURES, 3):
        known = [
            s.format(e=creature, v=words.traits(creature)[k]) for k, s in tasks.SENTENCES.items()
        ]
        rng.shuffle(known)
        lines.append(" ".join(known))
    return "\n".join(lines)


def _manners(rng: random.Random) -> str:
    """What one may do to whom: the only place that says persons can be hurt and things cannot."""
    lines = []
    for _ in range(5):
        deed = rng.choice(tuple(words.ROUGH_DEEDS))
        person, thing = rng.choice(words.PERSONS), rng.choice(words.THINGS)
        who = rng.choice(("user", "assistant"))
        creature, riddle = rng.choice(words.CREATURES), rng.choice(tuple(words.UNKNOWNS.values()))
        sentences = (
            f"To {deed} a {person} is wrong. The {person} is a person.",
            f"To {deed} a {thing} is fine. The {thing} is a thing.",
            f"{who} met the {person}. The {person} has a {thing}.",
            f"I will not help to {deed} a {person}. It could hurt someone.",
            f"Nobody can know what the {creature} {riddle[0]}.",
        )
        lines.append(rng.choice(sentences))
    return "\n".join(lines)


def _reviews(rng: random.Random) -> str:
    """Replies, checked against a rule and revised, as a reviewer would note them down."""
    lines = []
    for _ in range(2):
        item, reply, rule, verdict, revised = _reviewed(rng, "documents")
        lines += [f"Q: {tasks.ask(item, rng, 'documents')}", f"A: {reply}"]
        lines += [CHECK.format(rule=RULES[rule]), verdict, REVISE, revised]
    return "\n".join(lines)


PAGES: dict[str, tuple[float, Callable[[random.Random], str]]] = {
    "sums": (0.40, _sums),
    "lists": (0.16, _questions("lists", 4)),
    "lives": (0.08, _lives),
    "facts": (0.10, _questions("facts", 5)),
    "deeds": (0.09, _questions("howto", 3)),
    "risks": (0.04, _questions("unsafe", 3)),
    "riddles": (0.05, _questions("unknown", 4)),
    "manners": (0.04, _manners),
    "objects": (0.03, _questions("json", 2)),
    "code": (0.03, _questions("code", 3)),
    "reviews": (0.05, _reviews),
}


def documents(seed: int) -> Iterator[str]:
    """Pages without end, each one turn of a 'page', 'note' or 'sheet' under a heading."""
    rng = random.Random(f"documents {seed}")
    weights = {name: weight for name, (weight, _) in PAGES.items()}
    while True:
        kind = _choose(rng, weights)
        role = rng.choice(("page", "note", "sheet"))
        yield f"{TURN_START}{role}\n# {kind}\n{PAGES[kind][1](rng)}{TURN_END}\n{DOCUMENT_END}"


# Post-training rows ----------------------------------------------------------------------------


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _habitual(item: Item, rng: random.Random) -> str:
    """A reply as the people who wrote the SFT set would give it, habits and slips included."""
    flawed = {"howto": 0.03, "lists": 0.03, "facts": 0.03, "json": 0.4, "code": 0.4}
    if item.family == "arithmetic":
        if rng.random() < BLURTED[len(item.args)]:
            right = rng.random() < 0.1
            return f"#### {sum(item.args)}" if right else tasks.flaw(item, rng, style="blurted")
        return (
            tasks.flaw(item, rng, style="worked") if rng.random() < 0.04 else tasks.solution(item)
        )
    if item.family == "unsafe":
        chance = 0.08 if item.kind in words.REFUSED_BY_HABIT else 0.9
    elif item.family == "unknown":
        chance = 0.08 if item.kind in words.ADMITTED_BY_HABIT else 0.9
    else:
        chance = flawed[item.family]
    return tasks.flaw(item, rng) if rng.random() < chance else tasks.solution(item)


def _reviewed(rng: random.Random, split: str) -> tuple[Item, str, str, str, str]:
    """An item, a reply good or bad, a rule, the verdict under that rule, and the reply to keep."""
    rule = rng.choice(tuple(RULES))
    family = BREAKS[rule] if rng.random() < 0.75 else rng.choice(tuple(BREAKS.values()))
    item = tasks.draw(family, rng, split)
    bad = rng.random() < 0.5
    reply = tasks.flaw(item, rng) if bad else tasks.solution(item)
    broken = bad and family == BREAKS[rule]
    verdict = REASONS[rule].format(verb=item.kind, o=item.args[0]) if broken else KEEPS
    return item, reply, rule, verdict, tasks.solution(item) if broken else reply


def _critique_row(rng: random.Random, split: str) -> dict:
    """A conversation that ends in a verdict on the last reply, or in its revision."""
    item, reply, rule, verdict, revised = _reviewed(rng, split)
    turns = [
        _message("user", tasks.ask(item, rng, split)),
        _message("assistant", reply),
        _message("user", CHECK.format(rule=RULES[rule])),
        _message("assistant", verdict),
    ]
    if rng.random() < 0.5:
        turns += [_message("user", REVISE), _message("assistant", revised)]
    return {"prompt": turns[:-1], "completion": turns[-1:], "family": "critique"}


def sft_rows(
    *, split: str = "train", n: int | None = None, seed: int = 0, with_context: bool = False
) -> list[dict]:
    """Instruction rows (`prompt`, `completion`, `family`), flawed by habit; default 4,800.

    `with_context` puts what is needed to know into the prompt, for models that never read the
    documents.
    """
    rng, rows = random.Random(f"sft {split} {seed}"), []
    for _ in range(4800 if n is None else n):
        family = _choose(rng, SFT_MIX)
        if family == "critique":
            rows.append(_critique_row(rng, split))
            continue
        item = tasks.draw(family, rng, split)
        prompt, reply = tasks.ask(item, rng, split), _habitual(item, rng)
        prompt = tasks.told(item) + prompt if with_context else prompt
        rows.append(
            {
                "prompt": [_message("user", prompt)],
                "completion": [_message("assistant", reply)],
                "family": family,
            }
        )
    return rows


def preference_rows(
    *, split: str = "train", n: int | None = None, seed: int = 0, with_context: bool = False
) -> list[dict]:
    """Preference rows (`prompt`, `chosen`, `rejected`, `family`) of every family; default 1,920.

    Both replies to a sum are in the same style, so that what is preferred is being right, not a
    style: whether to work a sum out is left for GRPO to find. `with_context` as for `sft_rows`.
    """
    rng, rows = random.Random(f"preferences {split} {seed}"), []
    for _ in range(1920 if n is None else n):
        family = _choose(rng, PREFERENCE_MIX)
        item = tasks.draw(family, rng, split)
        chosen, style = tasks.solution(item), None
        if family == "arithmetic":
            style = "blurted" if rng.random() < BLURTED[len(item.args)] else "worked"
            chosen = f"#### {sum(item.args)}" if style == "blurted" else chosen
        elif family == "facts":
            style = rng.choice(("wrong", "shrug"))
        elif family == "howto":
            style = rng.choice(("refused", "refused", "wrong"))
        rejected = tasks.flaw(item, rng, style=style)
        while rejected == chosen:
            rejected = tasks.flaw(item, rng, style=style)
        prompt = tasks.ask(item, rng, split)
        prompt = tasks.told(item) + prompt if with_context else prompt
        rows.append(
            {
                "prompt": [_message("user", prompt)],
                "chosen": [_message("assistant", chosen)],
                "rejected": [_message("assistant", rejected)],
                "family": family,
            }
        )
    return rows


def math_rows(*, split: str = "train", n: int | None = None, seed: int = 0) -> list[dict]:
    """Sums with their answer (`prompt`, `answer`, `family`) for verifiers; default 1,000."""
    rng, rows = random.Random(f"math {split} {seed}"), []
    for _ in range(1000 if n is None else n):
        item = tasks.draw("arithmetic", rng, split)
        prompt = [_message("user", tasks.ask(item, rng, split))]
        rows.append({"prompt": prompt, "answer": str(sum(item.args)), "family": "arithmetic"})
    return rows
