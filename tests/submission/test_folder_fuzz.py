"""A record with any one value replaced by any JSON: there is an answer, never an exception."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saebench.cards.registry import registry
from saebench.results.store import ResultStore
from saebench.submission.folder import FolderReport, check_folder
from tests.results.conftest import make_identity, make_number, make_record


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*place, key)
        yield from places(item, (*place, key))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    card = registry().card("core")
    who = make_identity(task_version=card.version, parameters=card.resolve("quick"))
    numbers = [make_number("fvu", 0.2, 0.1, 0.3, stderr=0.05, n=3, contributions="fvu"), make_number("l0", 32.0)]
    root = tmp_path_factory.mktemp("fuzz")
    arrays = {"fvu.num": np.array([1.0, 2.0, 3.0]), "fvu.den": np.full(3, 10.0)}
    return ResultStore(root).write(make_record(who, measurements=numbers), arrays)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([10**400, -1, [], {}, [[]], {"": 1}, "\ud800", "\0", "../..", "NaN"]),
)


def check(written: Path) -> FolderReport:
    return check_folder(written.parents[4])


@settings(max_examples=120)
@given(data=st.data())
def test_any_value_anywhere(data: st.DataObject, written: Path):
    original = written.read_bytes()
    content = json.loads(original)
    place = data.draw(st.sampled_from(sorted(places(content), key=str)))
    parent = content
    for key in place[:-1]:
        parent = parent[key]
    before, parent[place[-1]] = parent[place[-1]], data.draw(VALUES)
    identity = place[0] in ("identity", "record_id") and json.dumps(before) != json.dumps(parent[place[-1]])
    try:
        written.write_text(json.dumps(content), "utf-8")
        report = check(written)
    finally:
        written.write_bytes(original)
    assert report.records == 1
    if identity:  # whatever it is, the id no longer fits
        assert report.errors


def test_the_record_is_right_as_it_is(written: Path):
    assert check(written).findings == ()
