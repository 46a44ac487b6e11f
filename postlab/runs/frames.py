"""Evaluation frames as JSON lines, for people and for reading back unchanged.

Left out: other formats. A frame is some thousand rows, and a line of JSON can be read with `head`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from postlab import storage

if TYPE_CHECKING:
    import pandas as pd

TEXT = {"id", "family", "prompt", "answer", "sample", "closed"}  # all other columns are numbers


def write(frame: pd.DataFrame, folder: Path) -> None:
    """Write samples.jsonl, the whole frame, and eval.jsonl, a row a prompt.

    In eval.jsonl a metric is the mean over the prompt's samples, the answer is the first one.
    """
    rows = frame.groupby("id", sort=False)
    prompts = frame.drop_duplicates("id").set_index("id")
    for metric in [name for name in frame.columns if name not in TEXT]:
        prompts[metric] = rows[metric].mean()
    prompts = prompts.reset_index()[[n for n in frame.columns if n not in ("sample", "closed")]]
    storage.atomic_text(folder / "samples.jsonl", _jsonl(frame))
    storage.atomic_text(folder / "eval.jsonl", _jsonl(prompts))


def read(folder: Path, columns: list[str]) -> pd.DataFrame:
    """The frame that `write` was given, from samples.jsonl."""
    import pandas as pd

    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    frame = pd.DataFrame([json.loads(line) for line in lines], columns=columns)
    return frame.astype({name: float for name in columns if name not in TEXT})


def _jsonl(frame: pd.DataFrame) -> str:
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return "".join(json.dumps(row) + "\n" for row in rows)
