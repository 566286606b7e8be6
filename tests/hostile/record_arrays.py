"""Hostile records whose JSON is good and whose arrays are not."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.hostile.record_folder import (
    ARRAYS,
    DEN,
    NOBODY,
    NUM,
    UNITS,
    Hostile,
    changed,
    content,
    good_arrays,
    packed,
    put_record,
    with_id,
)

Change = Callable[[bytes], bytes]


def _file(name: str, arrays: bytes, noticed: str = ARRAYS) -> Hostile:
    return Hostile(name, lambda root: put_record(root, with_id(content(root)), arrays), noticed)


def _contributions(name: str, num: np.ndarray, den: np.ndarray = DEN, noticed: str = ARRAYS) -> Hostile:
    return _file(name, packed({"fvu.num": num, "fvu.den": den}), noticed)


def _instead(name: str, make: Callable[[Path], object]) -> Hostile:
    """Something else than a regular file under the name of the arrays."""

    def put(root: Path) -> Path:
        path = put_record(root, with_id(content(root)))
        path.with_suffix(".npz").unlink()
        make(path.with_suffix(".npz"))
        return path

    return Hostile(name, put, ARRAYS)


def _zip(members: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return file.getvalue()


def _header(shape: str, version: bytes = b"\x01\x00", descr: str = "'<f8'") -> bytes:
    """Return a member that claims a shape and holds 20 numbers."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + NUM.tobytes()


def _claims(shape: str, **more: object) -> bytes:
    return _zip({"fvu.num.npy": _header(shape, **more), "fvu.den.npy": _header("(20,)")})  # type: ignore[arg-type]


def _bomb(size: int) -> bytes:
    """Return an archive whose first member unpacks to ``size`` bytes of zeros and whose directory says so."""
    packer, parts, block = zlib.compressobj(9, zlib.DEFLATED, -15), [], bytes(2**24)
    checksum = 0
    for _ in range(size // len(block)):
        parts.append(packer.compress(block))
        checksum = zlib.crc32(block, checksum)
    data, name = b"".join([*parts, packer.flush()]), b"fvu.num.npy"
    facts = struct.pack("<HHHHHIII", 20, 0, 8, 0, 0, checksum, len(data), size)
    local = b"PK\x03\x04" + facts + struct.pack("<HH", len(name), 0) + name + data
    entry = b"PK\x01\x02" + struct.pack("<H", 20) + facts + struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, 0) + name
    return local + entry + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local), 0)


def _lying(size: int) -> bytes:
    """Return a bomb whose directory claims a hundred bytes."""
    true, false = struct.pack("<I", size), struct.pack("<I", 100)
    return _bomb(size).replace(true, false)


def _encrypted() -> bytes:
    whole = bytearray(good_arrays())
    whole[6] |= 1
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    return bytes(whole)


def _flipped() -> bytes:
    whole = bytearray(good_arrays())
    whole[len(whole) // 2] ^= 1
    return bytes(whole)


def _bare() -> bytes:
    file = io.BytesIO()
    np.save(file, NUM)
    return file.getvalue()


def _names(text: str) -> bytes:
    """Return arrays whose table of packed names is ``text``."""
    table = np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
    return packed({"packed.names": table, "packed.0": np.stack([NUM, DEN])})


def _of_another_record(checksum: str, noticed: str = ARRAYS) -> Callable[[Path], Path]:
    """Return what writes a record with a checksum of its arrays."""
    return changed(lambda record: record.update(arrays_sha256=checksum))


def hostile() -> list[Hostile]:
    """Return all of them."""
    whole = good_arrays()
    files = {
        "arrays with one bit flipped": _flipped(),
        "arrays cut off": whole[:-30],
        "half of the arrays": whole[: len(whole) // 2],
        "empty arrays": b"",
        "noise as arrays": bytes(range(256)) * 20,
        "arrays that are JSON": b"{}",
        "a bare array": _bare(),
        "an encrypted member": _encrypted(),
        "a pickled list": _zip({"fvu.num.npy": b"\x80\x04]\x94."}),
        "a program among the arrays": _zip({"fvu.num.npy": _header("(20,)"), "run.py": b"open('EXECUTED', 'w')"}),
        "a path out of the archive": _zip({"../../fvu.num.npy": _header("(20,)"), "/etc/x.npy": _header("(20,)")}),
        "no member": _zip({}),
        "other names": packed({"a": NUM, "b": DEN}),
        "only numerators": packed({"fvu.num": NUM}),
        "a shape of 2^60": _claims(f"({2**60},)"),
        "a shape whose size overflows": _claims(f"({2**33}, {2**33})"),
        "a negative shape": _claims("(-20,)"),
        "a shape that is text": _claims("'20'"),
        "a shape that is code": _claims("__import__('os').mkdir('EXECUTED')"),
        "no shape": _claims("()"),
        "a deep shape": _claims("(" * 50 + ")" * 50),
        "numbers of no size": _claims("(20,)", descr="'|V0'"),
        "version 3": _claims("(20,)", version=b"\x03\x00"),
        "version 9": _claims("(20,)", version=b"\x09\x00"),
        "a header of 60,000 bytes": _zip({"fvu.num.npy": b"\x93NUMPY\x01\x00\x60\xea" + b" " * 60_000}),
        "a bomb of 2 GB": _bomb(2**31),
        "a bomb that claims 100 bytes": _lying(2**28),
        "packed names that are no JSON": _names("{"),
        "packed names that are a list": _names("[]"),
        "packed names that do not fit": _names(json.dumps({"packed.0": ["fvu.num"]})),
        "packed names twice": _names(json.dumps({"packed.0": ["fvu.num", "fvu.num"]})),
        "deep packed names": _names("[" * 100_000),
        "half a surrogate pair in a packed name": _names('{"packed.0": ["fvu.num", "\\ud800"]}'),
        "numbers that are no characters": packed({"fvu.num": NUM, "fvu.den": DEN, "x": _no_characters()}),
        "bytes that are not ASCII": packed({"fvu.num": NUM, "fvu.den": DEN, "x": np.array([b"\xff"])}),
        "objects": packed({"fvu.num": NUM.astype(object), "fvu.den": DEN}),
        "fields": packed({"fvu.num": NUM.astype([("a", "<f8")]), "fvu.den": DEN}),
    }
    found = [_file(name, arrays) for name, arrays in files.items()]
    found += [
        _contributions("contributions without dimension", np.array(1.0), np.array(1.0)),
        _contributions("contributions of two dimensions", NUM.reshape(4, 5), DEN.reshape(4, 5)),
        _contributions("contributions of two lengths", NUM[:-1]),
        _contributions("complex contributions", NUM + 1j),
        _contributions("contributions that are text", NUM.astype(str)),
        _contributions("contributions that are dates", np.arange(UNITS).astype("datetime64[s]")),
        _contributions("NaN among the contributions", np.where(NUM > 0.5, np.nan, NUM)),
        _contributions("infinity among the contributions", np.where(NUM > 0.5, np.inf, NUM)),
        _contributions("contributions that overflow", np.full(UNITS, 1e308)),
        _contributions("denominators of zero", NUM, np.zeros(UNITS)),
        _contributions("denominators that cancel", NUM, np.where(np.arange(UNITS) % 2, 1.0, -1.0)),
        _contributions("no unit", NUM[:0], DEN[:0]),
        _contributions("denominators of 1e-300", NUM, np.full(UNITS, 1e-300)),
        _contributions("a million units", np.ones(10**6), np.ones(10**6), NOBODY),
        _contributions("negative contributions", -NUM, DEN, NOBODY),
        _instead("no arrays", lambda path: None),
        _instead("a folder as arrays", lambda path: path.mkdir()),
        _instead("a pipe as arrays", os.mkfifo),
        _instead("a device as arrays", lambda path: path.symlink_to("/dev/zero")),
        _instead("a link to itself as arrays", lambda path: path.symlink_to(path.name)),
        _instead("a link to nothing as arrays", lambda path: path.symlink_to("nowhere")),
        _instead("3 GB of nothing as arrays", lambda path: _sparse(path, 3 * 2**30)),
        Hostile("the arrays of another record", _of_another_record("0" * 64), ARRAYS, "checksums differ"),
        Hostile("the checksum of no arrays", _of_another_record(_NOTHING), NOBODY),
        Hostile("contributions out of the folder", changed(_names_contributions("../../../etc/passwd")), ARRAYS),
        Hostile("contributions that are ESC", changed(_names_contributions("\x1b[31m")), ARRAYS),
        _file(
            "a million bytes of an unknown array",
            packed({"fvu.num": NUM, "fvu.den": DEN, "?": np.ones(125_000)}),
            NOBODY,
        ),
        _file(
            "strange densities", packed({"fvu.num": NUM, "fvu.den": DEN, "density": np.full((3, 3), np.nan)}), NOBODY
        ),
    ]
    return found


_NOTHING = hashlib.sha256().hexdigest()


def _names_contributions(key: str) -> Callable[[dict], None]:
    return lambda record: record["measurements"][0].update(contributions=key)


def _no_characters() -> np.ndarray:
    return np.frombuffer(struct.pack("<I", 0x7FFFFFFF), dtype="<U1")


def _sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)
