"""What every door of the package does: list its public names, and help with a mistyped one.

A door is the `__init__.py` of a room. It ends with `_doors.publish(__name__)`.
"""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

# For each door, the old flat modules whose contents it has now.
MOVED = {
    "chat": "encoding rendering template_tokens templates tokenview",
    "check": "checks",
    "claims": "comparison",
    "constitution": "constitution_critiques constitution_file constitution_labels "
    "constitution_rows constitution_speakers",
    "course": "recorded",
    "course.week08": "dynamic_sampling gym",
    "course.week11": "objectives_levels objectives_volumes",
    "doctor": "doctor_log doctor_rules doctor_rules_grpo",
    "evals": "evalkey readings suites",
    "judge": "judge_models judge_rates judges votes",
    "models": "bases four_bits merging",
    "objectives": "objectives_front objectives_judges objectives_soup",
    "preflight": "preflight_advice preflight_architectures preflight_devices preflight_memory",
    "process": "prm prm_choice prm_labels prm_scores prm_search prm_steps",
    "report": "report_page report_written",
    "runs": "fingerprint frames machine malloc packing processes sourcecode training verified "
    "weights",
    "sampling": "decoding kl rollout rollout_trl",
    "show": "arena objectives_widget pages panels plots rollout_explorer widgets",
    "stats": "stats_agreement stats_basics stats_blocks stats_power",
}


def publish(door: str) -> None:
    """Make `dir(door)` the door's `__all__`, and give a mistyped name a helpful error.

    A name in `__all__` that the door does not import is a submodule, imported when it is first
    used. `__dir__` and `__getattr__` are set from here, because a `__getattr__` written in the door
    would make mypy accept any name as one of the door's.

    Args:
        door: the door's own `__name__`; its `__all__` must be complete.
    """
    namespace = vars(sys.modules[door])
    names = sorted(namespace["__all__"])
    submodules = {name for name in names if name not in namespace}

    def __getattr__(name: str) -> Any:
        if name in submodules:
            return importlib.import_module(f"{door}.{name}")
        raise unknown_name(door, name, names)

    namespace.update(__dir__=lambda: list(names), __getattr__=__getattr__)


def unknown_name(module: str, name: str, names: Sequence[str]) -> AttributeError | ImportError:
    """The error for a name that a module lacks; only a module's `__getattr__` may call this.

    For `from postlab import statz`, Python discards the message of an AttributeError. It looks the
    name up in `_handle_fromlist` first, so the reader sees an ImportError that is raised there.

    Args:
        module: the module's full name.
        name: the name that was looked up.
        names: the module's public names; the message suggests the closest one.
    """
    if name.startswith("__"):  # Python and its tools ask every module for such names
        return AttributeError(f"module {module!r} has no attribute {name!r}", name=name)
    hint = f"; {_hint(module, name, names)}"
    asks = sys._getframe(2).f_code.co_name
    if asks == "_handle_fromlist" and find_spec(f"{module}.{name}") is None:
        return ImportError(f"cannot import name {name!r} from {module!r}{hint}", name=module)
    # With its `name` set, Python 3.12 and later add no suggestion of their own.
    return AttributeError(f"module {module!r} has no attribute {name!r}{hint}", name=name)


def _hint(module: str, name: str, names: Sequence[str]) -> str:
    if module == "postlab":
        for door, modules in MOVED.items():
            if name in modules.split():
                return f"it moved to postlab.{door}"
        if figures := re.match(r"figures_(week\d\d)", name):
            return f"it moved to postlab.course.{figures[1]}"
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"dir({module}) lists the names it has"
