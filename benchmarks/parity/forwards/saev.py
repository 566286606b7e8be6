"""saev 0.1.0, the version on the index; the files of later ones have another layout."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import Tensor

from benchmarks.parity.wheels import Library

LIBRARY = Library("saev", "0.1.0")


def knows(name: str) -> bool:
    """Return whether the library reads the files of a case."""
    return name == "saev_0_1"


def forward(name: str, case: Any) -> tuple[Tensor, Tensor]:
    """Return the latents and the reconstruction. The loader of the library scales activations before it."""
    options = dict(option.split("=") for option in case.reference.partition("?")[2].split("&"))
    factor = float(options["norm_scaling_factor"])
    xhat, z, _ = import_module("saev.nn").load(str(case.path))(case.x * factor)
    return z, xhat / factor
