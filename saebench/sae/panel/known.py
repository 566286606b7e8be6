"""How good an SAE of a planted language model truly is, by its decoder and by when its latents fire."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from saebench.sae.protocol import SAE
from saebench.stats.matching import best_matches, one_to_one
from saebench.synthetic.planted.truth import Planted


@dataclass(frozen=True)
class Quality:
    """The true quality of an SAE. Features that never fire on the texts do not count.

    Attributes:
        nearest: The mean over the features of the greatest similarity with a latent's direction, whatever its sign.
        mcc: The mean similarity of the one-to-one matching of features and latents; unmatched features count as 0.
        f1: The mean over the features of the F1 with which the latent of this matching detects them; likewise.
        both: The mean over the features of the product of this similarity and this F1: 1 if and only if every feature
            has a latent that writes it and fires where it does.
        fvu: The fraction of variance unexplained on the texts.
        l0: The mean number of latents that fire on a token.
        true_l0: That of the features.
    """

    nearest: float
    mcc: float
    f1: float
    both: float
    fvu: float
    l0: float
    true_l0: float


@torch.no_grad()
def known_quality(sae: SAE, planted: Planted, tokens: Int[Tensor, "texts positions"]) -> Quality:
    """Compare an SAE with the features of a planted model, on texts that begin with BOS, which is left out.

    Args:
        sae: An SAE at the site of the features, with one decoder direction for each latent.
        planted: The model.
        tokens: The texts.
    """
    x = planted.activations(tokens)[:, 1:].flatten(0, 1)
    fires = planted.features(tokens)[:, 1:].flatten(0, 1) > 0
    z = sae.encode(x).float()
    seen = np.flatnonzero(fires.any(0).numpy())
    directions = planted.directions[seen]
    decoder = sae.decoder_directions().detach().float().cpu()
    nearest = np.nan_to_num(best_matches(decoder, directions, absolute=True).backward.double().numpy())
    matching = one_to_one(directions, decoder, absolute=True)
    matched = np.flatnonzero(matching.index >= 0)
    latents, features = (z != 0)[:, matching.index[matched]], fires[:, seen[matched]]
    hits = (latents & features).sum(0).double()
    f1 = 2 * hits / (latents.sum(0) + features.sum(0))  # a feature that counts fires at least once
    similarity = torch.from_numpy(matching.similarity[matched]).double()
    error = (x - sae.decode(z, x)).double().square().sum()
    return Quality(
        nearest=float(nearest.mean()),
        mcc=float(similarity.sum() / len(seen)),
        f1=float(f1.sum() / len(seen)),
        both=float((similarity * f1).sum() / len(seen)),
        fvu=float(error / (x - x.mean(0)).double().square().sum()),
        l0=float((z != 0).sum(-1).double().mean()),
        true_l0=float(fires.sum(-1).double().mean()),
    )
