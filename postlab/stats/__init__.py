"""What an evaluation's numbers support: intervals, paired tests, agreement and power.

- intervals: bootstrap, mcnemar, paired differences, win rates, pass@k, and the verdict in words
- basics: what the others share, and Wilson's interval for a proportion
- agreement: Holm, Benjamini-Hochberg, and Cohen's kappa for two raters
- blocks: the arms of an experiment compared with one another, seed by seed
- margins: whether two versions score the same, up to a margin
- design: power, and the smallest effect that n prompts or seeds can detect
"""

from postlab import _doors
from postlab.stats.agreement import benjamini_hochberg, cohen_kappa, holm
from postlab.stats.basics import Difference, Interval, wilson
from postlab.stats.blocks import blocked_differences
from postlab.stats.design import detectable_difference, minimum_detectable_effect, power
from postlab.stats.intervals import (
    SIGNIFICANCE,
    McNemar,
    bootstrap_interval,
    mcnemar,
    paired_difference,
    pass_at_k,
    verdict,
    win_rate,
)
from postlab.stats.margins import Equivalence, equivalence, upper_bound

__all__ = [
    "SIGNIFICANCE",
    "Difference",
    "Equivalence",
    "Interval",
    "McNemar",
    "benjamini_hochberg",
    "blocked_differences",
    "bootstrap_interval",
    "cohen_kappa",
    "detectable_difference",
    "equivalence",
    "holm",
    "mcnemar",
    "minimum_detectable_effect",
    "paired_difference",
    "pass_at_k",
    "power",
    "upper_bound",
    "verdict",
    "wilson",
    "win_rate",
]

_doors.publish(__name__)
