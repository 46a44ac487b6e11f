"""How fast is `curate`, and how much memory does it take, at ten thousand to a million short rows?

    python bench/curation.py                         # a few minutes on two cores
    python bench/curation.py --libraries             # the searches of datasketch and rensa

Rows are made up: words drawn by Zipf's law from 50,000, 20 to 45 a row; some are copies, copies
with one word changed, and prompts of a held-out set. Each size is a process of its own. Seconds are
those of the whole `curate`, held-out set included and tokens not counted (that is the tokenizer's
speed). Memory is what `curate` adds at its peak to a process that holds the rows already;
`whole_mb` is the process with the rows, which as Python dictionaries take several times their text.

`--libraries` times instead the search for near duplicates, on word 3-grams cut beforehand:
datasketch's MinHashLSH and rensa's RMinHashLSH, with the threshold 0.8, against postlab's `_near`
(which cuts its own), and says what share of the planted near duplicates each finds. They are not
among postlab's dependencies.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from memory import RESULTS, forget_peak, provenance, resident_gib, write

SIZES = (10_000, 100_000, 1_000_000)
SEARCHES = ("postlab", "datasketch", "rensa")
BAR_ROWS_A_MINUTE = 50_000
VOCABULARY, HELDOUT, NEAR = 50_000, 500, 0.8
COPIED, CHANGED, LEAKED = 0.05, 0.05, 0.001  # shares of the rows
MB = 10**6


def made_up(n: int, seed: int) -> tuple[list[dict], list[dict], list[tuple[int, int]]]:
    """(rows, held-out rows, planted near duplicates as (row, of which row))."""
    rng = random.Random(seed)
    words = [
        "".join(rng.choices("abcdefghilmnoprstuv", k=rng.randint(2, 9))) for _ in range(VOCABULARY)
    ]
    weights, total = [], 0.0
    for rank in range(1, VOCABULARY + 1):
        weights.append(total := total + 1 / rank)

    def text(low: int, high: int) -> list[str]:
        return rng.choices(words, cum_weights=weights, k=rng.randint(low, high))

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
    from postlab.datasets import _measures

    return sum(len(_measures.row_text(row).encode()) for row in rows)


def measured(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What the work returns, its seconds, and the memory it adds at its peak."""
    gc.collect()
    forget_peak()
    before, start = resident_gib("VmRSS"), time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    peak, to_mb = resident_gib("VmHWM"), 2**30 / MB
    return result, {
        "seconds": round(seconds, 2),
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
    allowed = 1.5 * text + 500
    return {
        "rows": n,
        "text_mb": round(text, 1),
        **cost,
        "rows_a_minute": round(60 * n / cost["seconds"]),
        "allowed_mb": round(allowed, 1),
        "fast_enough": 60 * n / cost["seconds"] >= BAR_ROWS_A_MINUTE,
        "small_enough": cost["added_mb"] <= allowed,
        "kept": len(found.kept),
        "dropped": found.dropped,
    }


def search(name: str, n: int, seed: int) -> dict[str, Any]:
    """One library's search for near duplicates; `found` is the share of the planted ones."""
    from postlab.datasets import _measures, _near

    rows, _, near = made_up(n, seed)
    texts = [_measures.row_text(row) for row in rows]
    cut = [[" ".join(w[i : i + 3]) for i in range(len(w) - 2)] for w in map(_near.words_of, texts)]
    if name == "postlab":
        del cut
    run = {"postlab": _postlab, "datasketch": _datasketch, "rensa": _rensa}[name]
    flagged, cost = measured(lambda: run(texts if name == "postlab" else cut))
    hits = sum(row in flagged for row, _ in near)
    return {"search": name, "rows": n, **cost, "found": hits / len(near), "planted": len(near)}


def _postlab(texts: list[str]) -> set[int]:
    from postlab.datasets import _near

    return set(_near.near_duplicates(_near.grams(texts), NEAR)[0].tolist())


def _datasketch(cut: list[list[str]]) -> set[int]:
    from datasketch import MinHash, MinHashLSH

    index, found = MinHashLSH(threshold=NEAR, num_perm=128), set()
    for row, hashed in enumerate(MinHash.generator([[g.encode() for g in c] for c in cut])):
        if index.query(hashed):
            found.add(row)
        index.insert(row, hashed, check_duplication=False)
    return found


def _rensa(cut: list[list[str]]) -> set[int]:
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=NEAR, num_perm=256, num_bands=32)
    hashed = RMinHash.digest_matrix_from_token_sets(cut, 256, 1)
    flags = index.insert_matrix_and_query_duplicate_flags(hashed)
    return {row for row, flag in enumerate(flags) if flag}


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
    parser.add_argument("--out", type=Path, default=RESULTS / "bench")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        name, n, seed = args.child[0], int(args.child[1]), int(args.child[2])
        print(json.dumps(size(n, seed) if name == "curate" else search(name, n, seed)))
        return
    words = sys.argv[1:] if argv is None else argv
    made = {"provenance": provenance(" ".join(["python bench/curation.py", *words]))}
    if args.libraries:
        names = [name for name in SEARCHES if name == "postlab" or find_spec(name)]
        made |= {"versions": {name: version(name) for name in names}}
        sizes = [n for n in args.rows if n < SIZES[-1]]
        made["searches"] = [child(name, str(n), str(args.seed)) for n in sizes for name in names]
        write("curation_libraries", made, args.out)
    else:
        made["curate"] = [child("curate", str(n), str(args.seed)) for n in args.rows]
        write("curation", made, args.out)


if __name__ == "__main__":
    main()
