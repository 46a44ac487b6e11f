"""Make the notebooks open on Colab from a GitHub repository: `make colab REPO=https://github.com/…`.

Writes the address into pyproject.toml, and from there into the setup cells and badges of sources
and notebooks; nothing is executed. Without REPO it takes the address of the git remote `origin`,
and REPO=none takes the address out again. Left out: other hosts, since Colab's links open notebooks
from GitHub only, and private repositories, which Colab could not install from.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXPECTED = "expected an address such as https://github.com/OWNER/NAME"
# What GitHub allows in the names of owners and repositories. Nothing in it can end a string in
# Python, TOML or Markdown.
ADDRESS = re.compile(
    r"https://github\.com/([A-Za-z0-9](?:-?[A-Za-z0-9]){0,38})/([A-Za-z0-9_.-]{1,100}?)(?:\.git)?/?"
)
# The table in pyproject.toml, in force or commented out.
TABLE = re.compile(r'^(?:# )?\[project\.urls\]\n(?:# )?Repository = "[^"\n]*"$', re.M)
UNSET = '# [project.urls]\n# Repository = "https://github.com/OWNER/NAME"'


class AddressError(ValueError):
    """There is no address that Colab could use; the message is the sentence a person reads."""


def checked(address: str) -> str:
    """The address in its plain form, https://github.com/OWNER/NAME.

    Raises:
        AddressError: if it is anything else.
    """
    match = ADDRESS.fullmatch(address.strip())
    if match is None or match[2] in (".", ".."):
        raise AddressError(f"REPO is {without_password(address)!r}; {EXPECTED}, or REPO=none")
    return f"https://github.com/{match[1]}/{match[2]}"


def without_password(address: str) -> str:
    """An address as it may be printed: what stands before an @ in it may be a password."""
    return re.sub(r"(?<=://)[^/@]*@", "…@", address)


def origin(root: Path = ROOT) -> str:
    """The address of the git remote `origin`.

    Raises:
        AddressError: if there is none, or it is not a public https address on GitHub.
    """
    command = ["git", "-C", str(root), "remote", "get-url", "origin"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise AddressError("git is not installed; name the repository: make colab REPO=…") from None
    if done.returncode:
        raise AddressError(f"there is no git remote `origin` here; give REPO, {EXPECTED}")
    address = done.stdout.strip()
    try:
        return checked(address)
    except AddressError:
        raise AddressError(
            f"the git remote `origin` is {without_password(address)!r}, which Colab can't open; "
            f"give REPO, {EXPECTED}"
        ) from None


def set_address(pyproject: Path, address: str | None) -> None:
    """Write the address into pyproject.toml, or comment it out.

    Raises:
        AddressError: if the file holds no [project.urls] table of the form written here.
    """
    text = pyproject.read_text(encoding="utf-8")
    table = f'[project.urls]\nRepository = "{address}"' if address else UNSET
    changed, count = TABLE.subn(lambda _: table, text)
    if count != 1:
        raise AddressError(
            f"{pyproject.name} holds {count} [project.urls] tables of one line, Repository; "
            f"expected one, in force or commented out:\n{UNSET}"
        )
    if changed != text:
        pyproject.write_text(changed, encoding="utf-8")


def main(repo: str) -> None:
    """Set the address, then bring all sources and notebooks to it."""
    try:
        address = None if repo == "none" else checked(repo) if repo else origin()
        changed = rewrite(address)
    except ValueError as error:
        sys.exit(f"make colab: {error}")
    print(f"{address or 'no address'}: {changed} of the notebooks changed")
    if changed:
        print("Commit them, and push: Colab opens what is on the branch main.")


def rewrite(address: str | None) -> int:
    """Write the address everywhere, and count the notebooks that changed."""
    sys.path.insert(0, str(ROOT / "notebooks"))
    import build

    set_address(ROOT / "pyproject.toml", address)
    return sum([build.sync(source, address) for source in build.all_sources()])


if __name__ == "__main__":
    main(os.environ.get("REPO", "").strip())
