"""The command ``saebench``: its subcommands, and how errors are shown."""

from __future__ import annotations

import errno
import traceback
from typing import Any

import click

from saebench.cli.assets import assets
from saebench.cli.cache import cache
from saebench.cli.check_adapter import check_adapter
from saebench.cli.compare import compare
from saebench.cli.doctor import doctor
from saebench.cli.export import export
from saebench.cli.leaderboard import leaderboard
from saebench.cli.lm_eval import lm_eval
from saebench.cli.quiet import debugging, plain_warnings, set_environment
from saebench.cli.run import run
from saebench.cli.saes import saes
from saebench.cli.submit import submit
from saebench.cli.table import table
from saebench.cli.tasks import tasks
from saebench.errors import SaebenchError
from saebench.version import __version__

USAGE, BUG, INTERRUPTED = 2, 70, 130
# These errors mean that the machine refuses something (disk full, no permission); they are not bugs of saebench.
_REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class _Failure(click.ClickException):
    exit_code = USAGE


class _Commands(click.Group):
    """A group of commands that turns every error into one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        set_environment()
        try:
            with plain_warnings():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted; the same command continues where it stopped", err=True)
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
            traceback.print_exc()
            click.echo("\nThis is a bug in saebench; please report it together with the lines above.", err=True)
            ctx.exit(BUG)


def _traceback_if_debugging() -> None:
    if debugging():
        traceback.print_exc()


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
    tasks,
    saes,
    assets,
    cache,
    table,
    compare,
    leaderboard,
    export,
    submit,
    lm_eval,
    check_adapter,
    doctor,
):
    cli.add_command(command)


def main() -> None:
    cli(prog_name="saebench")
