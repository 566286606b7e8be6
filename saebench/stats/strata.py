"""Comparisons of items that differ in frequency: strata of similar frequency, and groups and differences in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from saebench.stats.intervals import CONFIDENCE, Estimate

STRATA = 10


def frequency_strata(counts: NDArray[np.int64], pool: NDArray[np.bool_], strata: int = STRATA) -> NDArray[np.int64]:
    """Return the stratum of each item by its count, ``[n]``, or -1 for items outside ``pool``.

    Strata are bounded by quantiles of the counts in the pool. Equal counts share a stratum, so there are fewer than
    ``strata`` of them if there are few different counts.
    """
    out = np.full(len(counts), -1, np.int64)
    if pool.any():
        edges = np.unique(np.quantile(counts[pool], np.arange(1, strata) / strata, method="inverted_cdf"))
        out[pool] = np.searchsorted(edges, counts[pool])
    return out


def matched_groups(
    group: NDArray[np.bool_],
    strata: NDArray[np.int64],
    draws: int,
    rng: np.random.Generator,
    *,
    key: NDArray[np.float64] | None = None,
) -> NDArray[np.bool_]:
    """Return random groups ``[draws, n]`` with as many items in each stratum as ``group`` has.

    They are drawn without replacement from the whole stratum, including the members of the group: under the null
    hypothesis that the group is nothing special within a stratum, it is one of these draws.

    Args:
        group: Whether each item is in the group, ``[n]``. Items outside all strata are ignored.
        strata: The stratum of each item, or -1 for none, ``[n]``.
        draws: The number of random groups.
        rng: The random generator.
        key: A number of each item, ``[n]``, by which the items of a stratum are sorted before they are drawn, so that
            the same generator draws the same ones when they are numbered otherwise.
    """
    out = np.zeros((draws, len(group)), bool)
    for stratum in np.unique(strata[group & (strata >= 0)]):
        items = np.flatnonzero(strata == stratum)
        items = items if key is None else items[np.argsort(key[items], kind="stable")]
        wanted = int(group[items].sum())
        for draw in out:
            draw[rng.choice(items, wanted, replace=False)] = True
    return out


def stratified_difference(
    a: NDArray[np.float64], strata_a: NDArray[np.int64], b: NDArray[np.float64], strata_b: NDArray[np.int64]
) -> Estimate:
    """Return the mean of ``a`` minus that of ``b`` within strata, with its normal interval.

    The difference of means in a stratum has the weight n_a n_b / (n_a + n_b), which is the inverse of its variance if
    all items vary equally. Strata with fewer than two items on either side are left out, because they have no variance.
    The value is NaN if no stratum remains. The estimate's ``n`` is the number of items used.

    Args:
        a: The values of one group.
        strata_a: The stratum of each of them.
        b: The values of the other group.
        strata_b: The stratum of each of them.
    """
    weights, differences, variances, n = [], [], [], 0
    for stratum in np.intersect1d(strata_a, strata_b):
        x, y = a[strata_a == stratum], b[strata_b == stratum]
        if min(len(x), len(y)) < 2:
            continue
        weights.append(len(x) * len(y) / (len(x) + len(y)))
        differences.append(x.mean() - y.mean())
        variances.append(x.var(ddof=1) / len(x) + y.var(ddof=1) / len(y))
        n += len(x) + len(y)
    if not n:
        return Estimate(np.nan, np.nan, np.nan, np.nan, 0, "normal")
    share = np.array(weights) / np.sum(weights)
    value, stderr = float(share @ differences), float(np.sqrt(share**2 @ np.array(variances)))
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * stderr
    return Estimate(value, stderr, value - half, value + half, n, "normal")
