"""``saebench leaderboard``: build a board from records, and view it."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saebench.cli.filters import results_option
from saebench.cli.output import echo
from saebench.results import DEFAULT_FOLDER

if TYPE_CHECKING:
    from saebench.leaderboard.board import Board
    from saebench.results.collection import Collection

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
    from saebench.leaderboard.site import write_site, write_text
    from saebench.results.collection import Collection

    folders = folders or (DEFAULT_FOLDER,)
    chosen = None if name is None else find_board(name, _BOARDS)
    results = Collection(folders)
    if not results.records:
        where = ", ".join(map(str, folders))
        raise UsageError(f"There are no records in {where}; `saebench run --out {folders[0]}` writes some.")
    board = chosen or _everything(results)
    data = build_data(board, results)
    contents = {".md": to_markdown(data), ".csv": to_csv(data), ".json": to_json(data)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for suffix, content in contents.items():
            write_text(out / f"{board.name}{suffix}", content)
        write_site(data, out)
    except OSError as error:
        raise UsageError(f"Cannot write the board into {out} ({error.strerror}); choose another --out.") from error
    rows = sum(len(stratum["rows"]) for stratum in data["strata"])
    echo(f"{board.name}: {rows} rows from {data['records']} records, in {out}")
    if left_out := len(data["left_out"]):
        echo(f"{left_out} records do not count; {out / f'{board.name}.md'} says why")
    echo(f"view it with: saebench leaderboard serve {out}")


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
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen at; others than this machine's own let other machines read the site.",
)
@click.option("--browser/--no-browser", default=True, help="Whether to open a browser.  [open one]")
def serve(folder: Path, port: int, host: str, browser: bool) -> None:
    """Show a built site in the browser until Ctrl-C. Only this machine can reach it, unless --host says otherwise.

    \b
    Examples:
      saebench leaderboard serve
      saebench leaderboard serve site --port 9000 --no-browser

    Only the pages that `leaderboard build` wrote are served, with the files that they use. Links, other files and lists
    of folders are not. To publish a site, copy its folder to any host of static files.
    """
    from saebench.errors import UsageError
    from saebench.leaderboard.site.serve import built_file, is_loopback, make_server

    if built_file(folder, "/") is None:
        raise UsageError(f"There is no site in {folder}; `saebench leaderboard build --out {folder}` writes one.")
    try:
        server = make_server(folder, port, host)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no address"
        raise UsageError(
            f"Port {port} of {host} cannot be used ({reason}); choose another with --port or --host."
        ) from error
    with server:
        url = f"http://{f'[{host}]' if ':' in host else host}:{server.server_address[1]}/"
        echo(f"{folder} is at {url} (stop with Ctrl-C)")
        if not is_loopback(host):
            echo("Warning: other machines can read this site, without a password and without encryption.", err=True)
        if browser:
            webbrowser.open(url)
        server.serve_forever()


def _everything(results: Collection) -> Board:
    """Return the board of all installed tasks with records in ``results``. Raises UsageError where there are none."""
    from saebench.cards.registry import registry
    from saebench.errors import UsageError
    from saebench.leaderboard.board import Board, BoardTask
    from saebench.safe_text import short

    measured = {record.identity.task for record in results.records}
    tasks = {name: BoardTask() for name in registry().names() if name in measured}
    if not tasks:
        raise UsageError(f"None of the tasks of these records is installed here: {short(', '.join(sorted(measured)))}.")
    return Board(
        name="leaderboard",
        title="Leaderboard",
        description="All tasks that were run, as their cards rank them.",
        tasks=tasks,
    )
