"""Post-training helpers for the twelve notebooks, and for notebooks of your own.

`lab = postlab.start(week=5)` opens a notebook and returns a `postlab.Lab`. `postlab.check` holds
the checks of the exercises, and `postlab.get_profile` returns a profile's settings. Everything else
is imported from a room, as in `from postlab.stats import paired_difference`:

chat          From messages to trained tokens: what the template writes, and where the loss falls.
claims        What a comparison of stages may claim, worded once for the figures and reports.
constitution  Constitutional AI: a model criticises, revises and labels replies by written rules.
course        What only the twelve notebooks need: checks, figures and recorded results.
datasets      Raw rows in, rows in TRL's formats out, with prompts and replies as message lists.
doctor        What is wrong with a training run, read from its log alone.
evals         Evaluate one stage on a suite of prompts, and compare stages side by side.
judge         Judges for pairs of answers, and what their votes say once their biases are removed.
models        Policies and base models: find, load, make trainable, merge and export them.
objectives    Several objectives at once: judges that disagree, mixtures, soups and Pareto fronts.
portfolio     A portfolio from the learner's own runs; every number is bound to its evidence.
preflight     Memory, time and cost of a stage on a device, estimated before any download.
process       Process reward models: step labels, a score for each step, and ways to use the scores.
profile       Which model, data, precision and batch each stage uses, and what this machine is.
report        The comparison of a profile's runs, as summary.json, stages.png and report.html.
rewards       Verifiable rewards in TRL's protocol: mathematics, format, code and JSON schemas.
runs          The run folder: how a stage is trained, resumed, reused, evaluated and found again.
sampling      Completions sampled from a policy, and how far it has moved from its reference.
scratch       Post-training from scratch in plain torch, with losses that agree with TRL's.
show          Figures and widgets for any run: stages compared, training logs, what a policy writes.
stats         What an evaluation's numbers support: intervals, paired tests, agreement and power.
tinyworld     The embedded world: six task families with known answers, and the texts to train on.

`dir(postlab.stats)` lists the names in a room. `import postlab` loads no room and no torch: a room
is imported when it is first used. That lets a notebook import this package first and Unsloth, which
has to come before trl, transformers and peft, afterwards.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from postlab import (
        chat,
        claims,
        constitution,
        course,
        datasets,
        doctor,
        evals,
        judge,
        models,
        objectives,
        portfolio,
        preflight,
        process,
        profile,
        report,
        rewards,
        runs,
        sampling,
        scratch,
        show,
        stats,
        tinyworld,
    )
    from postlab.course import check
    from postlab.lab import Lab, start
    from postlab.profile import get_profile

__version__ = "1.0.0"

__all__ = [
    "Lab",
    "chat",
    "check",
    "claims",
    "constitution",
    "course",
    "datasets",
    "doctor",
    "evals",
    "get_profile",
    "judge",
    "models",
    "objectives",
    "portfolio",
    "preflight",
    "process",
    "profile",
    "report",
    "rewards",
    "runs",
    "sampling",
    "scratch",
    "show",
    "start",
    "stats",
    "tinyworld",
]


def _is_no_advice(record: logging.LogRecord) -> bool:
    """False for bitsandbytes' advice to install `kernels`, which would run code from the Hub."""
    return "kernels-community" not in str(record.msg)


# PEFT imports bitsandbytes wherever it loads an adapter, which may be before a room of ours.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_no_advice)

_ELSEWHERE = {"Lab": "lab", "start": "lab", "get_profile": "profile"}  # name: its module


if not TYPE_CHECKING:  # mypy would conclude that every name exists

    def __getattr__(name: str) -> Any:
        """Import a room, or a name of `_ELSEWHERE`, when it is first used (PEP 562)."""
        import importlib
        from importlib.util import find_spec

        if name == "check":
            return importlib.import_module("postlab.course.check")
        if name in _ELSEWHERE:
            return getattr(importlib.import_module(f"postlab.{_ELSEWHERE[name]}"), name)
        if name.startswith("_"):  # `from postlab import _doors` goes on to look for the module
            raise AttributeError(f"module 'postlab' has no attribute {name!r}", name=name)
        if find_spec(f"postlab.{name}") is not None:
            return importlib.import_module(f"postlab.{name}")
        raise importlib.import_module("postlab._doors").unknown_name("postlab", name, __all__)


def __dir__() -> list[str]:
    return sorted(__all__)
