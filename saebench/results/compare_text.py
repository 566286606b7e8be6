"""A comparison as text for a terminal, as Markdown, and as JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tabulate import tabulate

from saebench.cards.audits import graded
from saebench.results.compare import LEVEL, Comparison, Excluded, Line, Pair
from saebench.results.paired import UNPAIRED, Scored
from saebench.results.record import Record
from saebench.results.render import format_number
from saebench.safe_text import json_text, markdown, visible
from saebench.stats.intervals import CONFIDENCE

Layout = Literal["text", "md"]
_ESCAPE = {"text": visible, "md": markdown}
_FEW = 4  # how many names a summary line spells out
_L0_ALIKE = 1.1
_LEAST_P = 1e-4


def to_text(comparison: Comparison, layout: Layout = "text") -> str:
    """Return the comparison as text: the SAEs, a table for each task, what was not compared, and how to read it."""
    parts = [_header(comparison.pairs, layout)]
    parts += [_table(pair, layout) for pair in comparison.pairs if pair.lines]
    if comparison.excluded:
        bullets = [f"- {_ESCAPE[layout](text)}" for text in summaries(comparison.excluded)]
        parts.append("Not compared:\n" + ("\n" if layout == "md" else "") + "\n".join(bullets))
    parts.append(_footer(comparison))
    return "\n\n".join(parts)


def to_json(comparison: Comparison) -> str:
    """Return the comparison as JSON, with numbers in full, and null where there is no interval."""
    pairs = comparison.pairs
    a, b = map(_sae, _subjects(pairs)) if pairs else (None, None)
    content = {
        "a": a,
        "b": b,
        "confidence": CONFIDENCE,
        "level": LEVEL,
        "tests": _tests(comparison),
        "differences": [_fields(pair, line) for pair in pairs for line in pair.lines],
        "not_compared": [
            {"task": entry.task, "metric": entry.metric, "subset": entry.subset, "reason": entry.reason}
            for entry in comparison.excluded
        ],
        "more": comparison.more,
    }
    return json_text(json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False))


def signed(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Return a difference such as ``+0.041 [+0.036, +0.046]``, rounded as `format_number` does, always with a sign."""
    if not math.isfinite(value):
        return "not scored"
    first, *ends = (_with_sign(text) for text in re.findall(r"[-+.\de]+", format_number(value, low, high)))
    return f"{first} [{', '.join(ends)}]" if ends else first


def _with_sign(number: str) -> str:
    if float(number) == 0:
        return number.removeprefix("-")
    return number if number.startswith("-") else f"+{number}"


def name(metric: str, subset: str) -> str:
    """Return the name of a number on one line."""
    return visible(f"{metric} ({subset})" if subset else metric)


def _header(pairs: Sequence[Pair], layout: Layout) -> str:
    a, b = _subjects(pairs)
    bullet = "- " if layout == "md" else ""
    who = [f"{side}: {record.sae.name} ({', '.join(_facts(record))})" for side, record in (("A", a), ("B", b))]
    return "\n".join(f"{bullet}{_ESCAPE[layout](line)}" for line in [*who, *_notes(a, b)])


def _subjects(pairs: Sequence[Pair]) -> tuple[Record, Record]:
    """Return a record of each SAE, if possible one that holds its L0, which not every task measures."""
    sides = [pair.a for pair in pairs], [pair.b for pair in pairs]
    a, b = (next((record for record in side if record.sae.l0 is not None), side[0]) for side in sides)
    return a, b


def _facts(record: Record) -> list[str]:
    sae = record.sae
    l0 = [f"L0 {sae.l0:.4g}"] if sae.l0 is not None else []
    return [sae.architecture, f"{sae.d_sae:,} latents", *l0, *(["control"] if sae.control else [])]


def _notes(one: Record, other: Record) -> list[str]:
    """Return sentences on what else differs between the two, and what that means for the verdicts."""
    a, b = one.sae, other.sae
    notes = []
    if a.hook != b.hook:
        notes.append(f"They read different sites ({a.hook} and {b.hook}), on which most metrics depend.")
    if a.l0 and b.l0 and max(a.l0, b.l0) > _L0_ALIKE * min(a.l0, b.l0):
        notes.append("Their L0 differ, and most metrics depend on sparsity: no verdict here is at equal sparsity.")
    if a.d_sae != b.d_sae:
        notes.append("Their numbers of latents differ, on which many metrics depend.")
    if (x := one.identity.device_class) != (y := other.identity.device_class):
        notes.append(f"They were measured on different devices ({x} and {y}), which alone may change the last digits.")
    return notes


def _table(pair: Pair, layout: Layout) -> str:
    who, preset = pair.a.identity, dict.fromkeys([pair.a.preset, pair.b.preset])
    hooks = dict.fromkeys([pair.a.sae.hook, pair.b.sae.hook])
    caption = _ESCAPE[layout](
        " · ".join(
            [
                f"{who.task} v{who.task_version}",
                f"preset {' and '.join(preset)}",
                who.model,
                " and ".join(hooks),
                f"seed {who.seed}",
            ]
        )
    )
    heads = ["metric", "A", "B", "B - A [95 % interval]", "reliable from", "p (Holm)", "B is", "units"]
    cells = [_cells(line, layout) for line in pair.lines]
    body = tabulate(
        cells,
        headers=heads,
        tablefmt="pipe" if layout == "md" else "simple",
        disable_numparse=True,
        colalign=("left", "right", "right", "left", "left", "right", "left", "left"),
    )
    return f"{caption}\n\n{body}" if layout == "md" else f"{caption}\n{body}"


def _cells(line: Line, layout: Layout) -> list[str]:
    change = line.difference
    arrow = {True: " ↑", False: " ↓", None: ""}[line.higher_is_better]
    tested = _tested(line)
    return [
        _ESCAPE[layout](graded(f"{name(line.metric, line.subset)}{arrow}", line.grade)),
        _value(line.a),
        _value(line.b),
        signed(change.value, change.ci_low, change.ci_high),
        f"{line.reliable:.2g} ({line.reliable_holm:.2g})" if tested else "",
        _p(line.p_holm) if tested else "no interval",
        line.verdict.value if line.verdict else "",
        _ESCAPE[layout](_units(line)),
    ]


def _value(number: Scored) -> str:
    return "" if number.value is None else format_number(number.value)


def _p(p: float) -> str:
    return f"<{_LEAST_P:.4f}" if p < _LEAST_P else f"{p:.2g}"


def _units(line: Line) -> str:
    change, unit = line.difference, line.a.unit
    counted = f"{change.n:,} {unit}{'' if change.n == 1 else 's'}" if unit and change.n else ""
    return ", ".join(filter(None, [counted, "unpaired" if change.method == UNPAIRED else ""]))


def summaries(excluded: Sequence[Excluded]) -> list[str]:
    """Return one line for all numbers of a task that are excluded for the same reason."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for entry in excluded:
        names = grouped.setdefault((entry.task, entry.reason), [])
        if entry.metric:
            names.append(name(entry.metric, entry.subset))
    return [
        f"{visible(task)}{_few(names)}: {visible(reason).rstrip('.')}." for (task, reason), names in grouped.items()
    ]


def _few(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return f" {', '.join(names[:_FEW])}{more}"


def _tests(comparison: Comparison) -> int:
    return sum(map(_tested, comparison.lines()))


def _tested(line: Line) -> bool:
    return not math.isnan(line.difference.p)


def _footer(comparison: Comparison) -> str:
    lines = [
        f"B is better or worse than A where p < {LEVEL:g} after Holm's correction for the {_tests(comparison)} numbers "
        "tested here; elsewhere it is undecided. For metrics without an arrow, neither direction is better.",
        "Reliable from: the smallest difference that would count at this noise if the metric were the only one, and in "
        "brackets beside the others.",
        "Intervals (not corrected) cover the choice of units, not retraining: unless the units are runs, another "
        "training seed may change a number by more. Compare several seeds before you conclude anything about a method.",
    ]
    if any(line.difference.method == UNPAIRED and _tested(line) for line in comparison.lines()):
        lines.append(
            "Unpaired: the records share no units. If the data are the same, the interval is wider than necessary."
        )
    if comparison.more:
        lines.append(f"{comparison.more:,} more numbers are in both records: --all and --subsets show them.")
    return "\n".join(lines)


def _sae(record: Record) -> dict[str, Any]:
    return {
        "sae": record.identity.sae,
        "fingerprint": record.identity.sae_fingerprint,
        **record.sae.model_dump(include={"name", "architecture", "hook", "d_in", "d_sae", "l0", "control"}),
    }


def _fields(pair: Pair, line: Line) -> dict[str, Any]:
    who, change = pair.a.identity, line.difference
    return {
        "task": who.task,
        "task_version": who.task_version,
        "preset": pair.a.preset,
        "model": who.model,
        "seed": who.seed,
        "metric": line.metric,
        "subset": line.subset,
        "higher_is_better": line.higher_is_better,
        "primary": line.primary,
        "grade": line.grade or None,
        "a": _number(line.a) | {"record_id": pair.a.record_id},
        "b": _number(line.b) | {"record_id": pair.b.record_id},
        "difference": change.value,
        "stderr": change.stderr,
        "ci_low": change.ci_low,
        "ci_high": change.ci_high,
        "p": change.p,
        "p_holm": line.p_holm,
        "reliable": line.reliable,
        "reliable_holm": line.reliable_holm,
        "verdict": line.verdict,
        "n": change.n,
        "unit": line.a.unit,
        "method": change.method,
    }


def _number(number: Scored) -> dict[str, Any]:
    return {key: getattr(number, key) for key in ("value", "stderr", "ci_low", "ci_high")}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
