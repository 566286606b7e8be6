"""What groups of latents contribute to the reconstruction: the decoder is linear, so it is a sum over their latents."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from saebench.lm.batching import to_device
from saebench.passes.captured import CapturedText
from saebench.passes.positions import Positions
from saebench.sae.codes import Coder, Codes
from saebench.sae.protocol import SAE, SparseCodes

Sink = Callable[[slice, Codes], None]  # takes the codes of a block of evaluated tokens


class GroupDecoder:
    """Encodes once with one SAE and decodes with several groups of its latents: ``f_G W_G`` for each group G."""

    def __init__(self, sae: SAE, groups: NDArray[np.bool_], memory: int, device: torch.device) -> None:
        """Prepare to decode.

        Args:
            sae: A position-wise SAE with a linear decoder.
            groups: Whether latent i belongs to group g, ``[groups, d_sae]``.
            memory: Bytes for the latents, and for the contributions, of a block of tokens.
            device: Where the language model lies.
        """
        self.sae, self.n_groups, self._memory = sae, len(groups), memory
        self._coder = Coder(sae, memory)
        self._directions = sae.decoder_directions().detach().to(device, torch.float32)
        # Equal groups are decoded once: a group of all latents equals its random controls, for example.
        distinct, number = np.unique(groups, axis=0, return_inverse=True)
        self._masks = torch.from_numpy(distinct).to(device)
        self._number = torch.from_numpy(number.reshape(-1)).to(device)  # [groups] which of the masks is its own

    def sequences_at_once(self, context_length: int) -> int:
        """The number of sequences whose contributions fit into the memory, at least 1."""
        # Beside the contributions there are the activation, its error and copies of them.
        bytes_per_token = (self.n_groups + 4) * 4 * self.sae.d_out
        return max(1, min(self._memory // bytes_per_token, self._coder.tokens_per_block) // context_length)

    @torch.no_grad()
    def contributions(
        self, captured: CapturedText, positions: Positions, sink: Sink | None = None
    ) -> tuple[Float[Tensor, "tokens d_out"], Float[Tensor, "groups tokens d_out"]]:
        """The reconstruction of the evaluated tokens of ``positions``, and what each group contributes to it.

        ``sink(tokens, codes)`` is called with the codes of each block of evaluated tokens.
        """
        device = self._directions.device
        x = to_device(captured.activations(self.sae.hook.site_in, positions.rows), device)
        out = torch.empty(self.n_groups, len(positions.evaluated), self.sae.d_out, device=device)

        def decode(tokens: slice, codes: Codes) -> None:
            for number, mask in enumerate(self._masks):
                out[self._number == number, tokens] = self._contribution(codes, mask)
            if sink is not None:
                sink(tokens, codes)

        return self._coder.reconstruct(positions.at_evaluated(x), decode), out

    def _contribution(self, codes: Codes, mask: Tensor) -> Tensor:
        if isinstance(codes, SparseCodes):
            weights = codes.values.float() * mask[codes.indices]
            return functional.embedding_bag(codes.indices, self._directions, per_sample_weights=weights, mode="sum")
        return (codes.float() * mask) @ self._directions
