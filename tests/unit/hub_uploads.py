"""A server on this machine that takes uploads: the Hub's protocol from whoami to Collections.

It keeps what a client sends, checks what the Hub checks (the token, hashes, the parent commit, the
metadata's YAML), counts every request, and fails where a test tells it to. Large storage is the
LFS protocol's: a client has to run with HF_HUB_DISABLE_XET=1.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from urllib.parse import unquote, urlsplit

import yaml
from hub_server import HubServer, _Handler

TOKEN = "hf_" + "UploadTestsOnly" * 2
LICENCES = {"apache-2.0", "mit", "cc-by-4.0"}
LARGE = (".safetensors", ".gguf", ".parquet")


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class UploadServer(HubServer):
    """A Hub of user "ada", who is also in "lab"; use as a context."""

    def __init__(self) -> None:
        super().__init__({})
        self.about: dict[str, dict] = {}  # {repository: type, private, commits}
        self.large: dict[str, bytes] = {}  # {sha256: contents}
        self.collections: dict[str, dict] = {}
        self.requests: list[tuple[str, str]] = []
        self.failures: list[list] = []
        self.role = "write"

    def fail(self, pattern: str, status: int, *, times: int = 1, **more) -> None:
        """Answer the next requests whose 'METHOD /path' matches with an error.

        Status 0 does what the request asks for and hangs up without an answer.
        """
        self.failures.append([pattern, status, times, more])

    def put(self, repo: str, files: dict[str, bytes], *, kind: str = "model", private=True) -> None:
        """A repository that somebody made before."""
        self.repos[repo] = dict(files)
        commits = [("a" * 40, "initial commit"), ("b" * 40, "Upload")]
        self.about[repo] = {"type": kind, "private": private, "commits": commits}

    def asked(self, pattern: str) -> list[str]:
        lines = [f"{method} {path}" for method, path in self.requests]
        return [line for line in lines if re.search(pattern, line)]


class _UploadHandler(_Handler):
    hub: UploadServer
    silent = False

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        if self.silent:
            self.close_connection = True
            return
        super()._reply(status, body, headers)

    def do_GET(self) -> None:
        if self._note():
            return
        path = unquote(urlsplit(self.path).path)
        if path == "/api/whoami-v2":
            auth = {"accessToken": {"role": self.hub.role}}
            me = {"type": "user", "name": "ada", "orgs": [{"name": "lab"}], "auth": auth}
            return self._json(me)
        if path == "/api/collections":
            known = self.hub.collections.values()
            return self._json([{k: v for k, v in c.items() if k != "position"} for c in known])
        if path.removeprefix("/api/collections/") in self.hub.collections:
            return self._json(self.hub.collections[path.removeprefix("/api/collections/")])
        repo, (kind,) = self._api_repo(r"/api/(models|datasets|spaces)/([^/]+/[^/]+)/commits/main")
        if repo:
            commits = self.hub.about[repo]["commits"]
            return self._json([_commit(*commit) for commit in reversed(commits)])
        repo, (kind,) = self._api_repo(r"/api/(models|datasets|spaces)/([^/]+/[^/]+)")
        if repo:
            return self._json(self._info(repo))
        return super().do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._note():
            return
        path = unquote(urlsplit(self.path).path)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._validate(json.loads(body)["content"])
        if path == "/api/collections":
            return self._new_collection(json.loads(body))
        if found := re.fullmatch(r"/api/collections/(.+)/items", path):
            return self._add_item(found[1], json.loads(body)["item"])
        repo, (kind,) = self._api_repo(
            r"/api/(models|datasets|spaces)/([^/]+/[^/]+)/preupload/main"
        )
        if repo:
            return self._json({"files": [self._mode(repo, f) for f in json.loads(body)["files"]]})
        repo, (kind,) = self._api_repo(r"/api/(models|datasets|spaces)/([^/]+/[^/]+)/commit/main")
        if repo:
            return self._commit(repo, [json.loads(line) for line in body.splitlines()])
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._json({"objects": [self._object(o) for o in json.loads(body)["objects"]]})
        return self._missing()

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        oid = self.path.rpartition("/")[2]
        if self._note(open_to_all=True):  # a signed address, as the Hub's storage has it
            return
        if hashlib.sha256(content).hexdigest() != oid:
            return self._error(400, "the contents aren't what their hash says")
        self.hub.large[oid] = content
        self._json({})

    def _note(self, *, open_to_all: bool = False) -> bool:
        """Whether the request is answered already: refused, or one that has to fail."""
        line = f"{self.command} {self.path}"
        self.hub.requests.append((self.command, self.path))
        for failure in self.hub.failures:
            pattern, status, times, more = failure
            if times and re.search(pattern, line):
                failure[2] -= 1
                if status == 0:
                    self.silent = True
                    break
                self._error(status, **{"message": "busy", **more})
                return True
        if not open_to_all and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._error(401, f"bad credentials: {self.headers.get('Authorization')}")
            return True
        return False

    def _error(self, status: int, message: str, **headers: str) -> None:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        body = json.dumps({"error": message}).encode()
        self._reply(status, body, {"X-Error-Message": message, **headers})

    def _api_repo(self, pattern: str) -> tuple[str | None, tuple[str]]:
        found = re.fullmatch(pattern, unquote(urlsplit(self.path).path))
        kind = found[1].removesuffix("s") if found else ""
        known = found and self.hub.about.get(found[2], {}).get("type") == kind
        return (found[2] if known else None), (kind,)

    def _info(self, repo: str) -> dict:
        about, files = self.hub.about[repo], self.hub.repos[repo]
        siblings = []
        for name, content in files.items():
            entry = {"rfilename": name, "size": len(content), "blobId": git_oid(content)}
            if name.endswith(LARGE):
                sha = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha, "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        return {"id": repo, "sha": about["commits"][-1][0], "private": about["private"],
                "siblings": siblings}  # fmt: skip

    def _create(self, body: dict) -> None:
        repo, kind = f"{body['organization']}/{body['name']}", body.get("type", "model")
        prefix = "" if kind == "model" else f"{kind}s/"
        answer = {"url": f"{self.hub.url}/{prefix}{repo}"}
        if repo in self.hub.about:
            return self._reply(409, json.dumps(answer).encode(), {})
        files = {".gitattributes": b"*.safetensors filter=lfs\n"}
        if kind == "space":  # as the Hub does
            files["README.md"] = f"---\nsdk: {body['sdk']}\n---\n".encode()
        private = body.get("visibility") == "private"
        self.hub.put(repo, files, kind=kind, private=private)
        self.hub.about[repo]["commits"] = [("a" * 40, "initial commit")]
        self._json(answer)

    def _validate(self, content: str) -> None:
        found = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
        try:
            metadata = yaml.safe_load(found[1]) if found else {}
            errors = [] if isinstance(metadata, dict) else ["the metadata isn't a mapping"]
            licence = (metadata or {}).get("license")
            if licence not in {None, *LICENCES}:
                errors.append(f'"license" must be one of {", ".join(sorted(LICENCES))}')
        except yaml.YAMLError as error:
            errors = [f"YAML: {error.args[0]}"]
        body = {"errors": [{"message": e} for e in errors], "warnings": []}
        self._reply(400 if errors else 200, json.dumps(body).encode(), {})

    def _mode(self, repo: str, file: dict) -> dict:
        name, files = file["path"], self.hub.repos[repo]
        large = name.endswith(LARGE)
        oid = None
        if name in files:
            content = files[name]
            oid = hashlib.sha256(content).hexdigest() if large else git_oid(content)
        mode = "lfs" if large else "regular"
        return {"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": oid}

    def _object(self, wanted: dict) -> dict:
        answer = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in self.hub.large:
            answer["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}}
        return answer

    def _commit(self, repo: str, lines: list[dict]) -> None:
        about, new = self.hub.about[repo], dict(self.hub.repos[repo])
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                if value.get("parentCommit", about["commits"][-1][0]) != about["commits"][-1][0]:
                    return self._error(412, "a commit has come in between")
                title = value["summary"]
            elif line["key"] == "file":
                new[value["path"]] = base64.b64decode(value["content"])
            elif value["oid"] not in self.hub.large:
                return self._error(400, f"{value['path']} was never uploaded")
            else:
                new[value["path"]] = self.hub.large[value["oid"]]
        self.hub.repos[repo] = new
        oid = hashlib.sha1(json.dumps([title, *map(git_oid, new.values())]).encode()).hexdigest()
        about["commits"].append((oid, title))
        url = f"{self.hub.url}/{repo}/commit/{oid}"
        self._json({"success": True, "commitOid": oid, "commitUrl": url})

    def _new_collection(self, body: dict) -> None:
        slug = f"{body['namespace']}/{body['title'].lower()}-{len(self.hub.collections):024x}"
        self.hub.collections[slug] = {
            "slug": slug, "title": body["title"], "owner": {"name": body["namespace"]}, "items": [],
            "lastUpdated": "2026-01-01T00:00:00.000Z", "position": 0, "private": body["private"],
            "theme": "blue", "upvotes": 0, "isUpvotedByUser": False,
        }  # fmt: skip
        self._json(self.hub.collections[slug])

    def _add_item(self, slug: str, item: dict) -> None:
        collection = self.hub.collections[slug]
        if item["id"] in [old["id"] for old in collection["items"]]:
            return self._error(409, "it is in the collection")
        collection["items"].append(
            {"_id": str(len(collection["items"])), "id": item["id"], "type": item["type"],
             "position": len(collection["items"])}
        )  # fmt: skip
        self._json(collection)


def _commit(oid: str, title: str) -> dict:
    return {
        "id": oid,
        "title": title,
        "message": "",
        "authors": [],
        "date": "2026-01-01T00:00:00.000Z",
    }


UploadServer.handler = _UploadHandler
