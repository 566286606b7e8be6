"""One pass of an SAE over the text: each token is encoded and decoded once, and each sequence is spliced once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from saebench.errors import SaebenchError
from saebench.passes.clean import CleanBatch, CleanPass, Losses
from saebench.passes.reconstruct import reconstruct_evaluated
from saebench.sae.codes import Coder, Codes, rows_of
from saebench.sae.protocol import SAE
from saebench.stats.reconstruction import Centre, ReconstructionSums
from saebench.stats.sparsity import FiringCounts
from saebench.tasks.core.ordinary import OrdinaryTokens


@dataclass(frozen=True)
class Scores:
    """What every number of the task follows from, but for those of the weights alone."""

    reconstruction: ReconstructionSums
    ordinary: ReconstructionSums  # of the tokens that are not massive
    firing: FiringCounts
    spliced: Losses  # with the reconstruction in place of the activation
    of_sites: dict[str, ReconstructionSums] = field(default_factory=dict)  # where there are several hook points


def evaluate(sae: SAE, clean: CleanPass, ordinary: OrdinaryTokens, memory: int) -> Scores:
    """Encode, decode and splice every evaluated token of the text.

    Args:
        sae: The SAE, of any kind: position-wise, temporal, a transcoder, or one with several hook points.
        clean: The clean pass at the sites that the SAE reconstructs.
        ordinary: The tokens of that text that are not massive at these sites.
        memory: Bytes for the latents of a block of tokens.

    Raises:
        SaebenchError: The SAE gives NaN or Inf.
    """
    reconstruction = ReconstructionSums(clean.n_sequences, clean.centre)
    of_ordinary = ReconstructionSums(clean.n_sequences, ordinary.centre)
    firing = FiringCounts(clean.n_sequences, sae.d_sae)
    of_sites = _sums_of_sites(clean)
    add_firing, add_reconstruction = _Once(firing.add), _Once(reconstruction.add)

    def add_chosen(x: Tensor, xhat: Tensor, chosen: Tensor, sequence: Tensor) -> None:
        of_ordinary.add(x[chosen.to(x.device)], xhat[chosen.to(x.device)], sequence[chosen])

    add_ordinary = _Once(add_chosen)
    add_of_sites = [_Once(sums.add) for sums in of_sites.values()]
    offsets = [0, *clean.evaluated.sum(1).cumsum(0).tolist()]
    coder = Coder(sae, memory)

    def replacement(batch: CleanBatch) -> Tensor:
        positions = batch.positions
        first = offsets[positions.rows.start]
        x = batch.activations
        if sae.hook.sites_in != clean.sites:  # a transcoder reads one site and reconstructs another
            x = clean.captured.joined(sae.hook.sites_in, positions.rows)

        def count(tokens: slice, codes: Codes) -> None:
            add_firing(first + tokens.start, positions.sequence[tokens], codes)

        xhat = reconstruct_evaluated(coder, positions, x, count)
        target = positions.at_evaluated(batch.activations).float()
        add_reconstruction(first, positions.sequence, target, xhat)
        add_ordinary(first, positions.sequence, target, xhat, ordinary.chosen[first : first + len(target)])
        targets, estimates = (_parts(vectors, len(of_sites)) for vectors in (target, xhat))
        for add, part, estimate in zip(add_of_sites, targets, estimates, strict=True):
            add(first, positions.sequence, part, estimate)
        return xhat

    spliced = clean.spliced(replacement, f"core {sae.name}")
    scores = Scores(reconstruction, of_ordinary, firing, spliced, of_sites)
    _check_finite(sae, scores)
    return scores


def _sums_of_sites(clean: CleanPass) -> dict[str, ReconstructionSums]:
    """Return empty sums for each of several hook points; nothing where there is one."""
    n = len(clean.sites)
    if n == 1:
        return {}
    centres = zip(clean.centre.mean.chunk(n), clean.centre.variance.chunk(n), strict=True)
    sums = [ReconstructionSums(clean.n_sequences, Centre(*centre, clean.centre.n)) for centre in centres]
    return dict(zip(clean.sites, sums, strict=True))


def _parts(vectors: Tensor, n: int) -> tuple[Tensor, ...]:
    """Return the parts of ``vectors[tokens, d]`` that belong to each of ``n`` hook points."""
    return vectors.chunk(n, dim=-1) if n else ()


class _Once:
    """Calls ``add`` once for each token, also when a batch that ran out of memory is repeated in smaller ones."""

    def __init__(self, add: Callable[..., None]) -> None:
        self._add = add
        self._done = 0  # the number of the first token that has not been added

    def __call__(self, first: int, sequence: Tensor, *values: Codes) -> None:
        """Add tokens, the first of which is number ``first`` of the evaluation."""
        new = slice(max(0, self._done - first), None)
        self._add(*(rows_of(value, new) for value in values), sequence[new])
        self._done = max(self._done, first + len(sequence))


def _check_finite(sae: SAE, scores: Scores) -> None:
    latents = scores.firing.ratios()["l1"][0]
    errors = scores.reconstruction.ratios()["mse"][0].numpy()
    for part, per_sequence in (("latents", latents), ("reconstruction", errors)):
        if bad := int((~np.isfinite(per_sequence)).sum()):
            raise SaebenchError(
                f"{sae.name}: its {part} hold NaN or Inf on {bad} of {len(per_sequence)} sequences, so nothing can be "
                "measured; see what it does to activations of this size at this hook (saebench check-adapter)."
            )
