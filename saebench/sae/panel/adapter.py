"""An SAE that is written down instead of trained: each latent fires in an interval of its pre-activation."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.capabilities import ORDINARY
from saebench.sae.base import BaseAdapter
from saebench.sae.protocol import HookSite
from saebench.synthetic.reference import HOOK


class PanelSAE(BaseAdapter):
    """z = p where low < p <= high, else 0, with p = (x - bias) encoder.T; xhat = z decoder + bias."""

    encoder: Tensor
    decoder: Tensor
    bias: Tensor
    low: Tensor
    high: Tensor
    absorbing: Tensor
    absorbed: Tensor

    def __init__(
        self,
        *,
        name: str,
        kind: str,
        encoder: Float[Tensor, "latents d"],
        decoder: Float[Tensor, "latents d"],
        bias: Float[Tensor, " d"],
        low: Float[Tensor, " latents"],
        high: Float[Tensor, " latents"] | None = None,
        pairs: Int[Tensor, "2 pairs"] | None = None,
        control: bool = False,
    ) -> None:
        """Make an SAE.

        Args:
            name: The reference.
            kind: What tables call its architecture.
            encoder: The direction that each latent reads.
            decoder: The direction that it writes.
            bias: What is subtracted before and added after.
            low: The threshold of each latent, 0 or more.
            high: The largest pre-activation with which it fires; by default there is none.
            pairs: Pairs of latents (child, parent): the parent does not fire where the child does.
            control: Whether it is a baseline.
        """
        m, d = decoder.shape
        super().__init__(name=name, architecture=kind, hook=HookSite.at(HOOK), d_in=d, d_sae=m, capabilities=ORDINARY)
        self.control = control
        children, silenced = pairs if pairs is not None else torch.zeros(2, 0, dtype=torch.long)
        buffers = {"encoder": encoder, "decoder": decoder, "bias": bias, "low": low.clamp_min(0)}
        buffers["high"] = torch.full_like(low, torch.finfo(low.dtype).max) if high is None else high
        for key, tensor in buffers.items():
            self.register_buffer(key, tensor.float().contiguous())
        self.register_buffer("absorbing", children)
        self.register_buffer("absorbed", silenced)
        self.check_finite()

    def encode(self, x: Tensor) -> Tensor:
        p = (x.float() - self.bias) @ self.encoder.T
        fires = (p > self.low) & (p <= self.high)
        if len(self.absorbing):
            covered = torch.zeros_like(p).index_add_(-1, self.absorbed, fires[..., self.absorbing].to(p.dtype))
            fires = fires & (covered == 0)
        return p * fires

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z.float() @ self.decoder + self.bias

    def decoder_directions(self) -> Tensor:
        return self.decoder

    def encoder_directions(self) -> Tensor:
        return self.encoder
