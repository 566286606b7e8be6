"""The command ``saebench``: its commands, and what becomes of errors."""

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
# What the machine refuses (disk full, no permission) is no bug of ours.
_REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class _Failure(click.ClickException):
    exit_code = USAGE


class _Commands(click.Group):
    """A group that turns every error into one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        set_environment()
        try:
            with plain_warnings():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted; the same command goes on from there", err=True)
            ctx.exit(INTERRUPTED)
        except SaebenchError as error:
            _traceback_if_debugging()
            raise _Failure(str(error)) from error
        except (click.exceptions.Exit, click.Abort, click.ClickException):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # `saebench table | head`: click ends quietly
            if isinstance(error, OSError) and error.errno in _REFUSED:
                _traceback_if_debugging()
                where = f": {error.filename}" if error.filename else ""
                raise _Failure(f"{error.strerror}{where}.") from error
            traceback.print_exc()
            click.echo("\nThis is a bug in saebench; please report it with the lines above.", err=True)
            ctx.exit(BUG)


def _traceback_if_debugging() -> None:
    if debugging():
        traceback.print_exc()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="saebench")
def cli() -> None:
    """Evaluate sparse autoencoders (SAEs) of language models: numbers with intervals, beside controls.

    \b
    Examples:
      saebench run                                  the default: Gemma-3-270m, the SAEs that come along, controls
      saebench run --sae sae_lens:path/to/folder    your own SAE
      saebench table                                what was measured so far
      saebench doctor                               is everything there?

    Results go to saebench-results/. Exit codes: 0 all went well; 1 something failed, the rest is done; 2 what was
    asked for is not possible, and the message says why; 70 a bug in saebench; 130 interrupted. SAEBENCH_DEBUG=1
    shows tracebacks and what other libraries print; SAEBENCH_HOME moves the cache of models and texts.
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
