"""Write the Gradio Space of a portfolio: a blind side by side of its stages.

Its files are in `templates/space/` and know nothing of postlab, so they run on the Hub as they are.
Gradio pins an older pillow than the one here, so the Space gets an environment of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from postlab.storage import atomic_text

_TEMPLATE = Path(__file__).parent / "templates" / "space"


def write_space(folder: str | Path, stages: Mapping[str, str | Path]) -> Path:
    """Write the Space's files into a folder; `publish` replaces paths in it by Hub ids.

    Args:
        folder: usually `space` in the portfolio; a file of the template in it is replaced.
        stages: {stage: folder of its weights, or their Hub id}, two or more. A folder has to exist.
    Returns:
        The folder.
    Raises:
        ValueError: if there are fewer than two stages, or a stage is neither.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    if len(stages) < 2:
        raise ValueError(f"got the stages {list(stages)}; a vote needs two or more")
    folder = Path(folder)
    places = {}
    for stage, where in stages.items():
        if Path(where).is_dir():
            path = os.path.relpath(Path(where).resolve(), folder.resolve())
            places[stage] = path if path.startswith(".") else f"./{path}"
            continue
        try:
            validate_repo_id(where)
        except HFValidationError:
            raise ValueError(
                f"{stage!r} is at {str(where)!r}; expected an existing folder or a Hub id"
            ) from None
        places[stage] = str(where)
    for file in sorted(_TEMPLATE.iterdir()):
        if file.is_file():
            atomic_text(folder / file.name, file.read_text(encoding="utf-8"))
    atomic_text(folder / "stages.json", json.dumps({"stages": places}, indent=1))
    return folder
