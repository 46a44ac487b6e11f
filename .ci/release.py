"""Write what one can upload beside a notebook into dist/: `make release`.

A wheel, and a zip that holds the notebooks and can itself be installed by pip, as GitHub's
"Download ZIP" can. Either is enough for the setup cell. Both are the same, byte for byte, when they
are made again from the same files. Left out: tests, experiments, and how the notebooks are built.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = ("pyproject.toml", "requirements-nodeps.txt", "LICENSE", "README.md")
FOLDERS = ("postlab", "data")
JUNK = {"__pycache__", ".ipynb_checkpoints", ".DS_Store"}
THEN = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can name


def contents(root: Path) -> list[Path]:
    """The files of the zip, relative to the clone, in order."""
    notebooks = [*root.glob("notebooks/week*.ipynb"), *root.glob("notebooks/extras/*.ipynb")]
    paths = [root / name for name in FILES] + notebooks
    for folder in FOLDERS:
        paths += [path for path in (root / folder).rglob("*") if path.is_file()]
    relative = [path.relative_to(root) for path in paths]
    return sorted(path for path in relative if not JUNK & set(path.parts))


def write_zip(root: Path, target: Path, top: str) -> None:
    """Write the zip, with everything in one folder, as pip wants it."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in contents(root):
            entry = zipfile.ZipInfo(f"{top}/{path.as_posix()}", THEN)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # alike on all systems
            archive.writestr(entry, (root / path).read_bytes())


def write_wheel(root: Path, target: Path) -> None:
    """Build the wheel with the installed hatchling; nothing is downloaded."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nmake release: hatchling could not build the wheel.")


def main(root: Path = ROOT) -> None:
    """Remove earlier versions from dist/, and nothing else, and write both files."""
    text = (root / "postlab" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "([^"]+)"$', text, re.M)[1]
    dist = root / "dist"
    dist.mkdir(exist_ok=True)
    for old in (*dist.glob("postlab-*.whl"), *dist.glob("postlab-*.zip")):
        old.unlink()  # of two versions, the setup cell would take the newer
    write_wheel(root, dist)
    write_zip(root, dist / f"postlab-{version}.zip", f"postlab-{version}")
    for path in sorted(dist.iterdir()):
        print(f"dist/{path.name}  {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
