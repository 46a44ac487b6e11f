"""What loading and curating do to each row of a small file: the bookkeeping behind section 3.

`instruction_rows` and `curate` count what they drop; here the same is told row by row, so that it
can be set against what is known to be wrong with each row. For files of a few dozen rows: it reads
the file once per row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab.datasets import curate, instruction_rows
from postlab.profile import data_dir

if TYPE_CHECKING:
    import pandas as pd

_REASON = re.compile(r"(?:no usable row: 1|cannot be used \(1) (.+?)(?:\): take another.*)?$", re.S)


def sample_file(name: str) -> Path:
    """The file of our rows in the form of a public set: "openhermes" or "slimorca"."""
    return data_dir() / "examples" / "sft_rows" / f"{name}_form.jsonl"


def known_faults(name: str) -> list[str]:
    """What is wrong with each row of `sample_file(name)`, in its order; "" for nothing."""
    path = data_dir() / "examples" / "sft_rows" / "faults.json"
    return json.loads(path.read_text(encoding="utf-8"))[f"{name}_form"]


def row_fates(
    path: Path | str,
    *,
    heldout: Sequence[Mapping[str, Any]] = (),
    score: Callable[[Mapping[str, Any]], bool | None] | None = None,
) -> list[str]:
    """What becomes of each row of a JSONL file: the reason why it is dropped, or "kept".

    Args:
        path: of a JSONL file.
        heldout: rows of the evaluation, as for `curate`.
        score: says right, wrong or None of a loaded row, as for `curate`.
    Returns:
        One text per line: "loader: ..." where `instruction_rows` drops the row, "curate: ..." where
        `curate` does, else "kept".
    """
    lines = len(Path(path).read_text(encoding="utf-8").splitlines())
    fates, rows, places = ["kept"] * lines, [], []
    for line in range(lines):
        try:
            loaded = instruction_rows(str(path), split=f"train[{line}:{line + 1}]")
        except ValueError as error:
            reason = _REASON.search(str(error))
            fates[line] = f"loader: {reason[1] if reason else error}"
            continue
        rows.append(loaded[0])
        places.append(line)
    curation = curate(rows, heldout=heldout, score=score)
    paired = dict(zip(curation.pairs["row"], curation.pairs["reason"], strict=True))
    survivors = {id(row) for row in curation.kept}
    for index, (row, place) in enumerate(zip(rows, places, strict=True)):
        if id(row) in survivors:
            continue
        alone = curate([row], score=score).dropped  # malformed, truncated or wrong
        own = next((name for name, count in alone.items() if count), None)
        fates[place] = f"curate: {paired.get(index, own)}"
    return fates


def fate_table(faults: Sequence[str], fates: Sequence[str]) -> pd.DataFrame:
    """Rows by fault (down) and by who drops them (across), with the reasons that were given."""
    import pandas as pd

    frame = pd.DataFrame({"fault": faults, "fate": fates}).replace({"fault": {"": "none"}})
    frame["by"] = frame["fate"].str.partition(":")[0]
    table = pd.crosstab(frame["fault"], frame["by"])
    table = table.reindex(columns=["loader", "curate", "kept"], fill_value=0)
    dropped = frame[frame["by"] != "kept"]
    reasons = dropped.groupby("fault")["fate"].agg(
        lambda texts: ", ".join(sorted({text.partition(": ")[2] for text in texts}))
    )
    table["reason"] = reasons.reindex(table.index).fillna("")
    return table.sort_values(["kept", "fault"], ascending=[False, True]).rename_axis(columns=None)
