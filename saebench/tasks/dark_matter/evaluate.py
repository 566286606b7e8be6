"""How well the error is predicted on the evaluation text, per sequence."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.passes.captured import LOSSES, CapturedText
from saebench.passes.positions import Positions
from saebench.sae.codes import Coder
from saebench.stats.linear import FITS, cross_fitted
from saebench.stats.residuals import ROUNDING, ResidualSums
from saebench.tasks.dark_matter.errors import NORMS, ErrorBlock, error_blocks, norms
from saebench.tasks.dark_matter.fit import ErrorModel, Inputs

BASELINES = ("token_mean", "activation_norm", "l0")


@dataclass(frozen=True)
class TokenErrors:
    """Per evaluated token, on the CPU in float64: small enough to be kept for comparisons between SAEs."""

    sequence: Int[Tensor, " tokens"]
    norms: Float[Tensor, "tokens 3"]
    nonlinear: Float[Tensor, " tokens"]  # norm of what the activation does not predict, with an intercept
    exact: bool  # the reconstruction is exact up to rounding


@dataclass
class Sums:
    """Sums per sequence over some of the tokens."""

    target: ResidualSums  # what is to be reconstructed
    error: ResidualSums
    norms: ResidualSums

    @classmethod
    def empty(cls, sequences: int, d: int, fits: tuple[str, ...], of_norms: tuple[str, ...]) -> Sums:
        return cls(
            ResidualSums(sequences, d, ()), ResidualSums(sequences, d, fits), ResidualSums(sequences, NORMS, of_norms)
        )

    @property
    def exact(self) -> bool:
        """Whether the error is no more than rounding of the activations."""
        return bool(self.error.squares().sum() <= ROUNDING**2 * self.target.squares().sum())


@dataclass
class Evaluation:
    """Everything that the numbers of one SAE follow from, but for those of the language model."""

    every: Sums
    ordinary: Sums  # tokens that are not massive
    l0: Float[np.ndarray, " sequences"]
    tokens: TokenErrors = field(init=False)


def evaluate(coder: Coder, model: ErrorModel, given: Inputs, captured: CapturedText) -> Evaluation:
    """One pass of the SAE over the evaluation text."""
    n, d = captured.n_sequences, coder.sae.d_out
    found = Evaluation(
        Sums.empty(n, d, FITS, (*FITS, *BASELINES)), Sums.empty(n, d, ("intercept",), ("intercept",)), np.zeros(n)
    )
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    for block in error_blocks(coder, captured):
        residuals = _residuals(model, block)
        lengths = norms(block.error)
        of_norms = {name: values[:, d:] for name, values in residuals.items()}
        simple = model.of_norms(block.x, block.token, block.l0)
        of_norms |= {name: lengths - predicted for name, predicted in simple.items()}
        of_error = {name: values[:, :d] for name, values in residuals.items()}
        ordinary = given.ordinary(block.x)
        for sums, chosen in ((found.every, slice(None)), (found.ordinary, ordinary)):
            sequence = block.sequence[chosen if isinstance(chosen, slice) else chosen.cpu()]
            sums.target.add(block.target[chosen].double(), {}, sequence)
            sums.error.add(block.error[chosen].double(), _rows(of_error, chosen), sequence)
            sums.norms.add(lengths[chosen], _rows(of_norms, chosen), sequence)
        found.l0 += np.bincount(block.sequence, block.l0.cpu(), minlength=n)
        kept.append((block.sequence, lengths.cpu(), of_error["intercept"].norm(dim=-1).cpu()))
    sequence, lengths, nonlinear = (torch.cat(parts) for parts in zip(*kept, strict=True))
    found.tokens = TokenErrors(sequence, lengths, nonlinear, found.every.exact)
    return found


def _residuals(model: ErrorModel, block: ErrorBlock) -> dict[str, Tensor]:
    """``[error, norms]`` minus their prediction, for each way of fitting."""
    actual = torch.cat([block.error.double(), norms(block.error)], -1)
    return {name: actual - fitted(block.x) for name, fitted in model.maps.items()}


def _rows(values: dict[str, Tensor], chosen: slice | Tensor) -> dict[str, Tensor]:
    return {name: value[chosen] for name, value in values.items()}


def by_loss(tokens: TokenErrors, captured: CapturedText) -> ResidualSums:
    """Norms predicted from the loss of the language model at the token, which is that of the token after it.

    ``captured`` holds the first sequences of those that ``tokens`` are of. The fit is to the other half of them.
    """
    captured.want(LOSSES)
    captured.complete("losses", lambda shard: None)
    n, length = captured.n_sequences, captured.context_length
    positions = Positions.of(captured.batch, slice(0, n), torch.device("cpu"))
    loss = torch.full((n * length,), torch.nan, dtype=torch.float64)
    loss[positions.predicting] = torch.cat([captured.losses(shard).ce for shard in captured.shards]).double()
    loss = loss[positions.evaluated]
    known = ~loss.isnan()
    first = len(positions.evaluated)
    sequence, lengths = tokens.sequence[:first][known], tokens.norms[:first][known]
    cut = int((sequence < n // 2).sum())
    found = ResidualSums(n, NORMS, ("loss",))
    found.add(lengths, {"loss": lengths - cross_fitted(loss[known][:, None], lengths, cut)}, sequence)
    return found
