"""How well predictions explain a target: R^2 pooled over columns, or averaged over columns, from sums per unit.

R^2 = 1 - SSE / SST on tokens that the prediction was not fitted to, with SST around the mean of those tokens, so that
a prediction worse than that mean scores below 0. The mean is held fixed where units are resampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from saebench.stats.intervals import Estimate, jackknife

Ratio = tuple[NDArray[np.float64], NDArray[np.float64]]

# A target whose spread is less than this share of its root mean square varies only by the rounding of float32.
ROUNDING = 1e-6


class ResidualSums:
    """For each unit, sums over its tokens of the targets, their squares, and the predictions' squared residuals."""

    def __init__(self, n_units: int, columns: int, predictions: Sequence[str]) -> None:
        """Begin with sums of 0.

        Args:
            n_units: The number of sampling units, such as sequences.
            columns: The number of columns of the target.
            predictions: The names of the predictions.
        """
        self.predictions = tuple(predictions)
        self.tokens = torch.zeros(n_units, dtype=torch.float64)
        self._sums = torch.zeros(2 + len(self.predictions), n_units, columns, dtype=torch.float64)

    def add(
        self,
        target: Float[Tensor, "tokens columns"],
        residuals: Mapping[str, Float[Tensor, "tokens columns"]],
        unit: Int[Tensor, " tokens"],
    ) -> None:
        """Add tokens.

        Args:
            target: The targets, best in float64.
            residuals: The residuals of each prediction by its name, best in float64.
            unit: The number of each token's unit, on the CPU.
        """
        if not len(unit):
            return
        first = int(unit.min())
        members = torch.nn.functional.one_hot(unit - first).T.double()
        rows = slice(first, first + len(members))
        self.tokens[rows] += members.sum(1)
        members = members.to(target.device)  # a product, because index_add adds in no fixed order on a GPU
        kinds = [target, target.square(), *(residuals[name].square() for name in self.predictions)]
        for total, values in zip(self._sums, kinds, strict=True):
            total[rows] += (members @ values).cpu()

    def squares(self, columns: slice = slice(None)) -> NDArray[np.float64]:
        """The sum of the squared targets of each unit, not centred, ``[units]``."""
        return _pooled(self._sums[1, :, columns])

    def spread(self, columns: slice = slice(None)) -> NDArray[np.float64]:
        """The sum of the squared deviations of each unit's targets from the mean of all tokens, ``[units]``."""
        return _pooled(self._spread(columns))

    def error(self, prediction: str, columns: slice = slice(None)) -> NDArray[np.float64]:
        """The sum of the squared residuals of each unit, ``[units]``."""
        return _pooled(self._sums[2 + self.predictions.index(prediction), :, columns])

    def r2(self, prediction: str, columns: slice = slice(None)) -> Ratio:
        """The pooled R^2 as a numerator and a denominator for each unit, both 0 if the target does not vary."""
        total = self.spread(columns)
        if not total.sum() > ROUNDING**2 * self.squares(columns).sum():
            return np.zeros_like(total), np.zeros_like(total)
        return total - self.error(prediction, columns), total

    def mean_r2(self, prediction: str, columns: slice = slice(None)) -> Estimate:
        """The mean of the columns' R^2, with a jackknife interval over units.

        Constant columns are left out; the value is NaN if no column varies.
        """
        total = self._spread(columns).numpy()
        error = self._sums[2 + self.predictions.index(prediction), :, columns].numpy()
        varies = total.sum(0) > ROUNDING**2 * self._sums[1, :, columns].sum(0).numpy()
        total, error = total[:, varies], error[:, varies]
        if not varies.any():
            return jackknife(float("nan"), np.full(len(total), np.nan))
        with np.errstate(divide="ignore", invalid="ignore"):  # a column may vary in one unit only
            left_out = 1 - np.mean((error.sum(0) - error) / (total.sum(0) - total), axis=1)
        return jackknife(float(1 - np.mean(error.sum(0) / total.sum(0))), left_out)

    def _spread(self, columns: slice) -> Tensor:
        sums, squares = self._sums[0, :, columns], self._sums[1, :, columns]
        mean = sums.sum(0) / self.tokens.sum()
        return squares - 2 * mean * sums + self.tokens[:, None] * mean.square()


def _pooled(per_column: Tensor) -> NDArray[np.float64]:
    pooled: NDArray[np.float64] = per_column.sum(1).numpy()
    return pooled
