"""The hash of units is equal for equal content in the same order, and for nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from saebench.results.record import Record
from saebench.results.units import other_units, units_hash
from tests.results.conftest import make_record

VALUES = st.recursive(
    st.text() | st.integers() | st.booleans(), lambda inner: st.lists(inner, max_size=4), max_leaves=8
)


@given(VALUES, VALUES)
def test_the_hash_is_equal_for_equal_content_only(a: Any, b: Any):
    same = repr(a) == repr(b)  # True == 1 in Python, but not in JSON
    assert (units_hash(a) == units_hash(b)) is same


def test_order_boundaries_and_broken_text_count():
    assert units_hash(["a", "b"]) != units_hash(["b", "a"])
    assert units_hash(["ab", "c"]) != units_hash(["a", "bc"])
    assert units_hash(["\ud800"]) != units_hash(["\ud801"])
    assert len(units_hash("x")) == 64


def test_the_definition_does_not_change():
    """Records keep these hashes, so another definition would make old and new records differ."""
    assert units_hash(["one", 2]) == "60c96d529572a7460e211aa5db0a37eaa83eb2a0f99d5e8390d283dd95543da9"


@pytest.mark.parametrize(
    ("a", "b", "kinds"),
    [
        ({}, {"sequence": "1"}, []),
        ({"sequence": "1"}, {"sequence": "1", "question": "2"}, []),
        ({"sequence": "1", "question": "2"}, {"sequence": "3", "question": "2"}, ["sequences"]),
        ({"sequence": "1", "question": "2"}, {"sequence": "3", "question": "4"}, ["questions", "sequences"]),
    ],
)
def test_only_kinds_that_both_name_can_differ(a: dict[str, str], b: dict[str, str], kinds: list[str]):
    sentences = [
        f"They were measured on different {kind}, although data, settings and seed are the same." for kind in kinds
    ]
    assert other_units(a, b) == other_units(b, a) == sentences


def test_a_record_without_units_is_readable_and_one_with_units_names_hashes():
    record = make_record()
    assert Record.model_validate_json(record.model_dump_json(exclude={"units"})) == record
    assert record.units == {}
    with pytest.raises(ValidationError):
        Record.model_validate({**record.model_dump(), "units": {"sequence": "no hash"}})
