"""Texts and labelled datasets that are damaged, of other formats, endless, or huge when they are unpacked."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import os
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.hostile.case import Case, Surroundings

REFUSED = frozenset({2})
SCORED = frozenset({0})
EITHER = frozenset({0, 1, 2})
GOOD = "".join(json.dumps({"text": f"{number} some good words " * 6}) + "\n" for number in range(80)).encode()
LABELS = [(f"{number} {'red' if number % 2 else 'blue'} words", number % 2) for number in range(80)]
PIECE = 2**20

Write = Callable[[Path], str]  # writes a text into a folder and returns its reference


def cases() -> list[Case]:
    """Return the cases."""
    return [*_lines(), *_packed(), *_other_formats(), *_tables(), *_plain(), *_places(), *_labelled()]


def _text(name: str, write: Write, *says: str, codes: frozenset[int] = REFUSED, seconds: float = 60) -> Case:
    """Return the case of a text for the task core."""

    def make(folder: Path, around: Surroundings) -> Sequence[str]:
        options = ["--tasks", "core", "--preset", "smoke", "--limit", "4", "--device", "cpu", "--dtype", "float32"]
        inputs = ["--model", str(around.model), "--text", write(folder), "--sae", "baseline:neurons"]
        return ["run", *options, *inputs, "--cache-budget", "0", "--out", str(folder / "out")]

    return Case(f"text: {name}", "texts", make, says, codes, seconds)


def _labels(name: str, write: Write, *says: str, codes: frozenset[int] = REFUSED) -> Case:
    """Return the case of a labelled dataset for the task sparse_probing."""

    def make(folder: Path, around: Surroundings) -> Sequence[str]:
        chosen = {"datasets": [write(folder)], "train_examples": 20, "test_examples": 20, "baselines": [], "k": [1]}
        (folder / "run.yaml").write_text(json.dumps({"parameters": {"sparse_probing": chosen}}), "utf-8")
        options = ["--tasks", "sparse_probing", "--preset", "smoke", "--device", "cpu", "--dtype", "float32"]
        inputs = ["--config", str(folder / "run.yaml"), "--model", str(around.model), "--sae", "baseline:neurons"]
        return ["run", *options, *inputs, "--cache-budget", "0", "--out", str(folder / "out")]

    return Case(f"labels: {name}", "texts", make, says, codes)


def _file(name: str, content: bytes | Callable[[], bytes], scheme: str = "jsonl", field: str = "") -> Write:
    """Write a file and return its reference."""

    def write(folder: Path) -> str:
        (folder / name).write_bytes(content() if callable(content) else content)
        return f"{scheme}:{folder / name}{field}"

    return write


def _made(name: str, make: Callable[[Path], object], scheme: str = "jsonl") -> Write:
    """Let ``make`` put something at a path, and return its reference."""

    def write(folder: Path) -> str:
        make(folder / name)
        return f"{scheme}:{folder / name}"

    return write


def _zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.compress(data)


def _bomb(packer: str, unit: bytes, n: int) -> Callable[[], bytes]:
    """Pack ``n`` times ``unit`` without holding it in memory."""

    def pack() -> bytes:
        import zstandard

        packed = io.BytesIO()
        opened = (
            gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1)
            if packer == "gzip"
            else zstandard.ZstdCompressor().stream_writer(packed, closefd=False)
        )
        with opened as file:
            for _ in range(n):
                file.write(unit)
        return packed.getvalue()

    return pack


# ---------------------------------------------------------------- JSON Lines


def _lines() -> list[Case]:
    bad: list[tuple[str, bytes, str]] = [
        ("a line that is not UTF-8", GOOD + b'{"text": "caf\xe9"}\n', "line 81: byte 13 is not UTF-8"),
        ("a line that is cut", GOOD[:-20], "not valid JSON"),
        ("a list on a line", GOOD + b"[1]\n", "holds a list"),
        ("a number on a line", GOOD + b"1\n", "holds a number"),
        ("a field that is missing", GOOD + b'{"texts": "x"}\n', "Did you mean 'texts'"),
        ("a field that is null", GOOD + b'{"text": null}\n', "not null"),
        ("a field that is a number", GOOD + b'{"text": 1}\n', "not a number"),
        ("a field that is an object", GOOD + b'{"text": {}}\n', "not an object"),
        ("half a surrogate pair", GOOD + b'{"text": "\\ud800"}\n', "surrogate"),
        ("lists 100,000 deep", GOOD + b"[" * 100_000 + b"\n", "cannot be used"),
        ("a number of 5,000 digits", GOOD + b'{"text": ' + b"1" * 5000 + b"}\n", "cannot be used"),
        ("control characters in a key", GOOD + b'{"\\u001b[31mtext\\u0007": "x"}\n', "is missing"),
        ("a line that ends the terminal's text", GOOD + b"\x1b]0;x\x07\n", "not valid JSON"),
        ("nothing", b"", "no usable document"),
        ("one document", GOOD[: GOOD.index(b"\n") + 1], "has one document"),
        ("white space only", b" \n\t\n" * 99, "no usable document"),
        ("empty documents only", b'{"text": " "}\n' * 99, "no usable document"),
        ("one document again and again", b'{"text": "the same"}\n' * 999, "has one document"),
        ("documents that are too short", b"".join(b'{"text": "%d"}\n' % n for n in range(4)), "too few for two"),
        ("a list of objects", json.dumps([{"text": "a"}]).encode(), "one JSON list"),
        ("a list of objects on many lines", json.dumps([{"text": "a"}], indent=1).encode(), "one JSON list"),
        ("plain text", b"A plain text,\nnot JSON.\n", "give 'txt:"),
        ("plain text that begins with a number", b"1984 was a year.\n", "give 'txt:"),
        ("random bytes", bytes(range(256)) * 99, "line"),
        ("zero bytes", bytes(9999), "line"),
        ("UTF-16 without a mark", GOOD.decode().encode("utf-16-le"), "UTF-16"),
        ("UTF-16 that is cut", codecs.BOM_UTF16_LE + GOOD.decode().encode("utf-16-le")[:-1], "UTF-16"),
    ]
    good: list[tuple[str, bytes]] = [
        ("a byte order mark", codecs.BOM_UTF8 + GOOD),
        ("UTF-16", GOOD.decode().encode("utf-16")),
        ("UTF-32", GOOD.decode().encode("utf-32")),
        ("CRLF", GOOD.replace(b"\n", b"\r\n\r\n")),
        ("a document of a megabyte", GOOD + json.dumps({"text": "long words " * 100_000}).encode()),
        ("special tokens in the text", GOOD + json.dumps({"text": "<bos><eos><pad><unk>" * 99}).encode()),
        ("letters that the tokenizer does not know", GOOD + json.dumps({"text": "日本語 \U0001f600" * 99}).encode()),
    ]
    return [
        *(_text(name, _file("x.jsonl", content), says) for name, content, says in bad),
        *(_text(name, _file("x.jsonl", content), codes=SCORED) for name, content in good),
    ]


def _packed() -> list[Case]:
    return [
        *(_text(f"packed by {name}", _file("x", pack(GOOD)), codes=SCORED) for name, pack in _PACKERS.items()),
        *(
            _text(f"packed by {name}, and cut", _file("x", pack(GOOD * 9)[:-40]), "cannot be unpacked")
            for name, pack in _PACKERS.items()
        ),
        *(
            _text(f"packed by {name}, then damaged", _file("x", pack(GOOD)[:40] + b"\xff" * 90), "cannot be unpacked")
            for name, pack in _PACKERS.items()
        ),
        *(
            _text(f"one endless line, packed by {name}", _file("x", _bomb(name, b"a" * PIECE, 900)), "longer than")
            for name in _PACKERS
        ),
        *(
            _text(f"endless empty lines, packed by {name}", _file("x", _bomb(name, b"\n" * PIECE, 900)), "lines")
            for name in _PACKERS
        ),
        *(
            _text(
                f"endless long lines, packed by {name}", _file("x", _bomb(name, b" " * PIECE + b"\n", 9000)), "too much"
            )
            for name in _PACKERS
        ),
        _text("packed twice", _file("x.jsonl.gz.gz", gzip.compress(gzip.compress(GOOD))), "packed twice"),
        _text("packed, under the name of plain lines", _file("x.jsonl", gzip.compress(GOOD)), codes=SCORED),
        _text("plain lines, under the name of packed ones", _file("x.jsonl.gz", GOOD), codes=SCORED),
        _text("zstd that asks for a gigabyte of memory", _file("x.zst", _wide), "cannot be unpacked"),
    ]


_PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": _zstd}


def _wide() -> bytes:
    import zstandard

    parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(GOOD) + packer.flush()


def _other_formats() -> list[Case]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x.jsonl", GOOD)
    tar = struct.pack("100s157s6s", b"x.jsonl", b"", b"ustar").ljust(10_240, b"\0")
    others: list[tuple[str, bytes, str]] = [
        ("a zip archive", archive.getvalue(), "zip archive"),
        ("a tar archive", tar, "tar archive"),
        ("a packed tar archive", gzip.compress(tar), "tar archive"),
        ("bzip2", bz2.compress(GOOD), "bzip2"),
        ("xz", lzma.compress(GOOD), "xz"),
        ("a PDF document", b"%PDF-1.7\n" + bytes(99), "PDF"),
        ("an Arrow file", b"ARROW1\0\0" + bytes(99), "Arrow"),
        ("a pickle", b"\x80\x05cos\nsystem\n(S'touch EXECUTED'\ntR.", "line 1"),
        ("a pointer of Git LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "line 1"),
        ("a web page", b"<!DOCTYPE html>\n<html></html>\n", "line 1"),
    ]
    return [_text(name, _file("x.jsonl", content), says) for name, content, says in others]


# ---------------------------------------------------------------- tables


def _parquet(columns: Callable[[], dict[str, Any]], **options: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        import pyarrow
        from pyarrow import parquet

        buffer = io.BytesIO()
        parquet.write_table(pyarrow.table(columns()), buffer, **options)
        return buffer.getvalue()

    return make


def _texts() -> dict[str, Any]:
    return {"text": [json.loads(line)["text"] for line in GOOD.splitlines()]}


def _repeated() -> dict[str, Any]:
    """A column of ten gigabytes of text that takes a megabyte in the file."""
    import pyarrow

    return {"text": pyarrow.DictionaryArray.from_arrays([0] * 10_000, ["a" * 10**6])}


def _not_utf8() -> dict[str, Any]:
    import pyarrow

    return {"text": pyarrow.array([b"\xff\xfe"]).cast(pyarrow.binary()).view(pyarrow.string())}


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _tables() -> list[Case]:
    def parquet(name: str, content: bytes | Callable[[], bytes], *says: str, codes: frozenset[int] = REFUSED) -> Case:
        return _text(f"Parquet: {name}", _file("x.parquet", content, "parquet"), *says, codes=codes)

    good = _parquet(_texts)
    rows = [("id", "text"), *enumerate(_texts()["text"])]
    return [
        parquet("good", good, codes=SCORED),
        _text("Parquet as JSON Lines", _file("x.jsonl", good), "give 'parquet:"),
        parquet("no such column", _parquet(lambda: {"texts": ["a"]}), "Did you mean 'texts'"),
        parquet("numbers", _parquet(lambda: {"text": [1, 2]}), "not a number"),
        parquet("a null", _parquet(lambda: {"text": ["a", None]}), "not null"),
        parquet("lists", _parquet(lambda: {"text": [["a"]]}), "no column 'text'"),
        parquet("bytes", _parquet(lambda: {"text": [b"a"]}), "type bytes"),
        parquet("not UTF-8", _parquet(_not_utf8), "cannot be read as Parquet"),
        parquet("no rows", _parquet(lambda: {"text": []}), "must be a text", "no usable document", "no column"),
        parquet("a huge table in a small file", _parquet(_repeated), "too much"),
        parquet("cut", lambda: good()[:-50], "cannot be read as Parquet"),
        parquet("only its beginning", b"PAR1", "cannot be read as Parquet"),
        parquet("a footer of four gigabytes", b"PAR1" + b"\xff" * 4 + b"PAR1", "cannot be read as Parquet"),
        parquet("damaged", lambda: good()[:60] + b"\xff" * 60 + good()[120:], codes=EITHER),
        parquet("JSON Lines", GOOD, "not a Parquet file"),
        _text("CSV: good", _file("x.csv", _csv(rows), "csv"), codes=SCORED),
        _text("CSV: packed", _file("x.csv.gz", gzip.compress(_csv(rows)), "csv"), codes=SCORED),
        _text("CSV: no such column", _file("x.csv", _csv([("id", "texts")]), "csv"), "Did you mean 'texts'"),
        _text("CSV: semicolons", _file("x.csv", b"id;text\n1;a\n", "csv"), "separated by ';'"),
        _text("CSV: an open quote", _file("x.csv", _csv(rows) + b'1,"a\n', "csv"), "not valid CSV"),
        _text("CSV: a field too many", _file("x.csv", _csv(rows) + b"1,a,b\n", "csv"), "3 fields"),
        _text("CSV: a field of a megabyte", _file("x.csv", _csv([*rows, (1, "a" * PIECE)]), "csv"), "field larger"),
    ]


def _plain() -> list[Case]:
    paragraphs = "\n\n".join(_texts()["text"]).encode()
    return [
        _text("plain: good", _file("x.txt", paragraphs, "txt"), codes=SCORED),
        _text("plain: packed", _file("x.txt.gz", gzip.compress(paragraphs), "txt"), codes=SCORED),
        _text("plain: no empty line", _file("x.txt", paragraphs.replace(b"\n\n", b"\n"), "txt"), "empty line"),
        _text("plain: not UTF-8", _file("x.txt", paragraphs + b"caf\xe9", "txt"), "not UTF-8"),
        _text("plain: zero bytes", _file("x.txt", paragraphs + bytes(9), "txt"), "zero byte"),
        _text("plain: nothing", _file("x.txt", b"", "txt"), "no usable document"),
        _text("plain: a field", _file("x.txt", paragraphs, "txt", ":body"), "does not exist"),
        _text(
            "a path without a scheme",
            lambda folder: _file("x.txt", paragraphs)(folder).partition(":")[2],
            "write 'txt:",
        ),
    ]


# ---------------------------------------------------------------- places


def _places() -> list[Case]:
    def socket(path: Path) -> None:
        import socket as sockets

        here = os.getcwd()
        os.chdir(path.parent)  # the path of a socket must be short
        try:
            sockets.socket(sockets.AF_UNIX).bind(path.name)
        finally:
            os.chdir(here)

    return [
        _text("a pipe", _made("x.jsonl", os.mkfifo), "is not a file"),
        _text("a folder", _made("x.jsonl", os.mkdir), "is not a file"),
        _text("a socket", _made("x.jsonl", socket), "is not a file"),
        _text("a link to itself", _made("x.jsonl", lambda path: path.symlink_to(path.name)), "is not a file"),
        _text("a link to a device", _made("x.jsonl", lambda path: path.symlink_to("/dev/zero")), "is not a file"),
        _text("a device", lambda folder: "jsonl:/dev/zero", "is not a file"),
        _text("a missing file", lambda folder: f"jsonl:{folder / 'missing.jsonl'}", "does not exist"),
        _text("an overlong name", lambda folder: "jsonl:" + "x" * 5000, "does not exist"),
        _text("a home that nobody has", lambda folder: "txt:~nouser/x.txt", "does not exist"),
        _text("a pipe as Parquet", _made("x.parquet", os.mkfifo, "parquet"), "is not a file"),
        _text("a file without permission", _made("x.jsonl", _locked), codes=frozenset({0, 2})),  # root may read it
        _text("a name that looks like a field", _file("x.jsonl:y", GOOD), codes=SCORED),
    ]


def _locked(path: Path) -> None:
    path.write_bytes(GOOD)
    path.chmod(0)


# ---------------------------------------------------------------- labelled data


def _labelled() -> list[Case]:
    lines = "".join(json.dumps({"prompt": prompt, "target": target}) + "\n" for prompt, target in LABELS).encode()
    table = _csv([("prompt", "target"), *LABELS])

    def columns() -> dict[str, Any]:
        return {"prompt": [prompt for prompt, _ in LABELS], "target": [target for _, target in LABELS]}

    bad: list[tuple[str, str, bytes, str]] = [
        ("a target that is null", "jsonl", lines + b'{"prompt": "x", "target": null}', "names no class"),
        ("a target that is NaN", "jsonl", lines + b'{"prompt": "x", "target": NaN}', "names no class"),
        ("a target that is infinite", "jsonl", lines + b'{"prompt": "x", "target": 1e999}', "names no class"),
        ("a target that is a list", "jsonl", lines + b'{"prompt": "x", "target": [1]}', "names no class"),
        ("a target of 4,000 digits", "jsonl", lines + b'{"prompt": "x", "target": ' + b"9" * 4000 + b"}", "class"),
        ("a prompt that is a number", "jsonl", lines + b'{"prompt": 1, "target": 1}', "must be a text"),
        ("no prompt", "jsonl", lines + b'{"target": 1}', "is missing"),
        ("one class", "jsonl", lines.replace(b'"target": 0', b'"target": 1'), "one class"),
        ("three classes", "jsonl", lines + b'{"prompt": "x", "target": 2}', "class"),
        ("too few rows", "jsonl", b"".join(lines.splitlines(keepends=True)[:4]), "examples"),
        ("a prompt in both classes", "jsonl", lines.replace(b"red", b"blue").replace(b"1", b"0"), "class"),
        ("nothing", "jsonl", b"", "no usable example"),
        ("CSV without a header", "csv", table.partition(b"\n")[2], "no column 'prompt'"),
        ("CSV with two targets", "csv", b"prompt,target,target\na,1,1\n", "2 columns called 'target'"),
        ("CSV with an empty target", "csv", table + b"x,\n", "names no class"),
        ("CSV that is not UTF-8", "csv", table + b"caf\xe9,1\n", "not UTF-8"),
        ("CSV that is a spreadsheet", "csv", b"PK\x03\x04" + bytes(99), "spreadsheet"),
        ("CSV that is empty", "csv", b"", "is empty"),
        ("JSON Lines as CSV", "csv", lines, "no column", "CSV"),
        ("JSON Lines as Parquet", "parquet", lines, "not a Parquet file"),
    ]  # fmt: skip
    return [
        *(_labels(name, _file("x", content, scheme), *says) for name, scheme, content, *says in bad),
        _labels("CSV packed, UTF-16", _file("x", gzip.compress(table.decode().encode("utf-16")), "csv"), codes=SCORED),
        _labels("JSON Lines packed", _file("x", _zstd(lines), "jsonl"), codes=SCORED),
        _labels("Parquet", _file("x", _parquet(columns), "parquet"), codes=SCORED),
        _labels(
            "Parquet with numbers as prompts",
            _file("x", _parquet(lambda: {"prompt": [1, 2], "target": [0, 1]}), "parquet"),
            "must be a text",
        ),
        _labels(
            "Parquet without targets", _file("x", _parquet(lambda: {"prompt": ["a"]}), "parquet"), "no column 'target'"
        ),
        _labels("a pipe", _made("x", os.mkfifo, "csv"), "is not a file"),
        _labels(
            "words of a text that is cut", lambda folder: "words:" + _file("x", GOOD[:-20])(folder), "not valid JSON"
        ),
        _labels(
            "a path without a scheme", lambda folder: _file("x.csv", table)(folder).partition(":")[2], "write 'csv:"
        ),
    ]
