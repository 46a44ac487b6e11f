"""Constitutional AI: rules in a file, and a model that criticises, revises and labels by them.

The supervised half samples replies, checks each against the rules, has those that break one revised
and gives SFT rows on what is left. The preference half labels pairs of replies and gives rows for
DPO. The critic is a `Speaker` (`speakers`). What its labels are worth, and what they cost, is in
`labels`.

Simplified against the paper: a reply is checked against every rule, in their order, where the paper
draws one at random; a label is a verdict, not a probability; no chain of thought; and DPO on
the labels, where the paper trains a preference model and runs RL on it.

A model's words are data: a verdict is read by one pattern, and what it does not fit is no verdict,
counted and said.
Nothing here makes a critic honest: a reply that says 'this keeps the rule' may be believed.

Source: Bai et al. 2022, arXiv 2212.08073. Taught in week 9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from postlab.constitution.criticism import (
    check_read,
    check_request,
    message,
    preferred,
    read_critiques,
    spoken,
)
from postlab.constitution.rules import Constitution
from postlab.constitution.speakers import (
    Chances,
    Speaker,
)
from postlab.judge import question
from postlab.sampling import Messages

Pair = tuple[Messages, str, str]  # what was asked, one reply, the other
Labeller = Callable[[Sequence[Pair]], list[str]]  # "first", "second" or "tie" a pair
_TURNED = {"first": "second", "second": "first", "tie": "tie"}


def critic_labeller(
    speak: Speaker, constitution: Constitution, *, weigh: str = "count"
) -> Labeller:
    """A labeller that has both replies checked, each by itself, and weighs what they break.

    No position to be biased by, and a reason with every label; but it sees no difference between
    two replies that break nothing. Where a verdict could not be read, nothing counts as broken;
    more than a fifth of such is a warning. Asked in the other order it says the same, turned round:
    `label_pairs(..., swap=False)` asks half as much.

    Args:
        speak: who criticises.
        weigh: 'count', the reply that breaks fewer rules; 'priority', the one that keeps the first
            rule, in the constitution's order, that only one of them keeps.
    Returns:
        A labeller; it raises ValueError if of eight verdicts or more not one could be read.
    Raises:
        ValueError: if weigh is unknown.
    Taught in week 9.
    """
    if weigh not in ("count", "priority"):
        raise ValueError(f"weigh is {weigh!r:.40}; expected 'count' or 'priority'")

    def label(pairs: Sequence[Pair]) -> list[str]:
        replies = [(prompt, text) for prompt, *both in pairs for text in both]
        # 1. One verdict per rule and reply; the two replies of a pair follow each other.
        checked = read_critiques(speak, constitution, replies)
        breaches = [[int(bool(critique.broken)) for critique in group] for group in checked]
        # 2. A reply's faults as a list to compare: the number of broken rules, or rule by rule.
        faults = [[sum(broken)] if weigh == "count" else broken for broken in breaches]
        # 3. The reply with the smaller list is the better one.
        sides = zip(faults[::2], faults[1::2], strict=True)
        return ["tie" if a == b else "first" if a < b else "second" for a, b in sides]

    return label


def chance_labeller(
    chances: Chances, constitution: Constitution, *, margin: float = 0.2
) -> Labeller:
    """A labeller that weighs how *likely* each reply is to break each rule, and not the verdicts.

    It asks one question a reply and rule. As it looks at each reply alone, the other order brings
    the same chances again: `label_pairs(..., swap=False)` gives the same labels for half of it.

    Args:
        chances: of `verdict_chances`.
        margin: how far the sums of chances, a rule each, must lie apart for a label. A critic that
            calls false alarms calls them on both replies, and in a difference they cancel.
    Returns:
        A labeller.
    Raises:
        ValueError: if margin is negative.
    Source: Bai et al. 2022, arXiv 2212.08073, section 4.1, without its preference model.
        Taught in week 9.

    >>> from postlab.constitution import Rule
    >>> rules = Constitution((Rule("harm", "Hurt nobody."),), "{rule}?", "Revise.")
    >>> label, asked = chance_labeller(lambda talks: [0.9, 0.4], rules), []
    >>> label([(asked, "Strike.", "No.")])
    ['second']
    """
    if not margin >= 0:
        raise ValueError(f"margin is {margin}, expected 0 or more")

    def label(pairs: Sequence[Pair]) -> list[str]:
        # 1. One question per reply and rule, with all the rules of a reply together.
        talks = [
            check_request(constitution, rule, prompt, reply)
            for prompt, *both in pairs
            for reply in both
            for rule in constitution.rules
        ]
        breach_chances, rules = chances(talks) if talks else [], len(constitution.rules)
        # 2. The number of rules each reply is expected to break: the sum of its probabilities.
        sums = [sum(breach_chances[i : i + rules]) for i in range(0, len(breach_chances), rules)]
        # 3. The reply expected to break fewer rules wins; a difference below the margin is a tie.
        ahead = [b - a for a, b in zip(sums[::2], sums[1::2], strict=True)]
        return ["tie" if abs(x) < margin else "first" if x > 0 else "second" for x in ahead]

    return label


def comparing_labeller(speak: Speaker, constitution: Constitution) -> Labeller:
    """A labeller that shows a model the rules and both replies, and asks for a letter.

    The way for a large chat model: one question in place of one a rule and reply. Prompt and
    replies are quoted as for `judge.endpoint_judge`. A reply in which no letter can be read is a
    tie; more than a fifth of such is a warning.

    Args:
        speak: who compares. The embedded model never saw such a question.
    Returns:
        A labeller; it raises ValueError if of eight replies or more not one could be read.
    Source: Bai et al. 2022, arXiv 2212.08073, section 4.1. Taught in week 9.
    """
    rules = "\n".join(f"{i}. {rule.text}" for i, rule in enumerate(constitution.rules, start=1))
    opening = f"Better means: breaks none of these rules, or fewer, or later ones.\n{rules}\n"

    def label(pairs: Sequence[Pair]) -> list[str]:
        # 1. Put the rules, the prompt and both replies into one question.
        talks = []
        for prompt, first, second in pairs:
            prompt_text = "\n".join(turn["content"] for turn in prompt)
            talks.append(
                [message("user", opening + question(prompt_text, first, second, tie=True))]
            )
        # 2. Read a letter from each reply; an unreadable reply is counted and becomes a tie.
        replies = spoken(speak, talks)
        sides = [preferred(text) for text in replies]
        unread = [text for text, side in zip(replies, sides, strict=True) if side is None]
        check_read(unread, len(replies), "A, B or tie")
        return [side or "tie" for side in sides]

    return label


def label_pairs(labeller: Labeller, pairs: Sequence[Pair], *, swap: bool = True) -> list[str]:
    """Label pairs of replies, in both orders: only what is said both times is a label.

    Args:
        labeller: pairs -> "first", "second" or "tie" each; `lambda many: [judge(p[-1]["content"],
            a, b) for p, a, b in many]` makes one of a judge from `postlab.judge`.
        pairs: (n,) what was asked, as messages, reply a and reply b.
        swap: ask again with b first; a pair of which the labeller says two things is a tie.
    Returns:
        (n,) "a", "b" or "tie".
    Raises:
        ValueError: if the labeller says something else, or not a label a pair.
    Source: Zheng et al. 2023, arXiv 2306.05685, section 3.4 (swapped order). Taught in week 9.

    >>> asked = [{"role": "user", "content": "2+2?"}]
    >>> label_pairs(lambda pairs: ["first"] * len(pairs), [(asked, "4", "5")])
    ['tie']
    """
    # 1. Label both orders, and swap the labels of the second order back.
    turned = [(prompt, b, a) for prompt, a, b in pairs]
    labels = _labels(labeller, pairs)
    again = [_TURNED[label] for label in _labels(labeller, turned)] if swap else labels
    # 2. A label that changes with the order reflects the position, not the replies.
    names = {"first": "a", "second": "b", "tie": "tie"}
    return [names[x] if x == y else "tie" for x, y in zip(labels, again, strict=True)]


def labelled_rows(pairs: Sequence[Pair], labels: Sequence[str]) -> list[dict]:
    """The preference half's rows for DPOTrainer; ties and pairs of equal replies give none.

    Args:
        pairs: (n,) what was asked, as messages, reply a and reply b.
        labels: (n,) "a", "b" or "tie".
    Returns:
        Rows of `prompt`, `chosen` and `rejected`.
    Raises:
        ValueError: if lengths differ or a label is unknown.
    Taught in week 9.
    """
    if len(pairs) != len(labels):
        raise ValueError(f"{len(pairs)} pairs and {len(labels)} labels; expected a label a pair")
    rows = []
    for number, ((prompt, a, b), label) in enumerate(zip(pairs, labels, strict=True)):
        if label not in ("a", "b", "tie"):
            raise ValueError(f"label {number} is {label!r:.40}; expected 'a', 'b' or 'tie'")
        if label == "tie" or a.strip() == b.strip():
            continue
        better, worse = (a, b) if label == "a" else (b, a)
        row = {"prompt": prompt, "chosen": [message("assistant", better)]}
        rows.append(row | {"rejected": [message("assistant", worse)]})
    return rows


def _labels(labeller: Labeller, pairs: Sequence[Pair]) -> list[str]:
    labels = labeller(pairs)
    if len(labels) != len(pairs):
        raise ValueError(f"the labeller gave {len(labels)} labels for {len(pairs)} pairs")
    for number, label in enumerate(labels):
        if label not in tuple(_TURNED):
            raise ValueError(
                f"pair {number}: the labeller said {label!r:.60}; expected 'first', 'second' or"
                " 'tie'"
            )
    return labels
