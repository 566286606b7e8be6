"""A server on this machine that speaks as much of the hub's protocol as its client needs to fetch files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


@dataclass
class Repository:
    """A repository.

    Attributes:
        files: The content of each file by its path.
        branches: The commit of each branch or tag.
        refusal: The status and the error code with which all requests are refused.
        truncated: Files of which only the first half is sent.
        slow: How many seconds pass before any part of a file is sent.
    """

    files: dict[str, bytes]
    branches: dict[str, str] = field(default_factory=lambda: {"main": "a" * 40})
    refusal: tuple[int, str] | None = None
    truncated: frozenset[str] = frozenset()
    slow: float = 0.0


@dataclass
class Hub:
    """Repositories by name, the paths that were asked for, and where the server listens."""

    repositories: dict[str, Repository]
    endpoint: str = ""
    asked: list[str] = field(default_factory=list)
    broken: int | None = None  # the status of every answer
    stop: Callable[[], None] = lambda: None


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serve ``hub`` while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    hub.stop = stop
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        if thread.is_alive():
            stop()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(self.path.partition("?")[0])
        self.hub.asked.append(f"{self.command} {path}")
        if self.hub.broken is not None:
            return self._refuse(self.hub.broken, "")
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if api else parts[:2])
        repository = self.hub.repositories.get(name)
        if repository is None:
            return self._refuse(404, "RepoNotFound")
        if repository.refusal is not None:
            return self._refuse(*repository.refusal)
        if api:
            return self._info(repository, name, parts[5] if parts[4:5] == ["revision"] else "main")
        return self._file(repository, parts[3], "/".join(parts[4:]), body=body)

    def _info(self, repository: Repository, name: str, revision: str) -> None:
        if (commit := _commit(repository, revision)) is None:
            return self._refuse(404, "RevisionNotFound")
        siblings = [{"rfilename": path} for path in repository.files]
        content = {"id": name, "modelId": name, "sha": commit, "private": False, "siblings": siblings}
        return self._send(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _file(self, repository: Repository, revision: str, path: str, *, body: bool) -> None:
        if (commit := _commit(repository, revision)) is None:
            return self._refuse(404, "RevisionNotFound")
        if (data := repository.files.get(path)) is None:
            return self._refuse(404, "EntryNotFound")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        if not body:
            return self._send(b"", headers | {"Content-Length": str(len(data))})
        threading.Event().wait(repository.slow)
        if path in repository.truncated:
            return self._send(data[: len(data) // 2], headers | {"Content-Length": str(len(data))})
        return self._send(data, headers)

    def _refuse(self, status: int, code: str) -> None:
        self._send(b"", {"X-Error-Code": code} if code else {}, status)

    def _send(self, data: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), "Connection": "close", **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)


def _commit(repository: Repository, revision: str) -> str | None:
    return revision if revision in repository.branches.values() else repository.branches.get(revision)
