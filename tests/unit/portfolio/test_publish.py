"""Publishing: to a server on this machine that speaks the Hub's protocol."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys

import pytest
from hub_uploads import TOKEN, UploadServer
from portfolio_runs import runs

from postlab.portfolio import UploadFailed, publish, write_portfolio, write_space

module = importlib.import_module("postlab.portfolio.publish")
CARD = "---\nlicense: apache-2.0\n---\n# A stage\n"
SFT, DPO, ROWS, ARENA = (
    "ada/postlab-tiny-sft", "ada/postlab-tiny-dpo", "ada/postlab-tiny-dpo-rows",
    "ada/postlab-tiny-arena",
)  # fmt: skip
ALL = [DPO, SFT, ROWS, ARENA]


def weights(text: bytes) -> bytes:
    header = b'{"__metadata__": {}}'
    return len(header).to_bytes(8, "little") + header + text


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture
def portfolio(tmp_path):
    folder = tmp_path / "portfolio"
    for stage in ("sft", "dpo"):
        files = {"README.md": CARD, "config.json": "{}", "chat_template.jinja": "{{ x }}"}
        files["model.safetensors"] = weights(stage.encode() * 1000)
        write(folder / "models" / f"tiny-{stage}", files)
    write(folder / "models/tiny-sft", {".eval_results/gsm8k.yaml": "- value: 1\n"})
    write(folder / "datasets/tiny-dpo-rows", {"README.md": CARD, "train.jsonl": '{"a": 1}\n'})
    write(folder, {"site/index.html": "<p>", "README.md": "# Me"})
    models = {stage: folder / f"models/tiny-{stage}" for stage in ("sft", "dpo")}
    write_space(folder / "space", models)
    return folder


@pytest.fixture
def hub(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(module, "_PAUSES", (0.0, 0.0, 0.0))
    with UploadServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def send(portfolio, monkeypatch):
    """Publish as ada, with the words that the plan shows."""
    monkeypatch.setattr(module, "_audit", lambda *_: [])

    def call(**more):
        options = {"profile": "tiny", "namespace": "ada", **more}
        options.setdefault("confirm", publish(portfolio, **options).confirm)
        return publish(portfolio, dry_run=False, **{"token": TOKEN, **options})

    return call


def test_dry_run_plans_every_file_and_makes_no_request(portfolio, hub, send, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    plan = publish(portfolio, profile="tiny", namespace="ada")
    assert hub.requests == []
    assert [repo.id for repo in plan.repositories] == ALL
    paths = [file.path for file in plan.repositories[1].files]
    assert ".eval_results/gsm8k.yaml" in paths and "chat_template.jinja" in paths
    text = str(plan)
    assert all(name in text for name in (*ALL, "private", "model.safetensors", plan.confirm))
    assert TOKEN not in text and plan.total == sum(
        f.size for r in plan.repositories for f in r.files
    )
    unnamed = publish(portfolio, profile="tiny")
    assert unnamed.confirm == "" and "<you>/postlab-tiny-sft" in str(unnamed)


def test_dry_run_with_a_token_only_reads(portfolio, hub, send):
    plan = publish(portfolio, profile="tiny", token=TOKEN)
    assert {method for method, _ in hub.requests} == {"GET"} and not hub.repos
    assert plan.namespace == "ada" and {repo.status for repo in plan.repositories} == {"new"}


def test_upload_creates_everything_as_it_is_in_the_folder(portfolio, hub, send):
    plan = send()
    assert list(hub.repos) == ALL and all(about["private"] for about in hub.about.values())
    for name in ("sft", "dpo"):
        home = portfolio / f"models/tiny-{name}"
        sent = dict(hub.repos[f"ada/postlab-tiny-{name}"])
        del sent[".gitattributes"]
        local = {
            p.relative_to(home).as_posix(): p.read_bytes() for p in home.rglob("*") if p.is_file()
        }
        assert sent == local
    assert json.loads(hub.repos[ARENA]["stages.json"])["stages"] == {"sft": SFT, "dpo": DPO}
    assert hub.repos[ARENA]["README.md"] == (portfolio / "space/README.md").read_bytes()
    (collection,) = hub.collections.values()
    assert [item["id"] for item in collection["items"]] == ALL and collection["private"]
    assert SFT in str(plan) and TOKEN not in str(plan)
    record = json.loads((portfolio / "published.json").read_text("utf-8"))
    assert record["sent"] == list(plan.sent) and "models/tiny-sft/README.md" in record["files"]


def test_a_second_upload_sends_nothing(portfolio, hub, send):
    send()
    hub.requests.clear()
    send()
    assert not hub.asked("commit/|lfs|preupload|repos/create") and len(hub.collections) == 1


@pytest.mark.parametrize("step", ["PUT /lfs", "tiny-sft/commit", "create", "/items"])
def test_an_interrupted_upload_goes_on(portfolio, hub, send, step):
    hub.fail(step, 403, message="stop")
    with pytest.raises(UploadFailed, match="(?s)stop.*Run the same call again"):
        send()
    send()
    assert list(hub.repos) == ALL and len(set(hub.asked("PUT"))) == 2
    if "PUT" not in step:  # large files that had arrived weren't sent again
        assert len(hub.asked("PUT")) == 2
    titles = [[title for _, title in about["commits"]] for about in hub.about.values()]
    assert all(t == ["initial commit", "Publish a postlab portfolio"] for t in titles)


def test_a_commit_whose_answer_is_lost_is_not_made_twice(hub, send):
    hub.fail("tiny-sft/commit", 0)
    with pytest.raises(UploadFailed, match="Run the same call again"):
        send()
    send()
    assert len(hub.about[SFT]["commits"]) == 2 and list(hub.repos) == ALL


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(hub, send, status):
    hub.fail("repos/create", status, Retry_After="0")
    hub.fail("commit/main", status, times=2)
    hub.fail("POST /api/collections", status)
    send()
    assert list(hub.repos) == ALL


def test_a_server_that_stays_busy_is_named(hub, send):
    hub.fail("repos/create", 429, times=99, Retry_After="3600", message="come back later")
    with pytest.raises(UploadFailed, match="come back later"):
        send()
    assert len(hub.asked("repos/create")) == 1  # an hour is nothing to wait for


def test_rejected_metadata_creates_nothing(portfolio, hub, send):
    for text, message in (
        (CARD.replace("apache-2.0", "mine"), "license"),
        ("---\na: [\n---\n", "YAML"),
    ):
        (portfolio / "datasets/tiny-dpo-rows/README.md").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=f"nothing was sent: {ROWS}.*{message}"):
            send()
    assert not hub.repos


@pytest.mark.parametrize("confirm", [None, "", "ada/postlab-tiny", "ada/postlab-tiny@00000000"])
def test_without_the_right_words_nothing_is_asked(hub, send, confirm):
    with pytest.raises(ValueError, match="confirm is"):
        send(confirm=confirm)
    assert hub.requests == []


def test_the_words_change_with_a_file_and_with_who_may_see_it(portfolio, hub, send):
    def words(**more):
        return publish(portfolio, profile="tiny", namespace="ada", **more).confirm

    private, public = words(), words(private=False)
    (portfolio / "models/tiny-sft/config.json").write_text("[]", encoding="utf-8")
    assert len({private, public, words()}) == 3
    with pytest.raises(ValueError, match="confirm is"):
        send(confirm=private)


def test_other_content_is_kept_unless_told(portfolio, hub, send):
    there = {"README.md": b"mine", "notes.txt": b"mine, too"}
    hub.put(SFT, there)
    with pytest.raises(ValueError, match=f"(?s){SFT} exists with other content.*README.*notes.txt"):
        send()
    assert hub.repos == {SFT: there}
    send(overwrite=True)
    assert hub.repos[SFT]["notes.txt"] == b"mine, too"
    assert hub.repos[SFT]["README.md"] == CARD.encode()


def test_private_work_never_goes_into_a_public_repository(hub, send):
    hub.put(SFT, {}, private=False)
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="exists and is public"):
            send(overwrite=overwrite)
    assert hub.repos == {SFT: {}}


def test_a_commit_in_between_is_not_overwritten(hub, send, monkeypatch):
    compared = module._compared

    def then_changed(api, repo):
        result = compared(api, repo)
        if repo.id == SFT and repo.id in hub.about:
            hub.about[SFT]["commits"].append(("c" * 40, "somebody's"))
        return result

    monkeypatch.setattr(module, "_compared", then_changed)
    with pytest.raises(UploadFailed, match="in between"):
        send()


def test_only_known_kinds_of_files_go_out(portfolio, hub, send, tmp_path):
    (tmp_path / "secret.json").write_text('"s"', encoding="utf-8")
    home = portfolio / "models/tiny-sft"
    bad = (
        "pytorch_model.bin", "optimizer.pt", "training_args.bin", ".env", "run.py", "rows.jsonl",
        ".cache/x.json", "checkpoint-10/model.safetensors", "optimizer.safetensors", "a.PKL",
        "deep/.hidden.json",
    )  # fmt: skip
    write(home, dict.fromkeys(bad, b"x"))
    (home / "out.json").symlink_to(tmp_path / "secret.json")
    (home / "outside").symlink_to(tmp_path)
    (home / "nowhere.json").symlink_to(tmp_path / "gone")
    (home / "env.json").symlink_to(home / ".env")
    (home / "inside.json").symlink_to(home / "config.json")
    os.mkfifo(home / "pipe.json")
    write(portfolio, {"models/notes.md": "x"})
    write(portfolio / "space", {"votes.jsonl": "{}", "__pycache__/app.pyc": "x"})
    plan = publish(portfolio, profile="tiny", namespace="ada")
    send()
    expected = {"README.md", "config.json", "chat_template.jinja", "model.safetensors",
                ".eval_results/gsm8k.yaml", "inside.json", ".gitattributes"}  # fmt: skip
    assert set(hub.repos[SFT]) == expected and hub.repos[SFT]["inside.json"] == b"{}"
    assert "votes.jsonl" not in hub.repos[ARENA]
    left_out = [path for path, _ in plan.left_out]
    assert {"models/notes.md", "site", "README.md"} <= set(left_out)
    for name in (*bad, "out.json", "nowhere.json", "pipe.json", "outside", "env.json"):
        folder = name.split("/")[0] + "/ " if name.startswith((".cache", "checkpoint")) else name
        assert any(path.startswith(f"models/tiny-sft/{folder}") for path in left_out), name


def break_weights(folder):
    write(folder, {"models/tiny-sft/model.safetensors": b"\x80\x04pickle"})


def drop_weights(folder):
    (folder / "models/tiny-dpo/model.safetensors").unlink()


def drop_card(folder):
    (folder / "datasets/tiny-dpo-rows/README.md").unlink()


def bad_name(folder):
    (folder / "models/tiny-sft").rename(folder / "models/tiny--sft")


def same_name(folder):
    write(folder / "models/TINY-dpo", {"README.md": CARD, "model.safetensors": weights(b"")})


def space_elsewhere(folder):
    write(folder, {"space/stages.json": '{"stages": {"sft": "../../other"}}'})


def space_broken(folder):
    write(folder, {"space/stages.json": "["})


@pytest.mark.parametrize(
    "damage, message",
    [(break_weights, "isn't a safetensors"), (drop_weights, "no weights"),
     (drop_card, "README.md is missing"), (bad_name, "Cannot have --"), (same_name, "this name"),
     (space_elsewhere, "isn't in models"), (space_broken, "isn't what write_space makes")],
)  # fmt: skip
def test_what_is_wrong_stops_the_upload_before_any_request(portfolio, hub, send, damage, message):
    damage(portfolio)
    with pytest.raises(ValueError, match=f"(?s)nothing was sent.*{message}"):
        send()
    assert hub.requests == [] and message in str(publish(portfolio, profile="tiny"))


def test_findings_of_the_audit_stop_the_upload(portfolio, hub, send, monkeypatch):
    monkeypatch.setattr(module, "_audit", lambda *_: ["README.md:3: number: 12"])
    with pytest.raises(ValueError, match="README.md:3: number: 12"):
        send()
    assert hub.requests == []


def test_holes_secrets_paths_and_dead_links_stop_the_upload(portfolio, hub, tmp_path):
    runs(tmp_path / "runs")
    write_portfolio("tiny", to=portfolio)
    write(portfolio, {"models/tiny-sft/config.json": '{"_name_or_path": "/home/somebody/base"}'})
    draft = portfolio / "drafts" / "sft.md"
    secret = "hf_" + "aB3dE5fG7hI9" * 3
    more = f"\nSee [here](nowhere.md).\n\nMine: {secret}\n"
    draft.write_text(draft.read_text("utf-8") + more, "utf-8")
    plan = publish(portfolio, profile="tiny", namespace="ada")
    assert {"hole", "secret", "path", "link"} <= {p.split(": ")[1] for p in plan.problems}
    assert "nowhere.md" in str(plan) and secret not in str(plan)
    assert "TODO(you)" in str(plan) and "/home/somebody/base" in str(plan)
    with pytest.raises(ValueError, match=r"TODO\(you\)"):
        publish(portfolio, profile="tiny", namespace="ada", dry_run=False, token=TOKEN,
                confirm=plan.confirm)  # fmt: skip
    assert hub.requests == []


def test_the_token_is_in_no_output(portfolio, hub, send, capfd, caplog):
    odd = "token\u00e9"
    texts = []
    for options, error in (
        ({"token": TOKEN + "x"}, UploadFailed),  # the server quotes the header that it got
        ({"token": odd}, ValueError),
        ({"namespace": TOKEN}, ValueError),
    ):
        with pytest.raises(error) as caught:
            send(**options)
        texts += [str(caught.value), repr(caught.value)]
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
    write(portfolio, {"datasets/tiny-dpo-rows/train.jsonl": json.dumps({"key": TOKEN})})
    with pytest.raises(ValueError, match="train.jsonl holds the token") as caught:
        send()
    texts += [str(caught.value), *capfd.readouterr(), caplog.text]
    assert not any(TOKEN in text or odd in text for text in texts)


def test_a_token_that_may_not_write_there(hub, send):
    with pytest.raises(ValueError, match="namespace is 'eve'; the token's: ada, lab"):
        send(namespace="eve")
    hub.role = "read"
    with pytest.raises(ValueError, match="only read"):
        send()
    assert not hub.repos


def test_as_a_learner_runs_it(portfolio, tmp_path):
    """In a process of its own, with the environment alone: HF_ENDPOINT, HF_TOKEN."""
    script = """
import importlib, sys
m = importlib.import_module("postlab.portfolio.publish")
m._audit = lambda *_: []
words = m.publish(sys.argv[1], profile="tiny", token=True).confirm
print(m.publish(sys.argv[1], profile="tiny", dry_run=False, confirm=words))
"""
    with UploadServer() as hub:
        settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
        settings |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", script, str(portfolio)],
            env=os.environ | settings, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert list(hub.repos) == ALL and TOKEN not in done.stdout + done.stderr
