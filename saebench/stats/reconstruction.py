"""The reconstruction metrics (FVU, MSE, cosine, L2 ratio, bias) as sums for each sequence, whose ratios they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

# The numbers that are converted at a time: a float64 copy takes 2 MB, which stays in the cache of a CPU, or 128 MB on a
# GPU, which needs many numbers to be busy.
_CHUNK, _CHUNK_GPU = 2**18, 2**24
_PENDING = 2**18  # the tokens whose sums may stay on a GPU (20 MB)


@dataclass(frozen=True)
class Centre:
    """The mean and the variance of each dimension over ``n`` tokens, in float64."""

    mean: Float[Tensor, " d"]
    variance: Float[Tensor, " d"]
    n: int

    @classmethod
    def of(cls, x: Float[Tensor, "tokens d"]) -> Centre:
        """Return the centre of ``x``, from two passes, so that a large mean (Gemma's residual stream) does no harm."""
        chunks = x.split(max(1, _CHUNK // x.shape[1]))
        mean = torch.stack([chunk.sum(0, dtype=torch.float64) for chunk in chunks]).sum(0) / len(x)
        total = torch.zeros_like(mean)
        for chunk in chunks:
            total += (chunk.double() - mean).square().sum(0)
        return cls(mean, total / len(x), len(x))

    @classmethod
    def joined(cls, parts: Sequence[Centre]) -> Centre:
        """Return the centre of vectors of which ``parts`` are the centres of consecutive dimensions."""
        if len(parts) == 1:
            return parts[0]
        return cls(torch.cat([part.mean for part in parts]), torch.cat([part.variance for part in parts]), parts[0].n)

    @classmethod
    def merge(cls, parts: Sequence[Centre]) -> Centre:
        """Return the centre of all tokens from the centres of disjoint parts (Chan, Golub & LeVeque 1983)."""
        n = sum(part.n for part in parts)
        mean = torch.stack([part.mean * part.n for part in parts]).sum(0) / n
        spread = [part.variance + (part.mean - mean).square() for part in parts]
        total = torch.stack([part.n * around for part, around in zip(parts, spread, strict=True)]).sum(0)
        return cls(mean, total / n, n)


class ReconstructionSums:
    """Sums, for each sequence, the numerators and denominators of the reconstruction metrics.

    A metric is the ratio of the sums over all sequences; ratios are never averaged over batches.
    """

    _columns = ("sse", "sst", "sse_std", "sst_std", "cosine", "l2_ratio", "norm_hat", "dot", "tokens", "nonzero")

    def __init__(self, n_sequences: int, centre: Centre) -> None:
        """Begin with sums of 0.

        Args:
            n_sequences: The number of sequences.
            centre: The centre of all evaluated tokens, around which variances are taken.
        """
        self._centre = centre
        # A constant dimension cannot be standardised and is left out. The rounding of its mean is not a variance.
        varies = centre.variance > (1e-12 * centre.mean).square()
        self._scale = torch.where(varies, centre.variance, torch.inf).rsqrt()
        self._sums = torch.zeros(len(self._columns), n_sequences, dtype=torch.float64)
        self._pending: list[tuple[Tensor, Tensor]] = []

    def add(
        self, x: Float[Tensor, "tokens d"], xhat: Float[Tensor, "tokens d"], sequence: Int[Tensor, " tokens"]
    ) -> None:
        """Add tokens. The sums of tokens on a GPU are fetched later, for many tokens at a time.

        Args:
            x: The activations.
            xhat: Their reconstructions.
            sequence: The number of each token's sequence, best on the CPU.
        """
        step = max(1, (_CHUNK_GPU if x.is_cuda else _CHUNK) // x.shape[1])
        parts = [
            self._summands(x[start : start + step], xhat[start : start + step]) for start in range(0, len(x), step)
        ]
        rows = torch.cat(parts, 1) if parts else torch.zeros(len(self._columns), 0, dtype=torch.float64)
        self._pending.append((sequence, rows))
        if not rows.is_cuda or sum(len(tokens) for tokens, _ in self._pending) > _PENDING:
            self._fetch()

    def _summands(self, x: Tensor, xhat: Tensor) -> Float[Tensor, "columns tokens"]:
        """Return what each token adds to each sum."""
        x, xhat = x.double(), xhat.double()
        mean, scale = self._centre.mean.to(x.device), self._scale.to(x.device)
        error, spread = x - xhat, x - mean
        norm, norm_hat = x.norm(dim=-1), xhat.norm(dim=-1)
        dot = (x * xhat).sum(-1)
        return torch.stack(
            [
                error.square().sum(-1),
                spread.square().sum(-1),
                (error * scale).square().sum(-1),
                (spread * scale).square().sum(-1),
                # A zero vector has no direction, so its cosine is 0, like that of an orthogonal vector.
                dot / (norm * norm_hat).clamp_min(torch.finfo(x.dtype).tiny),
                torch.where(norm > 0, norm_hat / norm, 0.0),  # zero vectors are left out by the denominator "nonzero"
                norm_hat.square(),
                dot,
                torch.ones_like(dot),
                (norm > 0).double(),
            ]
        )

    def _fetch(self) -> None:
        for sequence, rows in self._pending:
            self._sums.index_add_(1, sequence.cpu(), rows.cpu())
        self._pending = []

    def ratios(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the numerator and the denominator of each sequence, ``[n_sequences]``, by the metric's id."""
        self._fetch()
        sums = dict(zip(self._columns, self._sums, strict=True))
        return {
            "fvu": (sums["sse"], sums["sst"]),
            "fvu_standardised": (sums["sse_std"], sums["sst_std"]),
            "explained_variance": (sums["sst"] - sums["sse"], sums["sst"]),
            "mse": (sums["sse"], sums["tokens"]),
            "cosine": (sums["cosine"], sums["tokens"]),
            "l2_ratio": (sums["l2_ratio"], sums["nonzero"]),
            # E|xhat|^2 / E[x . xhat] (arXiv 2404.16014, eq. 10); below 1 it means shrinkage.
            "reconstruction_bias": (sums["norm_hat"], sums["dot"]),
        }
