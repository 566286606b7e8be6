"""What an SAE's latents do on texts that are read one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

from saebench.errors import SaebenchError
from saebench.lm.batching import to_device
from saebench.passes.context import TaskContext
from saebench.sae.codes import Coder
from saebench.sae.protocol import SAE, Capability

Entries = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Activity:
    """Of each latent on each text, special tokens left out: scipy CSR ``[texts, d_sae]`` in float32."""

    maximum: csr_matrix  # max |f| over tokens
    total: csr_matrix  # sum of f over tokens
    firing: csr_matrix  # number of tokens where f != 0
    tokens: NDArray[np.int64]  # [texts]

    def token_rate(self) -> NDArray[np.float64]:
        """Share of all tokens at which a latent fires, ``[d_sae]``."""
        return _sum(self.firing) / self.tokens.sum()

    def text_rate(self) -> NDArray[np.float64]:
        """Share of texts in which a latent fires at all, ``[d_sae]``."""
        return self.firing.getnnz(axis=0) / len(self.tokens)

    def mean(self) -> NDArray[np.float64]:
        """Mean of f over all tokens, ``[d_sae]``."""
        return _sum(self.total) / self.tokens.sum()

    def mean_when_firing(self) -> NDArray[np.float64]:
        """Mean of f over the tokens at which it fires, ``[d_sae]``; 0 for a latent that never does."""
        return _sum(self.total) / np.maximum(_sum(self.firing), 1)


@torch.no_grad()
def activity(sae: SAE, context: TaskContext, texts: Sequence[str], context_length: int) -> Activity:
    """Encode the tokens of ``texts`` once, in blocks that fit the budget.

    Raises NotApplicableError for an SAE that does not encode every token by itself, SaebenchError when it gives NaN or
    Inf, and what `TaskContext.examples` raises.
    """
    coder = Coder(sae, context.budget.encoder)
    parts: list[tuple[NDArray[Any], ...]] = []
    tokens = np.zeros(len(texts), np.int64)
    for x, example in context.examples(texts, context_length).tokens(sae.hook.site_in):
        tokens += np.bincount(example.numpy(), minlength=len(texts))
        entries = _entries(sae, coder, to_device(x, context.lm.device))
        parts.append(_by_text(entries, example.numpy(), sae.d_sae))
    row, column, maximum, total, firing = (np.concatenate(each) for each in zip(*parts, strict=True))
    if not np.isfinite(total).all():
        raise SaebenchError(
            f"{sae.name}: its latents hold NaN or Inf on {len(texts)} texts, so none can be selected; see what it does "
            "to activations of this size at this hook (saebench check-adapter)."
        )
    shape = (len(texts), sae.d_sae)
    maximum, total, firing = (
        csr_matrix((values.astype(np.float32), (row, column)), shape) for values in (maximum, total, firing)
    )
    return Activity(maximum, total, firing, tokens)


@torch.no_grad()
def mean_activations(
    context: TaskContext, texts: Sequence[str], context_length: int, site: str
) -> Float[Tensor, "texts d"]:
    """Mean activation of each text's tokens at ``site``, special tokens left out; float32, on the CPU.

    Raises what `TaskContext.examples` raises.
    """
    examples = context.examples(texts, context_length)
    total = torch.zeros(len(texts), context.lm.d_at(site), dtype=torch.float64)
    tokens = torch.zeros(len(texts), 1, dtype=torch.float64)
    for x, example in examples.tokens(site):
        total.index_add_(0, example, x.double())
        tokens[:, 0] += torch.bincount(example, minlength=len(texts))
    return (total / tokens).float()


def _entries(sae: SAE, coder: Coder, x: Tensor) -> Iterator[Entries]:
    """(token, latent, value) of the latents of ``x[tokens, d]`` that are not zero, in blocks."""
    for start in range(0, len(x), coder.tokens_per_block):
        block = x[start : start + coder.tokens_per_block]
        # An SAE that reads whole texts is refused by the coder.
        if Capability.SPARSE_ENCODE in sae.capabilities or Capability.POSITION_WISE not in sae.capabilities:
            codes = coder.codes(block)
            token, slot = codes.values.nonzero(as_tuple=True)
            latent, value = codes.indices[token, slot], codes.values[token, slot]
        else:
            z = sae.encode(block.clone()).detach()
            token, latent = z.nonzero(as_tuple=True)
            value = z[token, latent]
        yield (token + start).cpu().numpy(), latent.cpu().numpy(), value.double().cpu().numpy()


def _by_text(blocks: Iterator[Entries], example: NDArray[np.int64], d_sae: int) -> tuple[NDArray[Any], ...]:
    """Text, latent, max |f|, sum of f and number of tokens, of every pair that occurs; texts come whole."""
    token, latent, value = (np.concatenate(part) for part in zip(*blocks, strict=True))
    key = example[token] * d_sae + latent
    order = np.argsort(key, kind="stable")
    pair, starts, firing = np.unique(key[order], return_index=True, return_counts=True)
    if not len(pair):
        return pair, pair, value, value, firing
    value = value[order]
    return pair // d_sae, pair % d_sae, np.maximum.reduceat(abs(value), starts), np.add.reduceat(value, starts), firing


def _sum(table: csr_matrix) -> NDArray[np.float64]:
    return np.asarray(table.sum(axis=0, dtype=np.float64))[0]
