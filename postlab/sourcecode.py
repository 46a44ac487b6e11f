"""Source code as a fingerprint: what a function says and calls, whatever its layout.

Comments, docstrings and layout do not count: a reworded comment does not cost a training run.
Left out: helpers in third-party modules (their version stands in for them) and mutable globals.
"""

from __future__ import annotations

import ast
import enum
import hashlib
import inspect
import os
import re
import textwrap
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from types import CodeType
from typing import Any

PACKAGE = Path(__file__).parent
# Layers of libraries whose version says enough; everything else is told by its source.
OWN = {"trl", "transformers", "unsloth", "unsloth_zoo", "peft", "accelerate", "torch", "datasets"}
OWN |= {"builtins", "bitsandbytes", "abc"}


def package_source(*names: str) -> str:
    """SHA-256 of modules or subpackages of postlab, by path: nothing is imported.

    Args:
        names: such as "evals" or "rewards"; a missing one counts as empty.
    """
    texts = []
    for name in names:
        place = PACKAGE / name.replace(".", "/")
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        texts += [_stripped(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def source(thing: Any, seen: set[int] | None = None) -> str:
    """The text that defines `thing`, with the helpers and constants of its module that it uses."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return ""
    seen.add(id(thing))
    if isinstance(thing, partial):
        return source(thing.func, seen) + str(plain([thing.args, thing.keywords]))
    if not (inspect.isfunction(thing) or inspect.isclass(thing) or inspect.ismethod(thing)):
        return source(type(thing), seen) + str(plain(getattr(thing, "__dict__", {})))
    module, name = thing.__module__ or "", thing.__qualname__
    root = module.partition(".")[0]
    if root == "postlab":
        return package_source(module.split(".")[1]) + name
    if root in OWN or root.startswith("Unsloth"):
        return f"{module}.{name}"
    if inspect.isclass(thing):
        # method by method: the source of a class defined in a notebook cannot be had
        methods = [value for value in vars(thing).values() if inspect.isfunction(value)]
        bases = [base for base in thing.__bases__ if base is not object]
        return name + "".join(source(part, seen) for part in methods + bases)
    function = inspect.unwrap(thing.__func__ if inspect.ismethod(thing) else thing)
    try:
        text = _stripped(inspect.getsource(function))
    except (OSError, TypeError):
        return f"{module}.{name} {_version(root)}"
    used = dict(_used(function))
    for key in sorted(used):
        value = used[key]
        local = getattr(value, "__module__", None) == function.__module__
        if local and (inspect.isfunction(value) or inspect.isclass(value)):
            text += source(value, seen)
        elif isinstance(value, str | int | float | tuple | frozenset | re.Pattern | None):
            text += f"\n{key} = {plain(value)}"
    return text


def plain(value: Any) -> Any:
    """`value` as JSON can hold it, the same in every process: no addresses, no absolute paths."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, str | Path):
        return Path(value).name if os.path.isabs(value) else str(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(str(plain(item)) for item in value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, re.Pattern):
        return [value.pattern, value.flags]
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if callable(value):
        name = getattr(value, "__qualname__", type(value).__qualname__)
        return f"{getattr(value, '__module__', '')}.{name}"
    text = str(value)
    return type(value).__qualname__ if " at 0x" in text else text


def _stripped(text: str) -> str:
    try:
        tree = ast.parse(textwrap.dedent(text))
    except SyntaxError:  # a lambda inside a longer expression
        return " ".join(text.split())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        named = isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module | ast.AsyncFunctionDef)
        if named and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                node.body = body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _used(function: Any) -> Iterator[tuple[str, Any]]:
    for name in set(_names(function.__code__)):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    cells = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not filled yet
            continue


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):  # comprehensions and inner functions
            yield from _names(constant)


def _version(root: str) -> str:
    try:
        return metadata.version(root)
    except metadata.PackageNotFoundError:
        return ""
