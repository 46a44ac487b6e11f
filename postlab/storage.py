"""Files that survive a kill at any moment: temporary sibling, fsync, rename; hashes, seals, locks.

A rename inside one folder is atomic, so a reader sees the old state or the new one, never half of
it. A new folder and the one it replaces change places in one step where the system allows it (if
not, `restore` puts the old one back after a kill), and the old one is deleted afterwards. What a
killed process leaves behind has `.tmp-` or `.old-` in its name, and the next process that holds the
lock removes it.

Some file systems do less, such as Google Drive in Colab: where there are no kernel locks, a file is
the lock; a rename or an fsync that fails for a moment is tried again. Left out: two machines that
take a lock on Drive within the seconds that it needs to show one's files to the other.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import hashlib
import importlib
import json
import os
import platform
import shutil
import stat
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

SEAL = "sha256.json"
MANIFEST_BYTES = 4_000_000  # the largest manifest or config that is read; usual ones are 10 kB
LOG_BYTES = 256_000_000  # the same of a trainer's log and of an evaluation
WEIGHTS = ("*.safetensors", "*.bin")
BEAT_S = 30.0  # how often the holder of a lock file touches it, in seconds
SILENT_S = 300.0  # a lock file of another machine that is older than this no longer counts
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # between attempts to rename, in seconds
# What a mount without a call answers: FUSE, NFS without its lock server, and others.
_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK}
_PASSING = {errno.EBUSY, errno.EIO, errno.ENOTEMPTY, errno.EAGAIN}
_OPEN_ELSEWHERE = {5, 32, 33}  # Windows: access denied, sharing violation, lock violation
# Windows has no such number, and its quota is a full disk.
_QUOTA = getattr(errno, "EDQUOT", errno.ENOSPC)


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}


class DiskFull(RuntimeError):
    """The disk or the quota is full; what was saved before is intact."""


class StageBusy(RuntimeError):
    """Another process is working on the same stage."""


class FileInUse(RuntimeError):
    """Windows doesn't rename a file or a folder that a program has open."""


class ReadOnlyFolder(RuntimeError):
    """The folder is read-only, such as a mounted share or another user's folder."""


def read_file(path: Path, *, most: int) -> bytes:
    """The contents of a regular file of a limited size.

    Opening a named pipe waits for its writer, and reading some devices never ends; both are refused
    without being opened.

    Args:
        most: the largest size, in bytes.
    Raises:
        ValueError: if it isn't a regular file, or is larger; the message starts with its name.
        OSError: if it can't be read.
    """
    about = path.stat()
    kind = stat.S_IFMT(about.st_mode)
    if kind != stat.S_IFREG:
        raise ValueError(f"{path.name} is {_KINDS.get(kind, 'a device')}; expected a regular file")
    contents = b""
    if about.st_size <= most:
        with path.open("rb") as file:
            contents = file.read(most + 1)
    if max(about.st_size, len(contents)) > most:
        raise ValueError(f"{path.name} is larger than {size_text(most)}, the limit for such a file")
    return contents


def read_json(path: Path, *, most: int) -> Any:
    """The contents of a JSON file, a byte-order mark allowed.

    Raises:
        ValueError: as `read_file`, or if it isn't JSON in UTF-8.
        OSError: if it can't be read.
    """
    contents = read_file(path, most=most)
    try:
        return json.loads(contents.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8"
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as error:
        problem = str(error)
    raise ValueError(f"{path.name} is not valid JSON: {problem}")


def manifest(folder: Path) -> dict[str, Any] | None:
    """What a folder's manifest.json holds; None if there is none, or it is damaged."""
    try:
        held = read_json(folder / "manifest.json", most=MANIFEST_BYTES)
    except (OSError, ValueError):
        return None
    return held if isinstance(held, dict) else None


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Create `folder`, and turn a permission error into a message that says what to do.

    Raises:
        ReadOnlyFolder: if it can't be written to; the message names the folder and what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise ReadOnlyFolder(
            f"Cannot write to {folder} ({error.strerror}). For runs, set POSTLAB_RUNS to a folder "
            f"you can write to; for converted models and adapters, POSTLAB_CACHE."
        ) from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling; if the block succeeds, it takes the place of `path`."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with writing_to(path.parent):
        temporary.touch()
    try:
        yield temporary
        sync(temporary)
        rename(temporary, path)
        sync(path.parent)
    finally:
        _remove(temporary)  # without an error of its own, which would hide the first one


def atomic_text(path: Path, text: str) -> None:
    """Write `text` so that `path` holds either all of it or what it held before."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_json(path: Path, record: dict[str, Any]) -> None:
    """Add one line to a JSONL file, made with its folders; it is on the disk when this returns."""
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record).encode() + b"\n"
    with path.open("ab+", buffering=0) as file:  # one write, so that two processes' lines never mix
        # A torn last line must not swallow this one.
        size = file.seek(0, os.SEEK_END)
        whole = size == 0 or (file.seek(-1, os.SEEK_END), file.read(1))[1] == b"\n"
        line = line if whole else b"\n" + line
        if file.write(line) < len(line):
            raise OSError(f"only a part of a line was written to {path.name}")
    sync(path)
    if new:  # the file's name has to reach the disk, too
        sync(path.parent)


def read_json_lines(path: Path) -> tuple[list[tuple[int, dict[str, Any]]], int]:
    """What `append_json` has written: (number of a line, its object), and how many lines are torn.

    A kill or a crash can cut a line short or leave zeros in it, and the rest of the file is whole.

    Raises:
        ValueError: if a line is none of ours, cut short or not, such as a CSV file's.
    """
    records: list[tuple[int, dict[str, Any]]] = []
    torn = 0
    text = path.read_bytes().decode("utf-8-sig", errors="replace") if path.exists() else ""
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip("\0 \t\r")
        try:
            record = json.loads(line) if line else None
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            records.append((number, record))
        elif line.startswith("{"):
            torn += 1
        elif line:
            raise ValueError(
                f"{path}, line {number}: expected a JSON object, got {line[:60]!r}; give this log a"
                " path of its own"
            )
    return records, torn


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary sibling; if the block succeeds, it takes the place of `path`.

    At every moment `path` is either the whole old folder or the whole new one, if need be after
    `restore`: the two change places, and only then is the old one deleted.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    _remove(temporary)
    with writing_to(path.parent):
        temporary.mkdir()
    restore(path)
    try:
        yield temporary
        # 1. Write the new folder to disk before anything changes.
        for file in sorted(temporary.rglob("*")):
            sync(file)
        sync(temporary)
        # 2. Put it in place; the old folder, if there is one, becomes the temporary one.
        if not os.path.lexists(path):
            rename(temporary, path)
        elif not _exchange(temporary, path):
            aside = path.with_name(f".{path.name}.old-{os.getpid()}")
            rename(path, aside)  # `restore` repairs a kill after this line
            try:
                rename(temporary, path)
            except BaseException:
                restore(path)
                raise
            rename(aside, temporary)
        sync(path.parent)
    finally:
        # 3. Delete what is left: the old folder, or a new one that wasn't finished.
        _remove(temporary)


def restore(path: Path) -> None:
    """Put the old folder back at `path` if a kill came before the new one was renamed.

    That can happen only on a system where two folders can't change places in one step. If several
    were left, the one that was moved aside last is put back.
    """
    left = path.parent.glob(f".{glob.escape(path.name)}.old-*")
    for aside in sorted(left, key=lambda folder: folder.lstat().st_ctime_ns, reverse=True):
        if os.path.lexists(path):
            _remove(aside)
        else:
            rename(aside, path)


def rename(path: Path, target: Path) -> None:
    """Rename a file or a folder; try again for some seconds if the system is only busy.

    Google Drive's mount can fail for a moment, and so does Windows while a virus scanner reads.

    Raises:
        FileInUse: on Windows, if another program keeps it open.
    """

    def renamed() -> bool:  # a mount may report an error for a rename that it has made
        return not os.path.lexists(path) and os.path.lexists(target)

    _patiently(
        lambda: os.replace(path, target), done=renamed, what=f"rename {path} to {target.name}"
    )


def remove_folder(folder: Path) -> None:
    """Delete a folder with all in it, or a link to one; try again as `rename` does.

    Raises:
        FileInUse: on Windows, if another program keeps a file in it open.
    """
    _patiently(
        lambda: folder.unlink() if folder.is_symlink() else shutil.rmtree(folder),
        done=lambda: not os.path.lexists(folder),
        what=f"delete {folder}",
    )


def _patiently(action: Callable[[], object], *, done: Callable[[], bool], what: str) -> None:
    tried = False
    for pause in (*PAUSES, None):
        try:
            action()
            return
        except OSError as error:
            elsewhere = getattr(error, "winerror", None) in _OPEN_ELSEWHERE
            passing = elsewhere or error.errno in _PASSING
            if (passing or tried) and done():
                return
            if pause is None and elsewhere:
                raise FileInUse(
                    f"Cannot {what} ({error.strerror}): a program has it open. Close what uses it "
                    f"(restart notebooks that loaded this model), then run this again."
                ) from error
            if pause is None or not passing:
                raise
        tried = True
        time.sleep(pause)


def _remove(path: Path) -> None:
    """Delete a folder with all in it, or a file or a link but not what it points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; return False if the system can't do that."""
    paths = os.fsencode(one), os.fsencode(other)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return library.renamex_np(*paths, 2) == 0  # RENAME_SWAP
        return (
            library.renameat2(-100, paths[0], -100, paths[1], 2) == 0
        )  # AT_FDCWD, RENAME_EXCHANGE
    except (AttributeError, OSError, TypeError):  # an old C library, or Windows
        return False


def sweep(folder: Path) -> list[Path]:
    """Remove what killed processes left in `folder`, and beside it of a half-written `folder`.

    Call it with the lock of `folder` held.

    Returns:
        What could not be removed, such as files of another user.
    """
    restore(folder)
    for aside in folder.glob(".*.old-*"):
        restore(folder / aside.name[1:].rpartition(".old-")[0])
    beside = folder.parent.glob(f".{glob.escape(folder.name)}.tmp-*")
    left = [*beside, *folder.glob(".*.tmp-*")]
    for path in left:
        _remove(path)
    return [path for path in left if os.path.lexists(path)]


def files_hash(files: Iterable[Path]) -> str:
    """SHA-256 of the names and contents of files, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda f: f.name):
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def weights_hash(folder: Path) -> str | None:
    """SHA-256 of the weight files in `folder`, or None if there are none."""
    files = [file for pattern in WEIGHTS for file in folder.glob(pattern)]
    return files_hash(files) if files else None


def seal(folder: Path) -> None:
    """Record the hash of every file in `folder`, as the last step of writing it.

    A folder whose seal is missing or doesn't match was cut short or changed.
    """
    hashes = folder_hashes(folder)
    for name in hashes:
        sync(folder / name)
    atomic_text(folder / SEAL, json.dumps(hashes, indent=1))


def sealed(folder: Path) -> bool:
    """True if there is a seal and every file in it is present and unchanged."""
    try:
        hashes = read_json(folder / SEAL, most=MANIFEST_BYTES)
    except (OSError, ValueError):
        return False
    return isinstance(hashes, dict) and bool(hashes) and not changed_files(folder, hashes)


def folder_hashes(folder: Path) -> dict[str, str]:
    """{path inside `folder`: hash of the file} for every file in it except a seal."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != SEAL]
    return {file.relative_to(folder).as_posix(): file_hash(file) for file in files}


def changed_files(folder: Path, hashes: Mapping[str, str]) -> list[str]:
    """The files in `hashes` that are missing from `folder` or have different contents."""
    changed = []
    for name, sha in hashes.items():
        try:
            file = folder / name
            # Old seals hold the second of these hashes.
            if not file.is_file() or sha not in (file_hash(file), files_hash([file])):
                changed.append(name)
        except OSError:
            changed.append(name)
    return changed


def file_hash(file: Path) -> str:
    """SHA-256 of a file's name and contents.

    For PEFT's adapter_config.json, only the settings are hashed. The path of the base on this
    machine doesn't count, because the loader corrects it, and neither does the order of
    `target_modules`, which is a set.
    """
    if file.name == "adapter_config.json":
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
            settings.pop("base_model_name_or_path", None)
            if isinstance(settings.get("target_modules"), list):
                settings["target_modules"].sort()
            return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        except (ValueError, AttributeError, TypeError):
            pass  # not valid settings: hash its bytes, as for any other file
    return files_hash([file])


@contextmanager
def locked(path: Path, busy: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel releases it if the process dies.

    If the file system has no such locks, as Google Drive's in Colab, the lock is a file beside
    `path`. It is deleted at the end. After a kill, the next process on this machine takes it over
    at once, and one on another machine after SILENT_S without a sign of life.

    Args:
        path: the lock file; it is created if necessary, and not deleted.
        busy: the message of the error.
        wait_s: seconds to wait for another process before raising it.
    Raises:
        StageBusy: with the message `busy`, if another process holds the lock.
        ReadOnlyFolder: if the lock file can't be created.
    """
    deadline = time.monotonic() + wait_s
    with ExitStack() as held:
        while True:
            with writing_to(path.parent):
                handle = held.enter_context(path.open("a", encoding="utf-8"))
            try:
                held.callback(_kernel_lock(handle))
                if os.fstat(handle.fileno()).st_nlink:
                    break
                held.close()  # deleted with its folder meanwhile: such a lock keeps nobody out
                continue
            except OSError as error:
                held.close()
                if error.errno in _UNSUPPORTED:
                    marker = path.with_name(f"{path.name}.held")
                    held.enter_context(_lock_file(marker, busy, deadline))
                    break
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                if time.monotonic() >= deadline:
                    raise StageBusy(busy) from None
                time.sleep(0.05)
        yield


def _kernel_lock(handle: Any) -> Callable[[], object]:
    """Lock an open file, or raise the system's OSError; returns what has to precede closing it."""
    try:
        import fcntl
    except ImportError:
        try:
            msvcrt: Any = importlib.import_module("msvcrt")
        except ImportError:
            raise OSError(errno.ENOSYS, "no kernel locks") from None
        handle.seek(0)
        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        return lambda: msvcrt.locking(handle.fileno(), msvcrt.LK_UNLCK, 1)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lambda: None  # closing is enough, and in a forked child it must be all that is done


@contextmanager
def _lock_file(path: Path, busy: str, deadline: float) -> Iterator[None]:
    """Hold a lock that consists in the existence of `path`, which says who holds it."""
    pid = os.getpid()
    owner = {"host": _host(), "pid": pid, "started": _process_start(pid), "id": uuid.uuid4().hex}
    text = json.dumps(owner)
    while not _created(path, text):
        holder = _read_lock(path)  # None: released meanwhile
        if holder and _abandoned(path, *holder):
            _clear(path, holder[0])
        elif holder and time.monotonic() >= deadline:
            raise StageBusy(f"{busy} {_who(path, *holder)}")
        else:
            time.sleep(0.05)
    done = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, text, done), daemon=True)
    beat.start()
    try:
        yield
    finally:
        done.set()
        beat.join(5)  # the mount may hang
        holder = _read_lock(path)
        if os.getpid() == pid and holder and holder[0] == text:  # not in a forked child
            with suppress(OSError):
                path.unlink()


def _created(path: Path, text: str) -> bool:
    """Create the lock file; False if there is one."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    except PermissionError:
        if sys.platform == "win32":  # a file that is being deleted
            return False
        raise
    try:
        os.write(handle, text.encode())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    return True


def _read_lock(path: Path) -> tuple[str, float] | None:
    """What a lock file says, and the seconds since its holder touched it; None if it is gone."""
    try:
        return path.read_text(encoding="utf-8"), time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None
    except PermissionError:
        if sys.platform == "win32":  # a file that is being deleted
            return None
        raise


def _parsed(text: str) -> dict[str, Any]:
    """The holder of a lock file; empty if it isn't written yet, or was cut short by a kill."""
    try:
        owner = json.loads(text)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _abandoned(path: Path, text: str, age: float) -> bool:
    """True if the process that wrote this is gone, or hasn't been heard of from elsewhere."""
    owner = _parsed(text)
    if owner.get("host") == _host() and isinstance(owner.get("pid"), int):
        started = _process_start(owner["pid"])
        if started is not None:  # a number may have gone to another process since
            return started != owner.get("started")
    # An age of hours, or one below zero, may be a clock that was set. A living holder then loses
    # nothing: the next sign of life is waited for, by a clock that nobody sets.
    return abs(age) > SILENT_S and not _beats(path)


def _beats(path: Path) -> bool:
    """Watch a lock file for two beats; True if it is touched, replaced or deleted meanwhile."""

    def touched() -> int | None:
        with suppress(FileNotFoundError):
            return path.stat().st_mtime_ns
        return None

    before, until = touched(), time.monotonic() + 2 * BEAT_S
    while time.monotonic() < until:
        time.sleep(BEAT_S / 30)
        if touched() != before:
            return True
    return False


def _clear(path: Path, text: str) -> None:
    """Delete an abandoned lock file. Of several processes that found it, one at a time may."""
    turn = path.with_name(f"{path.name}.turn")
    if not _created(turn, ""):
        waiting = _read_lock(turn)
        if waiting and abs(waiting[1]) > BEAT_S:  # killed while it held its turn
            turn.unlink(missing_ok=True)
        time.sleep(0.05)
        return
    try:
        current = _read_lock(path)
        if current and current[0] == text:
            path.unlink(missing_ok=True)
    finally:
        turn.unlink(missing_ok=True)


def _beat(path: Path, text: str, done: threading.Event) -> None:
    """Touch the lock file now and then, so that other machines see that its holder is alive."""
    while not done.wait(BEAT_S):
        with suppress(OSError):
            holder = _read_lock(path)
            if holder is None or holder[0] != text:  # somebody has deleted it
                return
            try:
                os.utime(path)
            except OSError:  # not every mount sets times, but each notes a write
                with path.open("r+", encoding="utf-8") as file:
                    file.write(text)


def _who(path: Path, text: str, age: float) -> str:
    """The holder of a lock file, and what to do if it is gone."""
    owner = _parsed(text)
    host = str(owner.get("host") or "an unknown machine").partition(" pid:")[0]
    sign = f"{age:.0f} s ago" if 0 <= age <= SILENT_S else "just now"  # its clock isn't ours
    return (
        f"It holds {path} (process {owner.get('pid', 'unknown')} on {host}, last sign of life "
        f"{sign}). If you know that this process has ended, delete that file; "
        f"otherwise it stops counting after {SILENT_S / 60:.0f} minutes without a sign of life."
    )


def _host() -> str:
    """This machine, and the namespace in which its process numbers hold (a container's own)."""
    try:
        return f"{platform.node()} {os.readlink('/proc/self/ns/pid')}"
    except (OSError, AttributeError):
        return platform.node()


def _process_start(pid: int) -> str | None:
    """When a process started, "" if there is none with this number, None if it can't be told."""
    proc = Path("/proc")
    if (proc / "self" / "stat").exists():
        try:
            # After the name, which may hold anything in its parentheses: the state, ..., the start.
            fields = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
            state, *rest = fields.rpartition(")")[2].split()
            return "" if state in "ZX" else rest[18]
        except OSError:  # no such process, or one that its owner's settings hide
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return ""
            except OSError:
                pass
            return None
    try:
        import psutil
    except ImportError:  # without the training extra
        return None
    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.NoSuchProcess:
        return ""
    except psutil.Error:
        return None


@contextmanager
def disk_guard(
    what: str, folder: Path, *, needed: int, shown: str, advice: str | Callable[[], str]
) -> Iterator[None]:
    """Turn each library's own error for a full disk into a DiskFull that says how much is needed.

    A folder that no longer takes a write becomes a ReadOnlyFolder: Linux mounts a failing disk so.

    Args:
        what: what is being saved, as the message should name it.
        folder: where it is saved; the free space is measured there.
        needed: an estimate, in bytes.
        shown: `folder` as the message should show it.
        advice: the end of the message, which says what can be deleted and what happens if the step
            is run again; a function is called only if it is needed.
    """
    try:
        yield
    except Exception as error:
        if refused := _refused(error, folder):
            raise ReadOnlyFolder(
                f"Cannot write to {shown} any more ({refused}), while saving {what}. Nothing saved "
                f"earlier is lost. A disk that fails is often made read-only by the system: see "
                f"that it can be written to, or set POSTLAB_RUNS to a copy of the runs folder."
            ) from error
        if not is_disk_full(error) and not _failed_input_output(error):
            raise
        need = f"while saving {what}: at least {size_text(needed)} are needed in {shown}"
        then = advice if isinstance(advice, str) else advice()
        drive = "On Google Drive, empty the trash as well: it counts towards the quota."
        if not is_disk_full(error):
            message = (
                f"The system reported an input/output error {need}. On Google Drive, this usually "
                f"means that its storage or a daily limit is used up; on a disk of your own, the "
                f"disk may be failing. Earlier checkpoints are checked before they are used again. "
                f"Free some space; {then} {drive}"
            )
        elif _is_too_large(error):
            message = (
                f"A file grew larger than a limit {need}. Nothing saved earlier is lost. A FAT32 "
                f"disk takes 4 GB a file, and `ulimit -f` shows this shell's limit. Raise it, or "
                f"set POSTLAB_RUNS to another disk; {then}"
            )
        elif _is_quota(error):
            message = (
                f"The storage quota ran out {need}. Nothing saved earlier is lost. "
                f"Free some space; {then} {drive}"
            )
        else:
            place = next(f for f in (folder, *folder.parents) if f.exists())
            free = size_text(shutil.disk_usage(place).free)
            message = (
                f"The disk filled up {need}, {free} are free. Nothing saved earlier is lost. "
                f"Free some space; {then}"
            )
        raise DiskFull(message) from error


def is_disk_full(error: BaseException | None) -> bool:
    """True if `error`, or what caused it, is a full disk or quota."""
    for link in _causes(error):
        if isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EFBIG, _QUOTA):
            return True
        text = str(link)
        # safetensors puts the errno into its text; torch.save only mentions its zip writer
        if any(f"os error {number})" in text for number in (27, 28, 112, 122)):  # 112: Windows's
            return True
        if "iostream error" in text or ("inline_container" in text and "Reader" not in text):
            return True
    return False


def _is_too_large(error: BaseException) -> bool:
    return any(
        (isinstance(link, OSError) and link.errno == errno.EFBIG) or "os error 27)" in str(link)
        for link in _causes(error)
    )


def _refused(error: BaseException, folder: Path) -> str | None:
    """How the system refused a write below `folder` for lack of a right, or None."""
    for link in _causes(error):
        if isinstance(link, ReadOnlyFolder):  # which says it already
            return None
        if "os error 30)" in str(link) and sys.platform != "win32":
            return os.strerror(errno.EROFS)
        if not isinstance(link, OSError) or not link.filename:
            continue
        below = str(link.filename).startswith((str(folder), str(folder.resolve())))
        if below and link.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return os.strerror(link.errno)
    return None


def _is_quota(error: BaseException) -> bool:
    numbers = [link.errno for link in _causes(error) if isinstance(link, OSError)]
    return errno.ENOSPC not in numbers and (
        _QUOTA in numbers or any("os error 122)" in str(link) for link in _causes(error))
    )


def _failed_input_output(error: BaseException) -> bool:
    """EIO, which is all that Google Drive's mount answers when it can't take any more.

    A mount that has gone away answers with the other two; a socket may too, but names no file.
    """
    gone = {getattr(errno, "ENOTCONN", errno.EIO), getattr(errno, "ESTALE", errno.EIO)}
    return any(
        (isinstance(link, OSError) and link.errno == errno.EIO)
        or (isinstance(link, OSError) and link.filename and link.errno in gone)
        or (sys.platform != "win32" and "os error 5)" in str(link))  # on Windows: access denied
        for link in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what caused it, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def size_text(count: int) -> str:
    """A number of bytes for a person to read.

    >>> size_text(5_000), size_text(12_300_000), size_text(14_800_000_000)
    ('5 kB', '12.3 MB', '14.8 GB')
    """
    if count >= 1_000_000_000:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.0f} kB"


def sync(path: Path) -> None:
    """Bring a file or a folder's list of names to the disk, as far as its file system can.

    Raises:
        OSError: if a file's contents could not be written, such as for want of space.
    """
    folder = path.is_dir()
    if folder and sys.platform == "win32":  # Windows can't open a folder
        return
    harmless = _UNSUPPORTED
    if folder:  # its contents are safe; the names are as safe as the mount makes them
        harmless = _UNSUPPORTED | {errno.EACCES, errno.EPERM, errno.EISDIR, errno.EBADF}
    # Windows flushes writable handles only, and Linux those of a read-only file as well.
    flags = os.O_RDWR | getattr(os, "O_BINARY", 0) if sys.platform == "win32" else os.O_RDONLY
    try:
        handle = os.open(path, flags)
    except PermissionError:
        if folder or sys.platform == "win32":  # a read-only file that was copied
            return
        raise
    except OSError as error:
        if folder and error.errno in harmless:
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in harmless:
            raise
    finally:
        os.close(handle)
