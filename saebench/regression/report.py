"""The outcome of checks for readers: the text of a failure, and the report of a session as JSON and Markdown."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tabulate import tabulate

from saebench.atomic import write_atomic
from saebench.cards.audits import graded
from saebench.regression.check import Outcome
from saebench.regression.verdicts import Row, Verdict
from saebench.results.paired import Scored
from saebench.safe_text import json_text, markdown, visible, visible_lines
from saebench.version import __version__

SCHEMA_VERSION = 1
_HEADERS = ("metric", "better", "baseline", "now", "difference", "tolerance", "verdict")
Result = dict[str, Any]  # a check as JSON values, which pytest-xdist's workers can send


def to_result(outcome: Outcome, test: str) -> Result:
    """Return ``outcome`` as JSON values (without NaN), with the id of its test."""
    return {
        "test": test,
        "passed": outcome.passed,
        "sae": outcome.sae,
        "baseline": outcome.baseline,
        "wrote_baseline": outcome.wrote,
        "l0": {"baseline": outcome.l0[0], "now": outcome.l0[1]},
        "metrics": [_row(row) for row in outcome.rows],
        "problems": list(outcome.problems),
        "command": outcome.command,
    }


def message(result: Result) -> str:
    """Return the text of a failure: what is wrong, the table, the reasons, and how to measure and check again.

    Names and reasons are made safe for a terminal (`saebench.safe_text.visible`).
    """
    parts = [visible(heading(result))]
    if result["metrics"]:
        cells = [[visible(cell) for cell in row] for row in _cells(result)]
        parts.append(tabulate(cells, headers=_HEADERS, tablefmt="simple", disable_numparse=True))
    if reasons := _reasons(result):
        parts.append("\n".join(map(visible, reasons)))
    if result["command"]:
        command = "\n  ".join(visible_lines(result["command"]).split("\n"))
        test = visible_lines(result["test"].replace("'", "'\"'\"'"))
        parts.append(f"measure again:\n  {command}\ncheck again:\n  pytest '{test}'")
    return "\n\n".join(parts)


def heading(result: Result) -> str:
    """Return a line such as ``zoo:x against saebench-baselines/x.json: of 3 metrics 1 worse, 2 undecided``."""
    verdicts = [row["verdict"] for row in result["metrics"]]
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(sorted(verdicts))]
    outcome = f"of {len(verdicts)} metrics {', '.join(counts)}" if verdicts else "nothing compared"
    return f"{result['sae']} against {result['baseline']}: {outcome}"


def summary(results: Sequence[Result]) -> list[str]:
    """Return lines about passing tests: the baselines that were written, and the numbers that became better."""
    writers: dict[str, list[str]] = {}
    for result in results:
        if result["wrote_baseline"]:
            writers.setdefault(result["baseline"], []).append(result["test"])
    lines = [f"wrote {path}" for path in writers]
    lines += [
        f"WARNING: {path} was written by {len(tests)} tests and holds the numbers of the last: {', '.join(tests)}"
        for path, tests in writers.items()
        if len(tests) > 1
    ]
    better = ((result, row) for result in results for row in result["metrics"] if row["verdict"] == Verdict.BETTER)
    lines += [
        f"better than {result['baseline']}: {_name(row)} {_text(row['now'])}, was {_text(row['baseline'])}"
        for result, row in better
    ]
    return [visible(line) for line in lines]


def write_report(path: Path, results: Sequence[Result]) -> None:
    """Write the report to ``path`` with the endings .json and .md; ``path`` may have one of them. Raises OSError."""
    stem = path.with_suffix("") if path.suffix in (".json", ".md") else path
    results = sorted(results, key=lambda result: (result["test"], result["baseline"]))
    content = {"schema_version": SCHEMA_VERSION, "saebench_version": __version__, "checks": results}
    text = json_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
    for suffix, written in ((".json", text), (".md", _markdown(results))):
        _write(stem.with_name(stem.name + suffix), f"{written}\n".encode())


def _write(path: Path, content: bytes) -> None:
    write_atomic(path, lambda file: file.write(content))


def _row(row: Row) -> Result:
    task, metric, subset = row.key
    change = row.difference
    return {
        "task": task,
        "metric": metric,
        "subset": subset,
        "higher_is_better": row.higher_is_better,
        "grade": row.grade or None,
        "baseline": _number(row.baseline),
        "now": _number(row.now),
        "difference": None if change is None else {key: _finite(value) for key, value in asdict(change).items()},
        "tolerance": row.tolerance,
        "verdict": str(row.verdict),
        "fails": row.verdict.fails,
        "reason": row.reason,
    }


def _number(number: Scored | None) -> Result | None:
    if number is None:
        return None
    fields = ("value", "stderr", "ci_low", "ci_high", "n", "unit", "not_scored")
    return {key: _finite(getattr(number, key)) for key in fields}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _markdown(results: Sequence[Result]) -> str:
    failed = sum(not result["passed"] for result in results)
    parts = ["# Quality of SAEs against their baselines", f"{len(results)} checks, {failed} failed."]
    for result in results:
        parts.append(f"## {'passed' if result['passed'] else 'FAILED'}: {markdown(result['test'])}")
        parts.append(markdown(heading(result)))
        if result["metrics"]:
            cells = [[markdown(cell) for cell in row] for row in _cells(result)]
            parts.append(tabulate(cells, headers=_HEADERS, tablefmt="github", disable_numparse=True))
        parts += [f"- {markdown(reason)}" for reason in _reasons(result)]
        if result["command"]:
            parts.append(_code(visible_lines(result["command"])))
    return "\n\n".join(parts)


def _cells(result: Result) -> list[list[str]]:
    cells = []
    for row in result["metrics"]:
        better = {True: "higher", False: "lower", None: ""}[row["higher_is_better"]]
        allowed = "" if row["tolerance"] is None else f"{row['tolerance']:.3g}"
        numbers = [_text(row[side]) for side in ("baseline", "now", "difference")]
        verdict = row["verdict"].upper() if row["fails"] else row["verdict"]
        cells.append([graded(_name(row), row["grade"] or ""), better, *numbers, allowed, verdict])
    before, now = (result["l0"][side] for side in ("baseline", "now"))
    if now is not None:  # all other numbers depend on this operating point
        cells.append(["L0 of the SAE", "", "" if before is None else f"{before:.4g}", f"{now:.4g}", "", "", ""])
    return cells


def _text(number: Mapping[str, Any] | None) -> str:
    from saebench.results.render import format_number  # lazy, because it imports pandas

    if number is None:
        return ""
    bounds = ("value", "ci_low", "ci_high")
    return format_number(*(math.nan if number[key] is None else number[key] for key in bounds))


def _reasons(result: Result) -> list[str]:
    rows = [row for row in result["metrics"] if row["reason"]]
    # One cause, such as another version of a task, concerns many metrics.
    causes = dict.fromkeys(row["reason"] for row in rows)
    named = {cause: ", ".join(_name(row) for row in rows if row["reason"] == cause) for cause in causes}
    return [*result["problems"], *(f"{names}: {cause}." for cause, names in named.items())]


def _name(row: Mapping[str, Any]) -> str:
    return "/".join(part for part in (row["task"], row["metric"], row["subset"]) if part)


def _code(text: str) -> str:
    """Return a block of code, between more backticks than ``text`` has in a row."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}sh\n{text}\n{fence}"
