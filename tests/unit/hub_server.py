"""A server on this machine: as much of the Hub's protocol as reading rows and models needs.

It says what is in a repository and what is at a path, and sends files by byte range. It counts the
bytes of files that it has sent and notes the revisions it was asked for, for each repository.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIECE = 1 << 16  # bytes written at a time, so that a reader who hangs up is noticed


class HubServer:
    """Serves {repository: {path: bytes}} as data sets and as models; use as a context."""

    handler: type[BaseHTTPRequestHandler] | None = None  # of a server that does more

    def __init__(self, repos: dict[str, dict[str, bytes]]) -> None:
        self.repos = repos
        self.sent: Counter[str] = Counter()
        self.revisions: defaultdict[str, set[str]] = defaultdict(set)
        self.gone = False
        self._lock = threading.Lock()
        handler = type("Handler", (self.handler or _Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gone = True  # for the connections that are kept open, too
        self._server.shutdown()
        self._server.server_close()

    def count(self, repo: str, size: int) -> None:
        with self._lock:
            self.sent[repo] += size


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def handle_one_request(self) -> None:
        super().handle_one_request()
        self.close_connection |= self.hub.gone

    def parse_request(self) -> bool:
        return not self.hub.gone and super().parse_request()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        repo, rest = self._asked(r"/api/(?:datasets|models)/([^/]+/[^/]+)/paths-info/(.+)")
        if repo is None:
            return self._missing()
        self.hub.revisions[repo].add(rest[0])
        wanted = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
        return self._json([e for e in self._entries(repo) if e["path"] in wanted])

    def do_GET(self) -> None:
        repo, rest = self._asked(
            r"(?:/datasets)?/([^/]+/[^/]+)/resolve/((?:refs/convert/)?[^/]+)/(.+)"
        )
        if repo:
            self.hub.revisions[repo].add(rest[0])
            return self._file(repo, rest[1])
        repo, rest = self._asked(
            r"/api/(?:datasets|models)/([^/]+/[^/]+)/tree/((?:refs/convert/)?[^/]+)(?:/(.+))?"
        )
        if repo:
            self.hub.revisions[repo].add(rest[0])
            return self._json(self._entries(repo, inside=rest[1]))
        repo, rest = self._asked(r"/api/(?:datasets|models)/([^/]+/[^/]+)(?:/revision/(.+))?")
        if repo:
            self.hub.revisions[repo].add(rest[0] or "main")
            names = [{"rfilename": name} for name in self.hub.repos[repo]]
            return self._json({"id": repo, "sha": COMMIT, "siblings": names, "private": False})
        return self._missing()

    def _asked(self, pattern: str) -> tuple[str | None, tuple]:
        """(repository, the rest of what the pattern picks), if there is such a repository."""
        found = re.fullmatch(pattern, unquote(urlsplit(self.path).path))
        if not found or found[1] not in self.hub.repos:
            return None, ()
        return found[1], found.groups()[1:]

    def _entries(self, repo: str, inside: str | None = None) -> list[dict]:
        files = self.hub.repos[repo]
        found = [
            {"type": "file", "path": name, "size": len(content), "oid": f"{len(content):040x}"}
            for name, content in files.items()
            if inside is None or name.startswith(f"{inside}/")
        ]
        folders = {name.split("/")[0] for name in files if "/" in name}
        return found + [
            {"type": "directory", "path": name, "size": 0, "oid": f"{0:040x}"}
            for name in sorted(folders)
            if inside is None
        ]

    def _file(self, repo: str, name: str) -> None:
        if name not in self.hub.repos[repo]:
            return self._missing()
        content = self.hub.repos[repo][name]
        first, last = 0, len(content) - 1
        ranged = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if ranged:
            first = int(ranged[1])
            last = min(int(ranged[2] or last), last)
        self.send_response(206 if ranged else 200)
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{len(content):040x}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if ranged:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            for start in range(first, last + 1, PIECE):
                piece = content[start : min(start + PIECE, last + 1)]
                self.wfile.write(piece)
                self.hub.count(repo, len(piece))
        except OSError:  # the reader has what it wants and hung up
            self.close_connection = True

    def _json(self, value: object) -> None:
        self._reply(200, json.dumps(value).encode(), {})

    def _missing(self) -> None:
        path = urlsplit(unquote(self.path)).path
        known = any(f"/{repo}/" in f"{path}/" for repo in self.hub.repos)
        code = "EntryNotFound" if known else "RepoNotFound"
        self._reply(404, b"{}", {"X-Error-Code": code, "X-Error-Message": "no such thing here"})

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
