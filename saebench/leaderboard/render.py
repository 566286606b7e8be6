"""A board (`saebench.leaderboard.data`) as Markdown, CSV and JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd

from saebench import safe_text
from saebench.cards.audits import graded
from saebench.results import csv_text
from saebench.results.render import format_number, markdown

Json = dict[str, Any]
_CSV_COLUMNS = (
    "board", "stratum", "model", "hook", "width", "preset", "id", "sae", "architecture", "d_sae", "l0", "control",
    "group", "completed", "of", "place", "shared_to", "mean_rank", "rank_low", "rank_high", "task", "metric",
    "higher_is_better", "ranked", "grade", "value", "ci_low", "ci_high", "n", "unit", "not_scored",
)  # fmt: skip


def to_markdown(data: Json) -> str:
    """Return the page of a board: a table per stratum, with ranked rows first, then incomplete ones, then controls."""
    parts = [f"# {safe_text.markdown(data['title'])}", safe_text.markdown(data["description"])]
    parts += map(_stratum, data["strata"])
    if data["left_out"]:
        parts.append(_left_out(data["left_out"]))
    parts.append(
        f"{data['records']} records, saebench {data['saebench_version']}, data `{data['data_hash'][:19]}`. Ranks: "
        "mean over tasks of the ranks in the metrics marked \\*; a place is shared with every row that the data do not "
        "separate; the interval holds at 95 % for all rows at once. Rows are compared unit by unit, so two may "
        "be told apart although the intervals of their values overlap. Read docs/leaderboards.md before quoting one. "
        "In brackets: how far a metric can be believed (docs/reliability.md); those without a grade A or B never rank."
    )
    return "\n\n".join(parts) + "\n"


def to_csv(data: Json) -> str:
    """Return a line per row and metric, with numbers in full, and empty cells where there is nothing.

    `saebench.results.csv_text.read` reads it back; it says what other readers should know.
    """
    lines = []
    for stratum in data["strata"]:
        shared = {"board": data["name"], "stratum": stratum["id"]}
        shared |= {key: stratum[key] for key in ("model", "hook", "width", "preset")}
        for row in stratum["rows"]:
            own = {key: row[key] for key in _CSV_COLUMNS if key in row} | _flat(row["rank"])
            for metric in stratum["metrics"]:
                facts = {key: metric.get(key) for key in ("task", "metric", "higher_is_better", "ranked", "grade")}
                line = shared | own | facts | row["values"][metric["key"]]
                lines.append([line.get(column) for column in _CSV_COLUMNS])
    return csv_text.write(_CSV_COLUMNS, lines)


def to_json(data: Json, *, details: bool = True) -> str:
    """Return the board as JSON; without ``details`` it lacks the pages of SAEs and tasks."""
    kept = data if details else {key: value for key, value in data.items() if key not in ("saes", "tasks")}
    return safe_text.json_text(json.dumps(kept, indent=1, ensure_ascii=False, allow_nan=False)) + "\n"


def place(row: Json) -> str:
    """Return the place of a row: ``1``, ``1-3`` where it is shared, ``2 of 3 tasks`` if incomplete.

    For rows that are never ranked it is ``control`` or ``dense``.
    """
    if row["control"]:
        return "control"
    if row.get("unranked"):
        return "dense"
    if row["rank"] is not None:
        return _span(row["rank"]["place"], row["rank"]["shared_to"])
    if row["completed"] < row["of"]:
        return f"{row['completed']} of {row['of']} tasks"
    return ""


def _flat(rank: Json | None) -> Json:
    names = {"place": "place", "shared_to": "shared_to", "mean": "mean_rank", "low": "rank_low", "high": "rank_high"}
    return {} if rank is None else {column: rank[key] for key, column in names.items()}


def _stratum(stratum: Json) -> str:
    what = "groups of SAEs" if stratum["groups"] else "SAEs"
    width = {"all": "any width", "unknown": "width unknown"}.get(stratum["width"])
    width = width or f"about {int(stratum['width']):,} latents"
    heading = f"{stratum['model']} · {stratum['hook']} · {what}, {width} · preset {stratum['preset']}"
    lines = []
    for row in stratum["rows"]:
        rank = row["rank"]
        line = {
            "place": place(row),
            "SAE": row["sae"],
            "architecture": row["architecture"],
            "L0": "" if row["l0"] is None else f"{row['l0']:.4g}",
            "mean rank": "" if rank is None else f"{rank['mean']:.2f}",
            "rank interval": "" if rank is None else _span(rank["low"], rank["high"]),
        }
        for metric in stratum["metrics"]:
            line[_header(metric)] = _cell(row["values"][metric["key"]])
        lines.append(line)
    table = pd.DataFrame(lines)
    empty = [name for name in ("L0", "mean rank", "rank interval") if not table[name].any()]
    parts = [f"## {safe_text.markdown(heading)}", markdown(table.drop(columns=empty))]
    parts += [safe_text.markdown(f"{row['sae']}: {row['unranked']}") for row in stratum["rows"] if row.get("unranked")]
    return "\n\n".join(parts)


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _header(metric: Json) -> str:
    arrow = {True: " ↑", False: " ↓", None: ""}[metric["higher_is_better"]]
    star = " *" if metric["ranked"] else ""  # `markdown` escapes it
    return graded(f"{metric['task']}: {metric['metric']}{arrow}", metric.get("grade") or "") + star


def _cell(value: Json) -> str:
    if value["value"] is None:
        return "" if value["not_scored"] == "not measured" else "not scored"
    low, high = (math.nan if value[end] is None else value[end] for end in ("ci_low", "ci_high"))
    return format_number(value["value"], low, high)


def _left_out(left_out: list[Json]) -> str:
    lines = [f"{entry['sae']}, {entry['task']} v{entry['task_version']}: {entry['reason']}" for entry in left_out]
    return "## Not counted\n\n" + "\n".join(f"- {safe_text.markdown(line)}" for line in lines)
