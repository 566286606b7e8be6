"""The checksum of a record's arrays: any other arrays are noticed, and the way of packing does not matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saebench.results import store as store_module
from saebench.results.array_file import DamagedRecordError, write_arrays
from saebench.results.packing import pack
from saebench.results.record import Arrays, Record
from saebench.results.record_arrays import NO_ARRAYS, checksum
from saebench.results.record_file import read_record_file
from saebench.results.store import ResultStore
from tests.results.conftest import make_identity, make_number, make_record

ARRAYS: Arrays = {"fvu.num": np.linspace(0.1, 0.9, 5), "fvu.den": np.ones(5), "words": np.array(["ä", "b"])}


def scored(**changes: object) -> Record:
    return make_record(make_identity(**changes), measurements=[make_number("fvu", 0.5, contributions="fvu")])


def other(**changes: np.ndarray) -> Arrays:
    return {**ARRAYS, **changes}


def test_the_definition_is_pinned():
    """Records hold it, so it cannot change."""
    assert NO_ARRAYS == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert checksum({"a": np.array([1.0, 2.0])}) == "a9d0519f23de07e85b6dbc526eb1e9b76b9c5b10b6f05a42d583aa4241ea8d75"


def test_order_packing_and_memory_layout_do_not_matter():
    turned = dict(reversed(ARRAYS.items()))
    assert checksum(turned) == checksum(ARRAYS)
    square = np.arange(6.0).reshape(2, 3)
    assert checksum({"a": np.asfortranarray(square)}) == checksum({"a": square})
    assert checksum({"a": np.arange(12.0)[::2]}) == checksum({"a": np.arange(0.0, 12.0, 2)})


@pytest.mark.parametrize(
    "changed",
    [
        other(**{"fvu.num": np.nextafter(ARRAYS["fvu.num"], 1)}),
        other(**{"fvu.num": ARRAYS["fvu.num"].astype(np.float32)}),
        other(**{"fvu.num": ARRAYS["fvu.num"].astype(">f8")}),
        other(**{"fvu.num": ARRAYS["fvu.num"][::-1]}),
        other(more=np.zeros(0)),
        {key: array for key, array in ARRAYS.items() if key != "words"},
        other(words=np.array(["ä", "c"])),
        {**ARRAYS, "fvu.num": ARRAYS["fvu.den"], "fvu.den": ARRAYS["fvu.num"]},
        other(words=ARRAYS["words"].reshape(2, 1)),
    ],
)
def test_everything_else_does(changed: Arrays, tmp_path: Path):
    assert checksum(changed) != checksum(ARRAYS)
    store = ResultStore(tmp_path)
    path = store.write(scored(), ARRAYS)
    with path.with_suffix(".npz").open("wb") as file:
        write_arrays(file, pack(changed))
    with pytest.raises(DamagedRecordError, match="not those that the record was written with: the checksums differ"):
        store.arrays(read_record_file(path))


def test_swapped_arrays(tmp_path: Path):
    store = ResultStore(tmp_path)
    paths = [store.write(scored(seed=seed), other(**{"fvu.num": np.full(5, 0.5 + seed)})) for seed in (0, 1)]
    files = [path.with_suffix(".npz") for path in paths]
    contents = [file.read_bytes() for file in files]
    for file, content in zip(files, reversed(contents), strict=True):
        file.write_bytes(content)
    for record in store:
        with pytest.raises(DamagedRecordError, match="checksums differ"):
            store.arrays(record)


def test_arrays_of_an_earlier_record_are_not_those_of_one_without(tmp_path: Path):
    store = ResultStore(tmp_path)
    store.write(scored(), ARRAYS)
    path = store.write(make_record(measurements=[make_number("fvu", 0.5)]))
    record = read_record_file(path)
    assert path.with_suffix(".npz").exists()  # another writer may be about to write the JSON that belongs to it
    assert record.arrays_sha256 == NO_ARRAYS
    assert store.arrays(record) == {}


def test_records_of_older_versions_have_no_checksum(tmp_path: Path):
    store = ResultStore(tmp_path)
    path = store.write(scored(), ARRAYS)
    text = path.read_text()
    old = text.replace(f'  "arrays_sha256": "{checksum(ARRAYS)}",\n', "")
    assert old != text
    path.write_text(old)
    record = read_record_file(path)
    assert record.arrays_sha256 is None
    assert store.arrays(record).keys() == ARRAYS.keys()


def test_missing_arrays_that_no_number_names(tmp_path: Path):
    store = ResultStore(tmp_path)
    path = store.write(make_record(measurements=[make_number("fvu", 0.5)]), {"density": np.ones(3)})
    path.with_suffix(".npz").unlink()
    with pytest.raises(DamagedRecordError, match="the file is missing"):
        store.arrays(read_record_file(path))


def test_two_writers_with_different_last_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Another process replaces the arrays just before the JSON is written: in the end both files belong together."""
    store, real, meddled = ResultStore(tmp_path), store_module.write_atomic, []

    def meddle(path: Path, write: object) -> None:
        if path.suffix == ".json" and not meddled:
            meddled.append(path)
            with path.with_suffix(".npz").open("wb") as file:
                write_arrays(file, pack(other(**{"fvu.num": np.nextafter(ARRAYS["fvu.num"], 1)})))
        real(path, write)

    monkeypatch.setattr(store_module, "write_atomic", meddle)
    path = store.write(scored(), ARRAYS)
    assert meddled
    np.testing.assert_array_equal(store.arrays(read_record_file(path))["fvu.num"], ARRAYS["fvu.num"])
