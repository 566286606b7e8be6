"""Several SAEs spliced into one forward pass of the language model, each at its own hook point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.lm.batching import for_batches, to_device
from saebench.passes.captured import LOSSES, CapturedText
from saebench.passes.clean import Losses, sequence_losses
from saebench.passes.positions import Positions
from saebench.passes.reconstruct import reconstruct_evaluated
from saebench.progress import Progress
from saebench.sae.codes import Coder, Codes
from saebench.sae.protocol import SAE

ERROR, MOVED, ACTIVE = range(3)  # the sums for each SAE, in their order


@dataclass(frozen=True)
class JointScores:
    """What several SAEs do to the model together, as sums for each sequence in float64.

    Attributes:
        losses: The losses of the model.
        error: The squared error of each SAE on what it replaces in this pass.
        moved: The squared distance between what it replaces and the same activation of the unmodified model.
        active: The number of active latents.
    """

    losses: Losses
    error: Float[Tensor, "saes sequences"]
    moved: Float[Tensor, "saes sequences"]
    active: Float[Tensor, "saes sequences"]


def splice_jointly(saes: Sequence[SAE], captured: CapturedText, memory: int, progress: Progress) -> JointScores:
    """Replace the activations at the hook points of all SAEs in one forward pass.

    Each SAE reads what the SAEs before it have left of the activation, as in a model that has been replaced for good,
    and its reconstruction replaces what the others have left. Only evaluated tokens are replaced.

    Args:
        saes: SAEs that write at different hook points, in the order of the forward pass.
        captured: The text.
        memory: Bytes for the latents of a block of tokens.
        progress: Where to report.
    """
    captured.want(LOSSES, *(sae.hook.site_out for sae in saes))
    device = captured.lm.device
    coders = [Coder(sae, memory) for sae in saes]

    def batch(rows: slice) -> Tensor:
        positions = Positions.of(captured.batch, rows, device)
        splices = [_Splice(sae, coder, positions) for sae, coder in zip(saes, coders, strict=True)]
        losses = _losses(captured, positions, _hooks(splices))
        clean = (captured.activations(sae.hook.site_out, rows) for sae in saes)
        sums = [splice.sums(to_device(x, device)) for splice, x in zip(splices, clean, strict=True)]
        return torch.cat([losses.cpu(), *sums])

    ce, kl, *sums = _in_batches(captured, batch, progress, f"{len(saes)} SAEs together")
    by_sae = torch.stack(sums).unflatten(0, (len(saes), 3))
    return JointScores(Losses(ce, kl), by_sae[:, ERROR], by_sae[:, MOVED], by_sae[:, ACTIVE])


def ablate_jointly(values: Mapping[str, Tensor], captured: CapturedText, progress: Progress) -> Losses:
    """Replace the activation of every evaluated token by one vector at each of several hook points, in one pass.

    As in `splice_jointly`, tokens that are not evaluated keep what the changes before have left of their activation.

    Args:
        values: The vector ``[d]`` for each hook point.
        captured: The text.
        progress: Where to report.
    """
    captured.want(LOSSES)
    lm = captured.lm
    vectors = {site: to_device(value.to(lm.dtype), lm.device) for site, value in values.items()}

    def batch(rows: slice) -> Tensor:
        positions = Positions.of(captured.batch, rows, lm.device)

        def at(value: Tensor) -> Callable[[Tensor], Tensor]:
            return lambda x: positions.with_evaluated(x, value.expand(len(positions.evaluated), -1))

        return _losses(captured, positions, {site: at(value) for site, value in vectors.items()})

    return Losses(*_in_batches(captured, batch, progress, f"ablation of {len(values)} hook points"))


def _in_batches(
    captured: CapturedText, batch: Callable[[slice], Tensor], progress: Progress, description: str
) -> Float[Tensor, "rows sequences"]:
    """Return what ``batch(rows)[rows, batch]`` gives for all sequences."""
    parts: list[Tensor] = []
    with progress.task(description, captured.n_sequences, "sequences") as ticker:

        def work(rows: slice) -> None:
            parts.append(batch(rows).cpu())
            ticker.advance(rows.stop - rows.start)

        for shard in captured.shards:
            captured.batch_size = for_batches(shard, captured.batch_size, work)
    return torch.cat(parts, dim=1)


def _losses(
    captured: CapturedText, positions: Positions, hooks: dict[str, Callable[[Tensor], Tensor | None]]
) -> Float[Tensor, "2 batch"]:
    """Return the sums of both losses of each sequence when ``hooks`` act in the pass."""
    with captured.lm.hooks(hooks):
        hidden = captured.lm.full(positions.tokens)
    return sequence_losses(captured, positions, hidden)


class _Splice:
    """One SAE in one batch: what it read, and what it replaced by what."""

    def __init__(self, sae: SAE, coder: Coder, positions: Positions) -> None:
        self.sae, self._coder, self._positions = sae, coder, positions
        self._source: Tensor | None = None
        self._replaced: Tensor | None = None
        self._xhat: Tensor | None = None
        self._active = torch.zeros(len(positions.sequence), dtype=torch.float64)

    def read(self, x: Tensor) -> None:
        """Take what the SAE encodes."""
        self._source = x

    def write(self, x: Tensor) -> Tensor:
        """Return the activation with the reconstruction at evaluated tokens."""
        source = self._source if self.sae.hook.crosses else x
        assert source is not None, "a transcoder reads before it writes"
        self._replaced = self._positions.at_evaluated(x)
        self._xhat = reconstruct_evaluated(self._coder, self._positions, source, self._count)
        return self._positions.with_evaluated(x, self._xhat.to(x.dtype))

    def sums(self, clean: Tensor) -> Float[Tensor, "3 batch"]:
        """The sums of each sequence; ``clean[batch, position, d]`` is the activation of the unmodified model."""
        assert self._replaced is not None
        assert self._xhat is not None
        x = self._replaced.double()
        error = (x - self._xhat.double()).square().sum(-1).cpu()
        moved = (x - self._positions.at_evaluated(clean).double()).square().sum(-1).cpu()
        n = self._positions.rows.stop - self._positions.rows.start
        sums = torch.zeros(3, n, dtype=torch.float64)
        return sums.index_add_(
            1, self._positions.sequence - self._positions.rows.start, torch.stack([error, moved, self._active])
        )

    def _count(self, tokens: slice, codes: Codes) -> None:
        values = codes if isinstance(codes, Tensor) else codes.values
        self._active[tokens] = (values != 0).sum(-1).double().cpu()


def _hooks(splices: Sequence[_Splice]) -> dict[str, Callable[[Tensor], Tensor | None]]:
    """Return what is done at each hook point: an SAE writes there first, and then others read what it wrote."""
    writers = {splice.sae.hook.site_out: splice for splice in splices}
    readers: dict[str, list[_Splice]] = {}
    for splice in splices:
        if splice.sae.hook.crosses:
            readers.setdefault(splice.sae.hook.site_in, []).append(splice)

    def at(site: str) -> Callable[[Tensor], Tensor | None]:
        def hook(x: Tensor) -> Tensor | None:
            new = writers[site].write(x) if site in writers else None
            for splice in readers.get(site, ()):
                splice.read(x if new is None else new)
            return new

        return hook

    return {site: at(site) for site in dict.fromkeys([*writers, *readers])}
