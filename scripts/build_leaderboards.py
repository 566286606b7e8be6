"""Write the published boards (Markdown, CSV, JSON) from the published records, or check that they are up to date.

For each ``leaderboards/NAME.yaml``, the files ``NAME.md``, ``NAME.csv`` and ``NAME.json`` are written beside it.
``--check`` writes nothing and exits with 1 when a file is out of date.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from saebench.errors import SaebenchError
from saebench.leaderboard.board import load_board
from saebench.leaderboard.data import build
from saebench.leaderboard.render import to_csv, to_json, to_markdown
from saebench.results.collection import Collection

ROOT = Path(__file__).resolve().parents[1]


def files(definition: Path, results: Path) -> dict[Path, str]:
    """Return the path and content of each file of the board that ``definition`` defines."""
    data = build(load_board(definition), Collection([results]))
    contents = {".md": to_markdown(data), ".csv": to_csv(data), ".json": to_json(data, details=False)}
    return {definition.with_suffix(suffix): content for suffix, content in contents.items()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a file is out of date")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of records")
    parser.add_argument("--boards", type=Path, default=ROOT / "leaderboards", help="folder of definitions")
    options = parser.parse_args(arguments)

    stale = []
    try:
        for definition in sorted(options.boards.glob("*.yaml")):
            for path, content in files(definition, options.results).items():
                if path.is_file() and path.read_bytes() == content.encode():
                    continue
                stale.append(path.name)
                if not options.check:
                    path.write_bytes(content.encode())
    except SaebenchError as error:
        print(error, file=sys.stderr)
        return 2
    if options.check and stale:
        print(f"out of date: {', '.join(stale)}; run: .venv/bin/python scripts/build_leaderboards.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
