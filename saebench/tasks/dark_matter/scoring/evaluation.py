"""How well the error is predicted on the evaluation text, in sums per sequence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.passes.captured import LOSSES, CapturedText
from saebench.passes.positions import Positions
from saebench.sae.codes import Coder
from saebench.stats.linear import FITS, cross_fitted
from saebench.stats.residuals import ROUNDING, ResidualSums
from saebench.tasks.dark_matter.scoring.errors import NORMS, ErrorBlock, error_blocks, norms
from saebench.tasks.dark_matter.scoring.fit import ErrorModel, FitInputs

_SIMPLE_PREDICTORS = ("token_mean", "activation_norm", "l0")  # those of `ErrorModel.of_norms`


@dataclass(frozen=True)
class TokenErrors:
    """The error on each evaluated token, on the CPU in float64; small enough to be kept until SAEs are compared."""

    sequence: Int[Tensor, " tokens"]
    norms: Float[Tensor, "tokens 3"]
    nonlinear: Float[Tensor, " tokens"]  # norm of what the activation, with an intercept, does not predict
    exact: bool  # whether the reconstruction is exact up to rounding


@dataclass(frozen=True)
class ErrorSums:
    """Sums per sequence over some of the tokens."""

    target: ResidualSums  # what the SAE is to reconstruct
    error: ResidualSums
    norms: ResidualSums  # of the error

    @classmethod
    def empty(
        cls, sequences: int, d: int, predictions: tuple[str, ...], norm_predictions: tuple[str, ...]
    ) -> ErrorSums:
        """Sums of nothing, for predictions of the error vector ``[d]`` and of its norms."""
        return cls(
            ResidualSums(sequences, d, ()),
            ResidualSums(sequences, d, predictions),
            ResidualSums(sequences, NORMS, norm_predictions),
        )

    @property
    def exact(self) -> bool:
        """Whether the error is no more than rounding of the activations."""
        return bool(self.error.squares().sum() <= ROUNDING**2 * self.target.squares().sum())


@dataclass(frozen=True)
class ErrorScores:
    """What every number of one SAE follows from, except those of the language model's losses."""

    every: ErrorSums
    ordinary: ErrorSums  # of the tokens that are not massive
    l0: Float[np.ndarray, " sequences"]
    tokens: TokenErrors


def error_scores(coder: Coder, model: ErrorModel, inputs: FitInputs, captured: CapturedText) -> ErrorScores:
    """Compare the predictions of the error with the error, in one pass of the SAE over the evaluation text.

    Args:
        coder: Encodes and decodes with the SAE.
        model: The predictions that were fitted to the SAE.
        inputs: Tells massive tokens from ordinary ones.
        captured: The evaluation text.

    Raises:
        SaebenchError: The reconstruction holds NaN or Inf.
    """
    n, d = captured.n_sequences, coder.sae.d_out
    every = ErrorSums.empty(n, d, FITS, (*FITS, *_SIMPLE_PREDICTORS))
    ordinary = ErrorSums.empty(n, d, ("intercept",), ("intercept",))
    total_l0 = np.zeros(n)
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    for block in error_blocks(coder, captured):
        actual = norms(block.error)
        residuals = _residuals(model, block)
        of_error = {name: values[:, :d] for name, values in residuals.items()}
        of_norms = {name: values[:, d:] for name, values in residuals.items()}
        simple = model.of_norms(block.x, block.token, block.l0)
        of_norms |= {name: actual - predicted for name, predicted in simple.items()}
        for sums, chosen in ((every, slice(None)), (ordinary, inputs.ordinary(block.x))):
            sequence = block.sequence[chosen if isinstance(chosen, slice) else chosen.cpu()]
            sums.target.add(block.target[chosen].double(), {}, sequence)
            sums.error.add(block.error[chosen].double(), _rows(of_error, chosen), sequence)
            sums.norms.add(actual[chosen], _rows(of_norms, chosen), sequence)
        total_l0 += np.bincount(block.sequence, block.l0.cpu(), minlength=n)
        kept.append((block.sequence, actual.cpu(), of_error["intercept"].norm(dim=-1).cpu()))
    sequence, lengths, nonlinear = (torch.cat(parts) for parts in zip(*kept, strict=True))
    return ErrorScores(every, ordinary, total_l0, TokenErrors(sequence, lengths, nonlinear, every.exact))


def norms_from_loss(tokens: TokenErrors, captured: CapturedText) -> ResidualSums:
    """The norms of the error as the language model's loss at the token, that of predicting the next one, predicts them.

    Half of the sequences is predicted from a fit to the other half, and vice versa.

    Args:
        tokens: The errors on the evaluation text.
        captured: The first sequences of that text.
    """
    captured.want(LOSSES)
    captured.complete("losses", lambda shard: None)
    n, length = captured.n_sequences, captured.context_length
    positions = Positions.of(captured.batch, slice(0, n), torch.device("cpu"))
    loss = torch.full((n * length,), torch.nan, dtype=torch.float64)
    loss[positions.predicting] = torch.cat([captured.losses(shard).ce for shard in captured.shards]).double()
    loss = loss[positions.evaluated]
    known = ~loss.isnan()  # the last token of a sequence predicts nothing
    first = len(positions.evaluated)
    sequence, lengths = tokens.sequence[:first][known], tokens.norms[:first][known]
    cut = int((sequence < n // 2).sum())
    sums = ResidualSums(n, NORMS, ("loss",))
    sums.add(lengths, {"loss": lengths - cross_fitted(loss[known][:, None], lengths, cut)}, sequence)
    return sums


def _residuals(model: ErrorModel, block: ErrorBlock) -> dict[str, Tensor]:
    """The error and its norms less their prediction, ``[tokens, d_out + 3]``, for each way of fitting."""
    actual = torch.cat([block.error.double(), norms(block.error)], -1)
    return {name: actual - predict(block.x) for name, predict in model.maps.items()}


def _rows(values: dict[str, Tensor], chosen: slice | Tensor) -> dict[str, Tensor]:
    return {name: value[chosen] for name, value in values.items()}
