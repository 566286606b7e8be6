"""The quiver of arrows (2502.16681): what SAE probes add to methods that a user would try anyway.

On each dataset the method with the best validation AUC is taken, once among the baselines and once among baselines
and SAE probes. The difference of the two choices' *test* AUC is what the SAE is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saebench.evaluation.task import TaskOutput
from saebench.tasks.sparse_probing.means import add_mean
from saebench.tasks.sparse_probing.problem import ProbeScores

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Quiver:
    """Per dataset ``[n]``; NaN where no method could be chosen or the choice has no test AUC."""

    auc: Array  # test AUC of the choice among baselines
    gain: Array  # test AUC of the choice among all, minus that
    took_sae: Array  # 1 where an SAE probe was chosen


def quiver(baseline_val: Array, baseline_auc: Array, sae_val: Array, sae_auc: Array) -> Quiver:
    """Choose from validation and test AUC of baselines ``[n, methods]`` and SAE probes ``[n, probes]``.

    Ties between an SAE probe and a baseline go to the SAE probe, others to the first. A method without validation AUC
    (NaN) is not chosen.
    """
    best, baseline = _best(baseline_val, baseline_auc)
    sae_best, sae = _best(sae_val, sae_auc)
    took = sae_best >= best
    chosen = np.where(took, sae, baseline)
    scored = np.isfinite(best) & np.isfinite(baseline) & np.isfinite(chosen)
    return Quiver(
        np.where(scored, baseline, np.nan),
        np.where(scored, chosen - baseline, np.nan),
        np.where(scored, took.astype(np.float64), np.nan),
    )


def _best(val: Array, auc: Array) -> tuple[Array, Array]:
    """Best validation AUC ``[n]`` (-inf if there is none), and the test AUC of that method."""
    if val.shape[1] == 0:
        return np.full(len(val), -np.inf), np.full(len(val), np.nan)
    usable = np.where(np.isfinite(val), val, -np.inf)
    row, first = np.arange(len(val)), usable.argmax(axis=1)
    return usable[row, first], auc[row, first]


def add_quiver(
    output: TaskOutput,
    sae: ProbeScores,
    dense: ProbeScores,
    baselines: Mapping[str, NDArray[np.float64]],
    weights: Array,
) -> None:
    """Add what the SAE's probes add to the dense probe and ``baselines`` (name -> validation and test AUC ``[2, n]``).

    All three are on the same datasets, in one order; ``weights`` are bootstrap draws of them.
    """
    arrows = {"logistic": np.stack([dense.val_auc[:, 0], dense.auc[:, 0]]), **baselines}
    val, auc = np.stack(list(arrows.values()), axis=-1)
    found = quiver(val, auc, sae.val_auc, sae.auc)
    for name, (_, tested) in arrows.items():
        add_mean(output, "baseline_auc", tested, weights, name)
    reason = "no dataset has both a baseline and an SAE probe that can be chosen"
    add_mean(output, "quiver_auc", found.auc, weights, not_scored=reason)
    add_mean(output, "quiver_gain", found.gain, weights, not_scored=reason)
    add_mean(output, "quiver_sae_share", found.took_sae, weights, not_scored=reason)
