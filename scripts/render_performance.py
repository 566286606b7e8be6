"""Fill the tables and draw the figures of docs/performance.md from the benchmarks' results, or check them.

A block ``<!-- bench:NAME -->`` … ``<!-- /bench -->`` is replaced by the table of that name, and the figures are written
to ``docs/figures/``. ``--check`` writes nothing and exits with 1 when the page or a figure is out of date.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.blocks import fill
from benchmarks.plots import FIGURES, draw, is_current
from benchmarks.record import RESULTS, load_results
from benchmarks.render import BLOCKS, block
from benchmarks.targets import Results
from saebench.errors import SaebenchError

ROOT = Path(__file__).resolve().parents[1]


def render(page: str, results: Results) -> str:
    """Return ``page`` with every block filled. Raises UsageError for a block that is not closed or has no table."""
    return fill(page, "bench", BLOCKS, lambda name: block(name, results))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the page is out of date")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of result files")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "performance.md", help="page to fill")
    options = parser.parse_args(arguments)

    figures = options.page.parent / "figures"
    before = options.page.read_text(encoding="utf-8")
    try:
        results = load_results(options.results)
        after = render(before, results)
    except SaebenchError as error:
        print(error, file=sys.stderr)
        return 2
    shown = all(is_current(figures / f"{name}.svg", results[name]) for name in FIGURES if name in results)
    if after == before and shown:
        return 0
    if options.check:
        print(f"out of date: {options.page.name}; run: .venv/bin/python scripts/render_performance.py", file=sys.stderr)
        return 1
    options.page.write_text(after, encoding="utf-8")
    draw(results, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
