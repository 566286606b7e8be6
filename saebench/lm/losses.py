"""Cross-entropy and KL divergence from final hidden states, without ever holding ``[tokens, vocabulary]`` logits.

With a linear head (``logits = h W^T + b``), the KL divergence from the clean to the spliced distribution is

    KL = sum_v p(v) [l(v) - l'(v)] - LSE(l) + LSE(l')  =  (h - h') . m  - LSE(l) + LSE(l'),   m = sum_v p(v) W_v

so the clean pass keeps the LSE and ``m`` (d_model numbers) of each token, and every spliced pass costs a single product
with the vocabulary. The difference h - h' is taken before the product, so that rounding the logits to bfloat16 does not
bias the KL divergence. For soft-capped heads the sum over the vocabulary is computed directly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.lm.fused import Fused
from saebench.lm.head import Head, accumulation_dtype, product

# A tile of logits of these sizes stays in a CPU's last-level cache (4 bytes * 1024 * 2048 = 8 MB).
_TOKENS = 1024
_VOCAB = 2048
_VOCAB_CUDA = 32768


@dataclass
class CleanLosses:
    """What is kept of each prediction of the clean pass."""

    hidden: Float[Tensor, "predictions d_model"]
    ce: Float[Tensor, " predictions"]  # nats
    lse: Float[Tensor, " predictions"]
    mean_unembedding: Float[Tensor, "predictions d_model"] | None  # the m above; None for a soft-capped head

    def __getitem__(self, rows: slice) -> CleanLosses:
        """Return some of the predictions."""
        mean = None if self.mean_unembedding is None else self.mean_unembedding[rows]
        return CleanLosses(self.hidden[rows], self.ce[rows], self.lse[rows], mean)


def clean_losses(
    head: Head, hidden: Float[Tensor, "predictions d_model"], targets: Int[Tensor, " predictions"]
) -> CleanLosses:
    """Return the cross-entropy of the unmodified model, and what later KL divergences need of it."""
    dtype = accumulation_dtype(hidden.dtype)
    lse = hidden.new_empty(len(hidden), dtype=dtype)
    mean = hidden.new_empty(hidden.shape, dtype=dtype) if head.linear else None
    for rows in _token_chunks(len(hidden)):
        lse[rows], chunk_mean = _log_sum_exp(head, hidden[rows], with_mean=head.linear)
        if mean is not None and chunk_mean is not None:
            mean[rows] = chunk_mean
    return CleanLosses(hidden, lse - target_logits(head, hidden, targets), lse, mean)


def spliced_losses(
    head: Head,
    hidden: Float[Tensor, "predictions d_model"],
    targets: Int[Tensor, " predictions"],
    clean: CleanLosses,
) -> tuple[Float[Tensor, " predictions"], Float[Tensor, " predictions"]]:
    """Return the cross-entropy and KL(clean || spliced) of each prediction of a modified pass, in nats.

    Args:
        head: The head of the model.
        hidden: The final hidden states of the modified pass.
        targets: The token to predict from each of them.
        clean: What is kept of the clean pass, for the same predictions.
    """
    dtype = accumulation_dtype(hidden.dtype)
    lse = hidden.new_empty(len(hidden), dtype=dtype)
    kl = hidden.new_empty(len(hidden), dtype=dtype)
    for rows in _token_chunks(len(hidden)):
        lse[rows], _ = _log_sum_exp(head, hidden[rows], with_mean=False)
        reference = clean[rows]
        if reference.mean_unembedding is None:
            kl[rows] = _direct_kl(head, hidden[rows], lse[rows], reference)
        else:
            moved = (reference.hidden.to(dtype) - hidden[rows].to(dtype)) * head.scale
            kl[rows] = (moved * reference.mean_unembedding).sum(-1) - reference.lse + lse[rows]
    return lse - target_logits(head, hidden, targets), kl


def cross_entropies(
    head: Head, hidden: Float[Tensor, "predictions d_model"], targets: Int[Tensor, " predictions"]
) -> Float[Tensor, " predictions"]:
    """Return the cross-entropy of each prediction, in nats, more cheaply than `clean_losses`, which prepares for KL."""
    lse = hidden.new_empty(len(hidden), dtype=accumulation_dtype(hidden.dtype))
    for rows in _token_chunks(len(hidden)):
        lse[rows], _ = _log_sum_exp(head, hidden[rows], with_mean=False)
    return lse - target_logits(head, hidden, targets)


def target_logits(
    head: Head, hidden: Float[Tensor, "predictions d_model"], targets: Int[Tensor, " predictions"]
) -> Tensor:
    """Return the logit of each prediction's target, computed as a row-wise product."""
    dtype = accumulation_dtype(hidden.dtype)
    out = (hidden.to(dtype) * head.weight[targets].to(dtype)).sum(-1)
    if head.bias is not None:
        out = out + head.bias[targets].to(dtype)
    out = out * head.scale
    return out if head.softcap is None else head.softcap * torch.tanh(out / head.softcap)


def _log_sum_exp(head: Head, hidden: Tensor, *, with_mean: bool) -> tuple[Tensor, Tensor | None]:
    """Return the log-sum-exp over tiles of the vocabulary, and the softmax-weighted mean of the unembedding's rows."""
    dtype = accumulation_dtype(hidden.dtype)
    top = hidden.new_full((len(hidden),), -torch.inf, dtype=dtype)
    total = hidden.new_zeros(len(hidden), dtype=dtype)
    mean = hidden.new_zeros(hidden.shape, dtype=dtype) if with_mean else None
    step = _VOCAB_CUDA if hidden.is_cuda else _VOCAB
    for start in range(0, head.vocab_size, step):
        tile = slice(start, start + step)
        raw = product(hidden, head.weight[tile])
        excess = _rounding_excess(raw, head.scale) if raw.dtype == torch.bfloat16 and head.linear else None
        logits = head.from_product(raw, tile)
        if mean is None and excess is None and _fold.pays(logits):
            top, total = _fold(logits, top, total)
            continue
        new_top = torch.maximum(top, logits.amax(-1))
        rescale = torch.exp(top - new_top)
        weights = logits.sub_(new_top[:, None]).exp_()
        if excess is not None:
            weights.addcmul_(weights, excess, value=-1)
        total.mul_(rescale).add_(weights.sum(-1))
        if mean is not None:
            mean.mul_(rescale[:, None]).add_(weights.to(head.weight.dtype) @ head.weight[tile])
        top = new_top
    return top + total.log(), None if mean is None else mean / total[:, None]


def _fold_tile(logits: Tensor, top: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Return the running maximum and sum of exponentials after one more tile of logits."""
    new_top = torch.maximum(top, logits.amax(-1))
    return new_top, total * torch.exp(top - new_top) + torch.exp(logits - new_top[:, None]).sum(-1)


_fold = Fused(_fold_tile)


def _rounding_excess(raw: Tensor, scale: float) -> Tensor:
    """Return the share by which rounding logits to bfloat16 raises their exponentials on average.

    The rounding error of a logit between 2^e and 2^(e+1) is uniform over a spacing u = 2^(e-7), and
    E[exp(error)] = 1 + u^2 / 24 + O(u^4). If it is not removed, it adds 1e-3 nats to the cross-entropy of Gemma-3-270m.
    """
    power = (raw.view(torch.int16) & 0x7F80).view(torch.bfloat16)  # 2^e, because the mantissa is cut off
    return (power * power).float().mul_(scale * scale * 2.0**-14 / 24)


def _direct_kl(head: Head, hidden: Tensor, lse: Tensor, clean: CleanLosses) -> Tensor:
    """Return the KL divergence as a sum over the vocabulary, tile by tile, which needs the clean logits again."""
    out = torch.zeros_like(lse)
    step = _VOCAB_CUDA if hidden.is_cuda else _VOCAB
    for start in range(0, head.vocab_size, step):
        tile = slice(start, start + step)
        log_p = head.logits(clean.hidden, tile) - clean.lse[:, None]
        log_q = head.logits(hidden, tile) - lse[:, None]
        out += (log_p.exp() * (log_p - log_q)).sum(-1)
    return out


def _token_chunks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + _TOKENS, n)) for start in range(0, n, _TOKENS))
