"""The error of an SAE on each token, in blocks of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.errors import SaebenchError
from saebench.lm.batching import to_device
from saebench.passes.captured import CapturedText
from saebench.passes.positions import Positions
from saebench.sae.codes import Coder, Codes
from saebench.sae.protocol import SparseCodes

# Tokens in a block, in whole sequences: float64 copies of 4,096 tokens of 4,096 dimensions take 128 MB each.
_BLOCK_TOKENS = 4096

NORMS = 3  # ||e||, ||e||^2 and log ||e||


@dataclass(frozen=True)
class ErrorBlock:
    """The evaluated tokens of some sequences; all on the model's device except ``sequence``."""

    sequence: Int[Tensor, " tokens"]  # row of the text, on the CPU
    token: Int[Tensor, " tokens"]  # id in the vocabulary
    x: Float[Tensor, "tokens d_in"]  # what the SAE reads, and what its error is predicted from
    target: Float[Tensor, "tokens d_out"]  # what the SAE reconstructs: x itself unless it is a transcoder
    error: Float[Tensor, "tokens d_out"]  # target - reconstruction
    l0: Float[Tensor, " tokens"]  # number of latents that are not zero


def row_blocks(captured: CapturedText) -> Iterator[slice]:
    """The sequences of a text in slices, each of which lies within one shard."""
    step = max(1, _BLOCK_TOKENS // captured.context_length)
    for shard in captured.shards:
        yield from (slice(start, min(start + step, shard.stop)) for start in range(shard.start, shard.stop, step))


def activations_at(captured: CapturedText, site: str, rows: slice) -> tuple[Positions, Float[Tensor, "tokens d"]]:
    """The evaluated tokens of ``rows``, and their activations at ``site`` in float32 on the model's device."""
    device = captured.lm.device
    positions = Positions.of(captured.batch, rows, device)
    return positions, positions.at_evaluated(to_device(captured.activations(site, rows), device)).float()


def error_blocks(coder: Coder, captured: CapturedText) -> Iterator[ErrorBlock]:
    """Encode and decode a text, block by block. Raises SaebenchError when the reconstruction holds NaN or Inf."""
    hook = coder.sae.hook
    for rows in row_blocks(captured):
        positions, x = activations_at(captured, hook.site_in, rows)
        target = x if hook.site_out == hook.site_in else activations_at(captured, hook.site_out, rows)[1]
        active: list[Tensor] = []

        def count(_: slice, codes: Codes, active: list[Tensor] = active) -> None:
            latents = codes.values if isinstance(codes, SparseCodes) else codes
            active.append((latents != 0).sum(-1))

        error = target - coder.reconstruct(x, count)
        if not bool(torch.isfinite(error).all()):
            raise SaebenchError(
                f"{coder.sae.name}: its reconstruction holds NaN or Inf, so its error cannot be measured; see what it "
                "does to activations of this size at this hook (saebench check-adapter)."
            )
        l0 = torch.cat(active).double() if active else x.new_zeros(0)
        yield ErrorBlock(positions.sequence, positions.tokens.flatten()[positions.evaluated], x, target, error, l0)


def norms(vectors: Float[Tensor, "tokens d"]) -> Float[Tensor, "tokens 3"]:
    """The norm, the squared norm and the log norm of each row, in float64; the log norm of a zero row is -inf."""
    squared = vectors.double().square().sum(-1)
    return torch.stack([squared.sqrt(), squared, squared.log() / 2], -1)
