"""An SAE that is made of another one, which may be no torch module."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from saebench.sae.base import BaseAdapter
from saebench.sae.protocol import SAE, SparseCodes


class WrappedSAE(BaseAdapter):
    """The base class of SAEs that change another one. By default they encode as it does.

    Attributes:
        inner: The other SAE.
    """

    def __init__(self, inner: SAE, *, name: str, architecture: str, d_sae: int | None = None) -> None:
        """Wrap an SAE. The hook, the widths and the capabilities are those of ``inner``.

        Args:
            inner: The other SAE.
            name: The reference.
            architecture: What tables call it.
            d_sae: The number of latents, if it is another than that of ``inner``.
        """
        super().__init__(
            name=name,
            architecture=architecture,
            hook=inner.hook,
            d_in=inner.d_in,
            d_out=inner.d_out,
            d_sae=inner.d_sae if d_sae is None else d_sae,
            capabilities=inner.capabilities,
            model_name=inner.model_name,
        )
        self.inner = inner

    def encode(self, x: Tensor) -> Tensor:
        return self.inner.encode(x)

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        return self.inner.encode_sparse(x)

    def encoder_directions(self) -> Tensor:
        return self.inner.encoder_directions()

    def to(self, device: torch.device | str) -> Self:  # type: ignore[override]
        self.inner.to(device)
        super().to(device)
        return self

    def settings(self) -> dict[str, object]:
        return {"inner": self.inner.fingerprint()}
