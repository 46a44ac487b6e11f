"""Post-training helpers for the twelve notebooks, and for notebooks of your own.

`import postlab` loads none of its modules and no torch: `postlab.start` and the modules
(`postlab.evals`, `postlab.stats`, …) are imported when they are first named. So a notebook can
import Unsloth, which has to come before trl, transformers and peft, after this package.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {"start": "postlab.lab", "Lab": "postlab.lab", "check": "postlab.course.check"}


def __getattr__(name: str) -> Any:
    """Import a re-exported name, or a module of the package, at its first use (PEP 562)."""
    if name.startswith("_"):
        raise AttributeError(f"module 'postlab' has no attribute {name!r}")
    module_name = _EXPORTS.get(name, f"{__name__}.{name}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:  # the module is there, and a package that it needs is not
            raise
        raise AttributeError(f"module 'postlab' has no attribute {name!r}") from None
    return module if name == "check" or name not in _EXPORTS else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
