"""What commands print: the only place of the command line that writes to the terminal."""

from __future__ import annotations

import sys
import traceback

import click

from saebench.safe_text import visible_lines


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text of several lines, in which no foreign name or message gives commands to the terminal.

    Foreign text with line breaks should have passed `saebench.safe_text.visible` before, or it could look like lines of
    saebench.
    """
    click.echo(visible_lines(str(text)), err=err, nl=nl)


def write(content: bytes) -> None:
    """Print the content of a file: as it is into a file or a pipe, and as `echo` does on a terminal."""
    if sys.stdout.isatty():
        echo(content.decode(errors="backslashreplace"), nl=False)
    else:
        click.echo(content, nl=False)


def echo_traceback() -> None:
    """Print the traceback of the exception that is being handled, on standard error."""
    echo(traceback.format_exc(), err=True, nl=False)
