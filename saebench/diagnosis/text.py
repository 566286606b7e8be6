"""A diagnosis as text: a table of 80 columns, and the verdict in one sentence."""

from __future__ import annotations

from collections.abc import Iterator

from saebench.diagnosis.diagnose import Diagnosis
from saebench.diagnosis.verdict import Outcome, Row
from saebench.safe_text import short

_LABEL = 46
_HEAD = f"{'variant':<{_LABEL}}  {'FVU':>8}  {'FVU std.':>8}  {'L0':>8}"


def table(diagnosis: Diagnosis) -> str:
    """Return the table of all variants, the best standardised FVU first. A star marks the SAE as it is loaded."""
    rows = sorted((diagnosis.loaded, *diagnosis.others), key=lambda row: row.standardised)
    return "\n".join([_HEAD, "-" * len(_HEAD), *(_line(row, row is diagnosis.loaded) for row in rows)])


def sentence(diagnosis: Diagnosis) -> str:
    """Return the verdict."""
    verdict, loaded, known = diagnosis.verdict, diagnosis.loaded, diagnosis.published
    judged = sum(row.variant.judged for row in diagnosis.others)
    if verdict.outcome is Outcome.OTHER and (best := verdict.best) is not None:
        return (
            f"It looks as if {best.variant.finding} (FVU {loaded.fvu:.3g} -> {best.fvu:.3g}, standardised "
            f"{loaded.standardised:.3g} -> {best.standardised:.3g}, L0 {loaded.l0:.4g} -> {best.l0:.4g}); "
            f"try this: {best.variant.fix}"
        )
    if verdict.outcome is Outcome.NOTHING:
        return f"Nothing tried fits: {verdict.reason}, and none of {judged} variants fits clearly better."
    numbers = " and ".join(_known(diagnosis))
    compared = f" ({numbers} according to {known.source})" if numbers else ""
    return (
        f"It is loaded right: FVU is {loaded.fvu:.3g} and L0 {loaded.l0:.4g}{compared}, and none of {judged} variants "
        "fits clearly better."
    )


def _known(diagnosis: Diagnosis) -> Iterator[str]:
    if diagnosis.published.fvu is not None:
        yield f"FVU {diagnosis.published.fvu:.3g}"
    if diagnosis.published.l0 is not None:
        yield f"L0 {diagnosis.published.l0:.4g}"


def _line(row: Row, loaded: bool) -> str:
    label = short(("* " if loaded else "  ") + row.variant.label, _LABEL) if loaded else f"  {row.variant.label}"
    if len(label) > _LABEL:
        label = f"{label[: _LABEL - 1]}…"
    return f"{label:<{_LABEL}}  {_number(row.fvu):>8}  {_number(row.standardised):>8}  {_number(row.l0):>8}".rstrip()


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.1e}"
