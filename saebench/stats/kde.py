"""Class-conditional densities of latents, with a point mass at zero and Gaussian kernels on a grid elsewhere.

A Fourier transform applies the kernels to linearly binned activations (Silverman 1982), so that the cost does not
depend on the number of examples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.stats.histogram import Activations

GRID = 512  # the number of points of a latent's grid
_MARGIN = 3.0  # the margin on each side of the activations, in standard deviations of the latent's activations


@dataclass(frozen=True)
class Grids:
    """For each latent, a grid over its non-zero activations, and their places on it. Labels play no part in it."""

    activations: Activations
    place: Float[Tensor, " entries"]  # in steps of the grid
    spread: Float[Tensor, " latents"]  # the standard deviation of non-zero activations, in steps

    @classmethod
    def of(cls, activations: Activations) -> Grids:
        """Lay a grid over the non-zero activations of each latent."""
        latent, value = activations.latent, activations.value.double()
        active = activations.active.clamp(min=1)
        mean = _sums(latent, value, activations.n_latents) / active
        variance = _sums(latent, (value - mean[latent]).square(), activations.n_latents) / (active - 1).clamp(min=1)
        low = value.new_full(mean.shape, torch.inf).scatter_reduce_(0, latent, value, "amin")
        high = value.new_full(mean.shape, -torch.inf).scatter_reduce_(0, latent, value, "amax")
        margin = _MARGIN * variance.sqrt()
        step = (high - low + 2 * margin) / (GRID - 1)
        step = torch.where((active > 1) & (step > 0), step, 1.0)  # equal activations share a point in the middle
        first = torch.where(variance > 0, low - margin, mean - GRID // 2)
        place = ((value - first[latent]) / step[latent]).clamp(0, GRID - 1)
        return cls(activations, place, variance.sqrt() / step)

    def masses(self, labels: Int[Tensor, " examples"], n_classes: int) -> Float[Tensor, "latents classes points"]:
        """Return each class's probabilities of zero and of the points of the grid.

        The bandwidth is Scott's, n^(-1/5) standard deviations of the class's non-zero activations. If the class has
        fewer than two of them, or only equal ones, all activations of the latent are used. The bandwidth is at most the
        standard deviation of all activations of the latent.

        Args:
            labels: The class of each example, or -1 to leave the example out.
            n_classes: The number of classes.

        Returns:
            The probabilities, ``[latents, classes, 1 + GRID]``, of which the first is that of zero.
        """
        act, n = self.activations, self.activations.n_latents
        label = labels[act.example]
        used = label >= 0
        place, latent = self.place[used], act.latent[used]
        key = latent * n_classes + label[used]
        cells = n * n_classes
        count = torch.bincount(key, minlength=cells).double()
        mean = _sums(key, place, cells) / count.clamp(min=1)
        variance = _sums(key, (place - mean[key]).square(), cells) / (count - 1).clamp(min=1)
        own = variance.sqrt() * count.clamp(min=1).pow(-0.2)
        spread = self.spread.repeat_interleave(n_classes)
        active = torch.bincount(latent, minlength=n).clamp(min=1).double().repeat_interleave(n_classes)
        width = torch.where(own > 0, own, spread * active.pow(-0.2)).minimum(spread)

        below = place.floor().long().clamp(max=GRID - 2)
        above = place - below
        binned = torch.zeros(cells * GRID, dtype=torch.float64, device=place.device)
        binned.index_add_(0, key * GRID + below, 1 - above)
        binned.index_add_(0, key * GRID + below + 1, above)
        frequency = 2 * math.pi * torch.fft.rfftfreq(GRID, device=place.device, dtype=torch.float64)
        kernel = torch.exp(-0.5 * (width[:, None] * frequency).square())
        density = torch.fft.irfft(torch.fft.rfft(binned.view(cells, GRID)) * kernel, n=GRID).clamp(min=0)
        per_class = torch.bincount(labels[labels >= 0], minlength=n_classes).double()
        firing = (count.view(n, n_classes) / per_class)[..., None]
        density = density.view(n, n_classes, GRID)
        density = density / density.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
        return torch.cat([1 - firing, firing * density], dim=-1)


def _sums(key: Tensor, values: Tensor, n: int) -> Tensor:
    return torch.zeros(n, dtype=values.dtype, device=values.device).index_add_(0, key, values)
