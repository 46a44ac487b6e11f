"""Draw the rooms of the package into ARCHITECTURE.md, from its imports: `make architecture`.

What is drawn stands between two markers: a picture in Mermaid, which GitHub renders, and a table.
An arrow points from a room to one that it imports. The picture leaves out each arrow that a longer
path implies; the table names every room that a room imports. Imports inside functions and imports
for type checkers count. Left out: what imports what inside a room.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
START = "<!-- drawn by `make architecture`: change nothing from here -->"
END = "<!-- to here -->"


def rooms() -> list[str]:
    """All rooms, from the highest layer of pyproject.toml down."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return [room for layer in layers for room in layer.split(" | ")]


def imports_of(names: list[str]) -> dict[str, set[str]]:
    """{room: the rooms that it imports}."""
    graph = grimp.build_graph("postlab", cache_dir=None)
    for name in names:
        if graph.find_children(f"postlab.{name}"):
            graph.squash_module(f"postlab.{name}")
    return {
        name: {other for other in names if other != name and f"postlab.{other}" in imported}
        for name in names
        for imported in [graph.find_modules_directly_imported_by(f"postlab.{name}")]
    }


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The graph without the arrows that a longer path implies (its transitive reduction).

    >>> reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()})["a"]
    {'b'}
    """

    def below(name: str) -> set[str]:
        return graph[name].union(*(below(other) for other in graph[name]))

    return {
        name: {other for other in others if not any(other in below(third) for third in others)}
        for name, others in graph.items()
    }


def place(name: str) -> str:
    """A room's door, or the module that is a room by itself, as a path in the repository."""
    door = f"postlab/{name}/__init__.py"
    return door if (ROOT / door).exists() else f"postlab/{name}.py"


def purpose(name: str) -> str:
    """The first sentence of a room's docstring."""
    tree = ast.parse((ROOT / place(name)).read_text(encoding="utf-8"))
    paragraph = " ".join((ast.get_docstring(tree) or "").partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].removesuffix(".").replace("|", r"\|")


def drawn() -> str:
    """The picture and the table, as they stand between the markers."""
    names = rooms()
    imports = imports_of(names)
    arrows = reduced(imports)
    picture = [
        f"    {name} --> {' & '.join(other for other in names if other in arrows[name])}"
        for name in names
        if arrows[name]
    ]
    alone = [
        name for name in names if not imports[name] and not any(name in i for i in imports.values())
    ]
    table = []
    for name in names:
        path = place(name)
        label = f"{name}/" if path.endswith("__init__.py") else f"{name}.py"
        others = ", ".join(other for other in names if other in imports[name])
        table.append(f"| [{label}]({path}) | {purpose(name)} | {others} |")
    return "\n".join(
        [
            "```mermaid",
            "flowchart TD",
            *picture,
            *(f"    {name}" for name in alone),
            "```",
            "",
            "| room | what it is for | imports |",
            "|---|---|---|",
            *table,
        ]
    )


def with_drawing(page: str, drawing: str) -> str:
    """The page with this drawing between its markers.

    >>> with_drawing(f"a {START} old {END} z", "new").split()[-6:]
    ['new', '<!--', 'to', 'here', '-->', 'z']
    """
    before, found, rest = page.partition(START)
    _, closed, after = rest.partition(END)
    if not (found and closed):
        raise ValueError(f"ARCHITECTURE.md lacks a marker; expected the lines {START} and {END}")
    return f"{before}{START}\n{drawing}\n\n{END}{after}"


def main() -> None:
    sys.path.insert(0, str(ROOT))  # the package of this clone, whichever one is installed
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_drawing(page, drawn()), encoding="utf-8")


if __name__ == "__main__":
    main()
