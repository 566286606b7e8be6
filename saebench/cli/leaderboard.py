"""``saebench leaderboard``: build a board from records, and view it."""

from __future__ import annotations

import functools
import http.server
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saebench.cli.filters import results_option
from saebench.results import DEFAULT_FOLDER

if TYPE_CHECKING:
    from saebench.leaderboard.board import Board

_BOARDS = Path("leaderboards")
_OUT = Path("saebench-leaderboard")


@click.group(short_help="Build a leaderboard from records, and view it.")
def leaderboard() -> None:
    """Rank SAEs by their records, with intervals of the ranks, and show controls beside them.

    \b
    Examples:
      saebench leaderboard build
      saebench leaderboard build --board leaderboards/embedded.yaml --results results --out site
      saebench leaderboard serve site
    """


@leaderboard.command()
@click.option(
    "--board",
    "name",
    metavar="NAME",
    help="A definition: a file that ends in .yaml, or the name of one in leaderboards/.  [all tasks with records]",
)
@results_option
@click.option(
    "--out",
    metavar="DIR",
    default=_OUT,
    show_default=True,
    type=click.Path(path_type=Path),
    help="The folder to write into.",
)
def build(name: str | None, folders: tuple[Path, ...], out: Path) -> None:
    """Write a board as Markdown, CSV, JSON and a static site.

    SAEs are ranked by their mean rank over tasks, among SAEs of about the same width at the same hook of the same
    language model. SAEs share a place where the data do not decide between them. Rows that lack a task are listed
    separately, and controls are never ranked. A record whose arrays are damaged is named in a warning and left out.

    \b
    Examples:
      saebench leaderboard build
      saebench leaderboard build --board embedded --results results --out site
    """
    from saebench.errors import UsageError
    from saebench.leaderboard.board import find_board
    from saebench.leaderboard.data import build as build_data
    from saebench.leaderboard.render import to_csv, to_json, to_markdown
    from saebench.leaderboard.site import write_site

    folders = folders or (DEFAULT_FOLDER,)
    board = find_board(name, _BOARDS) if name is not None else _everything(folders)
    data = build_data(board, folders)
    contents = {".md": to_markdown(data), ".csv": to_csv(data), ".json": to_json(data)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for suffix, content in contents.items():
            (out / f"{board.name}{suffix}").write_bytes(content.encode())
        write_site(data, out)
    except OSError as error:
        raise UsageError(f"Cannot write the board into {out} ({error.strerror}); choose another --out.") from error
    rows = sum(len(stratum["rows"]) for stratum in data["strata"])
    click.echo(f"{board.name}: {rows} rows from {data['records']} records, in {out}")
    if left_out := len(data["left_out"]):
        click.echo(f"{left_out} records do not count; {out / f'{board.name}.md'} says why")
    click.echo(f"view it with: saebench leaderboard serve {out}")


@leaderboard.command()
@click.argument("folder", metavar="[DIR]", default=_OUT, type=click.Path(path_type=Path))
@click.option(
    "--port",
    metavar="N",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="The port; 0 means any free one.",
)
@click.option("--browser/--no-browser", default=True, help="Whether to open a browser.  [open one]")
def serve(folder: Path, port: int, browser: bool) -> None:
    """Show a built site in the browser until Ctrl-C. Only this machine can reach it.

    \b
    Examples:
      saebench leaderboard serve
      saebench leaderboard serve site --port 9000 --no-browser
    """
    from saebench.errors import UsageError

    if not (folder / "index.html").is_file():
        raise UsageError(f"There is no site in {folder}; `saebench leaderboard build --out {folder}` writes one.")
    try:
        server = make_server(folder, port)
    except OSError as error:
        raise UsageError(f"Port {port} cannot be used ({error.strerror}); choose another with --port.") from error
    with server:
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        click.echo(f"{folder} is at {url} (stop with Ctrl-C)")
        if browser:
            webbrowser.open(url)
        server.serve_forever()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing about requests."""


def make_server(folder: Path, port: int) -> http.server.ThreadingHTTPServer:
    """Return a server of the files in ``folder`` that only this machine can reach.

    Raises OSError for a port that is in use.
    """
    handler = functools.partial(_Quiet, directory=str(folder))
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)


def _everything(folders: tuple[Path, ...]) -> Board:
    """Return the board of all tasks with records in ``folders``. Raises UsageError where there are none."""
    from saebench.cards.registry import registry
    from saebench.errors import UsageError
    from saebench.leaderboard.board import Board, BoardTask
    from saebench.results.store import ResultStore

    measured = {record.identity.task for folder in folders for record in ResultStore(folder)}
    tasks = {name: BoardTask() for name in registry().names() if name in measured}
    if not tasks:
        where = ", ".join(map(str, folders))
        raise UsageError(f"There are no records in {where}; `saebench run --out {folders[0]}` writes some.")
    return Board(
        name="leaderboard",
        title="Leaderboard",
        description="All tasks that were run, as their cards rank them.",
        tasks=tasks,
    )
