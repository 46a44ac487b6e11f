"""How much the audit of words misses, from data/results/week12/audit.json.

The sentences, how they were written and what was done with them are told in
notebooks/experiments/week12_audit.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from postlab.profile import data_dir
from postlab.stats import wilson
from postlab.storage import read_json

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 1_000_000  # bytes
NAMES = {
    "blog": "overclaims, used to extend the rules",
    "paper": "overclaims, used to extend the rules (2)",
    "fresh": "overclaims, fresh",
    "clean": "without a fault, used to extend the rules",
    "fresh_clean": "without a fault, fresh",
}


def audit_rates() -> pd.DataFrame:
    """How many sentences of each set the audit objects to, before and after it was extended.

    Returns:
        A row per set: sentences, at first, now (counts), and low and high: the 95% interval
        (Wilson's) of the share that it objects to now. Of overclaims it should object to all, of
        sentences without a fault to none.
    """
    import pandas as pd

    sets = read_json(data_dir() / "results" / "week12" / "audit.json", most=LARGEST)["sets"]
    rows = {}
    for name, shown in NAMES.items():
        held = sets[name]
        count, flagged = len(held["sentences"]), len(held["now"])
        interval = wilson(flagged, count)
        rows[shown] = {
            "sentences": count, "at first": len(held["at_first"]), "now": flagged,
            "low": interval.low, "high": interval.high,
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")
