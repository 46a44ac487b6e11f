"""Raw rows in, rows in TRL's formats out, with prompts and replies as message lists."""

from postlab.datasets.curation import TARGET_MIX, Curation, curate, domain_of, mix, overlap
from postlab.datasets.instructions import instruction_rows
from postlab.datasets.math import math_rows
from postlab.datasets.preferences import preference_rows
from postlab.datasets.steps import step_rows
from postlab.datasets.verifiable import code_rows, json_rows

__all__ = [
    "TARGET_MIX",
    "Curation",
    "code_rows",
    "curate",
    "domain_of",
    "instruction_rows",
    "json_rows",
    "math_rows",
    "mix",
    "overlap",
    "preference_rows",
    "step_rows",
]
