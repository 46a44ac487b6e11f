"""Week 4's pictures of ideas: the four models of RLHF, and RLHF beside DPO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postlab.claims import STAGE_COLOURS
from postlab.course.week04.figures import PPO
from postlab.show import FROZEN, PHONE, arrow, box, canvas, note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPO = STAGE_COLOURS["dpo"]


def draw_four_models() -> Figure:
    """Who is trained in RLHF, who is frozen, and what flows between them in one PPO step."""
    fig, axes = canvas(PHONE, 58, "RLHF: PPO trains two models; two stay frozen")
    box(axes, (1, 2, 14, 7), "a prompt")
    box(axes, (22, 1, 28, 9), "policy\ntrained, starts from SFT", colour=PPO, bold=True)
    arrow(axes, (15, 5.5), (22, 5.5))
    arrow(axes, (36, 10), (36, 15))
    note(axes, (37, 12.5), "samples")
    box(axes, (22, 15, 28, 6), "a reply, token by token")
    parts = (
        (1, 19, "reward model\nfrozen", "one score\nper reply"),
        (22, 20, "reference\nfrozen SFT copy", "log-prob of\neach token"),
        (44, 17, "critic\ntrained", "reward still\nexpected"),
    )
    for x, width, text, flow in parts:
        trained = text.startswith("critic")
        style = {"colour": PPO, "bold": True} if trained else {"fill": FROZEN}
        box(axes, (x, 28, width, 9), text, **style)
        middle = x + width / 2
        arrow(axes, (36 + (middle - 36) * 0.35, 21), (middle, 28))
        arrow(axes, (middle, 37), (middle, 47))
        note(axes, (middle + 1, 42), flow, size=10.5)
    earned = "score \N{MINUS SIGN} \N{GREEK SMALL LETTER BETA} KL"
    total = f"{earned}, compared with what the critic expected\n= the advantage of each token"
    box(axes, (1, 47, 68, 9), total)
    axes.plot([66, 66], [47, 5.5], color=PPO, linewidth=1.8)  # the way back, around the critic
    arrow(axes, (66, 5.5), (50, 5.5), colour=PPO)
    note(axes, (52, 2.8), "gradient", colour=PPO, bold=True)
    return fig


def draw_two_roads() -> Figure:
    """RLHF beside DPO: the same pairs, then other data, other models in memory, other loops."""
    fig, axes = canvas(PHONE, 66, "DPO leaves out the reward model and the sampling loop")
    box(axes, (14, 1, 42, 6), "pairs: chosen and rejected replies", bold=True)
    arrow(axes, (25, 7), (17, 13))
    arrow(axes, (45, 7), (51, 13))
    note(axes, (1, 10), "RLHF", size=13, colour=PPO, bold=True)
    note(axes, (59, 10), "DPO", size=13, colour=DPO, bold=True)
    box(axes, (1, 13, 32, 7), "1. train a reward model", colour=PPO)
    arrow(axes, (17, 20), (17, 24))
    note(axes, (1, 26), "2. the loop, with any prompts:", size=11)
    for y, text in (
        (28.5, "policy samples replies"),
        (37.5, "reward model scores them"),
        (46.5, "PPO updates policy, critic"),
    ):
        box(axes, (5, y, 28, 6), text, colour=PPO)
    arrow(axes, (19, 34.5), (19, 37.5))
    arrow(axes, (19, 43.5), (19, 46.5))
    arrow(axes, (5, 49.5), (5, 31.5), colour=PPO, bend=-0.3)
    box(
        axes,
        (37, 13, 28, 13),
        "log-probs of both replies,\nunder the policy\nand the reference",
        colour=DPO,
    )
    arrow(axes, (51, 26), (51, 33))
    box(axes, (37, 33, 28, 9), "one loss, as in\nsupervised training", colour=DPO)
    arrow(axes, (65, 37.5), (65, 19.5), colour=DPO, bend=0.25)
    note(axes, (51, 46.5), "the loop runs over\nthe recorded pairs", centred=True)
    note(
        axes,
        (17, 60),
        "4 models in memory\n2 trained, 2 frozen\nreplies: new ones every step",
        centred=True,
    )
    note(
        axes,
        (51, 60),
        "2 models in memory\n1 trained, 1 frozen\nreplies: only those in the pairs",
        centred=True,
    )
    return fig
