"""A server for a built site: it gives the files that `write_site` writes, and nothing else in their folder.

Other pages in the reader's browser must not reach the site through a name that leads to this machine (DNS rebinding),
so requests for another host are refused. Every answer carries a policy that forbids what the site does not need.
"""

from __future__ import annotations

import http.server
import ipaddress
import re
import socket
import stat
import sys
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from saebench.leaderboard.site.view import FILE_NAME
from saebench.leaderboard.site.write import MARK, POLICY, STATIC
from saebench.safe_text import short

LOOPBACK = "127.0.0.1"
_PAGE = re.compile(rf"(?:sae|task)/{FILE_NAME.pattern}\.html")
_SECONDS = 30.0  # how long a client may take to send its request
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_HEADERS = {
    "Content-Security-Policy": f"{POLICY.replace(' file:', '')}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def built_file(folder: Path, target: str) -> Path | None:
    """Return the file of a built site that a request is for; None if it is for anything else.

    Args:
        folder: The folder of the site.
        target: The target of a request, such as ``/sae/zoo-topk.html?x=1``.

    Links are not followed, also where a folder of the site is one, and a page that saebench did not write is none.
    """
    name = unquote(target.partition("?")[0]).removeprefix("/") or "index.html"
    is_page = name == "index.html" or _PAGE.fullmatch(name) is not None
    if not target.startswith("/") or not (is_page or name in _static_files()):
        return None
    path = folder / name
    try:
        inside = [folder / parent for parent in Path(name).parents][:-1]
        if any(parent.is_symlink() for parent in inside) or not stat.S_ISREG(path.lstat().st_mode):
            return None
        if not is_page:
            return path
        with path.open("rb") as file:
            return path if MARK.encode() in file.read(1000) else None
    except OSError:
        return None


def make_server(folder: Path, port: int, host: str = LOOPBACK) -> http.server.ThreadingHTTPServer:
    """Return a server of the site in ``folder``. Its method ``serve_forever`` answers requests.

    Args:
        folder: The folder of the site.
        port: The port; 0 means any free one.
        host: The address to listen at. The default can be reached from this machine only.

    Raises:
        OSError: The address does not exist, or its port is in use.
    """
    return _Server(folder, host, port)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@cache
def _static_files() -> frozenset[str]:
    """Return the names of the files that all pages share."""
    return frozenset(f"assets/{path.relative_to(STATIC).as_posix()}" for path in STATIC.rglob("*") if path.is_file())


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # a page asks for all its files at once; the default of 5 refuses some on a busy machine

    def __init__(self, folder: Path, host: str, port: int) -> None:
        self.folder, self.host = folder, host
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def accepts(self, host: str) -> bool:
        """Return whether a request that names ``host`` is for this server. No name of another site may lead here."""
        name, _, port = host.rpartition(":") if re.search(r":\d*$", host) else (host, "", "")
        name = name.strip("[]").lower()
        if port and port != str(self.server_address[1]):
            return False
        if is_loopback(self.host):
            return is_loopback(name)
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in {self.host.lower(), "localhost", socket.gethostname().lower()}
        return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong, unless the browser only hung up."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"A request could not be answered: {type(error).__name__}: {short(error)}", file=sys.stderr)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    server_version = "saebench"
    sys_version = ""
    default_request_version = "HTTP/1.0"  # HTTP/0.9 has no headers, so no answer could carry the policy
    timeout = _SECONDS

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1:
            return self.send_error(HTTPStatus.BAD_REQUEST)
        if not self.server.accepts(hosts[0].strip()):
            return self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
        path = built_file(self.server.folder, self.path)
        try:
            content = None if path is None else path.read_bytes()
        except OSError:
            content = None
        if path is None or content is None:
            return self.send_error(HTTPStatus.NOT_FOUND)
        self._send(HTTPStatus.OK, _TYPES.get(path.suffix, "application/octet-stream"), content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with a status, without repeating anything of the request."""
        # 501 is said of other methods than GET and HEAD, and 505 of other versions than 1.
        instead = {501: HTTPStatus.METHOD_NOT_ALLOWED, 505: HTTPStatus.BAD_REQUEST}
        status = instead.get(code, HTTPStatus(code))
        self.close_connection = True
        self._send(status, _TYPES[".txt"], f"{status.value} {status.phrase}\n".encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing about requests."""
