"""What the pages show, arranged from the board's JSON values. Texts stay raw here: the templates escape them."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

from saebench.errors import SaebenchError
from saebench.leaderboard.site.numbers import decimals, interval, number

Json = dict[str, Any]
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._~-]{0,99}")


def page_name(name: str) -> str:
    """Return ``name`` if it can be the name of a file.

    Raises SaebenchError otherwise, because it could lead out of the site's folder.
    """
    if not FILE_NAME.fullmatch(name):
        raise SaebenchError(f"{name[:100]!r} cannot be the name of a page; build the board's data again with saebench.")
    return name


def stratum(content: Json, number_on_page: int) -> Json:
    """Return one section of the board: the headers of its table, and the data of its scripts, ``payload``."""
    metrics = [_column(index, metric, content["rows"]) for index, metric in enumerate(content["metrics"])]
    rows = [_row(row, content["metrics"]) for row in content["rows"]]
    incomplete = [row for row in rows if _is_incomplete(row)]
    listed = [row for row in rows if not _is_incomplete(row)]
    by_task = [(task, _with_choice(list(columns))) for task, columns in groupby(metrics, key=lambda m: m["task"])]
    return {
        **{key: content[key] for key in ("model", "hook", "width", "preset")},
        "id": f"stratum-{number_on_page}",
        "metrics": metrics,
        "by_task": by_task,
        "decided": any(metric["ranked"] for metric in metrics),
        "drawn": any(row["l0"] for row in rows),
        "architectures": sorted({row["arch"] for row in rows}),
        "ranked": sum(row["place"] is not None for row in rows),
        "controls": sum(row["control"] for row in rows),
        "incomplete": len(incomplete),
        "groups": any(row["group"] for row in content["rows"]),
        "without_l0": sum(row["l0"] is None for row in rows),
        "payload": {"metrics": metrics, "listed": listed, "incomplete": incomplete},
    }


def _is_incomplete(row: Json) -> bool:
    return row["place"] is None and not row["control"] and row["done"] < row["of"]


def _with_choice(columns: list[Json]) -> list[Json]:
    """Mark the metric that the plot of a task begins with: the first that decides ranks, or otherwise the first."""
    first = next((column for column in columns if column["ranked"]), columns[0])
    return [{**column, "first_choice": column is first} for column in columns]


def _column(index: int, metric: Json, rows: list[Json]) -> Json:
    label = metric["title"] + (f" ({metric['subset']})" if metric["subset"] else "")
    places = decimals(row["values"].get(metric["key"]) for row in rows)
    return {
        **{key: metric[key] for key in ("task", "unit", "ranked")},
        "grade": metric.get("grade"),  # boards of older versions have none
        "index": index,
        "better": metric["higher_is_better"],
        "label": label,
        "decimals": places,
        "note": _note(metric),
    }


def _note(metric: Json) -> str:
    """Return the text that a header shows under the mouse pointer."""
    direction = {True: "Higher is better.", False: "Lower is better.", None: "Neither direction is better."}
    chance = "" if metric["chance"] is None else f"Chance: {metric['chance']:g}."
    ranked = "Decides ranks." if metric["ranked"] else "Shown, not ranked."
    grade = f"Grade {metric['grade']}: {metric['grade_reason']}" if metric.get("grade") else ""
    unit, better = f"Unit: {metric['unit']}.", direction[metric["higher_is_better"]]
    parts = [metric["description"], unit, better, chance, ranked, grade]
    return " ".join(part for part in parts if part)


def _row(row: Json, metrics: list[Json]) -> Json:
    """Return a row for the scripts.

    A cell is ``[value, low, high]``, the reason why it is not scored, or 0 where it was not measured.
    """
    rank = row["rank"] or {}
    return {
        "page": page_name(row["id"]),
        "sae": row["sae"],
        "arch": row["architecture"],
        "d": row["d_sae"],
        "l0": row["l0"],
        "control": bool(row["control"]),
        "unranked": row.get("unranked", ""),  # boards of older versions have none
        "done": row["completed"],
        "of": row["of"],
        "place": rank.get("place"),
        "shared": rank.get("shared_to"),
        "mean": rank.get("mean"),
        "low": rank.get("low"),
        "high": rank.get("high"),
        "cells": [_cell(row["values"].get(metric["key"])) for metric in metrics],
    }


def _cell(value: Json | None) -> list[float | None] | str | int:
    if value is None:
        return 0
    if value["value"] is None:
        return value["not_scored"] or "not scored"
    return [_brief(value[key]) for key in ("value", "ci_low", "ci_high")]


def _brief(value: float | None) -> float | None:
    """Round to six significant digits, more than any column shows. It halves the size of a board of many rows."""
    return None if value is None else float(f"{value:.6g}")


def places(strata: list[Json]) -> dict[str, list[Json]]:
    """Return the rows of the board by the page of their SAE."""
    by_page: dict[str, list[Json]] = {}
    for content in strata:
        ranked = sum(row["rank"] is not None for row in content["rows"])
        for row in content["rows"]:
            where = {key: content[key] for key in ("model", "hook", "width", "preset")}
            by_page.setdefault(row["id"], []).append({**where, "row": row, "ranked": ranked})
    return by_page


def record(content: Json, card: Json) -> Json:
    """Return a record with its measurements as text: numbers over all of the data, and those of subsets separately."""
    specs = {metric["id"]: metric for metric in card["metrics"]}
    lines = [_line(measurement, specs.get(measurement["metric"], {})) for measurement in content["measurements"]]
    return {
        **content,
        "title": card["title"],
        "whole": [line for line in lines if not line["subset"]],
        "subsets": [line for line in lines if line["subset"]],
    }


def _line(measurement: Json, spec: Json) -> Json:
    places = decimals([measurement])
    return {
        "title": spec.get("title", measurement["metric"]),
        "metric": measurement["metric"],
        "subset": measurement["subset"],
        "primary": spec.get("primary", False),
        "scored": measurement["value"] is not None,
        "reason": measurement["not_scored"] or "not scored",
        "value": number(measurement["value"], places),
        "interval": interval(measurement["ci_low"], measurement["ci_high"], places),
        "chance": spec.get("chance"),
        "unit": spec.get("unit", ""),
        "better": spec.get("higher_is_better"),
        "n": measurement["n"],
        "per": measurement["unit"],
        "method": measurement["interval"],
    }
