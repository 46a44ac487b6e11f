"""Constitutional AI: a model that criticises, revises and labels by written rules.

- rules: the constitution as a YAML file
- speakers: who criticises: a policy or an endpoint
- criticism: critiques and revisions, and SFT rows made of them
- labellers: labels of pairs of replies, and rows for DPO
- labels: what such labels are worth and cost
- rows: rows that teach the embedded model to criticise
"""

from postlab.constitution.criticism import failed_examples, revised_rows
from postlab.constitution.labellers import (
    Labeller,
    Pair,
    chance_labeller,
    critic_labeller,
    label_pairs,
    labelled_rows,
)
from postlab.constitution.labels import agreement, comparison_cost, mixed_labels, noisy_labels
from postlab.constitution.rows import critic_rows
from postlab.constitution.rules import Constitution, Rule, load_constitution
from postlab.constitution.speakers import Speaker, policy_speaker, verdict_chances

__all__ = [
    "Constitution",
    "Labeller",
    "Pair",
    "Rule",
    "Speaker",
    "agreement",
    "chance_labeller",
    "comparison_cost",
    "critic_labeller",
    "critic_rows",
    "failed_examples",
    "label_pairs",
    "labelled_rows",
    "load_constitution",
    "mixed_labels",
    "noisy_labels",
    "policy_speaker",
    "revised_rows",
    "verdict_chances",
]
