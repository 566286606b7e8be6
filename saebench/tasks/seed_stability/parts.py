"""What groups of latents contribute to the reconstruction: by linearity of the decoder, sums over their latents."""

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

Sink = Callable[[slice, Codes], None]


class GroupDecoder:
    """Encodes once with one SAE and decodes with several groups of its latents: ``f_G W_G`` for each group G.

    ``groups[g, i]`` says whether latent i belongs to group g. The SAE is position-wise and needs a linear
    decoder.
    """

    def __init__(self, sae: SAE, groups: NDArray[np.bool_], memory: int, device: torch.device) -> None:
        self.sae, self._memory = sae, memory
        self._coder = Coder(sae, memory)
        self._directions = sae.decoder_directions().detach().to(device, torch.float32)
        # Equal groups are decoded once: where one holds all latents, so do the random ones it is compared with.
        distinct, number = np.unique(groups, axis=0, return_inverse=True)
        self._masks = torch.from_numpy(distinct).to(device)
        self._number = torch.from_numpy(number.reshape(-1)).to(device)  # of each group's mask

    def sequences_at_once(self, context_length: int) -> int:
        """Sequences whose parts fit into the memory, at least 1."""
        parts = (len(self._number) + 4) * 4 * self.sae.d_out  # and the activation, its error and copies of them
        return max(1, min(self._memory // parts, self._coder.tokens_per_block) // context_length)

    @torch.no_grad()
    def parts(
        self, captured: CapturedText, positions: Positions, sink: Sink | None = None
    ) -> tuple[Float[Tensor, "tokens d_out"], Float[Tensor, "groups tokens d_out"]]:
        """The reconstruction of the evaluated tokens of ``positions``, and each group's part of it.

        ``sink(tokens, codes)`` sees the codes of each block of evaluated tokens.
        """
        device = self._directions.device
        x = to_device(captured.activations(self.sae.hook.site_in, positions.rows), device)
        found = torch.empty(len(self._number), len(positions.evaluated), self.sae.d_out, device=device)

        def take(tokens: slice, codes: Codes) -> None:
            for number, mask in enumerate(self._masks):
                found[self._number == number, tokens] = self._part(codes, mask)
            if sink is not None:
                sink(tokens, codes)

        return self._coder.reconstruct(positions.at_evaluated(x), take), found

    def _part(self, codes: Codes, mask: Tensor) -> Tensor:
        if isinstance(codes, SparseCodes):
            weights = codes.values.float() * mask[codes.indices]
            return functional.embedding_bag(codes.indices, self._directions, per_sample_weights=weights, mode="sum")
        return (codes.float() * mask) @ self._directions
