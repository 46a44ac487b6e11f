"""Four draft sentences about your own runs: which of them claim more than the runs support?

Each sentence is made from a claim of `postlab.claims`, so its numbers are right. What can be wrong
is what it makes of them: an inconclusive change told as a loss or as no change at all, or a caveat
left out that takes the sentence's meaning away. Left out: wrong numbers, which the audit finds.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from postlab.claims import CAVEATS, Claim, is_share, metric_label, points, stage_label

SUPPORTED = ("better", "worse")
# Caveats that a plain sentence about a gain can't do without, the gravest first.
GRAVE = ("copied", "noted", "new_format", "few_prompts", "one_seed")


@dataclass(frozen=True)
class Draft:
    """One sentence.

    Args:
        letter: to refer to it.
        text: the sentence.
        claim: that it was made from.
        why: what is wrong with it; "" if the runs support it.
    """

    letter: str
    text: str
    claim: Claim
    why: str


class Drafts:
    """The sentences, to be read and then judged with `check`.

    Args:
        sentences: in the order in which they are shown.
    """

    def __init__(self, sentences: Sequence[Draft]) -> None:
        self.sentences = tuple(sentences)

    def __str__(self) -> str:
        return "\n".join(f"{s.letter}  {s.text}" for s in self.sentences)

    def check(self, letters: Iterable[str] | None) -> None:
        """Print what is right and wrong about an answer.

        Args:
            letters: of the sentences that claim too much; None if you haven't looked yet.
        Raises:
            ValueError: if a letter belongs to no sentence.
        """
        if letters is None:
            print("· overclaims: not attempted")
            return
        known = {s.letter: s for s in self.sentences}
        chosen = {letter.strip().upper() for letter in letters}
        if unknown := chosen - set(known):
            raise ValueError(
                f"no sentence {', '.join(sorted(unknown))}; the letters are {', '.join(known)}"
            )
        wrong = {letter for letter, s in known.items() if s.why}
        for letter, sentence in known.items():
            if letter in wrong:
                print(
                    f"{'✓' if letter in chosen else '✗'} {letter} claims too much: {sentence.why}"
                )
            elif letter in chosen:
                print(f"✗ {letter} is supported: {sentence.claim}")
        if chosen == wrong:
            print("✓ overclaims: right")


def draft_sentences(claims: Sequence[Claim], *, seed: int = 0) -> Drafts:
    """Up to four sentences about these claims, one of each kind that they allow.

    Args:
        claims: `postlab.claims.claims(profile)`.
        seed: of the order.
    Raises:
        ValueError: if no claim is about a share, so there is nothing to say.
    """
    usable = sorted((c for c in claims if is_share(c.metric)), key=lambda c: (c.p, c.stage))
    if not usable:
        raise ValueError("got no claim about a share; evaluate a stage and its parent first")
    open_ones = sorted(
        (c for c in usable if c.verdict == "inconclusive" and "copied" not in c.caveats),
        key=lambda c: c.change,
    )
    settled = [c for c in usable if c.verdict in SUPPORTED and "copied" not in c.caveats]
    made: list[tuple[str, Claim, str]] = []
    if plain := [c for c in settled if not set(c.caveats) & set(GRAVE)] or settled:
        text = f"{_gain(plain[0]).removesuffix('.')} ({_caveats(plain[0])})."
        made.append((text, plain[0], ""))
    if open_ones and open_ones[0].change < 0:
        lost = open_ones.pop(0)
        size = points(-lost.change).lstrip("+")
        text = f"{stage_label(lost.stage)} lowered {_name(lost)} by {size} points."
        made.append((text, lost, f"the runs don't settle this: {_interval(lost)}"))
    if open_ones:
        same = open_ones[len(open_ones) // 2]
        text = f"{stage_label(same.stage)} left {_name(same)} unchanged."
        why = f"inconclusive isn't 'no change': {_interval(same)}"
        made.append((text, same, why))
    grave = [(code, c) for code in GRAVE for c in usable if code in c.caveats]
    if grave := [(code, c) for code, c in grave if all(c is not other for _, other, _ in made)]:
        code, claim = grave[0]
        if code == "copied":
            text = f"{stage_label(claim.stage)} preserved {_name(claim)}."
        else:
            text = _gain(claim)
        made.append((text, claim, f"it leaves out a caveat: {claim.caveats[code]}"))
    random.Random(seed).shuffle(made)
    return Drafts([Draft("ABCD"[i], *each) for i, each in enumerate(made)])


def _gain(claim: Claim) -> str:
    verb = "raised" if claim.change > 0 else "lowered"
    size = points(abs(claim.change)).lstrip("+")
    return f"{stage_label(claim.stage)} {verb} {_name(claim)} by {size} points."


def _name(claim: Claim) -> str:
    return metric_label(claim.metric).lower()


def _interval(claim: Claim) -> str:
    low, high = points(claim.change_low), points(claim.change_high)
    return f"{low} to {high} points, p {claim.p:.2f} after Holm's correction"


def _caveats(claim: Claim) -> str:
    return (
        "; ".join(claim.caveats.values())
        or f"{claim.n} prompts, {claim.agree} of {len(claim.verdicts)} seeds"
    )


assert set(GRAVE) <= set(CAVEATS)
