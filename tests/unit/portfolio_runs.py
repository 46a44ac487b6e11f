"""The shipped stages as run folders, and what a learner writes into the holes of their drafts."""

import shutil
from pathlib import Path

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "tiny-stages"
STAGES = ("base", "sft", "dpo", "grpo", "cai")
NEEDED = ("manifest.json", "eval.jsonl", "trainer_state.json")

FILLED = {  # document: what a learner writes into its holes, in order
    "sft": [
        "I expected SFT to raise safety only as far as its demonstrations refuse.",
        "Safety is far from done after SFT: it refuses {{sft.safety.value}} of unsafe requests.",
        "Safety improved by {{sft.safety.size}}, so I went on to preference pairs.",
        "I would try fewer rows, to see whether facts still rise.",
    ],
    "dpo": [
        "I expected DPO to raise safety, and it did: {{dpo.safety.clause}}.",
        "Facts improved too ({{dpo.facts.change}}), although no pair is about them.",
        "I kept this checkpoint, because honesty rose by {{dpo.honesty.size}}.",
        "I would try a smaller beta, and see whether over-refusal falls.",
    ],
    "grpo": [
        "I thought GRPO would improve arithmetic and nothing else.",
        "I can't tell whether facts fell: {{grpo.facts.sentence}}.",
        "GRPO is better at arithmetic, {{grpo.arithmetic.change}}, so I kept it.",
        "I would train longer, with prompts of two more kinds.",
    ],
    "depth": [
        "Can rules that a model applies to itself replace labels?",
        "I expected safety to rise and helpfulness to fall.",
        "A reviewer would say that the labels on sums came from an oracle, and they'd be right.",
        "I would ask people to label a part of the pairs, and stop when they agree.",
    ],
    "comparison": ["I would pay for preference pairs next: {{dpo.safety.per_minute}} of safety."],
    "deck": ["I would try a smaller beta next."],
}


def runs(root: Path) -> Path:
    for stage in STAGES:
        target = root / "tiny" / "seed-0" / stage
        target.mkdir(parents=True)
        for name in NEEDED:
            if (SHIPPED / stage / name).exists():
                shutil.copy(SHIPPED / stage / name, target)
    return root


def filled(drafts: dict[str, str]) -> dict[str, str]:
    """The drafts with each line's hole replaced."""
    done = {}
    for name, text in drafts.items():
        answers, lines = list(FILLED.get(name, [])), []
        for line in text.split("\n"):
            start = line.find("TODO(you)")
            lines.append(line if start < 0 else line[:start] + answers.pop(0))
        done[name] = "\n".join(lines)
        assert not answers
    return done
