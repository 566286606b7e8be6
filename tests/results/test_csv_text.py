"""CSV holds no formula and forges no row, and reads back exactly."""

from __future__ import annotations

import csv
import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.results import csv_text

TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from(list("=+-@'\t\r\n\",; 1\u200b\uff1d")))


@pytest.mark.parametrize(
    "text",
    [
        "=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\tx", " =1", "\u200b=1", "\ufeff=1", "\xa0=1",
        "\uff1d1", "\uff0dx", "'=1", "'", "-", "=cmd|' /C calc'!A0", "-0.5 [=1, 2]", "\n",
    ],
)  # fmt: skip
def test_a_formula_becomes_text_and_reads_back(text):
    written = csv_text.write(["a", text], [["x", text]])
    for row in csv.reader(io.StringIO(written, newline="")):
        assert row[1] == f"'{text}"
    assert csv_text.read(written) == [{"a": "x", text: text}]


@pytest.mark.parametrize("text", ["-0.5", "+1e-05", "-1,234.5", "-0.905 [-0.912, -0.897]", "-1.2e+08 [-2.0e+08, 0]"])
def test_numbers_stay_numbers(text):
    assert text in csv_text.write(["a"], [[text]]).replace('"', "").splitlines()


def test_values_that_are_no_text():
    row = [-0.1, 1 / 3, -2, True, None, float("nan"), pd.NA, pd.Timestamp("2026-01-02T03:04:05Z")]
    assert csv_text.write([*"abcdefgh"], [row]).splitlines()[1] == (
        "-0.1,0.3333333333333333,-2,True,,,,2026-01-02T03:04:05.000000+0000"
    )


@given(st.lists(st.tuples(TEXT, TEXT), max_size=4))
def test_every_text_reads_back(rows):
    written = csv_text.write(["one", "two"], rows)
    assert csv_text.read(written) == [{"one": one, "two": two} for one, two in rows]
    lines = list(csv.reader(io.StringIO(written, newline="")))
    assert len(lines) == len(rows) + 1
    for cell in (cell for line in lines for cell in line):
        assert not cell.lstrip().startswith(("=", "@"))


def test_half_a_surrogate_pair_is_escaped():
    csv_text.write(["a"], [["\ud800"]]).encode()


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="argument 2 is"):
        csv_text.read("a,b\n1\n")
