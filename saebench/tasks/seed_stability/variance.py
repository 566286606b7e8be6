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
from saebench.sae.protocol import HookSite
from saebench.stats.identity import TokenCounts
from saebench.stats.reconstruction import Centre
from saebench.tasks.seed_stability.parts import GroupDecoder


@dataclass(frozen=True)
class GroupErrors:
    """Per sequence, sums of squares over evaluated tokens and dimensions, in float64; and what the latents fired on."""

    spread: NDArray[np.float64]  # [sequences]: ||x - mean||^2
    all: NDArray[np.float64]  # [sequences]: ||x - xhat||^2
    none: NDArray[np.float64]  # [sequences]: the decoder's constant alone
    dropped: NDArray[np.float64]  # [groups, sequences]: f_G = 0
    kept: NDArray[np.float64]  # [groups, sequences]: f_G only
    tokens: TokenCounts


def group_errors(
    members: Sequence[tuple[GroupDecoder, int]], captured: CapturedText, hook: HookSite, context: TaskContext
) -> list[GroupErrors]:
    """Errors of each member's groups, over the evaluated tokens of ``captured``; every member encodes once.

    ``members`` are (decoder, number of groups), all at ``hook``. With the decoder linear, leaving out group G gives
    ``xhat - f_G W_G``, and keeping it alone ``xhat - f W + f_G W_G``: the constant, whatever it is, stays.
    The last group of each decoder must be that of all latents. Raises SaebenchError when an SAE gives NaN or Inf.
    """
    captured.want(hook.site_in, hook.site_out)
    centre = context.shared(
        ("seed_stability", "centre", captured.batch.content_hash, hook.site_out),
        lambda: _centre(captured, hook.site_out),
    )
    sums = [torch.zeros(1 + 2 * groups, captured.n_sequences, dtype=torch.float64) for _, groups in members]
    spread = torch.zeros(captured.n_sequences, dtype=torch.float64)
    vocabulary = int(captured.batch.tokens.max()) + 1
    fired = [TokenCounts(decoder.sae.d_sae, vocabulary) for decoder, _ in members]

    def then(shard: slice) -> None:
        for index, (decoder, _) in enumerate(members):
            step = decoder.sequences_at_once(captured.context_length)
            for start in range(shard.start, shard.stop, step):
                rows = slice(start, min(start + step, shard.stop))
                positions = Positions.of(captured.batch, rows, captured.lm.device)
                sums[index].index_add_(1, positions.sequence, _squares(decoder, captured, positions, fired[index]))
        positions = Positions.of(captured.batch, shard, captured.lm.device)
        x = _at_evaluated(captured, hook.site_out, positions)
        around = (x.double() - centre.mean.to(x.device)).square().sum(-1)
        spread.index_add_(0, positions.sequence, around.cpu())

    captured.complete("groups of latents", then)
    out = []
    for (decoder, groups), found, tokens in zip(members, sums, fired, strict=True):
        if not bool(found.isfinite().all()):
            raise SaebenchError(
                f"{decoder.sae.name}: its latents or its reconstruction hold NaN or Inf, so nothing can be measured; "
                "see what it does to activations of this size at this hook (saebench check-adapter)."
            )
        values = found.numpy()
        dropped, kept = values[1 : 1 + groups], values[1 + groups :]
        out.append(GroupErrors(spread.numpy(), values[0], dropped[-1], dropped[:-1], kept[:-1], tokens))
    return out


def _squares(
    decoder: GroupDecoder, captured: CapturedText, positions: Positions, fired: TokenCounts
) -> Float[Tensor, "1+2groups tokens"]:
    """Squared errors per token: with all latents, without each group, with each group alone."""
    ids = positions.tokens.flatten()[positions.evaluated]

    def sink(tokens: slice, codes: Codes) -> None:
        fired.add(codes, ids[tokens])

    xhat, parts = decoder.parts(captured, positions, sink)
    error = _at_evaluated(captured, decoder.sae.hook.site_out, positions).double() - xhat.double()
    nothing = error + parts[-1].double()  # x less the constant: the last group holds all latents
    squares = [error.square().sum(-1)]
    squares += [(error + part).square().sum(-1) for part in parts]
    squares += [(nothing - part).square().sum(-1) for part in parts]
    return torch.stack(squares).cpu()


def _at_evaluated(captured: CapturedText, site: str, positions: Positions) -> Float[Tensor, "tokens d"]:
    return positions.at_evaluated(to_device(captured.activations(site, positions.rows), positions.tokens.device))


def _centre(captured: CapturedText, site: str) -> Centre:
    parts: list[Centre] = []

    def then(shard: slice) -> None:
        positions = Positions.of(captured.batch, shard, torch.device("cpu"))
        if len(positions.evaluated):
            parts.append(Centre.of(positions.at_evaluated(captured.activations(site, shard))))

    captured.complete(f"centre of {site}", then)
    return Centre.merge(parts)
