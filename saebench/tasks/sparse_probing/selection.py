"""The quiver of arrows (2502.16681): what SAE probes add to the methods that a user would try anyway.

On each dataset the method with the best validation AUC is chosen, once among the baselines and once among baselines
and SAE probes. The difference between the *test* AUC of the two choices is what the SAE is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Quiver:
    """The choices on each dataset ``[n]``; NaN where no method can be chosen or the chosen one has no test AUC."""

    auc: Array  # test AUC of the choice among the baselines
    gain: Array  # test AUC of the choice among all methods, minus that
    took_sae: Array  # 1 where an SAE probe was chosen


def choose_methods(baseline_val: Array, baseline_auc: Array, sae_val: Array, sae_auc: Array) -> Quiver:
    """Choose the method with the best validation AUC on each dataset.

    An SAE probe that ties with a baseline is preferred; among other ties the first wins. A method without a validation
    AUC (NaN) is not chosen.

    Args:
        baseline_val: Validation AUC of the baselines, ``[n, baselines]``.
        baseline_auc: Their test AUC.
        sae_val: Validation AUC of the SAE probes, ``[n, probes]``.
        sae_auc: Their test AUC.
    """
    best_baseline, baseline = _best(baseline_val, baseline_auc)
    best_sae, sae = _best(sae_val, sae_auc)
    took_sae = best_sae >= best_baseline
    chosen = np.where(took_sae, sae, baseline)
    scored = np.isfinite(best_baseline) & np.isfinite(baseline) & np.isfinite(chosen)
    return Quiver(
        np.where(scored, baseline, np.nan),
        np.where(scored, chosen - baseline, np.nan),
        np.where(scored, took_sae.astype(np.float64), np.nan),
    )


def _best(val: Array, auc: Array) -> tuple[Array, Array]:
    """The best validation AUC ``[n]`` (-inf where there is none), and the test AUC of the method that has it."""
    if val.shape[1] == 0:
        return np.full(len(val), -np.inf), np.full(len(val), np.nan)
    usable = np.where(np.isfinite(val), val, -np.inf)
    row, first = np.arange(len(val)), usable.argmax(axis=1)
    return usable[row, first], auc[row, first]
