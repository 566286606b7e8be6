"""The adapter of affine SAEs: every published format whose formula is affine ends here."""

from __future__ import annotations

from torch import Tensor

from saebench.errors import NotApplicableError, SAELoadError
from saebench.sae.affine.activations import Activation, InDecoderNorms, TopK
from saebench.sae.affine.normalisation import Normalisation
from saebench.sae.affine.weights import Weights
from saebench.sae.base import BaseAdapter
from saebench.sae.protocol import Capability, HookSite, SparseCodes

_ALWAYS = frozenset({Capability.POSITION_WISE, Capability.SPARSE_ENCODE})


class AffineSAE(BaseAdapter):
    """z = act((norm(x) - pre_bias) W_enc + b_enc) and xhat = undo(z W_dec + b_dec) + x W_skip, in float32.

    Attributes:
        weights_dtype: The type of the stored weights, if known, such as "bfloat16".
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    pre_bias: Tensor | None
    W_skip: Tensor | None

    def __init__(
        self,
        weights: Weights,
        activation: Activation,
        *,
        name: str,
        architecture: str,
        hook: HookSite,
        normalisation: Normalisation | None = None,
        model_name: str | None = None,
        weights_dtype: str | None = None,
    ) -> None:
        """Make an SAE from weights in saebench's layout.

        Args:
            weights: The weights; they are converted to float32.
            activation: The activation function.
            name: The reference.
            architecture: What tables call it, such as "topk".
            hook: Where it reads and writes. Two different hook points make it a transcoder.
            normalisation: What is done to each token before the encoder.
            model_name: The language model that it was trained on, if known.
            weights_dtype: The type of the stored weights, if known.

        Raises:
            SAELoadError: Shapes do not fit together, or weights hold NaN or Inf.
        """
        transcoder = hook.crosses
        try:
            weights.check_shapes()
            activation.fit(weights.d_sae)
        except SAELoadError as error:
            raise SAELoadError(f"{name}: {error}.") from error
        if not transcoder and weights.d_in != weights.d_out:
            raise SAELoadError(
                f"{name}: it reads {weights.d_in} and writes {weights.d_out} dimensions at one hook point; if it is a "
                "transcoder, add ?hook=SITE&hook_out=SITE to the reference."
            )
        capabilities = set(_ALWAYS)
        if normalisation is None:  # a skip connection adds a constant for each x, which leaves the decoder linear
            capabilities |= {Capability.LINEAR_DECODER, Capability.ENCODER_DIRECTIONS}
        if activation.non_negative:
            capabilities.add(Capability.NON_NEGATIVE)
        if transcoder:
            capabilities.add(Capability.TRANSCODER)
        super().__init__(
            name=name,
            architecture=architecture,
            hook=hook,
            d_in=weights.d_in,
            d_out=weights.d_out,
            d_sae=weights.d_sae,
            capabilities=frozenset(capabilities),
            model_name=model_name,
        )
        for key in ("W_enc", "b_enc", "W_dec", "b_dec", "pre_bias", "W_skip"):
            tensor = getattr(weights, key)
            self.register_buffer(key, None if tensor is None else tensor.float().contiguous())
        self.activation = activation
        self.normalisation = normalisation
        self.weights_dtype = weights_dtype
        self.check_finite()

    def encode(self, x: Tensor) -> Tensor:
        z: Tensor = self.activation(self._before(x))
        return z

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        return self.activation.sparse(self._before(x))

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        xhat = z.float() @ self.W_dec + self.b_dec
        if self.normalisation is not None:
            xhat = self.normalisation.undo(xhat, self._input(x, "normalises each token"))
        if self.W_skip is not None:
            xhat = xhat + self._input(x, "has a skip connection") @ self.W_skip
        return xhat

    def decoder_directions(self) -> Tensor:
        if Capability.LINEAR_DECODER not in self.capabilities:
            return super().decoder_directions()
        return self.W_dec

    def encoder_directions(self) -> Tensor:
        if Capability.ENCODER_DIRECTIONS not in self.capabilities:
            return super().encoder_directions()
        return self.W_enc.T

    def settings(self) -> dict[str, object]:
        return {
            "activation": type(self.activation).__name__,
            "normalisation": repr(self.normalisation),
            **self.activation.settings(),
        }

    @property
    def selects_k(self) -> int | None:
        """The number of latents that every token selects, if it is fixed."""
        inner = self.activation.inner if isinstance(self.activation, InDecoderNorms) else self.activation
        return inner.k if isinstance(inner, TopK) else None

    def _before(self, x: Tensor) -> Tensor:
        x = x.float()
        if self.normalisation is not None:
            x = self.normalisation.apply(x)
        if self.pre_bias is not None:
            x = x - self.pre_bias
        return x @ self.W_enc + self.b_enc

    def _input(self, x: Tensor | None, why: str) -> Tensor:
        if x is None:
            raise NotApplicableError(f"{self.name} {why}, so decode(z, x) needs the encoder's input x.")
        return x.float()
