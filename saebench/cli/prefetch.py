"""``saebench prefetch``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from saebench.cli.output import echo
from saebench.cli.quiet import quiet_libraries
from saebench.cli.run import SOME_FAILED, is_set, run

_SHARED = ("suite", "tasks", "sae", "sae_group", "model", "hook", "preset", "text", "seed", "allow_python")


@click.command(
    short_help="Fetch everything that a run needs, so that it works offline.",
    params=[
        click.Argument(["plan"], type=click.Path(path_type=Path, exists=True, dir_okay=False), required=False),
        *(parameter for parameter in run.params if parameter.name in _SHARED),
    ],
)
@click.pass_context
def prefetch(context: click.Context, /, plan: Path | None, **options: Any) -> None:
    """Fetch the language models, SAEs, texts and assets that a run needs, and evaluate nothing.

    \b
    Examples:
      saebench prefetch run.yaml
      saebench prefetch --model hf:google/gemma-2-2b --sae hf:ORG/REPO/layer_12

    PLAN is a config file of `saebench run`, and the options are those of `saebench run`. What lies on this disk already
    is not fetched again. Afterwards the run works with HF_HUB_OFFLINE=1, and uses the commits that are printed here.

    Exit codes: 0 all is there, 1 something could not be fetched, 2 the request is not possible.
    """
    from saebench.runner.plan import make_plan
    from saebench.runner.request import make_request

    chosen = {
        key: list(value) if isinstance(value, tuple) else value for key, value in options.items() if is_set(value)
    }
    planned = make_plan(make_request(chosen, plan))
    quiet_libraries()
    from saebench.progress import ConsoleProgress
    from saebench.runner.prefetch import prefetch as fetch_all

    done = list(fetch_all(planned, ConsoleProgress()))
    for item in done:
        echo(f"failed: {item.error}" if item.error else f"{item.name}: {item.what or 'there'}")
    if not done:
        echo("the run needs nothing from the network")
    context.exit(SOME_FAILED if any(item.error for item in done) else 0)
