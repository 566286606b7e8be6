"""The rules of grading: what each lens must find for a metric to rank SAEs. docs/reliability.md explains them.

The limits were set before the first audit was run. A change of them raises `RULES`, because grades of other rules do
not compare. Rules 2 treat metrics that ignore the decoder as such: under rules 1, whether a permuted decoder counted as
a failure depended on how many trained SAEs were worse than the one that it was made from. Rules 3 do the same for
adversaries that only break the decoder of a trained SAE.

A grade is the worst that any lens allows. Where a lens could not be used, the metric cannot have the grade A.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from saebench.audit.lenses import Noise
from saebench.cards.audits import LENSES, Figure, Finding, Lens, Letter

RULES = 3


@dataclass(frozen=True)
class Limits:
    """The limits of grades. The first number of a pair is the limit of A and the second that of B; beyond is a C."""

    truth: tuple[float, float] = (0.8, 0.5)  # the least rank correlation with known quality
    truth_low: float = 0.5  # the least lower end of its interval, for A
    training: tuple[float, float] = (0.8, 0.5)  # the least rank correlation with training steps
    separation: tuple[float, float] = (1.0, 0.9)  # the least share of pairs in which a trained SAE beats a control
    noise: tuple[float, float] = (0.2, 0.5)  # the largest share of noise in the spread between SAEs
    rounding: float = 0.05  # how much of the reliable difference rewriting an SAE may move a value, for A
    relative: float = 1e-3  # or how much of the value


LIMITS = Limits()


def grade(findings: Mapping[Lens, Finding]) -> tuple[Letter, str]:
    """Return the grade of a metric and the reason for it.

    Args:
        findings: What each lens saw. A lens that is missing counts as one that could not be used.
    """
    seen = [findings.get(lens) or unmeasured(lens) for lens in LENSES]
    letter: Letter = max((finding.worst for finding in seen), default="C")
    deciding = [finding.says for finding in seen if finding.worst == letter]
    return letter, "Every lens finds it sound." if letter == "A" else " ".join(deciding)


def unmeasured(lens: Lens) -> Finding:
    """Return the finding of a lens that could not be used."""
    return Finding(passed=None, worst="B", says=f"The lens {lens!r} could not be used.")


def undirected() -> dict[Lens, Finding]:
    """Return the findings on a metric of which neither direction is better."""
    says = "It describes SAEs: no SAE is better than another by it."
    return {lens: Finding(passed=None, worst="C", says=says) for lens in LENSES[:1]}


def judge_noise(seen: Noise, limits: Limits = LIMITS) -> Finding:
    """Judge how much of the spread between trained SAEs comes from the seed of the evaluation."""
    figures = {"run": seen.run, "pair": seen.pair, "reliable": seen.reliable, "share": seen.share}
    if seen.share.value is None or seen.reliable.value is None:
        return Finding(passed=None, worst="B", says="Its noise could not be measured.", figures=figures)
    letter = _at_most(seen.share.value, limits.noise)
    says = (
        f"Of the spread between trained SAEs, {seen.share.value:.0%} is noise of the evaluation, and two SAEs must "
        f"differ by {seen.reliable.value:.2g}."
    )
    return Finding(passed=letter == "A", worst=letter, says=says, figures=figures)


def judge_truth(correlation: Figure, better_than_oracle: Sequence[str], limits: Limits = LIMITS) -> Finding:
    """Judge whether the metric orders SAEs by their known quality.

    Args:
        correlation: The rank correlation with the known quality over the panel.
        better_than_oracle: Members of the panel that the metric puts above the SAE that holds the true features.
        limits: What the grades demand.
    """
    figures, names = {"correlation": correlation}, list(better_than_oracle)
    if correlation.value is None:
        return Finding(passed=None, worst="B", says="It could not be compared with known features.", figures=figures)
    letter = _at_least(correlation.value, limits.truth)
    if letter == "A" and (names or correlation.ci_low is None or correlation.ci_low < limits.truth_low):
        letter = "B"
    says = f"On SAEs of known quality its rank correlation with the truth is {correlation.value:.2f}."
    if names:
        says += f" It puts {_few(names)} above the SAE that holds the true features."
    return Finding(passed=letter == "A", worst=letter, says=says, figures=figures, names=names)


def judge_training(
    correlation: Figure,
    separations: Mapping[str, Figure],
    effect: Figure,
    controls: Sequence[str],
    limits: Limits = LIMITS,
    *,
    blind: bool = False,
) -> Finding:
    """Judge whether the metric rises with training and tells trained SAEs from controls.

    Args:
        correlation: The rank correlation of the metric with the number of training steps.
        separations: The share of pairs in which a trained SAE beats a control, by model.
        effect: How far trained SAEs lie above controls, in standard deviations of one evaluation.
        controls: The controls that do not lie below all trained SAEs.
        limits: What the grades demand.
        blind: Whether the metric ignores the decoder. A permuted decoder is then no control, and there is no A.
    """
    figures = {"correlation": correlation, "effect": effect}
    figures |= {f"separation on {model}": figure for model, figure in separations.items()}
    known = [figure.value for figure in separations.values() if figure.value is not None]
    if not known and correlation.value is None:
        return Finding(passed=None, worst="B", says="It was not compared along training.", figures=figures)
    letters: list[Letter] = [_at_least(value, limits.separation) for value in known]
    parts = []
    if correlation.value is not None:
        letters.append(_at_least(correlation.value, limits.training))
        parts.append(f"Its rank correlation with the length of training is {correlation.value:.2f}.")
    if known:
        parts.append(f"Trained SAEs beat controls in {min(known):.0%} of the pairs.")
    if controls:
        parts.append(f"Not all trained SAEs lie above {_few(controls)}.")
    if blind:
        parts.append("It ignores the decoder: with permuted decoder rows an SAE has the same value.")
    whole = bool(known) and correlation.value is not None and not blind
    letter: Letter = max(letters) if whole else max([*letters, "B"])
    return Finding(passed=letter == "A", worst=letter, says=" ".join(parts), figures=figures, names=list(controls))


def judge_precision(shift: Figure, batch: Figure, reliable: Figure) -> Finding:
    """Judge what the number type and the batch size change. No board mixes number types, so this costs an A at most.

    Args:
        shift: The largest difference of one SAE's value in float32 and in bfloat16.
        batch: The largest difference of one SAE's value between batch sizes.
        reliable: The least difference of two SAEs that noise does not explain.
    """
    figures = {"float32 to bfloat16": shift, "batch size": batch}
    if shift.value is None or batch.value is None or reliable.value is None:
        return Finding(passed=None, worst="B", says="What rounding changes could not be measured.", figures=figures)
    largest = max(shift.value, batch.value)
    sound = largest <= reliable.value
    says = (
        f"The number type moves it by {shift.value:.2g} and the batch size by {batch.value:.2g}, "
        f"{'less' if sound else 'more'} than noise does ({reliable.value:.2g})."
    )
    return Finding(passed=sound, worst="A" if sound else "B", says=says, figures=figures)


def judge_gaming(winners: Sequence[str], above_median: Sequence[str], recognised: Sequence[str], tried: int) -> Finding:
    """Judge whether a degenerate SAE scores well.

    Args:
        winners: Adversaries that boards would rank and that reach or beat every trained SAE.
        above_median: Adversaries that boards would rank and that reach or beat half of the trained SAEs.
        recognised: Adversaries that beat every trained SAE and that boards refuse to rank, because their code is dense.
        tried: How many adversaries were scored.
    """
    figures = {"tried": Figure(value=float(tried)), "winners": Figure(value=float(len(winners)), n=tried)}
    if not tried:
        return Finding(passed=None, worst="B", says="No degenerate SAE could be scored.", figures=figures)
    if winners:
        says = f"Degenerate SAEs win: {_few(winners)}."
        return Finding(passed=False, worst="C", says=says, figures=figures, names=list(winners))
    if above_median:
        says = f"{_few(above_median)} beat half of the trained SAEs."
        return Finding(passed=False, worst="B", says=says, figures=figures, names=list(above_median))
    if recognised:
        says = f"Only dense codes, which no board ranks, win: {_few(recognised)}."
        return Finding(passed=False, worst="B", says=says, figures=figures, names=list(recognised))
    return Finding(passed=True, worst="A", says=f"None of {tried} degenerate SAEs scores well.", figures=figures)


def judge_invariance(shifts: Mapping[str, Figure], size: float, reliable: Figure, limits: Limits = LIMITS) -> Finding:
    """Judge whether the value stays where only the way of writing an SAE changes, and not what it computes.

    Args:
        shifts: The largest difference under each rewriting, such as another order of latents.
        size: The largest absolute value.
        reliable: The least difference of two SAEs that noise does not explain.
        limits: What the grades demand.
    """
    figures = dict(shifts)
    values = {name: figure.value for name, figure in shifts.items() if figure.value is not None}
    if not values or reliable.value is None:
        return Finding(passed=None, worst="B", says="Its invariance could not be measured.", figures=figures)
    name = max(values, key=lambda key: values[key])
    letter: Letter = (
        "A" if values[name] <= _allowed(size, reliable, limits) else "B" if values[name] <= reliable.value else "C"
    )
    says = f"Rewriting an SAE as the same function moves it by at most {values[name]:.2g} ({name})."
    return Finding(passed=letter == "A", worst=letter, says=says, figures=figures)


def same(before: float, after: float, reliable: Figure, limits: Limits = LIMITS) -> bool:
    """Return whether two values are the same for all purposes of an audit."""
    return abs(before - after) <= _allowed(abs(before), reliable, limits)


def _allowed(size: float, reliable: Figure, limits: Limits) -> float:
    return max(limits.rounding * (reliable.value or 0.0), limits.relative * size)


def _at_least(value: float, limits: tuple[float, float]) -> Letter:
    return "A" if value >= limits[0] else "B" if value >= limits[1] else "C"


def _at_most(value: float, limits: tuple[float, float]) -> Letter:
    return "A" if value <= limits[0] else "B" if value <= limits[1] else "C"


def _few(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    shown = list(names[:most])
    if more or len(shown) < 2:
        return ", ".join(shown) + more
    return f"{', '.join(shown[:-1])} and {shown[-1]}"
