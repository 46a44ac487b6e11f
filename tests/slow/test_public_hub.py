"""Public suites through the Hub's own client, from a server on this machine: the pinned commits."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys

import pytest
from hub_server import HubServer
from public_sets import SETS

from postlab.evals import public

# The client's process: it may speak to this machine only, and ends if it tries anything else.
CLIENT = """
import json, os, socket, sys, warnings
connect = socket.socket.connect
def local(self, address):
    if isinstance(address, tuple) and address[0] != "127.0.0.1":
        os._exit(1)
    return connect(self, address)
socket.socket.connect = local
from postlab.evals import public_rows, suite_rows
warnings.simplefilter("ignore")
for name in sys.argv[1:]:
    try:
        rows = suite_rows(name, None, 0)
        drawn = public_rows(name, n=2)
        told = {"rows": [{k: v for k, v in row.items() if k != "score"} for row in rows]}
        told |= {"ids": [row["id"] for row in drawn]}
    except (OSError, ValueError) as error:
        told = {"error": f"{type(error).__name__}: {error}"}
    print("said", json.dumps([name, told]), flush=True)
"""
SCRIPT = b"raise SystemExit('a loading script ran')"


def lines(rows):
    return "\n".join(json.dumps(row) for row in rows).encode()


def table(rows):
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def parquet(rows):
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def repositories():
    """Files as the real repositories name them, in their formats."""
    card = "---\nconfigs:\n" + "".join(
        f"- config_name: {config}\n  data_files:\n  - split: train\n    path: {config}/train-*\n"
        for config in ("contextual", "standard")
    )
    other = [{"prompt": "Not this one.", "context": "", "category": "other"}]
    return {
        "google/IFEval": {"ifeval_input_data.jsonl": lines(SETS["ifeval"])},
        "HuggingFaceH4/MATH-500": {"test.jsonl": lines(SETS["math500"])},
        "Paul/XSTest": {"xstest_prompts.csv": table(SETS["xstest"])},
        "walledai/HarmBench": {
            "standard/train-00000-of-00001.parquet": parquet(SETS["harmbench"]),
            "contextual/train-00000-of-00001.parquet": parquet(other),
            "README.md": (card + "---\n").encode(),
        },
        "tatsu-lab/alpaca_eval": {
            "alpaca_eval.py": SCRIPT,
            "alpaca_eval.json": json.dumps(SETS["alpaca_eval"]).encode(),
            "alpaca_eval_gpt4_baseline.json": json.dumps([{"x": 1}]).encode(),
        },
    }


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """({suite: what the client said of it}, the server); HarmBench once more, as if gated."""
    unset = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    env |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    folders = [str(tmp_path_factory.mktemp("home")) for _ in range(2)]

    def ask(server, folder, *names):
        client = subprocess.run(
            [sys.executable, "-c", CLIENT, *names], text=True, capture_output=True,
            env=env | {"HF_ENDPOINT": server.url, "HF_HOME": folder, "NO_PROXY": "127.0.0.1"},
        )  # fmt: skip
        answers = [line[5:] for line in client.stdout.splitlines() if line.startswith("said ")]
        assert len(answers) == len(names), client.stderr[-2000:]
        return dict(map(json.loads, answers))

    with HubServer(repositories()) as server:
        told = ask(server, folders[0], *SETS)
    with HubServer({}) as empty:  # a gated set is not there for those who are not logged in
        told["gated"] = ask(empty, folders[1], "harmbench")["harmbench"]
    return told, server


@pytest.mark.parametrize("name", SETS)
def test_a_suite_is_read_at_its_pinned_commit(hub, name):
    told, server = hub
    rows = told[name]["rows"]
    column = {"math500": "problem", "alpaca_eval": "instruction"}.get(name, "prompt")
    for row, raw in zip(rows, SETS[name], strict=True):
        assert row["prompt"][0]["content"].startswith(raw[column])
        assert row["max_new_tokens"] == public.SOURCES[name].new_tokens
    asked = server.revisions[public.SOURCES[name].repo]
    assert public.SOURCES[name].revision in asked and "main" not in asked
    assert set(told[name]["ids"]) <= {row["id"] for row in rows}


def test_a_set_that_cannot_be_read_says_what_to_do(hub):
    told, _ = hub
    assert told["gated"]["error"].startswith("OSError: cannot read 'walledai/HarmBench'")
    assert "accept terms" in told["gated"]["error"] and "source=" in told["gated"]["error"]
