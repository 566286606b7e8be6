"""The reconstruction of the evaluated tokens of some sequences, whether or not the SAE looks at single tokens."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from saebench.passes.positions import Positions
from saebench.sae.codes import Coder, Codes
from saebench.sae.protocol import Capability


def reconstruct_evaluated(
    coder: Coder,
    positions: Positions,
    x: Float[Tensor, "batch position d_in"],
    sink: Callable[[slice, Codes], None] | None = None,
) -> Float[Tensor, "tokens d_out"]:
    """Return the reconstruction of the evaluated tokens, in float32.

    An SAE that is not position-wise is given whole sequences, special tokens included.

    Args:
        coder: The SAE.
        positions: Where the evaluated tokens of the sequences lie.
        x: What the SAE reads.
        sink: Called as ``sink(tokens, codes)`` with the codes of a slice of the evaluated tokens.

    Raises:
        SaebenchError: The SAE gives tensors of the wrong shape.
    """
    if Capability.POSITION_WISE in coder.sae.capabilities:
        return coder.reconstruct(positions.at_evaluated(x), sink or _nowhere)
    length = positions.tokens.shape[1]
    row = positions.sequence - positions.rows.start
    before = [0, *row.bincount(minlength=len(positions.tokens)).cumsum(0).tolist()]

    def sequences(rows: slice, codes: Codes) -> None:
        assert isinstance(codes, Tensor)
        tokens = slice(before[rows.start], before[rows.stop])
        if sink is not None:
            sink(tokens, codes.flatten(0, 1).index_select(0, positions.evaluated[tokens] - rows.start * length))

    return positions.at_evaluated(coder.reconstruct(x, sequences))


def _nowhere(rows: slice, codes: Codes) -> None:
    """Let codes pass that nobody asks for."""
