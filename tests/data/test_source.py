"""What a file holds decides how it is read; what cannot be read is refused in one sentence and within bounds."""

import bz2
import codecs
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from saebench.data import source
from saebench.data.labelled import load_labelled
from saebench.data.source import read_content, read_lines
from saebench.data.text import load_documents
from saebench.errors import DataError

LINES = b'{"text": "one"}\n{"text": "zwei \xc3\xbc"}\n'


@pytest.fixture(scope="session")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("source") / "file"


def written(path, data):
    path.write_bytes(data)
    return path


def zstd_frames(data):
    return b"".join(zstandard.compress(data[start : start + 7]) for start in range(0, len(data), 7))


PACKED = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "gzip in members": lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]) + bytes(20),
    "zstd": zstandard.compress,
    "zstd in frames": zstd_frames,
    "zstd of unknown size": lambda data: zstandard.ZstdCompressor(write_content_size=False).compress(data),
}
ENCODINGS = {
    "utf-8": b"",
    "utf-8-sig": b"",
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_packing_and_encoding_do_not_change_what_is_read(scratch, packed, encoding):
    data = ENCODINGS[encoding] + LINES.decode().encode(encoding)
    path = written(scratch, PACKED[packed](data))
    assert list(read_lines(path)) == LINES.splitlines(keepends=True)
    assert read_content(path) == LINES
    assert load_documents(f"jsonl:{path}").texts == ["one", "zwei ü"]


@given(st.text(st.characters(codec="utf-8"), max_size=200), st.sampled_from(sorted(PACKED)))
def test_every_text_is_read_as_it_was_written(scratch, text, packed):
    path = written(
        scratch, codecs.BOM_UTF8 + PACKED[packed](text.encode()) if packed == "plain" else PACKED[packed](text.encode())
    )
    if text.startswith("\ufeff"):
        text = text[1:]
    if packed != "plain" or text:
        assert read_content(path) == text.encode()
        assert b"".join(read_lines(path)) == text.encode()


def tarred(data):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("x.jsonl")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.jsonl", data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (zipped(LINES), r"is a zip archive \(or a spreadsheet\), which is not read as text"),
        (bz2.compress(LINES), "is packed with bzip2"),
        (lzma.compress(LINES), "is packed with xz"),
        (tarred(LINES), "is a tar archive; unpack it and give one of the files in it"),
        (gzip.compress(tarred(LINES)), "unpacked, is a tar archive"),
        (gzip.compress(gzip.compress(LINES)), "is packed twice; unpack it once"),
        (zstandard.compress(gzip.compress(LINES)), "is packed twice; unpack it once"),
        (b"PAR1" + bytes(40), "is a Parquet file; give 'parquet:.*file'"),
        (gzip.compress(b"PAR1" + bytes(40)), "is a Parquet file; unpack it and give 'parquet:"),
        (b"%PDF-1.7\n", "is a PDF document"),
        (gzip.compress(LINES * 99)[:-30], r"cannot be unpacked \(it ends too early\); get a complete copy"),
        (zstandard.compress(LINES * 99)[:-30], r"cannot be unpacked \(it ends too early\); get a complete copy"),
        (zstandard.compress(LINES)[:3] + b"\xfd", "is not UTF-8|cannot be unpacked"),
        (gzip.compress(LINES)[:20] + b"\xff" * 30, r"cannot be unpacked \(.*\); get a complete copy"),
        (zstandard.compress(LINES)[:10] + b"\xff" * 30, r"cannot be unpacked \(.*\); get a complete copy"),
        (zstandard.compress(LINES) + b"junk and more of it", r"cannot be unpacked \(.*\)"),
        (codecs.BOM_UTF16_LE + b"\x00\xd8", "begins as UTF-16.* does, but is not valid"),
        (LINES.decode().encode("utf-16-le"), "It holds zero bytes, as UTF-16 does; convert the file to UTF-8"),
        (b"A plain text.\nOn two lines.\n", "not valid JSON .* If the file is plain text, give 'txt:"),
        (b"1984 was a year", "Extra data.* If the file is plain text, give 'txt:"),
        (json.dumps([{"text": "a"}]).encode(), "If the file is one JSON list, write each of its items on a line"),
        (json.dumps([{"text": "a"}], indent=1).encode(), "If the file is one JSON list, write each of its items"),
    ],
)
def test_other_formats_and_damaged_files_are_named_with_what_helps(scratch, data, message):
    with pytest.raises(DataError, match=message) as caught:
        load_documents(f"jsonl:{written(scratch, data)}")
    assert str(scratch) in str(caught.value)


@pytest.mark.parametrize("packed", ["gzip", "zstd", "zstd in frames"])
def test_every_truncation_of_a_packed_file_is_an_error(scratch, packed):
    data = PACKED[packed](LINES)
    whole = list(read_lines(written(scratch, data)))
    for length in range(4, len(data)):
        written(scratch, data[:length])
        try:
            lines = list(read_lines(scratch))
        except DataError as error:
            assert "cannot be unpacked" in str(error)  # noqa: PT017
        else:  # the file was cut between two frames
            assert packed == "zstd in frames"
            assert b"".join(whole).startswith(b"".join(lines))


# ---------------------------------------------------------------- bounds


def endless(unit, n):
    """``n`` times ``unit``, packed by gzip without holding it in memory."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as file:
        for _ in range(n):
            file.write(unit)
    return buffer.getvalue()


def test_a_file_that_unpacks_to_one_endless_line(scratch):
    path = written(scratch, endless(b"a" * 2**20, 65))
    assert path.stat().st_size < 2**17
    with pytest.raises(DataError, match=r"line 1: the line is longer than 67,108,864 bytes"):
        load_documents(f"jsonl:{path}")


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_file_that_unpacks_to_more_than_there_is_memory_for(scratch, monkeypatch, pack):
    monkeypatch.setattr(source, "most_bytes", lambda: 10**6)
    path = written(scratch, pack(b'{"text": "one"}\n' * 100_000))
    for read in (load_documents, load_labelled):
        with pytest.raises(DataError, match=r"holds more than 0\.0 GB of text, which is too much"):
            read(f"jsonl:{path}" if read is load_documents else f"words:jsonl:{path}")
    with pytest.raises(DataError, match="too much for the memory"):
        read_content(path)


def test_a_file_of_endless_empty_lines(scratch, monkeypatch):
    monkeypatch.setattr(source, "MAX_LINES", 1000)
    assert len(list(read_lines(written(scratch, b"\n" * 1000)))) == 1000
    with pytest.raises(DataError, match="has more than 1,000 lines"):
        list(read_lines(written(scratch, b"\n" * 1001)))


def test_unpacking_zstd_takes_no_more_memory_than_its_own_program_allows(scratch):
    parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    path = written(scratch, packer.compress(LINES) + packer.flush())
    with pytest.raises(DataError, match=r"cannot be unpacked .*memory"):
        list(read_lines(path))


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "loop", ".", "missing", "x" * 3000, "a\0b", "a\ud800b"):
        with pytest.raises(DataError, match="Cannot read"):
            list(read_lines(tmp_path / name))


@pytest.mark.parametrize("unit", [b" " * 2**20 + b"\n", b"\n" * 2**20, b'{"text": "a"}\n' * 2**16])
def test_a_file_that_unpacks_to_far_more_than_text_does_is_given_up_early(scratch, monkeypatch, unit):
    monkeypatch.setattr(source, "RATIO_FROM", 2**22)
    monkeypatch.setattr(source, "MAX_LINES", 2**25)
    path = written(scratch, endless(unit, 2**25 // len(unit)))
    with pytest.raises(DataError, match="unpacks to too much: more than 400 times its size"):
        list(read_lines(path))
    assert list(read_lines(written(scratch, gzip.compress(unit[: 2**20])))) == unit[: 2**20].splitlines(keepends=True)
