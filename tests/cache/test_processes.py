"""Processes that write, read and evict in one folder at the same time."""

from __future__ import annotations

import multiprocessing
import random
from pathlib import Path

import torch

from saebench.cache.tensors import TensorCache
from tests.cache.conftest import content, same, size

PROCESSES = 3
SERIES, SHARDS, STEPS = 3, 4, 250
LIMIT = 7 * 1000  # twelve shards of 700 bytes and more want in


def work(folder: str, seed: int) -> tuple[int, int, list[str]]:
    """Random reads; what is not there is written. Returns the hits, the misses and the log."""
    torch.set_num_threads(1)
    log: list[str] = []
    cache = TensorCache(Path(folder), memory=0, disk=LIMIT, log=log.append)
    series = [cache.series({"name": i}, SHARDS, 1) for i in range(SERIES)]
    draw = random.Random(seed)
    for _ in range(STEPS):
        name, i = draw.randrange(SERIES), draw.randrange(SHARDS)
        right = content(SHARDS * name + i, 120 + draw.randrange(2))  # bytes may differ between writers
        read = series[name].read(series[name].shards[i])
        if read is None:
            series[name].write(series[name].shards[i], right)
        else:
            assert same(read, content(SHARDS * name + i, len(read["x"])))
    return cache.hits, cache.misses, log


def test_every_process_always_reads_right_bytes(tmp_path):
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        results = pool.starmap(work, [(str(tmp_path), seed) for seed in range(PROCESSES)], chunksize=1)
    for hits, misses, log in results:
        assert log == []
        assert hits > STEPS // 10
        assert misses > 0
    # Each of the others may have written an eighth, and the shard that goes over it, since the last look.
    assert 0 < size(tmp_path) <= LIMIT + (PROCESSES - 1) * (LIMIT // 8 + 1000)
    assert not list(tmp_path.rglob(".tmp-*"))
