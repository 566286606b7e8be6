"""Linear prediction of many outputs from one set of inputs: blocks of tokens are summed in float64, then solved.

Moments are kept centred, so that a mean far larger than the spread, as in Gemma's residual stream, costs no precision.
Uncentred moments follow by adding the product of the means, which cancels nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

# The ridge, as a share of the mean eigenvalue of the inputs' second moments. It shrinks a direction by the ratio of the
# ridge to the direction's own eigenvalue: by a millionth if the direction's variance is a ten-thousandth of the
# average, which is far below what a sample can tell.
RIDGE = 1e-10
_CHUNK = 2**21  # the numbers that are converted at a time; their float64 copies take 16 MB

# "intercept" and "centred" have the same weights, but only "intercept" also predicts the mean of the outputs.
Fit = Literal["intercept", "no_intercept", "centred"]
FITS: tuple[Fit, ...] = ("intercept", "no_intercept", "centred")


class CoMoments:
    """The means of ``x[tokens, p]`` and ``y[tokens, q]`` and their scatter, in float64.

    Blocks of tokens may have any size (Chan, Golub & LeVeque 1983). NaN or Inf in one column of ``y`` does not affect
    the others. All tensors are on the device of the first block.
    """

    n: int = 0
    mean_x: Float[Tensor, " p"]
    mean_y: Float[Tensor, " q"]
    scatter: Float[Tensor, "p q"]  # sum_t (x_t - mean x)(y_t - mean y)'

    @classmethod
    def of(cls, x: Float[Tensor, "tokens p"], y: Float[Tensor, "tokens q"]) -> CoMoments:
        """Return the moments of one block of tokens."""
        moments = cls()
        moments.add(x, y)
        return moments

    def add(self, x: Float[Tensor, "tokens p"], y: Float[Tensor, "tokens q"]) -> None:
        """Add a block of tokens. Raises ValueError if ``x`` and ``y`` do not have the same number of rows."""
        if len(x) != len(y):
            raise ValueError(f"{len(x)} inputs but {len(y)} outputs")
        step = max(1, _CHUNK // max(x.shape[1], y.shape[1]))
        for start in range(0, len(x), step):
            rows = slice(start, start + step)
            self._add(x[rows].double(), y[rows].double())

    def _add(self, x: Tensor, y: Tensor) -> None:
        n, mean_x, mean_y = len(x), x.mean(0), y.mean(0)
        scatter = (x - mean_x).T @ (y - mean_y)
        if self.n == 0:
            self.n, self.mean_x, self.mean_y, self.scatter = n, mean_x, mean_y, scatter
            return
        total = self.n + n
        to_x, to_y = mean_x - self.mean_x, mean_y - self.mean_y
        self.scatter += scatter + torch.outer(to_x, to_y) * (self.n * n / total)
        self.mean_x += to_x * (n / total)
        self.mean_y += to_y * (n / total)
        self.n = total


@dataclass(frozen=True)
class LinearMap:
    """The map ``x -> x @ weights + constant``, in float64."""

    weights: Float[Tensor, "p q"]
    constant: Float[Tensor, " q"]

    def __call__(self, x: Float[Tensor, "tokens p"]) -> Float[Tensor, "tokens q"]:
        return torch.addmm(self.constant, x.double(), self.weights)


class LeastSquares:
    """Least squares from one set of inputs, whose moments are decomposed once and then serve any outputs.

    A ridge is added to the diagonal of the inputs' moments, which are centred unless the fit has no intercept.
    Directions that do not vary are left out, so constant inputs and inputs that are sums of others do no harm.
    """

    def __init__(self, inputs: CoMoments, ridge: float = RIDGE) -> None:
        """Take the moments ``CoMoments.of(x, x)`` of the inputs, and the ridge as a share of their mean eigenvalue."""
        self.inputs, self._ridge = inputs, ridge

    def solve(self, outputs: CoMoments, fit: Fit) -> LinearMap:
        """Return the map with the least squared error.

        Args:
            outputs: The moments ``CoMoments.of(x, y)`` of the outputs, for the same tokens as the inputs.
            fit: Whether the map has an intercept. "centred" predicts deviations of the outputs from their mean.
        """
        assert outputs.n == self.inputs.n
        uncentred = fit == "no_intercept"
        values, vectors = self._uncentred if uncentred else self._centred
        target = outputs.scatter
        if uncentred:
            target = target + outputs.n * torch.outer(outputs.mean_x, outputs.mean_y)
        penalised = values + self._ridge * values.mean()
        scale = torch.where(values > 0, 1 / penalised, 0.0)  # a direction that does not vary predicts nothing
        weights = vectors @ (scale[:, None] * (vectors.T @ target))
        constant = torch.zeros_like(outputs.mean_y)
        if not uncentred:
            constant = constant - outputs.mean_x @ weights
        return LinearMap(weights, constant + outputs.mean_y if fit == "intercept" else constant)

    @property
    def condition(self) -> float:
        """The ratio of the largest to the smallest eigenvalue of the inputs' covariance, without the ridge.

        It is infinite if the covariance is singular.
        """
        values = self._centred[0]
        smallest = float(values[0])
        return float(values[-1]) / smallest if smallest > 0 else float("inf")

    @cached_property
    def _centred(self) -> tuple[Tensor, Tensor]:
        return _eigen(self.inputs.scatter)

    @cached_property
    def _uncentred(self) -> tuple[Tensor, Tensor]:
        mean = self.inputs.mean_x
        return _eigen(self.inputs.scatter + self.inputs.n * torch.outer(mean, mean))


def fit_whole(x: Float[Tensor, "tokens p"], y: Float[Tensor, "tokens q"]) -> LinearMap:
    """Return the least-squares map from ``x`` to ``y`` with an intercept."""
    return LeastSquares(CoMoments.of(x, x)).solve(CoMoments.of(x, y), "intercept")


def cross_fitted(x: Float[Tensor, "tokens p"], y: Float[Tensor, "tokens q"], cut: int) -> Float[Tensor, "tokens q"]:
    """Return predictions of ``y`` by a map with an intercept that is fitted to other tokens.

    Tokens before ``cut`` are predicted by a fit to the rest, and the rest by a fit to them. A prediction is NaN if its
    fit has no tokens.
    """
    before, after = slice(cut), slice(cut, None)
    out = torch.full_like(y, torch.nan, dtype=torch.float64)
    for fitted, predicted in ((before, after), (after, before)):
        if len(x[fitted]):
            out[predicted] = fit_whole(x[fitted], y[fitted])(x[predicted])
    return out


def _eigen(moments: Float[Tensor, "p p"]) -> tuple[Tensor, Tensor]:
    """Return the ascending eigenvalues, of which those within rounding of 0 are set to 0, and the eigenvectors."""
    values, vectors = torch.linalg.eigh((moments + moments.T) / 2)
    rounding = len(values) * torch.finfo(values.dtype).eps * values[-1].clamp_min(0)
    return torch.where(values > rounding, values, 0.0), vectors
