"""An SAE whose encoder searches for the sparse sum of decoder directions that makes up an activation."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.capabilities import ORDINARY
from saebench.sae.base import BaseAdapter
from saebench.sae.protocol import Capability, HookSite

_STEPS = 40  # of FISTA
_REFINED = 10  # steps without the penalty, on the latents that fire
_PENALTY = 0.03


class SparseCoder(BaseAdapter):
    """z minimises |x - bias - z D|^2 / 2 + penalty sum(z) over z >= 0, and is 0 where it is not above a threshold.

    It is found by some steps of FISTA (Beck and Teboulle 2009), after which some steps of projected gradient descent
    on the latents that are left take back what the penalty has shrunk. Without any steps, z is (x - bias) D^T where it
    is above the threshold. So each latent depends on the activation of one token alone, but not by one direction.
    """

    dictionary: Tensor
    decoder: Tensor
    bias: Tensor
    low: Tensor
    plane: Tensor
    absorbing: Tensor
    absorbed: Tensor
    order: Tensor

    def __init__(
        self,
        *,
        name: str,
        kind: str,
        hook: HookSite,
        dictionary: Float[Tensor, "codes d"],
        bias: Float[Tensor, " d"],
        decoder: Float[Tensor, "latents d"] | None = None,
        low: float = 0.0,
        steps: int = _STEPS,
        plane: Float[Tensor, " d"] | None = None,
        pairs: Int[Tensor, "2 pairs"] | None = None,
        order: Int[Tensor, " latents"] | None = None,
    ) -> None:
        """Make an SAE.

        Args:
            name: The reference.
            kind: What tables call its architecture.
            hook: Where it reads and writes.
            dictionary: The directions that activations are taken apart into, unit vectors.
            bias: What is subtracted before and added after.
            decoder: The directions that the latents write, by default the dictionary.
            low: The threshold.
            steps: The number of steps of the search; 0 for a linear encoder.
            plane: A direction; each code becomes two latents, for activations on both sides of the plane that it is
                orthogonal to.
            pairs: Pairs of codes (child, parent): the parent does not fire where the child does.
            order: The place of each latent among the latents that the above gives; by default they keep their places.
        """
        n, d = dictionary.shape
        m = n if plane is None else 2 * n
        capabilities = ORDINARY - {Capability.ENCODER_DIRECTIONS}
        super().__init__(name=name, architecture=kind, hook=hook, d_in=d, d_sae=m, capabilities=capabilities)
        self._steps, self._split = steps, plane is not None
        order = torch.arange(m) if order is None else order
        written = dictionary if decoder is None else decoder
        written = torch.cat([written, written]) if self._split else written
        for key, tensor in {"dictionary": dictionary, "decoder": written[order], "bias": bias}.items():
            self.register_buffer(key, tensor.float().contiguous())
        self.register_buffer("low", torch.tensor(float(low)))
        self.register_buffer("plane", torch.zeros(d) if plane is None else plane.float())
        children, parents = torch.zeros(2, 0, dtype=torch.long) if pairs is None else pairs
        self.register_buffer("absorbing", children)
        self.register_buffer("absorbed", parents)
        self.register_buffer("order", order)
        self._rate = 1 / float(torch.linalg.matrix_norm(self.dictionary.double(), 2)) ** 2
        self.check_finite()

    def settings(self) -> dict[str, object]:
        return {"steps": self._steps}

    def search(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... codes"]:
        """Return the codes of activations before the threshold."""
        x, rows = x.float() - self.bias, self.dictionary
        if not self._steps:
            return (x @ rows.T).relu()
        code = ahead = x.new_zeros(*x.shape[:-1], len(rows))
        momentum = 1.0
        for _ in range(self._steps):
            before, code = code, (ahead + self._rate * ((x - ahead @ rows) @ rows.T - _PENALTY)).relu()
            after = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead, momentum = code + (momentum - 1) / after * (code - before), after
        return code

    def encode(self, x: Tensor) -> Tensor:
        code = self.search(x)
        fires = code > self.low
        code = code * fires
        for _ in range(_REFINED if self._steps else 0):
            code = (
                code + self._rate * (x.float() - self.bias - code @ self.dictionary) @ self.dictionary.T
            ).relu() * fires
        if len(self.absorbing):
            covered = torch.zeros_like(code).index_add_(
                -1, self.absorbed, (code[..., self.absorbing] > 0).to(code.dtype)
            )
            code = code * (covered == 0)
        if self._split:
            above = ((x.float() - self.bias) @ self.plane > 0)[..., None]
            code = torch.cat([code * above, code * ~above], dim=-1)
        return code[..., self.order]

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z.float() @ self.decoder + self.bias

    def decoder_directions(self) -> Tensor:
        return self.decoder
