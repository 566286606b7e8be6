"""Fill the tables of docs/adapters.md from the registries and the measured parity, or check that they are up to date.

A block ``<!-- adapters:NAME -->`` … ``<!-- /adapters -->`` is replaced by the table or list of that name. ``--check``
writes nothing and exits with 1 when the page is out of date. ``python -m benchmarks.parity`` measures parity anew.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from benchmarks.parity.render import BLOCKS
from benchmarks.record import BenchmarkResult, load_results
from saebench.errors import SaebenchError, UsageError, did_you_mean

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "parity" / "results"
_BLOCK = re.compile(r"(<!-- adapters:(?P<name>\w+) -->\n).*?(<!-- /adapters -->)", re.DOTALL)
_OPENING = re.compile(r"<!-- adapters:")


def render(page: str, result: BenchmarkResult) -> str:
    """Return ``page`` with every block filled. Raises UsageError for a block that is not closed or has no table."""
    blocks = list(_BLOCK.finditer(page))
    if len(blocks) != len(_OPENING.findall(page)):
        raise UsageError(
            "A table begins with <!-- adapters:NAME --> and is closed by <!-- /adapters -->; one of them is missing."
        )
    for match in blocks:
        if match["name"] not in BLOCKS:
            raise UsageError(f"There is no table {match['name']!r}.{did_you_mean(match['name'], BLOCKS)}")
    return _BLOCK.sub(lambda match: f"{match[1]}\n{BLOCKS[match['name']](result)}\n\n{match[3]}", page)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the page is out of date")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of parity.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "adapters.md", help="page to fill")
    options = parser.parse_args(arguments)

    before = options.page.read_text(encoding="utf-8")
    try:
        results = load_results(options.results)
        if "parity" not in results:
            raise UsageError(f"There is no parity.json in {options.results}; run: python -m benchmarks.parity")
        after = render(before, results["parity"])
    except SaebenchError as error:
        print(error, file=sys.stderr)
        return 2
    if after == before:
        return 0
    if options.check:
        print(f"out of date: {options.page.name}; run: .venv/bin/python scripts/render_adapters.py", file=sys.stderr)
        return 1
    options.page.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
