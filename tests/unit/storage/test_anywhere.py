"""Files and locks as the system at hand has them; nothing is emulated."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from postlab import storage

HOLDER = """
import sys
from pathlib import Path
from postlab import storage

with storage.locked(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder(lock: Path) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(Path(storage.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)],
        env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("ending", ["released", "killed"])
def test_another_processs_lock_is_seen_and_free_when_it_ends(tmp_path, ending):
    lock = tmp_path / ".sft.lock"
    other = holder(lock)
    with pytest.raises(storage.StageBusy, match="busy"), storage.locked(lock, "busy"):
        pass
    if ending == "killed":
        other.kill()
    other.communicate("\n" if ending == "released" else None, timeout=60)
    with storage.locked(lock, "busy", wait_s=10):
        pass


def test_files_and_folders_are_replaced_whole_and_sealed(tmp_path):
    for text in ("old", "new é"):
        storage.atomic_text(tmp_path / "a.json", text)
        with storage.atomic_folder(tmp_path / "model") as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / "w").write_text(text, encoding="utf-8")
        assert (tmp_path / "a.json").read_text(encoding="utf-8") == text
        assert (tmp_path / "model" / "deep" / "w").read_text(encoding="utf-8") == text
    storage.seal(tmp_path / "model")
    assert storage.sealed(tmp_path / "model")
    (tmp_path / "model" / "deep" / "w").write_text("changed", encoding="utf-8")
    assert not storage.sealed(tmp_path / "model")
    storage.remove_folder(tmp_path / "model")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_process_is_known_by_its_number_and_start():
    assert storage._process_start(os.getpid()) == storage._process_start(os.getpid()) != ""
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    time.sleep(0.1)
    assert storage._process_start(ended.pid) in ("", None)
