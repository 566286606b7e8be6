"""The unembedding, which turns final hidden states into logits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.errors import ModelError

_FEW = 4096  # the vocabulary entries that are computed at a time on a CPU


@dataclass(frozen=True)
class Head:
    """The map ``logits = softcap(scale * (h W^T + b))``."""

    weight: Float[Tensor, "vocab d_model"]  # W
    bias: Float[Tensor, " vocab"] | None = None  # b
    scale: float = 1.0  # of Cohere and Granite
    softcap: float | None = None  # the c of Gemma-2's softcap, c * tanh(logits / c)

    @property
    def linear(self) -> bool:
        """Whether logits are affine in the hidden state, so that KL divergences are cheap; see `saebench.lm.losses`."""
        return self.softcap is None

    @property
    def vocab_size(self) -> int:
        """The number of tokens of the vocabulary."""
        return self.weight.shape[0]

    def logits(
        self, hidden: Float[Tensor, "tokens d_model"], rows: slice = slice(None)
    ) -> Float[Tensor, "tokens rows"]:
        """Return the logits of the vocabulary entries ``rows``, in float32, or in float64 for a float64 model."""
        return self.from_product(product(hidden, self.weight[rows]), rows)

    def best(self, hidden: Float[Tensor, "tokens d_model"]) -> Int[Tensor, " tokens"]:
        """Return the most probable next token after each hidden state. If several are equal, it is the first."""
        value = torch.full((len(hidden),), -torch.inf, device=hidden.device, dtype=accumulation_dtype(hidden.dtype))
        token = torch.zeros(len(hidden), dtype=torch.long, device=hidden.device)
        for rows, logits in self._of_few(hidden):
            most, place = logits.max(1)
            better = most > value
            value, token = torch.where(better, most, value), torch.where(better, place + rows.start, token)
        return token

    def all_logits(self, hidden: Float[Tensor, "tokens d_model"]) -> Float[Tensor, "tokens vocab"]:
        """Return the logits of the whole vocabulary for a few hidden states."""
        dtype = accumulation_dtype(hidden.dtype)
        out = torch.empty(len(hidden), self.vocab_size, dtype=dtype, device=hidden.device)
        for rows, logits in self._of_few(hidden):
            out[:, rows] = logits
        return out

    def _of_few(self, hidden: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield the logits of a few hidden states for some entries of the vocabulary at a time.

        On a CPU it takes half as long to have the weights on the left of the product and to keep the result in the
        CPU's cache.
        """
        if hidden.is_cuda:
            rows = slice(0, self.vocab_size)
            yield rows, self.logits(hidden, rows)
            return
        columns = hidden.T.contiguous()
        for start in range(0, self.vocab_size, _FEW):
            rows = slice(start, min(start + _FEW, self.vocab_size))
            yield rows, self.from_product((self.weight[rows] @ columns).T, rows)

    def from_product(self, out: Float[Tensor, "tokens rows"], rows: slice) -> Float[Tensor, "tokens rows"]:
        """Return the logits for ``out = hidden W^T``, in float32 or float64. ``out`` may be overwritten."""
        out = out.to(accumulation_dtype(out.dtype))
        if self.bias is not None:
            out += self.bias[rows].to(out.dtype)
        if self.scale != 1.0:
            out *= self.scale
        if self.softcap is not None:
            out = torch.tanh_(out.div_(self.softcap)).mul_(self.softcap)
        return out


def product(hidden: Float[Tensor, "tokens d_model"], weight: Float[Tensor, "rows d_model"]) -> Tensor:
    """Return ``hidden W^T`` in the dtype of the tensors, or in float32 for bfloat16 on a GPU, to avoid rounding."""
    if hidden.is_cuda and hidden.dtype == torch.bfloat16 and _HAS_OUT_DTYPE:
        return torch.mm(hidden, weight.T, out_dtype=torch.float32)
    return hidden @ weight.T


_HAS_OUT_DTYPE = hasattr(torch.ops.aten.mm, "dtype")  # since torch 2.8


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of reductions: float64 for a float64 model, and otherwise float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def head_of(model: Any, hidden: Tensor, logits: Tensor) -> Head:
    """Return the head of a Hugging Face causal language model, verified on one forward pass.

    Args:
        model: The model.
        hidden: Final hidden states of the model, ``[tokens, d_model]``.
        logits: The logits that the model gives for them, ``[tokens, vocab]``.

    Raises:
        ModelError: The logits are not finite, or no known form of the head reproduces them.
    """
    if not logits.isfinite().all():
        raise ModelError(
            f"{type(model).__name__} gives logits that are NaN or infinite, because its weights are damaged or "
            f"{str(hidden.dtype).removeprefix('torch.')} is too narrow for it."
        )
    module = model.get_output_embeddings()
    if module is None or not hasattr(module, "weight"):
        raise ModelError(f"{type(model).__name__} has no output embedding; saebench needs a causal language model.")
    config = model.config
    weight, bias = module.weight.detach(), _bias(module)
    candidates = [Head(weight, bias)]
    # The form that the configuration names is tried first, because small logits hardly show a soft cap.
    if divisor := getattr(config, "logits_scaling", None):
        candidates.insert(0, Head(weight, bias, scale=1.0 / divisor))
    if scale := getattr(config, "logit_scale", None):
        candidates.insert(0, Head(weight, bias, scale=float(scale)))
    if softcap := getattr(config, "final_logit_softcapping", None):
        candidates.insert(0, Head(weight, bias, softcap=float(softcap)))
    tolerance = 1e-4 if hidden.dtype in (torch.float32, torch.float64) else 3e-2
    for head in candidates:
        ours = head.logits(hidden)
        if (ours - logits.to(ours.dtype)).norm() <= tolerance * logits.to(ours.dtype).norm():
            return head
    raise ModelError(
        f"The logits of {type(model).__name__} do not follow from its final hidden state and unembedding "
        "(plain, soft-capped or scaled), so saebench cannot score this architecture."
    )


def _bias(module: Any) -> Tensor | None:
    bias = getattr(module, "bias", None)
    return bias.detach() if isinstance(bias, Tensor) else None
