"""Several objectives at once: judges that disagree, mixtures, soups and Pareto fronts.

- judges: three judges, each of which looks at one thing only
- mixing: prompts, pairs mixed by weight, and one step of the Lagrange multiplier
- soups: adapters averaged exactly
- front: the Pareto front of a set of points, and the hypervolume under it
"""

from postlab import _doors
from postlab.objectives.front import hypervolume, pareto_front
from postlab.objectives.judges import JUDGES, judge_reward
from postlab.objectives.mixing import PROMPT_FAMILIES, dual_step, objective_rows, prompts
from postlab.objectives.soups import simplex, soup

__all__ = [
    "JUDGES",
    "PROMPT_FAMILIES",
    "dual_step",
    "hypervolume",
    "judge_reward",
    "objective_rows",
    "pareto_front",
    "prompts",
    "simplex",
    "soup",
]

_doors.publish(__name__)
