"""``saebench cache``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from saebench.cli.output import echo
from saebench.errors import SaebenchError


@click.group(short_help="Show or clear the activations and losses that runs share.")
def cache() -> None:
    """Show or clear the activations and losses of language models that runs share.

    \b
    Examples:
      saebench cache info
      saebench cache clear

    `saebench run` keeps them so that the next SAE at the same hook and on the same text costs only its own pass. When
    --cache-budget is reached, those that were not used for the longest time are removed first. Clearing the cache loses
    nothing but time. It is beside the assets: in the platform's cache folder, or in SAEBENCH_HOME. Exit code: 0.
    """


@cache.command()
def info() -> None:
    """Show the folder, how many series it holds, and their size.

    A series is the activations at one site, or the losses, of one language model on one text. Exit code: 0.
    """
    from saebench.budget import format_bytes
    from saebench.cache.tensors import usage
    from saebench.runner.cache import cache_folder

    folder = cache_folder()
    with _accessible(folder):
        n_series, size = usage(folder)
    echo(f"folder  {folder}\nseries  {n_series}\nsize    {format_bytes(size)}")


@cache.command()
def clear() -> None:
    """Clear the cache without asking. Runs compute again what they need.

    Exit code: 0.
    """
    from saebench.budget import format_bytes
    from saebench.cache.tensors import clear as clear_cache
    from saebench.runner.cache import cache_folder

    folder = cache_folder()
    with _accessible(folder):
        freed = clear_cache(folder)
    echo(f"freed {format_bytes(freed)} in {folder}")


@contextmanager
def _accessible(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise SaebenchError(
            f"The cache at {where} cannot be used ({error.strerror or error}); fix that path or its permissions, or "
            "set SAEBENCH_HOME to another folder."
        ) from error
