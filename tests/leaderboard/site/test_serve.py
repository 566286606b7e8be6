"""The server of a site gives the files of the site, to this machine, and answers everything else with 4xx."""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from saebench.cli.main import cli
from saebench.leaderboard.site import write_site
from saebench.leaderboard.site.serve import built_file, is_loopback, make_server
from tests.leaderboard.site import boards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_site(boards.tiny(), tmp_path / "site")
    return tmp_path / "site"


@contextlib.contextmanager
def running(folder: Path, host: str = "127.0.0.1") -> Iterator[int]:
    with make_server(folder, 0, host) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def port(folder: Path) -> Iterator[int]:
    with running(folder) as port:
        yield port


def ask(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes as they are, and return status, headers and body."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with contextlib.suppress(ConnectionError):  # it may be refused before it was sent as a whole
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(connection, method="HEAD" if request.startswith(b"HEAD ") else None)
        answer.begin()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()


def get(port: int, target: str, host: str | None = None, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    host = f"127.0.0.1:{port}" if host is None else host
    return ask(port, f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1"))


def files(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def test_every_file_of_the_site_is_served(folder, port):
    for name in files(folder):
        status, headers, body = get(port, f"/{name}")
        assert (status, body) == (200, (folder / name).read_bytes()), name
        assert not headers["content-type"].startswith("application/octet-stream"), name
        assert get(port, f"/{name}", method="HEAD")[2] == b""
    assert get(port, "/")[2] == get(port, "/index.html?x=1")[2] == (folder / "index.html").read_bytes()


def test_every_answer_carries_the_policy(port):
    for status, headers, _ in (get(port, "/"), get(port, "/nosuch"), get(port, "/", host="evil.example")):
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy, status
        assert "script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert "file:" not in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["server"].strip() == "saebench"


HIDDEN = (".env", ".git/config", "notes.html", "sae/notes.html", "assets/more.js", "task/x.txt", "tiny.json", "sae/.x")


def test_other_files_of_the_folder_are_not_served(folder, port):
    for name in HIDDEN:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("secret")
        assert get(port, f"/{name}")[0] == 404, name


def test_links_are_not_followed(folder, port, tmp_path):
    secret = tmp_path / "secret.html"
    secret.write_bytes((folder / "index.html").read_bytes())
    (folder / "sae" / "link.html").symlink_to(secret)
    assert get(port, "/sae/link.html")[0] == 404
    (folder / "index.html").unlink()
    (folder / "index.html").symlink_to(secret)
    assert get(port, "/")[0] == 404
    (folder / "assets").rename(tmp_path / "elsewhere")
    (folder / "assets").symlink_to(tmp_path / "elsewhere")
    assert get(port, "/assets/board.js")[0] == 404
    if hasattr(os, "mkfifo"):
        (folder / "assets").unlink()
        (folder / "assets").mkdir()
        os.mkfifo(folder / "assets" / "board.js")
        assert get(port, "/assets/board.js")[0] == 404


@pytest.mark.parametrize(
    "target",
    [
        "/%00", "/index.html%00", "/sae/", "/sae", "/assets", "/assets/vendor/", "/../secret.html",
        "/%2e%2e/secret.html", "/sae/..%2f..%2fsecret.html", "/sae/../index.html", "//evil.example/", "/.", "/%ff%fe",
        "/sae/%0d%0aX-A:b.html", "/assets\\board.js", "/index.html/", "/INDEX.HTML",
        "/sae/" + "x" * 200 + ".html", "/" + "a/" * 5000, "*",
        "http://127.0.0.1/index.html",
    ],
)  # fmt: skip
def test_targets_that_are_no_file_of_the_site(port, target, capfd):
    assert get(port, target)[0] == 404
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get", "X" * 100])
def test_other_methods(port, method):
    status, headers, body = get(port, "/", method=method)
    assert status == 405
    assert headers["allow"] == "GET, HEAD"
    assert body == b"405 Method Not Allowed\n"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1:1",
        "localhost.evil.example:{port}",
        "10.0.0.1:{port}",
        "",
        "a b",
    ],
)
def test_other_hosts(port, host):
    assert get(port, "/", host=host.format(port=port))[0] == 421


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST", "[::1]:{port}", "127.0.0.2"])
def test_names_of_this_machine(port, host):
    assert get(port, "/", host=host.format(port=port))[0] == 200


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/x\r\nHost: localhost\r\n\r\n",
        b"GET / x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"\x00\x01\x02 \xff\xfe HTTP/1.1\r\n\r\n",
    ],
    ids=range(11),
)
def test_malformed_requests(port, request_, capfd):
    status, headers, body = ask(port, request_)
    assert 400 <= status < 500
    assert "content-security-policy" in headers
    assert body.startswith(str(status).encode())
    assert capfd.readouterr() == ("", "")


def test_a_browser_that_hangs_up_is_no_error(port, capfd):
    for request in (b"", b"GET / HT", f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # reset
            connection.sendall(request)
    assert get(port, "/")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_at_another_address_names_of_other_sites_are_refused(folder):
    with running(folder, "0.0.0.0") as port:
        for host, status in (("10.0.0.1", 200), ("localhost", 200), (socket.gethostname(), 200), ("evil.example", 421)):
            assert get(port, "/", host=f"{host}:{port}")[0] == status


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a", False)],
)
def test_loopback(host, loopback):
    assert is_loopback(host) == loopback


def test_a_folder_without_a_page_of_saebench_is_no_site(tmp_path):
    (tmp_path / "index.html").write_text("<p>mine</p>")
    assert built_file(tmp_path, "/") is None
    refused = CliRunner().invoke(cli, ["leaderboard", "serve", str(tmp_path)], prog_name="saebench")
    assert refused.exit_code == 2
    assert "There is no site in" in refused.output


@pytest.mark.parametrize("host", ["nosuch.invalid", "256.1.1.1", "a" * 300, "\x1b[2J"])
def test_an_address_that_does_not_exist(folder, host):
    refused = CliRunner().invoke(cli, ["leaderboard", "serve", str(folder), "--host", host], prog_name="saebench")
    assert refused.exit_code == 2, refused.output
    assert "choose another with --port or --host" in refused.output
    assert "\x1b" not in refused.output


def test_many_readers_at_once_all_get_whole_files(folder: Path, port: int) -> None:
    wanted = [f"/{name}" for name in files(folder) if name.endswith((".js", ".css", ".html"))] * 20
    with ThreadPoolExecutor(40) as readers:
        answers = list(readers.map(functools.partial(get, port), wanted))
    for target, (status, _, body) in zip(wanted, answers, strict=True):
        assert (status, body) == (200, (folder / target[1:]).read_bytes())
