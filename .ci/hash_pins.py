"""Write the hashes of every pinned release beside its pin. Needs `uv` on the PATH.

To move a pin, change its version in requirements.lock (or requirements-*.txt) and environment.yml,
then run `python .ci/hash_pins.py`. uv asks the package index for the SHA-256 of every file of each
release, so one list serves every system and Python. It resolves nothing: the versions stay ours.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = ["uv", "pip", "compile", "-", "--quiet", "--no-deps", "--universal", "--python-version=3.11"]
UV += ["--generate-hashes", "--no-header", "--no-annotate"]


def main() -> None:
    """Rewrite each file: its comment as it is, its pins in uv's order, each with its hashes."""
    for path in [ROOT / "requirements.lock", *sorted(ROOT.glob("requirements-*.txt"))]:
        lines = path.read_text("utf-8").splitlines()
        comment = "".join(f"{line}\n" for line in lines if line.startswith("#"))
        pins = "\n".join(
            line.rstrip(" \\") for line in lines if "==" in line and line[0] not in "# "
        )
        done = subprocess.run(UV, input=pins, capture_output=True, text=True, encoding="utf-8")
        if done.returncode:
            sys.exit(f"{path.name} is left as it was, as uv failed:\n{done.stderr}")
        path.write_text(comment + done.stdout, "utf-8")


if __name__ == "__main__":
    main()
