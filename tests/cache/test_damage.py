"""A shard file is what its name says, or it is deleted, said once, and computed again."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

from saebench.cache import shards
from saebench.cache.tensors import clear, usage
from tests.cache.conftest import KEY, content, fill, held, same, shard_files, size


@pytest.fixture
def shard(make, folder) -> Path:
    """The only shard of a series of one row."""
    fill(make().series(KEY, 1, 1), n=8)
    (path,) = shard_files(folder)
    return path


def assert_found_damaged(make, log, path):
    series = make().series(KEY, 1, 1)
    assert series.read(series.shards[0]) is None
    assert not path.exists()
    (line,) = log
    assert str(path) in line
    assert "damaged" in line
    assert series.read(series.shards[0]) is None
    assert len(log) == 1
    fill(series, n=8)
    assert held(series, n=8) == [True]
    assert held(make().series(KEY, 1, 1), n=8) == [True]


def test_any_flipped_byte_is_found(make, log, shard):
    sound = shard.read_bytes()
    series = make().series(KEY, 1, 1)
    for position in range(len(sound)):
        log.clear()
        shard.write_bytes(sound[:position] + bytes([sound[position] ^ 1]) + sound[position + 1 :])
        os.utime(shard, ns=(0, position))  # the same process must see the change, however coarse the clock
        assert series.read(series.shards[0]) is None, position
        assert not shard.exists()
        assert len(log) == 1


@pytest.mark.parametrize("position", [0, 9, 60, -33, -1], ids=["length", "brace", "header", "data", "end"])
def test_a_flipped_byte_is_computed_again(make, log, shard, position):
    data = bytearray(shard.read_bytes())
    data[position] ^= 0x80
    shard.write_bytes(data)
    assert_found_damaged(make, log, shard)


@pytest.mark.parametrize("change", [lambda d: b"", lambda d: d[:5], lambda d: d[:-1], lambda d: d + b"\0"])
def test_another_length(make, log, shard, change):
    shard.write_bytes(change(shard.read_bytes()))
    assert_found_damaged(make, log, shard)


@pytest.mark.parametrize("data", [b"", b"not safetensors at all", b"\xff" * 64])
def test_a_right_checksum_of_nonsense(make, log, shard, data):
    shard.unlink()
    name = shard.name[:18] + hashlib.sha256(data).hexdigest()[:32] + ".safetensors"
    shard.with_name(name).write_bytes(data)
    assert_found_damaged(make, log, shard.with_name(name))


def test_another_checksum_in_the_name(make, log, shard):
    digit = "0" if shard.name[30] != "0" else "1"
    renamed = shard.rename(shard.with_name(shard.name[:30] + digit + shard.name[31:]))
    assert_found_damaged(make, log, renamed)


def test_a_sound_shard_under_the_name_of_other_rows(make, log, folder):
    series = make().series(KEY, 2, 1)
    fill(series)
    first, second = shard_files(folder)
    second.unlink()
    first.rename(first.with_name("00000001-00000002-" + first.name[18:]))
    assert held(make().series(KEY, 2, 1)) == [False, False]
    assert len(log) == 1
    assert "another shard" in log[0]


def test_a_sound_shard_of_another_series(make, log, folder):
    fill(make().series({"name": "a"}, 1, 1), seed=1)
    (a,) = shard_files(folder)
    fill(make().series({"name": "b"}, 1, 1), seed=2)
    (b,) = set(shard_files(folder)) - {a}
    b.unlink()
    shutil.copy(a, b.parent)
    assert held(make().series({"name": "b"}, 1, 1)) == [False]
    assert held(make().series({"name": "a"}, 1, 1), seed=1) == [True]
    assert len(log) == 1


def test_the_second_file_of_a_shard_stands_in_for_a_damaged_first(make, log, shard):
    false = shard.with_name(shard.name[:18] + "0" * 32 + ".safetensors")
    false.write_bytes(b"half a shard")
    assert held(make().series(KEY, 1, 1), n=8) == [True]
    assert not false.exists()
    assert len(log) == 1


def test_of_two_valid_files_the_first_by_name_is_read(make, shard, folder, tmp_path):
    """Two processes may compute slightly different bytes, and all must then go on with the same ones."""
    aside = shard.rename(tmp_path / shard.name)
    series = make().series(KEY, 1, 1)
    fill(series, seed=7)
    aside.rename(shard)
    first = shard_files(folder)[0]
    seed, n = (0, 8) if first == shard else (7, 100)
    assert same(make().series(KEY, 1, 1).read(series.shards[0]), content(seed, n))


def test_a_folder_where_the_file_should_be(make, log, shard):
    shard.unlink()
    (shard / "inside").mkdir(parents=True)
    series = make().series(KEY, 1, 1)
    assert [series.read(series.shards[0]) for _ in range(3)] == [None] * 3
    assert len(log) == 1
    assert "cannot be deleted" in log[0]
    fill(series, seed=1)
    assert held(series, seed=1) == [True]


def test_foreign_files_are_left_alone(make, log, shard, folder):
    foreign = [
        folder / "notes.txt",
        folder / "more" / shard.name,
        shard.with_name("notes.txt"),
        shard.with_name("00000000-00000001-short.safetensors"),
        shard.with_name(shard.name + ".bak"),
    ]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"precious")
    assert held(make().series(KEY, 1, 1), n=8) == [True]
    ours = shard.stat().st_size + shard.with_name("key.json").stat().st_size
    assert usage(folder) == (1, ours)
    assert clear(folder) == ours
    assert not shard.exists()
    assert all(path.read_bytes() == b"precious" for path in foreign)
    assert log == []


def test_a_file_that_vanishes_is_no_damage(make, log, shard, monkeypatch):
    series = make().series(KEY, 1, 1)
    real = shards.safe_open

    def evicted_before(path, **options):
        path.unlink()
        return real(path, **options)

    monkeypatch.setattr(shards, "safe_open", evicted_before)
    assert series.read(series.shards[0]) is None
    assert log == []


def test_an_evicted_file_that_torch_misses(make, log, shard, monkeypatch):
    def late(path, **options):
        path.unlink()
        raise RuntimeError("unable to open file")

    monkeypatch.setattr(shards, "safe_open", late)
    assert held(make().series(KEY, 1, 1)) == [False]
    assert log == []


# Sound files


def test_a_checksum_is_computed_once_per_process(make, shard, monkeypatch):
    checked = []
    real = shards._checksum
    monkeypatch.setattr(shards, "_checksum", lambda path: checked.append(path) or real(path))
    series = make().series(KEY, 1, 1)
    assert [held(series, n=8) for _ in range(3)] == [[True]] * 3
    assert len(checked) == 1
    os.utime(shard, ns=(1, 1))
    assert held(series, n=8) == [True]
    assert len(checked) == 2
    assert shard.stat().st_mtime_ns == 1  # touched at the first read alone, lest processes keep each other busy


def test_a_cache_that_may_only_be_read(make, log, shard, monkeypatch):
    def read_only(*args, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(shards.os, "utime", read_only)
    assert held(make().series(KEY, 1, 1), n=8) == [True]
    assert log == []


def test_a_read_tensor_outlives_its_file(make, folder):
    fill(make().series(KEY, 1, 1), n=100_000)
    series = make().series(KEY, 1, 1)
    read = series.read(series.shards[0])
    assert clear(folder) > 400_000
    assert size(folder) == 0
    assert same(read, content(0, 100_000))
    assert series.read(series.shards[0]) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_read_tensor_is_mapped_not_copied(make, folder):
    fill(make().series(KEY, 1, 1), n=100_000)
    read = make().series(KEY, 1, 1)
    tensors = read.read(read.shards[0])
    mapped = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if str(folder) in line:
            mapped.append([int(end, 16) for end in line.split()[0].split("-")])
    for tensor in tensors.values():
        assert any(start <= tensor.data_ptr() < stop for start, stop in mapped)


def test_writing_to_a_read_tensor_does_not_reach_the_file(make, shard):
    series = make().series(KEY, 1, 1)
    series.read(series.shards[0])["x"].add_(1)
    assert held(make().series(KEY, 1, 1), n=8) == [True]


def test_mixed_widths_stay_aligned(make):
    written = {f"{i}": torch.ones(3, dtype=d) for i, d in enumerate([torch.bool, torch.float64, torch.bfloat16])}
    series = make().series(KEY, 1, 1)
    series.write(series.shards[0], written)
    assert same(series.read(series.shards[0]), written)
