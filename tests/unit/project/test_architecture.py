"""ARCHITECTURE.md is true: its picture is what the imports say, and what it names is there."""

from __future__ import annotations

import ast
import doctest
import re
from pathlib import Path

import pytest
from modules import module_at

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "postlab"
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
QUOTED = re.compile(r"`([^`]+)`")
ROOMS = sorted(
    path.name.removesuffix(".py")
    for path in PACKAGE.iterdir()
    if (path.suffix == ".py" and path.name != "__init__.py") or (path / "__init__.py").exists()
)
draw_rooms = module_at(ROOT / ".ci" / "draw_rooms.py", "draw_rooms")


def paths_in(line: str) -> list[Path]:
    """The files and folders that a line of the page names; weekNN stands for any week."""
    names = [
        name.replace("weekNN", "week05")
        for name in QUOTED.findall(line)
        if re.fullmatch(r"[\w./-]+(/|\.(py|toml|yml|lock|txt|md))", name) and name != "__init__.py"
    ]
    rooms = {f"{room}/" for room in ROOMS} | {f"{room}.py" for room in ROOMS}
    return [PACKAGE / name if name in rooms else ROOT / name for name in names]


def names_in(line: str) -> list[str]:
    """The functions, classes and constants that a line names, without their class."""
    return [
        name.split(".")[-1]
        for name in QUOTED.findall(line)
        if re.fullmatch(r"([A-Z][a-z]+\.)?\w+", name) and name not in ("mypy", "__all__")
    ]


def test_the_picture_is_what_make_architecture_draws():
    assert draw_rooms.with_drawing(PAGE, draw_rooms.drawn()) == PAGE, "run: make architecture"


def test_the_examples_of_the_script_that_draws():
    results = doctest.testmod(draw_rooms)
    assert results.attempted == 2 and results.failed == 0


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_is_missing_from_the_page(room: str):
    assert f"]({draw_rooms.place(room)}) | " in PAGE


def test_a_page_without_its_markers_is_refused():
    with pytest.raises(ValueError, match="lacks a marker"):
        draw_rooms.with_drawing("# How it is built\n", "drawing")


def test_every_file_on_the_page_exists():
    assert [
        path for line in PAGE.splitlines() for path in paths_in(line) if not path.exists()
    ] == []


def test_every_name_on_the_page_is_in_a_file_that_its_line_names():
    lost = []
    for line in PAGE.splitlines():
        files = [
            file
            for path in paths_in(line)
            for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])
        ]
        words = {word for file in files for word in re.findall(r"\w+", file.read_text("utf-8"))}
        lost += [name for name in names_in(line) if files and name not in words]
    assert lost == []


def library() -> list[Path]:
    """The package without the course, and without the modules that know of its weeks.

    `_doors.py` knows them only as places that a module moved to.
    """
    known = {PACKAGE / "lab.py", PACKAGE / "profile.py", PACKAGE / "_doors.py"}
    files = {path for path in PACKAGE.rglob("*.py") if PACKAGE / "course" not in path.parents}
    return sorted(files - known)


def test_no_code_of_the_library_names_a_week():
    """A docstring may say where something is taught; messages, names and constants may not."""
    named = []
    for path in library():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            has_doc = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            if has_doc and ast.get_docstring(node) is not None:
                node.body[0] = ast.Pass()
        lines = ast.unparse(tree).splitlines()
        named += [f"{path.relative_to(ROOT)}: {text}" for text in lines if "week" in text.lower()]
    assert named == []
