"""What is wrong with a run, a template or a plan, said in one shape.

This module holds the finding itself; chat.check_template and the readers of training logs return
lists of it. Nothing here judges: severity is set where the fault is seen.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One fault that was seen, why it matters and what to do about it.

    Args:
        code: stable short name, such as "double_bos".
        severity: "info", "warning" or "error".
        seen: what was observed, with the values.
        why: what it does to training or generation.
        fix: what to change.
        week: the notebook that explains it.

    >>> finding = Finding("double_bos", "error", "<s><s>", "unseen", "tokenise once", 1)
    >>> print(finding)
    error double_bos: <s><s>; unseen. Fix: tokenise once (week 1)
    """

    code: str
    severity: Literal["info", "warning", "error"]
    seen: str
    why: str
    fix: str
    week: int

    def __str__(self) -> str:
        return (
            f"{self.severity} {self.code}: {self.seen}; {self.why}. "
            f"Fix: {self.fix} (week {self.week})"
        )
