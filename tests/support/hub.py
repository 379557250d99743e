"""A Hugging Face hub on loopback, served from directories: as much of its HTTP API as huggingface_hub asks for.

Weights are in LFS and behind a redirect, as on the hub; the rest is in git. Nothing is simulated by time: `hold_at`
stops every weight at that byte until `release` is called.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

PIECE_BYTES = 1 << 16


@dataclass
class File:
    path: str
    content: bytes
    is_lfs: bool

    @cached_property
    def git_id(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    @cached_property
    def id(self) -> str:
        return hashlib.sha256(self.content).hexdigest() if self.is_lfs else self.git_id

    def sibling(self) -> dict[str, Any]:
        lfs = {"lfs": {"sha256": self.id, "size": len(self.content), "pointerSize": 134}} if self.is_lfs else {}
        return {"rfilename": self.path, "size": len(self.content), "blobId": self.git_id, **lfs}

    def entry(self) -> dict[str, Any]:
        lfs = {"lfs": {"oid": self.id, "size": len(self.content), "pointerSize": 134}} if self.is_lfs else {}
        return {"type": "file", "path": self.path, "size": len(self.content), "oid": self.git_id, **lfs}


@dataclass
class Repository:
    """`token`: opens it; without one everybody may come in. Who comes into a gated one still sees what it holds."""

    token: str = ""
    gated: bool = False
    commits: dict[str, list[File]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def files(self, revision: str) -> tuple[str, list[File]] | None:
        commit = self.branches.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A client that goes is what the tests are about."""


class LoopbackHub:
    """`requests` are the paths that were asked for, `begun` the first byte of each request for weights."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.begun: list[int] = []
        self.requests: list[str] = []
        self.hold_at: int | None = None
        self._released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), type("Bound", (_Asked,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        # As on the hub another host, which is not to see the token.
        self.store = f"http://localhost:{self._server.server_port}/lfs"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def commit(self, name: str, directory: Path, branch: str = "main", **settings: Any) -> str:
        """Put a directory as it is now on a branch; the commit's hash."""
        repository = self.repositories.setdefault(name, Repository(**settings))
        paths = sorted(path for path in directory.rglob("*") if path.is_file())
        files = [
            File(str(path.relative_to(directory)), path.read_bytes(), path.suffix == ".safetensors") for path in paths
        ]
        commit = hashlib.sha1("".join(file.path + file.id for file in files).encode()).hexdigest()
        repository.commits[commit], repository.branches[branch] = files, commit
        return commit

    def release(self) -> None:
        """Let the weights go on, those that are held and those that come."""
        self.hold_at = None
        self._released.set()

    def hold(self) -> None:
        self._released.wait(120)

    def stop(self) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Asked(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        if path.startswith("/api/models/"):
            self._api(path.removeprefix("/api/models/"))
        elif path.startswith("/lfs/"):
            self._lfs(path.removeprefix("/lfs/"))
        else:
            self._resolve(path.removeprefix("/"))

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass

    def _api(self, path: str) -> None:
        owner, name, verb, *rest = path.split("/", 3)
        repository = self._entered(f"{owner}/{name}")
        if repository is None:
            return
        if verb == "auth-check":
            if self._may_read(repository):
                self._json({})
        elif found := self._found(repository, rest[0]):
            commit, files = found
            info = {"id": f"{owner}/{name}", "sha": commit, "gated": "auto" if repository.gated else False}
            entries = [file.entry() for file in files]
            self._json({**info, "siblings": [file.sibling() for file in files]} if verb == "revision" else entries)

    def _resolve(self, path: str) -> None:
        owner, name, _, rest = path.split("/", 3)
        repository = self._entered(f"{owner}/{name}")
        if repository is None or not self._may_read(repository):
            return
        revision, _, wanted = rest.partition("/")
        if not (found := self._found(repository, revision)):
            return
        file = next(file for file in found[1] if file.path == wanted)
        headers = {"X-Repo-Commit": found[0], "ETag": f'"{file.id}"'}
        if file.is_lfs:
            linked = {"X-Linked-ETag": f'"{file.id}"', "X-Linked-Size": str(len(file.content))}
            self._answer(302, b"", {**headers, **linked, "Location": f"{self.hub.store}/{file.id}"})
        else:
            self._answer(200, file.content, headers)

    def _lfs(self, digest: str) -> None:
        """Where the hub's redirects lead; ranges from a first byte on."""
        assert "Authorization" not in self.headers
        commits = (files for each in self.hub.repositories.values() for files in each.commits.values())
        content = next(file.content for files in commits for file in files if file.id == digest)
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        span = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"} if first else {}
        self._head(206 if first else 200, len(content) - first, span)
        self.hub.begun.append(first)
        for start in range(first, len(content), PIECE_BYTES):
            if self.hub.hold_at is not None and start >= self.hub.hold_at:
                self.hub.hold()
            try:
                self.wfile.write(content[start : start + PIECE_BYTES])
            except OSError:
                self.close_connection = True
                return

    def _entered(self, name: str) -> Repository | None:
        """The hub tells nobody without the token that a private repository is there."""
        repository = self.hub.repositories.get(name)
        if repository and (repository.gated or self._has_token(repository)):
            return repository
        self._refuse(404 if "Authorization" in self.headers else 401, "RepoNotFound")
        return None

    def _may_read(self, repository: Repository) -> bool:
        if self._has_token(repository):
            return True
        self._refuse(403 if "Authorization" in self.headers else 401, "GatedRepo")
        return False

    def _has_token(self, repository: Repository) -> bool:
        return not repository.token or self.headers.get("Authorization") == f"Bearer {repository.token}"

    def _found(self, repository: Repository, revision: str) -> tuple[str, list[File]] | None:
        found = repository.files(revision)
        if found is None:
            self._refuse(404, "RevisionNotFound")
        return found

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, b"{}", {"X-Error-Code": code})

    def _json(self, body: Any) -> None:
        self._answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._head(status, len(body), headers)
        if self.command == "GET":
            self.wfile.write(body)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
