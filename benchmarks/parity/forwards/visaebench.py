"""ViSAEBench: its own files, and those of Overcomplete that it reads."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import Tensor

from benchmarks.parity.wheels import Library

LIBRARY = Library("visaebench", "0.1.0", ("visaebench", "visaebench.hub"), ("torchvision", "timm"))


def knows(name: str) -> bool:
    """Return whether the library reads the files of a case."""
    return name.startswith("visaebench_")


def forward(name: str, case: Any) -> tuple[Tensor, Tensor]:
    """Return the latents and the reconstruction."""
    sae = import_module("visaebench.hub.loader").load_sae(str(case.path), device="cpu")
    z = sae.encode(case.x)
    return z, sae.decode(z)
