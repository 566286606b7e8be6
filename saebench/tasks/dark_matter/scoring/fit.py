"""The predictions of the error, fitted by least squares: from the activation, and from simpler things."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.passes.captured import CapturedText
from saebench.passes.context import TaskContext
from saebench.sae.codes import Coder
from saebench.stats.linear import FITS, CoMoments, Fit, LeastSquares, LinearMap, fit_whole
from saebench.tasks.dark_matter.scoring.errors import NORMS, activations_at, error_blocks, norms, row_blocks

# A token is massive when it lies this many times as far from the mean activation as the median token does.
MASSIVE = 10.0


@dataclass(frozen=True)
class FitInputs:
    """Activations at one site of the text to fit on; the errors of all SAEs that read it are predicted from them."""

    captured: CapturedText
    site: str
    solver: LeastSquares
    massive: float  # distance from the mean beyond which a token is massive

    @classmethod
    def of(cls, captured: CapturedText, site: str) -> FitInputs:
        """Read the whole text once, for the moments of the activations and for the distances from their mean."""
        moments = CoMoments()
        captured.want(site)
        captured.complete(f"text to fit on at {site}", lambda shard: None)
        for rows in row_blocks(captured):
            _, x = activations_at(captured, site, rows)
            moments.add(x, x)
        distances = [_distance(activations_at(captured, site, rows)[1], moments) for rows in row_blocks(captured)]
        return cls(captured, site, LeastSquares(moments), MASSIVE * float(torch.cat(distances).median()))

    def ordinary(self, x: Float[Tensor, "tokens d"]) -> Bool[Tensor, " tokens"]:
        """Which tokens are not massive."""
        return _distance(x, self.solver.inputs) <= self.massive


def _distance(x: Tensor, moments: CoMoments) -> Tensor:
    return (x.double() - moments.mean_x).norm(dim=-1)


class _LatestInputs:
    """Holds the inputs of the site that was asked for last."""

    def __init__(self) -> None:
        self._inputs: FitInputs | None = None

    def at(self, captured: CapturedText, site: str) -> FitInputs:
        inputs = self._inputs
        if inputs is None or inputs.captured is not captured or inputs.site != site:
            inputs = self._inputs = None  # free the old ones before the new ones are made
            inputs = self._inputs = FitInputs.of(captured, site)
        return inputs


def fit_inputs(captured: CapturedText, site: str, context: TaskContext) -> FitInputs:
    """The inputs at ``site``, made once for all SAEs there.

    They may be large, so the context keeps only those of the site that was asked for last.
    """
    return context.shared(("dark_matter", "fit inputs"), _LatestInputs).at(captured, site)


@dataclass(frozen=True)
class TokenMeans:
    """The mean norms of the error at each token id of the text to fit on; other ids get the mean of all tokens."""

    ids: Int[Tensor, " known"]
    means: Float[Tensor, "known 3"]
    overall: Float[Tensor, " 3"]

    @classmethod
    def of(cls, token: Int[Tensor, " tokens"], values: Float[Tensor, "tokens 3"]) -> TokenMeans:
        """Average the norms ``values`` of the tokens that have the same id."""
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
    """The predictions of the error vector and of its three norms, fitted to one SAE."""

    maps: dict[Fit, LinearMap]  # from x to [error, norms of the error]
    by_token: TokenMeans
    by_norm: list[LinearMap]  # one for each norm: from that norm of x to that norm of the error
    by_l0: LinearMap  # from the number of active latents to the norms

    def of_norms(
        self, x: Float[Tensor, "tokens d"], token: Int[Tensor, " tokens"], l0: Float[Tensor, " tokens"]
    ) -> dict[str, Float[Tensor, "tokens 3"]]:
        """The norms as simpler things than the activation predict them, by the name of the predictor."""
        columns = norms(x).split(1, dim=-1)
        return {
            "token_mean": self.by_token(token),
            "activation_norm": torch.cat([line(x) for line, x in zip(self.by_norm, columns, strict=True)], -1),
            "l0": self.by_l0(l0[:, None]),
        }


def fit_error(coder: Coder, inputs: FitInputs) -> ErrorModel:
    """Fit the predictions in one pass of the SAE over the text to fit on."""
    cross = CoMoments()
    kept: list[tuple[Tensor, ...]] = []
    for block in error_blocks(coder, inputs.captured):
        lengths = norms(block.error)
        cross.add(block.x, torch.cat([block.error.double(), lengths], -1))
        kept.append((block.token, norms(block.x), block.l0, lengths))
    token, x_norms, l0, lengths = (torch.cat(parts) for parts in zip(*kept, strict=True))
    return ErrorModel(
        maps={fit: inputs.solver.solve(cross, fit) for fit in FITS},
        by_token=TokenMeans.of(token, lengths),
        by_norm=[fit_whole(x_norms[:, [i]], lengths[:, [i]]) for i in range(NORMS)],
        by_l0=fit_whole(l0[:, None], lengths),
    )
