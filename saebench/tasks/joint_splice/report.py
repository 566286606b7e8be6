"""Measurements of what SAEs cost together, and each of them alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from saebench.evaluation import Report
from saebench.sae.protocol import SAE
from saebench.tasks.joint_splice.scoring import Scores

# Shares of what an ablation costs, and why one is not scored.
_RECOVERED = {
    "ce_recovered_zero": "zero ablation does not raise the cross-entropy",
    "ce_recovered_mean": "mean ablation does not raise the cross-entropy",
    "kl_recovered": "zero ablation does not move the distribution",
    "compounding": "the SAEs alone do not raise the cross-entropy",
}


def report_joint(report: Report, scores: Scores) -> None:
    """Add the losses with all SAEs, and what they recover of the ablations of all hook points."""
    clean, joint = scores.clean, scores.joint.losses
    zero, mean, n = scores.zero, scores.mean, clean.predictions
    alone = sum((one.ce - clean.ce for one in scores.alone), start=clean.ce.new_zeros(clean.n_sequences))
    ratios = {
        "ce_clean": (clean.ce, n),
        "ce_joint": (joint.ce, n),
        "ce_zero": (zero.ce, n),
        "ce_mean": (mean.ce, n),
        "kl_joint": (joint.kl, n),
        "ce_increase": (joint.ce - clean.ce, n),
        "ce_recovered_zero": (zero.ce - joint.ce, zero.ce - clean.ce),
        "ce_recovered_mean": (mean.ce - joint.ce, mean.ce - clean.ce),
        "kl_recovered": (zero.kl - joint.kl, zero.kl),
        "compounding": (joint.ce - clean.ce, alone),
        "l0_joint": (scores.joint.active.sum(0), clean.evaluated.sum(1).double()),
    }
    for metric, (num, den) in ratios.items():
        why = "nothing is predicted"
        if metric in _RECOVERED:
            why = _RECOVERED[metric]
            if float(den.sum()) <= 0:  # there is nothing to recover
                den = den.new_zeros(den.shape)
        _ratio(report, metric, num, den, why)


def report_members(report: Report, saes: Sequence[SAE], scores: Scores) -> None:
    """Add what each SAE costs alone, and how well it does where the SAEs before it have changed its input."""
    tokens = scores.clean.evaluated.sum(1).double()
    joint = scores.joint
    for place, sae in enumerate(saes):
        alone, variance = scores.alone[place], scores.variance[place]
        ratios = {
            "ce_increase": (alone.ce - scores.clean.ce, scores.clean.predictions),
            "kl_alone": (alone.kl, scores.clean.predictions),
            "fvu_joint": (joint.error[place], variance),
            "drift": (joint.moved[place], variance),
            "l0_joint": (joint.active[place], tokens),
        }
        for metric, (num, den) in ratios.items():
            _ratio(report, metric, num, den, "the activations do not vary", subset=sae.name)


def _ratio(report: Report, metric: str, num: Tensor, den: Tensor, why: str, subset: str = "") -> None:
    parts = (np.asarray(num.numpy()), np.asarray(den.numpy()))
    report.ratio(metric, parts, unit="sequence", why=why, subset=subset)
