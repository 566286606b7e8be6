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

from benchmarks.blocks import fill, update
from saebench.audit.page import BLOCKS, again
from saebench.cards.audits import Audit, audits_dir, load_audit, stale
from saebench.cards.registry import BUILT_IN, registry

ROOT = Path(__file__).resolve().parents[1]
AGAIN = "seed-1"  # the folder of the audits from another seed


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

    def rendered(page: str) -> str:
        audits = load(options.audits)
        for sentence in expired():
            print(sentence, file=sys.stderr)
        blocks = {**BLOCKS, "again": lambda these: again(these, load(options.audits / AGAIN))}
        return fill(page, "reliability", blocks, lambda block: blocks[block](audits))

    return update(options.page, rendered, "render_reliability.py", check=options.check)


if __name__ == "__main__":
    sys.exit(main())
