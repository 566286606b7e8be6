"""What predicts the error: least squares on the text to fit on, of the activation and of simpler things."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.passes.captured import CapturedText
from saebench.sae.codes import Coder
from saebench.stats.linear import FITS, CoMoments, Fit, LeastSquares, LinearMap, fit_whole
from saebench.tasks.dark_matter.errors import NORMS, error_blocks, inputs, norms, row_blocks

# A token is massive when it lies this many times as far from the mean activation as the median token does.
MASSIVE = 10.0


@dataclass(frozen=True)
class Inputs:
    """Activations to predict from, at one site of the text to fit on: the same for all SAEs there."""

    captured: CapturedText
    solver: LeastSquares
    massive: float  # distance from the mean beyond which a token is massive

    @classmethod
    def of(cls, captured: CapturedText, site: str) -> Inputs:
        moments = CoMoments()
        captured.want(site)
        captured.complete(f"text to fit on at {site}", lambda shard: None)
        for rows in row_blocks(captured):
            _, x = inputs(captured, site, rows)
            moments.add(x, x)
        distances = torch.cat([_distance(inputs(captured, site, rows)[1], moments) for rows in row_blocks(captured)])
        return cls(captured, LeastSquares(moments), MASSIVE * float(distances.median()))

    def ordinary(self, x: Float[Tensor, "tokens d"]) -> Tensor:
        """Which tokens are not massive."""
        return _distance(x, self.solver.inputs) <= self.massive


def _distance(x: Tensor, moments: CoMoments) -> Tensor:
    return (x.double() - moments.mean_x).norm(dim=-1)


@dataclass(frozen=True)
class TokenMeans:
    """Mean of the norms of each token id of the text to fit on; ids that are not there get the mean of all."""

    ids: Int[Tensor, " known"]
    means: Float[Tensor, "known 3"]
    overall: Float[Tensor, " 3"]

    @classmethod
    def of(cls, token: Int[Tensor, " tokens"], values: Float[Tensor, "tokens 3"]) -> TokenMeans:
        ids, index, counts = token.unique(return_inverse=True, return_counts=True)
        # Summed on the CPU, in an order that never varies.
        sums = torch.zeros(len(ids), values.shape[1], dtype=torch.float64).index_add_(0, index.cpu(), values.cpu())
        return cls(ids, sums.to(values.device) / counts[:, None], values.mean(0))

    def __call__(self, token: Int[Tensor, " tokens"]) -> Float[Tensor, "tokens 3"]:
        place = torch.searchsorted(self.ids, token).clamp_max(len(self.ids) - 1)
        known = self.ids[place] == token
        return torch.where(known[:, None], self.means[place], self.overall)


@dataclass(frozen=True)
class ErrorModel:
    """Predictions of the error vector and of its three norms, fitted to one SAE."""

    maps: dict[Fit, LinearMap]  # from x to [error, norms of the error]
    by_token: TokenMeans
    by_norm: list[LinearMap]  # from ||x||, ||x||^2 and log ||x|| to the same of the error
    by_l0: LinearMap  # from the number of active latents to the norms

    def of_norms(
        self, x: Float[Tensor, "tokens d"], token: Int[Tensor, " tokens"], l0: Float[Tensor, " tokens"]
    ) -> dict[str, Float[Tensor, "tokens 3"]]:
        """What simpler things than the activation say of the norms, by the name of the predictor."""
        columns = norms(x).split(1, dim=-1)
        return {
            "token_mean": self.by_token(token),
            "activation_norm": torch.cat([line(x) for line, x in zip(self.by_norm, columns, strict=True)], -1),
            "l0": self.by_l0(l0[:, None]),
        }


def fit_error(coder: Coder, given: Inputs) -> ErrorModel:
    """One pass of the SAE over the text to fit on."""
    cross = CoMoments()
    kept: list[tuple[Tensor, ...]] = []
    for block in error_blocks(coder, given.captured):
        lengths = norms(block.error)
        cross.add(block.x, torch.cat([block.error.double(), lengths], -1))
        kept.append((block.token, norms(block.x), block.l0, lengths))
    token, x_norms, l0, lengths = (torch.cat(parts) for parts in zip(*kept, strict=True))
    return ErrorModel(
        maps={fit: given.solver.solve(cross, fit) for fit in FITS},
        by_token=TokenMeans.of(token, lengths),
        by_norm=[fit_whole(x_norms[:, [i]], lengths[:, [i]]) for i in range(NORMS)],
        by_l0=fit_whole(l0[:, None], lengths),
    )
