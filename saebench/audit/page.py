"""The tables of docs/reliability.md, made from audits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tabulate import tabulate

from saebench.audit.components import decided
from saebench.audit.text import mark, name
from saebench.cards.audits import LENSES, Audit, Figure, Finding, Lens, MetricAudit, stale

Audits = Sequence[Audit]


def _entries(audits: Audits) -> list[tuple[Audit, MetricAudit]]:
    return [(audit, entry) for audit in audits for entry in audit.metrics]


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return tabulate(lines, headers=heads, tablefmt="pipe", disable_numparse=True)


def _who(audit: Audit, entry: MetricAudit) -> str:
    return f"{audit.task}: `{name(entry)}`"


def figure(number: Figure | None, form: str = ".2g") -> str:
    """Return a figure with its interval, such as ``0.91 [0.75, 0.97]``."""
    if number is None or number.value is None:
        return ""
    value = format(number.value, form)
    if number.ci_low is None or number.ci_high is None:
        return value
    return f"{value} [{number.ci_low:{form}}, {number.ci_high:{form}}]"


def grades(audits: Audits) -> str:
    """Return the table of metrics, lenses and grades."""
    lines = [
        [_who(audit, entry), f"**{entry.grade}**", *(mark(entry.lenses.get(lens)) for lens in LENSES)]
        for audit, entry in _entries(audits)
    ]
    return _table(["metric", "grade", *LENSES], lines)


def reasons(audits: Audits) -> str:
    """Return a line for each metric on what decided its grade, and a line for each audit that has expired."""
    lines = [f"- {_who(audit, entry)}, **{entry.grade}**. {entry.reason}" for audit, entry in _entries(audits)]
    lines += [f"- {sentence}" for audit in audits if (sentence := stale(audit.task))]
    return "\n".join(lines)


def noise(audits: Audits) -> str:
    """Return the noise of each metric beside the differences that it must tell apart."""
    lines = []
    for audit, entry in _entries(audits):
        found = _figures(entry, "noise")
        if not found:
            continue
        components = entry.components
        lines.append(
            [
                _who(audit, entry),
                figure(found.get("run")),
                figure(found.get("reliable")),
                figure(found.get("share")),
                figure(_figures(entry, "training").get("effect")),
                "" if components is None else f"{decided(components):.2g} ({components.n} {components.unit}s)",
            ]
        )
    heads = ["metric", "sd of a run", "reliable difference", "noise share", "trained - controls, in sd", "decides"]
    return _table(heads, lines)


def truth(audits: Audits) -> str:
    """Return how each metric orders SAEs of known quality, along training and beside controls."""
    lines = []
    for audit, entry in _entries(audits):
        known, trained = _figures(entry, "truth"), _figures(entry, "training")
        if not (known or trained):
            continue
        separations = [figure(trained.get(f"separation on {where}")) for where in ("bundled", "planted")]
        correlations = [figure(known.get("correlation")), figure(trained.get("correlation"))]
        lines.append([_who(audit, entry), *correlations, *separations])
    return _table(["metric", "with the truth", "with training", "beats controls (bundled)", "(planted)"], lines)


def gaming(audits: Audits) -> str:
    """Return which degenerate SAEs do well by each metric, and what rewriting an SAE changes."""
    lines = []
    for audit, entry in _entries(audits):
        found, rewritten = entry.lenses.get("gaming"), entry.lenses.get("invariance")
        if found is None or found.passed is None:
            continue
        who = ", ".join(f"`{sae}`" for sae in found.names) or "none"
        lines.append([_who(audit, entry), found.worst, who, "" if rewritten is None else _largest(rewritten)])
    return _table(["metric", "grade", "degenerate SAEs that do well", "rewriting moves it by"], lines)


def made(audits: Audits) -> str:
    """Return how the audits were made."""
    lines = []
    for audit in audits:
        how = audit.provenance
        commit = str(how.get("git_commit") or "")[:12]
        minutes = float(how.get("wall_seconds") or 0.0) / 60
        what = [f"{audit.task} v{audit.task_version}", audit.size, str(audit.seed), str(audit.records)]
        lines.append([*what, f"{minutes:.1f}", str(how.get("device", "")), commit])
    return _table(["task", "size", "seed", "records", "minutes", "machine", "commit"], lines)


def again(audits: Audits, other: Audits) -> str:
    """Return the grades of two audits from different seeds side by side, and the lenses that judge differently."""
    found = {_who(audit, entry): entry for audit, entry in _entries(other)}
    lines = []
    for audit, entry in _entries(audits):
        who = _who(audit, entry)
        if (second := found.get(who)) is None:
            continue
        differ = [
            f"{lens} {mark(entry.lenses[lens])}, {mark(second.lenses[lens])}"
            for lens in LENSES
            if lens in entry.lenses and lens in second.lenses and entry.lenses[lens].worst != second.lenses[lens].worst
        ]
        lines.append([who, entry.grade, second.grade, "; ".join(differ)])
    return _table(["metric", *(f"seed {seeds(each)}" for each in (audits, other)), "lenses that differ"], lines)


def seeds(audits: Audits) -> str:
    """Return the first seeds of some audits, such as ``0``."""
    return ", ".join(sorted({str(audit.seed) for audit in audits}))


BLOCKS: Mapping[str, Callable[[Audits], str]] = {
    "grades": grades,
    "reasons": reasons,
    "noise": noise,
    "truth": truth,
    "gaming": gaming,
    "made": made,
}


def _figures(entry: MetricAudit, lens: Lens) -> dict[str, Figure]:
    found = entry.lenses.get(lens)
    return {} if found is None else found.figures


def _largest(found: Finding) -> str:
    values = [shift.value for shift in found.figures.values() if shift.value is not None]
    return f"{max(values):.2g}" if values else ""
