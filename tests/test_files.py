"""Small files that others wrote: what is read, and what is refused without hanging."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from saebench import files
from saebench.errors import DataError, UsageError


def test_a_regular_file_is_read_also_through_a_link(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\xef\xbb\xbfabc")
    link = tmp_path / "link"
    link.symlink_to(file)
    assert files.read_small(link, "file", UsageError) == b"\xef\xbb\xbfabc"
    assert files.read_small_text(link, "file", UsageError) == "abc"


def test_a_file_of_exactly_the_limit_is_read_and_a_larger_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 10)
    assert len(files.read_small(file, "file", UsageError, limit=10)) == 10
    with pytest.raises(UsageError, match="is larger than 9 bytes"):
        files.read_small(file, "file", UsageError, limit=9)


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def _socket(folder: Path) -> Path:
    path = folder / "socket"
    os.chdir(folder)  # the path of a socket must be short
    socket.socket(socket.AF_UNIX).bind("socket")
    return path


def _loop(folder: Path) -> Path:
    (folder / "loop").symlink_to("loop")
    return folder / "loop"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_pipe, "it is a named pipe, not a regular file"),
        (_socket, "it is a socket, not a regular file"),
        (lambda folder: Path("/dev/zero"), "it is a device, not a regular file"),
        (lambda folder: folder, "it is a folder, not a regular file"),
        (lambda folder: folder / "missing", "No such file or directory"),
        (lambda folder: folder / ("x" * 5000), "File name too long"),
        (lambda folder: folder / "a\0b", "no file can have this name"),
        (lambda folder: folder / "a\ud800b", "no file can have this name"),
        (_loop, "Too many levels of symbolic links"),
    ],
)
def test_what_is_no_regular_file_is_refused_in_one_sentence(
    make: object, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"Cannot read the config file .*{reason}") as caught:
        files.read_small(make(tmp_path), "config file", DataError)  # type: ignore[operator]
    str(caught.value).encode()


def test_a_file_that_is_not_utf_8_is_named_with_the_byte(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"ab\xff")
    with pytest.raises(UsageError, match="is not UTF-8 at byte 2"):
        files.read_small_text(file, "file", UsageError)


def test_json_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    value = {"a": [1, 2.5, None, True, "ä"], "b": {}}
    file.write_text(json.dumps(value))
    assert files.read_json(file, "file", UsageError) == value
    deepest = "[" * files.MAX_DEPTH + "]" * files.MAX_DEPTH
    assert json.dumps(files.parse_json(deepest, "It", UsageError)) == deepest


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"is not valid JSON \(Expecting value, line 1, column 1\)"),
        ("{'a': 1}", "is not valid JSON"),
        ("[" * 65 + "]" * 65, "nests lists or objects more than 64 deep"),
        ("[" * 100_000, "nests lists or objects more than 64 deep"),
        ('{"a":' * 65 + "1" + "}" * 65, "nests lists or objects more than 64 deep"),
        ("1" * 5000, "holds a number with too many digits"),
        ('"\\ud800"', "holds half a surrogate pair"),
        ('{"\\udcff": 1}', "holds half a surrogate pair"),
    ],
)
def test_json_that_cannot_be_used_is_refused_in_one_sentence(text: str, reason: str) -> None:
    with pytest.raises(DataError, match=f"^The file x {reason}"):
        files.parse_json(text, "The file x", DataError)


def test_half_a_surrogate_pair_becomes_storable() -> None:
    assert files.storable_text("a\udcffb\ud83dc") == "a\\udcffb\\ud83dc"
    assert files.storable_text("äöü \U0001f600") == "äöü \U0001f600"
    assert files.is_text("\U0001f600")
    assert not files.is_text("\ud83d")


def test_a_key_that_is_named_twice_is_refused_where_keys_must_be_unique() -> None:
    text = '{"a": {"k": 4, "k": 500}}'
    assert files.parse_json(text, "The file", UsageError) == {"a": {"k": 500}}
    with pytest.raises(UsageError, match="The file names 'k' twice in one object"):
        files.parse_json(text, "The file", UsageError, unique=True)
    assert files.parse_json('{"a": 1, "b": {"a": 1}}', "The file", UsageError, unique=True) == {"a": 1, "b": {"a": 1}}
