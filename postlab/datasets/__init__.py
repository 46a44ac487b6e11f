"""Raw rows in, rows in TRL's formats out, with prompts and replies as message lists."""

from postlab.datasets.instructions import instruction_rows
from postlab.datasets.math import math_rows
from postlab.datasets.preferences import preference_rows

__all__ = ["instruction_rows", "math_rows", "preference_rows"]
