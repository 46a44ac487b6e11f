"""Locks, renames and syncs where the system does less than Linux: Google Drive's mount, Windows.

Each system is emulated by the errors it answers with; the locks are tried by real processes.
"""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from postlab import storage

fcntl = pytest.importorskip("fcntl", reason="Windows: see test_anywhere.py")

UNSUPPORTED = ("ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL", "ENOLCK")
# A process on a mount without flock, which holds the lock until it is killed or hears a line.
HOLDER = """
import errno, fcntl, sys
from pathlib import Path
from postlab import storage

def flock(*arguments):
    raise OSError(errno.ENOSYS, "Function not implemented")

fcntl.flock = flock
with storage.locked(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    sys.stdin.readline()
"""
# The same; each process adds one to a number in a file, slowly enough to lose some without a lock.
COUNTER = (
    HOLDER[: HOLDER.index("with storage")]
    + """
import time
for _ in range(5):
    with storage.locked(Path(sys.argv[1]), "busy", wait_s=60):
        number = Path(sys.argv[2])
        before = int(number.read_text())
        time.sleep(0.01)
        number.write_text(str(before + 1))
"""
)


def no_flock(name: str = "ENOSYS"):
    def flock(*arguments):
        raise OSError(getattr(errno, name), name)

    return flock


def python(code: str, *arguments: object, **options) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(Path(storage.__file__).parents[1])}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, **options)


def holder(lock: Path) -> subprocess.Popen:
    process = python(HOLDER, lock, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a lock, on a mount without flock."""
    monkeypatch.setattr(fcntl, "flock", no_flock())
    return tmp_path / ".sft.lock"


def held(lock: Path) -> Path:
    return lock.with_name(".sft.lock.held")


def left_by(lock: Path, *, age: float, **owner: object) -> None:
    """A lock file that somebody has left, `age` seconds ago."""
    held(lock).write_text(json.dumps(owner) if owner else "")
    then = time.time() - age
    os.utime(held(lock), (then, then))


def refused(lock: Path) -> str:
    with pytest.raises(storage.StageBusy) as error, storage.locked(lock, "busy"):
        pass
    return str(error.value)


# ---- the lock file


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_where_flock_is_not_supported_a_file_is_the_lock(tmp_path, monkeypatch, name):
    monkeypatch.setattr(fcntl, "flock", no_flock(name))
    lock = tmp_path / ".sft.lock"
    for _ in range(2):
        with storage.locked(lock, "busy"):
            assert json.loads(held(lock).read_text())["pid"] == os.getpid()
            refused(lock)  # from within this process, too, as with flock
        assert not held(lock).exists()
    with pytest.raises(KeyError), storage.locked(lock, "busy"):
        raise KeyError
    assert [file.name for file in tmp_path.iterdir()] == [".sft.lock"]


def test_an_error_that_says_nothing_of_locks_is_not_taken_for_one(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_flock("EBADF"))
    with pytest.raises(OSError, match="EBADF"), storage.locked(tmp_path / "lock", "busy"):
        pass
    assert not list(tmp_path.glob("*.held"))


def test_another_process_holds_it_until_it_ends_or_is_killed(lock):
    other = holder(lock)
    message = refused(lock)
    assert message.startswith("busy It holds ") and str(held(lock)) in message
    assert f"process {other.pid} on " in message and "5 minutes" in message
    left_by(
        lock, age=10 * storage.SILENT_S, **json.loads(held(lock).read_text())
    )  # silent, but it can be seen to be alive
    refused(lock)
    other.communicate("\n")
    assert not held(lock).exists()

    other = holder(lock)
    left = held(lock).read_text()
    other.kill()
    if hasattr(os, "waitid"):  # it is a zombie afterwards
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    else:
        other.wait()
    for _ in range(2):
        begun = time.monotonic()
        with storage.locked(lock, "busy"):
            assert json.loads(held(lock).read_text())["pid"] == os.getpid()
        assert time.monotonic() - begun < 5
        other.communicate()  # and now it is gone
        held(lock).write_text(left)


def test_waiting_processes_take_turns_and_only_one_takes_over_a_dead_ones_lock(lock, tmp_path):
    dead = holder(lock)
    dead.kill()
    dead.communicate()
    number = tmp_path / "number"
    number.write_text("0")
    processes = [python(COUNTER, lock, number) for _ in range(4)]
    assert [process.wait(120) for process in processes] == [0] * 4
    assert number.read_text() == "20"
    assert {file.name for file in tmp_path.iterdir()} == {".sft.lock", "number"}


@pytest.mark.parametrize(
    "owner",
    [
        {"host": "another", "pid": 1, "started": "7", "id": "x"},
        {},  # killed between creating the file and writing it
        {"host": ["odd"], "pid": "odd"},
    ],
)
def test_a_lock_from_another_machine_counts_until_it_is_silent_for_long(lock, owner, monkeypatch):
    monkeypatch.setattr(storage, "BEAT_S", 0.05)
    left_by(lock, age=storage.SILENT_S - 30, **owner)
    assert "s ago" in refused(lock)
    left_by(lock, age=storage.SILENT_S + 1, **owner)
    with storage.locked(lock, "busy"):
        assert json.loads(held(lock).read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
@pytest.mark.parametrize("alive", [True, False])
def test_a_clock_that_was_set_takes_no_lock_from_a_living_holder(lock, monkeypatch, jump, alive):
    monkeypatch.setattr(storage, "BEAT_S", 0.2)
    left_by(lock, age=jump, host="another", pid=1)
    done = threading.Event()

    def beat() -> None:  # by the holder's clock, which is not ours
        while alive and not done.wait(0.05):
            then = held(lock).stat().st_mtime + 0.05
            os.utime(held(lock), (then, then))

    holder = threading.Thread(target=beat)
    holder.start()
    try:
        if alive:
            assert "last sign of life just now" in refused(lock)
        else:
            with storage.locked(lock, "busy"):
                pass
    finally:
        done.set()
        holder.join()


def test_a_turn_from_the_future_is_no_endless_wait(lock, monkeypatch):
    monkeypatch.setattr(storage, "BEAT_S", 0.05)
    left_by(lock, age=10**6, host="another", pid=1)
    turn = held(lock).with_name(held(lock).name + ".turn")
    turn.touch()
    os.utime(turn, (time.time() + 86400,) * 2)
    begun = time.monotonic()
    with storage.locked(lock, "busy"):
        pass
    assert time.monotonic() - begun < 30


def test_a_lock_whose_file_was_deleted_keeps_nobody_out(tmp_path, monkeypatch):
    """Two processes would hold it: the one with the deleted file, and one with a new file."""
    path, plain, deleted = tmp_path / "runs" / ".sft.lock", storage._kernel_lock, []

    def between(handle):
        if not deleted:
            deleted.append(path.unlink())
        return plain(handle)

    monkeypatch.setattr(storage, "_kernel_lock", between)
    with storage.locked(path, "busy"):
        assert path.exists() and "busy" in refused(path)


def test_a_number_that_another_process_has_by_now_is_not_the_holder(lock):
    host = storage._host()
    left_by(lock, age=0, host=host, pid=os.getppid(), started="1", id="x")
    with storage.locked(lock, "busy"):
        pass
    started = storage._process_start(os.getppid())
    left_by(lock, age=10**6, host=host, pid=os.getppid(), started=started, id="x")
    refused(lock)


def test_of_two_that_find_a_dead_lock_the_second_leaves_the_firsts_alone(lock):
    left_by(lock, age=10**6, host="another", pid=1)
    stale = held(lock).read_text()
    held(lock).write_text("the first one's")  # between reading it and deleting it
    storage._clear(held(lock), stale)
    assert held(lock).read_text() == "the first one's"


@pytest.mark.parametrize("times", [True, False])
def test_the_holder_gives_a_sign_of_life(lock, monkeypatch, times):
    if not times:
        monkeypatch.setattr(os, "utime", no_flock("ENOTSUP"))
    monkeypatch.setattr(storage, "BEAT_S", 0.02)
    with storage.locked(lock, "busy"):
        text, first = held(lock).read_text(), held(lock).stat().st_mtime_ns
        until = time.monotonic() + 20
        while held(lock).stat().st_mtime_ns == first and time.monotonic() < until:
            time.sleep(0.02)
        assert held(lock).stat().st_mtime_ns > first and held(lock).read_text() == text


def test_who_lost_the_lock_does_not_release_the_next_ones(lock):
    with storage.locked(lock, "busy"):
        left_by(lock, age=0, host="another", pid=1)
    assert json.loads(held(lock).read_text())["host"] == "another"


FORKING = (
    HOLDER[: HOLDER.index("with storage")]
    + """
import os
with storage.locked(Path(sys.argv[1]), "busy"):
    child = os.fork()
    if child == 0:
        sys.exit(0)  # leaves the block, in the child
    os.waitpid(child, 0)
    print(Path(sys.argv[1] + ".held").exists())
"""
)


def test_a_forked_child_does_not_release_its_parents_lock(lock):
    out, _ = python(FORKING, lock, stdout=subprocess.PIPE).communicate(timeout=60)
    assert out == "True\n" and not held(lock).exists()


def test_windows_locks_with_msvcrt_and_unlocks_before_it_closes(tmp_path, monkeypatch):
    calls = []

    def locking(descriptor, mode, count):
        calls.append((mode, count))
        if mode == "LK_NBLCK" and len(calls) == 3:
            raise PermissionError(errno.EACCES, "Permission denied")

    fake = SimpleNamespace(locking=locking, LK_NBLCK="LK_NBLCK", LK_UNLCK="LK_UNLCK")
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    with storage.locked(tmp_path / "lock", "busy"):
        assert calls == [("LK_NBLCK", 1)]
    assert calls[1:] == [("LK_UNLCK", 1)]
    with pytest.raises(storage.StageBusy, match="busy"), storage.locked(tmp_path / "lock", "busy"):
        pass
    monkeypatch.setitem(sys.modules, "msvcrt", None)  # neither: the lock file
    with storage.locked(tmp_path / "lock", "busy"):
        assert (tmp_path / "lock.held").exists()


# ---- renames


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, in no time."""
    made: list[float] = []
    monkeypatch.setattr(storage.time, "sleep", made.append)
    return made


def failing(monkeypatch, error: OSError, times: int, *, afterwards: bool = False) -> None:
    """Let os.replace fail; `afterwards` reports an error for a rename that was made."""
    plain, left = os.replace, [times]

    def replace(one, other):
        left[0] -= 1
        if afterwards:
            plain(one, other)
        if left[0] >= 0:
            raise error
        plain(one, other)

    monkeypatch.setattr(os, "replace", replace)


def windows(number: int) -> OSError:
    error = PermissionError(errno.EACCES, "The process cannot access the file")
    error.winerror = number
    return error


PASSING = {
    **{name: OSError(getattr(errno, name), name) for name in ("EBUSY", "EIO", "EAGAIN")},
    "ENOTEMPTY": OSError(errno.ENOTEMPTY, "Directory not empty"),
    "WinError 5": windows(5),
    "WinError 32": windows(32),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_rename_that_fails_for_a_moment_is_tried_again(tmp_path, monkeypatch, pauses, name):
    monkeypatch.setattr(storage, "_exchange", lambda one, other: False)  # no renameat2 on FUSE
    storage.atomic_text(tmp_path / "a.json", "old")
    failing(monkeypatch, PASSING[name], 3)
    storage.atomic_text(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "new" and pauses == list(storage.PAUSES[:3])
    for text in ("old", "new"):
        with storage.atomic_folder(tmp_path / "model") as folder:
            (folder / "w").write_text(text)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.json", "model"]
    assert (tmp_path / "model" / "w").read_text() == "new"


@pytest.mark.parametrize("name", ["EBUSY", "WinError 32"])
def test_it_is_not_tried_for_ever_and_what_was_there_stays(tmp_path, monkeypatch, pauses, name):
    path = tmp_path / "model"
    with storage.atomic_folder(path) as folder:
        (folder / "w").write_text("old")
    monkeypatch.setattr(storage, "_exchange", lambda one, other: False)
    plain = os.replace

    def replace(one, other):
        if Path(other) == path and ".tmp-" in str(one):
            raise PASSING[name]
        plain(one, other)

    monkeypatch.setattr(os, "replace", replace)
    kind = storage.FileInUse if "Win" in name else OSError
    with pytest.raises(kind) as error, storage.atomic_folder(path) as folder:
        (folder / "w").write_text("new")
    assert pauses == list(storage.PAUSES) and sum(pauses) < 10
    assert kind is OSError or "a program has it open" in str(error.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    assert (path / "w").read_text() == "old"


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.ENOENT, errno.EXDEV])
def test_an_error_that_will_stay_is_raised_at_once(tmp_path, monkeypatch, pauses, number):
    failing(monkeypatch, OSError(number, "no"), 1)
    with pytest.raises(OSError, match="no"):
        storage.atomic_text(tmp_path / "a", "new")
    assert pauses == [] and list(tmp_path.iterdir()) == []


def test_a_rename_that_was_made_although_it_failed_is_made_once(tmp_path, monkeypatch, pauses):
    failing(monkeypatch, PASSING["EIO"], 1, afterwards=True)
    storage.atomic_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new" and pauses == []


def test_a_missing_source_is_an_error_even_where_the_target_exists(tmp_path):
    (tmp_path / "target").write_text("old")
    with pytest.raises(FileNotFoundError):
        storage.rename(tmp_path / "missing", tmp_path / "target")


def test_a_folder_that_cannot_be_deleted_at_once_is_deleted(tmp_path, monkeypatch, pauses):
    folder = tmp_path / "checkpoint-2"
    folder.mkdir()
    (folder / "w").touch()
    plain, errors = os.rmdir, [PASSING["ENOTEMPTY"], PASSING["EBUSY"]]

    def rmdir(*arguments, **options):
        if errors:
            raise errors.pop()
        plain(*arguments, **options)

    monkeypatch.setattr(os, "rmdir", rmdir)
    storage.remove_folder(folder)
    assert not folder.exists() and pauses == list(storage.PAUSES[:2])
    with pytest.raises(FileNotFoundError):
        storage.remove_folder(folder)


# ---- syncs


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_mount_that_cannot_sync_is_no_error(tmp_path, monkeypatch, name):
    monkeypatch.setattr(os, "fsync", no_flock(name))
    storage.atomic_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.parametrize("name", ["EIO", "ENOSPC", "EDQUOT"])
def test_contents_that_did_not_reach_the_disk_are_an_error(tmp_path, monkeypatch, name):
    storage.atomic_text(tmp_path / "a", "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_flock(name))
        with pytest.raises(OSError, match=name):
            storage.atomic_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"


def test_a_folder_that_cannot_be_opened_or_synced_is_no_error(tmp_path, monkeypatch):
    plain_open, plain_sync = os.open, os.fsync

    def opened(path, *arguments):
        if Path(path).is_dir():
            raise OSError(errno.EISDIR, "Is a directory")
        return plain_open(path, *arguments)

    monkeypatch.setattr(os, "open", opened)
    storage.sync(tmp_path)
    monkeypatch.setattr(os, "open", plain_open)
    monkeypatch.setattr(os, "fsync", no_flock("EACCES"))
    storage.sync(tmp_path)
    (tmp_path / "a").touch()
    with pytest.raises(OSError, match="EACCES"):
        storage.sync(tmp_path / "a")
    monkeypatch.setattr(os, "fsync", plain_sync)


def test_windows_syncs_a_writable_handle_and_leaves_folders_and_read_only_files(
    tmp_path, monkeypatch
):
    flags, plain = [], os.open

    def opened(path, how, *arguments):
        flags.append(how & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR))
        if Path(path).name == "read-only" and how & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return plain(path, how, *arguments)

    for name in ("a", "read-only"):
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(os, "open", opened)
    storage.sync(tmp_path / "a")
    monkeypatch.setattr(sys, "platform", "win32")
    for name in ("a", "read-only", "."):
        storage.sync(tmp_path / name)
    assert flags == [os.O_RDONLY, os.O_RDWR, os.O_RDWR]


# ---- a full disk, a quota, and what Google Drive answers


def saving(error: Exception, advice="run again.") -> str:
    guard = storage.disk_guard(
        "a checkpoint", Path.cwd(), needed=12_300_000, shown="runs/x", advice=advice
    )
    with pytest.raises(storage.DiskFull) as raised, guard:
        raise error
    return str(raised.value)


def test_a_quota_and_an_input_output_error_are_told_from_a_full_disk():
    full = saving(OSError(errno.ENOSPC, "No space left on device"))
    quota = saving(OSError(errno.EDQUOT, "Disk quota exceeded"))
    broken = saving(OSError(errno.EIO, "Input/output error"))
    large = saving(OSError(errno.EFBIG, "File too large"))
    assert "larger than a limit" in large and "FAT32" in large and "are free" not in large
    rust = saving(ValueError("Error while serializing: I/O error: ... (os error 5)"))
    assert "are free" in full and "Drive" not in full
    assert "quota" in quota and "are free" not in quota  # the disk's free space says nothing
    assert broken == rust and "input/output error" in broken and "failing" in broken
    for text in (full, quota, broken):
        assert "at least 12.3 MB are needed in runs/x" in text and "run again." in text
    assert all("empty the trash" in text for text in (quota, broken))


@pytest.mark.parametrize(
    "error, refused",
    [
        (OSError(errno.EROFS, "Read-only file system", "{folder}/checkpoint-2/w"), True),
        (ValueError("I/O error: Read-only file system (os error 30)"), True),
        (OSError(errno.EACCES, "Permission denied", "{folder}/w"), True),
        (OSError(errno.EACCES, "Permission denied", "/etc/shadow"), False),  # a reward's own
        (OSError(errno.EPERM, "Operation not permitted"), False),
    ],
)
def test_a_disk_that_turns_read_only_is_named(tmp_path, error, refused):
    if isinstance(error, OSError) and error.filename:
        error.filename = error.filename.format(folder=tmp_path)
    guard = storage.disk_guard("a checkpoint", tmp_path, needed=1, shown="runs/x", advice="")
    with pytest.raises(storage.ReadOnlyFolder if refused else type(error)) as raised, guard:
        raise error
    if refused:
        assert "Cannot write to runs/x any more" in str(raised.value)
        assert "Nothing saved earlier is lost" in str(raised.value)
        assert str(tmp_path) not in str(raised.value)


def test_advice_is_worked_out_only_when_it_is_needed():
    calls = []
    guard = {"needed": 1, "shown": "x", "advice": lambda: calls.append(1) or "{that}"}
    with storage.disk_guard("a", Path.cwd(), **guard):
        pass
    with pytest.raises(KeyError), storage.disk_guard("a", Path.cwd(), **guard):
        raise KeyError
    assert calls == []
    assert saving(OSError(errno.ENOSPC, "full"), guard["advice"]).endswith("{that}")


# ---- files that a person names


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_only_a_regular_file_of_a_limited_size_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * 11)
    (tmp_path / "link").symlink_to(tmp_path / "large")
    wrong = {tmp_path / "pipe": "pipe is a named pipe", tmp_path: "is a folder"}
    wrong |= {tmp_path / "large": "large is larger than", Path("/dev/zero"): "zero is a device"}
    for path, says in wrong.items():
        with pytest.raises(ValueError, match=says):
            storage.read_file(path, most=10)
    assert storage.read_file(tmp_path / "link", most=11) == b"x" * 11
    with pytest.raises(FileNotFoundError):
        storage.read_file(tmp_path / "missing", most=10)
    # A file of /proc says that it is empty, and isn't.
    with pytest.raises(ValueError, match="larger than"):
        storage.read_file(Path("/proc/self/status"), most=10)


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        (b"", "Expecting value"),
        (b'{"a": ', "Expecting value"),
        (b"\xff\xfe{", "byte 0 is not UTF-8"),
        (b"[" * 100_000, "nested too deeply|Expecting value"),
        (b"9" * 5000, "4300 digits"),
    ],
    ids=["empty", "cut", "binary", "deep", "digits"],
)
def test_what_is_no_json_is_named_and_no_manifest(tmp_path, contents, says):
    (tmp_path / "manifest.json").write_bytes(contents)
    with pytest.raises(ValueError, match=f"manifest.json is not valid JSON: .*({says})"):
        storage.read_json(tmp_path / "manifest.json", most=storage.MANIFEST_BYTES)
    assert storage.manifest(tmp_path) is None


@pytest.mark.parametrize("held", ["[1, 2]", "null", '"x"', "3"])
def test_a_manifest_and_a_seal_are_objects(tmp_path, held):
    (tmp_path / "manifest.json").write_text(held)
    (tmp_path / storage.SEAL).write_text(held)
    assert storage.manifest(tmp_path) is None and not storage.sealed(tmp_path)
