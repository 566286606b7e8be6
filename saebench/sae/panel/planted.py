"""The panel of SAEs for a planted language model: each is wrong in the way that its name says, at the true L0."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from saebench.errors import SAELoadError
from saebench.sae.affine.activations import TopK
from saebench.sae.affine.adapter import AffineSAE
from saebench.sae.affine.weights import Weights
from saebench.sae.panel.coder import SparseCoder
from saebench.sae.panel.pairs import in_pairs
from saebench.sae.panel.train import fit
from saebench.sae.protocol import SAE, HookSite
from saebench.stats.rng import generator
from saebench.synthetic.planted.make import load_process
from saebench.synthetic.planted.process import Process
from saebench.synthetic.planted.truth import SITE, Planted, load_planted, with_first

_CALIBRATION = 60  # documents to which thresholds are fitted
_TRAINING = 1000  # documents that SAEs are trained on
_BATCH = 256  # tokens
# The weights that this process has trained: the tasks of an audit take the same SAEs, and they are small.
_TRAINED: dict[tuple[object, ...], Weights] = {}


@dataclass(frozen=True, eq=False)  # tensors do not compare to one truth
class Known:
    """A planted model, what its texts are drawn from, and the seed, name and noise of an SAE for it."""

    planted: Planted
    process: Process
    seed: int
    name: str
    noise: float = 0.0

    @cached_property
    def directions(self) -> Float[Tensor, "features d"]:
        """The directions of the features, with noise of the length ``noise`` added to each of them."""
        directions = self.planted.directions
        if not self.noise:
            return directions
        error = normalize(self.normal("noise", *directions.shape), dim=-1)
        return normalize(directions + self.noise * error, dim=-1)

    def rng(self, purpose: str, *numbers: int) -> np.random.Generator:
        """Return a generator that the model, the seed and the purpose decide."""
        return generator(self.seed, f"planted-panel:{purpose}", self.planted.content_hash, *numbers)

    def normal(self, purpose: str, *shape: int) -> Tensor:
        """Return standard normal numbers."""
        return torch.from_numpy(self.rng(purpose).standard_normal(shape, dtype=np.float32))

    def shuffled(self, purpose: str, n: int) -> Tensor:
        """Return the numbers below ``n`` in random order."""
        return torch.from_numpy(self.rng(purpose).permutation(n))

    def tokens(self, purpose: str, n: int) -> Int[Tensor, "documents positions"]:
        """Draw documents with the first token before them."""
        rng = self.rng(purpose)
        states = self.process.states(n, rng)
        return with_first(self.process.draw(states, self.process.vocabulary.recipe.words, rng))

    @cached_property
    def calibration(self) -> tuple[Float[Tensor, "tokens d"], Float[Tensor, "tokens features"]]:
        """Activations, and the features in them, to which thresholds are fitted."""
        tokens = self.tokens("calibration", _CALIBRATION)
        x, features = self.planted.activations(tokens)[:, 1:], self.planted.features(tokens)[:, 1:]
        return x.flatten(0, 1), features.flatten(0, 1)

    @cached_property
    def l0(self) -> float:
        """The mean number of features that fire on a token."""
        return float((self.calibration[1] > 0).sum(-1).double().mean())

    @torch.no_grad()
    def coder(self, kind: str, dictionary: Tensor, **more: Any) -> SparseCoder:
        """Return the SAE of a dictionary, with the threshold that gives the true L0 and latents in random order."""
        given = {"name": self.name, "kind": kind, "hook": HookSite.at(SITE), "bias": self.planted.bias, **more}
        x = self.calibration[0]
        codes = SparseCoder(dictionary=dictionary, **given).search(x).flatten()
        wanted = min(len(codes), max(1, round(self.l0 * len(x))))
        low = float(codes.kthvalue(len(codes) - wanted).values) if wanted < len(codes) else 0.0
        m = len(dictionary) * (2 if "plane" in more else 1)
        return SparseCoder(dictionary=dictionary, low=low, order=self.shuffled("order", m), **given)


def make_planted(kind: str, folder: str | Path, *, name: str, seed: int, noise: float = 0.0, **options: Any) -> SAE:
    """Return an SAE of the panel for the planted model in a folder.

    Args:
        kind: The body of its reference, such as "oracle".
        folder: The folder that `saebench.synthetic.planted.make` wrote.
        name: The reference.
        seed: The seed of everything that is drawn.
        noise: The length of the noise that is added to each known direction.
        **options: The options of the reference.

    Raises:
        ModelError: The folder holds no planted model.
        SAELoadError: An option does not fit the model.
    """
    return _MAKERS[kind](Known(load_planted(folder), load_process(folder), seed, name, noise), **options)


def _oracle(known: Known) -> SAE:
    return known.coder("oracle", known.directions)


def _merged(known: Known, share: float = 1.0) -> SAE:
    pairs, alone = in_pairs(known.shuffled("pairs", known.planted.n_features), share)
    merged = torch.cat([known.directions[pairs].sum(1), known.directions[alone]])
    return known.coder("merged", normalize(merged, dim=-1))


def _split(known: Known) -> SAE:
    """Return two latents for each feature, which fire on the two sides of one random plane."""
    return known.coder("split", known.directions, plane=known.normal("plane", len(known.planted.bias)))


def _absorbed(known: Known, share: float = 1.0) -> SAE:
    """Return the oracle whose children write their parents' directions, too, and silence them (arXiv 2409.14507)."""
    children = (known.planted.parents >= 0).nonzero()[:, 0]
    children = children[known.shuffled("children", len(children))[: max(1, round(share * len(children)))]]
    parents = known.planted.parents[children]
    features = known.calibration[1]
    both = features[:, children] * features[:, parents]
    # What a parent is worth beside a child, for each unit of the child's activation.
    worth = both.sum(0) / features[:, children].square().sum(0).clamp_min(1e-9)
    decoder = known.directions.clone()
    decoder[children] += worth[:, None] * known.directions[parents]
    return known.coder("absorbed", known.directions, decoder=decoder, pairs=torch.stack([children, parents]))


def _rotated(known: Known, size: int = 4) -> SAE:
    """Return latents that span the same spaces as groups of features, in other directions."""
    n = known.planted.n_features
    if not 2 <= size <= n:
        raise SAELoadError(f"{known.name}: groups must have from 2 to {n} features, as many as the model has.")
    directions = known.directions.clone()
    for number, group in enumerate(known.shuffled("groups", n).split(size)):
        draw = known.rng("rotation", number).standard_normal((len(group), len(group)), dtype=np.float32)
        directions[group] = torch.linalg.qr(torch.from_numpy(draw)).Q @ known.directions[group]
    return known.coder("rotated", normalize(directions, dim=-1))


def _missing(known: Known, share: float = 0.5) -> SAE:
    """Return the oracle without a random share of its latents."""
    kept = known.shuffled("missing", known.planted.n_features)[round(share * known.planted.n_features) :]
    if not len(kept):
        raise SAELoadError(f"{known.name}: no latent would be left; name a smaller share.")
    return known.coder("missing", known.directions[kept.sort().values])


def _random(known: Known) -> SAE:
    directions = normalize(known.normal("directions", *known.planted.directions.shape), dim=-1)
    sae = known.coder("random", directions, steps=0)
    sae.control = True
    return sae


def _trained(known: Known, steps: int = 3000, lr: float = 2e-3, frozen: bool = False) -> SAE:
    """Return a TopK SAE with a latent for each feature, as many of them active as there are features on a token."""
    activation = TopK(max(1, round(known.l0)))
    key = (known.planted.content_hash, known.seed, steps, lr, frozen)
    if key not in _TRAINED:
        _TRAINED[key] = _weights(known, activation, steps, lr, frozen)
    kind = "frozen-topk" if frozen else "topk"
    sae = AffineSAE(_TRAINED[key], activation, name=known.name, architecture=kind, hook=HookSite.at(SITE))
    sae.control = frozen
    return sae


def _weights(known: Known, activation: TopK, steps: int, lr: float, frozen: bool) -> Weights:
    x = known.planted.activations(known.tokens("training", _TRAINING))[:, 1:].flatten(0, 1)
    order = known.rng("order of training")

    def batches() -> Iterator[Tensor]:
        for _ in range(steps):
            yield x[torch.from_numpy(order.integers(len(x), size=_BATCH))]

    first = known.normal("first", *known.planted.directions.shape)
    return fit(batches(), first, x.mean(0), activation, lr=lr, frozen=frozen)


def _frozen(known: Known, **options: Any) -> SAE:
    return _trained(known, frozen=True, **options)


_MAKERS: dict[str, Callable[..., SAE]] = {
    "oracle": _oracle,
    "merged": _merged,
    "split": _split,
    "absorbed": _absorbed,
    "rotated": _rotated,
    "missing": _missing,
    "trained": _trained,
    "frozen": _frozen,
    "random": _random,
}
