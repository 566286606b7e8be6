"""LaTeX of tables, whatever names and error texts hold."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.results import table
from tests.results.conftest import VERSION, make_identity, make_number, make_record

HOSTILE = st.text(st.sampled_from(list("&%$#_{}~^\\|\n\r\t\0ab \u202e\u2028↑é")) | st.characters(codec="utf-8"))


def test_rules_of_booktabs_and_short_numbers():
    latex = table.to_latex(pd.DataFrame({"SAE": ["a_b"], "fvu ↓": [1 / 3], "n": pd.array([None], "Int64")}))
    assert latex.splitlines() == [
        r"\begin{tabular}{lll}",
        r"\toprule",
        r"SAE & fvu $\downarrow$ & n \\",
        r"\midrule",
        r"a\_b & 0.3333 &  \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("50% & more", r"50\% \& more"),
        ("a\nb\\\\c", r"a b\textbackslash \textbackslash c"),
        ("#$_{}", r"\#\$\_\{\}"),
        ("x^2~y", r"x\textasciicircum 2\textasciitilde y"),
    ],
)
def test_escaping(text: str, escaped: str):
    assert f"{escaped} \\\\\n\\bottomrule" in table.to_latex(pd.DataFrame({"SAE": [text]}))


@given(texts=st.lists(HOSTILE, min_size=1, max_size=4), header=HOSTILE)
def test_no_text_leaves_its_cell(texts: list[str], header: str):
    """Whatever the text: a line per row, a cell per column, no open brace, no comment, no control character."""
    latex = table.to_latex(pd.DataFrame({header: texts, "end": [1.0] * len(texts)}))
    lines = latex.splitlines()
    assert len(lines) == len(texts) + 6
    for line in [lines[2], *lines[4:-2]]:
        plain = re.sub(r"\\[&%$#_{}]", "", line.replace(r"$\uparrow$", "").replace(r"$\downarrow$", ""))
        assert plain.count("&") == 1
        assert plain.endswith(r"\\")
        assert not set("%$#_{}") & set(plain)
        assert line.isprintable()


def test_wide_table_has_its_caption_as_comment():
    frame = table.from_records([make_record(make_identity(model="m\n\\evil"), measurements=[make_number("fvu", 0.1)])])
    [wide] = table.to_wide(frame)
    lines = table.export(wide, "latex").decode().splitlines()
    assert lines[0].startswith(f"% core v{VERSION} · preset quick · m \\evil · ")
    assert lines[1].startswith(r"\begin{tabular}")


def test_long_table():
    frame = table.from_records([make_record(measurements=[make_number("fvu", 0.1)])])
    assert table.export(frame, "latex").decode().count("&") == 2 * (len(table.COLUMNS) - 1)
