"""Raw rows in, rows in TRL's formats out, with prompts and replies as message lists."""

from postlab import _doors
from postlab.datasets._everyday import WITHIN_REACH, everyday_file
from postlab.datasets._hub import whole_split
from postlab.datasets._measures import domain_of, row_text
from postlab.datasets._mixture import TARGET_MIX, mix
from postlab.datasets._near import grams, near_duplicates, words_of
from postlab.datasets._rows import Rows
from postlab.datasets.curation import Curation, curate, overlap
from postlab.datasets.instructions import instruction_rows
from postlab.datasets.math import math_rows
from postlab.datasets.preferences import preference_rows, unpaired_rows
from postlab.datasets.steps import step_rows
from postlab.datasets.verifiable import code_rows, json_rows

__all__ = [
    "TARGET_MIX",
    "WITHIN_REACH",
    "Curation",
    "Rows",
    "code_rows",
    "curate",
    "domain_of",
    "everyday_file",
    "grams",
    "instruction_rows",
    "json_rows",
    "math_rows",
    "mix",
    "near_duplicates",
    "overlap",
    "preference_rows",
    "row_text",
    "step_rows",
    "unpaired_rows",
    "whole_split",
    "words_of",
]

_doors.publish(__name__)
