"""Send a portfolio's models, rows and Space to the Hugging Face Hub, after a dry run.

A folder holds one repository in each of `models/<stage>/` and `datasets/<name>/`, and a Space in
`space/`; what else is in it (site, posts, deck) isn't for the Hub and stays here. `publish` plans
first and sends nothing until it gets back the words that its plan shows, which change with every
file. It adds and replaces files, and deletes none. Whether a repository is up to date is asked of
the Hub by hashes, so a call that was interrupted is repeated as it is and sends what is missing.

Left out: pull requests, branches, and moving a repository from public to private or back.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from postlab.portfolio.exports import told_exports
from postlab.redaction import REDACTED, redact
from postlab.storage import atomic_text, size_text

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from postlab.profile import Profile

RECORD = "completion.json"
PUBLISHED = "published.json"  # what was sent, and the portfolio's files as they were then
_T = TypeVar("_T")
_KINDS = {"models": "model", "datasets": "dataset", "space": "space"}
_TEXT = {".html", ".json", ".md", ".png", ".svg", ".txt", ".yaml", ".yml"}
_SUFFIXES = {
    "model": _TEXT | {".gguf", ".jinja", ".safetensors"},
    "dataset": _TEXT | {".csv", ".jsonl", ".parquet"},
    "space": _TEXT | {".py"},
}
_NAMES = {"LICENSE", "NOTICE", "Modelfile", "tokenizer.model"}
_WEIGHTS = (".safetensors", ".gguf")
_HIDDEN = ".eval_results"  # the one hidden folder that the Hub reads
_TRAINING = re.compile(
    r"(checkpoint|global_step|optimizer|scheduler|scaler|rng_state|training_args)"
)
_PAUSES = (1.0, 4.0, 15.0)  # between attempts at one request, in seconds
_LONGEST_PAUSE = 120.0  # a server that asks for more gets no further attempt
_PASSING = {429, 500, 502, 503, 504}


class UploadFailed(RuntimeError):
    """The Hub refused or broke off an upload; what was sent stays, and the call can be repeated."""


@dataclass(frozen=True)
class File:
    """A file that goes out.

    Args:
        path: in the repository.
        size: in bytes.
        sha256: of the contents.
        status: "new", "changed" or "unchanged" against the Hub; "" if it wasn't asked.
        source: the file, or the contents where they differ from the folder's.
    """

    path: str
    size: int
    sha256: str
    source: Path | bytes = field(repr=False)
    status: str = ""


@dataclass(frozen=True)
class Repository:
    """A repository on the Hub as it will be.

    Args:
        id: "namespace/name".
        kind: "model", "dataset" or "space".
        status: "new", "added to", "changed" or "unchanged"; "" if the Hub wasn't asked.
        others: files on the Hub that aren't in the folder; they are left as they are.
        commit: the commit on the Hub that `status` is about.
        private: None if it isn't on the Hub, or the Hub wasn't asked.
    """

    id: str
    kind: str
    files: tuple[File, ...]
    status: str = ""
    others: tuple[str, ...] = ()
    commit: str | None = None
    private: bool | None = None


@dataclass(frozen=True, repr=False)
class Plan:
    """What `publish` sends, or has sent; `str(plan)` shows it.

    Args:
        left_out: (path, reason) of files that don't go out.
        problems: what stops an upload.
        notes: what to know or to do by hand.
        confirm: what `publish` has to be given to upload this; "" while the namespace is open.
        sent: addresses of what is on the Hub now; empty for a dry run.
    """

    namespace: str
    private: bool
    collection: str
    repositories: tuple[Repository, ...]
    left_out: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    confirm: str
    sent: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(file.size for repo in self.repositories for file in repo.files)

    def __str__(self) -> str:
        seen = "private" if self.private else "public"
        lines = ["Published." if self.sent else "Dry run: nothing was sent."]
        for repo in self.repositories:
            status = repo.status or "not compared with the Hub; pass token=True to compare"
            lines += ["", f"{repo.id} ({repo.kind}, {seen}): {status}"]
            width = max((len(file.path) for file in repo.files), default=0)
            lines += [
                f"  {file.path:{width}}  {_size(file.size):>8}  sha256 {file.sha256[:12]}"
                f"  {file.status}".rstrip()
                for file in repo.files
            ]
            if repo.others:
                lines += [f"  on the Hub only, left unchanged: {', '.join(repo.others)}"]
        count = sum(len(repo.files) for repo in self.repositories)
        lines += ["", f"Collection {self.collection!r} ({seen}) lists them."]
        lines += [f"Total: {count} files, {size_text(self.total)}"]
        if self.left_out:
            lines += ["", f"Left out: {len(self.left_out)}"]
            reasons: dict[str, list[str]] = {}
            for path, reason in self.left_out:
                reasons.setdefault(reason, []).append(path)
            lines += [f"  {', '.join(paths)}: {reason}" for reason, paths in reasons.items()]
        if self.problems:
            lines += ["", f"Problems to fix before an upload: {len(self.problems)}"]
            lines += [f"  {problem}" for problem in self.problems]
        lines += ["", *self.notes] if self.notes else []
        if self.sent:
            lines += ["", *self.sent]
        elif self.confirm:
            lines += ["", f"To upload: dry_run=False, confirm={self.confirm!r}"]
        else:
            lines += [
                "",
                "To get the text that confirms an upload, pass namespace=, your Hub name.",
            ]
        return "\n".join(lines)

    __repr__ = __str__


def publish(
    folder: str | Path,
    *,
    profile: str | Path | Profile,
    root: str | Path | None = None,
    expected: Mapping[str, str] | None = None,
    namespace: str | None = None,
    name: str = "postlab",
    private: bool = True,
    dry_run: bool = True,
    confirm: str | None = None,
    overwrite: bool = False,
    token: str | bool | None = None,
) -> Plan:
    """Plan what of a portfolio goes to the Hub; with `dry_run=False`, send it.

    Args:
        folder: the portfolio, with `models/`, `datasets/` and `space/`.
        profile, root, expected: as for `audit`, which must find nothing. Cards and rows are made
            again from the runs and compared, so a change in one stops the upload.
        namespace: your user name on the Hub, or an organization's; None asks the Hub whose the
            token is (without a token, the plan says "<you>").
        name: what the names on the Hub start with: `models/tiny-dpo` becomes "postlab-tiny-dpo".
        private: who sees them; of a repository that exists, this must already be true.
        dry_run: only plan. Without a token, no request is made; with one, the Hub is asked what it
            has, and nothing is sent.
        confirm: the plan's `confirm`.
        overwrite: replace files on the Hub that differ.
        token: a token with write access, or True for the one of `hf auth login`, which is also used
            for an upload if this is None. It is never shown.
    Returns:
        Plan: what would be sent, or what has been. After an upload, published.json in the folder
        holds the addresses and the hashes of all files, by which the checklist knows later whether
        what was published is still what is there.
    Raises:
        ValueError: if the folder holds nothing to publish, a name isn't one for the Hub, or an
            upload is refused: unconfirmed, with problems, or over other content.
        UploadFailed: if the Hub refuses or can't be reached; the same call goes on from there.
    Taught in week 12.
    """
    folder = Path(folder)
    secret = _secret(token, needed=not dry_run)
    if namespace and redact(namespace) != namespace:
        raise ValueError("namespace looks like a token; expected your name on the Hub")
    from postlab.portfolio.cards import named

    found = [str(problem) for problem in _audit(folder, profile, root, expected)]
    planned = partial(
        _planned,
        folder,
        name=name,
        profile=named(profile)[0],
        private=private,
        overwrite=overwrite,
        audited=found,
    )
    if secret is None:
        return planned(namespace)

    from huggingface_hub import HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=secret)
    sent: list[str] = []
    with _plain_errors(secret, sent):
        owner = namespace or str(_patiently(lambda: api.whoami(cache=True))["name"])
        plan = planned(owner)
        if not dry_run:
            _refuse(plan, confirm, secret)
        _check_owner(api, owner)
        compared = [_compared(api, repo) for repo in plan.repositories]
        conflicts = [c for repo in compared for c in _conflicts(api, repo, private, overwrite)]
        plan = replace(plan, repositories=tuple(compared), problems=(*plan.problems, *conflicts))
        if dry_run:
            return plan
        if conflicts:
            raise ValueError("\n".join(["nothing was sent:", *conflicts]))
        for repo in plan.repositories:
            _validate(api, repo)
        for repo in plan.repositories:
            sent.append(_upload(api, repo, private))
        sent.append(_collect(api, plan))
    record = {"sent": sent, "files": dict(file_hashes(folder))}
    atomic_text(folder / PUBLISHED, json.dumps(record, indent=1) + "\n")
    return replace(plan, sent=tuple(sent))


def file_hashes(folder: Path) -> Iterator[tuple[str, str]]:
    """(path, SHA-256) of the portfolio's files, in order, without the records of them."""
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        held = name not in (RECORD, PUBLISHED) and not name.startswith(".git/")
        if held and file.is_file() and not file.is_symlink():
            yield name, _sha256(file)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _secret(token: str | bool | None, *, needed: bool) -> str | None:
    """The token to use; None for a dry run that asks nobody."""
    from huggingface_hub import get_token

    secret = token if isinstance(token, str) else None
    if token is True or (token is None and needed):
        secret = get_token()
        if secret is None:
            raise ValueError("no token: log in with `hf auth login`, or pass token=")
    if secret is None:
        if needed:
            raise ValueError("token=False sends nothing; an upload needs a token with write access")
        return None
    secret = secret.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", secret):
        raise ValueError("token is empty, or has characters that a token can't have")
    return secret


def _refuse(plan: Plan, confirm: str | None, secret: str) -> None:
    """Raise ValueError if this upload isn't what was confirmed, or mustn't happen."""
    if confirm != plan.confirm:
        raise ValueError(
            f"nothing was sent: confirm is {confirm!r}, but this plan needs {plan.confirm!r}."
            " It changes with every file and setting, so look at the plan (dry_run=True) again"
        )
    leaks = [
        f"{repo.id}: {file.path} holds the token"
        for repo in plan.repositories
        for file in repo.files
        if not file.path.endswith(_WEIGHTS) and secret.encode() in _contents(file)
    ]
    if plan.problems or leaks:
        raise ValueError("\n".join(["nothing was sent:", *plan.problems, *leaks]))


# 1. The plan, from the folder alone


def _planned(
    folder: Path,
    namespace: str | None,
    *,
    name: str,
    profile: str,
    private: bool,
    overwrite: bool,
    audited: Sequence[str],
) -> Plan:
    """The plan before the Hub is asked."""
    owner = namespace or "<you>"
    repositories: list[Repository] = []
    left_out: list[tuple[str, str]] = []
    problems: list[str] = []
    models: dict[Path, str] = {}
    homes = dict(_homes(folder))
    for place, kind in homes.items():  # the Space comes last
        title = f"{name}-{f'{profile}-arena' if kind == 'space' else place.name}"
        problems += _name_problems(f"{namespace or 'you'}/{title}")
        files, skipped = _files(place, kind, folder)
        left_out += skipped
        repo = Repository(f"{owner}/{title}", kind, tuple(files))
        problems += _content_problems(repo)
        if kind == "model":
            models[place.resolve()] = repo.id
        if kind == "space":
            repo, more = _with_hub_ids(repo, models)
            problems += more
        repositories.append(repo)
    if not repositories:
        raise ValueError(
            f"{folder} holds nothing to publish; expected models/<stage>/, datasets/<name>/ or"
            " space/ in it"
        )
    ids = Counter((repo.kind, repo.id.lower()) for repo in repositories)
    problems += [
        f"{i}: two folders have this name on the Hub" for (_, i), n in ids.items() if n > 1
    ]
    parents = {place.parent for place in homes}
    for entry in sorted(e for parent in {folder, *parents} for e in parent.iterdir()):
        if entry not in homes and entry not in parents:
            path = ascii(entry.relative_to(folder).as_posix())[1:-1]
            left_out.append((path, "not for the Hub: it isn't in any of the repositories"))
    exports = told_exports(folder)
    left_out += [
        (f"the export of {e['stage'] or 'another stage'} as {e['format']}", e["left_out"])
        for e in exports if e["left_out"]
    ]  # fmt: skip
    notes = [] if exports else [
        "No export was re-evaluated, so only adapters are published; see `handover`."
    ]  # fmt: skip
    if private and models and repositories[-1].kind == "space":
        notes.append(
            "A private Space that reads private models needs a read token as its secret HF_TOKEN;"
            " add it in the Space's settings."
        )
    shown = [[r.id, r.kind, [[f.path, f.sha256] for f in r.files]] for r in repositories]
    digest = hashlib.sha256(json.dumps([shown, private, overwrite]).encode()).hexdigest()
    return Plan(
        namespace=owner,
        private=private,
        collection=f"{name}-{profile}",
        repositories=tuple(repositories),
        left_out=tuple(left_out),
        problems=(*problems, *audited),
        notes=tuple(notes),
        confirm=f"{namespace}/{name}-{profile}@{digest[:8]}" if namespace else "",
    )


def _audit(
    folder: Path,
    profile: str | Path | Profile,
    root: str | Path | None,
    expected: Mapping[str, str] | None,
) -> Sequence[object]:
    from postlab.portfolio.audit import audit

    return audit(folder, profile=profile, root=root, expected=expected)


def _homes(folder: Path) -> Iterator[tuple[Path, str]]:
    """(folder, kind) of each repository."""
    for name, kind in _KINDS.items():
        place = folder / name
        if place.is_symlink() or not place.is_dir():
            continue
        if kind == "space":
            yield place, kind
            continue
        for entry in sorted(place.iterdir()):
            if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith("."):
                yield entry, kind


def _files(place: Path, kind: str, top: Path) -> tuple[list[File], list[tuple[str, str]]]:
    """The files of one repository that go out, and those that don't, with the reason."""
    files, left_out = [], []
    for here, folders, names in os.walk(place):  # links to folders are not followed
        for entry in sorted(folders):
            path = Path(here, entry)
            if reason := _folder_reason(path, place, kind):
                folders.remove(entry)
                count = 0 if path.is_symlink() else sum(len(n) for _, _, n in os.walk(path))
                left_out.append((f"{path.relative_to(top).as_posix()}/ ({count} files)", reason))
        folders.sort()
        for entry in sorted(names):
            path = Path(here, entry)
            if reason := _file_reason(path, kind, top):
                left_out.append((ascii(path.relative_to(top).as_posix())[1:-1], reason))
                continue
            size = path.stat().st_size
            files.append(File(path.relative_to(place).as_posix(), size, _sha256(path), path))
    return files, left_out


def _folder_reason(path: Path, place: Path, kind: str) -> str:
    """Why a folder doesn't go out; "" if it does."""
    if path.is_symlink():
        return "a link to a folder"
    if path.name.startswith(".") and not (kind == "model" and path == place / _HIDDEN):
        return "hidden"
    if _TRAINING.match(path.name):
        return "a checkpoint, or another state of training"
    return ""


def _file_reason(path: Path, kind: str, top: Path) -> str:
    """Why a file doesn't go out; "" if it does."""
    if not path.name.isprintable():
        return "its name has characters that the Hub doesn't take"
    if path.name.startswith("."):
        return "hidden"
    try:
        target = path.resolve(strict=True)
        if not target.is_relative_to(top.resolve()):
            return "a link that leads out of the portfolio"
        if target.name.startswith("."):
            return "a link to a hidden file"
        if not stat.S_ISREG(path.stat().st_mode):
            return "not a regular file"
    except (OSError, RuntimeError):  # the latter for a loop of links
        return "a link that leads nowhere"
    if _TRAINING.match(path.name):
        return "a state of training"
    if path.name not in _NAMES and path.suffix.lower() not in _SUFFIXES[kind]:
        return f"{path.suffix or 'such a file'} doesn't go into a {kind}"
    return ""


def _name_problems(repo_id: str) -> list[str]:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        return [str(error)]
    return []


def _content_problems(repo: Repository) -> list[str]:
    """What a repository lacks, and weights that aren't what their names say."""
    paths = {file.path for file in repo.files}
    problems = [] if "README.md" in paths else [f"{repo.id}: README.md is missing"]
    weights = [file for file in repo.files if file.path.lower().endswith(_WEIGHTS)]
    if repo.kind == "model" and not weights:
        problems.append(f"{repo.id}: no weights; expected .safetensors or .gguf files")
    for file in weights:
        assert isinstance(file.source, Path)
        with file.source.open("rb") as handle:
            head = handle.read(9)
        length = int.from_bytes(head[:8], "little")
        fine = head[:4] == b"GGUF"
        if file.path.lower().endswith(".safetensors"):
            fine = head[8:] == b"{" and 8 + length <= file.size
        if not fine:
            problems.append(f"{repo.id}: {file.path} isn't a {file.path.rpartition('.')[2]} file")
    return problems


def _with_hub_ids(space: Repository, models: Mapping[Path, str]) -> tuple[Repository, list[str]]:
    """The Space with Hub ids in its stages.json, where the folder's has paths; and problems."""
    old = next((file for file in space.files if file.path == "stages.json"), None)
    if old is None:
        return space, [f"{space.id}: stages.json is missing; write_space makes it"]
    assert isinstance(old.source, Path)
    try:
        settings = json.loads(old.source.read_text(encoding="utf-8"))
        stages = dict(settings["stages"])
    except (ValueError, KeyError, TypeError) as error:
        return space, [f"{space.id}: stages.json isn't what write_space makes: {error}"]
    problems = []
    for stage, where in stages.items():
        if not str(where).startswith((".", "/")):
            continue  # a Hub id
        hub_id = models.get((old.source.parent / where).resolve())
        if hub_id is None:
            problems.append(f"{space.id}: {stage!r} is at {where}, which isn't in models/")
        stages[stage] = hub_id
    contents = json.dumps({**settings, "stages": stages}, indent=1).encode()
    digest = hashlib.sha256(contents).hexdigest()
    new = File(old.path, len(contents), digest, contents)
    return replace(space, files=tuple(new if f is old else f for f in space.files)), problems


def _size(count: int) -> str:
    return size_text(count) if count >= 1000 else f"{count} B"


def _contents(file: File) -> bytes:
    return file.source if isinstance(file.source, bytes) else file.source.read_bytes()


# 2. What the Hub has


def _check_owner(api: HfApi, owner: str) -> None:
    me = _patiently(lambda: api.whoami(cache=True))
    if me.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise ValueError("nothing was sent: this token can only read; make one with write access")
    names = [me["name"], *(group["name"] for group in me.get("orgs", []))]
    if owner not in names:
        raise ValueError(
            f"nothing was sent: namespace is {owner!r}; the token's: {', '.join(names)}"
        )


def _compared(api: HfApi, repo: Repository) -> Repository:
    """`repo` with what the Hub has of it."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = _patiently(lambda: api.repo_info(repo.id, repo_type=repo.kind, files_metadata=True))
    except RepositoryNotFoundError:
        files = tuple(replace(file, status="new") for file in repo.files)
        return replace(repo, files=files, status="new")
    theirs = {s.rfilename: s.lfs.sha256 if s.lfs else s.blob_id for s in info.siblings or ()}
    files = tuple(replace(file, status=_status(file, theirs)) for file in repo.files)
    others = theirs.keys() - {file.path for file in files} - {".gitattributes"}
    kinds = {file.status for file in files}
    status = "changed" if "changed" in kinds else "added to" if "new" in kinds else "unchanged"
    return replace(
        repo, files=files, status=status, others=tuple(sorted(others)),
        commit=info.sha, private=bool(info.private),
    )  # fmt: skip


def _status(file: File, theirs: Mapping[str, str | None]) -> str:
    """Git names a small file by SHA-1 and its size, and large storage by SHA-256."""
    oid = theirs.get(file.path)
    if file.path not in theirs:
        return "new"
    ours = file.sha256
    if oid is not None and len(oid) == 40:
        blob = _contents(file)
        ours = hashlib.sha1(b"blob %d\0" % len(blob) + blob).hexdigest()
    return "unchanged" if oid == ours else "changed"


def _conflicts(api: HfApi, repo: Repository, private: bool, overwrite: bool) -> list[str]:
    """Why an upload to what the Hub has is refused."""
    if repo.status == "new":
        return []
    conflicts = []
    if repo.private != private:
        now, then = ("private", "public") if repo.private else ("public", "private")
        conflicts.append(
            f"{repo.id} exists and is {now}, and the plan says {then}; change it in its settings,"
            f" or pass private={repo.private}"
        )
    changed = [file.path for file in repo.files if file.status == "changed"]
    if overwrite or not (changed or repo.others) or _untouched(api, repo):
        return conflicts
    differs = [f"different there: {', '.join(changed)}"] * bool(changed)
    differs += [f"only there: {', '.join(repo.others)}"] * bool(repo.others)
    return [
        *conflicts,
        f"{repo.id} exists with other content ({'; '.join(differs)}). overwrite=True replaces"
        " what differs and leaves the rest; or choose another name=",
    ]


def _untouched(api: HfApi, repo: Repository) -> bool:
    """Whether the Hub alone has written to it: it puts a README.md into a new Space."""
    commits = _patiently(lambda: api.list_repo_commits(repo.id, repo_type=repo.kind))
    return [commit.title for commit in commits] == ["initial commit"]


# 3. The upload


def _validate(api: HfApi, repo: Repository) -> None:
    """Let the Hub check README.md's metadata, before anything is created.

    `ModelCard.validate` asks huggingface.co whatever HF_ENDPOINT says.
    """
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    readme = next(file for file in repo.files if file.path == "README.md")
    body = {"content": _contents(readme).decode(errors="replace"), "repoType": repo.kind}
    headers = build_hf_headers(token=api.token)

    def ask() -> Any:
        response = get_session().post(
            f"{api.endpoint}/api/validate-yaml", json=body, headers=headers
        )
        if response.status_code != 400:
            hf_raise_for_status(response)
        return response

    response = _patiently(ask)
    if response.status_code == 400:
        said = "; ".join(str(e.get("message")) for e in response.json().get("errors", []))
        raise ValueError(
            f"nothing was sent: {repo.id}: the Hub rejects README.md's metadata: {said}"
        )


def _upload(api: HfApi, repo: Repository, private: bool) -> str:
    """Create the repository if need be, and send what it lacks in one commit."""
    from huggingface_hub import CommitOperationAdd

    if repo.status == "new":
        sdk = {"space_sdk": "gradio"} if repo.kind == "space" else {}
        _patiently(
            lambda: api.create_repo(
                repo.id, repo_type=repo.kind, private=private, exist_ok=True, **sdk
            )
        )
        repo = _compared(api, repo)
        if repo.private != private:
            raise RuntimeError(f"{repo.id} wasn't created {'private' if private else 'public'}")
    missing = [file for file in repo.files if file.status != "unchanged"]

    def commit() -> None:
        operations = [  # the library changes them, so that each attempt needs its own
            CommitOperationAdd(f.path, f.source if isinstance(f.source, bytes) else str(f.source))
            for f in missing
        ]
        api.create_commit(
            repo.id,
            operations,
            repo_type=repo.kind,
            commit_message="Publish a postlab portfolio",
            parent_commit=repo.commit,  # a commit of somebody else in between is not overwritten
        )

    if missing:
        _patiently(commit)
    prefix = "" if repo.kind == "model" else f"{repo.kind}s/"
    sent = f"{len(missing)} of {len(repo.files)} files sent" if missing else "up to date"
    return f"{api.endpoint}/{prefix}{repo.id}: {sent}"


def _collect(api: HfApi, plan: Plan) -> str:
    """List the repositories in a Collection of the plan's title."""
    known = _patiently(lambda: list(api.list_collections(owner=plan.namespace)))
    collection = next((c for c in known if c.title == plan.collection), None)
    if collection is None:
        collection = _patiently(
            lambda: api.create_collection(
                plan.collection, namespace=plan.namespace, private=plan.private, exists_ok=True
            )
        )
    slug = collection.slug
    for repo in plan.repositories:
        _patiently(partial(api.add_collection_item, slug, repo.id, repo.kind, exists_ok=True))
    return f"{api.endpoint}/collections/{slug}: {len(plan.repositories)} listed"


def _patiently(request: Callable[[], _T]) -> _T:
    """Make a request again that failed for a moment: too many of them, or a server's error."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import parse_ratelimit_headers

    for pause in (*_PAUSES, None):
        try:
            return request()
        except HfHubHTTPError as error:
            headers = error.response.headers
            if pause is None or error.response.status_code not in _PASSING:
                raise
            limit = parse_ratelimit_headers(headers)
            asked = str(limit.reset_in_seconds) if limit else headers.get("Retry-After", "0")
            wait = max(pause, float(asked) if asked.isdecimal() else 0.0)
            if wait > _LONGEST_PAUSE:
                raise
        time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def _plain_errors(secret: str, sent: list[str]) -> Iterator[None]:
    """Errors with what the server says, what was sent before, and without the token."""
    try:
        yield
    except Exception as error:
        httpx = type(error).__module__.partition(".")[0] in ("httpx", "httpcore")
        if not (httpx or isinstance(error, OSError | RuntimeError | ValueError)):
            raise
        parts: list[str] = []
        cause: BaseException | None = error
        while cause is not None:
            said = str(cause) or type(cause).__name__
            parts += [said] * all(said not in part for part in parts)
            cause = cause.__cause__
        refused = isinstance(error, ValueError) and not sent
        if not refused:
            parts += ["Run the same call again: it sends only what is missing. So far:"]
            parts += sent or ["nothing was finished"]
        # A server may quote the request's headers.
        text = redact("\n".join(parts).replace(secret, REDACTED))
        raise (ValueError if refused else UploadFailed)(text) from None
