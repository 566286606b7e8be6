"""Files of arrays with anything wrong: the arrays come back as they were, or the record is named as damaged."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from saebench.results.array_file import DamagedRecordError, read_arrays, write_arrays
from saebench.results.packing import pack
from saebench.results.record import Arrays, Record
from saebench.results.store import ResultStore
from tests.results.conftest import make_number, make_record

NUM, DEN = np.linspace(0.0, 1.0, 5), np.full(5, 2.0)
ARRAYS: Arrays = {
    "fvu.num": NUM,
    "fvu.den": DEN,
    "density": np.linspace(0, 1, 7, dtype=np.float32),
    # Its entry in the directory has 64 bytes, so that one bit of the entry before it can swallow it.
    "a-name-of-14-b": np.arange(3),
    "words": np.array(["ä", "b"]),
}


def scored() -> Record:
    return make_record(measurements=[make_number("fvu", 0.25, contributions="fvu")])


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


@pytest.fixture
def path(store: ResultStore) -> Path:
    """The arrays of a good record."""
    return store.write(scored(), ARRAYS).with_suffix(".npz")


def assert_equal(found: Arrays, expected: Arrays = ARRAYS) -> None:
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array, strict=True)


def assert_damaged(store: ResultStore, path: Path, reason: str = "") -> None:
    with pytest.raises(DamagedRecordError) as caught:
        store.arrays(scored())
    message = str(caught.value)
    assert str(path) in message
    assert "is damaged" in message
    assert "--overwrite always" in message
    assert reason in message
    assert "\n" not in message


def flips(content: bytes, sample: int) -> list[int]:
    """Bits of the first header and of the directory, and a sample of all the others."""
    directory = content.rindex(b"PK\x01\x02", 0, content.index(b"PK\x01\x02") + 4)
    special = [*range(8 * 64), *range(8 * directory, 8 * len(content))]
    return sorted({*special, *random.Random(0).sample(range(8 * len(content)), sample)})


@pytest.mark.parametrize("packed", [True, False])
def test_any_bit_flipped(store: ResultStore, path: Path, packed: bool):
    if not packed:  # records of older versions
        with path.open("wb") as file:
            write_arrays(file, ARRAYS)
    whole = path.read_bytes()
    damaged = 0
    chosen = flips(whole, 600)
    for bit in chosen:
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            found = store.arrays(scored())
        except DamagedRecordError:
            damaged += 1
        else:
            assert_equal(found)
    assert len(chosen) > 1000
    assert damaged > len(chosen) / 2


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_any_bit_flipped_in_what_other_programs_wrote(store: ResultStore, path: Path, compression: int):
    (np.savez if compression == zipfile.ZIP_STORED else np.savez_compressed)(path, **ARRAYS)
    whole = path.read_bytes()
    for bit in flips(whole, 300):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            assert_equal(store.arrays(scored()))
        except DamagedRecordError:
            continue


def test_cut_off_anywhere(store: ResultStore, path: Path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert_damaged(store, path)


def test_a_directory_under_the_name(store: ResultStore, path: Path):
    path.unlink()
    path.mkdir()
    assert_damaged(store, path, "it is a folder, not a regular file")


def test_a_missing_file(store: ResultStore, path: Path):
    path.unlink()
    assert_damaged(store, path, "missing")


def test_a_bare_array_under_the_name(store: ResultStore, path: Path):
    with path.open("wb") as file:
        np.save(file, NUM)
    assert_damaged(store, path)


def member(header: str, data: bytes = b"") -> bytes:
    """A .npy file with any header."""
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def header(shape: str, dtype: str = "'<f8'") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}"


def good_member(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def fill(path: Path, compression: int = zipfile.ZIP_LZMA, **members: bytes) -> None:
    both = {"fvu.num.npy": good_member(NUM), "fvu.den.npy": good_member(DEN)} | members
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in both.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(member(header(f"({10**15},)"), NUM.tobytes()), id="huge shape"),
        pytest.param(member(header(f"({10**30}, {10**30})"), NUM.tobytes()), id="shape beyond 64 bits"),
        pytest.param(member(header(f"({2**62}, 4)"), b""), id="shape that overflows to nothing"),
        pytest.param(member(header("(-1, -5)"), NUM.tobytes()), id="negative shape"),
        pytest.param(member(header("(4,)"), NUM.tobytes()), id="shape that leaves a rest"),
        pytest.param(member(header(f"({10**12},)", "'<U0'")), id="numbers without size"),
        pytest.param(member(header("(1,)", "'|O'"), b"cos\nsystem\n"), id="objects"),
        pytest.param(member(header("(1,)", "[('a', '<f8')]"), b"\0" * 8), id="structured"),
        pytest.param(member(header("(1,)", "('<f8', (2,))"), b"\0" * 16), id="arrays in an array"),
        pytest.param(member(header("(5,)", "'nonsense'"), NUM.tobytes()), id="unknown dtype"),
        pytest.param(member("{'descr': '<f8', 'fortran_order': False, 'shape': (5,"), id="half a header"),
        pytest.param(member('"""\'('), id="header without an end"),
        pytest.param(member("(" * 9000), id="nested header"),
        pytest.param(member(header("(5,)") + " " * 20_000, NUM.tobytes()), id="long header"),
        pytest.param(b"\x93NUMPY\x09\x00", id="unknown version"),
        pytest.param(b"", id="empty member"),
        pytest.param(b"nonsense", id="no array"),
    ],
)
@pytest.mark.parametrize("name", ["fvu.num.npy", "other.npy", "packed.names.npy"])
def test_a_member_that_is_no_array(store: ResultStore, path: Path, name: str, content: bytes):
    fill(path, **{name: content})
    assert_damaged(store, path)


@pytest.mark.parametrize(
    ("num", "den"),
    [
        (np.array(1.0), np.array(1.0)),
        (NUM[None], DEN[None]),
        (NUM, DEN[:4]),
        (NUM, np.array(1.0)),
        (NUM, np.array(list("abcde"))),
        (NUM + 1j, DEN),
    ],
)
def test_contributions_that_are_no_lists_of_numbers(store: ResultStore, path: Path, num: np.ndarray, den: np.ndarray):
    fill(path, **{"fvu.num.npy": good_member(num), "fvu.den.npy": good_member(den)})
    assert_damaged(store, path, "'fvu'")


def test_contributions_that_are_not_there(store: ResultStore, path: Path):
    np.savez(path, density=NUM)
    assert_damaged(store, path, "'fvu'")


@pytest.mark.parametrize(
    "change",
    [
        lambda stack: np.array(1.0),
        lambda stack: stack[:1],
        lambda stack: np.concatenate([stack, stack]),
    ],
)
def test_a_stack_that_does_not_fit_its_names(
    store: ResultStore, path: Path, change: Callable[[np.ndarray], np.ndarray]
):
    packed = pack({"fvu.num": NUM, "fvu.den": DEN})
    np.savez(path, **(packed | {"packed.0": change(packed["packed.0"])}))
    assert_damaged(store, path, "do not fit their names")


@pytest.mark.parametrize("names", [np.array(0.0), np.array(["a"]), np.frombuffer(b"[" * 100_000, np.uint8)])
def test_names_that_are_no_table(store: ResultStore, path: Path, names: np.ndarray):
    np.savez(path, **(pack({"fvu.num": NUM, "fvu.den": DEN}) | {"packed.names": names}))
    assert_damaged(store, path)


def test_an_encrypted_member(store: ResultStore, path: Path):
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert_damaged(store, path, "encrypted")


def test_something_that_is_no_array_inside(store: ResultStore, path: Path):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("run.py", "print()")
    assert_damaged(store, path, "not an array")


def test_two_members_of_one_name(store: ResultStore, path: Path):
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(archive.namelist()[0], good_member(NUM))
    assert_damaged(store, path, "twice")


def test_more_than_may_be_unpacked(path: Path):
    with pytest.raises(DamagedRecordError, match="unpacks to more than 500 bytes"):
        read_arrays(path, most_unpacked=500)


def test_what_numpy_writes_is_read(path: Path):
    for save in (np.savez, np.savez_compressed):
        save(path, **ARRAYS)
        assert_equal(read_arrays(path))
    other = {"scalar": np.array(3), "none": np.zeros((0, 3)), "f": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    np.savez(path, **other)
    assert_equal(read_arrays(path), other)


def test_what_numpy_reads_is_written(path: Path):
    with np.load(path, allow_pickle=False) as file:
        assert "packed.names" in file.files


@pytest.mark.parametrize("array", [np.zeros(2, [("a", "<f8")]), np.array([object()])])
def test_what_could_not_be_read_again_is_not_written(store: ResultStore, array: np.ndarray):
    with pytest.raises(Exception, match="'x'"):
        store.write(make_record(), {"x": array})
    assert not store.root.exists()
