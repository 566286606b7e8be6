"""Encoding and decoding with one SAE within a budget of memory.

Tokens are processed in blocks, so that ``[tokens, d_sae]`` never exceeds the budget. The codes of sparse SAEs are kept
as (values, indices) and decoded by adding up the decoder rows of the active latents ("gather-sum").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from saebench.budget import out_of_memory
from saebench.errors import NotApplicableError, SaebenchError
from saebench.sae.base import sparse_from_dense
from saebench.sae.protocol import SAE, Capability, SparseCodes
from saebench.sae.wording import one_line

Codes = Tensor | SparseCodes

TOLERANCE = 1e-4  # how far gather-sum may be from the SAE's own decode, relative to the norm of the token
_PROBES = 8  # tokens on which this is tested

# Encoders that select k latents themselves: every token has the same number of slots, known without its values.
_SELECT_K = frozenset({"topk", "abstopk"})
# How many float32 values per latent and token are in memory at the peak of encoding: the pre-activation before and
# after its bias, and the copies that selection makes; JumpReLU and gated encoders also hold masks and products.
_ROW_FLOATS_SELECT_K = 3
_ROW_FLOATS = 5
# Gathering reads a row from memory for one multiply-add per number, whereas the dense product reuses the row for many
# tokens. On a CPU this costs about 5 times as much per latent (measured at 640 and 2,304 dimensions: gather-sum is
# 1.7 to 2.5 times as fast with 1 active latent in 16, and not faster with 1 in 4), and far more on a GPU.
_GATHER_COST = {"cpu": 8}
_GATHER_COST_ELSEWHERE = 64


class Coder:
    """Encodes and decodes with one SAE, in blocks of tokens within a budget of memory.

    The blocks depend only on the SAE's widths and the budget, so equal tokens give equal bits. The SAE always gets
    copies of ``x``. A decoder that declares LINEAR_DECODER is tested on the first tokens with active latents. If it is
    not linear, or its constant depends on ``x``, the SAE's own ``decode`` is used in place of gather-sum.
    """

    def __init__(self, sae: SAE, budget: int) -> None:
        """Prepare an SAE.

        Args:
            sae: The SAE.
            budget: Bytes for the blocks ``[tokens, d_sae]``. A copy of the decoder may take up to half of them.
        """
        self.sae = sae
        self._sparse = {Capability.SPARSE_ENCODE, Capability.POSITION_WISE} <= sae.capabilities
        self._selects_k = self._sparse and sae.architecture in _SELECT_K
        self._directions, held = _directions(sae, budget // 2) if self._sparse else (None, 0)
        self._constant: Tensor | None = None  # decode(0), once the decoder has passed the test
        floats = _ROW_FLOATS_SELECT_K if self._selects_k else _ROW_FLOATS
        self.tokens_per_block = max(1, (budget - held) // (4 * floats * sae.d_sae))

    @torch.no_grad()
    def reconstruct(self, x: Tensor, sink: Callable[[slice, Codes], None]) -> Tensor:
        """Reconstruct activations and pass on their codes.

        Args:
            x: Activations ``[tokens, d_in]``; ``[batch, position, d_in]`` for an SAE that is not position-wise.
            sink: Called as ``sink(rows, codes)`` with each block. The codes are those of ``x[rows]``, sparse or dense,
                and valid only during the call. For an SAE that is not position-wise, ``rows`` are sequences and the
                codes are dense.

        Returns:
            The reconstruction in float32, of the shape of ``x`` with ``d_out`` in place of ``d_in``.

        Raises:
            SaebenchError: The SAE gives tensors of the wrong shape.
        """
        xhat = torch.empty(*x.shape[:-1], self.sae.d_out, device=x.device)
        for rows in self._blocks(x):
            codes = self._encode(x[rows])
            sink(rows, codes)
            xhat[rows] = self._decode(codes, x[rows])
        return xhat

    @torch.no_grad()
    def codes(self, x: Tensor) -> SparseCodes:
        """Return the codes of all tokens of ``x[tokens, d_in]``, with as many slots as the busiest token needs.

        Raises NotApplicableError unless the SAE is position-wise and encodes sparsely.
        """
        if not self._sparse:
            raise NotApplicableError(f"{self.sae.name} ({self.sae.architecture}) has no sparse codes of single tokens.")
        blocks = [self._encode(x[rows]) for rows in self._blocks(x)]
        sparse = [codes if isinstance(codes, SparseCodes) else sparse_from_dense(codes) for codes in blocks]
        slots = max((codes.values.shape[-1] for codes in sparse), default=1)
        if not sparse:
            empty = torch.zeros(0, slots, device=x.device)
            return SparseCodes(empty, empty.long())
        padded = [[functional.pad(part, (0, slots - part.shape[-1])) for part in codes] for codes in sparse]
        values, indices = (torch.cat(parts) for parts in zip(*padded, strict=True))
        return SparseCodes(values, indices)

    def _blocks(self, x: Tensor) -> Iterator[slice]:
        step = max(1, self.tokens_per_block // max(1, x[:1, ..., 0].numel()))
        return (slice(start, min(start + step, len(x))) for start in range(0, len(x), step))

    def _encode(self, x: Tensor) -> Codes:
        copied = x.to(torch.float32, copy=True)
        if self._selects_k:
            values, indices = self._ask("encode_sparse", copied)
            self._check("encode_sparse", values, (len(x), values.shape[-1]))
            self._check("encode_sparse", indices, tuple(values.shape))
            return SparseCodes(values.detach(), indices.detach().long())
        z = self._ask("encode", copied).detach()
        self._check("encode", z, (*x.shape[:-1], self.sae.d_sae))
        # On other devices than the CPU, counting the active latents would make the host wait for the device.
        if not self._sparse or z.device.type != "cpu" or not self._few(int(torch.count_nonzero(z)) / len(z), z):
            return z
        codes = sparse_from_dense(z)
        return codes if self._few(codes.values.shape[-1], z) else z

    def _decode(self, codes: Codes, x: Tensor) -> Tensor:
        if isinstance(codes, SparseCodes):
            if self._few(codes.values.shape[-1], x) and self._is_linear(codes, x):
                return self._gather(codes)
            codes = dense(codes, self.sae.d_sae)
        return self._own_decode(codes, x)

    def _own_decode(self, z: Tensor, x: Tensor) -> Tensor:
        xhat = self._ask("decode", z, x.to(torch.float32, copy=True)).detach()
        self._check("decode", xhat, (*x.shape[:-1], self.sae.d_out))
        return xhat.float()

    def _gather(self, codes: SparseCodes) -> Tensor:
        assert self._directions is not None
        assert self._constant is not None
        total = functional.embedding_bag(
            codes.indices, self._directions, per_sample_weights=codes.values.float(), mode="sum"
        )
        return total.add_(self._constant)

    def _few(self, active: float, like: Tensor) -> bool:
        """Whether gathering this many active latents per token is faster than the dense product."""
        return active * _GATHER_COST.get(like.device.type, _GATHER_COST_ELSEWHERE) <= self.sae.d_sae

    def _is_linear(self, codes: SparseCodes, x: Tensor) -> bool:
        """Whether gather-sum may replace ``sae.decode``; tested once, on the busiest tokens of the first block."""
        if self._directions is None or self._constant is not None:
            return self._directions is not None
        active = (codes.values != 0).sum(-1)
        busiest = active.topk(min(_PROBES, self.tokens_per_block, len(active))).indices
        if not bool(active[busiest[0]] > 0):
            return False  # this block has no active latent, so it shows nothing
        x, codes = x[busiest], SparseCodes(codes.values[busiest], codes.indices[busiest])
        no_latents = torch.zeros(1, self.sae.d_sae, device=x.device)
        # With z = 0 the products are exactly 0, so any difference comes from x.
        tokens = (x[:1], x[-1:], torch.zeros_like(x[:1]), -10 * x[:1])
        constants = [self._own_decode(no_latents.clone(), token) for token in tokens]
        if all(torch.equal(constants[0], other) for other in constants[1:]):
            self._constant = constants[0]
            own = self._own_decode(dense(codes, self.sae.d_sae), x)
            gap = (self._gather(codes) - own).norm(dim=-1)
            if bool((gap <= TOLERANCE * own.norm(dim=-1)).all()):
                return True
        self._directions = self._constant = None
        return False

    def _ask(self, method: str, *arguments: Tensor) -> Any:
        """Return what a method of the SAE gives. Raises SaebenchError, unless memory has run out, when it fails."""
        try:
            return getattr(self.sae, method)(*arguments)
        except SaebenchError:
            raise
        except Exception as error:  # SAEs are other people's code
            if out_of_memory(error):
                raise
            raise SaebenchError(
                f"{self.sae.name}: {method} failed with {one_line(error)}; `saebench check-adapter` tells more."
            ) from error

    def _check(self, method: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(tensor.shape) != shape:
            raise SaebenchError(
                f"{self.sae.name}: {method} gave shape {tuple(tensor.shape)} instead of {shape}; "
                "`saebench check-adapter` tells more."
            )


def dense(codes: SparseCodes, d_sae: int) -> Tensor:
    """Return sparse codes as ``z[tokens, d_sae]``."""
    z = torch.zeros(len(codes.values), d_sae, dtype=codes.values.dtype, device=codes.values.device)
    # Values are added, because an unused slot may name a latent that another slot holds.
    return z.scatter_add_(-1, codes.indices, codes.values)


def rows_of(codes: Codes, rows: slice) -> Codes:
    """Return the codes of some tokens. (``codes[rows]`` would slice the pair of a SparseCodes.)"""
    return SparseCodes(*(part[rows] for part in codes)) if isinstance(codes, SparseCodes) else codes[rows]


def _directions(sae: SAE, limit: int) -> tuple[Tensor | None, int]:
    """Return the decoder rows to gather, and the bytes that they take beside the SAE's weights.

    The rows are None for an SAE without a linear decoder, and for one that computes its rows (because they are permuted
    or rescaled) if these take more than ``limit`` bytes.
    """
    if Capability.LINEAR_DECODER not in sae.capabilities:
        return None, 0
    directions = sae.decoder_directions().detach()
    if tuple(directions.shape) != (sae.d_sae, sae.d_out):
        return None, 0
    rows = directions.to(torch.float32).contiguous()
    weights = sae.state_dict(keep_vars=True).values() if isinstance(sae, nn.Module) else ()
    if rows.untyped_storage().data_ptr() in {weight.untyped_storage().data_ptr() for weight in weights}:
        return rows, 0
    return (rows, rows.nbytes) if rows.nbytes <= limit else (None, 0)
