"""Squared errors of the reconstruction without, and with nothing but, groups of latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from saebench.errors import SaebenchError
from saebench.lm.batching import to_device
from saebench.passes.captured import CapturedText
from saebench.passes.context import TaskContext
from saebench.passes.positions import Positions
from saebench.sae.codes import Codes
from saebench.sae.protocol import SAE, HookSite
from saebench.stats.identity import TokenCounts
from saebench.stats.reconstruction import Centre
from saebench.tasks.seed_stability.scoring.group_decoder import GroupDecoder


@dataclass(frozen=True)
class GroupErrors:
    """Sums of squares per sequence over evaluated tokens and dimensions, in float64, and what the latents fired on."""

    spread: NDArray[np.float64]  # [sequences]: ||x - mean||^2
    all: NDArray[np.float64]  # [sequences]: ||x - xhat||^2
    none: NDArray[np.float64]  # [sequences]: of the decoder's constant alone
    dropped: NDArray[np.float64]  # [groups, sequences]: with f_G = 0
    kept: NDArray[np.float64]  # [groups, sequences]: with f_G only
    tokens: TokenCounts


def group_errors(
    saes: Sequence[SAE],
    groups: Sequence[NDArray[np.bool_]],
    captured: CapturedText,
    hook: HookSite,
    context: TaskContext,
) -> list[GroupErrors]:
    """The errors of each SAE with and without groups of its latents; every SAE encodes the text once.

    The decoder is linear, so leaving out group G gives ``xhat - f_G W_G``, and keeping it alone
    ``xhat - f W + f_G W_G``: the decoder's constant stays, whatever it is.

    Args:
        saes: Position-wise SAEs with a linear decoder, all at ``hook``.
        groups: The groups of each SAE, ``[groups, d_sae]``.
        captured: The text.
        hook: The site that the SAEs read and the site that they reconstruct.
        context: Keeps the mean activation of the text, and gives the memory for a block of tokens.

    Raises:
        SaebenchError: An SAE gives NaN or Inf.
    """
    captured.want(hook.site_in, hook.site_out)
    centre = context.shared(
        ("seed_stability", "centre", captured.batch.content_hash, hook.site_out),
        lambda: _centre(captured, hook.site_out),
    )
    decoders = [_decoder(sae, masks, context) for sae, masks in zip(saes, groups, strict=True)]
    sums = [torch.zeros(1 + 2 * decoder.n_groups, captured.n_sequences, dtype=torch.float64) for decoder in decoders]
    spread = torch.zeros(captured.n_sequences, dtype=torch.float64)
    vocabulary = int(captured.batch.tokens.max()) + 1
    fired = [TokenCounts(sae.d_sae, vocabulary) for sae in saes]

    def add(shard: slice) -> None:
        for decoder, total, tokens in zip(decoders, sums, fired, strict=True):
            step = decoder.sequences_at_once(captured.context_length)
            for start in range(shard.start, shard.stop, step):
                rows = slice(start, min(start + step, shard.stop))
                positions = Positions.of(captured.batch, rows, captured.lm.device)
                total.index_add_(1, positions.sequence, _squares(decoder, captured, positions, tokens))
        positions = Positions.of(captured.batch, shard, captured.lm.device)
        x = _at_evaluated(captured, hook.site_out, positions)
        around = (x.double() - centre.mean.to(x.device)).square().sum(-1)
        spread.index_add_(0, positions.sequence, around.cpu())

    captured.complete("groups of latents", add)
    return [
        _group_errors(decoder, spread, total, tokens)
        for decoder, total, tokens in zip(decoders, sums, fired, strict=True)
    ]


def _decoder(sae: SAE, groups: NDArray[np.bool_], context: TaskContext) -> GroupDecoder:
    """Decodes the groups and, as the last one, all latents, without which only the decoder's constant is left."""
    every = np.ones((1, sae.d_sae), bool)
    return GroupDecoder(sae, np.concatenate([groups, every]), context.budget.encoder, context.lm.device)


def _group_errors(decoder: GroupDecoder, spread: Tensor, sums: Tensor, tokens: TokenCounts) -> GroupErrors:
    if not bool(sums.isfinite().all()):
        raise SaebenchError(
            f"{decoder.sae.name}: its latents or its reconstruction hold NaN or Inf, so nothing can be measured; "
            "see what it does to activations of this size at this hook (saebench check-adapter)."
        )
    values = sums.numpy()
    dropped, kept = values[1 : 1 + decoder.n_groups], values[1 + decoder.n_groups :]
    return GroupErrors(spread.numpy(), values[0], dropped[-1], dropped[:-1], kept[:-1], tokens)


def _squares(
    decoder: GroupDecoder, captured: CapturedText, positions: Positions, fired: TokenCounts
) -> Float[Tensor, "1+2groups tokens"]:
    """Squared errors per token: with all latents, without each group, and with each group alone."""
    ids = positions.tokens.flatten()[positions.evaluated]

    def count(tokens: slice, codes: Codes) -> None:
        fired.add(codes, ids[tokens])

    xhat, contributions = decoder.contributions(captured, positions, count)
    error = _at_evaluated(captured, decoder.sae.hook.site_out, positions).double() - xhat.double()
    above_constant = error + contributions[-1].double()  # x less the constant: the last group holds all latents
    squares = [error.square().sum(-1)]
    squares += [(error + part).square().sum(-1) for part in contributions]
    squares += [(above_constant - part).square().sum(-1) for part in contributions]
    return torch.stack(squares).cpu()


def _at_evaluated(captured: CapturedText, site: str, positions: Positions) -> Float[Tensor, "tokens d"]:
    return positions.at_evaluated(to_device(captured.activations(site, positions.rows), positions.tokens.device))


def _centre(captured: CapturedText, site: str) -> Centre:
    centres: list[Centre] = []

    def add(shard: slice) -> None:
        positions = Positions.of(captured.batch, shard, torch.device("cpu"))
        if len(positions.evaluated):
            centres.append(Centre.of(positions.at_evaluated(captured.activations(site, shard))))

    captured.complete(f"centre of {site}", add)
    return Centre.merge(centres)
