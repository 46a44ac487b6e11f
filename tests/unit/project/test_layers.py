"""What importing the package costs, and in which order it may import others.

The order of the rooms, and that a room is imported through its door, is checked by import-linter
(`lint-imports`, configured in pyproject.toml).
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from pace import within

PACKAGE = Path(__file__).resolve().parents[3] / "postlab"
UNSLOTH_PATCHES = {"transformers", "trl", "peft", "datasets", "accelerate"}
HEAVY = UNSLOTH_PATCHES | {"torch", "unsloth"}
DOORS = sorted(
    ".".join(path.parent.relative_to(PACKAGE.parent).parts)
    for path in PACKAGE.rglob("__init__.py")
    if path.parent != PACKAGE
)


def test_no_module_imports_what_unsloth_patches_at_its_top():
    """Unsloth has to be imported first, and a notebook imports postlab before it."""
    broken = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            if UNSLOTH_PATCHES & {name.split(".")[0] for name in names}:
                broken.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert broken == []


def fresh(code: str) -> str:
    """What a new Python prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_postlab_is_light():
    code = (
        "import time; start = time.perf_counter(); import postlab; "
        "import sys; took = time.perf_counter() - start; "
        "print(took, *({'torch', 'transformers', 'trl', 'unsloth', 'peft', 'pandas', 'numpy'}"
        " & set(sys.modules)))"
    )
    runs = [fresh(code).split() for _ in range(3)]
    assert [loaded for _, *loaded in runs] == [[], [], []]
    assert within(min(float(took) for took, *_ in runs), 0.3)


def test_no_door_loads_torch():
    """One after the other in one process, so that the first that does is named."""
    code = (
        "import importlib, sys\n"
        f"for door in {[*DOORS, 'postlab.lab']}:\n"
        "    importlib.import_module(door)\n"
        f"    loaded = set({sorted(HEAVY)}) & set(sys.modules)\n"
        "    if loaded:\n"
        "        print(door, *sorted(loaded))\n"
        "        break\n"
    )
    assert fresh(code) == ""


def test_names_are_imported_at_first_use():
    code = "import postlab; print(postlab.stats.__name__, hasattr(postlab, 'no_such_module'))"
    assert fresh(code) == "postlab.stats False"


@pytest.mark.parametrize("door", DOORS)
def test_a_door_says_what_it_holds(door: str):
    """Every public name is in `__all__`, so that a reader and an importer see the same."""
    tree = ast.parse((PACKAGE.parent / door.replace(".", "/") / "__init__.py").read_text("utf-8"))
    assert ast.get_docstring(tree)
    names = {
        a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names
    }
    listed = [
        ast.literal_eval(n.value)
        for n in tree.body
        if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "__all__"
    ]
    private = {"_doors", "annotations", "TYPE_CHECKING", "Callable", "Any"}
    if listed:
        assert names - private <= set(listed[0])
