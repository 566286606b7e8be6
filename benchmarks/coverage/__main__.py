"""Simulate the coverage of intervals, and fill docs/intervals.md: ``python -m benchmarks.coverage``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.blocks import fill
from benchmarks.coverage.render import BLOCKS
from benchmarks.coverage.simulate import measure
from benchmarks.record import BenchmarkResult, load_results
from saebench.errors import SaebenchError, UsageError
from saebench.progress import ConsoleProgress

RESULTS = Path(__file__).resolve().parent / "results"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "intervals.md"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--check", action="store_true", help="simulate nothing; exit with 1 if the page is out of date")
    parser.add_argument("--repetitions", type=int, default=1000, help="samples of each kind (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="page to fill (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        if not options.check:
            measure(options.repetitions, ConsoleProgress()).write(options.results)
        before = options.page.read_text(encoding="utf-8")
        after = render(before, load_results(options.results))
    except SaebenchError as error:
        print(error, file=sys.stderr)
        return 2
    if options.check and after != before:
        print(f"out of date: {options.page.name}; run: .venv/bin/python -m benchmarks.coverage", file=sys.stderr)
        return 1
    options.page.write_text(after, encoding="utf-8")
    return 0


def render(page: str, results: dict[str, BenchmarkResult]) -> str:
    """Return the page with every block filled. Raises UsageError where there is no result."""
    if "coverage" not in results:
        raise UsageError("There is no coverage.json; run: python -m benchmarks.coverage")
    return fill(page, "coverage", BLOCKS, lambda name: BLOCKS[name](results["coverage"]))


if __name__ == "__main__":
    sys.exit(main())
