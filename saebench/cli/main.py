"""The command ``saebench``: its subcommands, and how errors are shown."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from saebench.cli.assets import assets
from saebench.cli.audit import audit
from saebench.cli.cache import cache
from saebench.cli.check_adapter import check_adapter
from saebench.cli.compare import compare
from saebench.cli.doctor import doctor
from saebench.cli.export import export
from saebench.cli.leaderboard import leaderboard
from saebench.cli.lm_eval import lm_eval
from saebench.cli.output import echo, echo_traceback
from saebench.cli.power import power
from saebench.cli.prefetch import prefetch
from saebench.cli.quiet import allow_any_text, debugging, plain_warnings, set_environment
from saebench.cli.run import run
from saebench.cli.saes import saes
from saebench.cli.submit import submit
from saebench.cli.table import table
from saebench.cli.tasks import tasks
from saebench.errors import SaebenchError
from saebench.safe_text import visible, visible_lines
from saebench.version import __version__

USAGE, BUG, INTERRUPTED = 2, 70, 130
# These errors mean that the machine refuses something; they are not bugs of saebench.
_REFUSED = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),  # the disk is full, or not to be written to
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR),  # a path that the user gave leads nowhere
}


class _Failure(click.ClickException):
    """One sentence for the user."""

    exit_code = USAGE

    def __init__(self, sentence: str) -> None:
        super().__init__(visible(sentence))


class _Commands(click.Group):
    """A group of commands that turns every error into one sentence and an exit code."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with _safe_messages():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        set_environment()
        allow_any_text()
        try:
            with plain_warnings(), _safe_messages():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            echo("interrupted; the same command continues where it stopped", err=True)
            ctx.exit(INTERRUPTED)
        except SaebenchError as error:
            _traceback_if_debugging()
            raise _Failure(str(error)) from error
        except (click.exceptions.Exit, click.Abort, click.ClickException):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # as in `saebench table | head`, which click ends quietly
            if isinstance(error, OSError) and error.errno in _REFUSED:
                _traceback_if_debugging()
                where = f": {error.filename}" if error.filename else ""
                raise _Failure(f"{error.strerror}{where}.") from error
            echo_traceback()
            echo("\nThis is a bug in saebench; please report it together with the lines above.", err=True)
            ctx.exit(BUG)


@contextmanager
def _safe_messages() -> Iterator[None]:
    """Escape what click's messages repeat of the command line, such as names of files, for the terminal."""
    try:
        yield
    except click.ClickException as error:
        vars(error)["message"] = visible_lines(error.message)
        raise


def _traceback_if_debugging() -> None:
    if debugging():
        echo_traceback()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="saebench")
def cli() -> None:
    """Evaluate sparse autoencoders (SAEs) of language models: numbers with intervals, beside those of controls.

    \b
    Examples:
      saebench run                                  the default: Gemma-3-270m, the bundled SAEs and controls
      saebench run --sae sae_lens:path/to/folder    your own SAE
      saebench table                                what was measured so far
      saebench doctor                               what is missing for a run

    Results are written to saebench-results/. Exit codes: 0 success; 1 something failed, but the rest is done; 2 the
    request is not possible, and the message says why; 70 a bug in saebench; 130 interrupted. SAEBENCH_DEBUG=1 shows
    tracebacks and the output of other libraries; SAEBENCH_HOME moves the cache of models and texts.
    """


for command in (
    run,
    prefetch,
    tasks,
    saes,
    assets,
    cache,
    table,
    compare,
    leaderboard,
    audit,
    power,
    export,
    submit,
    lm_eval,
    check_adapter,
    doctor,
):
    cli.add_command(command)


def main() -> None:
    cli(prog_name="saebench")
