"""Fill the tables of docs/reliability.md from audits/, or check that they are up to date.

A block ``<!-- reliability:NAME -->`` … ``<!-- /reliability -->`` is replaced by the table or list of that name.
``--check`` writes nothing and exits with 1 when the page is out of date. It also names the tasks whose grades have
expired, because their version moved after the audit; this alone is no failure, because tables and boards then show no
grade.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.blocks import fill
from saebench.audit.page import BLOCKS
from saebench.cards.audits import Audit, audits_dir, load_audit, stale
from saebench.cards.registry import BUILT_IN, registry
from saebench.errors import SaebenchError

ROOT = Path(__file__).resolve().parents[1]


def load(folder: Path) -> list[Audit]:
    """Return the audits in ``folder``, in the order of the built-in tasks."""
    return [load_audit(path) for task in BUILT_IN if (path := folder / f"{task}.json").is_file()]


def expired() -> list[str]:
    """Return a sentence for each task that has an audit which does not hold for its card any more."""
    audited = [task for task in BUILT_IN if (audits_dir() / f"{task}.json").is_file()]
    return [sentence for task in audited if registry().card(task) and (sentence := stale(task))]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the page is out of date")
    parser.add_argument("--audits", type=Path, default=ROOT / "audits", help="folder of the audits")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "reliability.md", help="page to fill")
    options = parser.parse_args(arguments)

    before = options.page.read_text(encoding="utf-8")
    try:
        audits = load(options.audits)
        after = fill(before, "reliability", BLOCKS, lambda block: BLOCKS[block](audits))
        for sentence in expired():
            print(sentence, file=sys.stderr)
    except SaebenchError as error:
        print(error, file=sys.stderr)
        return 2
    if after == before:
        return 0
    if options.check:
        print(f"out of date: {options.page.name}; run: .venv/bin/python scripts/render_reliability.py", file=sys.stderr)
        return 1
    options.page.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
