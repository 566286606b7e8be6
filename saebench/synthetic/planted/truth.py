"""What is known of a planted language model: its features, and their activations on any tokens."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from saebench.errors import ModelError
from saebench.files import read_json
from saebench.synthetic.planted.words import BOS

SITE = "blocks.0.hook_resid_post"  # where the activations are the sum of the features
TENSORS, DESCRIPTION, MANIFEST = "planted.safetensors", "planted.json", "planted-manifest.json"
EPS = 1e-8  # of the model's norms
_KEYS = ("directions", "bias", "evidence", "gain", "parents", "readout")


@dataclass(frozen=True, eq=False)  # tensors do not compare to one truth
class Planted:
    """The features of a planted language model.

    The activation at `SITE` is ``bias`` plus the sum of the active features' directions, each times its activation. The
    first features are the tokens: the current token's activation is 1, that of all others 0. Those after them are the
    concepts: a concept's activation is its gain times the share of tokens so far, BOS included, that tell of it.

    Attributes:
        names: The names of the features.
        directions: Their directions, unit vectors.
        bias: What is part of every activation; it is orthogonal to all directions.
        evidence: Which concepts each token tells of, 0 or 1.
        gain: The gain of each concept.
        parents: A feature that fires wherever each feature does, -1 for none.
        readout: What the model predicts with: logits are ``readout`` times the activation of root mean square 1.
    """

    names: tuple[str, ...]
    directions: Float[Tensor, "features d"]
    bias: Float[Tensor, " d"]
    evidence: Float[Tensor, "tokens concepts"]
    gain: Float[Tensor, " concepts"]
    parents: Int[Tensor, " features"]
    readout: Float[Tensor, "tokens d"]

    @property
    def n_tokens(self) -> int:
        """The number of tokens, which is also the number of the first concept."""
        return len(self.evidence)

    @property
    def n_features(self) -> int:
        """The number of features."""
        return len(self.directions)

    @cached_property
    def content_hash(self) -> str:
        """The sha256 of everything that decides the activations and predictions."""
        digest = hashlib.sha256(json.dumps(self.names).encode())
        for key in _KEYS:
            digest.update(getattr(self, key).contiguous().numpy().data)
        return digest.hexdigest()

    def index(self, name: str) -> int:
        """Return the number of the feature called ``name``, such as ``topic:0``."""
        return self.names.index(name)

    def features(self, tokens: Int[Tensor, "texts positions"]) -> Float[Tensor, "texts positions features"]:
        """Return the activations of all features on texts, each of which begins with BOS."""
        words = torch.nn.functional.one_hot(tokens, self.n_tokens).float()
        seen = self.evidence[tokens].cumsum(1) / torch.arange(1, tokens.shape[1] + 1)[:, None]
        return torch.cat([words, seen * self.gain], dim=-1)

    def activations(self, tokens: Int[Tensor, "texts positions"]) -> Float[Tensor, "texts positions d"]:
        """Return the activations of the model at `SITE` on texts, each of which begins with BOS."""
        return self.features(tokens) @ self.directions + self.bias

    def logits(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... tokens"]:
        """Return what the model predicts from activations at `SITE`."""
        return normed(x) @ self.readout.T


def normed(x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
    """Return ``x`` divided by its root mean square, as the last norm of the model does."""
    return x * (x.square().mean(-1, keepdim=True) + EPS).rsqrt()


def with_first(tokens: NDArray[np.int64]) -> Int[Tensor, "texts positions"]:
    """Return texts with BOS before them."""
    return torch.from_numpy(np.concatenate([np.full((len(tokens), 1), BOS), tokens], axis=1))


def load_planted(folder: str | Path) -> Planted:
    """Load what is known of the model in a folder that `make` wrote.

    Raises:
        ModelError: The folder holds no planted model, or its files are damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder) / TENSORS
    if not path.is_file():
        raise ModelError(f"{folder} holds no planted language model: {TENSORS} is missing; make one first.")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path} cannot be read ({reason}); make the model again.") from error
    description: Any = read_json(Path(folder) / DESCRIPTION, "description of a planted model", ModelError)
    names = description.get("features") if isinstance(description, dict) else None
    if set(tensors) != set(_KEYS) or not isinstance(names, list) or len(names) != len(tensors["directions"]):
        raise ModelError(f"{TENSORS} and {DESCRIPTION} in {folder} do not fit together; make the model again.")
    return Planted(tuple(map(str, names)), **tensors)


def tensors_of(planted: Planted) -> dict[str, Tensor]:
    """Return the tensors that `load_planted` reads."""
    return {key: getattr(planted, key).contiguous() for key in _KEYS}
