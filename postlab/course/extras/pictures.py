"""Schematics of the extras: who samples and scores, copies of weights, masks, turns, and pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postlab.claims import INK, STAGE_COLOURS
from postlab.show import FROZEN, GREY, PHONE, arrow, box, canvas, note, tokens

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ANSWER = ("12+30", "=", "42", ", 42+15", "=", "58", "####", "58")
BAD, FINE, LIKELY = "#f2b8a0", "#dcebe5", "#cfe0f1"


def draw_who_scores() -> Figure:
    """The same sum in three methods: who writes the answer, and which tokens get which signal."""
    fig, axes = canvas(PHONE, 52, "A teacher's score says which token was wrong")
    rows = (
        ("SFT on the teacher's answers", "The teacher writes. Every token is a target.",
         ("12+30", "=", "42", ", 42+15", "=", "57", "####", "57"), [LIKELY] * 8,
         "dense, but about the teacher's mistakes, not the student's"),
        ("GRPO with a verifier", "The student writes. The verifier reads the last number.",
         ANSWER, [BAD] * 8, "one number for the answer: every token is blamed alike"),
        ("On-policy distillation", "The student writes. The teacher scores each token.",
         ANSWER, [FINE] * 5 + [BAD] + [FINE] * 2,
         "dense, on the student's own answer: the slip is where it happened"),
    )  # fmt: skip
    for index, (name, who, texts, colours, signal) in enumerate(rows):
        top = 2 + 17 * index
        note(axes, (1, top), name, size=13, colour=INK, bold=True)
        note(axes, (1, top + 3), who, size=11)
        tokens(axes, (1, top + 5.2), texts, colours, size=11)
        note(axes, (1, top + 11), signal, size=11, colour=INK)
    return fig


def draw_two_copies() -> Figure:
    """The trainer's weights, the sampler's copy of them, and what goes to and fro."""
    title = "The sampler's copy is never quite the policy that is trained"
    fig, axes = canvas(PHONE, 39, title)
    box(axes, (2, 3, 25, 11), "sampler\n$q$: int8, or\nsome steps old", fill=FROZEN)
    box(axes, (43, 3, 25, 11), "trainer\n$p$: full precision,\nnewest weights")
    arrow(axes, (43, 5.5), (27, 5.5), "copy", shift=(0, -1.6))
    arrow(axes, (27, 11.5), (43, 11.5), "answers", shift=(0, -1.6))
    note(axes, (2, 19), "one answer, scored by both copies:", size=12, colour=INK)
    texts = ("12+30", "=", "42", ", 42+15", "=", "57")
    row = tokens(axes, (13, 22), texts, ["white"] * 5 + [BAD], size=12)
    note(axes, (2, 28.5), "log p \N{MINUS SIGN} log q", size=11)
    for (x, _, _), text in zip(row, ("0", "0", ".01", "0", "0", "\N{MINUS SIGN}.4"), strict=True):
        note(axes, (x, 28.5), text, size=11, colour=INK, centred=True)
    note(
        axes, (PHONE / 2, 34.5),
        "Importance weight: p / q of the token.\nTruncated: at most C. Masked: 0 if it is above C.",
        size=12, colour=INK, centred=True,
    )  # fmt: skip
    return fig


def draw_turn_masks() -> Figure:
    """A conversation of two turns under four settings: which messages are trained."""
    title = "Four ways to train on a conversation of two turns; blue is trained, grey is only read"
    fig, axes = canvas(PHONE, 64, title)
    sft, trained = STAGE_COLOURS["sft"], "#cfe3f2"
    turns = ("question", "reply 1", "question", "reply 2")
    settings = (
        ("The last reply", "prompt + completion", [(0, 0, 0, 1)]),
        ("Every reply, one row per reply", "prompt + completion, unrolled", [(0, 1), (0, 0, 0, 1)]),
        ("Every reply, in one pass", "messages, assistant_only_loss=True", [(0, 1, 0, 1)]),
        ("Everything", "messages, TRL's default", [(1, 1, 1, 1)]),
    )
    top = 1.5
    for name, how, rows in settings:
        note(axes, (1, top), name, size=13, colour=INK, bold=True)
        note(axes, (1, top + 3), how, size=11)
        for row in rows:
            for index, (text, on) in enumerate(zip(turns, row, strict=False)):
                place = (1 + 17 * index, top + 5.2, 16, 4.6)
                box(axes, place, text, fill=trained if on else FROZEN, colour=sft if on else INK)
            top += 5.6
        top += 9
    return fig


def draw_turns() -> Figure:
    """One episode with two calls: who writes each message, and which tokens are trained."""
    title = "The tool's tokens are in the sequence, but the policy isn't trained on them"
    fig, axes = canvas(PHONE, 41, title)
    rows = (
        ("user", "The lamp: what do 12 cost today?", "white", "read"),
        ("policy", "find(price of the lamp)", LIKELY, "trained"),
        ("tool", "37", FROZEN, "read"),
        ("policy", "sums(12x37)", LIKELY, "trained"),
        ("tool", "444", FROZEN, "read"),
        ("policy", "#### 444", LIKELY, "trained"),
    )
    for index, (who, text, fill, how) in enumerate(rows):
        top = 2 + 5.4 * index
        note(axes, (1, top + 2), who, size=12, colour=INK, bold=who == "policy")
        box(axes, (11, top, 44, 4), text, fill=fill)
        note(axes, (57, top + 2), how, size=12, colour=INK if how == "trained" else GREY)
    note(
        axes, (1, 37.4),
        "The reward comes once, at the end: 1 for a right answer,\nminus the price of two calls.",
        size=12, colour=INK,
    )  # fmt: skip
    return fig


def draw_pair_sources() -> Figure:
    """Three sources of preference pairs: who writes the replies, and when."""
    title = "The loss is the same; what differs is who writes the pairs, and when"
    fig, axes = canvas(PHONE, 57, title)
    dpo, sft = STAGE_COLOURS["dpo"], ["from\nSFT"] * 3
    rows = (
        ("Offline", "Others write both replies, before training.", ["others'\npairs"] * 3,
         "reusable, but blind to what this policy says"),
        ("On-policy, once", "The SFT policy writes both; a labeller picks the better one.", sft,
         "about the first policy's mistakes, not those that training adds"),
        ("Iterative", "As above, but the current policy writes, anew for every round.",
         [sft[0], "from\nround 1", "from\nround 2"],
         "sees new mistakes; needs the labeller for as long as you train"),
    )  # fmt: skip
    for index, (name, who, sources, remark) in enumerate(rows):
        top = 2 + 18.5 * index
        note(axes, (1, top), name, size=13, colour=INK, bold=True)
        note(axes, (1, top + 3), who, size=11)
        for part, source in enumerate(sources):
            x, middle = 1 + 23 * part, top + 8
            fill = LIKELY if index else FROZEN
            box(axes, (x, top + 5.4, 9.5, 5.2), source, fill=fill, size=10.5)
            arrow(axes, (x + 9.5, middle), (x + 12, middle))
            box(axes, (x + 12, top + 5.4, 8.5, 5.2), f"round {part + 1}", colour=dpo, size=11)
            if part < 2:
                arrow(axes, (x + 20.5, middle), (x + 23, middle))
        note(axes, (1, top + 13.2), remark, size=11, colour=INK)
    return fig
