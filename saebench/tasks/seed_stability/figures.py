"""The figures of one comparison of all runs: how many latents come back, and how close."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saebench.evaluation.measure import add
from saebench.evaluation.task import TaskOutput
from saebench.stats.intervals import Estimate
from saebench.stats.proportions import weighted_proportion
from saebench.stats.runs import over_runs
from saebench.tasks.seed_stability.geometry import Comparison, Pair, Rows, Side

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """What counts as found again, and as stable."""

    threshold: float
    thresholds: Sequence[float]
    stable_from: float
    unstable_to: float
    shared_above: float

    @classmethod
    def of(cls, parameters: dict[str, Any]) -> Rules:
        return cls(**{name: parameters[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Weights:
    """Of the compared rows of one run, ``[n]`` each."""

    frequency: Floats
    mass: Floats


def probability(side: Side, run: int, threshold: float) -> Floats:
    """Share of the other runs in which each row of ``run`` has a partner of cosine ``threshold`` or more, ``[n]``.

    NaN for a row without a direction.
    """
    best = _best(side, run)
    return np.where(np.isnan(best).any(0), np.nan, (best >= threshold).mean(0))


def similarity(side: Side, run: int) -> Floats:
    """Best cosine of each row of ``run``, mean over the other runs, ``[n]``."""
    return np.asarray(_best(side, run).mean(0))


def kinds(p: Floats, rules: Rules) -> dict[str, NDArray[np.bool_]]:
    """Which rows are stable, mixed and unstable; none of them where the probability is NaN."""
    stable, unstable = p >= rules.stable_from, p <= rules.unstable_to
    return {"stable": stable, "mixed": ~(stable | unstable | np.isnan(p)), "unstable": unstable}


def report(
    output: TaskOutput,
    rows: Sequence[Rows],
    found: Comparison,
    weights: Sequence[Weights],
    rules: Rules,
    label: str = "",
    shared: bool = True,
) -> None:
    """Add the figures of ``found`` to ``output``, under subsets that end in ``label`` ("" for the headline numbers)."""
    name = lambda *parts: "/".join(part for part in (*parts, label) if part)  # noqa: E731
    runs = range(len(rows))
    for side, part in ((found.decoder, ""), (found.encoder, "encoder")):
        if side is None:
            continue
        _closeness(output, side, name(part))
        for tau in rules.thresholds:
            hits = _scored(np.concatenate([probability(side, run, tau) for run in runs]))
            add(output, "survival", weighted_proportion(hits), "latent", _NO_LATENT, name(f"{tau:g}", part))
    p = [probability(found.decoder, run, rules.threshold) for run in runs]
    again = {
        pair: (float((best >= rules.threshold).sum()), float((~np.isnan(best)).sum()))
        for pair, best in found.decoder.best.items()
    }
    add(output, "stability", over_runs(again), "run", _NO_LATENT, name())
    _shares(output, p, weights, rules, name)
    if shared:
        _shared(output, found, rules, name())


_NO_LATENT = "no latent that fires has a direction to compare"


def _closeness(output: TaskOutput, side: Side, subset: str) -> None:
    """PW-MCC over pairs, MMCS over ordered pairs."""
    matched = {pair: (matching.mean, 1.0) for pair, matching in side.matched.items()}
    reason = "no two members have the same width" if not matched else _NO_LATENT
    add(output, "pw_mcc", over_runs(matched), "run", reason, subset)
    means = {pair: (_mean(best), 1.0) for pair, best in side.best.items()}
    add(output, "mmcs", over_runs(means), "run", _NO_LATENT, subset)


def _shares(
    output: TaskOutput, p: Sequence[Floats], weights: Sequence[Weights], rules: Rules, name: Callable[..., str]
) -> None:
    everything = np.concatenate(p)
    keep = ~np.isnan(everything)
    weighted: dict[str, Floats | None] = {
        "": None,
        "frequency": np.concatenate([each.frequency for each in weights])[keep],
        "mass": np.concatenate([each.mass for each in weights])[keep],
    }
    for kind, which in kinds(everything, rules).items():
        for part, w in weighted.items():
            estimate = weighted_proportion(which[keep].astype(np.float64), w)
            add(output, f"{kind}_share", estimate, "latent", _NO_LATENT, name(part))


def _shared(output: TaskOutput, found: Comparison, rules: Rules, subset: str) -> None:
    counts: dict[Pair, tuple[float, float]] = {}
    for pair in found.decoder.matched:
        shared = found.shared(pair, rules.shared_above)
        if shared is not None:
            counts[pair] = (float(shared.mean()) if len(shared) else np.nan, 1.0)
    reason = _NO_LATENT if counts else "it takes encoder directions of every member, and members of the same width"
    add(output, "shared_share", over_runs(counts), "run", reason, subset)


def report_pairs(output: TaskOutput, names: Sequence[str], found: Comparison, rules: Rules) -> None:
    """The same for single runs and pairs of runs: MMCS both ways, PW-MCC, and the stability of each run."""
    for (a, b), best in sorted(found.decoder.best.items()):
        add(output, "mmcs", _alone(_mean(best)), "run", _NO_LATENT, f"{names[a]}->{names[b]}")
    for (a, b), matching in sorted(found.decoder.matched.items()):
        add(output, "pw_mcc", _alone(matching.mean), "run", _NO_LATENT, f"{names[a]}~{names[b]}")
    for run, name in enumerate(names):
        hits = _scored(probability(found.decoder, run, rules.threshold))
        add(output, "stability", weighted_proportion(hits), "latent", _NO_LATENT, name)


def _best(side: Side, run: int) -> Floats:
    """Best cosines of the rows of ``run`` in each other run, ``[runs - 1, n]``."""
    return np.stack([best for (a, _), best in sorted(side.best.items()) if a == run])


def _scored(values: Floats) -> Floats:
    return values[~np.isnan(values)]


def _mean(values: Floats) -> float:
    found = _scored(values)
    return float(found.mean()) if len(found) else float("nan")


def _alone(value: float) -> Estimate:
    return Estimate(value, np.nan, np.nan, np.nan, 1, "none")
