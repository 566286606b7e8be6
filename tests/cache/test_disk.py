"""The folder stays within its bytes, gives up what was used least recently, and never ends a run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from saebench.atomic import temporary_name
from saebench.cache import shards
from saebench.cache.tensors import TensorCache, clear, usage
from tests.cache.conftest import BIG, KEY, content, fill, held, same, shard_files, size


@pytest.fixture
def one(make, folder) -> int:
    """Bytes that a shard with its key takes: as `room` shards of series "a", "b", "c" do."""
    series = make().series({"name": "a"}, 4, 1)
    series.write(series.shards[0], content(0))
    bytes_ = size(folder)
    assert clear(folder) == bytes_
    assert not list(folder.iterdir())
    return bytes_


def room(shards_: int, one: int) -> int:
    """Enough for so many shards and not for one more: sizes are bounded from above before a write."""
    return shards_ * one + one // 2


def test_a_disk_of_nothing_is_not_touched(make, folder):
    cache = make(disk=0)
    fill(cache.series(KEY, 4, 1))
    assert held(cache.series(KEY, 4, 1)) == [False] * 4
    assert not folder.exists()


def test_a_series_never_evicts_itself(make, folder, one):
    for _ in range(2):
        series = make(disk=room(2, one)).series({"name": "a"}, 4, 1)
        fill(series)
        assert held(series) == [True, True, False, False]
    assert size(folder) <= room(2, one)


def test_others_go_least_recently_used_first(make, one):
    cache = make(disk=room(3, one))
    a, b, c = (cache.series({"name": name}, 2, 1) for name in "abc")
    fill(a)
    b.write(b.shards[0], content(0))
    a.read(a.shards[0])
    c.write(c.shards[0], content(0))  # a's second shard goes: unread since before b's
    assert (held(b), held(a)) == ([True, False], [True, False])
    c.write(c.shards[1], content(1))  # and now b's
    assert (held(a), held(b), held(c)) == ([True, False], [False, False], [True, True])


def test_a_read_in_an_earlier_process_counts(make, folder, one):
    for i, name in enumerate("ab"):
        fill(make().series({"name": name}, 1, 1))
        (new,) = (path for path in shard_files(folder) if path.stat().st_mtime_ns > 10**12)
        os.utime(new, ns=(i, i))
    assert held(make().series({"name": "a"}, 1, 1)) == [True]
    fill(make(disk=room(2, one)).series({"name": "c"}, 1, 1))
    assert held(make().series({"name": "a"}, 1, 1)) == [True]
    assert held(make().series({"name": "b"}, 1, 1)) == [False]


def test_an_evicted_series_leaves_nothing_behind(make, folder, one):
    cache = make(disk=room(1, one))
    fill(cache.series({"name": "a"}, 1, 1))
    fill(cache.series({"name": "b"}, 1, 1))
    assert len(list(folder.iterdir())) == 1
    assert usage(folder) == (1, one)


def test_what_is_too_large_evicts_nothing(make, one):
    cache = make(disk=room(2, one))
    fill(cache.series({"name": "a"}, 2, 1))
    fill(cache.series({"name": "b"}, 1, 1), n=10_000)
    assert held(cache.series({"name": "a"}, 2, 1)) == [True, True]
    assert held(cache.series({"name": "b"}, 1, 1), n=10_000) == [False]


def test_a_smaller_budget_than_last_time(make, folder, one):
    fill(make().series({"name": "a"}, 8, 1))
    fill(make(disk=room(2, one)).series({"name": "b"}, 1, 1))
    assert size(folder) <= room(2, one)
    assert held(make().series({"name": "b"}, 1, 1)) == [True]


def test_what_another_process_wrote_is_seen_in_time(make, folder, one):
    """Each eighth of the budget, and not at each write, the folder is looked at."""
    ours, theirs = make(disk=room(16, one)), make(disk=room(16, one))
    a, b = ours.series({"name": "a"}, 40, 1), theirs.series({"name": "b"}, 16, 1)
    a.write(a.shards[0], content(0))
    fill(b)
    for i, shard in enumerate(a.shards[1:], 1):
        a.write(shard, content(i))
        if i > 4:
            assert size(folder) <= room(16, one)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from(["read", "write"])), max_size=30),
    st.integers(0, 6000),
)
def test_the_folder_stays_within_its_budget(steps, budget):
    with tempfile.TemporaryDirectory() as folder:
        cache = TensorCache(Path(folder), memory=0, disk=budget)
        series = [cache.series({"name": i}, 4, 1) for i in range(3)]
        for name, i, step in steps:
            n = 100 * (name + 1)
            if step == "write":
                series[name].write(series[name].shards[i], content(i, n))
            elif (tensors := series[name].read(series[name].shards[i])) is not None:
                assert same(tensors, content(i, n))
            assert size(Path(folder)) <= budget


def test_keys_count(make, folder):
    budget = 11_000  # one shard with its key takes 5,900
    cache = make(disk=budget)
    for name in "abc":
        fill(cache.series({"name": name * 5000}, 1, 1))
        assert size(folder) <= budget
    assert held(cache.series({"name": "c" * 5000}, 1, 1)) == [True]


def test_a_damaged_file_gives_its_room_back(make, folder, one):
    series = make(disk=room(1, one)).series({"name": "a"}, 1, 1)
    fill(series)
    (shard,) = shard_files(folder)
    shard.write_bytes(b"damaged")
    assert held(series) == [False]
    fill(series)
    assert held(series) == [True]


def test_writing_twice_keeps_one_file(make, folder):
    cache = make()
    fill(cache.series(KEY, 2, 1))
    fill(cache.series(KEY, 2, 1), seed=5)  # other bytes, as another process may compute them
    assert held(cache.series(KEY, 2, 1)) == [True, True]
    assert len(shard_files(folder)) == 2


def test_files_of_killed_writers(make, folder):
    fill(make().series(KEY, 1, 1))
    (shard,) = shard_files(folder)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = shard.with_name(temporary_name().replace(f"-{os.getpid()}-", f"-{ended.pid}-"))
    old, young = shard.with_name(f".tmp-{'a' * 32}"), shard.with_name(f".tmp-{'b' * 32}")  # from another machine
    for path, minutes in [(dead, 0), (old, 65), (young, 55)]:
        path.write_bytes(b"half")
        os.utime(path, (0, time.time() - minutes * 60))
    fill(make().series({"name": "b"}, 1, 1))
    assert not dead.exists()
    assert not old.exists()
    assert young.exists()
    assert clear(folder) > 4
    assert not list(folder.iterdir())


def test_a_key_that_a_killed_writer_left_half(make, folder):
    fill(make().series(KEY, 2, 1))
    (key,) = folder.rglob("key.json")
    whole = key.read_bytes()
    key.write_bytes(whole[:10])
    shard_files(folder)[0].unlink()
    fill(make().series(KEY, 2, 1))
    assert key.read_bytes() == whole


# A disk that refuses


def assert_memory_alone(cache, log, folder):
    """The cache goes on in memory, with one sentence in the log however many writes follow."""
    for name in "ab":
        series = cache.series({"name": name}, 2, 1)
        fill(series)
        assert held(series) == [True, True]
    (line,) = log
    assert str(folder) in line
    assert "cannot be written" in line
    assert not list(folder.rglob(".tmp-*"))


def test_a_file_where_the_folder_should_be(make, log, folder):
    folder.write_text("mine")
    assert_memory_alone(make(memory=BIG), log, folder)
    assert folder.read_text() == "mine"
    assert usage(folder) == (0, 0)
    assert clear(folder) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk(make, log, folder):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))  # larger files fail with EFBIG, half written
    try:
        assert_memory_alone(make(memory=BIG), log, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert shard_files(folder) == []


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("_write", SafetensorError("'x' is of the type torch.complex64, which the cache does not keep")),
        ("_write", OSError(28, "No space left on device")),
        ("os.replace", PermissionError(13, "Permission denied")),
    ],
)
def test_a_disk_that_refuses(make, log, folder, monkeypatch, where, error):
    def refuse(*args, **options):
        raise error

    monkeypatch.setattr(f"saebench.cache.shards.{where}", refuse)
    assert_memory_alone(make(memory=BIG), log, folder)


def test_what_lies_there_is_still_read_when_the_disk_refuses(make, log, monkeypatch):
    fill(make().series({"name": "old"}, 2, 1))
    cache = make()
    monkeypatch.setattr(shards.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    fill(cache.series({"name": "new"}, 2, 1))
    assert held(cache.series({"name": "old"}, 2, 1)) == [True, True]
    assert held(cache.series({"name": "new"}, 2, 1)) == [False, False]
    assert len(log) == 1


def test_a_folder_that_another_process_removes_while_it_is_empty(make, log, folder, monkeypatch):
    real, removed = Path.touch, []

    def touch(path, **options):
        if not removed:
            removed.append(clear(folder))
        return real(path, **options)

    monkeypatch.setattr(Path, "touch", touch)
    fill(make().series(KEY, 2, 1))
    assert held(make().series(KEY, 2, 1)) == [True, True]
    assert removed != [0]
    assert log == []


# Usage


def test_usage_and_clear(make, folder):
    assert usage(folder) == (0, 0)
    assert clear(folder) == 0
    for name in "ab":
        fill(make().series({"name": name}, 3, 1))
    total = size(folder)
    assert usage(folder) == (2, total)
    assert clear(folder) == total
    assert usage(folder) == (0, 0)
    assert size(folder) == 0
