"""dictionary_learning: every class of its trainers."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import Tensor

from benchmarks.parity.wheels import Library

LIBRARY = Library("dictionary-learning", "0.1.0", ("dictionary_learning", "dictionary_learning.trainers"))
_MODULES = {
    "AutoEncoderTopK": "trainers.top_k",
    "BatchTopKSAE": "trainers.batch_top_k",
    "MatryoshkaBatchTopKSAE": "trainers.matryoshka_batch_top_k",
}


def knows(name: str) -> bool:
    """Return whether the library reads the files of a case."""
    return name.startswith("dictionary_learning_")


def forward(name: str, case: Any) -> tuple[Tensor, Tensor]:
    """Return the latents and the reconstruction."""
    kind = name.removeprefix("dictionary_learning_")
    module = import_module(f"dictionary_learning.{_MODULES.get(kind, 'dictionary')}")
    # By default the library divides the decoder of an AutoEncoder by its norms and multiplies the latents by them.
    options = {"normalize_decoder": False} if kind == "AutoEncoder" else {}
    sae = getattr(module, kind).from_pretrained(str(case.path / "ae.pt"), **options)
    z = sae.encode(case.x)
    return z, sae.decode(z)
