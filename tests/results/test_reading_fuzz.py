"""A record with any one value replaced by any JSON value: it is left out or shown, and no reader ends."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saebench.cards.registry import registry
from saebench.leaderboard.board import Board
from saebench.leaderboard.data import build
from saebench.leaderboard.render import to_csv, to_json, to_markdown
from saebench.results import compare, compare_text, every_eval_ever, table
from saebench.results.named import Results
from saebench.results.record import Record
from saebench.results.record_file import NotARecordError, parse_record
from saebench.results.store import ResultStore
from tests.results.conftest import make_identity, make_number, make_record

ANY = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from([10**400, -(2**63) - 1, 2**63, 1e308, -1.0, 5e-324, "\ud800", "\0", "\x1b[2J", "../..", "NaN"]),
        st.sampled_from(
            ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-01-01T00:00:00", "ok", "failed", "core"]
        ),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*place, key)
        yield from places(item, (*place, key))


def good(sae: str, shift: float) -> tuple[Record, dict[str, np.ndarray]]:
    card = registry().card("core")
    who = make_identity(sae=sae, task_version=card.version, parameters=card.resolve("quick"))
    values = np.linspace(0.1, 0.9, 12) + shift
    mean = float(values.mean())
    numbers = [
        make_number("fvu", mean, mean - 0.1, mean + 0.1, stderr=0.05, n=12, contributions="fvu"),
        make_number("l0", 32.0 + shift, n=12, subset=""),
    ]
    return make_record(who, measurements=numbers), {"fvu.num": values, "fvu.den": np.ones(12)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fuzz")
    for sae, shift in (("zoo:a", 0.0), ("zoo:b", 0.1)):
        ResultStore(root).write(*good(sae, shift))
    return root


@pytest.fixture(scope="module")
def path(root: Path) -> Path:
    """A third record, which is changed."""
    return ResultStore(root).write(*good("zoo:c", 0.2))


def change(data: st.DataObject, content: Any, times: int) -> None:
    for _ in range(times):
        place = data.draw(st.sampled_from(sorted(places(content), key=str)))
        parent = content
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = data.draw(ANY)


@settings(max_examples=150)
@given(data=st.data())
def test_any_value_anywhere(data: st.DataObject, root: Path, path: Path):
    original = path.read_bytes()
    content = json.loads(original)
    change(data, content, data.draw(st.integers(1, 3)))
    try:
        path.write_text(json.dumps(content), "utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read_all(root)
    finally:
        path.write_bytes(original)


def read_all(root: Path) -> None:
    results = Results([root])
    assert {record.identity.sae for record in results.records} >= {"zoo:a", "zoo:b"}
    frame = table.from_records(results.records)
    for format_ in ("csv", "json", "parquet"):
        assert table.export(frame, format_)
    for wide in table.to_wide(frame):
        assert wide.to_markdown()
        assert table.export(wide, "latex")
    for record in results.records:
        log = every_eval_ever.to_log(record, "nobody")
        assert log is None or json.dumps(log, allow_nan=False).encode()
        assert not every_eval_ever.path_of(record).is_absolute()
    of_a, *others = ([results.measured_or_damage(record)] for record in results.records)
    for other in others:
        comparison = compare.compare(of_a, other, subsets=True, replicates=50)
        if comparison.lines():
            assert compare_text.to_text(comparison)
            assert compare_text.to_json(comparison)
    board = Board.model_validate({"name": "b", "title": "t", "description": "d", "tasks": {"core": None}})
    data = build(board, results)
    rows = [row["sae"] for stratum in data["strata"] for row in stratum["rows"]]
    assert {"zoo:a", "zoo:b"} <= set(rows)
    assert to_markdown(data).encode()
    assert to_csv(data).encode()
    assert to_json(data).encode()


@settings(max_examples=400)
@given(data=st.data())
def test_what_is_read_can_be_written(data: st.DataObject, path: Path):
    """The rules of reading and writing are the same."""
    content = json.loads(path.read_bytes())
    change(data, content, 1)
    try:
        record = parse_record(json.dumps(content).encode("utf-8", "surrogatepass"))
    except NotARecordError:
        return
    assert parse_record(record.model_dump_json().encode()) == record


@given(content=st.binary(max_size=200))
def test_any_bytes(content: bytes):
    with pytest.raises(NotARecordError):
        parse_record(content)
