"""Constitutional AI: a model criticises, revises and labels replies by written rules.

- rules: the constitution as a YAML file
- speakers: the model that criticises, either a policy in memory or an endpoint
- criticism: critiques and revisions, and SFT rows made from them
- labellers: labels for pairs of replies, and rows for DPO
- soft: labels as probabilities, and a reward from the same numbers
- labels: how accurate such labels are, and what they cost
- bill: what a labeller's tokens cost
- rows: rows that teach the embedded model to criticise
"""

from postlab import _doors
from postlab.constitution.bill import token_cost
from postlab.constitution.criticism import failed_examples, revised_rows
from postlab.constitution.labellers import (
    Labeller,
    Pair,
    chance_labeller,
    comparing_labeller,
    critic_labeller,
    label_pairs,
    labelled_rows,
)
from postlab.constitution.labels import (
    Agreement,
    agreement,
    comparison_cost,
    mixed_labels,
    noisy_labels,
)
from postlab.constitution.rows import critic_rows
from postlab.constitution.rules import Constitution, Example, Rule, load_constitution
from postlab.constitution.soft import breach_chances, soft_labels
from postlab.constitution.speakers import (
    Speaker,
    endpoint_speaker,
    policy_speaker,
    verdict_chances,
)

__all__ = [
    "Agreement",
    "Constitution",
    "Example",
    "Labeller",
    "Pair",
    "Rule",
    "Speaker",
    "agreement",
    "breach_chances",
    "chance_labeller",
    "comparing_labeller",
    "comparison_cost",
    "critic_labeller",
    "critic_rows",
    "endpoint_speaker",
    "failed_examples",
    "label_pairs",
    "labelled_rows",
    "load_constitution",
    "mixed_labels",
    "noisy_labels",
    "policy_speaker",
    "revised_rows",
    "soft_labels",
    "token_cost",
    "verdict_chances",
]

_doors.publish(__name__)
