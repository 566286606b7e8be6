"""Options that choose among records. The commands that read records share them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from saebench.results.filters import Filters

_OPTIONS = [
    click.option("--task", "task", metavar="T", multiple=True, help="Only this task."),
    click.option("--sae", "sae", metavar="REF", multiple=True, help="Only this SAE or group, such as 'zoo:topk-*'."),
    click.option("--model", "model", metavar="REF", multiple=True, help="Only this language model."),
    click.option("--hook", "hook", metavar="SITE", multiple=True, help="Only this hook."),
    click.option("--preset", "preset", metavar="P", multiple=True, help="Only this preset."),
    click.option("--metric", "metric", metavar="M", multiple=True, help="Only this metric."),
    click.option("--subset", "subset", metavar="S", multiple=True, help="Only this subset; '' means all of the data."),
    click.option("--seed", "seed", metavar="N", type=int, multiple=True, help="Only this seed."),
    click.option("--status", "status", metavar="S", multiple=True, help="Only ok, failed or not_applicable."),
    click.option("--controls/--no-controls", "controls", default=True, help="With or without controls.  [with]"),
]

results_option = click.option(
    "--results",
    "folders",
    metavar="DIR",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder of records; may be repeated.  [saebench-results]",
)


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to ``command``, which receives their values as fields of `saebench.results.filters.Filters`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def to_filters(options: dict[str, Any]) -> Filters:
    """Return the filters from the values of `filter_options`."""
    from saebench.results.filters import Filters

    return Filters(**options)
