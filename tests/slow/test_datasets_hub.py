"""Rows through the Hub's own client, from a server on this machine: how much is downloaded."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys

import pytest
from hub_server import HubServer

from postlab.datasets import _hub

ROWS = 8_000
PARQUET = "data/train-00000-of-00001.parquet"
REQUESTS = {  # what the client asks for: source and options
    "lines": ("a/lines", {"split": "train", "n": 20, "seed": 1}),
    "parquet": ("a/parquet", {"split": "train", "n": 20, "seed": 1}),
    "range": ("a/range", {"split": "train[100:103]"}),
    "openhermes": ("openhermes", {"split": "train", "n": 5}),
    "slimorca": ("slimorca", {"split": "train", "n": 5}),
    "ultrafeedback": ("ultrafeedback", {"split": "train", "n": 5}),
    "gsm8k": ("gsm8k", {"split": "train"}),
    "broken rows": ("a/broken-rows", {"split": "train"}),
    "odd row": ("a/odd-row", {"split": "train"}),
    "broken file": ("a/broken-file", {"split": "train", "n": 2}),
    "no such split": ("a/range", {"split": "validation"}),
    "no such set": ("a/nothing", {"split": "train"}),
    "server gone": ("a/lines", {"split": "train", "n": 3}),
}
# The client's process: it may speak to this machine only, and ends if it tries anything else.
CLIENT = """
import json, os, socket, sys
connect = socket.socket.connect
def local(self, address):
    if isinstance(address, tuple) and address[0] != "127.0.0.1":
        print("tried to reach", address, file=sys.stderr, flush=True)
        os._exit(1)
    return connect(self, address)
socket.socket.connect = local
from postlab.datasets import instruction_rows
for line in sys.stdin:
    source, options = json.loads(line)
    try:
        rows = instruction_rows(source, **options)
        said = {"replies": [row["completion"][0]["content"] for row in rows]}
        said["dropped"] = rows.dropped
    except (OSError, ValueError) as error:
        said = {"error": f"{type(error).__name__}: {error}"}
    print("said", json.dumps(said), flush=True)
"""


def incompressible_rows() -> list[dict]:
    """Rows of some 12 KB, so that bytes downloaded say rows downloaded."""
    noise = random.Random(0)
    prompts = (f"{noise.randbytes(6_000).hex()} + 1?" for _ in range(ROWS))
    return [{"prompt": prompt, "completion": str(i)} for i, prompt in enumerate(prompts)]


def json_lines(rows: list[dict]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def parquet(rows: list[dict]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file, row_group_size=50)
    return file.getvalue()


def repositories() -> dict[str, dict[str, bytes]]:
    rows = incompressible_rows()
    talks = [
        {"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": str(i)}]}
        for i in range(60)
    ]
    sums = [{"question": f"{i} + 1?", "answer": f"#### {i + 1}"} for i in range(3)]
    table = parquet(rows)
    return {
        "a/lines": {"train.jsonl": json_lines(rows)},
        "a/parquet": {PARQUET: table},
        "a/range": {PARQUET: table},
        _hub.KNOWN["openhermes"][0]: {PARQUET: parquet(talks)},
        _hub.KNOWN["slimorca"][0]: {"train.jsonl": json_lines(talks)},
        _hub.KNOWN["ultrafeedback"][0]: {PARQUET: parquet(talks)},
        _hub.KNOWN["gsm8k"][0]: {
            "main/train-00000-of-00001.parquet": parquet(sums),
            "README.md": b"---\nconfigs:\n- config_name: main\n  data_files:\n"
            b"  - split: train\n    path: main/train-*\n---\n",
        },
        "a/broken-rows": {"train.jsonl": json_lines([*rows[:1], *[{"prompt": "?"}] * 3])},
        "a/odd-row": {"train.jsonl": json_lines([*rows[:3], {"prompt": "?"}])},
        "a/broken-file": {PARQUET: parquet(talks)[:-50]},
    }


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """(what the client said to each request, the server after it), from one fresh process."""
    unset = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    server = HubServer(repositories())
    env |= {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(tmp_path_factory.mktemp("home")),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "NO_PROXY": "127.0.0.1",
    }
    errors = tmp_path_factory.mktemp("client") / "stderr.txt"
    said = {}
    with errors.open("w") as log:
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT],
            env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip

        def ask(name: str) -> None:
            client.stdin.write(json.dumps(REQUESTS[name]) + "\n")
            client.stdin.flush()
            for line in client.stdout:
                if line.startswith("said "):
                    said[name] = json.loads(line.removeprefix("said "))
                    return
            raise AssertionError(f"{name}: the client ended\n{errors.read_text()[-2000:]}")

        try:
            with server:
                for name in list(REQUESTS)[:-1]:
                    ask(name)
            ask("server gone")
        finally:
            client.kill()
            client.wait()
            client.stdin.close()
            client.stdout.close()
    return said, server


@pytest.mark.parametrize("kind", ["lines", "parquet"])
def test_a_row_limit_downloads_a_part_of_the_file(hub, kind):
    said, server = hub
    numbers = [int(reply) for reply in said[kind]["replies"]]
    assert len(set(numbers)) == 20 and numbers != sorted(numbers)
    assert max(numbers) < 20 * (1 + _hub.DRAWN_FROM)  # drawn among the first rows
    repo = REQUESTS[kind][0]
    size = sum(map(len, server.repos[repo].values()))
    wanted = size / ROWS * 20
    assert wanted < server.sent[repo] < size / 3


def test_files_of_either_kind_give_the_same_draw(hub):
    said, _ = hub
    assert said["lines"] == said["parquet"]


def test_a_range_is_the_rows_it_names(hub):
    """Row groups hold 50 rows: the library's own skip(100) begins at row 50 of these."""
    said, server = hub
    assert said["range"] == {"replies": ["100", "101", "102"], "dropped": {}}
    assert server.sent["a/range"] < len(server.repos["a/range"][PARQUET]) / 3


@pytest.mark.parametrize("name", list(_hub.KNOWN))
def test_known_sets_are_asked_for_at_their_revision(hub, name):
    said, server = hub
    assert len(said[name]["replies"]) in (3, 5)
    asked = server.revisions[_hub.KNOWN[name][0]]
    assert _hub.REVISIONS[name] in asked and "main" not in asked


def test_an_odd_row_is_dropped_and_counted(hub):
    said, _ = hub
    assert said["odd row"] == {"replies": ["0", "1", "2"], "dropped": {"no field 'completion'": 1}}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("broken rows", "ValueError: a/broken-rows, row 2: no field 'completion'"),
        ("broken file", "OSError: cannot read 'a/broken-file', split 'train', from the Hub"),
        ("no such split", "Bad split: validation. Available splits: ['train']"),
        ("no such set", "Dataset 'a/nothing' doesn't exist on the Hub"),
        ("server gone", "OSError: cannot read 'a/lines', split 'train', from the Hub"),
    ],
)
def test_errors_name_the_set_and_what_is_wrong(hub, request_, message):
    said, _ = hub
    assert message in said[request_]["error"]
