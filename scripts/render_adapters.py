"""Fill the tables of docs/adapters.md from the registries and the measured parity, or check that they are up to date.

A block ``<!-- adapters:NAME -->`` … ``<!-- /adapters -->`` is replaced by the table or list of that name. ``--check``
writes nothing and exits with 1 when the page is out of date. ``python -m benchmarks.parity`` measures parity anew.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.blocks import fill, update
from benchmarks.parity.render import BLOCKS
from benchmarks.record import BenchmarkResult, load_results
from saebench.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "parity" / "results"


def render(page: str, result: BenchmarkResult) -> str:
    """Return ``page`` with every block filled. Raises UsageError for a block that is not closed or has no table."""
    return fill(page, "adapters", BLOCKS, lambda name: BLOCKS[name](result))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the page is out of date")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of parity.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "adapters.md", help="page to fill")
    options = parser.parse_args(arguments)

    def rendered(page: str) -> str:
        results = load_results(options.results)
        if "parity" not in results:
            raise UsageError(f"There is no parity.json in {options.results}; run: python -m benchmarks.parity")
        return render(page, results["parity"])

    return update(options.page, rendered, "render_adapters.py", check=options.check)


if __name__ == "__main__":
    sys.exit(main())
