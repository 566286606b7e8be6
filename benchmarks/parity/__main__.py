"""Measure parity, and write ``parity.json``: ``python -m benchmarks.parity``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.parity.measure import RESULTS, measure
from benchmarks.parity.wheels import FOLDER
from saebench.errors import SaebenchError
from saebench.progress import ConsoleProgress


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result file (default: %(default)s)")
    parser.add_argument("--wheels", type=Path, default=FOLDER, help="folder of the wheels (default: %(default)s)")
    parser.add_argument("--offline", action="store_true", help="fetch no wheels; compare with those that are there")
    options = parser.parse_args(arguments)

    progress = ConsoleProgress()
    try:
        result = measure(progress, options.wheels, download=not options.offline)
        path = result.write(options.out)
    except SaebenchError as error:
        print(error, file=sys.stderr)
        return 1
    progress.log(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
