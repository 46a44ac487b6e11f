"""Several objectives at once: judges that disagree, mixtures, soups and fronts.

- judges: three judges, each of whom heeds one thing
- mixing: prompts, pairs mixed by weight, and a step of the multiplier
- soups: adapters averaged exactly
- front: points that no other beats, and the hypervolume under them
"""

from postlab.objectives.front import hypervolume
from postlab.objectives.judges import JUDGES, judged
from postlab.objectives.mixing import PROMPT_FAMILIES, dual_step, objective_rows, prompts
from postlab.objectives.soups import simplex, soup

__all__ = [
    "JUDGES",
    "PROMPT_FAMILIES",
    "dual_step",
    "hypervolume",
    "judged",
    "objective_rows",
    "prompts",
    "simplex",
    "soup",
]
