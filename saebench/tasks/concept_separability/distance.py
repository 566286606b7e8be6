"""Distances from average divergences, with intervals from leaving out groups of examples.

A distance is the square root of an average share, and the root is taken last. Examples are the sampling units. They
are left out in groups: resampling with replacement would repeat examples, and repeated examples look like signal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from saebench.stats.intervals import CONFIDENCE, Estimate

METHOD = "delete-group jackknife"
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Share:
    """The average divergence in each of several independent sets of examples, as a share of its maximum."""

    value: Array  # [sets]
    left_out: Sequence[Array]  # [sets][groups]: the value of a set without one of its groups

    def mean_and_left_out(self, transform: Callable[[float], float]) -> tuple[float, list[Array]]:
        """Return ``transform`` of the mean over sets, and the same with one group of one set left out."""
        mean, n = float(np.mean(self.value)), len(self.value)
        changed = [mean + (without - whole) / n for whole, without in zip(self.value, self.left_out, strict=True)]
        return transform(mean), [np.array([transform(float(x)) for x in means]) for means in changed]


def signed_root(share: float) -> float:
    """The square root of the absolute value, with the sign of ``share``.

    Negative averages are noise around zero; keeping their sign keeps intervals honest until they are reported.
    """
    return float(np.sign(share) * np.sqrt(abs(share)))


def distance(share: Share, n: int) -> tuple[Estimate, Array]:
    """Return the distance, a value in [0, 1], and the contribution of each group, whose mean it is.

    The interval is made for the average divergence, and the roots of its ends are taken, because the root is steep at
    zero.

    Args:
        share: The average divergence in each set.
        n: How many examples stand behind it.
    """
    mean, left_out = share.mean_and_left_out(float)
    half = _half_width(left_out)
    low, high = (signed_root(mean + sign * half) for sign in (-1, 1))
    value, rooted = share.mean_and_left_out(signed_root)
    value = max(value, 0.0) if np.isfinite(value) else value
    stderr = (high - low) / 2 / _quantile(left_out)
    low, high = (float(np.clip(end, 0.0, 1.0)) for end in (low, high))
    return Estimate(value, stderr, low, high, n, METHOD), _contributions(value, rooted)


def difference(ours: Share, theirs: Share, n: int) -> tuple[Estimate, Array]:
    """Return ``distance(ours) - distance(theirs)`` and the contribution of each group.

    Both are measured on the same ``n`` examples, so their groups are paired.
    """
    (a, a_out), (b, b_out) = (share.mean_and_left_out(signed_root) for share in (ours, theirs))
    value = max(a, 0.0) - max(b, 0.0) if np.isfinite(a - b) else float("nan")
    left_out = [x - y for x, y in zip(a_out, b_out, strict=True)]
    half = _half_width(left_out)
    stderr = half / _quantile(left_out)
    return Estimate(value, stderr, value - half, value + half, n, METHOD), _contributions(value, left_out)


def _half_width(left_out: Sequence[Array]) -> float:
    """Half the width of the interval. The variances of the sets add up, because each set has groups of its own."""
    variance = sum((len(x) - 1) / len(x) * np.sum((x - x.mean()) ** 2) for x in left_out)
    return _quantile(left_out) * float(np.sqrt(variance))


def _quantile(left_out: Sequence[Array]) -> float:
    return float(t.ppf((1 + CONFIDENCE) / 2, sum(len(x) - 1 for x in left_out)))


def _contributions(value: float, left_out: Sequence[Array]) -> Array:
    """Pseudo-values centred on ``value``: their mean is the value, and their spread gives its standard error."""
    sets = len(left_out)
    return np.concatenate([value - sets * (len(x) - 1) * (x - x.mean()) for x in left_out])
