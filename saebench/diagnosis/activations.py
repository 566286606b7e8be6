"""The activations that all variants of a diagnosis share: a few thousand tokens, captured once at all hook points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saebench.data.tokens import TokenBatch
from saebench.errors import HookMismatchError
from saebench.lm.model import LanguageModel
from saebench.stats.reconstruction import Centre

_BATCH = 4  # sequences per pass
_OUTLIER = 4  # times the median norm; tokens at which attention rests have norms ten times as large


@dataclass(frozen=True)
class Source:
    """Which activations are read and compared.

    Attributes:
        site_in: Where the SAE reads.
        site_out: What it is compared with.
        bos: Whether sequences begin with the BOS token.
        first_counts: Whether the first position counts: that of the BOS token, where there is one.
    """

    site_in: str
    site_out: str
    bos: bool = True
    first_counts: bool = False

    @classmethod
    def at(cls, site: str) -> Source:
        """The source of an SAE that reads and writes at one hook point."""
        return cls(site, site)


@dataclass
class Activations:
    """Activations of one text at several hook points.

    Attributes:
        batch: The text.
        at: The activations ``[sequences, position, d]`` in float32 by hook point and by whether sequences begin with
            the BOS token. Without it they have one position less.
    """

    batch: TokenBatch
    at: Mapping[tuple[str, bool], Float[Tensor, "sequences position d"]]
    _centres: dict[Source, Centre] = field(default_factory=dict, repr=False)

    def has(self, source: Source) -> bool:
        """Whether the activations of a source were captured."""
        return all((site, source.bos) in self.at for site in (source.site_in, source.site_out))

    def width(self, site: str) -> int:
        """The width at a hook point."""
        return self.at[site, True].shape[-1]

    def counted(self, source: Source) -> Bool[Tensor, "sequences position"]:
        """Which positions count.

        Without a BOS token, other tokens take its part, at which attention rests (2309.17453): the first one, and
        tokens with norms far above the median. They are left out like the BOS token.
        """
        if source.bos:
            counted = self.batch.evaluated.clone()
            counted[:, 0] = source.first_counts
            return counted
        counted = self.batch.evaluated[:, 1:].clone()
        counted[:, 0] = False
        norms = self.at[source.site_in, False].norm(dim=-1)
        return counted & (norms <= _OUTLIER * norms[counted].median())

    def centre(self, source: Source) -> Centre:
        """The mean and variance of what the SAE is compared with."""
        key = Source(source.site_out, source.site_out, source.bos, source.first_counts)
        if key not in self._centres:
            self._centres[key] = Centre.of(self.at[source.site_out, source.bos][self.counted(source)])
        return self._centres[key]

    def tokens(self, site: str) -> Float[Tensor, "tokens d"]:
        """The evaluated tokens at a hook point."""
        return self.at[site, True][self.counted(Source.at(site))]


def capture(lm: LanguageModel, batch: TokenBatch, sites: Iterable[str], without_bos: Iterable[str]) -> Activations:
    """Return the activations of a text.

    Args:
        lm: The language model.
        batch: The text; each sequence begins with the BOS token.
        sites: The hook points that are read; those that the model lacks are left out.
        without_bos: The hook points that are also read in sequences whose first token is taken away.
    """
    at: dict[tuple[str, bool], Tensor] = {}
    for names, tokens, bos in ((sites, batch.tokens, True), (without_bos, batch.tokens[:, 1:], False)):
        present = [site for site in dict.fromkeys(names) if _exists(lm, site)]
        if not present:
            continue
        passes = [lm.prefix(part.to(lm.device), present) for part in tokens.split(_BATCH)]
        for site in present:
            at[site, bos] = torch.cat([read[site].float().cpu() for read in passes])
    return Activations(batch, at)


def _exists(lm: LanguageModel, site: str) -> bool:
    try:
        lm.d_at(site)
    except HookMismatchError:
        return False
    return True
