"""How fast is `curate`, and how much memory does it take, at ten thousand to a million short rows?

    python bench/curation.py                         # a few minutes on two cores
    python bench/curation.py --libraries             # the searches of datasketch and rensa

Rows are made up: words drawn by Zipf's law from 50,000, 20 to 45 a row; some are copies, copies
with one word changed, and prompts of a held-out set. Each size is a process of its own. Seconds are
those of the whole `curate`, held-out set included and tokens not counted (that is the tokenizer's
speed). Memory is what `curate` adds at its peak to a process that holds the rows already;
`whole_mb` is the process with the rows, which as Python dictionaries take several times their text.
The machine should be otherwise idle; where `cpu_seconds` are far below `seconds`, it was not.

`--libraries` times instead the search for near duplicates by word 3-grams: datasketch's MinHashLSH
and rensa's RMinHashLSH with the same 32 bands of 8 hashes, against postlab's `_near` (which also
counts the similarity of what its bands propose), and says what share of the planted near
duplicates each finds. They are no dependencies of postlab: install them beside it to run this.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from memory import RESULTS, forget_peak, provenance, resident_gib, write

SIZES = (10_000, 100_000, 1_000_000)
SEARCHES = ("postlab", "datasketch", "rensa")
BAR_ROWS_A_MINUTE = 50_000
VOCABULARY, HELDOUT, NEAR = 50_000, 500, 0.8
BANDS, IN_BAND = 32, 8  # what `_near` takes at 0.8, and so what the libraries get
COPIED, CHANGED, LEAKED = 0.05, 0.05, 0.001  # shares of the rows
MB = 10**6


def made_up(n: int, seed: int) -> tuple[list[dict], list[dict], list[tuple[int, int]]]:
    """(rows, held-out rows, planted near duplicates as (row, of which row))."""
    rng, weights = random.Random(seed), 1 / np.arange(1, VOCABULARY + 1)
    words = ["".join(rng.choices("abcdefghilmnoprstuv", k=rng.randint(2, 9))) for _ in weights]
    weights = np.cumsum(weights / weights.sum())
    drawn: list[int] = []

    def text(low: int, high: int) -> list[str]:
        if len(drawn) < high:  # a million at once: one at a time would take longer than curating
            some = np.random.default_rng(rng.randrange(2**32)).random(10**6)
            drawn.extend(np.searchsorted(weights[:-1], some).tolist())
        return [words[drawn.pop()] for _ in range(rng.randint(low, high))]

    heldout = [_row(text(8, 15), []) for _ in range(HELDOUT)]
    rows, near = [], []
    for index in range(n):
        kind = rng.random()
        if index and kind < COPIED:
            rows.append(rows[rng.randrange(index)])
        elif index and kind < COPIED + CHANGED:
            of = rng.randrange(index)
            asked, said = (
                rows[of][side][0]["content"].split() for side in ("prompt", "completion")
            )
            said[-1] = rng.choice(words) + "."
            rows.append(_row(asked, said))
            near.append((index, of))
        elif kind < COPIED + CHANGED + LEAKED:
            asked = rng.choice(heldout)["prompt"][0]["content"].split()
            rows.append(_row(asked, [*text(12, 30), "end."]))
        else:
            rows.append(_row(text(8, 15), [*text(12, 30), "end."]))
    return rows, heldout, near


def _row(asked: list[str], said: list[str]) -> dict[str, Any]:
    prompt = [{"role": "user", "content": " ".join(asked)}]
    return {"prompt": prompt, "completion": [{"role": "assistant", "content": " ".join(said)}]}


def text_bytes(rows: Sequence[dict]) -> int:
    """Bytes of the rows' text alone, as UTF-8."""
    from postlab.datasets import row_text

    return sum(len(row_text(row).encode()) for row in rows)


def allowed_mb(text_mb: float) -> float:
    """What curating may add at its peak, for so much text."""
    return round(1.5 * text_mb + 500, 1)


def measured(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What the work returns, its seconds, and the memory it adds at its peak."""
    gc.collect()
    forget_peak()
    before, start, used = resident_gib("VmRSS"), time.perf_counter(), time.process_time()
    result = work()
    seconds, used = time.perf_counter() - start, time.process_time() - used
    peak, to_mb = resident_gib("VmHWM"), 2**30 / MB
    return result, {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(used, 2),
        "added_mb": round((peak - before) * to_mb, 1),
        "whole_mb": round(peak * to_mb, 1),
    }


def size(n: int, seed: int) -> dict[str, Any]:
    """Curate n rows, once."""
    import pandas  # noqa: F401  (its import is not what is measured)

    from postlab.datasets import curate

    rows, heldout, _ = made_up(n, seed)
    text = text_bytes(rows) / MB
    found, cost = measured(lambda: curate(rows, heldout=heldout))
    allowed = allowed_mb(text)
    return {
        "rows": n,
        "text_mb": round(text, 1),
        **cost,
        "rows_a_minute": round(60 * n / cost["seconds"]),
        "allowed_mb": allowed,
        "fast_enough": 60 * n / cost["seconds"] >= BAR_ROWS_A_MINUTE,
        "small_enough": cost["added_mb"] <= allowed,
        "kept": len(found.kept),
        "dropped": found.dropped,
    }


def search(name: str, n: int, seed: int) -> dict[str, Any]:
    """One library's search for near duplicates; `found` is the share of the planted ones."""
    from postlab.datasets import row_text

    rows, _, near = made_up(n, seed)
    texts = [row_text(row) for row in rows]
    allowed = allowed_mb(text_bytes(rows) / MB)
    del rows
    run = {"postlab": _postlab, "datasketch": _datasketch, "rensa": _rensa}[name]
    flagged, cost = measured(lambda: run(texts))
    hits = sum(row in flagged for row, _ in near)
    cost |= {"allowed_mb": allowed, "small_enough": cost["added_mb"] <= allowed}
    return {"search": name, "rows": n, **cost, "found": hits / len(near), "planted": len(near)}


def _cut(texts: list[str]) -> Iterator[list[str]]:
    from postlab.datasets import words_of

    for words in map(words_of, texts):
        yield [" ".join(words[i : i + 3]) for i in range(len(words) - 2)]


def _postlab(texts: list[str]) -> set[int]:
    from postlab.datasets import grams as near_grams
    from postlab.datasets import near_duplicates

    return set(near_duplicates(near_grams(texts), NEAR)[0].tolist())


def _datasketch(texts: list[str]) -> set[int]:
    from datasketch import MinHash, MinHashLSH

    index, found = MinHashLSH(num_perm=BANDS * IN_BAND, params=(BANDS, IN_BAND)), set()
    encoded = ([gram.encode() for gram in grams] for grams in _cut(texts))
    for row, hashed in enumerate(MinHash.generator(encoded, num_perm=BANDS * IN_BAND)):
        if index.query(hashed):
            found.add(row)
        index.insert(row, hashed, check_duplication=False)
    return found


def _rensa(texts: list[str]) -> set[int]:
    from rensa import RMinHash, RMinHashLSH

    # Row by row: its faster calls on a whole matrix say that a row has a twin, not which.
    index, found = RMinHashLSH(threshold=NEAR, num_perm=BANDS * IN_BAND, num_bands=BANDS), set()
    for row, grams in enumerate(_cut(texts)):
        hashed = RMinHash(BANDS * IN_BAND, 1)
        hashed.update(grams)
        if index.query(hashed):
            found.add(row)
        index.insert(row, hashed)
    return found


def child(*words: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{words}: the child failed\n{done.stderr[-3000:]}")
    print(done.stdout.splitlines()[-1], flush=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--libraries", action="store_true", help="compare with datasketch, rensa")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS.parent / "bench")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        name, n, seed = args.child[0], int(args.child[1]), int(args.child[2])
        print(json.dumps(size(n, seed) if name == "curate" else search(name, n, seed)))
        return
    words = sys.argv[1:] if argv is None else argv
    made = provenance(" ".join(["python bench/curation.py", *words]))
    if args.libraries:
        names = [name for name in SEARCHES if name == "postlab" or find_spec(name)]
        made |= {"libraries": {name: version(name) for name in names}}
        found = [child(name, str(n), str(args.seed)) for n in args.rows for name in names]
        write("curation_libraries", {"provenance": made, "searches": found}, args.out)
        return
    for n in args.rows:  # written one by one: each size may be run when the machine has time
        found = child("curate", str(n), str(args.seed)) | {"provenance": made}
        path = args.out / "curation.json"
        others = json.loads(path.read_text())["curate"] if path.exists() else []
        kept = [each for each in others if each["rows"] != n]
        result = {"curate": sorted([*kept, found], key=lambda each: each["rows"])}
        write("curation", result, args.out)


if __name__ == "__main__":
    main()
