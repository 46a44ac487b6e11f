"""Build the notebooks from their percent scripts: `make notebooks`, or `make notebooks N=05`.

Each script in notebooks/src becomes a notebook beside this file, and each in notebooks/extras one
beside itself. They are executed from top to bottom in a runs folder of their own, so that their
outputs show the training and not an earlier run's leftovers.
What differs from one machine or build to the next (cell ids, timestamps, folders, addresses of
objects) is taken out. Two options execute nothing: `--check` says which notebooks differ from their
sources in input cells, and `--sync` takes over what needs no execution, setup cells and prose.
A week's number takes that week alone, `--extra capstone` notebooks/extras/capstone.py alone.
Left out: widget state, which only a running kernel can give.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import sys
import tempfile
import time
import tomllib
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

from postlab.profile import data_dir, describe_machine, get_profile
from postlab.runs import note_run

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
BUILD_EXTRA = ".venv/bin/python notebooks/build.py --extra"
COLAB = "https://colab.research.google.com"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
SETUP_HEADER = '# %% tags=["setup"]\n'
# One cell for all notebooks. It installs where postlab is not yet: on Colab, or in a kernel that is
# not the clone's own .venv. It asks for the installed package, since `import postlab` also succeeds
# in any folder that holds a clone. pip gets a place as a URI, which may hold spaces and brackets.
SETUP_CELL = r"""
import importlib.metadata
import subprocess
import sys
from pathlib import Path

if not any(importlib.metadata.distributions(name="postlab")):
    # From the clone around this notebook, a wheel or zip (`make release`) beside it, or GitHub.
    clones = [p for p in (Path("CLONE"), Path()) if (p / "postlab" / "install.py").exists()]
    files = [*Path().glob("postlab-*-any.whl"), *Path().glob("postlab*.zip")]
    # Sorted: zips, then wheels, and 0.9 before 0.10. The last one is taken.
    files.sort(key=lambda p: (p.suffix == ".whl", [n.zfill(20) for n in p.stem.split(".")]))
    sources = [p.resolve().as_uri() for p in clones + files[::-1]]
    ADDRESS
    if not sources:
        sys.exit(f"postlab isn't here: upload its wheel or zip to {Path.cwd()} and run this again.")
    print("Installing postlab from", sources[0])
    for module in (["pip", "install", "-q", f"postlab[train] @ {sources[0]}"], ["postlab.install"]):
        done = subprocess.run([sys.executable, "-m", *module], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"{done.stderr}\npip failed: read its error above, then run this cell again.")
    importlib.invalidate_caches()
import postlab

lab = postlab.start(WEEK)
""".lstrip()


def repository(pyproject: Path = ROOT / "pyproject.toml") -> str | None:
    """The project's address as pyproject.toml states it, or None while it states none."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    return project.get("urls", {}).get("Repository")


def all_sources() -> list[Path]:
    """The scripts of all notebooks: the weeks in their order, then the extras."""
    return sorted((NOTEBOOKS / "src").glob("week*.py")) + sorted(
        (NOTEBOOKS / "extras").glob("*.py")
    )


def week_number(source: Path) -> int | None:
    """The week of a script, or None if it is an extra."""
    match = re.match(r"week(\d\d)_", source.name)
    return int(match[1]) if match else None


def notebook_path(source: Path) -> Path:
    """Where the notebook of a script is: an extra's is beside its script."""
    folder = NOTEBOOKS if week_number(source) else source.parent
    return folder / f"{source.stem}.ipynb"


def build_command(source: Path) -> str:
    """The command that builds the notebook of this script alone."""
    week = week_number(source)
    return f"make notebooks N={week:02d}" if week else f"{BUILD_EXTRA} {source.stem}"


def setup_cell(week: int | None, url: str | None) -> str:
    """The setup cell of a week, or of an extra (None), which is one folder deeper in the clone.

    With an address, that is the last place it installs from.
    """
    line = f'    sources.append("git+{url}")' if url else ""
    if len(line) > 100:  # longer than a line may be, and there is nowhere to break it
        line += "  # fmt: skip"
    cell = SETUP_CELL.replace("    ADDRESS\n", line and f"{line}\n")
    cell = cell.replace("CLONE", ".." if week else "../..")
    return cell.replace("WEEK", f"week={week}" if week else "")


def with_setup_cell(text: str, source: Path, url: str | None) -> str:
    """The text of a script with its setup cell (tagged "setup") brought to the template.

    Raises:
        ValueError: if the script has no such cell, or more than one.
    """
    parts = text.split(SETUP_HEADER)
    if len(parts) != 2:
        raise ValueError(
            f"{source.name}: found {len(parts) - 1} setup cells, expected one; "
            f"start it with the line {SETUP_HEADER.strip()!r}."
        )
    _, separator, rest = parts[1].partition("\n# %%")
    return parts[0] + SETUP_HEADER + setup_cell(week_number(source), url) + separator + rest


def badge(source: Path, url: str) -> str:
    """The Markdown of the button that opens this notebook on Colab."""
    path = url.removeprefix("https://github.com/").removesuffix(".git").strip("/")
    folder = "notebooks" if week_number(source) else "notebooks/extras"
    link = f"{COLAB}/github/{path}/blob/main/{folder}/{source.stem}.ipynb"
    return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({link})"


def notebook_of(source: Path, url: str | None) -> nbformat.NotebookNode:
    """The notebook that a script stands for, not executed."""
    notebook = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    if url:
        notebook.cells.insert(0, nbformat.v4.new_markdown_cell(badge(source, url)))
    for index, cell in enumerate(notebook.cells):
        cell.id = f"{source.stem[:6]}-{index:03d}"
        # jupytext notes unusual blank lines between cells, which only matter in the script.
        cell.metadata.pop("lines_to_next_cell", None)
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    return notebook


def execute(notebook: nbformat.NotebookNode, runs: Path, *, folder: Path = NOTEBOOKS) -> None:
    """Run all cells in a fresh kernel of this environment, in a folder, and clean the outputs."""
    environment = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
    environment |= {"POSTLAB_RUNS": str(runs), "UNSLOTH_DISABLE_STATISTICS": "1"}
    client = NotebookClient(
        notebook,
        timeout=None,
        startup_timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        coalesce_streams=True,
        store_widget_state=False,
        record_timing=False,
    )
    client.execute(env=environment)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [clean(output, runs) for output in cell.outputs]
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = shrunk(output.data["image/png"])


def shrunk(png: str) -> str:
    """The same chart (base64) in its own 32 colours: a quarter of the size, and it looks alike.

    Seven greys carry text, grid and what is frozen in a schematic; the rest are the most frequent
    colours that differ, pale ones included, as the tint of a cell or a band has a meaning.
    """
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    pixels: Any = picture.getcolors(picture.width * picture.height)
    colours = [(grey, grey, grey) for grey in range(0, 256, 51)]
    for _, colour in sorted(pixels, reverse=True):
        apart = min(sum(abs(a - b) for a, b in zip(colour, c, strict=True)) for c in colours)
        if len(colours) < 31 and apart > 24 and max(colour) - min(colour) > 12:
            colours.append(colour)
    colours.append((237, 237, 237))  # FROZEN; last, so that it keeps no pale tint out
    palette, small = Image.new("P", (1, 1)), io.BytesIO()
    palette.putpalette([part for colour in colours for part in colour])
    kept = picture.quantize(palette=palette, dither=Image.Dither.NONE)
    kept.save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def clean(value: Any, runs: Path) -> Any:
    """An output without this machine's folders, addresses of objects, and dead widgets."""
    if isinstance(value, str):
        for folder, name in ((runs, "runs"), (ROOT, "."), (Path.home(), "~")):
            value = value.replace(str(folder), name)
        return re.sub(r"\b0x[0-9a-f]{8,16}\b", "0x…", value)
    if isinstance(value, list):
        return [clean(item, runs) for item in value]
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k != WIDGET_VIEW}
        cleaned = {k: v if k.startswith("image/") else clean(v, runs) for k, v in kept.items()}
        return nbformat.from_dict(cleaned)
    return value


def inputs(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """What a learner reads and runs: the type and the text of each cell."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def difference(source: Path, url: str | None) -> str | None:
    """How the committed notebook differs from its source in input cells, or None if it does not."""
    path = notebook_path(source)
    if not path.exists():
        return f"{path.name} is missing; build it with: {build_command(source)}"
    built, wanted = inputs(nbformat.read(path, as_version=4)), inputs(notebook_of(source, url))
    if built == wanted:
        return None
    pairs = enumerate(zip_longest(built, wanted))
    first = next(index for index, (ours, theirs) in pairs if ours != theirs)
    return (
        f"{path.name} and {source.name} differ from cell {first} on; "
        f"change the source, then: {build_command(source)}"
    )


def sync_source(source: Path, url: str | None) -> None:
    """Bring the setup cell of a script to the template."""
    text = source.read_text(encoding="utf-8")
    synced = with_setup_cell(text, source, url)
    if synced != text:
        source.write_text(synced, encoding="utf-8")


def sync(source: Path, url: str | None) -> bool:
    """Take over setup cell, badge and prose into the built notebook, and execute nothing.

    Returns:
        Whether the notebook changed.
    Raises:
        ValueError: if another code cell changed, as its outputs would then belong to other code.
    """
    sync_source(source, url)
    path = notebook_path(source)
    if not path.exists():
        raise ValueError(difference(source, url))
    before = path.read_text(encoding="utf-8")
    notebook, built = notebook_of(source, url), nbformat.reads(before, as_version=4)
    cells, old = code_cells(notebook), code_cells(built)
    for new, kept in zip_longest(cells, old):
        is_setup = new and kept and "setup" in new.metadata.get("tags", [])
        if not is_setup and (new and new.source) != (kept and kept.source):
            raise ValueError(
                f"{path.name}: code cells differ from {source.name}, not only the setup cell, so "
                f"its outputs would be out of date; run: {build_command(source)}"
            )
        new.outputs, new.execution_count = kept.outputs, kept.execution_count
    text = nbformat.writes(notebook, indent=1) + "\n"
    if text != before:
        write_whole(path, text)
    return text != before


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def write_whole(path: Path, text: str) -> None:
    """Write a file so that an interruption leaves the old one."""
    unfinished = path.with_suffix(".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def build(source: Path, url: str | None, runs: Path) -> None:
    """Bring the setup cell to the template, execute, write the notebook, and note that it ran.

    Only a week's run is noted, as `postlab.start` shows no other.
    """
    sync_source(source, url)
    notebook = notebook_of(source, url)
    verified = data_dir() / "results" / "verified.json"
    before = verified.read_text(encoding="utf-8")
    today = datetime.now(UTC).strftime("%Y-%m-%d")  # noted first, as the notebook shows it
    if week := week_number(source):
        names, device = [f"week{week:02d}"], describe_machine()
        note_run(data_dir(), get_profile().name, names, date=today, device=device)
    path = notebook_path(source)
    try:
        execute(notebook, runs, folder=path.parent)
    except BaseException:
        verified.write_text(before, encoding="utf-8")
        raise
    write_whole(path, nbformat.writes(notebook, indent=1) + "\n")


def chosen(week: int | None, extra: str | None) -> list[Path]:
    """All scripts, or one week's, or one extra's."""
    sources = all_sources()
    if week is not None:
        sources = [source for source in sources if week_number(source) == week]
    if extra is not None:
        sources = [
            source for source in sources if week_number(source) is None and source.stem == extra
        ]
    if not sources:
        names = ", ".join(source.stem for source in all_sources())
        sys.exit(f"There is no such script; there are: {names}")
    return sources


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("week", nargs="?", type=int, help="only this week")
    parser.add_argument("--extra", metavar="NAME", help="only notebooks/extras/NAME.py")
    parser.add_argument("--check", action="store_true", help="compare with the sources, build none")
    parser.add_argument(
        "--sync", action="store_true", help="take over setup cells and prose, execute nothing"
    )
    options = parser.parse_args()
    sources, url = chosen(options.week, options.extra), repository()
    if options.check:
        findings = [found for source in sources if (found := difference(source, url))]
        sys.exit("\n".join(findings) if findings else 0)
    if options.sync:
        for source in sources:
            try:
                sync(source, url)
            except ValueError as error:
                sys.exit(str(error))
        return
    with tempfile.TemporaryDirectory() as folder:
        for source in sources:
            # The weeks share a folder, as a later one starts from an earlier one's stage.
            runs = Path(folder, "weeks" if week_number(source) else source.stem)
            started = time.monotonic()
            print(f"{source.stem} …", end=" ", flush=True)
            try:
                build(source, url, runs)
            except (CellExecutionError, ValueError) as error:
                sys.exit(f"failed; the notebook is left as it was.\n{error}")
            print(f"{time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
