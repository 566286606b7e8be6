"""SAEs that were trained on a residual stream without its mean.

TransformerLens' ``center_writing_weights`` takes the mean over the dimensions away from all that is written into the
residual stream. A model whose norms are layer norms computes the same with and without it, but its activations differ.
"""

from __future__ import annotations

from torch import Tensor

from saebench.errors import NotApplicableError
from saebench.sae.base import BaseAdapter, LoadContext
from saebench.sae.protocol import Capability, SparseCodes
from saebench.sae.wrapped import WrappedSAE


class CentredSAE(WrappedSAE):
    """An SAE that reads activations without their mean over the dimensions, and gets the mean back after decoding.

    A transcoder's target has a mean that its input does not tell; the model ignores it, but it counts as error.
    """

    def __init__(self, inner: BaseAdapter) -> None:
        """Wrap an SAE that was trained on centred activations."""
        super().__init__(inner, name=inner.name, architecture=inner.architecture)
        self.trained_on = inner.trained_on
        self._restores = Capability.TRANSCODER not in inner.capabilities

    def encode(self, x: Tensor) -> Tensor:
        return self.inner.encode(_centred(x))

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        return self.inner.encode_sparse(_centred(x))

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        if not self._restores:
            return self.inner.decode(z, None if x is None else _centred(x))
        if x is None:
            raise NotApplicableError(
                f"{self.name} reads activations without their mean, so decode(z, x) needs the encoder's input x."
            )
        return self.inner.decode(z, _centred(x)) + x.float().mean(-1, keepdim=True)

    def decoder_directions(self) -> Tensor:
        return self.inner.decoder_directions()

    def encoder_directions(self) -> Tensor:
        return _centred(self.inner.encoder_directions())

    def settings(self) -> dict[str, object]:
        return {**super().settings(), "centred": True}

    def notes(self) -> dict[str, object]:
        return {**super().notes(), "centred": "it reads activations without their mean over the dimensions"}


def centred_where_trained_so(sae: BaseAdapter, context: LoadContext) -> BaseAdapter:
    """Return the SAE, wrapped if it was trained on centred activations of a language model that ignores the mean.

    TransformerLens centres only models whose norms are layer norms, so for other models nothing is to be done.
    """
    model = context.model
    if model is None or not sae.trained_on.centred(sae.hook.site_in) or not model.ignores_mean():
        return sae
    return CentredSAE(sae)


def _centred(x: Tensor) -> Tensor:
    x = x.float()
    return x - x.mean(-1, keepdim=True)
