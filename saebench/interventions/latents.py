"""Some latents of an SAE: their values at some tokens, and the activation that follows if they are changed.

Let f be the latents, f' the changed latents and e = x - decode(f) the error of the SAE, which is the part of the
activation that its reconstruction misses.

* If the error is kept, ``x' = decode(f') + e``, which for a linear decoder is ``x + (f' - f) W_dec``.
* If the error is dropped, ``x' = decode(f')``.

Only the chosen columns of f are kept in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.errors import NotApplicableError, UsageError
from saebench.interventions.places import Places
from saebench.sae.codes import Coder, Codes
from saebench.sae.protocol import SAE, Capability, SparseCodes

ErrorTerm = Literal["kept", "dropped"]
ERROR_TERMS: tuple[ErrorTerm, ...] = ("kept", "dropped")

_BUDGET = 2**28  # bytes for [tokens, d_sae] blocks


@dataclass(frozen=True)
class Reading:
    """The values of some latents at some tokens of ``x``, which serve any number of edits of the same latents."""

    x: Float[Tensor, "batch position d_out"]
    source: Float[Tensor, "batch position d_in"]  # what the SAE has read: x, except for transcoders
    places: Places
    values: Float[Tensor, "tokens n"]
    xhat: Float[Tensor, "tokens d_out"] | None  # the reconstruction, if it is edited instead of x


class Latents:
    """Some latents of an SAE, and whether the SAE's error is kept or dropped when they are changed.

    An SAE that is not position-wise reads whole texts, with every token of them, masked or not.
    """

    def __init__(self, sae: SAE, indices: Sequence[int], *, error: ErrorTerm, budget: int = _BUDGET) -> None:
        """Choose latents.

        Args:
            sae: The SAE.
            indices: The numbers of the latents.
            error: Whether the SAE's error is kept or dropped.
            budget: The most bytes of a block ``[tokens, d_sae]``.

        Raises:
            UsageError: A latent does not exist or is named twice, or ``error`` is unknown.
        """
        if error not in ERROR_TERMS:
            raise UsageError(f"error must be one of {', '.join(ERROR_TERMS)}, not {error!r}.")
        for number, latent in enumerate(indices):
            if not 0 <= latent < sae.d_sae:
                raise UsageError(f"{sae.name} has the latents 0 to {sae.d_sae - 1}, but no latent {latent}.")
            if latent in indices[:number]:
                raise UsageError(f"Latent {latent} is named twice; name it once.")
        self.sae, self.error, self.budget = sae, error, budget
        self.indices = [int(latent) for latent in indices]
        self.position_wise = Capability.POSITION_WISE in sae.capabilities
        self.linear = Capability.LINEAR_DECODER in sae.capabilities

    def __len__(self) -> int:
        return len(self.indices)

    def also(self, latent: int) -> Latents:
        """Return these latents with one more, which comes last."""
        return Latents(self.sae, [*self.indices, latent], error=self.error, budget=self.budget)

    @cached_property
    def directions(self) -> Float[Tensor, "n d_out"]:
        """The decoder rows in float32. Raises NotApplicableError if the decoder is not linear."""
        rows = self.sae.decoder_directions().detach()
        return rows[torch.tensor(self.indices, dtype=torch.long, device=rows.device)].float()

    def describe(self) -> dict[str, Any]:
        """Return the SAE's fingerprint, the latents and what becomes of the error, ready for JSON."""
        return {"sae": self.sae.fingerprint(), "latents": self.indices, "error": self.error}

    def require_sizes(self, what: str) -> None:
        """Raise NotApplicableError, which says that ``what`` needs them, unless the latents are non-negative.

        The mean and the maximum of a signed latent do not tell its size.
        """
        if Capability.NON_NEGATIVE not in self.sae.capabilities:
            raise NotApplicableError(f"{what} needs non-negative latents; those of {self.sae.name} are signed.")

    @torch.no_grad()
    def read(self, x: Tensor, source: Tensor, places: Places) -> Reading:
        """Return the values of the latents, from one encoding, and one decoding if the error is dropped.

        Args:
            x: The activation at the SAE's output hook.
            source: The activation at its input hook.
            places: The tokens to read.
        """
        if not len(self) and self.error == "kept":
            return self.unread(x, places)
        inputs = places.at(source) if self.position_wise else source
        parts: list[Tensor] = []
        xhat = None
        if self.linear and self.error == "dropped":
            xhat = self._coder.reconstruct(inputs, lambda rows, codes: parts.append(self._chosen(codes)))
            xhat = xhat if self.position_wise else places.at(xhat)
        else:
            parts += [self._chosen(self._encode(inputs[rows])) for rows in self._blocks(inputs)]
        empty = torch.zeros(*inputs.shape[:-1], len(self), device=inputs.device)
        values = torch.cat(parts) if parts else empty
        return Reading(x, source, places, values if self.position_wise else places.at(values), xhat)

    def unread(self, x: Tensor, places: Places) -> Reading:
        """Return a reading without encoding, with zeros as values, for edits that do not depend on the values."""
        return Reading(x, x, places, torch.zeros(len(places.index), len(self), device=x.device), None)

    @torch.no_grad()
    def write(self, reading: Reading, change: Float[Tensor, "tokens n"]) -> Float[Tensor, "batch position d_out"]:
        """Return the activation with the latents changed at the places that were read.

        If the error is kept, a token whose latents do not change stays bit-equal.

        Args:
            reading: What was read.
            change: The change f' - f of the latents.
        """
        old = reading.places.at(reading.x)
        base = old.float() if reading.xhat is None else reading.xhat
        if self.linear:
            new = (base + change @ self.directions.to(base.device)).to(old.dtype)
        else:
            decoded = self._decoded(reading, change)
            new = (base + decoded if self.error == "kept" else decoded).to(old.dtype)
        if self.error == "kept":
            new = torch.where((change != 0).any(-1, keepdim=True), new, old)
        return reading.places.put(reading.x, new)

    @cached_property
    def _coder(self) -> Coder:
        return Coder(self.sae, self.budget)

    @cached_property
    def _selects_k(self) -> bool:
        """Whether the encoder selects active latents itself. For other SAEs, columns of dense codes are read."""
        sparse = {Capability.SPARSE_ENCODE, Capability.POSITION_WISE} <= self.sae.capabilities
        return sparse and self.sae.architecture in ("topk", "abstopk")

    def _blocks(self, inputs: Tensor) -> Iterator[slice]:
        step = max(1, self._coder.tokens_per_block // max(1, inputs[:1, ..., 0].numel()))
        return (slice(start, start + step) for start in range(0, len(inputs), step))

    def _encode(self, inputs: Tensor) -> Codes:
        inputs = inputs.to(torch.float32, copy=True)
        return self.sae.encode_sparse(inputs) if self._selects_k else self.sae.encode(inputs)

    def _columns(self, device: torch.device) -> Tensor:
        return torch.tensor(self.indices, dtype=torch.long, device=device)

    def _chosen(self, codes: Codes) -> Tensor:
        """Return the chosen columns of codes, ``[..., n]``."""
        if not isinstance(codes, SparseCodes):
            return codes.index_select(-1, self._columns(codes.device)).float()
        n, device = len(self), codes.values.device
        column = torch.full((self.sae.d_sae,), n, device=device)  # all other latents share a last column
        column[self._columns(device)] = torch.arange(n, device=device)
        chosen = torch.zeros(len(codes.values), n + 1, device=device)
        # Values are added, because an unused slot may name a latent that another slot holds.
        return chosen.scatter_add_(1, column[codes.indices.long()], codes.values.float())[:, :n]

    def _decoded(self, reading: Reading, change: Tensor) -> Tensor:
        """Return decode(f') if the error is dropped, or decode(f') - decode(f) if it is kept; ``[tokens, d_out]``."""
        places = reading.places
        inputs = places.at(reading.source) if self.position_wise else reading.source
        change = change if self.position_wise else places.grid(change)
        out = torch.zeros(*inputs.shape[:-1], self.sae.d_out, device=inputs.device)
        for rows in self._blocks(inputs):
            x = inputs[rows].float()
            z = self.sae.encode(x.clone())
            edited = z.index_add(-1, self._columns(z.device), change[rows].to(z.dtype))
            out[rows] = self.sae.decode(edited, x.clone())
            if self.error == "kept":
                out[rows] -= self.sae.decode(z, x.clone())
        return out if self.position_wise else places.at(out)
