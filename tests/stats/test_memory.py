"""What statistics hold in memory beside their inputs: pieces, never copies of all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from saebench.stats.geometry import max_cosine_to_others, row_cosines
from saebench.stats.reconstruction import Centre, ReconstructionSums
from saebench.stats.sparsity import FiringCounts

MB = 10**6


class Largest(TorchDispatchMode):
    """Keeps the bytes of the largest tensor that an operation returned and that is not a view of another."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        inputs = {part.untyped_storage().data_ptr() for part in args if isinstance(part, torch.Tensor)}
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in inputs:
                self.bytes = max(self.bytes, tensor.numel() * tensor.element_size())
        return out


def largest(work: Callable[[], object]) -> int:
    """Return the bytes of the largest tensor that is made while ``work`` runs."""
    with Largest() as seen:
        work()
    return seen.bytes


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_reconstruction_metrics_of_a_wide_batch():
    x, xhat = numbers(2048, 4096), numbers(2048, 4096)  # their float64 copies would take 67 MB each
    sums = ReconstructionSums(2048, Centre.of(x))
    assert largest(lambda: sums.add(x, xhat, torch.arange(2048))) <= 3 * MB
    assert largest(lambda: Centre.of(x)) <= 3 * MB


def test_firing_counts_of_many_latents():
    codes = numbers(256, 2**16).relu_()  # 67 MB
    counts = FiringCounts(2, codes.shape[1])
    assert largest(lambda: counts.add(codes, torch.zeros(256, dtype=torch.long))) <= 9 * MB


@pytest.mark.parametrize("of", [max_cosine_to_others, lambda rows, block: row_cosines(rows, rows, block)])
def test_cosines_of_many_directions(of: Callable[..., object]):
    directions = numbers(8192, 1024)  # 34 MB
    assert largest(lambda: of(directions, block=512)) <= 3 * MB


def test_pieces_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch):
    x = numbers(100, 16) * 5 + 100
    xhat, codes, sequence = x + numbers(100, 16), numbers(100, 24).relu_(), torch.arange(100) // 10

    def measured() -> list[torch.Tensor]:
        sums, counts = ReconstructionSums(10, Centre.of(x)), FiringCounts(10, 24)
        sums.add(x, xhat, sequence)
        counts.add(codes, sequence)
        ratios = [*sums.ratios().values(), *counts.ratios().values()]
        return [torch.as_tensor(part) for ratio in ratios for part in ratio] + [
            torch.as_tensor(counts.densities()),
            max_cosine_to_others(x),
            row_cosines(x, xhat),
        ]

    whole = measured()
    for module in ("reconstruction", "sparsity"):
        monkeypatch.setattr(f"saebench.stats.{module}._CHUNK", 7 * 24)
    monkeypatch.setattr("saebench.stats.geometry.max_cosine_to_others.__defaults__", (7,))
    monkeypatch.setattr("saebench.stats.geometry.row_cosines.__defaults__", (7,))
    centre = Centre.of(x)  # its own pieces are summed in another order
    monkeypatch.setattr(Centre, "of", lambda _: centre)
    for part, expected in zip(measured(), whole, strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-12 if part.dtype == torch.float64 else 1e-6, atol=0)
