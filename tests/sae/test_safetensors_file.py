"""What a safetensors file says of itself is checked before it is believed."""

from __future__ import annotations

import io
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from saebench.errors import SAELoadError
from saebench.sae.safetensors_file import Stored, check_stored, read_floats, read_header

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def write(path: Path, header: Any, data: bytes = b"\0" * 8, *, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "weights.safetensors"


def test_types_and_shapes_without_reading(file: Path) -> None:
    tensors = {"a": torch.ones(2, 3, dtype=torch.bfloat16), "b": torch.ones(4, dtype=torch.int8), "c": torch.ones(())}
    safetensors.torch.save_file(tensors, file, metadata={"format": "pt"})
    assert read_header(file, "ref") == {
        "a": Stored("bfloat16", (2, 3), True),
        "b": Stored("int8", (4,), False),
        "c": Stored("float32", (), True),
    }
    read = read_floats(file, ["a", "c"], "ref")
    assert {key: (value.dtype, value.tolist()) for key, value in read.items()} == {
        "a": (torch.float32, [[1.0, 1, 1], [1, 1, 1]]),
        "c": (torch.float32, 1.0),
    }
    assert read_floats(file, ["a"], "ref", dtype=None)["a"].dtype == torch.bfloat16


def test_a_file_that_is_overwritten_changes_nothing_that_was_read(file: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(1000)}, file)
    read = read_floats(file, ["a"], "ref")["a"]
    with file.open("r+b") as opened:
        opened.seek(-4000, os.SEEK_END)
        opened.write(b"\0" * 4000)
    assert bool((read == 1).all())


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "complex64", "float8_e4m3fn", "float8_e5m2"])
def test_numbers_that_need_a_scale_are_refused_by_name_and_type(file: Path, dtype: str) -> None:
    safetensors.torch.save_file({"W": torch.ones(2, 2).to(getattr(torch, dtype))}, file)
    with pytest.raises(SAELoadError, match=f"ref: weights.safetensors: W holds numbers of type {dtype}, whose scale"):
        read_floats(file, ["W"], "ref")


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (
            {"a": {**F32, "shape": [2**40]}},
            b"\0" * 8,
            "claims the shape .1099511627776. for a, which its data does not",
        ),
        ({"a": {**F32, "shape": [2**62, 2**62]}}, b"\0" * 8, "claims the shape"),
        ({"a": {**F32, "shape": [10**400]}}, b"\0" * 8, "does not say type, shape and place of a"),
        ({"a": {**F32, "shape": [-2]}}, b"\0" * 8, "does not say type, shape and place of a"),
        ({"a": {**F32, "shape": [True, 2]}}, b"\0" * 8, "does not say type, shape and place of a"),
        ({"a": {**F32, "shape": [1] * 9 + [2]}}, b"\0" * 8, "a has 10 dimensions"),
        ({"a": {**F32, "dtype": 7}}, b"\0" * 8, "does not say type, shape and place of a"),
        ({"a": {**F32, "data_offsets": [0, 8, 8]}}, b"\0" * 8, "does not say type, shape and place of a"),
        ({"a": {**F32, "data_offsets": [8, 0]}}, b"\0" * 8, "claims the shape"),
        ({"a": 3}, b"\0" * 8, "does not say type, shape and place of a"),
        ({"\x1b[31m": 3}, b"", r"place of '\\x1b\[31m'"),
        ({"a": F32}, b"\0" * 7, "is truncated: its header describes 8 bytes of data, and it has 7"),
        ({"a": F32}, b"\0" * 9, "has 9 bytes of data, but its header describes 8"),
        ({"a": {**F32, "data_offsets": [2**50, 2**50 + 8]}}, b"\0" * 8, "is truncated"),
        ({"a": {**F32, "data_offsets": [8, 16]}}, b"\0" * 16, "puts a at the bytes 8 to 16, which overlaps"),
        ({"a": F32, "b": {**F32, "data_offsets": [4, 12]}}, b"\0" * 12, "puts b at the bytes 4 to 12, which overlaps"),
        ({"a": F32, "b": F32}, b"\0" * 8, "puts b at the bytes 0 to 8, which overlaps"),
        ([1], b"", "its header is no JSON object"),
        (b'{"a": {}, "a": {}}', b"", "its header names 'a' twice"),
        (b"{", b"", "its header is not valid JSON"),
        (b"\xff\xff", b"", "its header is not UTF-8"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, b"", "nests lists or objects"),
    ],
)
def test_headers_that_lie(file: Path, header: Any, data: bytes, message: str) -> None:
    write(file, header, data)
    with pytest.raises(SAELoadError, match=f"ref: weights.safetensors.*{message}"):
        read_header(file, "ref")


@pytest.mark.parametrize("length", [2**63, 2**24 + 1, 1000, 2**64 - 1])
def test_a_header_longer_than_the_file(file: Path, length: int) -> None:
    write(file, {"a": F32}, length=length)
    with pytest.raises(SAELoadError, match=f"claims a header of {length:,} bytes and has .* bytes in all"):
        read_header(file, "ref")


def pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has only 0 bytes"),
        (b"1234567", "has only 7 bytes"),
        (pickled({"a": torch.ones(2)}), "holds a pickle, which can run code, so it is refused; .*weights_only=True"),
        (b"\x80\x04\x95" + b"x" * 50, "holds a pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "git lfs pull"),
        (b"<!DOCTYPE html>" * 9, "no safetensors file"),
    ],
)
def test_other_files_under_this_name(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(SAELoadError, match=message):
        read_header(file, "ref")


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, message in {
        "pipe": "named pipe",
        "loop": "symbolic links",
        ".": "folder",
        "none": "No such file",
        "\0": "no file can have this name",
        "x" * 300: "too long",
    }.items():
        with pytest.raises(SAELoadError, match=message):
            read_header(tmp_path / name, "ref")
    with pytest.raises(SAELoadError, match="device"):
        read_header(Path("/dev/zero"), "ref")


def test_what_fits_and_what_does_not(file: Path) -> None:
    header = {"W": Stored("float32", (2, 3), True)}
    check_stored(header, "W", (2, 3), file, "ref")
    with pytest.raises(SAELoadError, match=r"W has the shape \[2, 3\], but \[3, 2\] is needed, because so;"):
        check_stored(header, "W", (3, 2), file, "ref", ", because so")
    with pytest.raises(SAELoadError, match="holds no b; it holds W"):
        check_stored(header, "b", None, file, "ref")
