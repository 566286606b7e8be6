"""A synthetic model in the place of a run's language model, for the tasks that are made for synthetic models."""

from __future__ import annotations

from typing import NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.errors import NotApplicableError
from saebench.lm.model import LanguageModel
from saebench.lm.reference import LMRef
from saebench.stats.rng import generator
from saebench.synthetic.load import load_synthetic
from saebench.synthetic.model import SyntheticModel
from saebench.synthetic.reference import HOOK, parse_synthetic_ref

CALIBRATION = 8192  # samples to which controls are fitted


class SyntheticLM(LanguageModel):
    """A synthetic model with the name, fingerprint, device and hook point that a run asks of its model.

    It has no tokens, so whatever else a language model has raises NotApplicableError.

    Attributes:
        synthetic: The synthetic model.
    """

    def __init__(self, synthetic: SyntheticModel, device: torch.device) -> None:
        """Stand in for a language model whose activations are those of ``synthetic``, on ``device``."""
        self.synthetic = synthetic
        self.name, self.fingerprint = synthetic.name, synthetic.content_hash
        self.device, self.dtype = device, torch.float32
        self.d_model, self.n_layers = synthetic.d, 0
        self.config = None

    def d_at(self, name: str) -> int:
        """Return the width of the activations. Raises NotApplicableError for a hook point of a language model."""
        if name != HOOK:
            raise NotApplicableError(
                f"{self.name} is a synthetic model, whose only hook point is {HOOK!r}; an SAE at {name!r} was not made "
                "for it."
            )
        return self.synthetic.d

    def calibration(self, site: str, seed: int) -> Float[Tensor, "samples d"]:
        """Return the activations that controls are fitted to; they are none of those that tasks evaluate."""
        self.d_at(site)
        rng = generator(seed, "synthetic:calibration", self.synthetic.content_hash)
        return self.synthetic.sample(CALIBRATION, rng).x

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotApplicableError(
            f"{self.__dict__.get('name')} is a synthetic model without tokens and blocks, so it has no {name}; name a "
            "language model with --model."
        )


def load_synthetic_lm(ref: LMRef, device: torch.device) -> SyntheticLM:
    """Make or load the synthetic model that a reference of the scheme ``synthetic`` names.

    Raises:
        UsageError: The reference is wrong.
        ModelError: The folder does not hold a synthetic model.
    """
    return SyntheticLM(load_synthetic(parse_synthetic_ref(str(ref))), device)
