"""``saebench tasks``."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click

from saebench.cli.output import echo

if TYPE_CHECKING:
    from saebench.cards.card import MetricSpec, TaskCard

WIDTH = 100
_TAKES = {
    "sae": "single SAEs (--sae)",
    "group": "groups of SAEs (--sae-group)",
    "both": "single SAEs (--sae) and groups of them (--sae-group)",
}


@click.command(short_help="List the tasks, or show the card of one task.")
@click.argument("name", required=False)
def tasks(name: str | None) -> None:
    """List the tasks, or show the card of one task: what it measures, how, and what it cannot tell.

    \b
    Examples:
      saebench tasks
      saebench tasks core

    Tasks of installed plug-ins are listed too. Exit codes: 0, or 2 for an unknown task.
    """
    from saebench.cards.registry import registry

    echo(_card(registry().card(name)) if name else _list())


def _list() -> str:
    from saebench.cards.registry import registry

    lines = []
    for entry in registry().entries():
        origin = "" if entry.origin == "saebench" else f"  (from {entry.origin})"
        if entry.card is None:
            lines.append(f"{entry.name}  cannot be used: {entry.error}{origin}")
            continue
        primary = ", ".join(metric.id for metric in entry.card.metrics if metric.primary)
        lines += [f"{entry.name} v{entry.card.version}  {entry.card.title}{origin}", f"    primary metrics: {primary}"]
    return "\n".join([*lines, "", "`saebench tasks NAME` shows a task's card."])


def _card(card: TaskCard) -> str:
    from tabulate import tabulate

    parameters = [
        [key, parameter.default, *(card.presets[preset].get(key, "") for preset in card.presets), parameter.description]
        for key, parameter in card.parameters.items()
    ]
    widths = [None] * (2 + len(card.presets)) + [40]
    metrics = [_metric_row(card, metric) for metric in card.metrics]
    parts = [
        f"{card.name} v{card.version}: {card.title}",
        _paragraph(card.description),
        _section("Measures", card.measures),
        _section("Cannot tell", card.cannot_tell),
        _section("Takes", _TAKES[card.scope]),
        _section("Cost", card.cost),
        _section("The SAE must have", ", ".join(card.needs) or "nothing beyond encode and decode"),
        "Parameters, and how presets change them\n"
        + tabulate(
            parameters,
            headers=["parameter", "default", *card.presets, "meaning"],
            tablefmt="simple",
            disable_numparse=True,
            maxcolwidths=widths,
        ),
        "Metrics (* primary)\n"
        + tabulate(
            metrics,
            headers=["metric", "grade", "better", "bounds", "unit", "meaning"],
            tablefmt="simple",
            disable_numparse=True,
            maxcolwidths=[None, None, None, None, 20, 40],
        ),
        "Data\n"
        + "\n".join(_paragraph(f"{d.reference} ({d.revision}), licence: {d.licence}. {d.note}") for d in card.data),
    ]
    if card.caveats:
        parts.append("Caveats\n" + "\n".join(_paragraph(f"- {caveat}") for caveat in card.caveats))
    if card.ours:
        parts.append(_section("Choices of saebench", card.ours))
    if card.citation:
        parts.append(_section("Sources", ", ".join(f"arXiv:{source}" for source in card.citation)))
    return "\n\n".join(parts)


def _metric_row(card: TaskCard, metric: MetricSpec) -> list[str]:
    from saebench.cards.audits import letter_of

    low, high = ("" if bound is None else f"{bound:g}" for bound in metric.bounds)
    better = {True: "higher", False: "lower", None: ""}[metric.higher_is_better]
    bounds = f"[{low or '-inf'}, {high or 'inf'}]" if low or high else ""
    grade = letter_of(card.name, card.version, metric.id)
    return [f"{metric.id}{' *' if metric.primary else ''}", grade, better, bounds, metric.unit, metric.title]


def _section(title: str, text: str) -> str:
    return f"{title}\n{_paragraph(text)}"


def _paragraph(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False)
