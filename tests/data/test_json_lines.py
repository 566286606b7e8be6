import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.data.json_lines import read_json_lines
from saebench.errors import DataError

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
VALUES = TEXT | st.integers() | st.booleans() | st.none() | st.lists(TEXT, max_size=3)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("json") / "rows.jsonl"


def written(path, content):
    path.write_bytes(content)
    return path


@given(st.lists(st.dictionaries(TEXT, VALUES, max_size=3)))
def test_rows_are_read_as_they_were_written(scratch, rows):
    lines = "\n\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    read = list(read_json_lines(written(scratch, lines.encode())))
    assert [row.fields for row in read] == rows
    assert [row.where for row in read] == [f"{scratch}, line {1 + 2 * number}" for number in range(len(rows))]


def test_white_space_and_byte_order_marks(scratch):
    content = b'\xef\xbb\xbf\n\xef\xbb\xbf {"a": "x\\u2028y"}\r\n \t\n\xc2\xa0\n{"a": "z"}'
    rows = list(read_json_lines(written(scratch, content)))
    assert [(row.text("a"), row.where[-6:]) for row in rows] == [("x\u2028y", "line 2"), ("z", "line 5")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": "caf\xe9"}', "byte 10 is not UTF-8; convert"),
        (b'{"a": "x"', r"this is not valid JSON \(.*, column 10\)"),
        (b"[" * 100_000, "this JSON cannot be used"),
        (b'{"a": ' + b"1" * 5000 + b"}", "this JSON cannot be used"),
        (b"[1]", "must hold a JSON object, but this one holds a list"),
        (b'"x"', "must hold a JSON object, but this one holds a text"),
        (b"null", "must hold a JSON object, but this one holds null"),
        (b"true", "must hold a JSON object, but this one holds a truth value"),
    ],
)
def test_what_is_not_an_object_names_file_and_line(scratch, line, message):
    with pytest.raises(DataError, match=rf"rows\.jsonl, line 2: .*{message}"):
        list(read_json_lines(written(scratch, b'{"a": 1}\n' + line + b"\n")))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"aa": "x"}', r"the field 'a' is missing\. Did you mean 'aa'\? Give it\.$"),
        (b"{}", r"the field 'a' is missing\. Give it\.$"),
        (b'{"a": null}', r"the field 'a' must be a text, not null\.$"),
        (b'{"a": 1.5}', r"the field 'a' must be a text, not a number\.$"),
        (b'{"a": {}}', r"the field 'a' must be a text, not an object\.$"),
        (b'{"a": "\\ud800"}', r"the field 'a' holds half a surrogate pair"),
    ],
)
def test_what_is_not_a_text_names_file_and_line(scratch, line, message):
    (row,) = read_json_lines(written(scratch, line))
    with pytest.raises(DataError, match=rf"rows\.jsonl, line 1: {message}"):
        row.text("a", "Give it.")


def test_a_missing_field_without_a_hint(scratch):
    (row,) = read_json_lines(written(scratch, b'{"b": 1}'))
    assert row.value("b") == 1
    with pytest.raises(DataError, match=r"the field 'target' is missing\.$"):
        row.value("target")


def test_a_file_that_cannot_be_read(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="Cannot read"):
            list(read_json_lines(path))
