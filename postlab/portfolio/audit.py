"""What stands between a portfolio and its publication, as a list with places and remedies.

A draft is read as its reader would read it: Markdown is parsed, and what HTML, entities, comments
or invisible characters could hide is an error of its own. In the text that is left, numbers must be
placeholders, and `wording` checks the words of comparison. Rendered files must equal what their
drafts give now, and figures the data they were drawn from. Left out: whether a sentence is true in
ways that no claim speaks of, code blocks, and links to other sites, which aren't fetched.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from markdown_it.token import Token

from postlab.overlay import did_you_mean
from postlab.portfolio.binding import Evidence, evidence, placeholders
from postlab.portfolio.documents import (
    DRAFTS,
    DRAWN,
    FIGURES,
    LARGEST,
    PROJECTS,
    digest,
    figure_names,
    figures,
    page_name,
    read_drafts,
    rendered,
)
from postlab.portfolio.markdown import anchors, parse, plain, without_front_matter
from postlab.portfolio.wording import Passage, check_passage, stages_named
from postlab.profile import Profile
from postlab.redaction import redact
from postlab.runs import MissingStage
from postlab.storage import read_file, read_json

HOLE = "TODO(you)"
PASS_TEXTS = "expected=make_portfolio(...).texts"
AHEAD = ("Hypothesis before the run.", "What I would run next.")  # labels in the templates' posts
MOST = 2_000  # placeholders of a draft
FIRST = 0xF0000  # a placeholder is one character of the private plane while a draft is read
FRONT = {"marp": "true", "paginate": "true", "theme": None, "title": None, "author": None}
TEXT = (".md", ".html", ".yml", ".yaml", ".txt", ".py", ".json")
ROWS = (".jsonl", ".csv")
ROOTS = tuple(
    f"/{name}/" for name in (
        "home", "Users", "root", "tmp", "mnt", "media", "work", "workspace", "workspaces",
        "content", "data", "var", "opt", "srv", "private", "kaggle", "scratch",
        "usr", "etc", "Volumes",
    )
)  # fmt: skip
_APART = str.maketrans(dict.fromkeys("\"'`()[]<>{}=,;|*", " "))
_WORDS = str.maketrans(dict.fromkeys("\"'`()[]<>{}=,;|*:\\", " "))


@dataclass(frozen=True)
class Problem:
    """One thing to mend before publishing.

    Args:
        path: relative to the portfolio's folder.
        line: of that file, from 1; 0 where there is none.
        code: short name of the rule, such as "number".
        got: what was found.
        fix: what to do about it.
    """

    path: str
    line: int
    code: str
    got: str
    fix: str

    def __str__(self) -> str:
        got = redact(self.got).rstrip(".")  # a rule about numbers would quote a secret's digits
        return f"{self.path}:{self.line}: {self.code}: {got}. {self.fix}."


def audit(
    folder: Path | str,
    *,
    profile: str | Path | Profile,
    root: Path | str | None = None,
    expected: Mapping[str, str] | None = None,
) -> list[Problem]:
    """Check a portfolio against the runs of a profile.

    Args:
        folder: as given to `write_portfolio` or `make_portfolio`.
        profile: whose runs it shows: its name, or your own as a `Profile` or its YAML file.
        root: run root; by default `runs.run_root()`.
        expected: {path: text} of the cards and rows, `make_portfolio(...).texts`. By default they
            are made again from the runs; this is needed only for cards that were made with
            arguments of your own, such as `data`.
    Returns:
        Every problem, by file and line; an empty list if it may be published.
    Raises:
        MissingStage, ValueError: as `evidence`, or if a draft can't be read.
    """
    from postlab.portfolio.cards import named
    from postlab.portfolio.whole import rebuilt_texts

    values = evidence(named(profile)[0], root=root)
    unbuilt = []
    if expected is None:
        try:
            expected = rebuilt_texts(Path(folder), profile, values, root=root)
        except (MissingStage, ValueError) as error:
            got = f"the cards can't be made again ({error})"
            unbuilt = [Problem("models", 0, "unbound", _short(got), f"pass {PASS_TEXTS}")]
    return [*unbuilt, *audit_documents(folder, values, expected=expected)]


def audit_documents(
    folder: Path | str, values: Evidence, *, expected: Mapping[str, str] | None = None
) -> list[Problem]:
    """As `audit`, with evidence that has been read already."""
    folder = Path(folder)
    texts = read_drafts(folder)
    found = [] if texts else [
        Problem(DRAFTS, 0, "missing", "no drafts", "make them with write_portfolio")
    ]  # fmt: skip
    for name, text in texts.items():
        found += check_draft(name, text, values, folder=folder, documents=texts)
    found += _omitted(texts, values)
    found += _check_rendered(folder, texts, values, expected or {})
    found += _check_figures(folder, values)
    return sorted(dict.fromkeys(found), key=lambda p: (p.path, p.line, p.code))


def check_draft(
    name: str,
    text: str,
    values: Evidence,
    *,
    folder: Path | None = None,
    documents: Mapping[str, str] | None = None,
) -> list[Problem]:
    """The problems of one draft: its wording, holes, hidden text, links and private details.

    Args:
        name: of the document, such as "dpo".
        text: the draft.
        values: `evidence(...)`.
        folder: of the portfolio, in which links must lead somewhere; None checks no links.
        documents: {name: draft} of all, for links between them.
    """
    path = f"{DRAFTS}/{name}.md"

    def problem(line: int, code: str, got: str, fix: str) -> Problem:
        return Problem(path, line, code, _short(got), fix)

    found = [problem(*each) for each in _private(text)]
    found += [problem(*each) for each in _hidden(text)]
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if HOLE in line:
            found.append(problem(number, "hole", line.strip(), "fill this in yourself"))
    try:
        marked, bound = _marked(text, values)
    except ValueError as error:
        return [
            *found,
            problem(_line_of(error), "placeholder", str(error), "use a name that exists"),
        ]
    if any(ord(c) >= FIRST for c in text):
        return found  # a character that stands for no placeholder: listed as hidden
    body = without_front_matter(marked)
    skipped = marked.count("\n", 0, len(marked) - len(body))
    if skipped and name != "deck":
        found.append(problem(1, "front-matter", "settings between ---", "delete them"))
    elif skipped:
        found += [problem(*each) for each in _front_matter(marked.split("\n")[: skipped - 1])]
    tokens = parse(body)
    own = name if name in PROJECTS else ""
    faults = [fault for each in _passages(tokens, own, values, bound)
              for fault in check_passage(each, values)]  # fmt: skip
    faults += _check_marks(tokens, _Site(folder, documents or {name: text}, values))
    found += [problem(at + skipped, code, got, fix) for at, code, got, fix in faults]
    return found


def _marked(text: str, values: Evidence) -> tuple[str, dict[str, str]]:
    """The draft with a character for each placeholder, and {character: name}."""
    parts, end, bound = [], 0, dict[str, str]()
    marks = placeholders(text)
    if len(marks) > MOST:
        raise ValueError(f"{len(marks)} placeholders; expected {MOST} at most")
    for start, stop, name in marks:
        if name not in values:
            line = text.count("\n", 0, start) + 1
            raise ValueError(f"line {line}: no value for {name!r}; {did_you_mean(name, values)}")
        mark = chr(FIRST + len(bound))
        bound[mark] = name
        parts += [text[end:start], mark]
        end = stop
    return "".join(parts) + text[end:], bound


def _line_of(error: ValueError) -> int:
    words = str(error).split()
    number = words[1].rstrip(":") if words[:1] == ["line"] and len(words) > 1 else ""
    return int(number) if number.isdecimal() else 0


def _front_matter(lines: Sequence[str]) -> Iterator[tuple[int, str, str, str]]:
    """A deck's settings: only such as can't put text on a slide, and a title without numbers."""
    for number, line in enumerate(lines[1:], 2):
        key, _, value = line.partition(":")
        expected = FRONT.get(key.strip(), "")
        if expected == "" or (expected is not None and value.strip() != expected):
            yield number, "front-matter", line, f"keep to the settings {', '.join(FRONT)}"
        elif expected is None and any(c.isnumeric() for c in value):
            yield number, "number", line, "write it without numbers"


def _passages(
    tokens: Sequence[Token], own: str, values: Evidence, bound: Mapping[str, str]
) -> Iterator[Passage]:
    """Paragraphs, headings, table rows and alt texts, each with the stage that it is about."""
    about: dict[int, str] = {0: own}  # heading level: the one stage that it names
    row: list[str] | None = None
    line = 1
    for token, before in zip(tokens, [None, *tokens], strict=False):
        if token.map:
            line = token.map[0] + 1
        if token.type == "tr_open":
            row = []
        elif token.type == "tr_close" and row is not None:
            stage = about[max(about)]
            yield Passage(" | ".join(row), line, bound, stage, row=True)
            row = None
        if token.type != "inline":
            continue
        children = token.children or []
        text = _visible(children)
        heading = before is not None and before.type == "heading_open"
        if heading and before is not None:
            level = int(before.tag[1:])
            about = {depth: stage for depth, stage in about.items() if depth < level}
            named = stages_named(text, values)
            # A heading that names no stage keeps the one above it; 'base' is where all began.
            one = named[0] if len(named) == 1 and named != ["base"] else ""
            about[level] = one if named else about[max(about)]
        if row is None:
            ahead = text.startswith(AHEAD)
            yield Passage(text, line, bound, about[max(about)], heading=heading, ahead=ahead)
        else:
            row.append(text)
        for child in children:
            if child.type == "image":
                yield Passage(plain(child.children or []), line, bound, about[max(about)])
            spoken = child.attrGet("title") if child.type in ("image", "link_open") else None
            if spoken:
                yield Passage(str(spoken), line, bound, about[max(about)])


def _visible(children: Sequence[Token]) -> str:
    """A paragraph's text; code as U+0060 around it, line breaks kept, images left out."""
    parts = []
    for child in children:
        if child.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif child.type == "code_inline":
            parts.append(
                "`" + child.content.replace("`", "'").replace(" ", "\N{NO-BREAK SPACE}") + "`"
            )
        elif child.type != "image":
            parts.append(child.content)
    return "".join(parts)


class _Site:
    """What a link may lead to."""

    def __init__(self, folder: Path | None, documents: Mapping[str, str], values: Evidence) -> None:
        self.folder, self.documents, self.values = folder, documents, values
        self._anchors: dict[str, set[str]] = {}
        self.figures = set(figure_names(values))

    def anchors(self, name: str) -> set[str]:
        """The anchors of another document; none if its placeholders are at fault."""
        if name not in self._anchors:
            try:
                body = without_front_matter(_marked(self.documents[name], self.values)[0])
            except ValueError:
                body = ""
            self._anchors[name] = anchors(parse(body))
        return self._anchors[name]


def _check_marks(tokens: Sequence[Token], site: _Site) -> Iterator[tuple[int, str, str, str]]:
    """Links, images, HTML, struck-out text, and lists that begin with a number of their own."""
    here, line, numbered = anchors(tokens), 1, 0
    for token in tokens:
        if token.map:
            line = token.map[0] + 1
        if token.type == "ordered_list_open":
            start = token.attrGet("start")
            if start is not None and int(start) not in (0, numbered + 1):
                yield line, "number", f"a list that starts at {start}", "start it at 1"
            numbered = 0 if start is None else int(start) - 1
        if token.type == "list_item_open" and token.info:
            numbered += 1
        for child in token.children or []:
            if child.type in ("softbreak", "hardbreak"):
                line += 1
            elif child.type == "s_open":
                yield line, "hidden", "struck-out text", "delete it"
            elif child.type == "text" and _has_tag(child.content):
                yield line, "html", child.content, "write it in Markdown"
            elif child.type == "image":
                if not plain(child.children or []).strip():
                    yield line, "alt", str(child.attrGet("src")), "describe it between the brackets"
                source = str(child.attrGet("src") or "")
                yield from _check_link(line, source, here, site, image=True)
            elif child.type == "link_open":
                yield from _check_link(line, str(child.attrGet("href") or ""), here, site)


def _has_tag(text: str) -> bool:
    return any(
        c == "<" and (after.isalpha() or after in "/!?")
        for c, after in zip(text, text[1:], strict=False)
    )


def _check_link(
    line: int, href: str, here: set[str], site: _Site, *, image: bool = False
) -> Iterator[tuple[int, str, str, str]]:
    target = unquote(href)
    if any(ord(c) >= FIRST for c in target):
        yield line, "link", "a placeholder in an address", "write the address out"
        return
    try:
        parts = urlsplit(target)
    except ValueError:
        yield line, "link", href, "write a valid address"
        return
    if parts.scheme or parts.netloc or target.startswith("//"):
        if image:
            yield (
                line,
                "external",
                href,
                "copy it into figures/: pages load nothing external",
            )
        elif parts.scheme not in ("http", "https", "mailto") or not (parts.netloc or parts.path):
            yield line, "link", href, "link to https://..., or to a file of the portfolio"
        return
    place = PurePosixPath(parts.path)
    if place.is_absolute() or ".." in place.parts or "\\" in target:
        yield line, "link", href, "link to a file of the portfolio, by its relative path"
        return
    if not parts.path:
        if parts.fragment and parts.fragment not in here:
            yield line, "anchor", href, did_you_mean(parts.fragment, sorted(here))
        return
    name = parts.path.removesuffix(".md")
    if name != parts.path and name in site.documents:
        if parts.fragment and parts.fragment not in site.anchors(name):
            yield line, "anchor", href, did_you_mean(parts.fragment, sorted(site.anchors(name)))
    elif place.parent.as_posix() == FIGURES and place.name in site.figures:
        return
    elif site.folder is not None and not (site.folder / parts.path).is_file():
        yield line, "link", href, "link to a file that exists"


def _hidden(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Characters that a reader can't see, or takes for others."""
    for number, line in enumerate(text.split("\n"), 1):
        for place, character in enumerate(line):
            if character.isascii():
                if ord(character) < 32 and character not in "\t\r":
                    yield number, "hidden", f"U+{ord(character):04X}", "delete the character"
                continue
            kind = unicodedata.category(character)
            emoji = character == "\N{ZERO WIDTH JOINER}" and not line[place - 1].isalnum()
            if kind in ("Cf", "Cc", "Co", "Cn", "Cs", "Zl", "Zp") and not emoji:
                yield number, "hidden", f"U+{ord(character):04X}", "delete the character"
            elif unicodedata.numeric(character, None) is not None:
                yield number, "number", character, "use a placeholder"
        if not line.isascii():
            for word in line.split():
                scripts = {unicodedata.name(c, "?").split()[0] for c in word if c.isalpha()}
                if "LATIN" in scripts and scripts & {"CYRILLIC", "GREEK", "FULLWIDTH",
                                                    "MATHEMATICAL", "CHEROKEE"}:  # fmt: skip
                    yield number, "hidden", word, "write the word in one alphabet"
                elif scripts & {"FULLWIDTH", "MATHEMATICAL"}:
                    yield number, "hidden", word, "write it in plain letters"


def _omitted(texts: Mapping[str, str], values: Evidence) -> Iterator[Problem]:
    """Costs and caveats of a project that its post doesn't tell."""
    for stage in PROJECTS:
        try:
            used = {name for _, _, name in placeholders(texts.get(stage, ""))}
        except ValueError:
            continue  # listed already
        told = {name.rpartition(".")[0] for name in used}
        costs = [f"{c.stage}.{c.metric}" for c in values.of(stage) if c.verdict == "worse"]
        needed = [f"{of}.sentence" for of in costs if of not in told]
        needed += [n for n in values if n.startswith(f"{stage}.caveat.") and n not in used]
        for name in needed if stage in texts else ():
            got = f"{values[name].text}: this isn't told"
            yield Problem(f"{DRAFTS}/{stage}.md", 0, "omitted", _short(got), f"add {{{{{name}}}}}")


def _private(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Secrets, paths of somebody's machine, and addresses."""
    secret = redact(text) != text
    listed = False
    for number, line in enumerate(text.split("\n"), 1):
        if secret and redact(line) != line:
            listed = True
            yield number, "secret", str(redact(line)).strip(), "delete it, and revoke the secret"
            continue
        for chunk in line.translate(_APART).split():
            bare = chunk.lstrip("_.:").rstrip("_.:")
            low = chunk.lower()
            drive = len(bare) > 2 and bare[0].isalpha() and bare[1] == ":" and bare[2] in "\\/"
            starts = chunk.startswith((*ROOTS, "~/", "\\\\")) or "file://" in low
            if starts or drive or any(f":{root}" in chunk for root in ROOTS):
                yield number, "path", chunk, "write a relative path"
            name, at, host = bare.removeprefix("mailto:").partition("@")
            if at and name and "." in host.strip(".") and "/" not in chunk:
                yield number, "email", chunk, "leave addresses out, or link to a profile"
    if secret and not listed:  # one of several lines, such as a private key
        yield 0, "secret", "a secret that spans several lines", "delete it, and revoke it"


def _keys(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Secrets by their form alone: rows may well speak of passwords, paths and addresses."""

    def words(part: str) -> str:
        return "\n".join(part.translate(_WORDS).split())

    every = words(text)
    if "PRIVATE KEY-----" not in text and redact(every) == every:
        return
    for number, line in enumerate(text.split("\n"), 1):
        apart = words(line)
        if "PRIVATE KEY-----" in line or redact(apart) != apart:
            yield number, "secret", "a key in a row", "delete the row at its source, and revoke it"


def _check_rendered(
    folder: Path, texts: Mapping[str, str], values: Evidence, expected: Mapping[str, str]
) -> Iterator[Problem]:
    """Every file that follows from a draft equals what the draft gives now; others are listed."""
    files = dict(expected)
    usable = {}
    for name, text in texts.items():
        try:
            rendered({name: text}, values)
        except ValueError:
            continue  # its placeholders are listed already
        usable[name] = text
    files |= rendered(usable, values)
    for path, text in files.items():
        try:
            most = max(20 * LARGEST, 5 * len(text))  # rows may be many
            got = read_file(folder / path, most=most).decode("utf-8")
        except (OSError, ValueError):
            again = "make" if path in expected else "write"
            yield Problem(path, 0, "missing", "no such file", f"run {again}_portfolio again")
            continue
        if got != text:
            line = _first_difference(got, text)
            there = (got.split("\n") + [""] * line)[line - 1]
            fix = "change the draft, not this file, and run write_portfolio again"
            if path in expected:  # a card or rows, which have no draft
                fix = "undo the change, or run make portfolio again"
                yield from _problems(path, _private(got))
            yield Problem(path, line, "stale", _short(there.strip() or "(nothing)"), fix)
        elif path.endswith(ROWS):
            yield from _problems(path, _keys(got))
    made = {path for name in texts for path in (f"{name}.md", page_name(name))}
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder).as_posix()
        if not file.is_file() or path.startswith((".git/", DRAFTS)):
            continue
        document = file.parent == folder and file.suffix in (".md", ".html")
        if document and path not in files and path not in made:
            fix = f"move it to {DRAFTS}/, with placeholders for its numbers"
            yield Problem(path, 0, "unbound", "a document without a draft", fix)
        if path not in files and _is_told(path):
            fix = f"delete it, or pass {PASS_TEXTS} if it was made with arguments of your own"
            yield Problem(path, 0, "unbound", "a card or rows that no run gives", fix)
        small = file.suffix in TEXT and file.stat().st_size <= LARGEST
        if path not in files and path not in made and (small or file.suffix in ROWS):
            text = file.read_bytes().decode("utf-8", "replace")
            found = _problems(path, _private(text))
            tokens = file.name == "tokenizer.json"  # its expressions look like paths
            yield from (p for p in found if not (tokens and p.code in ("path", "email")))


def _problems(path: str, found: Iterator[tuple[int, str, str, str]]) -> Iterator[Problem]:
    return (Problem(path, line, code, _short(got), fix) for line, code, got, fix in found)


def _is_told(path: str) -> bool:
    """Whether this is a text of a repository that has to follow from the runs."""
    kind, _, rest = path.partition("/")
    card = rest.endswith("/README.md") or "/.eval_results/" in rest
    return (kind == "models" and card) or (kind == "datasets" and "/" in rest)


def _first_difference(got: str, text: str) -> int:
    pairs = zip(got.split("\n"), text.split("\n"), strict=False)
    same = next((n for n, (a, b) in enumerate(pairs, 1) if a != b), None)
    return same or min(got.count("\n"), text.count("\n")) + 1


def _check_figures(folder: Path, values: Evidence) -> Iterator[Problem]:
    """Every figure is the file that was drawn, from the data that the runs hold now."""
    again = "run write_portfolio again"
    try:
        drawn: Any = read_json(folder / FIGURES / DRAWN, most=LARGEST)
    except (OSError, ValueError):
        drawn = None
    drawn = drawn if isinstance(drawn, dict) else {}
    expected = figures(values)
    for name, data in expected.items():
        path, hashes = f"{FIGURES}/{name}", drawn.get(name)
        try:
            held = digest((folder / path).read_bytes())
        except OSError:
            yield Problem(path, 0, "missing", "no such figure", again)
            continue
        if not isinstance(hashes, dict) or hashes.get("data") != data:
            yield Problem(path, 0, "stale", "a figure of data that has changed since", again)
        elif hashes.get("file") != held:
            yield Problem(path, 0, "stale", "not the file that was drawn", again)
    there = {p.name for p in (folder / FIGURES).glob("*")} - {DRAWN}
    for name in sorted(there - set(expected)):
        fix = "delete it: it doesn't come from a run"
        yield Problem(f"{FIGURES}/{name}", 0, "unbound", "a figure that wasn't drawn here", fix)


def _short(text: str) -> str:
    text = "".join(
        c if c.isprintable() and ord(c) < FIRST else "\N{HORIZONTAL ELLIPSIS}" for c in text
    )
    return text if len(text) <= 120 else f"{text[:119]}…"
