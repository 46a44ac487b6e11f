"""What an evaluation depends on, and how stored answers are scored again.

An evaluation has two parts that can become stale separately. Its answers depend on the prompts as
the policy sees them, the sampling settings, the weights and the libraries. Its scores depend on the
answers and on the code that scores them. If only that code changed, the stored answers are scored
again and nothing is generated.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# Increase this when `sampling` or its `kl` gives different results for the same policy and seed.
# Tests compare the engine with transformers' own `generate`.
ENGINE = 1


def answer_inputs(policy: Any, tokenizer: Any, suite: Any, **settings: Any) -> dict[str, Any]:
    """What the answers of an evaluation depend on, except the weights and the library versions.

    Args:
        policy: the model, for its end-of-turn tokens, precision and quantization.
        suite: as in `evaluate`.
        settings: n, seed, temperature and samples, as in `evaluate`.
    Returns:
        Hashes and plain values, ready for JSON.
    """
    from postlab.evals.evaluation import NEW_TOKENS
    from postlab.evals.suites import suite_rows
    from postlab.sampling import end_of_turn, engine_name, render, stop_tokens

    rows = suite_rows(suite, settings.get("n"), settings.get("seed", 0))
    digest = hashlib.sha256()
    for row in rows:
        text = render(tokenizer, row["prompt"])
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        how = {name: row.get(name) for name in ("temperature", "samples", "max_new_tokens")}
        how |= {} if row.get("kl", True) else {"kl": False}
        digest.update(json.dumps([str(row["id"]), text, ids, how]).encode() + b"\n")
    quantization = getattr(policy.config, "quantization_config", None)
    engine = engine_name(policy)
    return {
        "prompts": {"n": len(rows), "sha256": digest.hexdigest()},
        "sampling": {name: settings.get(name) for name in ("seed", "temperature", "samples")},
        "tokens": {
            "most": NEW_TOKENS,
            "end": end_of_turn(tokenizer),
            "stop": sorted(stop_tokens(policy, tokenizer)),
        },
        "precision": [str(policy.dtype), bool(quantization)],
        # The model's own `generate` goes without a name, as before there were others.
        "engine": ENGINE if engine == "generate" else [ENGINE, engine],
    }


def scorer_hash(suite: Any, *, n: int | None = None, seed: int = 0) -> str:
    """SHA-256 of the code that scores a suite's answers, including the right answers it contains.

    Where a part of it cannot be read, no two hashes are equal, so the answers are scored again.

    Args:
        suite, n, seed: as in `evaluate`.
    """
    from postlab.evals.suites import suite_rows
    from postlab.runs import trace_code

    rows = suite_rows(suite, n, seed)
    trace = trace_code([[str(row["id"]), row["score"]] for row in rows])
    return uuid.uuid4().hex if trace.unreadable else trace.sha256


def score_again(frame: pd.DataFrame, suite: Any, *, n: int | None, seed: int) -> pd.DataFrame:
    """A stored evaluation with its answers scored by the suite's current code.

    Lengths and KL divergences are kept: they don't depend on the scoring code.

    Raises:
        ValueError: if the suite no longer contains a prompt of the frame.
    """
    import pandas as pd

    from postlab.evals.evaluation import NON_METRICS, check_scores, scored
    from postlab.evals.suites import suite_rows

    rows: Mapping[str, Any] = {str(row["id"]): row for row in suite_rows(suite, n, seed)}
    missing = sorted(set(frame["id"]) - set(rows))
    if missing:
        raise ValueError(f"the suite has no prompt {missing[0]!r} any more; evaluate it again")
    lines = []
    for line in frame.to_dict("records"):
        fresh = {name: line[name] for name in (*NON_METRICS, "length", "kl")}  # not the scorer's
        score = rows[line["id"]]["score"](line["answer"], line["closed"])
        lines.append(fresh | check_scores(score, line["id"]))
    return scored(pd.DataFrame(lines))
