"""How close the directions of an SAE's latents lie to each other, from the weights alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from saebench.sae.protocol import SAE, Capability
from saebench.stats.geometry import max_cosine_to_others, row_cosines

# For each metric id, one value for each latent that has one, and the reason if no latent has one.
Cosines = dict[str, tuple[NDArray[np.float64], str | None]]


def weight_cosines(sae: SAE) -> Cosines:
    """Return the largest cosines with another decoder row and another encoder row, and those of encoder with decoder.

    Each array holds one value for each latent; latents whose direction is zero are left out. For an SAE that lacks the
    directions of a metric, the array is empty and the reason says what it lacks.
    """
    decoder = sae.decoder_directions() if Capability.LINEAR_DECODER in sae.capabilities else None
    encoder = sae.encoder_directions() if Capability.ENCODER_DIRECTIONS in sae.capabilities else None
    no_decoder = "the SAE has no linear decoder"
    no_encoder = "the SAE has no encoder directions"
    both = decoder is not None and encoder is not None
    same_space = both and not sae.hook.crosses
    return {
        "decoder_max_cosine": _values(None if decoder is None else max_cosine_to_others(decoder), no_decoder),
        "encoder_max_cosine": _values(None if encoder is None else max_cosine_to_others(encoder), no_encoder),
        "encoder_decoder_cosine": _values(
            row_cosines(encoder, decoder) if same_space else None,  # type: ignore[arg-type]
            (no_decoder if decoder is None else no_encoder)
            if not both
            else "encoder and decoder lie at different sites",
        ),
    }


def _values(cosines: Tensor | None, reason: str) -> tuple[NDArray[np.float64], str | None]:
    if cosines is None:
        return np.empty(0), reason
    values = cosines.detach().double().cpu().numpy()
    values = values[np.isfinite(values)]
    return values, "no latent has a direction to compare" if len(values) == 0 else None
