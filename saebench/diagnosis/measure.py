"""FVU and L0 of each variant, as sums for each sequence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saebench.capabilities import Capability
from saebench.diagnosis.activations import Activations, Source
from saebench.diagnosis.undone import Reconstruct
from saebench.sae.protocol import SAE
from saebench.stats.reconstruction import ReconstructionSums

_LATENTS = 2**25  # the latents that are in memory at a time (128 MB)
Ratio = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Fit:
    """The numbers of one variant on the text.

    Attributes:
        fvu: The numerator and the denominator of the FVU for each sequence.
        standardised: The same where each dimension is divided by its standard deviation.
        l0: The mean number of active latents.
        gain: The factor of the reconstruction that would fit best, by least squares.
    """

    fvu: Ratio
    standardised: Ratio
    l0: float
    gain: float


@torch.no_grad()
def measure(reconstruct: Reconstruct, sae: SAE, activations: Activations, source: Source) -> Fit:
    """Return what a variant does.

    Args:
        reconstruct: The variant.
        sae: The SAE as it is loaded, for its widths and its capabilities.
        activations: The activations, which include those of the source.
        source: Which of them the variant reads, and what it is compared with.
    """
    x, target = (activations.at[site, source.bos] for site in (source.site_in, source.site_out))
    counted = activations.counted(source)
    n, positions = counted.shape
    sums = ReconstructionSums(n, activations.centre(source))
    pointwise = Capability.POSITION_WISE in sae.capabilities
    step = max(1, _LATENTS // (positions * sae.d_sae))
    active = 0
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        here = counted[rows]
        z, xhat = reconstruct(x[rows][here] if pointwise else x[rows])
        z, xhat = (z, xhat) if pointwise else (z[here], xhat[here])
        sums.add(target[rows][here], _finite(xhat), here.nonzero()[:, 0] + start)
        active += int((z != 0).sum())
    ratios = sums.ratios()
    fvu, standardised = (_numpy(ratios[name]) for name in ("fvu", "fvu_standardised"))
    bias = _numpy(ratios["reconstruction_bias"])
    return Fit(fvu, standardised, active / max(1, int(counted.sum())), _gain(bias))


def _finite(xhat: Tensor) -> Tensor:
    # A variant may overflow; the largest number makes it the worst of all.
    return xhat.nan_to_num(nan=1e30, posinf=1e30, neginf=-1e30)


def _numpy(ratio: tuple[Tensor, Tensor]) -> Ratio:
    return ratio[0].numpy(), ratio[1].numpy()


def _gain(bias: Ratio) -> float:
    norm_hat, dot = (float(part.sum()) for part in bias)
    return dot / norm_hat if norm_hat > 0 else 1.0
