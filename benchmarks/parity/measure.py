"""Measures every case of the catalogue against its formula and against the forward pass of its library."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.parity.formats import source_of
from benchmarks.parity.wheels import FOLDER, Library, MissingLibraryError, make_importable
from benchmarks.record import BenchmarkResult
from saebench.cards.registry import registry
from saebench.progress import Progress
from saebench.sae.base import LoadContext
from saebench.sae.protocol import SAE
from saebench.sae.reference import load_sae
from saebench.tasks.factory import create
from tests.sae.catalogue import CASES

RESULTS = Path(__file__).resolve().parent / "results"
_MODULES = (
    "sae_lens",
    "dictionary_learning",
    "sparsify",
    "circuit_tracer",
    "llamascopium",
    "overcomplete",
    "visaebench",
    "saev",
)


@dataclass(frozen=True)
class Source:
    """A library with its forward pass."""

    library: Library
    knows: Callable[[str], bool]
    forward: Callable[[str, Any], tuple[Tensor, Tensor]]


def relative(mine: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest value. Raises ValueError for other shapes."""
    if mine.shape != expected.shape:
        raise ValueError(f"saebench gives the shape {list(mine.shape)}, and the source {list(expected.shape)}")
    return float((mine.double() - expected.double()).abs().max() / expected.double().abs().max())


@torch.no_grad()
def measure(progress: Progress, folder: Path = FOLDER, *, download: bool = True) -> BenchmarkResult:
    """Return the differences of all cases.

    Args:
        progress: Is told what is compared with nothing, and why.
        folder: Where the wheels of libraries lie, or are fetched to.
        download: Whether they may be fetched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources, skipped = _sources(folder, download=download)
    measurements = []
    with tempfile.TemporaryDirectory() as root:
        for number, (name, write) in enumerate(CASES.items()):
            measurement, failures = _measure(name, write(Path(root) / str(number)), sources)
            measurements.append(measurement)
            skipped += failures
    for sentence in skipped:
        progress.log(sentence)
    known = registry().names()
    settings = {
        "several_sites": [name for name in known if create(name).several_sites],
        "skipped": skipped,
    }
    versions = {source.library.package: source.library.version for source in sources}
    return BenchmarkResult.now("parity", settings, measurements, {}, versions=versions)


def _sources(folder: Path, *, download: bool) -> tuple[list[Source], list[str]]:
    sources, skipped = [], []
    for name in _MODULES:
        module = import_module(f"benchmarks.parity.forwards.{name}")
        library = getattr(module, "LIBRARY", None)
        try:
            if library is None:  # SAELens is installed, because saebench needs it
                library = Library("sae-lens", version("sae-lens"))
            else:
                make_importable(library, folder, download=download)
        except MissingLibraryError as error:
            skipped.append(f"{error}.")
            continue
        sources.append(Source(library, module.knows, module.forward))
    return sources, skipped


def _measure(name: str, case: Any, sources: list[Source]) -> tuple[dict[str, Any], list[str]]:
    sae = load_sae(case.reference, LoadContext())
    z = sae.encode(case.x)
    xhat = sae.decode(z, case.x)
    scheme = case.reference.partition(":")[0]
    against, failures = [], []
    if case.expected is not None:
        gaps = {"z": relative(z, case.expected[0]), "xhat": relative(xhat, case.expected[1])}
        against.append({"kind": "formula", "source": source_of(scheme), "version": "", **gaps})
    for source in sources:
        if not source.knows(name):
            continue
        try:
            their_z, their_xhat = source.forward(name, case)
            gaps = {"z": relative(z, their_z), "xhat": relative(xhat, their_xhat)}
        except Exception as error:  # foreign code may raise anything; the other libraries are compared all the same
            failures.append(f"{source.library} did not run on {name}: {type(error).__name__}: {str(error)[:200]}.")
            continue
        library = source.library
        against.append({"kind": "library", "source": library.package, "version": library.version, **gaps})
    return {"case": name, "scheme": scheme, **_facts(sae), "against": against}, failures


def _facts(sae: SAE) -> dict[str, Any]:
    return {
        "architecture": sae.architecture,
        "several_sites": sae.hook.several,
        "capabilities": sorted(map(str, sae.capabilities)),
    }
