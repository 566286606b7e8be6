"""``saebench compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saebench.cli.filters import results_option
from saebench.cli.output import echo
from saebench.results import DEFAULT_FOLDER

if TYPE_CHECKING:
    from saebench.results.compare import Comparison
    from saebench.results.named import Results
    from saebench.results.record import Record


@click.command(short_help="Compare two SAEs on the same data.")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--metric", "metrics", metavar="M", multiple=True, help="Only this metric; may be repeated.")
@click.option("--task", metavar="T", help="Only this task.")
@click.option("--all", "everything", is_flag=True, help="All metrics, not only the main ones of each task.")
@click.option("--subsets", is_flag=True, help="Also single datasets, concepts and other subsets.")
@click.option("--preset", metavar="P", help="Only records of this preset.")
@click.option("--seed", metavar="N", type=int, help="Only records of this seed; required if there are several.")
@results_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "md", "json"]),
    default="text",
    show_default=True,
    help="The format of the output.",
)
@click.option(
    "--plot",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also draw the comparison (.png, .svg, .pdf).",
)
def compare(
    a: str,
    b: str,
    metrics: tuple[str, ...],
    task: str | None,
    everything: bool,
    subsets: bool,
    preset: str | None,
    seed: int | None,
    folders: tuple[Path, ...],
    format_: str,
    plot: Path | None,
) -> None:
    """Compare two SAEs on the same data: is B better than A, or could the difference be chance?

    A and B are SAEs or groups of SAEs. Name them as `saebench table` shows them, with or without the part before the
    colon, or by the first 8 or more digits of a record id or of an SAE's fingerprint.

    \b
    Examples:
      saebench compare topk-k32-s0 topk-k64-s0
      saebench compare topk-k32-s0 topk-k32-s1 --metric fvu --metric ce_recovered_mean
      saebench compare baseline:neurons topk-k32-s0 --task sparse_probing --subsets
      saebench compare topk-k32-s0 batchtopk-k32-s0 --plot comparison.svg

    Only records of the same task version, parameters, language model, data and seed are compared. What cannot be
    compared, such as a record whose arrays are damaged, is listed with the reason.

    Exit codes: 0, or 2 when nothing can be compared.
    """
    from saebench.errors import UsageError
    from saebench.results import compare as comparing
    from saebench.results.compare_plot import save_plot
    from saebench.results.compare_text import to_json, to_text
    from saebench.results.named import Results

    where = folders or (DEFAULT_FOLDER,)
    results = Results(where)
    if not results.records:
        raise UsageError(
            f"There are no records in {', '.join(map(str, where))}; `saebench run --out {where[0]}` writes some."
        )
    sides = [_chosen(results, name, task, preset, seed) for name in (a, b)]
    wanted = _wanted(sides, metrics, everything)
    measured = [[results.measured_or_damage(record) for record in side] for side in sides]
    comparison = comparing.compare(*measured, wanted=wanted, subsets=subsets)
    _something_or_raise(comparison)
    if plot is not None:
        save_plot(comparison, plot)
    echo(to_json(comparison) if format_ == "json" else to_text(comparison, "md" if format_ == "md" else "text"))


def _chosen(results: Results, name: str, task: str | None, preset: str | None, seed: int | None) -> list[Record]:
    from saebench.errors import UsageError, did_you_mean

    records = results.named(name)
    for option, value, of in (
        ("task", task, lambda record: record.identity.task),
        ("preset", preset, lambda record: record.preset),
        ("seed", None if seed is None else str(seed), lambda record: str(record.identity.seed)),
    ):
        known = sorted({of(record) for record in records})
        if value is not None and value not in known:
            has = f"{name} has results of {option} {', '.join(known)}"
            raise UsageError(f"{has}, not {value!r}.{did_you_mean(value, known)}")
        records = [record for record in records if value in (None, of(record))]
    seeds = sorted({record.identity.seed for record in records})
    if len(seeds) > 1:
        raise UsageError(f"{name} was measured with the seeds {', '.join(map(str, seeds))}; choose one with --seed.")
    return records


def _wanted(sides: Sequence[Sequence[Record]], metrics: Sequence[str], everything: bool) -> dict[str, list[str]] | None:
    """Return the metrics of each task: those named, all (None), or the main ones of the card, primary ones first."""
    from saebench.cards.registry import registry
    from saebench.errors import UsageError, did_you_mean

    records = [record for side in sides for record in side]
    if metrics:
        known = {number.metric for record in records for number in record.measurements}
        for metric in metrics:
            if metric not in known:
                raise UsageError(f"No result for these SAEs has the metric {metric!r}.{did_you_mean(metric, known)}")
        return {record.identity.task: list(metrics) for record in records}
    if everything:
        return None
    wanted = {}
    for name, columns in registry().table_columns().items():
        primary = [metric.id for metric in registry().card(name).metrics if metric.primary]
        wanted[name] = list(dict.fromkeys([*primary, *columns]))
    return wanted


def _something_or_raise(comparison: Comparison) -> None:
    from saebench.errors import UsageError
    from saebench.results.compare_text import summaries

    if not comparison.lines():
        raise UsageError(f"Nothing can be compared. {' '.join(summaries(comparison.excluded))}")
