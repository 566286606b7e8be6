"""Training small SAEs on a synthetic model, in one plain loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from saebench.errors import SAELoadError
from saebench.sae.affine.activations import Activation, ReLU, TopK
from saebench.sae.affine.adapter import AffineSAE
from saebench.sae.affine.weights import Weights
from saebench.sae.protocol import HookSite
from saebench.stats.rng import generator
from saebench.synthetic.model import SyntheticModel
from saebench.synthetic.reference import HOOK

_BATCH = 512  # samples
_POOL = 2**17  # different samples of a training, a multiple of the batch; drawing them takes longer than a step


def train(
    model: SyntheticModel,
    *,
    name: str,
    seed: int,
    frozen: bool = False,
    architecture: str = "topk",
    steps: int = 3000,
    latents: int | None = None,
    k: int | None = None,
    l1: float = 2.0,
    lr: float = 2e-3,
) -> AffineSAE:
    """Train an SAE with Adam; the rows of its decoder are kept at length 1.

    Args:
        model: The synthetic model.
        name: The reference.
        seed: The seed of the first weights and of the samples.
        frozen: Whether the decoder keeps its random directions (arXiv 2602.14111).
        architecture: "topk", or "relu" with a penalty on the sum of the latents.
        steps: The number of steps, each on 512 samples.
        latents: The number of latents; by default the one that the model suggests.
        k: The number of active latents of "topk"; by default the mean number of active features.
        l1: The weight of the penalty of "relu".
        lr: The learning rate.

    Raises:
        SAELoadError: There are fewer latents than ``k``, or training diverges.
    """
    m, content = latents or model.latents, model.content_hash
    probe = model.sample(4 * _BATCH, generator(seed, "synthetic-panel:probe", content))
    k = k or max(1, round(probe.index.shape[1] / len(probe)))
    if k > m:
        raise SAELoadError(f"{name}: k={k} must not be above the number of latents, {m}.")
    first = generator(seed, "synthetic-panel:first", content).standard_normal((m, model.d), dtype=np.float32)
    activation: Activation = TopK(k) if architecture == "topk" else ReLU()
    penalty = 0.0 if architecture == "topk" else l1
    batches = _batches(model, seed, steps)
    weights = fit(batches, torch.from_numpy(first), probe.x.mean(0), activation, penalty=penalty, lr=lr, frozen=frozen)
    kind = f"frozen-{architecture}" if frozen else architecture
    sae = AffineSAE(weights, activation, name=name, architecture=kind, hook=HookSite.at(HOOK))
    sae.control = frozen
    return sae


@torch.enable_grad()
def fit(
    batches: Iterable[Float[Tensor, "batch d"]],
    first: Float[Tensor, "latents d"],
    mean: Float[Tensor, " d"],
    activation: Activation,
    *,
    lr: float,
    penalty: float = 0.0,
    frozen: bool = False,
) -> Weights:
    """Return the weights of an SAE after one step of Adam on each batch; the rows of its decoder are kept at length 1.

    Args:
        batches: The activations of each step.
        first: The first directions of the decoder, and of the encoder.
        mean: The first bias of the decoder.
        activation: The activation function.
        lr: The learning rate.
        penalty: The weight of the sum of the latents.
        frozen: Whether the decoder keeps its first directions.
    """
    decoder = normalize(first, dim=-1).requires_grad_(not frozen)
    encoder = decoder.detach().T.clone().requires_grad_()
    b_enc, b_dec = torch.zeros(len(first), requires_grad=True), mean.clone().requires_grad_()
    optimiser = torch.optim.Adam([w for w in (encoder, decoder, b_enc, b_dec) if w.requires_grad], lr=lr)
    for x in batches:
        z = activation((x - b_dec) @ encoder + b_enc)
        loss = (z @ decoder + b_dec - x).square().sum(-1).mean() + penalty * z.sum(-1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            if not frozen:
                decoder.copy_(normalize(decoder, dim=-1))
    return Weights(encoder.detach(), b_enc.detach(), decoder.detach(), b_dec.detach(), pre_bias=b_dec.detach())


def _batches(model: SyntheticModel, seed: int, steps: int) -> Iterator[Tensor]:
    """Yield a batch for each step. After ``_POOL`` samples the same ones come again in another order."""
    content = model.content_hash
    x = model.sample(min(_POOL, steps * _BATCH), generator(seed, "synthetic-panel:training", content)).x
    order = generator(seed, "synthetic-panel:order", content)
    for first in range(0, steps, len(x) // _BATCH):
        batches = torch.from_numpy(order.permutation(len(x))).split(_BATCH)
        for rows in batches[: steps - first]:
            yield x[rows]
