"""A YAML file laid over a frozen dataclass: read, checked field by field, and merged.

Nested mappings merge, everything else replaces. Each error names the file and the field, what was
there and what was expected. Left out: several documents in one file, and objects of any class.
"""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
Kinds = frozenset[str]  # of KINDS; empty for a value of any kind
KINDS = {
    "NoneType": "null", "bool": "true or false", "int": "a whole number", "float": "a number",
    "str": "a text", "list": "a list", "dict": "a mapping",
}  # fmt: skip


@cache
def _loader() -> Any:
    """PyYAML's safe loader with our two rules; imported here, as the plain package goes without."""
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML in which 2e-4 is a number, as in YAML 1.2, and a repeated field an error."""

        # While it is read, as a merge (<<) puts another mapping's fields beside a node's own.
        def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
            node = super().compose_mapping_node(anchor)
            names = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                    if key.value in names:
                        problem = f"{key.value!r} stands there twice"
                        raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                    names.add(key.value)
            return node

        def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep)
            except (ValueError, LookupError, AttributeError) as error:  # 2026-13-01, !!int a
                raise yaml.MarkedYAMLError(
                    problem=str(error), problem_mark=node.start_mark
                ) from error

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+\Z"),
        list("-+0123456789"),
    )

    return Loader


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        OSError: if there is no such file.
        ModuleNotFoundError: if PyYAML isn't installed.
        ValueError: if it isn't YAML in UTF-8, or holds something else; the message has the line.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path} can't be read without PyYAML: pip install pyyaml"
        ) from error
    try:
        values = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_loader())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except RecursionError as error:
        raise ValueError(f"{path} can't be read as YAML: it is nested too deeply") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise ValueError(f"{path}{line} can't be read as YAML: {problem}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds {shown(values)}; expected fields, such as 'name: mine'")
    return values


def laid_over(parent: T, values: Mapping[str, Any], where: str) -> T:
    """A copy of a dataclass with some of its fields set.

    Args:
        parent: where the fields come from that `values` doesn't have.
        values: {field: value}; a mapping is laid over a field that holds one, or a dataclass.
        where: what stands before a field's name in messages, such as "mine.yaml, sft.".
    Raises:
        ValueError: if a field is unknown.
        TypeError: if a value is not of the field's type.
    """
    hints = get_type_hints(type(parent))
    check_names(values, hints, where)
    changed: dict[str, Any] = {}
    for name, value in values.items():
        current = getattr(parent, name)
        if is_dataclass(current) and isinstance(value, Mapping):
            changed[name] = laid_over(current, value, f"{where}{name}.")
            continue
        check_kind(value, kinds_of(hints[name]), where + name)
        both = isinstance(current, Mapping) and isinstance(value, Mapping)
        changed[name] = {**current, **value} if both else value
    return replace(parent, **changed)  # type: ignore[type-var]


def check_names(values: Iterable[Any], known: Iterable[str], where: str) -> None:
    """Raise ValueError at the first name that isn't known, with the one it is most like."""
    known = list(known)
    for name in values:
        if name not in known:
            raise ValueError(f"{where}{name}: there is no such field; {did_you_mean(name, known)}")


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """What to write in the place of a misspelt name, to end an error with.

    >>> did_you_mean("max_stps", ["max_steps", "seed"])
    "did you mean 'max_steps'?"
    """
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    listed = ", ".join(known) if len(known) <= 30 else f"one of {len(known)} names"
    return f"expected {listed}"


def check_kind(value: Any, kinds: Kinds, where: str) -> None:
    """Raise TypeError unless the value is of one of these kinds, ValueError if it isn't finite."""
    kind = _kind(value)
    if kinds and kind not in kinds and not (kind == "int" and "float" in kinds):
        expected = " or ".join(KINDS.get(name, name) for name in sorted(kinds, key=_order))
        hint = "; put a text that looks like something else in quotes" if "str" in kinds else ""
        raise TypeError(f"{where} is {shown(value)}; expected {expected}{hint}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}; expected a finite number")


def kinds_of(hint: Any) -> Kinds:
    """The kinds of value that a type hint allows.

    >>> sorted(kinds_of(int | None))
    ['NoneType', 'int']
    """
    if hint is Any:
        return frozenset()
    if get_origin(hint) in (Union, types.UnionType):
        parts = [kinds_of(part) for part in get_args(hint)]
        return frozenset().union(*parts) if all(parts) else frozenset()
    kind = get_origin(hint) or hint
    if is_dataclass(kind):
        return frozenset(["fields that the profile it is like has too"])
    if kind in (bool, int, float, str, type(None)):
        return frozenset([kind.__name__])
    return frozenset(["dict" if issubclass(kind, Mapping) else "list"])


def shown(value: Any) -> str:
    """A value and its kind, for messages.

    >>> shown("0.1"), shown(None)
    ("'0.1' (a text)", 'null')
    """
    kind = KINDS.get(_kind(value), _kind(value))
    return "null" if value is None else f"{value!r:.60} ({kind})"


def _kind(value: Any) -> str:
    name = type(value).__name__
    return "dict" if isinstance(value, Mapping) else "list" if isinstance(value, tuple) else name


def _order(kind: str) -> int:
    return list(KINDS).index(kind) if kind in KINDS and kind != "NoneType" else len(KINDS)
