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
    """What each latent does on each text, special tokens left out.

    The tables are sparse matrices ``[texts, d_sae]`` in float32.
    """

    maximum: csr_matrix  # the largest absolute activation over the text's tokens
    total: csr_matrix  # the sum of the activations over the text's tokens
    firing: csr_matrix  # the number of tokens at which the latent is not zero
    tokens: NDArray[np.int64]  # the number of tokens of each text, [texts]

    def token_rate(self) -> NDArray[np.float64]:
        """The share of all tokens at which each latent fires, ``[d_sae]``."""
        return _sum(self.firing) / self.tokens.sum()

    def text_rate(self) -> NDArray[np.float64]:
        """The share of texts in which each latent fires at all, ``[d_sae]``."""
        return self.firing.getnnz(axis=0) / len(self.tokens)

    def mean(self) -> NDArray[np.float64]:
        """The mean activation of each latent over all tokens, ``[d_sae]``."""
        return _sum(self.total) / self.tokens.sum()

    def mean_when_firing(self) -> NDArray[np.float64]:
        """The mean activation of each latent over the tokens at which it fires, ``[d_sae]``.

        It is 0 for a latent that never fires.
        """
        return _sum(self.total) / np.maximum(_sum(self.firing), 1)


@torch.no_grad()
def activity(sae: SAE, context: TaskContext, texts: Sequence[str], context_length: int) -> Activity:
    """Encode the tokens of ``texts`` once, in blocks that fit the memory budget.

    Args:
        sae: A position-wise SAE.
        context: Gives the activations.
        texts: The texts, which are read one by one.
        context_length: Tokens of a text at most, BOS included; longer texts lose their beginning.

    Raises:
        NotApplicableError: The SAE does not encode every token by itself.
        SaebenchError: The SAE gives NaN or Inf.
        UsageError, DataError: The texts cannot be read (`TaskContext.examples`).
    """
    coder = Coder(sae, context.budget.encoder)
    parts: list[tuple[NDArray[Any], ...]] = []
    tokens = np.zeros(len(texts), np.int64)
    for x, example in context.examples(texts, context_length).tokens(sae.hook.site_in):
        tokens += np.bincount(example.numpy(), minlength=len(texts))
        entries = _entries(sae, coder, to_device(x, context.lm.device))
        parts.append(_by_text(entries, example.numpy(), sae.d_sae))
    row, column, maximum, total, firing = (np.concatenate(column) for column in zip(*parts, strict=True))
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
    """The mean activation over each text's tokens at ``site``, special tokens left out; float32, on the CPU.

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
    """Yield the token, the latent and the value of every latent of ``x[tokens, d]`` that fires, in blocks."""
    for start in range(0, len(x), coder.tokens_per_block):
        block = x[start : start + coder.tokens_per_block]
        # The coder refuses an SAE that reads whole texts.
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
    """The text, latent, largest absolute activation, sum and number of tokens of every pair that occurs.

    No text is divided between two calls.
    """
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
