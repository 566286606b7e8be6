"""The latents of one SAE on examples, one value for each: at the last token, or over all tokens."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from saebench.errors import SaebenchError
from saebench.passes.examples import Examples
from saebench.sae.codes import Coder, dense
from saebench.sae.protocol import SAE, Capability
from saebench.stats.histogram import Activations
from saebench.tasks.concept_separability.settings import Pooling

Entries = tuple[Tensor, Tensor, Tensor]  # example, latent and value of activations that are not zero


@torch.no_grad()
def pooled(sae: SAE, examples: Examples, pooling: Pooling, memory: int) -> Activations:
    """Return the non-zero latents on each example, on the model's device; each takes 24 bytes.

    Args:
        sae: The SAE, which encodes every token by itself.
        examples: The activations of the language model.
        pooling: ``last`` is the latent at the last token that is not special; ``mean`` and ``max`` are over all of
            these tokens.
        memory: Bytes for dense blocks ``[examples or tokens, d_sae]``.

    Raises:
        SaebenchError: The SAE gives NaN or Inf, or latents of a wrong shape.
    """
    blocks = _at_last(sae, examples, memory) if pooling == "last" else _over_tokens(sae, examples, pooling, memory)
    example, latent, value = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    if bad := int((~value.isfinite()).sum()):
        raise SaebenchError(
            f"{sae.name}: its latents hold {bad} NaN or Inf on {examples.n} examples, so nothing can be measured; see "
            "what it does to activations of this size at this hook (saebench check-adapter)."
        )
    return Activations(latent, example, value, sae.d_sae, examples.n)


def _at_last(sae: SAE, examples: Examples, memory: int) -> Iterator[Entries]:
    coder = Coder(sae, memory)
    x = examples.last(sae.hook.site_in)
    for start in range(0, len(x), coder.tokens_per_block):
        block = x[start : start + coder.tokens_per_block].to(examples.lm.device)
        if Capability.SPARSE_ENCODE in sae.capabilities:
            codes = coder.codes(block)
            row, slot = codes.values.nonzero(as_tuple=True)
            yield row + start, codes.indices[row, slot], codes.values[row, slot].float()
        else:
            row, latent, value = _entries(_encode(sae, block))
            yield row + start, latent, value


def _over_tokens(sae: SAE, examples: Examples, pooling: Pooling, memory: int) -> Iterator[Entries]:
    """Half the memory is for the pooled latents of some examples, the other half for the latents of a block."""
    coder = Coder(sae, memory // 2)
    at_once = max(1, memory // 2 // (4 * sae.d_sae))  # examples
    for x, example in examples.tokens(sae.hook.site_in):
        present, local, counts = example.unique_consecutive(return_inverse=True, return_counts=True)
        offsets = [0, *counts.cumsum(0).tolist()]
        for first in range(0, len(present), at_once):
            last = min(first + at_once, len(present))
            start_value = 0.0 if pooling == "mean" else -torch.inf
            total = torch.full((last - first, sae.d_sae), start_value, device=examples.lm.device)
            for token in range(offsets[first], offsets[last], coder.tokens_per_block):
                rows = slice(token, min(token + coder.tokens_per_block, offsets[last]))
                _pool(sae, coder, x[rows].to(total.device), (local[rows] - first).to(total.device), pooling, total)
            if pooling == "mean":
                total /= counts[first:last].to(total.device)[:, None]
            row, latent, value = _entries(total)
            yield present.to(total.device)[first + row], latent, value


def _pool(sae: SAE, coder: Coder, x: Tensor, row: Tensor, pooling: Pooling, total: Tensor) -> None:
    """Add the latents of the tokens ``x[tokens, d]`` to rows of ``total``, or take the maximum with them."""
    codes = coder.codes(x) if Capability.SPARSE_ENCODE in sae.capabilities else None
    if pooling == "mean" and codes is not None:
        keys = row[:, None] * sae.d_sae + codes.indices
        total.view(-1).index_add_(0, keys.flatten(), codes.values.float().flatten())
        return
    z = (_encode(sae, x) if codes is None else dense(codes, sae.d_sae)).float()
    if pooling == "mean":
        total.index_add_(0, row, z)
    else:
        total.scatter_reduce_(0, row[:, None].expand_as(z), z, "amax")


def _encode(sae: SAE, x: Tensor) -> Tensor:
    z = sae.encode(x.clone()).detach()
    if tuple(z.shape) != (len(x), sae.d_sae):
        raise SaebenchError(
            f"{sae.name}: encode gave shape {tuple(z.shape)}, expected {(len(x), sae.d_sae)}; run saebench "
            "check-adapter on it."
        )
    return z


def _entries(z: Tensor) -> Entries:
    row, latent = z.nonzero(as_tuple=True)
    return row, latent, z[row, latent].float()
