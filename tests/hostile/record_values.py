"""Hostile records: JSON that is no record, and values that no record may hold or that are only odd."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.hostile.record_folder import (
    NO_ID,
    NOBODY,
    Hostile,
    Json,
    changed,
    content,
    put_record,
    replaced,
    with_id,
    write,
)


def at(*place: str | int, value: Any) -> Callable[[Json], None]:
    """Return a change of one value."""

    def change(record: Json) -> None:
        parent: Any = record
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = value

    return change


def without(*place: str) -> Callable[[Json], None]:
    """Return a change that removes one value."""

    def change(record: Json) -> None:
        parent: Any = record
        for key in place[:-1]:
            parent = parent[key]
        del parent[place[-1]]

    return change


def texts() -> Iterator[Hostile]:
    """Files that are not JSON, or JSON that is not a record."""
    for name, text in {
        "empty": b"",
        "one byte": b"{",
        "a word": b"record",
        "noise": bytes(range(256)) * 4,
        "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
        "zeros": b"\x00" * 5_000,
        "UTF-16": '{"record_id": "x"}'.encode("utf-16"),
        "Latin-1": b'{"record_id": "caf\xe9"}',
        "a list": b"[]",
        "a number": b"1",
        "null": b"null",
        "a string": b'"record"',
        "an empty object": b"{}",
        "a deep list": b"[" * 100_000,
        "a deep object": b'{"a":' * 50_000,
        "a closed deep list": b"[" * 500 + b"]" * 500,
        "a number of 5,000 digits": b'{"seed": ' + b"9" * 5_000 + b"}",
        "17 MB": b" " * 17_000_000 + b"{}",
        "an HTML page": b"<!doctype html><title>404</title>",
        "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
        "a conflict of git": b"<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> other\n",
    }.items():
        yield Hostile(name, lambda root, text=text: write(root, text))

    def of(make: Callable[[str], str | bytes]) -> Callable[[Path], Path]:
        def put(root: Path) -> Path:
            record = with_id(content(root))
            return write(root, make(json.dumps(record)), record["record_id"])

        return put

    yield Hostile("half", of(lambda text: text[: len(text) // 2]))
    yield Hostile("all but the last character", of(lambda text: text[:-1]))
    yield Hostile("twice", of(lambda text: text * 2))
    yield Hostile("a comment", of(lambda text: text + " // good"))
    yield Hostile("a byte order mark", of(lambda text: b"\xef\xbb\xbf" + text.encode()))
    yield Hostile("a list of one record", of(lambda text: f"[{text}]"))
    yield Hostile("a key twice", of(lambda text: text.replace('"preset"', '"preset": "paper", "preset"')), NOBODY)
    yield Hostile("other blanks", of(lambda text: "\n\t " + text.replace(", ", " ,\r\n")), NOBODY)


def versions() -> Iterator[Hostile]:
    """Schema versions that this saebench does not read, and fields that it does not know."""
    for version in (2, 99, 2**70):
        yield Hostile(f"schema version {version}", changed(at("schema_version", value=version)), says="newer saebench")
    for other in (0, -1, True, "1", 1.0, None, [1]):
        yield Hostile(f"schema version {other!r}", changed(at("schema_version", value=other)), says="schema version")
    for place in (("future",), ("sae", "future"), ("provenance", "future"), ("measurements", 0, "future")):
        name = ".".join(map(str, place))
        yield Hostile(f"an unknown field {name}", changed(at(*place, value=1)), says="newer saebench")
    yield Hostile("an unknown field of the identity", changed(at("identity", "future", value=1)), says="newer saebench")


def ids() -> Iterator[Hostile]:
    """Ids that do not fit."""

    def edited(root: Path) -> Path:
        record = with_id(content(root))
        record["identity"]["seed"] = 5
        return put_record(root, record)

    def misnamed(root: Path) -> Path:
        return write(root, json.dumps(with_id(content(root))), NO_ID)

    yield Hostile("an identity that was edited", edited, says="its identity gives")
    yield Hostile("another file name", misnamed, says="it holds the record")
    for value in ("../../../etc/passwd", "0" * 16, "", "\0", None, 7, "A" * 16, "0" * 1_000_000):
        name = f"the id {str(value)[:30]!r}"
        yield Hostile(name, lambda root, value=value: write(root, json.dumps(content(root) | {"record_id": value})))


def types() -> Iterator[Hostile]:
    """Values of wrong types, and missing ones."""
    for place in ("record_id", "preset", "status", "identity", "sae", "provenance"):
        yield Hostile(f"no {place}", lambda root, key=place: write(root, json.dumps(_without(content(root), key))))
    for inner in (("identity", "seed"), ("identity", "data"), ("sae", "hook"), ("provenance", "created")):
        yield Hostile(f"no {'.'.join(inner)}", changed(without(*inner)))
    for place, value in (
        (("identity",), []),
        (("identity", "parameters"), [1]),
        (("identity", "parameters"), None),
        (("identity", "seed"), "0"),
        (("identity", "seed"), 0.0),
        (("identity", "seed"), True),
        (("identity", "task"), 3),
        (("identity", "task_version"), "1"),
        (("identity", "data"), {"text": 5}),
        (("identity", "data"), []),
        (("sae",), "zoo:x"),
        (("sae", "control"), "yes"),
        (("sae", "d_sae"), 64.5),
        (("sae", "name"), None),
        (("sae", "notes"), []),
        (("measurements",), {}),
        (("measurements",), [1]),
        (("measurements", 0, "value"), "0.5"),
        (("measurements", 0, "value"), True),
        (("measurements", 0, "value"), [0.5]),
        (("measurements", 0, "metric"), None),
        (("measurements", 0, "n"), 1.5),
        (("measurements", 0, "n"), "20"),
        (("counts",), {"tokens": 1.5}),
        (("counts",), {"tokens": True}),
        (("counts",), {"tokens": None}),
        (("status",), "great"),
        (("status",), 0),
        (("error",), None),
        (("provenance", "packages"), {"torch": 2}),
        (("provenance", "wall_seconds"), "1"),
        (("units",), {"sequence": "x"}),
        (("arrays_sha256",), 5),
        (("arrays_sha256",), "zz"),
    ):
        yield Hostile(f"{'.'.join(map(str, place))} = {value!r}", changed(at(*place, value=value)))


def numbers() -> Iterator[Hostile]:
    """Numbers that no sum, date or table survives."""
    number = ("measurements", 0)
    for literal in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999"):
        yield Hostile(f"the value {literal}", replaced('"value": 0.5', f'"value": {literal}'))
    for key in ("stderr", "ci_low", "ci_high", "n"):
        yield Hostile(f"{key} NaN", changed(at(*number, key, value=float("nan"))))
    for value in (1e308, -1e308, 1e76, 2**63):
        yield Hostile(f"the value {value!r}", changed(at(*number, "value", value=value)))
    yield Hostile("an interval of 1e308", changed(lambda r: r["measurements"][0].update(ci_low=-1e308, ci_high=1e308)))
    yield Hostile("a standard error of 1e100", changed(at(*number, "stderr", value=1e100)))
    yield Hostile("a negative standard error", changed(at(*number, "stderr", value=-0.1)))
    yield Hostile("an interval that ends before it begins", changed(at(*number, "ci_low", value=0.7)))
    for place in (
        ("identity", "seed"),
        ("identity", "task_version"),
        ("sae", "d_sae"),
        ("sae", "d_in"),
        (*number, "n"),
    ):
        for value in (2**63, -(2**63) - 1, 10**400):
            name = f"{'.'.join(map(str, place))} of {value.bit_length()} bits" + (" below zero" if value < 0 else "")
            yield Hostile(name, changed(at(*place, value=value)), says="64 bits")
    for place in (("sae", "d_sae"), ("sae", "d_in"), (*number, "n"), ("identity", "task_version")):
        yield Hostile(f"{'.'.join(map(str, place))} of -1", changed(at(*place, value=-1)))
    yield Hostile("task version 0", changed(at("identity", "task_version", value=0)))
    for value in (-1, 2**63):
        yield Hostile(f"{value} tokens", changed(at("counts", value={"tokens": value})))
    for value in (-5.0, 1e308, float("nan")):
        yield Hostile(f"an L0 of {value}", changed(at("sae", "l0", value=value)))
    for value in (-1.0, 1e308, float("inf")):
        yield Hostile(f"{value} seconds", changed(at("provenance", "wall_seconds", value=value)))
    yield Hostile("NaN among the parameters", changed(at("identity", "parameters", "scale", value=float("nan"))))
    yield Hostile("infinity among the parameters", changed(at("identity", "parameters", "s", value=[float("inf")])))
    yield Hostile("a huge integer among the parameters", changed(at("identity", "parameters", "scale", value=2**64)))
    yield Hostile("NaN among the notes", changed(at("notes", value={"a": [{"b": float("nan")}]})))
    yield Hostile("one metric twice", changed(lambda r: r["measurements"].append(dict(r["measurements"][0]))))
    for date in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1969-12-31T00:00:00Z", "9999-12-31T23:59:59-23:59"):
        yield Hostile(f"made at {date}", changed(at("provenance", "created", value=date)), says="year")
    yield Hostile("made at a naive time", changed(at("provenance", "created", value="2026-01-01T00:00:00")))
    for odd in (
        "2026-02-30T00:00:00Z",
        "yesterday",
        "",
        0,
        1e18,
        "2026-01-01T25:00:00Z",
        None,
        "10000-01-01T00:00:00Z",
    ):
        yield Hostile(f"made at {odd!r}", changed(at("provenance", "created", value=odd)))
    for value in (5e-324, 0, -0.0, None, 1e70):
        yield Hostile(f"the odd value {value!r}", changed(_alone(value)), NOBODY)
    for key, value in (("seed", -(2**63)), ("seed", 2**63 - 1), ("task_version", 99)):
        yield Hostile(f"{key} {value}", changed(at("identity", key, value=value)), NOBODY)
    yield Hostile("made at the other end of the world", changed(_made("2199-12-31T23:59:59+23:59")), NOBODY)


def names() -> Iterator[Hostile]:
    """Texts that are no text, that never end, or that give commands."""
    yield Hostile("half a surrogate pair in a name", changed(at("sae", "name", value="zoo:\ud800")), says="surrogate")
    yield Hostile("half a surrogate pair in the identity", changed(at("identity", "sae", value="\udcff")))
    yield Hostile("half a surrogate pair in a key", changed(at("notes", value={"\udfff": 1})))
    for place in (("sae", "name"), ("sae", "hook"), ("identity", "model"), ("identity", "task"), ("preset",)):
        yield Hostile(f"{'.'.join(place)} of 1 MB", changed(at(*place, value="x" * 1_000_000)), says="characters")
    for key in ("metric", "subset", "unit", "contributions"):
        yield Hostile(f"a {key} of 1 MB", changed(at("measurements", 0, key, value="x" * 1_000_000)), says="characters")
    yield Hostile("an error of 1 MB", changed(at("error", value="x" * 1_000_000)), says="characters")
    yield Hostile("a key of 1 MB", changed(at("notes", value={"x" * 1_000_000: 1})), says="characters")
    yield Hostile("a name of 6,000 characters", changed(at("sae", "name", value="x" * 6_000)), says="characters")
    for what, text in {
        "ESC": "zoo:\x1b[31mred\x1b]0;title\x07",
        "a line break": "zoo:a\nzoo:b",
        "NUL": "zoo:\0",
        "bars": "zoo:|a|b|",
        "HTML": "zoo:<script>alert(1)</script>",
        "a formula": '=HYPERLINK("http://x","y")',
        "a text that runs backwards": "zoo:\u202eabc",
        "nothing": "",
        "a path out of the folder": "../../../../etc/passwd",
        "blanks": "   ",
        "LaTeX": r"\input{/etc/passwd}",
        "a shell command": "$(touch EXECUTED); `touch EXECUTED`",
    }.items():
        for place in (("sae", "name"), ("identity", "sae"), ("sae", "hook")):
            yield Hostile(f"{what} as {'.'.join(place)}", changed(at(*place, value=text)), NOBODY)
    for key in ("metric", "subset", "unit"):
        value = "SAE" if key == "metric" else "\x1b[2J"
        yield Hostile(f"{value!r} as {key}", changed(at("measurements", 0, key, value=value)), NOBODY)
    yield Hostile("ESC in the error of a failure", changed(_failed("\x1b[2J\x1b[31m")), NOBODY)
    yield Hostile("a task that nobody has", changed(at("identity", "task", value="../nosuch")), NOBODY)
    yield Hostile("a preset that nobody has", changed(at("preset", value="../nosuch")), NOBODY)
    yield Hostile("a failed SAE of unknown width", changed(_failed("weights hold NaN")), NOBODY)
    yield Hostile("not applicable without a reason", changed(_failed("", "not_applicable")), NOBODY)
    yield Hostile("ok without numbers", changed(at("measurements", value=[])), NOBODY)
    yield Hostile("failed with numbers", changed(at("status", value="failed")), NOBODY)
    yield Hostile("parameters inside each other", changed(at("identity", "parameters", "a", value=_nested(40))), NOBODY)
    yield Hostile("parameters deep inside each other", changed(at("identity", "parameters", "a", value=_nested(90))))


def hostile() -> list[Hostile]:
    """Return all of them."""
    return [*texts(), *versions(), *ids(), *types(), *numbers(), *names()]


def _without(record: Json, key: str) -> Json:
    return {name: value for name, value in record.items() if name != key}


def _alone(value: float | None) -> Callable[[Json], None]:
    """Return a change that leaves one number without interval and contributions."""
    return lambda record: record.update(measurements=[{"metric": "fvu", "value": value, "unit": "sequence"}])


def _made(date: str) -> Callable[[Json], None]:
    return at("provenance", "created", value=date)


def _failed(error: str, status: str = "failed") -> Callable[[Json], None]:
    def change(record: Json) -> None:
        record.update(status=status, error=error, measurements=[])
        record["sae"].update(architecture="", d_in=0, d_sae=0, l0=None)

    return change


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value
