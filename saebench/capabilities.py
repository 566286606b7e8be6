"""The optional abilities of an SAE. They stand in a module of their own because task cards name them without torch."""

from __future__ import annotations

from enum import StrEnum


class Capability(StrEnum):
    """One optional ability. A task names those that it needs; none is ever assumed."""

    LINEAR_DECODER = "linear_decoder"  # decode(z) = z @ decoder_directions + const, for the same x
    ENCODER_DIRECTIONS = "encoder_directions"  # one input direction per latent
    NON_NEGATIVE = "non_negative"  # every latent is >= 0 (AbsTopK is signed)
    POSITION_WISE = "position_wise"  # a token's latents depend on that token alone
    SPARSE_ENCODE = "sparse_encode"  # encode_sparse() returns (values, indices)
    TRANSCODER = "transcoder"  # reads hook.sites_in, reconstructs other sites


# An ordinary SAE has a linear encoder with a threshold, and a linear decoder.
ORDINARY = frozenset(
    {
        Capability.LINEAR_DECODER,
        Capability.ENCODER_DIRECTIONS,
        Capability.NON_NEGATIVE,
        Capability.POSITION_WISE,
        Capability.SPARSE_ENCODE,
    }
)
