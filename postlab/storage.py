"""Files that survive a kill at any moment: temporary sibling, fsync, rename; hashes, seals, locks.

A rename inside one folder is atomic, so a reader sees the old state or the new one, never half of
it. A new folder and the one it replaces change places in one step where the system allows it (if
not, `restore` puts the old one back after a kill), and the old one is deleted afterwards. What a
killed process leaves behind has `.tmp-` or `.old-` in its name, and the next process that holds the
lock removes it. Left out: network file systems without locks or atomic renames.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

SEAL = "sha256.json"
WEIGHTS = ("*.safetensors", "*.bin")


class DiskFull(RuntimeError):
    """The disk or the quota is full; what was saved before is intact."""


class StageBusy(RuntimeError):
    """Another process is working on the same stage."""


class ReadOnlyFolder(RuntimeError):
    """The folder is read-only, such as a mounted share or another user's folder."""


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
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_text(path: Path, text: str) -> None:
    """Write `text` so that `path` holds either all of it or what it held before."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
            _sync(file)
        _sync(temporary)
        # 2. Put it in place; the old folder, if there is one, becomes the temporary one.
        if not os.path.lexists(path):
            os.replace(temporary, path)
        elif not _exchange(temporary, path):
            aside = path.with_name(f".{path.name}.old-{os.getpid()}")
            os.replace(path, aside)  # `restore` repairs a kill after this line
            os.replace(temporary, path)
            os.replace(aside, temporary)
        _sync(path.parent)
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
            os.replace(aside, path)


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


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written in `folder`. Call it with the lock held."""
    for aside in folder.glob(".*.old-*"):
        restore(folder / aside.name[1:].rpartition(".old-")[0])
    for left in folder.glob(".*.tmp-*"):
        _remove(left)


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
        _sync(folder / name)
    atomic_text(folder / SEAL, json.dumps(hashes, indent=1))


def sealed(folder: Path) -> bool:
    """True if there is a seal and every file in it is present and unchanged."""
    try:
        hashes = json.loads((folder / SEAL).read_text())
    except (OSError, ValueError):
        return False
    return bool(hashes) and not changed_files(folder, hashes)


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
            if sha not in (file_hash(file), files_hash([file])):  # old seals hold the latter
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

    Args:
        path: the lock file; it is created if necessary, and not deleted.
        busy: the message of the error.
        wait_s: seconds to wait for another process before raising it.
    Raises:
        StageBusy: with the message `busy`, if another process holds the lock.
        ReadOnlyFolder: if the lock file can't be created.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no flock: continue without the lock
        yield
        return
    with writing_to(path.parent):
        handle = path.open("a")
    deadline = time.monotonic() + wait_s
    with handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StageBusy(busy) from None
                time.sleep(0.05)
        yield


@contextmanager
def disk_guard(what: str, folder: Path, *, needed: int, shown: str, advice: str) -> Iterator[None]:
    """Turn each library's own error for a full disk into a DiskFull that says how much is needed.

    Args:
        what: what is being saved, as the message should name it.
        folder: where it is saved; the free space is measured there.
        needed: an estimate, in bytes.
        shown: `folder` as the message should show it.
        advice: the end of the message, which says what happens if the step is run again.
    """
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        place = next(f for f in (folder, *folder.parents) if f.exists())
        free = shutil.disk_usage(place).free
        raise DiskFull(
            f"The disk filled up while saving {what}: at least {_size(needed)} are needed in "
            f"{shown}, {_size(free)} are free. Nothing saved earlier is lost. "
            f"Free some space; {advice}"
        ) from error


def is_disk_full(error: BaseException | None) -> bool:
    """True if `error`, or what caused it, is a full disk or quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        text = str(error)
        # safetensors puts the errno into its text; torch.save only mentions its zip writer
        if "os error 28" in text or "os error 122" in text or "iostream error" in text:
            return True
        if "inline_container" in text and "Reader" not in text:
            return True
        error = error.__cause__ or error.__context__
    return False


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.0f} kB"


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
