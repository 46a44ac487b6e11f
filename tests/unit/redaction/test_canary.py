"""A canary in every place where a secret can stand, and then everything that was written is read.

Each place has a canary of its own, so a leak names the place it came from. Two carry none: prompts
and answers, which are data and are stored as they are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import socket
import threading
import traceback
import warnings

import pytest
from datasets import Dataset
from tiny_model import build_tiny
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

import postlab
from postlab import terminal
from postlab.judge import JudgeError, endpoint_chat, endpoint_judge, judge_pairs
from postlab.report import summary_frame, write_report, written_comparison
from postlab.runs import Run
from postlab.runs import key as fingerprint
from postlab.runs.processes import FirstProcessFailed

PACKAGE = os.path.dirname(postlab.__file__) + os.sep  # a clone may be called postlab, too
ENVIRONMENT = {  # variable: what it holds
    "OPENAI_API_KEY": "sk-{}", "MY_JUDGE_KEY": "{}", "HF_TOKEN": "hf_{}", "WANDB_API_KEY": "{}",
    "AWS_SECRET_ACCESS_KEY": "{}", "DB_PASSWORD": "{}", "SLACK_WEBHOOK": "https://h/{}",
    "https_proxy": "http://me:{}@127.0.0.1:9", "http_proxy": "http://me:{}@127.0.0.1:9",
    "HF_ENDPOINT": "http://me:{}@127.0.0.1:9", "DATABASE_URL": "postgres://me:{}@h/db",
}  # fmt: skip
SETTINGS = {  # a field of the trainer's configuration: what it holds
    "hub_token": "hf_{}", "judge_api_token": "{}", "judge_token": "{}", "judge_password": "{}",
    "judge_url": "https://me:{}@h:8000/v1", "callback_url": "https://h/x?api_key={}&n=1",
    "signed_url": "https://h/x?X-Amz-Signature={}", "key_url": "https://h/x?key={}",
    "headers": {"Authorization": "Bearer {}", "n": 1}, "header_pairs": [["X-Api-Key", "{}"]],
    "header_text": "Authorization: Bearer {}", "nested": {"a": [{"b": [{"api_key": "{}"}]}]},
    "tokens_of": {"access_tokens": ["{}"]}, "argv": ["judge", "--api-key", "{}"],
    "command": "judge --token {} --n 3", "json_text": '{{"client_secret": "{}"}}',
    "urls": ["https://h/", "https://h/?token={}"], "number": {"password": 90125901259012},
    "cookie": "session={}", "known": "sk-{}0123456789", "kwargs": {"token": "hf_{}"},
}  # fmt: skip
ROWS = [{"prompt": "What is 1 + 1?", "completion": " 2"}, {"prompt": "And 2?", "completion": " 4"}]


class Canaries:
    """Gives out secrets, and says which of them a text holds."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}

    def into(self, place: str, value):
        if isinstance(value, str):
            secret = f"Zq{len(self.places):03d}Canary7x9"
            filled = value.format(secret, secret) if "{}" in value else value
            if filled != value:
                self.places[secret] = place
            return filled
        if isinstance(value, dict):
            return {name: self.into(f"{place}.{name}", item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.into(f"{place}[{i}]", item) for i, item in enumerate(value)]
        if isinstance(value, int) and value > 10**9:
            self.places[str(value)] = place
        return value

    def found(self, text: str | bytes) -> list[str]:
        text = text if isinstance(text, bytes) else text.encode()
        return [place for secret, place in self.places.items() if secret.encode() in text]


@pytest.fixture
def canaries(monkeypatch):
    made = Canaries()
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, made.into(f"${name}", value))
    return made


class Echo:
    """A server that sends back, wherever HTTP has room for it, the key it was sent."""

    FORMS = (
        "HTTP/1.1 401 No {key}\r\nX-Key: {key}\r\nContent-Length: {n}\r\n\r\n{key}",
        "HTTP/1.1 302 To {key}\r\nLocation: https://h/{key}\r\nContent-Length: {n}\r\n\r\n{key}",
        "HTTP/1.1 429 {key}\r\nRetry-After: {key}\r\nContent-Length: {n}\r\n\r\n{key}",
        "HTTP/1.1 500 {key}\r\nContent-Length: {n}\r\nSet-Cookie: {key}\r\n\r\n{key}",
        'HTTP/1.1 200 {key}\r\nX-Key: {key}\r\n\r\n{{"error": "{key}"}}',
        "{key}\r\n\r\n",
        "HTTP/1.1 200 OK\r\n{key}\r\nContent-Length: {key}\r\n\r\n{key}",
        'HTTP/1.1 200 OK\r\n\r\n{{"choices": [{{"message": {{"content": "A {key}"}}}}],'
        ' "usage": {{"prompt_tokens": "{key}", "completion_tokens": "{key}"}}}}',
    )

    def __init__(self) -> None:
        self.number = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with connection:
                    data = connection.recv(65536)
                    while b"\r\n\r\n" not in data or not data.endswith(b"}"):
                        data += connection.recv(65536)
                    key = data.split(b"Bearer ")[1].split(b"\r\n")[0].decode()
                    form = self.FORMS[self.number % len(self.FORMS)]
                    self.number += 1
                    connection.sendall(form.format(key=key, n=len(key)).encode())

    def close(self) -> None:
        self._socket.close()


@dataclasses.dataclass
class Config(SFTConfig):
    """A learner's own configuration, with a field for each place."""

    settings: dict = dataclasses.field(default_factory=dict)
    judge_api_token: str = ""
    judge_token: str = ""
    judge_password: str = ""
    judge_url: str = ""
    callback_url: str = ""
    cookie: str = ""


class Judging(TrainerCallback):
    """A callback that holds a key, as one that asks a judge would."""

    def __init__(self, key: str) -> None:
        self.api_key = key
        self.headers = {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_tiny(tmp_path_factory.mktemp("base") / "tiny-base", hidden=16, layers=1)


def trainer(base, run, canaries, number):
    known = {field.name for field in dataclasses.fields(Config)}
    filled = {name: canaries.into(f"config.{name}", value) for name, value in SETTINGS.items()}
    direct = {name: value for name, value in filled.items() if name in known}
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        args=Config(
            output_dir=run.checkpoints, use_cpu=True, bf16=False, report_to="none", max_steps=2,
            save_steps=1, logging_steps=1, gradient_checkpointing=False, learning_rate=number,
            settings=filled, eos_token="<|im_end|>", **direct,
        ),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=AutoTokenizer.from_pretrained(base),
        callbacks=[Judging(canaries.into("a callback", "sk-{}"))],
    )  # fmt: skip


def chains(error: BaseException) -> str:
    """An error as Python shows it, and as a debugger does that prints what our frames hold."""
    shown = "".join(traceback.format_exception(error))
    while error is not None:
        stack = traceback.StackSummary.extract(
            traceback.walk_tb(error.__traceback__), capture_locals=True
        )
        shown += repr(error) + "".join(
            f"{frame.name} {frame.locals}\n"
            for frame in stack
            if frame.filename.startswith(PACKAGE)
        )
        error = error.__cause__ or error.__context__
    return shown


def test_no_secret_is_in_any_artefact_of_a_run(
    base, canaries, tmp_path, monkeypatch, capfd, caplog, recwarn
):
    import pandas as pd

    caplog.set_level(logging.DEBUG)
    logging.getLogger("matplotlib").setLevel(logging.INFO)  # it lists every font
    monkeypatch.setenv("POSTLAB_RUNS", str(tmp_path / "runs"))
    notes = canaries.into("notes", {"judge": {"api_key": "{}"}, "url": "https://me:{}@h/v1"})
    for stage, parent in (("base", None), ("sft", "base")):
        run = Run("tiny", 0, stage, parent)
        if stage == "sft":
            run.train(trainer(base, run, canaries, 1e-3))
        rows = [{"id": str(i), "family": "f", "prompt": "p", "sample": 0, "answer": "a",
                 "closed": True, "arithmetic": float(i % 2), "length": 1.0, "kl": 0.0}
                for i in range(30)]  # fmt: skip
        run.save_eval(pd.DataFrame(rows), "key", notes=notes)
    # A manifest of an earlier version, with secrets in it: what has changed is printed.
    manifest = json.loads((run.folder / "manifest.json").read_text("utf-8"))
    assert manifest["config"]["eos_token"] == "<|im_end|>"
    assert manifest["config"]["judge_api_token"] == "<redacted>"
    old = manifest | {"key": "old"}
    old["config"] = old["config"] | {"judge_api_token": canaries.into("old", "{}")}
    (run.folder / "manifest.json").write_text(json.dumps(old), "utf-8")
    capfd.readouterr()
    run.train(trainer(base, run, canaries, 1e-2))
    printed = capfd.readouterr()
    assert "config.learning_rate" in printed.out and "previous" in printed.out
    run.save_eval(pd.DataFrame(rows), "key", notes=notes)
    (run.folder.with_name("sft.previous") / "manifest.json").unlink()  # the test's own leak
    page = write_report("tiny")
    summary = json.loads((page.parent / "summary.json").read_text("utf-8"))
    texts = {"printed": "".join(printed), "log": caplog.text, "manifest": repr(run.manifest)}
    texts |= {
        "frame": repr(summary_frame(summary)),
        "warnings": repr([str(w.message) for w in recwarn]),
    }
    with contextlib.suppress(ValueError):
        texts["written"] = str(written_comparison("tiny"))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(canaries.places) > 50 and len(files) > 25
    leaks = {name: canaries.found(text) for name, text in texts.items()}
    leaks |= {str(path): canaries.found(path.read_bytes()) for path in files}
    assert {name: places for name, places in leaks.items() if places} == {}
    one, other = (fingerprint.describe(trainer(base, run, canaries, 1e-2)) for _ in "ab")
    assert canaries.found(json.dumps(one)) == []
    assert one["config"] == other["config"]  # another key is no other training


def test_no_secret_is_in_what_a_judge_says_or_writes(canaries, tmp_path, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    server, texts = Echo(), {}
    try:
        for number in range(len(Echo.FORMS)):
            server.number = number
            for variable in ("OPENAI_API_KEY", "MY_JUDGE_KEY"):
                options = {"model": "m", "key_variable": variable, "retries": 0}
                options |= {"log": tmp_path / f"{number}{variable}.jsonl", "timeout": 5}
                judge = endpoint_judge(server.url, **options)
                name = f"{variable} {number}"
                try:
                    texts[name] = repr(judge_pairs(judge, ["p"], ["x"], ["y"], concurrency=2))
                except JudgeError as error:
                    texts[name] = chains(error)
                texts[name] += repr(judge) + str(judge.spent) + repr(vars(judge._chat))
        server.number = len(Echo.FORMS) - 1
        chat = endpoint_chat(server.url, max_tokens=9, **options | {"log": None})
        texts["a reply"] = chat([{"role": "user", "content": "q"}])
        assert "A <redacted>" in texts["a reply"]
    finally:
        server.close()
    for place, url in {
        "user": "https://me:{}@h/v1", "query": "https://h/v1?api_key={}", "name": "https://{}@h/v1",
        "fragment": "https://h/v1#{}", "scheme": "ftp://me:{}@h/v1", "port": "https://h:{}/v1",
    }.items():  # fmt: skip
        with pytest.raises(ValueError) as refused:
            endpoint_judge(canaries.into(f"url.{place}", url), model="m")
        texts[f"url {place}"] = "".join(traceback.format_exception(refused.value)[-1:])
    with pytest.raises(JudgeError) as caught:  # through the proxy, whose address has a password
        endpoint_judge("https://judge.example/v1", model="m", retries=0)("p", "x", "y")
    texts["proxy"] = chains(caught.value)
    texts |= {"log": caplog.text, "printed": "".join(capfd.readouterr())}
    texts |= {str(path): path.read_text("utf-8") for path in tmp_path.rglob("*.jsonl")}
    leaks = {name: canaries.found(text) for name, text in texts.items()}
    assert {name: places for name, places in leaks.items() if places} == {}


def test_no_secret_is_in_the_errors_of_the_hub_the_command_and_a_launch(
    canaries, monkeypatch, capfd, tmp_path
):
    from postlab.datasets import instruction_rows
    from postlab.runs import processes

    texts = {}
    for place, source in {
        "user": "https://me:{}@h/rows.jsonl", "query": "https://h/rows.jsonl?token={}",
        "repository": "me/rows",
    }.items():  # fmt: skip
        with pytest.raises((OSError, ValueError)) as caught:
            instruction_rows(canaries.into(f"source.{place}", source), split="train", n=2)
        texts[place] = "".join(traceback.format_exception(caught.value))
    from postlab.models import resolve_base

    with pytest.raises(ValueError) as caught:
        resolve_base(canaries.into("base", "https://me:{}@h/x?api_key={}"))
    texts["base"] = "".join(traceback.format_exception(caught.value))
    for arguments in (["rows"], ["doctor"], ["preflight", "--stage", "sft", "--model"]):
        url = canaries.into(f"argument of {arguments[0]}", "https://me:{}@h/x.jsonl?api_key={}")
        with contextlib.suppress(SystemExit):
            terminal.main([*arguments, url])
    texts["printed"] = "".join(capfd.readouterr())
    secret = canaries.into("the first process's error", "cannot reach https://me:{}@h/")

    def fails():
        raise OSError(secret)

    told = []

    class Group:
        def broadcast_object_list(self, outcome, **_):
            told.append(repr(outcome))

    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "rank", lambda: 0)
    monkeypatch.setattr(processes, "_group", Group)
    with pytest.raises((OSError, FirstProcessFailed)), warnings.catch_warnings():
        processes.on_first(fails)
    texts["told to the others"] = told[0]
    leaks = {name: canaries.found(text) for name, text in texts.items()}
    assert {name: places for name, places in leaks.items() if places} == {}


def test_no_secret_is_in_a_notebooks_output(canaries, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    server = Echo()
    cells = [
        "%xmode Verbose\nfrom postlab.judge import endpoint_judge, judge_pairs\n"
        f"judge = endpoint_judge({server.url!r}, model='m', retries=0, log='judge.jsonl')\njudge",
        *(f"judge({number}, 'x', 'y')" for number in "1234567"),
        "judge_pairs(judge, ['p'], ['x'], ['y'], concurrency=2)",
        "judge('8', 'x', 'y'), judge.spent, vars(judge)",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    try:
        NotebookClient(
            book, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
    finally:
        server.close()
    text = nbformat.writes(book)
    assert text.count("JudgeError") > 7 and "<judge: <endpoint m at" in text
    assert canaries.found(text) == []
