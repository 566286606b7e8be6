"""The tables of docs/intervals.md, made from the result of the simulation."""

from __future__ import annotations

from collections.abc import Callable

from tabulate import tabulate

from benchmarks.record import BenchmarkResult
from saebench.stats.estimate import SKEWED_COVERAGE


def by_method(result: BenchmarkResult, method: str) -> str:
    """Return the table of a method: coverage in percent, and the mean width relative to the ideal, by case and size."""
    rows: dict[str, list[str]] = {}
    sizes = dict.fromkeys(row["n"] for row in result.measurements)
    for row in result.measurements:
        if row["method"] == method:
            width = "none" if row["width"] is None else f"{row['width']:.2f}"
            rows.setdefault(row["case"], []).append(f"{100 * row['coverage']:.1f} ({width})")
    table = [[case, *cells] for case, cells in rows.items()]
    headers = ["", *(f"n = {n}" for n in sizes)]
    return str(tabulate(table, headers=headers, tablefmt="github", disable_numparse=True))


def settings(result: BenchmarkResult) -> str:
    """Return the sentence about the size of the simulation."""
    chosen = result.settings
    return (
        f"Each figure is from {chosen['repetitions']:,} samples with {chosen['replicates']:,} bootstrap draws, so its "
        f"standard error is {100 * chosen['error']:.1f} % where the coverage is 95 %."
    )


def stated(_: BenchmarkResult) -> str:
    """Return the table of coverages that measurements state."""
    rows = [
        [method, f"below {below}", f"{percent} %"]
        for method, steps in SKEWED_COVERAGE.items()
        for below, percent in steps
    ]
    headers = ["method", "units", "covers at least"]
    return str(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))


BLOCKS: dict[str, Callable[[BenchmarkResult], str]] = {
    "settings": settings,
    "saebench": lambda result: by_method(result, "saebench"),
    "bca": lambda result: by_method(result, "BCa"),
    "student": lambda result: by_method(result, "Student's t"),
    "stated": stated,
}
