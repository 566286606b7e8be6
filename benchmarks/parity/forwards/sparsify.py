"""EleutherAI's sparsify: SAEs and transcoders of one layer."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from benchmarks.parity.wheels import Library

# natsort orders the names of several SAEs.
LIBRARY = Library("eai-sparsify", "1.3.3", ("sparsify",), ("natsort",))


def knows(name: str) -> bool:
    """Return whether the library reads the files of a case."""
    return name.startswith("sparsify")


def forward(name: str, case: Any) -> tuple[Tensor, Tensor]:
    """Return the latents, whose places the library keeps beside their values, and the reconstruction."""
    os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # its kernels need a GPU
    sae = import_module("sparsify.sparse_coder").SparseCoder.load_from_disk(case.path)
    values, indices, _ = sae.encode(case.x)
    z = torch.zeros(len(case.x), sae.num_latents).scatter_(-1, indices, values)
    xhat = sae.decode(values, indices)
    return z, xhat if sae.W_skip is None else xhat + case.x @ sae.W_skip.mT  # as in its forward, which needs a GPU
