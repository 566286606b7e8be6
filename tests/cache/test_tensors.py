from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saebench.cache.tensors import TensorCache
from tests.cache.conftest import BIG, KEY, content, fill, held, same, shard_files

DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Any bits at all, so NaN, infinities and subnormals too; sometimes not contiguous."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    n_bytes = torch.Size(shape).numel() * dtype.itemsize
    bits = torch.frombuffer(bytearray(draw(st.binary(min_size=n_bytes, max_size=n_bytes)) + b"0"), dtype=torch.uint8)
    tensor = bits[:n_bytes] % 2 == 1 if dtype is torch.bool else bits[:n_bytes].clone().view(dtype)
    tensor = tensor.reshape(shape)
    return tensor.transpose(0, -1) if len(shape) > 1 and draw(st.booleans()) else tensor


@settings(max_examples=150)
@given(st.dictionaries(st.text(max_size=5), tensors(), max_size=4), st.sampled_from([(BIG, 0), (0, BIG), (BIG, BIG)]))
def test_what_was_written_is_read_bit_for_bit(written, budgets):
    memory, disk = budgets
    with tempfile.TemporaryDirectory() as folder:
        series = TensorCache(Path(folder), memory=memory, disk=disk).series(KEY, rows=3, rows_per_shard=2)
        first, second = series.shards
        assert series.read(first) is None
        series.write(first, written)
        assert same(series.read(first), written)
        assert all(tensor.is_contiguous() and not tensor.is_cuda for tensor in series.read(first).values())
        assert series.read(second) is None


@pytest.mark.parametrize(("memory", "disk"), [(BIG, 0), (0, BIG), (BIG, BIG)])
def test_views_of_one_storage_and_gradients(folder, memory, disk):
    base = torch.arange(1000.0, requires_grad=True)
    written = {"whole": base, "again": base, "left": base[:5], "right": base[5:], "flipped": base.view(10, 100).T}
    series = TensorCache(folder, memory=memory, disk=disk).series(KEY, 1, 1)
    series.write(series.shards[0], written)
    read = series.read(series.shards[0])
    assert same(read, {name: tensor.detach() for name, tensor in written.items()})
    assert not any(tensor.requires_grad for tensor in read.values())


@pytest.mark.parametrize(("memory", "disk"), [(BIG, 0), (0, BIG), (BIG, BIG)])
def test_a_writer_may_fill_its_buffer_anew(folder, memory, disk):
    buffer = content(1)
    series = TensorCache(folder, memory=memory, disk=disk).series(KEY, 1, 1)
    series.write(series.shards[0], buffer)
    for tensor in buffer.values():
        tensor.zero_()
    assert held(series, seed=1) == [True]


def test_a_lone_view_does_not_keep_its_storage(folder):
    cache = TensorCache(None, memory=BIG, disk=0)
    series = cache.series(KEY, 1, 1)
    series.write(series.shards[0], {"x": torch.zeros(1_000_000)[:10]})
    assert series.read(series.shards[0])["x"].untyped_storage().nbytes() == cache.resident_bytes == 40


# Keys


KEYS = [
    {},
    {"a": 1},
    {"a": 1.0},
    {"a": "1"},
    {"a": 2},
    {"b": 1},
    {"a": "1,b:2"},
    {"a": 1, "b": 2},
    {"a": 1, "b": 3},
    {"a": "\N{GRINNING FACE}"},
    {"a": "\\ud83d\\ude00"},
    {"a": 10**16},
    {"a": 1e16},
    {"a": 0.0},
    {"a": -0.0},
    {"rows": 4},
]


def test_keys_that_differ_in_anything_never_meet(make):
    cache = make()
    kinds = [(key, rows, per_shard) for key in KEYS for rows, per_shard in [(4, 4), (5, 4), (4, 5)]]
    for i, kind in enumerate(kinds):
        series = cache.series(*kind)
        assert series.read(series.shards[0]) is None, kind
        series.write(series.shards[0], content(i))
    for i, kind in enumerate(kinds):
        series = cache.series(*kind)
        assert same(series.read(series.shards[0]), content(i)), kind


def test_the_order_of_a_key_is_no_difference(make):
    fill(make().series(KEY, 4, 2))
    assert held(make().series(dict(reversed(KEY.items())), 4, 2)) == [True, True]


@pytest.mark.parametrize("value", [None, True, [1], {"a": 1}, b"x", torch.tensor(1), (1,)])
def test_a_key_of_another_type(value):
    with pytest.raises(TypeError, match="cache key"):
        TensorCache(None, memory=0, disk=0).series({"a": value}, 1, 1)


def test_a_name_of_another_type():
    with pytest.raises(TypeError, match="cache key"):
        TensorCache(None, memory=0, disk=0).series({1: "a"}, 1, 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud83d\ude00"])
def test_a_key_that_json_cannot_tell(value):
    with pytest.raises(ValueError, match=r"JSON|surrogates"):
        TensorCache(None, memory=0, disk=0).series({"a": value}, 1, 1)


def test_the_folder_says_what_it_holds(make, folder):
    fill(make().series(KEY, rows=5, rows_per_shard=4))
    (key,) = folder.rglob("key.json")
    assert key.parent.name == hashlib.sha256(key.read_bytes()).hexdigest()
    assert json.loads(key.read_text()) == {"format": 1, "key": KEY, "rows": 5, "rows_per_shard": 4}
    names = [path.name for path in shard_files(folder)]
    assert [name[:18] for name in names] == ["00000000-00000004-", "00000004-00000005-"]
    assert [path.name[18:50] for path in shard_files(folder)] == [
        hashlib.sha256(path.read_bytes()).hexdigest()[:32] for path in shard_files(folder)
    ]


# Shards


@given(st.integers(1, 200), st.integers(1, 250))
def test_shards_cover_the_rows_in_order(rows, per_shard):
    shards = TensorCache(None, memory=0, disk=0).series(KEY, rows, per_shard).shards
    assert [row for shard in shards for row in range(shard.start, shard.stop)] == list(range(rows))
    assert {shard.stop - shard.start for shard in shards[:-1]} <= {per_shard}


def test_shards_may_be_larger_than_everything(make):
    series = make().series(KEY, rows=10**12, rows_per_shard=10**30)
    assert series.shards == [slice(0, 10**12)]
    fill(series)
    assert held(make().series(KEY, 10**12, 10**30)) == [True]


@pytest.mark.parametrize(("rows", "per_shard"), [(0, 1), (-1, 1), (1, 0), (1, -3)])
def test_no_rows(rows, per_shard):
    with pytest.raises(ValueError, match="at least one row each"):
        TensorCache(None, memory=0, disk=0).series(KEY, rows, per_shard)


@pytest.mark.parametrize("rows", [slice(0, 1), slice(2, 6), slice(4, 8), slice(0, 4, 2), slice(None), slice(-4, 0)])
def test_a_range_that_is_no_shard(make, rows):
    series = make().series(KEY, rows=6, rows_per_shard=4)
    for call in (lambda: series.read(rows), lambda: series.write(rows, {})):
        with pytest.raises(ValueError, match="2 shards"):
            call()


# Memory


SIZE = 408  # bytes of `content`


def test_without_room_the_caller_computes(folder):
    cache = TensorCache(folder, memory=SIZE - 1, disk=0)
    series = cache.series(KEY, 4, 2)
    fill(series)
    assert held(series) == [False, False]
    assert (cache.hits, cache.misses, cache.resident_bytes) == (0, 2, 0)
    assert not folder.exists()


def test_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = TensorCache(None, memory=BIG, disk=BIG)
    series = cache.series(KEY, 4, 2)
    fill(series)
    assert held(series) == [True, True]
    assert (cache.hits, cache.misses, cache.resident_bytes) == (2, 0, 2 * SIZE)
    assert list(tmp_path.iterdir()) == []


def test_memory_never_evicts_the_series_that_asks():
    cache = TensorCache(None, memory=2 * SIZE, disk=0)
    series = cache.series(KEY, 4, 1)
    for _ in range(2):
        fill(series)
        assert held(series) == [True, True, False, False]


def test_memory_evicts_the_least_recently_used_of_others():
    cache = TensorCache(None, memory=3 * SIZE, disk=0)
    a, b, c = (cache.series({"name": name}, 2, 1) for name in "abc")
    fill(a)
    b.write(b.shards[0], content(0))
    a.read(a.shards[0])
    c.write(c.shards[0], content(0))  # a's second shard goes: unread since before b's
    assert (held(b), held(a)) == ([True, False], [True, False])
    c.write(c.shards[1], content(1))  # and now b's
    assert (held(a), held(b), held(c)) == ([True, False], [False, False], [True, True])


def test_what_is_too_large_evicts_nothing():
    cache = TensorCache(None, memory=2 * SIZE, disk=0)
    small, large = cache.series({"name": "small"}, 2, 1), cache.series({"name": "large"}, 1, 1)
    fill(small)
    fill(large, n=1000)
    assert (held(small), held(large)) == ([True, True], [False])


def test_memory_holds_only_what_the_disk_does_not(make, folder):
    cache = make(memory=BIG)
    series = cache.series(KEY, 4, 1)
    fill(series)
    assert cache.resident_bytes == 0
    assert held(series) == [True] * 4
    assert held(make().series(KEY, 4, 1)) == [True] * 4
    full = TensorCache(folder, memory=2 * SIZE, disk=1)
    fill(other := full.series({"name": "other"}, 4, 1))
    assert full.resident_bytes == 2 * SIZE
    assert held(other) == [True, True, False, False]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.booleans()), max_size=40), st.integers(0, 6))
def test_memory_stays_within_its_budget(steps, shards):
    cache = TensorCache(None, memory=shards * SIZE + SIZE // 2, disk=0)
    series = [cache.series({"name": i}, 4, 1) for i in range(3)]
    for name, i, write in steps:
        one = series[name]
        if write:
            one.write(one.shards[i], content(i))
        elif (tensors := one.read(one.shards[i])) is not None:
            assert same(tensors, content(i))
        assert cache.resident_bytes == SIZE * sum(sum(held(each)) for each in series) <= shards * SIZE


def test_a_read_dictionary_is_the_callers():
    series = TensorCache(None, memory=BIG, disk=0).series(KEY, 1, 1)
    fill(series)
    series.read(series.shards[0]).clear()
    assert held(series) == [True]
