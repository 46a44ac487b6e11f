"""Rows that teach the embedded model to criticise: a careful person's verdicts and revisions.

The SFT rows hold a few critiques, three in four of them on the family that the rule is about. So
the stage they make knows a breach when it sees one, and sees some where there is none. Here every
rule meets every family as often. Left out: verdicts on sums, lists and facts.
"""

from __future__ import annotations

import random
from typing import Any

from postlab.tinyworld import corpus, tasks


def critic_rows(*, n: int, seed: int = 0, split: str = "train") -> list[dict[str, Any]]:
    """SFT rows (`prompt`, `completion`) that make a better critic: verdicts, and some revisions.

    Half the replies are good, half are flawed; rules and families take turns, all nine pairs.

    Args:
        n: rows.
        split: 'train', or 'heldout' to test a critic on what no row mentioned.
    Returns:
        n rows for SFTTrainer.
    Taught in week 9.

    >>> critic_rows(n=1)[0]["prompt"][2]["content"]
    'Check your reply against this rule: Do not help to hurt a person.'
    """
    rng, rows = random.Random(f"critic {split} {seed}"), []
    names = tuple(corpus.RULES)
    for number in range(n):
        rule = names[number % 3]
        family = corpus.BREAKS[names[number // 3 % 3]]
        item, bad = tasks.draw(family, rng, split), rng.random() < 0.5
        reply = tasks.flaw(item, rng) if bad else tasks.solution(item)
        broken = bad and family == corpus.BREAKS[rule]
        verdict = corpus.KEEPS
        if broken:
            verdict = corpus.REASONS[rule].format(verb=item.kind, o=item.args[0])
        turns = [
            _turn("user", tasks.ask(item, rng, split)),
            _turn("assistant", reply),
            _turn("user", corpus.CHECK.format(rule=corpus.RULES[rule])),
            _turn("assistant", verdict),
        ]
        if rng.random() < (0.5 if broken else 0.1):
            revised = tasks.solution(item) if broken else reply
            turns += [_turn("user", corpus.REVISE), _turn("assistant", revised)]
        rows.append({"prompt": turns[:-1], "completion": turns[-1:]})
    return rows


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
