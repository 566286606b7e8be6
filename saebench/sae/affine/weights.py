"""The weights of an affine SAE in one layout, and the changes that bring other layouts into it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from saebench.errors import SAELoadError
from saebench.sae.affine.activations import Gated


@dataclass(frozen=True)
class Weights:
    """The weights of ``p = (x - pre_bias) W_enc + b_enc`` and ``xhat = z W_dec + b_dec + x W_skip``.

    Attributes:
        W_enc: ``[d_in, d_sae]``.
        b_enc: ``[d_sae]``.
        W_dec: ``[d_sae, d_out]``.
        b_dec: ``[d_out]``.
        pre_bias: ``[d_in]``, or None where nothing is subtracted.
        W_skip: ``[d_in, d_out]``, or None where there is no skip connection.
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    pre_bias: Tensor | None = None
    W_skip: Tensor | None = None

    @property
    def d_in(self) -> int:
        return self.W_enc.shape[0]

    @property
    def d_sae(self) -> int:
        return self.W_enc.shape[1]

    @property
    def d_out(self) -> int:
        return self.W_dec.shape[1]

    def check_shapes(self) -> None:
        """Raise SAELoadError, without the SAE's name, for tensors whose shapes do not fit together."""
        if self.W_enc.ndim != 2 or self.W_dec.ndim != 2:
            raise SAELoadError(
                f"W_enc {list(self.W_enc.shape)} and W_dec {list(self.W_dec.shape)} must be matrices, [d_in, d_sae] "
                "and [d_sae, d_out]"
            )
        d_in, d_sae, d_out = self.d_in, self.d_sae, self.d_out
        expected = {
            "b_enc": (self.b_enc, (d_sae,)),
            "W_dec": (self.W_dec, (d_sae, d_out)),
            "b_dec": (self.b_dec, (d_out,)),
            "pre_bias": (self.pre_bias, (d_in,)),
            "W_skip": (self.W_skip, (d_in, d_out)),
        }
        for name, (tensor, shape) in expected.items():
            if tensor is not None and tuple(tensor.shape) != shape:
                raise SAELoadError(
                    f"{name} has shape {list(tensor.shape)} instead of {list(shape)}, because W_enc is "
                    f"{list(self.W_enc.shape)}; if the file holds the transpose, the map must say so"
                )

    def scaled(self, factor_in: float, factor_out: float | None = None) -> Weights:
        """Return the weights for raw activations of an SAE that was trained on scaled ones.

        Args:
            factor_in: What the training multiplied the input by.
            factor_out: What it multiplied the target by; the same as the input where it is None.
        """
        out = factor_in if factor_out is None else factor_out
        return replace(
            self,
            W_enc=self.W_enc * factor_in,
            W_dec=self.W_dec / out,
            b_dec=self.b_dec / out,
            pre_bias=None if self.pre_bias is None else self.pre_bias / factor_in,
            W_skip=None if self.W_skip is None else self.W_skip * (factor_in / out),
        )

    def standardised(self, mean: Tensor, std: Tensor) -> Weights:
        """Return the weights for raw activations of an SAE that reads and reconstructs ``(x - mean) / std``.

        Args:
            mean: ``[d_in]``.
            std: ``[d_in]``, or one number.
        """
        pre = mean if self.pre_bias is None else mean + std * self.pre_bias
        std_column = std[:, None] if std.ndim else std
        return replace(
            self,
            W_enc=self.W_enc / std_column,
            W_dec=self.W_dec * std,
            b_dec=self.b_dec * std + mean,
            pre_bias=pre,
        )

    def gated(self, r_mag: Tensor, b_gate: Tensor, b_mag: Tensor) -> tuple[Weights, Gated]:
        """Return the weights and the activation function of a gated SAE, of which these are the gate's weights.

        Args:
            r_mag: The logarithm of the factor from the gate's encoder to that of the magnitudes, ``[d_sae]``.
            b_gate: ``[d_sae]``.
            b_mag: ``[d_sae]``.

        Raises:
            SAELoadError: One of them has another shape.
        """
        for name, tensor in (("r_mag", r_mag), ("b_gate", b_gate), ("b_mag", b_mag)):
            if tuple(tensor.shape) != (self.d_sae,):
                raise SAELoadError(f"{name} has shape {list(tensor.shape)}, not [{self.d_sae}]")
        factor = r_mag.float().exp()
        return replace(self, W_enc=self.W_enc * factor, b_enc=torch.zeros_like(factor)), Gated(b_gate * factor, b_mag)

    def in_decoder_norms(self) -> Weights:
        """Return the weights whose latents are multiplied by the norms of their decoder rows, which become 1.

        For an SAE whose activation function works in units of ``p * ||W_dec||`` this changes no reconstruction. A
        latent whose decoder row is zero reconstructs nothing and has a pre-activation of exactly 0.
        """
        norms = self.W_dec.norm(dim=-1)
        safe = torch.where(norms > 0, norms, torch.ones_like(norms))
        return replace(self, W_enc=self.W_enc * norms, b_enc=self.b_enc * norms, W_dec=self.W_dec / safe[:, None])
