"""Overcomplete: its classes with a linear encoder, and those whose encoder follows the dictionary."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from benchmarks.parity.wheels import Library

LIBRARY = Library(
    "overcomplete",
    "0.3.0",
    ("overcomplete",),
    ("torchvision", "timm", "einops_exts", "overcomplete.visualization"),
)


def knows(name: str) -> bool:
    """Return whether the library reads the files of a case."""
    return name.startswith("overcomplete_")


def forward(name: str, case: Any) -> tuple[Tensor, Tensor]:
    """Return the latents and the reconstruction. A state dict says neither the class nor a threshold of BatchTopK."""
    library = import_module("overcomplete.sae")
    stored = torch.load(case.path, weights_only=True)
    latents, width = stored["dictionary._weights"].shape
    options = dict(option.split("=") for option in case.reference.partition("?")[2].split("&"))
    kind = name.removeprefix("overcomplete_")
    make: Any = {"batchtopk": library.BatchTopKSAE, "jumprelu": library.JumpSAE}.get(kind, library.TopKSAE)
    k = {} if kind == "jumprelu" else {"top_k": int(options.get("k", 1))}
    sae = make(width, latents, dictionary_params={"use_multiplier": True}, **k)
    if kind == "tied":
        sae = sae.tied(bias=False)
    elif kind == "untied":
        sae = sae.untied(bias=False, copy_from_dictionary=False)
    sae.load_state_dict(stored)
    sae = sae.eval()
    if kind == "batchtopk":
        sae.running_threshold = torch.tensor(float(options["threshold"]))
    _, z, xhat = sae(case.x)
    return z, xhat
