"""A cache in a fresh folder, and a way to see it as a process that has just started would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from saebench.cache import shards
from saebench.cache.tensors import Series, TensorCache

BIG = 10**9
KEY = {"lm": "tiny", "layer": 3, "scale": 0.5}

MakeCache = Callable[..., TensorCache]


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def new_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forget which files were verified."""
    return lambda: monkeypatch.setattr(shards, "_verified", {})


@pytest.fixture
def make(folder: Path, log: list[str], new_process: Callable[[], None]) -> MakeCache:
    """A cache on `folder` that keeps nothing in memory, unless told otherwise, in a new process."""

    def cache(disk: int = BIG, memory: int = 0) -> TensorCache:
        new_process()
        return TensorCache(folder, memory=memory, disk=disk, log=log.append)

    return cache


def content(seed: int, n: int = 100) -> dict[str, torch.Tensor]:
    return {"x": torch.randn(n, generator=torch.Generator().manual_seed(seed)), "seed": torch.tensor(seed)}


def fill(series: Series, seed: int = 0, n: int = 100) -> None:
    for i, shard in enumerate(series.shards):
        series.write(shard, content(seed + i, n))


def held(series: Series, seed: int = 0, n: int = 100) -> list[bool]:
    """Which shards of a series that `fill` wrote can be read; those that can are right."""
    found = []
    for i, shard in enumerate(series.shards):
        tensors = series.read(shard)
        found.append(tensors is not None)
        if tensors is not None:
            assert same(tensors, content(seed + i, n))
    return found


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Names, dtypes, shapes and every bit, NaN included."""
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and a[name].shape == b[name].shape and raw(a[name]) == raw(b[name]) for name in a
    )


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def shard_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def size(folder: Path) -> int:
    """Bytes of all files, whatever they are."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
