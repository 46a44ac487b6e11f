"""A function as text to hash: its code, and everything that this code reaches.

`trace_code(reward)` follows a function into the helpers it calls, in any module of yours or of
postlab and through a library's decorator, and reads its default arguments, its closure and the
module-level values it uses. A library is identified by its version. Comments, docstrings, layout,
the type hints of functions and the wording of messages don't count, so a reworded error doesn't
cost a training run. If an object can't be read, such as an open file or a generator, the trace says
so, and the run is not reused.

Left out: files that a function opens, and names that it looks up by a computed string.
"""

from __future__ import annotations

import ast
import concurrent.futures
import contextvars
import copy
import dataclasses
import dis
import enum
import functools
import hashlib
import importlib
import importlib.util
import inspect
import linecache
import logging
import os
import random
import re
import sys
import textwrap
import threading
import types
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

# Identified by their version even if they are installed as a checkout.
LIBRARIES = {"trl", "transformers", "unsloth", "unsloth_zoo", "peft", "accelerate", "torch"}
LIBRARIES |= {"datasets", "bitsandbytes", "vllm", "numpy", "pandas", "tokenizers", "safetensors"}
MOST_OBJECTS = 200_000  # of one trace; beyond that a value counts as unreadable
MOST_NAMED = 20  # unreadable parts of one trace; one is enough for a run not to be reused
MOST_NESTED = 6_000  # Python calls, about four of them for each step of a walk
NO_SETTING = (type(threading.Lock()), type(threading.RLock()), concurrent.futures.Executor)
# What a C type keeps in its instances beside their attributes.
SCALARS = (int, float, complex, str, bytes, bytearray)
# Code with one of these names may reach a value by its name as a string.
BY_STRING = {"getattr", "attrgetter", "methodcaller", "vars", "globals", "__dict__", "eval", "exec"}
BY_STRING |= {"import_module", "__import__", "__getattribute__"}
BUILTINS = (
    types.BuiltinFunctionType, types.MethodWrapperType, types.WrapperDescriptorType,
    types.MethodDescriptorType, types.ClassMethodDescriptorType,
)  # fmt: skip
WRITTEN = {  # the methods that `dataclass` and `NamedTuple` write
    "__init__", "__repr__", "__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__",
    "__setattr__", "__delattr__", "__replace__", "__new__", "<lambda>", "__create_fn__",
}  # fmt: skip
GLOBAL_LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
NO_PLACE = ("RESUME", "MAKE_CELL", "COPY_FREE_VARS", "RETURN_GENERATOR", "CACHE")
NO_STEP = ("EXTENDED_ARG", "CACHE", "PUSH_NULL", "PRECALL")
OF_A_CLASS = {  # what Python itself notes in a class
    "__module__", "__qualname__", "__dict__", "__weakref__", "__doc__", "__annotations__",
    "__firstlineno__", "__static_attributes__", "__abstractmethods__", "_abc_impl",
    "__dataclass_params__", "__match_args__", "__parameters__", "__orig_bases__",
    # pydantic works these out of the fields, with addresses in them
    "__pydantic_core_schema__", "__pydantic_validator__", "__pydantic_serializer__",
    "__pydantic_setattr_handlers__", "__pydantic_complete__", "__signature__",
    "__annotate_func__", "__annotations_cache__", "__annotate__", "__conditional_annotations__",
}  # fmt: skip


@dataclass(frozen=True)
class Trace:
    """What `trace_code` read, as one text, and what it could not read, as 'where (type)'."""

    text: str
    unreadable: tuple[str, ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def trace_code(thing: Any, name: str = "", *, known: Mapping[int, str] | None = None) -> Trace:
    """Read a function, class or object, and everything that its code reaches.

    Args:
        thing: a function, method, partial, class, or an object with `__call__` or with settings.
        name: what to call it when something in it can't be read.
        known: {id of an object: a name that stands for it}, such as the model being trained.
    """
    reader = _Reader(_shared() | dict(known or {}))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, MOST_NESTED))
    try:
        if not name:
            name = type(thing).__name__
            with suppress(Exception):  # an object that answers to no name
                name = getattr(thing, "__name__", name)
        text = reader.value(thing, name)
    finally:
        sys.setrecursionlimit(limit)
    unreadable = tuple(dict.fromkeys(reader.unreadable))[:MOST_NAMED]
    return Trace("\n".join([*reader.texts, text]), unreadable)


def _shared() -> dict[int, str]:
    """What every process has its own of: it is known by its name, not by what it holds."""
    known = {id(os.environ): "os.environ", id(getattr(random, "_inst", None)): "random"}
    if "numpy" in sys.modules:  # `from numpy.random import rand` is bound to it
        known[id(sys.modules["numpy"].random.mtrand._rand)] = "numpy.random"
    if "torch" in sys.modules:
        known[id(sys.modules["torch"].default_generator)] = "torch.default_generator"
    return {number: name for number, name in known.items() if number != id(None)}


def source(thing: Any) -> str:
    """The text of `trace_code`, for comparing two functions."""
    return trace_code(thing).text


class _Reader:
    """One walk over an object graph. Each object is written once, then named by its number."""

    def __init__(self, known: Mapping[int, str]) -> None:
        self._known = known
        self.texts: list[str] = []
        self.unreadable: list[str] = []
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no id is reused during the walk

    def value(self, thing: Any, where: str) -> str:
        """`thing` as text: itself if it is plain, else a reference to the text of its parts."""
        try:
            plain_text = _plain_text(thing)
        except Exception:  # even its class is not to be asked for
            return self._cannot(where, thing)
        if plain_text is not None:
            return plain_text
        if id(thing) in self._known:
            return self._known[id(thing)]
        if id(thing) in self._numbers:
            return f"#{self._numbers[id(thing)]}"
        number = self._numbers[id(thing)] = len(self._numbers)
        self._alive.append(thing)
        if number > MOST_OBJECTS:
            return self._cannot(where, thing)
        try:
            parts = self._parts(thing, where)
        except Exception:  # an object that defends itself, or one nested too deep
            parts = self._cannot(where, thing)
        self.texts.append(f"#{number} = {parts}")
        return f"#{number}"

    def _parts(self, thing: Any, where: str) -> str:
        """What an object that is not plain consists of."""
        if isinstance(thing, enum.Enum):  # of one's own: its methods count as well
            return f"{self.value(type(thing), where)} {thing.name} {self.value(thing.value, where)}"
        if isinstance(thing, functools.partial):
            return "partial " + self._all([thing.func, thing.args, thing.keywords], where)
        if isinstance(thing, types.MethodType):
            return "method " + self._all([thing.__func__, thing.__self__], where)
        if isinstance(thing, types.FunctionType):
            return self._function(thing, where)
        if isinstance(thing, staticmethod | classmethod):
            return f"{type(thing).__name__} {self.value(thing.__func__, where)}"
        if isinstance(thing, property):
            return "property " + self._all([thing.fget, thing.fset], where)
        if isinstance(thing, functools.cached_property):
            return f"property {self.value(thing.func, where)}"
        if isinstance(thing, type):
            return self._class(thing, where)
        if isinstance(thing, types.ModuleType):
            return self._module(thing, where)
        if isinstance(thing, Mapping):
            pairs = [(self.value(k, where), self.value(v, f"{where}[{k!r:.40}]"))
                     for k, v in thing.items()]  # fmt: skip
            inside = f"{{{', '.join(': '.join(pair) for pair in pairs)}}}"
            return f"{self._container(thing, where)} {inside}"
        if isinstance(thing, set | frozenset):
            items = sorted(thing, key=self._sortable)
            return f"{self._container(thing, where)} {self._all(items, where)}"
        if isinstance(thing, list | tuple | deque):
            return f"{self._container(thing, where)} {self._all(thing, where)}"
        if callable(thing) and _wraps(thing) and not _ours(type(thing).__module__):
            return f"{_kind(thing)} {self.value(inspect.unwrap(thing), where)}"  # functools.cache
        if isinstance(thing, BUILTINS) or _kind(thing) == "cython_function_or_method":
            if _ours(getattr(thing, "__module__", None) or "builtins"):
                return self._cannot(where, thing)  # compiled: its code is in no text
            owner = getattr(thing, "__self__", None)  # `table.get` depends on the table
            bound = "" if isinstance(owner, types.ModuleType) else self.value(owner, where)
            return f"builtin {_library(thing)} {bound}"
        return self._object(thing, where)

    def _all(self, things: Iterable[Any], where: str) -> str:
        return "[" + ", ".join(self.value(thing, where) for thing in things) + "]"

    def _container(self, thing: Any, where: str) -> str:
        """What a container is beside its items: its type, and settings of its own."""
        if _ours(type(thing).__module__):
            return (
                f"{_kind(thing)} {self.value(type(thing), where)} {self._attributes(thing, where)}"
            )
        if isinstance(thing, defaultdict):
            return f"{_kind(thing)} {self.value(thing.default_factory, where)}"
        if isinstance(thing, deque) and thing.maxlen is not None:
            return f"{_kind(thing)} {thing.maxlen}"
        return _kind(thing)

    def _attributes(self, thing: Any, where: str) -> str:
        """What an object of one's own class holds, in its `__dict__` and its slots.

        Not what the class names in `no_settings`: what an object has done, as opposed to what it
        does.
        """
        values = dict(sorted(getattr(thing, "__dict__", {}).items()))
        skipped = getattr(type(thing), "no_settings", ())
        values = {n: v for n, v in values.items() if n not in skipped}
        values = {n: v for n, v in values.items() if not _computed(type(thing), n)}
        values |= {n: getattr(thing, n) for n in _slots(type(thing)) if hasattr(thing, n)}
        pairs = [f"{n}: {self.value(v, f'{where}.{n}')}" for n, v in values.items()]
        return f"{{{', '.join(pairs)}}}"

    def _sortable(self, thing: Any) -> str:
        plain_text = _plain_text(thing)
        return trace_code(thing, known=self._known).text if plain_text is None else plain_text

    def _wrapped(self, function: types.FunctionType, where: str) -> str:
        """What a library's decorator closed over, such as the function under `torch.no_grad()`."""
        values = [value for value in _cells(function) if _holds_own(value)]
        if not values:
            return ""
        values += [value for value in _cells(function) if _plain_text(value) is not None]
        module = str(function.__globals__.get("__name__"))
        name = f"{module}.{function.__code__.co_name} {_version(module.partition('.')[0])}"
        return f"{name} {self._all(values, where)}"

    def _function(self, function: types.FunctionType, where: str) -> str:
        space = function.__globals__
        if not _ours(space.get("__name__")):
            return self._wrapped(function, where) or _library(function)
        tree = _tree(function)
        text = _code_text(function.__code__) if tree is None else _canonical(tree)
        lines = [f"def {function.__name__}: {text}"]
        for part in ("__defaults__", "__kwdefaults__"):
            if getattr(function, part):
                lines.append(f"{part}: {self.value(getattr(function, part), where)}")
        for name, value in sorted(_reached(function.__code__, space).items()):
            lines.append(f"{name}: {self.value(value, f'{where}.{name}')}")
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                lines.append(f"{name}: {self.value(cell.cell_contents, f'{where}.{name}')}")
            except ValueError:  # not filled yet
                lines.append(f"{name}: empty")
        for name, value in sorted(vars(function).items()):
            lines.append(f".{name}: {self.value(value, f'{where}.{name}')}")
        return "\n ".join(lines)

    def _class(self, kind: type, where: str) -> str:
        # Part by part, because the source of a class defined in a notebook is not available.
        if not _ours(kind.__module__):
            patched = _patched(kind)
            return _library(kind) + (f" {self.value(patched, where)}" if patched else "")
        lines = [f"class {kind.__name__} {self._all(kind.__bases__, where)}"]
        if _ours(type(kind).__module__):
            lines.append(f"metaclass: {self.value(type(kind), where)}")
        if issubclass(kind, enum.Enum):  # what Python notes of members it finds while running
            lines.append(f"members: {[(n, self.value(m.value, where)) for n, m in _members(kind)]}")
        for name, value in sorted(vars(kind).items()):
            if name in OF_A_CLASS or _generated(kind, value) or _of_an_enum(kind, name):
                continue
            if name == "__replace__" and not own_function(value):  # since Python 3.13
                continue
            if name == "__dataclass_fields__":
                lines += _dataclass_rules(kind)
                value = {n: (str(f.type), f.default, f.default_factory) for n, f in value.items()}
            lines.append(f"{name}: {self.value(value, f'{where}.{name}')}")
        return "\n ".join(lines)

    def _module(self, module: types.ModuleType, where: str) -> str:
        """A module of your own or of postlab that is passed around as a value: all it defines."""
        if not _ours(module.__name__):
            return _library(module)
        inner = {n: v for n, v in vars(module).items() if not n.startswith("__")}
        return f"module {self.value(dict(sorted(inner.items())), where)}"

    def _object(self, thing: Any, where: str) -> str:
        kind = self.value(type(thing), where)
        tensors = _tensors(thing)
        if tensors is not None:
            return f"{kind} {tensors}{self._layers(thing, where)}"
        mine = _ours(type(thing).__module__)
        if isinstance(thing, (*NO_SETTING, logging.Logger)) and not mine:
            return kind
        if isinstance(thing, contextvars.ContextVar):  # what it holds belongs to a thread
            return f"{kind} {thing.name}"
        if hasattr(type(thing), "backend_tokenizer"):  # a call leaves its mark on the object itself
            state = [thing.backend_tokenizer.to_str(), getattr(thing, "chat_template", None)]
            return f"{kind} {_sha(str(state))}"
        if mine or isinstance(thing, types.SimpleNamespace):
            return f"{kind} {self._attributes(thing, where)}{self._inherited(thing, where)}"
        reduced = _reduced(thing)
        if isinstance(reduced, str):
            return f"{kind} {reduced}"
        return f"{kind} {self._all(reduced[1:], where)}"

    def _layers(self, thing: Any, where: str) -> str:
        """The layers of a model: what their code and settings are, beside their weights."""
        if not hasattr(type(thing), "named_modules"):
            return ""
        layers = [(name, type(layer), _settings_of(layer)) for name, layer in thing.named_modules()]
        return f" {self.value(layers, where)}"

    def _inherited(self, thing: Any, where: str) -> str:
        """What an object of one's own has from a type that keeps it elsewhere: a number's value."""
        for scalar in SCALARS:
            if isinstance(thing, scalar):
                return f" {scalar.__repr__(thing)}"
        for kind in type(thing).__mro__[:-1]:
            if {"__reduce__", "__reduce_ex__"} & vars(kind).keys():
                if _ours(kind.__module__):
                    return ""
                return f" {self._all(_reduced(thing)[1:], where)}"
        return ""

    def _cannot(self, where: str, thing: Any) -> str:
        place = where if len(where) <= 100 else f"{where[:50]} ... {where[-50:]}"
        self.unreadable.append(f"{place} ({type(thing).__name__})")
        return f"unreadable {type(thing).__name__}"


def package_source(*names: str) -> str:
    """SHA-256 of modules or subpackages of postlab, found by path; nothing is imported.

    Args:
        names: such as "evals" or "rewards"; a missing one counts as empty.
    """
    texts = []
    for name in names:
        place = Path(__file__).parents[1] / name.replace(".", "/")
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        texts += [_canonical(ast.parse(file.read_text("utf-8"))) for file in files if file.exists()]
    return _sha("\n".join(texts))


def plain(value: Any) -> Any:
    """`value` in a form for JSON, the same in every process: no addresses or absolute paths."""
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


# ---- values


def _placeless(text: str | PurePath) -> str:
    """A path of this machine as its last part; any other text as it is, such as '/no_think'."""
    if isinstance(text, PurePath):
        return text.name if text.is_absolute() else str(text)
    folder, _, name = text.rpartition(os.sep)
    return name if folder and os.path.isabs(text) and os.path.isdir(folder) else text


def _reduced(thing: Any) -> Any:
    """An object as pickle and copy take it apart."""
    reduced = thing.__reduce_ex__(4)
    if isinstance(reduced, str):
        return reduced
    return [list(part) if isinstance(part, Iterator) else part for part in reduced]


def _plain_text(thing: Any) -> str | None:
    """The text of a plain value, else None; of an absolute path only the last part is kept."""
    if thing is None or thing is Ellipsis or thing is NotImplemented:
        return repr(thing)
    if isinstance(thing, enum.Enum) and not _ours(type(thing).__module__):
        return f"{type(thing).__name__}.{thing.name}={thing.value!r}"
    if type(thing) in (bool, int, float, complex, bytes, range, slice):
        return repr(thing)
    if type(thing) is str or isinstance(thing, PurePath):
        return repr(_placeless(thing))
    if isinstance(thing, re.Pattern):
        return f"re {thing.pattern!r} {thing.flags}"
    if isinstance(thing, types.CodeType):
        return _code_text(thing)
    return None


def _tensors(thing: Any) -> str | None:
    """Arrays, tensors, frames, data sets and models: a hash of what is in them."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(thing, numpy.ndarray | numpy.generic):
        if thing.dtype.hasobject:
            return None
        data = memoryview(numpy.ascontiguousarray(thing).reshape(-1).view(numpy.uint8))
        return f"{thing.dtype} {thing.shape} {_sha(data)}"
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(thing, torch.Tensor):
        raw = thing.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
        return f"{thing.dtype} {tuple(thing.shape)} {_sha(memoryview(raw.numpy()))}"
    if torch is not None and isinstance(thing, torch.nn.Module):
        digest = hashlib.sha256()
        for name, tensor in thing.state_dict().items():
            digest.update(f"{name} {_tensors(tensor)}".encode())
        settings = {n: v for n, v in vars(thing).items() if type(v) in (bool, int, float, str)}
        return f"{sorted(settings.items())} {digest.hexdigest()}"
    if torch is not None and isinstance(thing, torch.Generator):
        return _tensors(thing.get_state())
    root = type(thing).__module__.partition(".")[0]
    if root == "pandas" and hasattr(thing, "to_csv"):
        return _sha(thing.to_csv())
    if root == "datasets" and hasattr(thing, "with_format") and hasattr(thing, "__len__"):
        return _sha("".join(map(repr, thing.with_format(None))))
    return None


def _settings_of(layer: Any) -> dict[str, Any]:
    kinds = (bool, int, float, str, tuple, types.FunctionType, types.BuiltinFunctionType)
    settings = {n: v for n, v in sorted(vars(layer).items()) if type(v) in kinds}
    return {n: v for n, v in settings.items() if n != "training" and not n.startswith("_")}


def _sha(data: str | bytes | memoryview) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def _kind(thing: Any) -> str:
    return type(thing).__name__


def _wraps(thing: Any) -> bool:
    return isinstance(getattr(thing, "__wrapped__", None), types.FunctionType)


def _computed(kind: type, name: str) -> bool:
    """True if `name` holds the value of a cached property, which is not a setting."""
    return isinstance(getattr(kind, name, None), functools.cached_property)


def _slots(kind: type) -> list[str]:
    names: list[str] = []
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            private = name.startswith("__") and not name.endswith("__")
            names.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return sorted(set(names) - {"__dict__", "__weakref__"})


# ---- whose code it is


def _ours(module: str | None) -> bool:
    """True for a notebook, a module of your own, and postlab, wherever it is installed."""
    root = (module or "").partition(".")[0]
    if root in ("postlab", "__main__", ""):
        return True
    if root in LIBRARIES or root.lower().startswith("unsloth") or root in sys.builtin_module_names:
        return False
    if root in sys.stdlib_module_names or root.startswith("_cython"):  # the types of its functions
        return False
    return _at_home(root)


@functools.cache
def _at_home(root: str) -> bool:
    """Whether a module is outside the folders that packages are installed in."""
    place: Any = sys.modules.get(root)
    if place is None:
        try:
            place = importlib.util.find_spec(root)
        except (ImportError, ValueError):
            return True
    file = getattr(place, "__file__", None) or getattr(place, "origin", None)
    paths = getattr(place, "__path__", None) or getattr(place, "submodule_search_locations", None)
    file = file or next(iter(paths or []), None)
    return file is None or not {"site-packages", "dist-packages"} & set(Path(file).parts)


def _library(thing: Any) -> str:
    """An object from a library: its name and the library's version."""
    module = getattr(thing, "__module__", None) or getattr(thing, "__name__", "") or ""
    if not isinstance(module, str):
        module = type(thing).__module__
    if module.partition(".")[0] in sys.stdlib_module_names:
        # `_collections` in 3.11 is `collections` in 3.12, and `pathlib` in 3.13 `pathlib._local`.
        first, *inner = module.split(".")
        inner = [part for part in inner if not part.startswith("_")]
        module = ".".join([first.removeprefix("_"), *inner])
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", _kind(thing))
    return f"{module}.{name} {_version(module.partition('.')[0])}".rstrip()


@functools.cache
def _version(root: str) -> str:
    if root in sys.stdlib_module_names:
        return ""
    for name in (root, *_distributions().get(root, [])):  # `yaml` is installed by PyYAML
        try:
            return metadata.version(name).partition("+")[0]  # without the build's device
        except (metadata.PackageNotFoundError, ValueError):
            continue
    return ""


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def ours(kind: type) -> bool:
    """True for a class defined in a notebook, in a module of your own or in postlab."""
    return _ours(kind.__module__)


def stored_names(kind: type) -> set[str]:
    """The attributes that a class's own methods set on their instance."""
    names: set[str] = set()
    for value in vars(kind).values():
        if isinstance(value, types.FunctionType):
            steps = dis.get_instructions(value.__code__)
            names |= {step.argval for step in steps if step.opname == "STORE_ATTR"}
    return names


# ---- code


def _reached(code: types.CodeType, space: Mapping[str, Any]) -> dict[str, Any]:
    """What a function's code can reach by name: globals, attributes of modules, local imports."""
    names, imports = set(_names(code)), set(_imports(code))
    if names & BY_STRING:  # `getattr(module, "name")`
        names |= set(_words(code))
    loading = {name for _, _, fromlist in imports for name in fromlist}
    reached: dict[str, Any] = {}
    entered: set[int] = set()

    def take(name: str, value: Any) -> None:
        if not isinstance(value, types.ModuleType) or not _ours(value.__name__):
            reached[name] = value
        elif id(value) not in entered:  # our own module: any name in it may be meant
            entered.add(id(value))
            if "__getattr__" in vars(value) and value.__name__.partition(".")[0] != "postlab":
                reached[f"{name}.__getattr__"] = vars(value)["__getattr__"]
            for inner in sorted(names):
                with suppress(Exception):
                    # A name that this code imports, and that isn't loaded yet.
                    if inner in loading and inner not in vars(value) and hasattr(value, "__path__"):
                        importlib.import_module(f"{value.__name__}.{inner}")
                    take(f"{name}.{inner}", getattr(value, inner))

    globals_ = set(_globals(code)) | (names if names & BY_STRING else set())
    for name in sorted(globals_ & space.keys()):
        take(name, space[name])
    for name, module in _handed_on(code, space):
        reached[f"{name} itself"] = module
    package = space.get("__package__") or ""
    for name, level, fromlist in sorted(imports):
        root = name.partition(".")[0]
        if not level and not _ours(root):
            reached[f"{name} {fromlist}"] = f"{name} {_version(root)}"  # without loading it
            continue
        try:
            module = importlib.import_module("." * level + name, package if level else None)
        except (Exception, SystemExit):  # a library that isn't here, or a branch guards the import
            reached[name] = "not importable"
            continue
        take(name, module)
        if not level and root != name:  # `import a.b` binds a
            take(root, sys.modules[root])
    return reached


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _words(code: types.CodeType) -> Iterator[str]:
    """Every name that stands in a string of the code."""
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield from re.findall(r"[^\W\d]\w*", constant)
        elif isinstance(constant, types.CodeType):
            yield from _words(constant)


def _steps(code: types.CodeType) -> list[dis.Instruction]:
    return [step for step in dis.get_instructions(code) if step.opname not in NO_STEP]


def _handed_on(code: types.CodeType, space: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Modules of one's own that the code hands about as values, as in `score_with(module)`."""
    imported: dict[str, Any] = {}
    steps = _steps(code)
    for index, step in enumerate(steps):
        if step.opname == "IMPORT_NAME" and steps[index + 1].opname.startswith("STORE"):
            imported[steps[index + 1].argval] = sys.modules.get(step.argval.partition(".")[0])
        elif step.opname == "IMPORT_FROM" and steps[index + 1].opname.startswith("STORE"):
            names = [s.argval for s in steps[:index] if s.opname == "IMPORT_NAME"]
            loaded = sys.modules.get(names[-1])
            imported[steps[index + 1].argval] = getattr(loaded, step.argval, None)
    for index, step in enumerate(steps):
        if not step.opname.startswith("LOAD_") or not isinstance(step.argval, str):
            continue
        value = imported.get(step.argval)
        if value is None and step.opname in GLOBAL_LOADS:
            value = space.get(step.argval)
        name = step.argval
        for later in steps[index + 1 :]:
            if later.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                break
            if not isinstance(value, types.ModuleType):
                break
            value, name = getattr(value, later.argval, None), f"{name}.{later.argval}"
        if isinstance(value, types.ModuleType) and _ours(value.__name__):
            yield name, value
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _handed_on(constant, space)


def _globals(code: types.CodeType) -> Iterator[str]:
    for step in dis.get_instructions(code):
        if step.opname in GLOBAL_LOADS:
            yield step.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):  # comprehensions and inner functions
            yield from _globals(constant)


def _imports(code: types.CodeType) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """(module, level, names) of each import in a function; level counts the leading dots."""
    steps = _steps(code)
    for index, step in enumerate(steps):
        if step.opname == "IMPORT_NAME":
            level, names = steps[index - 2].argval, steps[index - 1].argval
            yield step.argval, level if isinstance(level, int) else 0, tuple(names or ())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _imports(constant)


def _tree(function: types.FunctionType) -> ast.AST | None:
    """The syntax tree of a function as it runs; None if its source isn't available.

    That is the case for code without a source, and for a file that was edited after it was
    imported, because what runs is then not what the file says.
    """
    code = function.__code__
    if code.co_filename == "<string>":
        return None
    if os.path.isfile(code.co_filename) and code not in _codes_of(code.co_filename):
        return None
    if code.co_name == "<lambda>":
        return _lambda(code)
    try:
        lines, _ = inspect.getsourcelines(code)
        tree = ast.parse(textwrap.dedent("".join(lines))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError, ValueError):
        return None
    named = isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef) and tree.name == code.co_name
    return tree if named else None


def _lambda(code: types.CodeType) -> ast.Lambda | None:
    """The lambda in the source that a code object was compiled from, found by its place.

    Several may stand on one line, and one inside another: the code's is the innermost whose body
    holds every instruction. Python 3.12 gives `lambda: 5` no place, so there the lambdas of its
    line must be alike.
    """
    lambdas = _lambdas("".join(linecache.getlines(code.co_filename)))
    places = [
        (at.lineno, at.col_offset, at.end_lineno, at.end_col_offset)
        for step in dis.get_instructions(code)
        if step.opname not in NO_PLACE and (at := step.positions) is not None
    ]
    places = [place for place in places if None not in place and place[:2] != place[2:]]
    if not places:
        lambdas = [node for node in lambdas if node.lineno == code.co_firstlineno]
        alike = len({_canonical(copy.deepcopy(node)) for node in lambdas}) == 1
        return lambdas[0] if alike else None
    first, last = min(place[:2] for place in places), max(place[2:] for place in places)

    def holds(body: ast.expr) -> bool:
        start, end = (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset)
        return start <= first and last <= end

    holding = [node for node in lambdas if holds(node.body)]
    return max(holding, key=lambda node: (node.body.lineno, node.body.col_offset), default=None)


@functools.lru_cache(maxsize=32)
def _lambdas(text: str) -> list[ast.Lambda]:
    """Every lambda of a source file; none if it can't be parsed, as a cell with a magic command."""
    try:
        return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Lambda)]
    except (SyntaxError, ValueError):
        return []


def _codes_of(file: str) -> frozenset[types.CodeType]:
    """The code objects of every function in a file as it is now."""
    linecache.checkcache(file)
    return _compiled(file, os.stat(file).st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _compiled(file: str, when: int) -> frozenset[types.CodeType]:
    try:
        top = compile(Path(file).read_bytes(), file, "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    codes, stack = set(), [top]
    while stack:
        code = stack.pop()
        codes.add(code)
        stack += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return frozenset(codes)


def _code_text(code: types.CodeType) -> str:
    """Code without source: its instructions, which depend on the version of Python."""
    constants = [
        _code_text(c) if isinstance(c, types.CodeType) else repr(_ordered(c))
        for c in code.co_consts
    ]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_argcount, code.co_flags)
    version = ".".join(map(str, sys.version_info[:2]))
    return f"{version} {_sha(code.co_code)} {constants} {names}"


def _ordered(constant: Any) -> Any:
    return sorted(constant, key=repr) if isinstance(constant, frozenset) else constant


def _generated(kind: type, value: Any) -> bool:
    """A method that `dataclass` or `NamedTuple` wrote, which the fields say already."""
    code = getattr(inspect.unwrap(value) if _wraps(value) else value, "__code__", None)
    if code is None or not code.co_filename.startswith("<string>"):
        return False
    return code.co_name in WRITTEN and bool({"__dataclass_fields__", "_fields"} & vars(kind).keys())


def _dataclass_rules(kind: type) -> list[str]:
    """How instances of a dataclass compare and are made, where it isn't the usual way."""
    usual = {"init": True, "eq": True, "order": False, "unsafe_hash": False, "frozen": False}
    params = vars(kind).get("__dataclass_params__")
    rules = [f"{n}: {getattr(params, n)}" for n, v in usual.items() if getattr(params, n, v) != v]
    for field in dataclasses.fields(kind):
        how = (field.init, field.compare, field.hash)
        rules += [f"{field.name}: {how}"] if how != (True, True, None) else []
    return rules


def _members(kind: Any) -> list[tuple[str, Any]]:
    return list(kind.__members__.items())


def _of_an_enum(kind: type, name: str) -> bool:
    if not issubclass(kind, enum.Enum):
        return False
    sunder = name.startswith("_") and name.endswith("_") and not name.startswith("__")
    return name in kind.__members__ or (sunder and name not in ("_missing_", "_ignore_"))


def _cells(function: types.FunctionType) -> list[Any]:
    """What a function closed over, and what it says it wraps."""
    values = [vars(function)["__wrapped__"]] if "__wrapped__" in vars(function) else []
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # not filled yet
            values.append(cell.cell_contents)
    return values


def _holds_own(value: Any, depth: int = 4) -> bool:
    """Whether a value that a library holds is, or leads to, code of one's own."""
    if depth == 0:
        return False
    if isinstance(value, types.FunctionType):
        inner: Iterable[Any] = _cells(value)
        if own_function(value):
            return True
    elif isinstance(value, type):
        return _ours(value.__module__)
    elif isinstance(value, types.MethodType):
        inner = [value.__func__, value.__self__]
    elif isinstance(value, functools.partial):
        inner = [value.func, *value.args, *value.keywords.values()]
    elif type(value) in (list, tuple):
        inner = value
    elif type(value) in (dict, types.MappingProxyType):
        inner = value.values()
    elif callable(value) and _wraps(value):
        inner = [value.__wrapped__]
    else:
        return _ours(type(value).__module__)
    return any(_holds_own(item, depth - 1) for item in inner)


def own_function(function: Any) -> bool:
    """True for a function that a module of one's own defines; generated code is nobody's."""
    if not isinstance(function, types.FunctionType):
        return False
    name = function.__globals__.get("__name__")
    return name in sys.modules and _ours(name)


def _patched(kind: type) -> dict[str, Any]:
    """Methods of one's own that were put into a library's class."""
    return {
        name: value
        for base in reversed(kind.__mro__)
        if not _ours(base.__module__)
        for name, value in sorted(vars(base).items())
        if own_function(value)
    }


def _canonical(tree: ast.AST) -> str:
    """What in a tree can change a result, as text that is the same in every Python version."""
    return _written(_Bare().visit(tree))


def _written(node: Any) -> str:
    if isinstance(node, list):
        return "[" + " ".join(map(_written, node)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = [
        f"{name}={_written(value)}"
        for name, value in ast.iter_fields(node)
        # some versions of Python write out empty fields, others leave them out
        if value not in (None, []) and name not in ("ctx", "kind", "type_comment")
    ]
    if isinstance(node, ast.Constant):
        return repr(node.value)
    return f"{type(node).__name__}({' '.join(parts)})"


class _Bare(ast.NodeTransformer):
    """Drops docstrings, type hints, the wording of messages, and where a name is imported from."""

    def _definition(self, node: Any) -> Any:
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
            node.body = node.body[1:] or [ast.Pass()]
        if hasattr(node, "returns"):
            node.returns = None
        return self.generic_visit(node)

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _definition

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        if node.value is None:
            return ast.Pass()
        return self.generic_visit(ast.Assign(targets=[node.target], value=node.value))

    def visit_Raise(self, node: ast.Raise) -> Any:
        if isinstance(node.exc, ast.Call):
            node.exc.args = [a for a in node.exc.args if not _wording(a)]
            node.exc.keywords = [k for k in node.exc.keywords if not _wording(k.value)]
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> Any:
        node.msg = None
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> Any:
        if isinstance(node.value, ast.Call) and _speaks(node.value.func):
            node.value.args = [a for a in node.value.args if not _wording(a)]
        return self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        node.keys = [ast.Name(id="**") if key is None else key for key in node.keys]
        return self.generic_visit(node)

    def visit_Import(self, node: Any) -> ast.AST:
        """What is imported is followed by itself; what counts here is another name for it."""
        renamed = [f"{a.name} as {a.asname}" for a in node.names if a.asname]
        return ast.Expr(value=ast.Constant(value="; ".join(renamed))) if renamed else ast.Pass()

    visit_ImportFrom = visit_Import


def _wording(node: ast.AST) -> bool:
    """True for text meant for people: a string, or strings joined together.

    An f-string doesn't count as such if it assigns, awaits or yields.
    """
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    if isinstance(node, ast.JoinedStr):
        calls = [n for n in ast.walk(node) if isinstance(n, ast.NamedExpr | ast.Await | ast.Yield)]
        return not calls
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        return _wording(node.left) or _wording(node.right)
    return False


def _speaks(function: ast.AST) -> bool:
    """True for `print`, `warnings.warn` and the methods of a logger."""
    if isinstance(function, ast.Name):
        return function.id == "print"
    methods = ("warn", "debug", "info", "warning", "error", "exception", "critical")
    if isinstance(function, ast.Attribute) and function.attr in methods:
        owner = getattr(function.value, "attr", getattr(function.value, "id", ""))  # self.logger
        return owner.lower().strip("_") in ("warnings", "logger", "logging", "log")
    return False
