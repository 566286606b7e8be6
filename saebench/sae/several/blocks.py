"""SAEs whose encoder or decoder consists of blocks: latents of one group write to some of the hook points only.

Written as one matrix, the weights of a cross-layer transcoder with 26 layers would be 26 times as large, and nearly all
of them would be 0. So the blocks stay as they lie in the files, which may be mapped into memory and of any float type;
every product is computed in float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from saebench.errors import NotApplicableError, SAELoadError
from saebench.sae.affine.activations import Activation
from saebench.sae.base import BaseAdapter
from saebench.sae.protocol import Capability, HookSite, SparseCodes

_FEW = 4  # a block with fewer active latents than one in this many is multiplied without the others


@dataclass(frozen=True)
class View:
    """A matrix as it lies in a stored tensor.

    Attributes:
        name: The tensor.
        part: The index in its first dimension; None where the tensor is the matrix.
        transposed: Whether the tensor holds the transpose.
        columns_left_out: The number of columns at the left that are not used. All dimensions after the first count as
            columns.
    """

    name: str
    part: int | None = None
    transposed: bool = False
    columns_left_out: int = 0

    def of(self, tensor: Tensor) -> Tensor:
        """Return the matrix, which shares the memory of ``tensor``."""
        tensor = tensor if self.part is None else tensor[self.part]
        tensor = tensor.mT if self.transposed else tensor
        return tensor.flatten(1)[:, self.columns_left_out :]


@dataclass(frozen=True)
class Blocks:
    """The weights of an SAE of blocks. There are G groups of latents, each with n latents, so that d_sae = G n.

    Attributes:
        tensors: What the views name.
        encoders: For each group, the matrix ``[width of what it reads, n]``.
        b_enc: ``[G, n]``, or ``[1, n]`` where all groups share their pre-activations.
        decoders: By the group and the first hook point that it writes to, the matrix ``[n, m * width]``, which writes
            to m hook points in a row.
        b_dec: ``[hook points, width]``.
        skips: By the hook point that is read and the one that is written, both by number, the matrix
            ``[width, width]`` of a skip connection.
        offset: ``[hook points, n]``, what is added to each active latent before it is decoded to a hook point; None
            where nothing is.
        scale: ``[hook points, n]``, by what it is multiplied then.
    """

    tensors: Mapping[str, Tensor]
    encoders: Sequence[View]
    b_enc: Tensor
    decoders: Mapping[tuple[int, int], View]
    b_dec: Tensor
    skips: Mapping[tuple[int, int], View] = field(default_factory=dict)
    offset: Tensor | None = None
    scale: Tensor | None = None


@dataclass(frozen=True)
class Scaling:
    """What the training did to activations: it read ``(x - mean_in) * factor_in``.

    What the decoder gives becomes ``y * factor_out + mean_out``.

    Attributes:
        factor_in: ``[d_in]``.
        factor_out: ``[d_out]``.
        mean_in: ``[d_in]``; None stands for 0.
        mean_out: ``[d_out]``; None stands for 0.
    """

    factor_in: Tensor
    factor_out: Tensor
    mean_in: Tensor | None = None
    mean_out: Tensor | None = None


class BlockSAE(BaseAdapter, ABC):
    """z = act(p); the reconstruction at hook point t is b_t plus the sum over groups g of z_g W_g,t.

    The decoder is linear, but one matrix of its rows would not fit into memory, so neither decoder nor encoder
    directions are declared.
    """

    b_enc: Tensor
    b_dec: Tensor
    offset: Tensor | None
    scale: Tensor | None
    factor_in: Tensor | None
    factor_out: Tensor | None
    mean_in: Tensor | None
    mean_out: Tensor | None

    def __init__(
        self,
        blocks: Blocks,
        activation: Activation,
        scaling: Scaling | None = None,
        *,
        name: str,
        architecture: str,
        hook: HookSite,
        model_name: str | None = None,
    ) -> None:
        """Make an SAE.

        Args:
            blocks: The weights, which are kept as they are.
            activation: The activation function of all latents, group after group.
            scaling: What the training did to activations; None for nothing.
            name: The reference.
            architecture: What tables call it.
            hook: Where it reads and writes.
            model_name: The language model that it was trained on, if known.

        Raises:
            SAELoadError: Shapes do not fit together, or weights hold NaN or Inf.
        """
        self.groups, self.latents = 1 + max(group for group, _ in blocks.decoders), blocks.b_enc.shape[1]
        self.targets, self.width_out = blocks.b_dec.shape
        self.width_in = blocks.encoders[0].of(blocks.tensors[blocks.encoders[0].name]).shape[0]
        try:
            self._check(blocks, hook)
            activation.fit(self.groups * self.latents)
        except SAELoadError as error:
            raise SAELoadError(f"{name}: {error}.") from error
        capabilities = {Capability.POSITION_WISE, Capability.SPARSE_ENCODE}
        if activation.non_negative:
            capabilities.add(Capability.NON_NEGATIVE)
        if hook.crosses:
            capabilities.add(Capability.TRANSCODER)
        super().__init__(
            name=name,
            architecture=architecture,
            hook=hook,
            d_in=self.width_in * len(blocks.encoders),
            d_out=self.width_out * self.targets,
            d_sae=self.groups * self.latents,
            capabilities=frozenset(capabilities),
            model_name=model_name,
        )
        self._buffers_of = {key: key.replace(".", "_") for key in blocks.tensors}
        for key, buffer in self._buffers_of.items():
            self.register_buffer(buffer, blocks.tensors[key])
        small = {key: getattr(blocks, key) for key in ("b_enc", "b_dec", "offset", "scale")}
        small |= {key: getattr(scaling, key, None) for key in ("factor_in", "factor_out", "mean_in", "mean_out")}
        for key, tensor in small.items():
            self.register_buffer(key, None if tensor is None else tensor.float())
        self.encoders, self.decoders, self.skips = tuple(blocks.encoders), dict(blocks.decoders), dict(blocks.skips)
        self.activation = activation
        self.check_finite()

    @abstractmethod
    def _before(self, x: Tensor) -> Tensor:
        """Return the pre-activations ``[tokens, d_sae]`` of scaled ``x[tokens, d_in]``."""

    def encode(self, x: Tensor) -> Tensor:
        z: Tensor = self.activation(self._before(self._scaled(x)))
        return z.reshape(*x.shape[:-1], self.d_sae)

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        return self.activation.sparse(self._before(self._scaled(x)))

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        y = self.b_dec.repeat(z.shape[:-1].numel(), 1, 1)
        codes = z.float().reshape(-1, self.groups, self.latents)
        for group in range(self.groups):
            self._add(group, codes[:, group], y)
        for (source, target), view in self.skips.items():
            if x is None:
                raise NotApplicableError(f"{self.name} has a skip connection, so decode(z, x) needs its input x.")
            y[:, target] += self._sides(self._scaled(x))[:, source] @ self._matrix(view)
        xhat = y.flatten(1)
        if self.factor_out is not None:
            xhat = xhat * self.factor_out
        if self.mean_out is not None:
            xhat = xhat + self.mean_out
        return xhat.reshape(*z.shape[:-1], self.d_out)

    def settings(self) -> dict[str, object]:
        return {
            "activation": type(self.activation).__name__,
            "blocks": repr((self.encoders, self.decoders, self.skips)),
            **self.activation.settings(),
        }

    def _scaled(self, x: Tensor) -> Tensor:
        """Return ``[tokens, d_in]`` as the training scaled it."""
        x = x.float().reshape(-1, self.d_in)
        x = x if self.mean_in is None else x - self.mean_in
        return x if self.factor_in is None else x * self.factor_in

    def _sides(self, x: Tensor) -> Tensor:
        """Return ``x[tokens, d_in]`` as ``[tokens, hook points, width]``."""
        return x.unflatten(-1, (len(self.encoders), self.width_in))

    def _stored(self, view: View) -> Tensor:
        return view.of(getattr(self, self._buffers_of[view.name]))

    def _matrix(self, view: View) -> Tensor:
        return self._stored(view).float()

    def _add(self, group: int, codes: Tensor, y: Tensor) -> None:
        """Add what a group of latents, ``codes[tokens, n]``, writes to ``y[tokens, hook points, width]``."""
        rows = _active(codes)
        if rows is not None:
            codes = codes[:, rows]
        for first in range(self.targets):
            if (view := self.decoders.get((group, first))) is None:
                continue
            stored = self._stored(view)
            weights = (stored if rows is None else stored[rows]).float()
            written = y[:, first : first + weights.shape[1] // self.width_out]
            written += (self._moved(codes, rows, first) @ weights).unflatten(-1, written.shape[1:])

    def _moved(self, codes: Tensor, rows: Tensor | None, target: int) -> Tensor:
        """Return the codes as the decoder to one hook point takes them."""
        if self.offset is not None:
            codes = codes + (self.offset[target] if rows is None else self.offset[target][rows]) * (codes != 0)
        if self.scale is not None:
            codes = codes * (self.scale[target] if rows is None else self.scale[target][rows])
        return codes

    def _check(self, blocks: Blocks, hook: HookSite) -> None:
        """Raise SAELoadError, without the SAE's name, for weights or hook points that do not fit together."""
        sizes = (("reads", len(hook.sites_in), len(blocks.encoders)), ("writes", len(hook.sites_out), self.targets))
        for does, named, held in sizes:
            if named != held:
                raise SAELoadError(f"it {does} at {held} hook points, and {named} are named ({hook})")
        one_target = blocks.offset is not None or blocks.scale is not None
        for (group, first), view in blocks.decoders.items():
            shape = tuple(view.of(blocks.tensors[view.name]).shape)
            reach, rest = divmod(shape[1], self.width_out)
            fits = shape[0] == self.latents and not rest and 1 <= reach <= self.targets - first
            if not fits or (one_target and reach > 1):
                raise SAELoadError(
                    f"{view.name} gives a decoder {list(shape)} from group {group} to the hook points from number "
                    f"{first} on, which has no place among {self.latents} latents, {self.targets} hook points and "
                    f"{self.width_out} dimensions"
                )
        for view in blocks.encoders:
            if (shape := tuple(view.of(blocks.tensors[view.name]).shape)) != (self.width_in, self.latents):
                raise SAELoadError(f"{view.name} gives an encoder {list(shape)}, not {[self.width_in, self.latents]}")


class CrossLayerTranscoder(BlockSAE):
    """A cross-layer transcoder: p_l = x_l W_enc,l + b_enc,l, and latents of layer l write to the layers from l on.

    Its latents are those of layer 0, then those of layer 1, and so on.
    """

    def _before(self, x: Tensor) -> Tensor:
        sides = self._sides(x)
        parts = [sides[:, group] @ self._matrix(view) + self.b_enc[group] for group, view in enumerate(self.encoders)]
        return torch.cat(parts, dim=-1)


class DecoupledCrosscoder(BlockSAE):
    """A crosscoder whose latents are switched on and off for each hook point on its own.

    All hook points share the pre-activations p = sum_h x_h W_enc,h + b_enc, and a latent may be active for one of them
    and not for another. So its latents are those of hook point 0, then those of hook point 1, and so on.
    """

    def _before(self, x: Tensor) -> Tensor:
        sides = self._sides(x)
        p = self.b_enc[0] + sum(sides[:, side] @ self._matrix(view) for side, view in enumerate(self.encoders))
        return p.repeat(1, self.groups)


def _active(codes: Tensor) -> Tensor | None:
    """Return the latents that are active on some token, if they are few. A GPU is not made to wait for their number."""
    if codes.device.type != "cpu":
        return None
    rows = (codes != 0).any(0).nonzero()[:, 0]
    return rows if len(rows) * _FEW <= codes.shape[1] else None
