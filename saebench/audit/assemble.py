"""From the values of a metric to its grade: which values each lens looks at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from saebench.audit import lenses, rules
from saebench.audit.calls import Setting, Where
from saebench.audit.measure import Values
from saebench.cards.audits import Figure, Finding, Lens, MetricAudit


@dataclass(frozen=True)
class Known:
    """A language model with its SAEs, and the quality of those that is known before anything is measured.

    Attributes:
        setting: The model and its SAEs.
        quality: The known quality of each SAE in ``setting.subjects.known``.
    """

    setting: Setting
    quality: Mapping[str, float]


def audit_metric(values: Values, known: Sequence[Known], seed: int) -> MetricAudit:
    """Return the audit of one metric.

    Args:
        values: Its values.
        known: The language models, the one that counts more first: noise is taken from the first that tells it.
        seed: The first seed of the evaluations.
    """
    spec = values.metric
    findings = rules.undirected() if spec.higher_is_better is None else _findings(values, known, seed)
    letter, reason = rules.grade(findings)
    if spec.higher_is_better is not None and not spec.ranked:
        says = "Its card says never to rank by it."
        letter, reason = "C", f"{says} {reason}" if letter == "C" else says
    return MetricAudit(metric=spec.id, subset=values.subset, grade=letter, reason=reason, lenses=findings)


def _findings(values: Values, known: Sequence[Known], seed: int) -> dict[Lens, Finding]:
    noise, where = _noise(values, known)
    return {
        "noise": rules.judge_noise(noise),
        "truth": _truth(values, known, seed),
        "training": _training(values, known, seed, where, noise),
        "precision": _precision(values, known, seed, where, noise),
        "gaming": _gaming(values, known, seed, noise.reliable),
        "invariance": _invariance(values, known, seed, noise if where == "planted" else None),
    }


def _noise(values: Values, known: Sequence[Known]) -> tuple[lenses.Noise, Where]:
    """Return the noise on the first model with two trained SAEs or more, which alone tell noise from differences."""
    seen = [(noise_of(values, entry), entry.setting.where) for entry in known]
    return next((pair for pair in seen if pair[0].share.value is not None), seen[0])


def noise_of(values: Values, known: Known) -> lenses.Noise:
    return lenses.noise(values.over_seeds(known.setting.where, known.setting.subjects.trained))


def _truth(values: Values, known: Sequence[Known], seed: int) -> Finding:
    for entry in known:
        subjects, where = entry.setting.subjects, entry.setting.where
        scored = values.scored(where, [sae for sae in subjects.known if sae in entry.quality], seed)
        if len(scored) < 3:
            continue
        correlation = lenses.rank_correlation([entry.quality[sae] for sae in scored], list(scored.values()))
        best = scored.get(subjects.oracle, math.nan)
        others = {sae: value for sae, value in scored.items() if sae != subjects.oracle}
        above = lenses.not_below(others, np.nextafter(best, math.inf)) if math.isfinite(best) else []
        return rules.judge_truth(correlation, above)
    return rules.judge_truth(Figure(value=None), [])


def _training(values: Values, known: Sequence[Known], seed: int, where: Where, noise: lenses.Noise) -> Finding:
    separations: dict[str, Figure] = {}
    behind: list[str] = []
    blind = False
    effect, correlation = Figure(value=None), Figure(value=None)
    for entry in known:
        subjects, here = entry.setting.subjects, entry.setting.where
        trained, controls = (values.scored(here, names, seed) for names in (subjects.trained, subjects.controls))
        if _blind(values, entry, seed, noise.reliable):
            blind = True
            del controls[subjects.permuted]
        if trained and controls:
            separations[here] = lenses.separation(list(trained.values()), list(controls.values()))
            behind += lenses.not_below(controls, min(trained.values()))
            if here == where:
                effect = lenses.effect_size(list(trained.values()), list(controls.values()), noise.pair.value)
        steps = values.scored(here, subjects.steps, seed)
        if len(steps) > 2:
            correlation = lenses.rank_correlation([subjects.steps[sae] for sae in steps], list(steps.values()))
    return rules.judge_training(correlation, separations, effect, list(dict.fromkeys(behind)), blind=blind)


def _blind(values: Values, known: Known, seed: int, reliable: Figure) -> bool:
    """Return whether a trained SAE has the same value with permuted decoder rows: the metric ignores the decoder."""
    subjects, where = known.setting.subjects, known.setting.where
    pair = list(values.scored(where, [*subjects.trained[:1], subjects.permuted], seed).values())
    return len(pair) == 2 and rules.same(pair[0], pair[1], reliable)


def _precision(values: Values, known: Sequence[Known], seed: int, where: Where, noise: lenses.Noise) -> Finding:
    setting = next(entry.setting for entry in known if entry.setting.where == where)
    trained = setting.subjects.trained
    before = values.of(where, "values", trained, seed)
    shift, batch = (
        lenses.largest_shift(before, values.of(where, purpose, trained, seed)) for purpose in ("bfloat16", "batch")
    )
    return rules.judge_precision(shift, batch, noise.reliable)


def _gaming(values: Values, known: Sequence[Known], seed: int, reliable: Figure) -> Finding:
    winners, above, recognised = dict[str, None](), dict[str, None](), dict[str, None]()
    tried = 0
    for entry in known:
        subjects, where = entry.setting.subjects, entry.setting.where
        trained = list(values.scored(where, subjects.trained, seed).values())
        sparse, dense = (values.scored(where, names, seed) for names in (subjects.adversaries, subjects.dense))
        if not trained:
            continue
        if _blind(values, entry, seed, reliable):
            # A broken decoder moves it no more than a permuted one does; the lens of training says so.
            sparse = {sae: value for sae, value in sparse.items() if f"({subjects.trained[0]})" not in sae}
        tried += len(sparse) + len(dense)
        winners |= dict.fromkeys(lenses.not_below(sparse, max(trained)))
        above |= dict.fromkeys(lenses.not_below(sparse, float(np.median(trained))))
        recognised |= dict.fromkeys(lenses.not_below(dense, max(trained)))
    return rules.judge_gaming(list(winners), list(above), list(recognised), tried)


def _invariance(values: Values, known: Sequence[Known], seed: int, noise: lenses.Noise | None) -> Finding:
    for entry in known:
        subjects, where = entry.setting.subjects, entry.setting.where
        original = values.of(where, "values", subjects.trained[:1], seed)
        if not subjects.rewritten or not original:
            continue
        before = next(iter(original.values()))
        shifts = {
            what: lenses.largest_shift({what: before}, {what: after})
            for what, copy in subjects.rewritten.items()
            for after in values.of(where, "values", [copy], seed).values()
        }
        reliable = (noise or noise_of(values, entry)).reliable
        return rules.judge_invariance(shifts, abs(before), reliable)
    return rules.judge_invariance({}, 0.0, Figure(value=None))
