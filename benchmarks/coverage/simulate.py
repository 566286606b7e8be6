"""The simulation: many samples of each kind and size, and the share of intervals that hold the truth."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from benchmarks.coverage.cases import CASES, Case, bca, ours, student
from benchmarks.record import BenchmarkResult
from saebench.progress import Progress
from saebench.results.provenance import package_versions
from saebench.stats.intervals import CONFIDENCE, resampling_weights
from saebench.stats.rng import generator

SIZES = (6, 8, 12, 16, 32, 64, 256)
METHODS = ("BCa", "saebench", "Student's t")
REPLICATES = 1000  # bootstrap samples
_SHARED = 25  # how many samples of units share the same bootstrap draws
_NORMAL = 1.959963984540054


def simulate(case: Case, n: int, repetitions: int) -> list[dict[str, Any]]:
    """Return the coverage and the mean width of each method, in units of the width of the ideal interval.

    The ideal interval is 2 x 1.96 standard deviations of the value wide. An interval that does not exist does not hold
    the truth, and is left out of the mean width.
    """
    rng = generator(0, f"coverage:{case.name}", "", n)
    ends = np.empty((len(METHODS), repetitions, 2))
    values = np.empty(repetitions)
    for repetition in range(repetitions):
        if repetition % _SHARED == 0:
            weights = resampling_weights(n, REPLICATES, rng)
        num, den = case.draw(rng, n)
        values[repetition] = num.sum() / den.sum()
        ends[0, repetition] = bca(num, den, weights)
        ends[1, repetition] = ours(num, den, weights, case.bounds)
        ends[2, repetition] = student(num, den)
    ideal = 2 * _NORMAL * float(np.std(values - case.truth))
    held = (ends[..., 0] <= case.truth + 1e-12) & (case.truth - 1e-12 <= ends[..., 1])
    rows = []
    for method, hits, (low, high) in zip(METHODS, held, np.moveaxis(ends, -1, 1), strict=True):
        widths = (high - low)[np.isfinite(high - low)]
        rows.append(
            {
                "case": case.name,
                "n": n,
                "method": method,
                "coverage": float(hits.mean()),
                "width": float(widths.mean()) / ideal if len(widths) and ideal else None,
            }
        )
    return rows


def measure(repetitions: int, progress: Progress) -> BenchmarkResult:
    """Simulate every case at every size."""
    measurements = []
    for case in CASES:
        progress.log(case.name)
        for n in SIZES:
            measurements += simulate(case, n, repetitions)
    return BenchmarkResult(
        name="coverage",
        created=datetime.now(UTC),
        hardware={},
        versions={name: version for name, version in package_versions().items() if name in ("numpy", "scipy")},
        settings={
            "repetitions": repetitions,
            "replicates": REPLICATES,
            "error": float(np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / repetitions)),
        },
        measurements=measurements,
        ratios={},
    )
