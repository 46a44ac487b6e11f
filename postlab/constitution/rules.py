"""A constitution as a short YAML file: its rules, and the two requests that are made of a critic.

Left out: rules that hold for some prompts only, weights, and inheritance; the order of the rules
is their priority. The file is read as plain data (`yaml.safe_load`) and may be written by others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from postlab.profile import data_dir
from postlab.storage import read_file

VERDICTS = ("breaks", "keeps")
# A constitution is a short file. YAML's reader takes time quadratic in the depth, so these are
# checked as it reads; the file's own structure is 5 levels deep, and an example takes 14 tokens.
_MOST_BYTES, _MOST_TOKENS, _DEEPEST = 100_000, 10_000, 20


@dataclass(frozen=True)
class Example:
    """A reply to a prompt, and whether it 'breaks' or 'keeps' the rule that it stands under."""

    prompt: str
    reply: str
    verdict: str


@dataclass(frozen=True)
class Rule:
    """One rule; its examples are what a critic has to get right before anything is built on it."""

    id: str
    text: str
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Constitution:
    """Rules in their order of priority; `check` holds {rule} where a rule's text goes.

    Raises:
        ValueError: if there is no rule, or two have one id.
    """

    rules: tuple[Rule, ...]
    check: str
    revise: str

    def __post_init__(self) -> None:
        ids = [rule.id for rule in self.rules]
        if not ids:
            raise ValueError("a constitution without rules; expected at least one Rule")
        if len(set(ids)) < len(ids):
            twice = next(name for name in ids if ids.count(name) > 1)
            raise ValueError(
                f"two rules have the id {twice!r:.60}; rules are told apart by it: rename one"
            )

    def without(self, *ids: str) -> Constitution:
        """The same constitution with some rules left out, to see what each of them does.

        Raises:
            ValueError: if there is no such rule, or none would be left.
        """
        self._known(ids)
        left = tuple(rule for rule in self.rules if rule.id not in ids)
        if not left:
            raise ValueError("without every rule there is no constitution; leave one in")
        return replace(self, rules=left)

    def ordered(self, *ids: str) -> Constitution:
        """The same rules with these first, in this order: who wins where two conflict.

        Raises:
            ValueError: if there is no such rule.
        """
        self._known(ids)
        named = {rule.id: rule for rule in self.rules}
        rest = [rule for rule in self.rules if rule.id not in ids]
        return replace(self, rules=(*(named[name] for name in dict.fromkeys(ids)), *rest))

    def _known(self, ids: Sequence[str]) -> None:
        known = [rule.id for rule in self.rules]
        for name in ids:
            if name not in known:
                raise ValueError(f"there is no rule {name!r}; the rules are {', '.join(known)}")


def load_constitution(source: str | Path = "tinyworld") -> Constitution:
    """Read a constitution, shipped or your own.

    Args:
        source: the path of a YAML file with `check`, `revise` and `rules`, each with `id`, `text`
            and, if wanted, `examples` of `prompt`, `reply` and `verdict` ('breaks' or 'keeps'); or
            a bare name in data/constitutions.
    Returns:
        The constitution, in the file's order.
    Raises:
        ValueError: if something is missing, unknown or of the wrong kind, naming the file, the
            rule and the field; or if it isn't a regular file, or is too large or too deep.
        OSError: if the file cannot be read.
    Source: Bai et al. 2022, arXiv 2212.08073, appendix C. Taught in week 9.

    >>> [(rule.id, rule.text) for rule in load_constitution().rules][0]
    ('harm', 'Do not help to hurt a person.')
    """
    path = Path(source)
    if re.fullmatch(r"[a-z0-9-]+", str(source)):
        path = data_dir() / "constitutions" / f"{source}.yaml"
    raw = read_file(path, most=_MOST_BYTES)
    fields = _fields(_parsed(raw, path.name), path.name, ("check", "revise", "rules"))
    check, revise = (_text(fields, name, path.name) for name in ("check", "revise"))
    if check.count("{rule}") != 1:
        raise ValueError(
            f"{path.name}, field 'check': expected one {{rule}}, where the rule's text goes"
        )
    rules = tuple(
        _rule(raw_rule, f"{path.name}, rule {number}")
        for number, raw_rule in enumerate(_list(fields, "rules", path.name), start=1)
    )
    if not rules:
        raise ValueError(f"{path.name}, field 'rules': expected at least one rule")
    for field in ("id", "text"):  # twice the same text would count a breach twice
        values = [getattr(rule, field) for rule in rules]
        for number, value in enumerate(values, start=1):
            if value in values[: number - 1]:
                raise ValueError(
                    f"{path.name}, rule {number} ({rules[number - 1].id}), field {field!r}:"
                    f" {value!r:.60} occurs twice"
                )
    return Constitution(rules, check, revise)


def _parsed(raw: bytes, name: str) -> Any:
    """The file as plain data; a field twice, an alias or another document is an error."""
    import yaml

    opening = (
        yaml.FlowSequenceStartToken,
        yaml.FlowMappingStartToken,
        yaml.BlockSequenceStartToken,
        yaml.BlockMappingStartToken,
    )
    closing = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)

    class Loader(yaml.SafeLoader):
        count = depth = 0

        def get_token(self) -> Any:
            token = super().get_token()
            self.count += 1
            self.depth += isinstance(token, opening) - isinstance(token, closing)
            if self.count > _MOST_TOKENS:
                raise yaml.YAMLError(f"it has more than {_MOST_TOKENS:,} parts")
            if self.depth > _DEEPEST:
                raise RecursionError
            if isinstance(token, yaml.AliasToken):
                raise yaml.YAMLError("it holds an alias (*name); write the text out")
            return token

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if isinstance(key.value, str) and key.value in seen:
                    line = key.start_mark.line + 1
                    raise yaml.YAMLError(f"line {line}: field {key.value!r:.60} occurs twice")
                seen.add(key.value if isinstance(key.value, str) else None)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(raw.decode("utf-8"), Loader)  # a SafeLoader: it makes plain data only
    except UnicodeDecodeError as error:
        problem = f"it is not UTF-8 text (byte {error.start})"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = f"line {mark.line + 1 if mark else '?'}: not YAML ({error.problem})"
    except RecursionError:
        problem = "it is nested too deeply"
    except (ArithmeticError, AttributeError, LookupError, TypeError):  # from the tag's own reader
        problem = "a tag, such as !!int, stands before a value that is none; leave the tags out"
    except (yaml.YAMLError, ValueError) as error:  # also a date or a number that is none
        problem = f"it cannot be read ({' '.join(str(error).split())[:120]})"
    raise ValueError(f"{name}: {problem}")


def _rule(raw: Any, where: str) -> Rule:
    fields = _fields(raw, where, ("id", "text", "examples"), optional=("examples",))
    name = _text(fields, "id", where)
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise ValueError(f"{where}, field 'id': {name!r:.60}; expected a-z, 0-9, - and _")
    where = f"{where} ({name})"
    examples = []
    for number, one in enumerate(_list(fields, "examples", where), start=1):
        place = f"{where}, example {number}"
        example_fields = _fields(one, place, ("prompt", "reply", "verdict"))
        example = Example(*(_text(example_fields, field, place) for field in example_fields))
        if example.verdict not in VERDICTS:
            raise ValueError(
                f"{place}, field 'verdict': {example.verdict!r:.60}; expected 'breaks' or 'keeps'"
            )
        examples.append(example)
    return Rule(name, _text(fields, "text", where), tuple(examples))


def _fields(
    raw: Any, where: str, names: Sequence[str], *, optional: Sequence[str] = ()
) -> dict[str, Any]:
    """The mapping, its fields in the order of `names`, once it holds these and no others."""
    if not isinstance(raw, dict):
        raise ValueError(f"{where}: got {_kind(raw)}, expected the fields {', '.join(names)}")
    for name in names:
        if name not in raw and name not in optional:
            raise ValueError(f"{where}: field {name!r} is missing")
    for name in raw:
        if name not in names:
            raise ValueError(
                f"{where}: field {_shown(name, 60)} is unknown; expected {', '.join(names)}"
            )
    return {name: raw[name] for name in names if name in raw}


def _text(raw: dict[str, Any], field: str, where: str) -> str:
    value = raw[field]
    if not isinstance(value, str):
        raise ValueError(
            f"{where}, field {field!r}: got {_kind(value)}, expected text; quote it if it is meant"
            " as text"
        )
    if not value.strip():
        raise ValueError(f"{where}, field {field!r}: the text is empty")
    return value.strip()


def _list(raw: dict[str, Any], field: str, where: str) -> list[Any]:
    value = raw.get(field, [])
    if not isinstance(value, list):
        raise ValueError(f"{where}, field {field!r}: got {_kind(value)}, expected a list")
    return value


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {_shown(value, 40)}"


def _shown(value: Any, width: int) -> str:
    try:
        return repr(value)[:width]
    except ValueError:  # Python writes no whole number of over 4300 digits
        return "of very many digits"
