"""What a file of weights claims is checked before memory is taken, and nothing in it runs."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from saebench.errors import SAELoadError
from saebench.sae.tensor_files import read_after_json, read_tensor, read_tensors


def test_every_kind_of_file_gives_its_tensors(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(2, 3), "k": torch.tensor(5)}
    save_file(tensors, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **{key: value.numpy() for key, value in tensors.items()})
    torch.save(tensors, tmp_path / "a.pt")
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)

    for name in ("a.safetensors", "a.npz", "a.pt", "old.pth"):
        content = read_tensors(tmp_path / name, "ref")
        assert {key: value.tolist() for key, value in content.items()} == {"a": [[1.0] * 3] * 2, "k": 5}


def test_a_safetensors_header_that_lies_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 8]}}).encode()
    file = tmp_path / "a.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)

    with pytest.raises(SAELoadError, match=r"ref: a\.safetensors: its header claims the shape"):
        read_tensors(file, "ref")


@pytest.mark.parametrize(
    "content",
    [
        {"a": torch.zeros(1).expand(10**6, 10**6)},
        {"a": torch.zeros(3, 3, device="meta")},
        {"a": torch.eye(3).to_sparse()},
        {"a": {"b": [torch.zeros(1).expand(10**9)]}},
    ],
    ids=["steps of 0", "no numbers", "sparse", "inside"],
)
def test_a_pickled_tensor_whose_numbers_are_not_in_the_file_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")

    with pytest.raises(SAELoadError, match=r"ref: a\.pt: \w+ (claims the shape|is a sparse)"):
        read_tensors(tmp_path / "a.pt", "ref")


def test_a_small_expanded_tensor_is_read(tmp_path: Path) -> None:
    torch.save({"threshold": torch.tensor(2.0).expand(100)}, tmp_path / "a.pt")

    assert read_tensors(tmp_path / "a.pt", "ref")["threshold"].tolist() == [2.0] * 100


def test_dicts_inside_each_other_are_bounded(tmp_path: Path) -> None:
    content: Any = torch.zeros(1)
    for _ in range(30):
        content = {"a": content}
    torch.save(content, tmp_path / "a.pt")

    with pytest.raises(SAELoadError, match="nests dicts or lists more than 16 deep"):
        read_tensors(tmp_path / "a.pt", "ref")


def test_a_compressed_file_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", b"\0" * 10**7)

    with pytest.raises(SAELoadError, match="is compressed"):
        read_tensors(tmp_path / "a.pt", "ref")


@pytest.mark.parametrize(
    ("name", "stored", "message"),
    [
        ("a.pt", b"", "truncated or was not written by torch.save"),
        ("a.pt", b"PK\x03\x04rest", "truncated or was not written by torch.save"),
        ("a.npz", b"text", "damaged or holds more"),
        ("a.safetensors", b"text", "has only 4 bytes"),
        ("a.pkl", b"text", "can run code"),
        ("a.txt", b"text", "no file of weights that saebench reads"),
    ],
)
def test_a_file_that_is_none_is_refused(name: str, stored: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(stored)

    with pytest.raises(SAELoadError, match=rf"^ref: {name}.*{message}.*\.$"):
        read_tensors(tmp_path / name, "ref")


def test_objects_and_lists_are_refused(tmp_path: Path) -> None:
    torch.save({"a": Path("/")}, tmp_path / "objects.pt")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")

    with pytest.raises(SAELoadError, match="objects beside tensors"):
        read_tensors(tmp_path / "objects.pt", "ref")
    with pytest.raises(SAELoadError, match="a list instead of named tensors"):
        read_tensors(tmp_path / "list.pt", "ref")
    with pytest.raises(SAELoadError, match="a list instead of a tensor"):
        read_tensor(tmp_path / "list.pt", "ref")


def test_a_pipe_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pt")

    with pytest.raises(SAELoadError, match="is not a regular file"):
        read_tensors(tmp_path / "a.pt", "ref")
    with pytest.raises(SAELoadError, match="does not exist"):
        read_tensors(tmp_path / "b.pt", "ref")


def test_a_line_of_json_before_the_tensors(tmp_path: Path) -> None:
    stored = io.BytesIO()
    torch.save({"a": torch.ones(2)}, stored)
    file = tmp_path / "a.pt"
    file.write_bytes(b'{"schema": 5}\n' + stored.getvalue())

    config, tensors = read_after_json(file, "ref")

    assert (config, tensors["a"].tolist()) == ({"schema": 5}, [1.0, 1.0])


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (b"", "does not begin with a line of JSON"),
        (b"\x80\x02", "does not begin with a line of JSON"),
        (b"{\xff}\n", "does not begin with a line of JSON"),
        (b"{" + b" " * 2**21, "does not begin with a line of JSON"),
        (b"{]\n", "its first line is not valid JSON"),
        (b"{}\n", "truncated or was not written by torch.save"),
    ],
    ids=["empty", "pickle", "not UTF-8", "endless", "no JSON", "no tensors"],
)
def test_a_file_without_such_a_line_is_refused(stored: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(stored)

    with pytest.raises(SAELoadError, match=f"ref: a.pt.*{message}"):
        read_after_json(tmp_path / "a.pt", "ref")
