"""Changes of weights, which are applied within a context at any strength and undone to the bit.

The weights are the down projections, through which the MLPs write into the residual stream. They are what
representation misdirection (RMU, arXiv 2403.03218) trains.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saebench.errors import ModelError, UsageError
from saebench.interventions.base import finite
from saebench.lm.model import LanguageModel
from saebench.sae.protocol import fingerprint_of


@dataclass(frozen=True, eq=False)
class OutputWeight:
    """The weight of a block's MLP down projection, and the gain of the norm between it and the residual stream."""

    weight: nn.Parameter
    transposed: bool  # whether it is stored as [hidden, d_model], as in GPT-2
    gain: Float[Tensor, " d_model"]  # ones if there is no such norm

    def by_output(self, tensor: Tensor) -> Float[Tensor, "d_model hidden"]:
        """Return a view ``[d_model, hidden]`` of a tensor that has the layout of the weight."""
        return tensor.T if self.transposed else tensor


def output_weight(lm: LanguageModel, layer: int) -> OutputWeight:
    """Return the down projection of the block number ``layer``.

    Raises:
        UsageError: There is no such block.
        ModelError: The block has no such weight, or shares it with another part of the model.
    """
    if not 0 <= layer < lm.n_layers:
        raise UsageError(f"Layer {layer} cannot be trained: {lm.name} has the layers 0 to {lm.n_layers - 1}.")
    block = lm.bridge.blocks[layer]
    module = getattr(getattr(getattr(block, "mlp", None), "out", None), "original_component", None)
    weight = getattr(module, "weight", None)
    if not isinstance(weight, nn.Parameter) or not weight.is_floating_point() or weight.ndim != 2:
        raise ModelError(
            f"Block {layer} of {lm.name} has no single MLP output projection in floating point, so its weights cannot "
            "be trained; use an unquantised model without experts, or other layers."
        )
    held = [p for part in lm.model.modules() for p in part._parameters.values() if p is not None]
    if sum(p.data_ptr() == weight.data_ptr() for p in held) > 1:
        raise ModelError(
            f"The MLP output projection of block {layer} of {lm.name} is tied to another weight, which would change "
            "with it; train other layers, or untie the weights."
        )
    return OutputWeight(weight, not isinstance(module, nn.Linear), _gain(lm, layer, weight))


@torch.no_grad()
def _gain(lm: LanguageModel, layer: int, weight: Tensor) -> Tensor:
    """Return the elementwise factor of a norm after the MLP, which Gemma 2 and 3 have.

    It is the norm of a vector of ones, whose root mean square is 1 already.
    """
    block, ones = lm.bridge.blocks[layer], torch.ones(1, 1, lm.d_model, dtype=weight.dtype, device=weight.device)
    written = lm.bridge.get_hook_point(f"blocks.{layer}.hook_mlp_out")
    for name in ("ln2_post", "ln2"):
        norm = getattr(block, name, None)
        if norm is not None and getattr(norm, "hook_out", None) is written:
            return norm(ones)[0, 0].float()
    return ones[0, 0].float()


@contextmanager
def restoring(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Restore ``weights`` and freeze them at the end of this context, in which ``weight.data`` may be assigned to."""
    kept = [weight.data for weight in weights]
    try:
        yield
    finally:
        for weight, data in zip(weights, kept, strict=True):
            weight.requires_grad_(False)
            weight.grad, weight.data = None, data


@dataclass(frozen=True, eq=False)
class WeightDelta:
    """A change dW of the MLP down projections of some layers of one language model."""

    changes: Mapping[int, Tensor]  # by layer, in float32 or float64, with the layout of the weight
    lm_fingerprint: str
    description: Mapping[str, Any]
    # The forget and the retain loss of the training before each step.
    losses: Float[Tensor, "steps 2"] = field(default_factory=lambda: torch.empty(0, 2))

    @property
    def starts(self) -> str:
        """The first hook after which something changes: a prefix pass up to it gives what it gave before."""
        return f"blocks.{min(self.changes)}.hook_resid_pre"

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the change except its strength, ready for JSON."""
        return dict(self.description)

    @contextmanager
    def applied(self, lm: LanguageModel, strength: float = 1.0) -> Iterator[None]:
        """Give ``lm`` the weights W + strength dW in this context, and exactly W again after it.

        The model has another fingerprint in the context, so that results are not mistaken for those of the clean model.
        Strength 0 changes nothing.

        Raises:
            UsageError: The strength is not finite.
            ModelError: The change belongs to another language model, or to other weights.
        """
        if lm.fingerprint != self.lm_fingerprint:
            raise ModelError(
                f"This change of weights was trained on another language model than {lm.name} with its present "
                "weights; train it again."
            )
        if finite("strength", strength) == 0:
            yield
            return
        weights = {layer: output_weight(lm, layer).weight for layer in self.changes}
        fingerprint = lm.fingerprint
        with restoring(list(weights.values())):
            try:
                for layer, weight in weights.items():
                    change = self.changes[layer].to(weight.device)
                    weight.data = (weight.data.to(change.dtype) + strength * change).to(weight.dtype)
                lm.fingerprint = hashlib.sha256(f"{fingerprint}|{self._digest}|{strength!r}".encode()).hexdigest()
                yield
            finally:
                lm.fingerprint = fingerprint

    @cached_property
    def _digest(self) -> str:
        return fingerprint_of({str(layer): change for layer, change in self.changes.items()}, {})
