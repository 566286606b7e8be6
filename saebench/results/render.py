"""The wide table for readers: a row per SAE or group, a column per metric, and every number with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from saebench import safe_text
from saebench.cards.audits import graded
from saebench.results.record import GROUP

# The key of evaluated tokens, in a record's counts and (by record id) in ``frame.attrs``.
TOKENS = "tokens"

_SCIENTIFIC_FROM = 1e6
_SCIENTIFIC_BELOW = 1e-4
_SIGNIFICANT = 4
_INTERVALS = "value [interval]"
_LEADING = ("SAE", "seed", "record", "L0")  # the columns before those of metrics


@dataclass(frozen=True)
class WideTable:
    """One table: a caption of what all its rows share (task, language model, hook, preset, n), and cells of text."""

    caption: str
    cells: pd.DataFrame

    def to_markdown(self) -> str:
        foreign, separator, own = self.caption.rpartition(f" · {_INTERVALS}")
        caption = safe_text.markdown(foreign if separator else own)
        return f"{caption}{separator}\n\n{markdown(self.cells)}"


def to_wide(frame: pd.DataFrame, columns: Mapping[str, Sequence[str]] | None = None) -> list[WideTable]:
    """Return readable tables of ``frame``: one per task, version, preset, language model and hook.

    Single SAEs and groups of SAEs have separate tables. SAEs come first, then controls. The row of a failed record
    says why it failed.

    Args:
        frame: A table of `saebench.results.table`.
        columns: The metrics to show, in order, by task. A task that it does not name shows its primary metrics, or
            all metrics if none is known to be primary. Metrics that no row has are left out.
    """
    tokens = frame.attrs.get(TOKENS, {})
    wanted = columns or {}
    return [_table(group, wanted.get(str(group["task"].iloc[0])), tokens) for group in _groups(frame)]


def markdown(cells: pd.DataFrame) -> str:
    """Return ``cells`` as a Markdown table, in which every text, also that of headers, is only text.

    See `saebench.safe_text.markdown`.
    """
    text = cells.map(_cell).rename(columns=_cell)
    return str(text.to_markdown(index=False, disable_numparse=True))


def _cell(cell: object) -> object:
    return safe_text.markdown(cell) if isinstance(cell, str) else cell


def format_number(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Return a number with its interval, such as ``0.905 [0.897, 0.912]``.

    The width of the interval is shown with two significant digits, which decides the rounding. The number has four
    significant digits at most, because an L0 that is known to six is easier to read as ``32.00``. Records hold every
    digit.
    """
    if math.isnan(value):
        return "not scored"
    width = high - low
    if not math.isfinite(width):
        return f"{value:.4g}"
    largest = max(abs(value), abs(low), abs(high))
    if width <= 0 or largest == 0:
        return f"{value:.4g} [{low:.4g}, {high:.4g}]"
    digits = 1 - math.floor(math.log10(width))  # decimals that show two digits of the width
    if largest >= _SCIENTIFIC_FROM or largest < _SCIENTIFIC_BELOW:
        digits = min(max(digits + math.floor(math.log10(largest)), 1), _SIGNIFICANT - 1)
        return f"{value:.{digits}e} [{low:.{digits}e}, {high:.{digits}e}]"
    digits = max(min(digits, _SIGNIFICANT - 1 - math.floor(math.log10(largest))), 0)
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _groups(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """Split the rows into tables. A failed record may not know its hook; it joins the first table that it fits."""
    of_groups = frame["sae"].str.startswith(GROUP).rename("of groups")  # groups have other metrics than single SAEs
    keys = ["task", "task_version", "preset", "model", of_groups]
    groups = []
    for _, rows in frame.groupby(keys, sort=True):
        hooks = sorted(set(rows["hook"]) - {""}) or [""]
        for hook in hooks:
            also = "" if hook == hooks[0] else hook
            groups.append(rows[rows["hook"].isin([hook, also])])
    return groups


def _table(rows: pd.DataFrame, wanted: Sequence[str] | None, tokens: Mapping[str, int]) -> WideTable:
    shown = _shown(rows, wanted)
    records = {str(record): numbers for record, numbers in rows.groupby("record_id", sort=False)}

    def position(record: str) -> tuple[bool, str, int, str]:
        head = records[record].iloc[0]
        return bool(head["control"]), head["sae"], head["seed"], record

    several_seeds = rows["seed"].nunique() > 1
    ambiguous = rows.groupby(["sae", "seed"])["record_id"].nunique().gt(1).any()
    lines = []
    for record in sorted(records, key=position):
        numbers = records[record]
        head = numbers.iloc[0]
        line = {"SAE": f"{head['sae']} (control)" if head["control"] else head["sae"]}
        if several_seeds:
            line["seed"] = str(head["seed"])
        if ambiguous:  # one SAE was measured with several settings
            line["record"] = record[:8]
        if ("l0", "") not in shown and rows["l0"].notna().any():
            line["L0"] = "" if math.isnan(head["l0"]) else f"{head['l0']:.4g}"
        lines.append(line | _cells(numbers, shown))
    return WideTable(_caption(rows, shown, tokens), pd.DataFrame(lines).fillna(""))


def _shown(rows: pd.DataFrame, wanted: Sequence[str] | None) -> dict[tuple[str, str], str]:
    """Return (metric, subset) -> column header. A metric without a number over all of the data shows its subsets."""
    numbers = rows[rows["metric"] != ""]
    if wanted is None:
        primary = numbers[numbers["primary"].fillna(False)]
        wanted = list(dict.fromkeys((numbers if primary.empty else primary)["metric"]))
    headers = {}
    for metric in wanted:
        of_metric = numbers[numbers["metric"] == metric]
        subsets = dict.fromkeys(of_metric["subset"])
        for subset in [""] if "" in subsets else subsets:
            label = f"{metric} ({subset})" if subset else metric
            label = f"{label} (metric)" if label in _LEADING else label
            headers[metric, subset] = graded(f"{label} {_arrow(of_metric)}".rstrip(), _grade(of_metric))
    return headers


def _arrow(numbers: pd.DataFrame) -> str:
    directions = set(numbers["higher_is_better"].dropna())
    return {frozenset([True]): "↑", frozenset([False]): "↓"}.get(frozenset(directions), "")


def _grade(numbers: pd.DataFrame) -> str:
    grades = set(numbers["grade"]) if "grade" in numbers else set()
    return str(grades.pop()) if len(grades) == 1 else ""


def _cells(numbers: pd.DataFrame, shown: Mapping[tuple[str, str], str]) -> dict[str, str]:
    head = numbers.iloc[0]
    if head["status"] != "ok":
        first = next(iter(shown.values()), "result")
        return dict.fromkeys(shown.values(), "") | {first: f"{head['status'].replace('_', ' ')}: {head['error']}"}
    values = {
        (metric, subset): format_number(value, low, high)
        for metric, subset, value, low, high in zip(
            *(numbers[column] for column in ("metric", "subset", "value", "ci_low", "ci_high")), strict=True
        )
    }
    return {header: values.get(key, "") for key, header in shown.items()}


def _caption(rows: pd.DataFrame, shown: Mapping[tuple[str, str], str], tokens: Mapping[str, int]) -> str:
    head = rows.iloc[0]
    hook = next((hook for hook in rows["hook"] if hook), "hook unknown")
    parts = [f"{head['task']} v{head['task_version']}", f"preset {head['preset']}", head["model"], hook]
    if rows["seed"].nunique() == 1:
        parts.append(f"seed {head['seed']}")
    metrics = {metric for metric, _ in shown}
    counted = rows[rows["metric"].isin(metrics) & rows["n"].notna()]
    sizes = [
        f"n = {_range(group['n'])} {unit}{'s' if group['n'].max() != 1 else ''}"
        for unit, group in counted.groupby("unit", sort=False)
    ]
    parts += sizes
    # The share of latents that fire depends on how much text was read.
    if seen := {tokens[record] for record in rows["record_id"] if record in tokens}:
        parts.append(f"{' to '.join(f'{count:,}' for count in sorted({min(seen), max(seen)}))} tokens")
    if counted["ci_low"].notna().any():
        parts.append(_INTERVALS)
    return " · ".join(parts)


def _range(counts: pd.Series[int]) -> str:
    low, high = counts.min(), counts.max()
    return str(low) if low == high else f"{low} to {high}"
