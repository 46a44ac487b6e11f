"""Run a week's script for its stage alone: `python notebooks/stages.py 03`; `make stages` does.

Cells tagged "aside" are left out: experiments beside the stage, such as a bug hunt or a loop from
scratch. They cost time, and no cell that stays needs what they make (a test holds that). So are
those tagged "portfolio", since `make portfolio` is a command of its own, and the cells after the
last one that trains, evaluates or reports: exercises and recorded experiments that the stage
doesn't need. Nothing is executed otherwise than in the script, and every line keeps its number.
`make week N=03` and the notebook run all cells. Left out: choosing stages.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "src"
ASIDE = re.compile(r'# %%[^\n]*tags=\[[^\]\n]*"(?:aside|portfolio)"')
# What trains, evaluates or reports a stage, or adds to its manifest.
MAKES = re.compile(
    r"\b(?:run\.(?:train|save_eval|save_curation)|(?:lab|tiny)\.evaluate|lab\.report)\("
)


def cells_of(text: str) -> list[str]:
    """A percent script's parts, each with its header line; what stands before the first is one."""
    return re.split(r"^(?=# %%)", text, flags=re.MULTILINE)


def without_asides(text: str) -> str:
    """The script with empty lines in the place of its asides.

    >>> without_asides('# %%\\na = 1\\n# %% tags=["aside"]\\nb = 2\\n# %%\\nprint(a)\\n')
    '# %%\\na = 1\\n\\n\\n# %%\\nprint(a)\\n'
    """
    kept = ["\n" * cell.count("\n") if ASIDE.match(cell) else cell for cell in cells_of(text)]
    return "".join(kept)


def for_the_stage(text: str) -> str:
    """The script without asides, up to the last cell that makes or measures its stage.

    >>> for_the_stage('# %%\\nlog = run.train(trainer)\\n# %%\\nplot(log)\\n')
    '# %%\\nlog = run.train(trainer)\\n'
    """
    cells = cells_of(without_asides(text))
    makers = [
        number
        for number, cell in enumerate(cells)
        if MAKES.search(cell) and not cell.startswith("# %% [markdown]")
    ]
    return "".join(cells[: makers[-1] + 1] if makers else cells)


def main() -> None:
    week = sys.argv[1] if len(sys.argv) == 2 else ""
    found = sorted(SOURCES.glob(f"week{week}_*.py")) if re.fullmatch(r"\d\d", week) else []
    if len(found) != 1:
        sys.exit(f"stages.py: got {week or 'no week'!r}, expected the number of one, such as 03")
    (script,) = found
    code = compile(for_the_stage(script.read_text(encoding="utf-8")), str(script), "exec")
    exec(code, {"__name__": "__main__", "__file__": str(script)})


if __name__ == "__main__":
    main()
