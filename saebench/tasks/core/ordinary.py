"""Which evaluated tokens are ordinary, and their centre: massive tokens can hold most of the variance.

docs/design/0004-attention-sinks.md says where they come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saebench.passes.clean import CleanPass
from saebench.passes.positions import Positions
from saebench.stats.reconstruction import Centre

MASSIVE = 10.0  # times the median distance from the mean activation, as in `dark_matter`


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class OrdinaryTokens:
    """The evaluated tokens that are not massive, and their centre."""

    chosen: Bool[Tensor, " tokens"]  # on the CPU, in the order of the text
    centre: Centre


def ordinary_tokens(clean: CleanPass) -> OrdinaryTokens:
    """Return the evaluated tokens at most `MASSIVE` times as far from their mean as the median token is.

    At least half of all tokens are ordinary. Where there are several sites, the distance is that at all of them.
    """
    distances = [(x.double() - clean.centre.mean).norm(dim=-1) for x in _evaluated(clean)]
    distance = torch.cat(distances)
    chosen = distance <= MASSIVE * distance.median()
    parts, first = [], 0
    for x in _evaluated(clean):
        kept = x[chosen[first : first + len(x)]]
        first += len(x)
        if len(kept):
            parts.append(Centre.of(kept))
    return OrdinaryTokens(chosen, Centre.merge(parts))


def _evaluated(clean: CleanPass) -> Iterator[Float[Tensor, "tokens d"]]:
    """Yield the activations at the evaluated tokens of one shard after the other, on the CPU."""
    cpu = torch.device("cpu")
    for shard in clean.captured.shards:
        positions = Positions.of(clean.captured.batch, shard, cpu)
        if len(positions.evaluated):
            activations = [clean.captured.activations(site, shard) for site in clean.sites]
            yield torch.cat([positions.at_evaluated(x).float() for x in activations], -1)
