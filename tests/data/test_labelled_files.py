import contextlib
import csv
import io
import json
import math
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.data.labelled_files import class_name, read_labelled
from saebench.errors import DataError

# Text as UTF-8 can hold it.
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


read_csv, read_jsonl, read_parquet = (partial(read_labelled, format=name) for name in ("csv", "jsonl", "parquet"))


@pytest.fixture(scope="session")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("files") / "data"


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# ------------------------------------------------------------------ CSV


def test_csv_as_spreadsheets_write_it(scratch):
    text = '\ufeffid,prompt , target,note\r\n1,"two\nlines, ""quoted""", b ,x\r\n\r\n2,NA,NA,\r\n'
    assert list(read_csv(written(scratch, text))) == [('two\nlines, "quoted"', "b"), ("NA", "NA")]


@given(st.lists(st.tuples(TEXT, TEXT.filter(lambda t: t.strip() and t.strip().lower() != "nan"))))
def test_csv_gives_back_what_was_written(scratch, rows):
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([("prompt", "target"), *rows])
    assert list(read_csv(written(scratch, buffer.getvalue()))) == [(p, t.strip()) for p, t in rows]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"text,target\na,1\n", "no column 'prompt'"),
        (b"prompt,targets\na,1\n", r"no column 'target'. Did you mean 'targets'\?"),
        (b"prompt,target,target\na,1,1\n", "has 2 columns called 'target'"),
        (b"prompt,target\na,1\nb,2,3\n", "line 3: the row has 3 fields, but the header has 2"),
        (b'prompt,target\n"a\nb",1\nc\n', "line 4: the row has 1 fields, but the header has 2"),
        (b"prompt,target\na,1\nb,\n", "line 3: the target ''"),
        (b"prompt,target\na,NaN\n", "line 2: the target 'NaN'"),
        (b"prompt,target\na,1\ncaf\xe9,2\n", "line 3: this is not UTF-8"),
        (b'prompt,target\na,1\n"b,2\nc,3\n', "line 3: this is not valid CSV"),
        (b'prompt,target\n"b"c,2\n', "line 2: this is not valid CSV"),
        (b"prompt,target\n" + b"x" * 200_000 + b",1\n", "line 2: this is not valid CSV .*field larger.* JSON Lines"),
    ],
)
def test_bad_csv_names_file_and_line(scratch, content, message):
    with pytest.raises(DataError, match=message) as caught:
        list(read_csv(written(scratch, content)))
    assert str(scratch) in str(caught.value)


# ------------------------------------------------------------------ JSON Lines


@given(st.lists(st.tuples(TEXT, st.integers() | st.booleans())))
def test_jsonl_gives_back_what_was_written(scratch, rows):
    lines = (json.dumps({"prompt": p, "target": t, "more": [None]}, ensure_ascii=False) for p, t in rows)
    assert list(read_jsonl(written(scratch, "\n\r\n".join(lines)))) == [(p, str(t)) for p, t in rows]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"prompt": "caf\xe9", "target": 1}', "line 2: byte 15 is not UTF-8"),
        (b'{"prompt": "x"', "line 2: this is not valid JSON"),
        (b"[1]", "line 2: each line must hold a JSON object, but this one holds a list"),
        (b'{"prompts": "x", "target": 1}', r"line 2: the field 'prompt' is missing. Did you mean 'prompts'\?"),
        (b'{"prompt": "x", "label": 1}', "line 2: the field 'target' is missing"),
        (b'{"prompt": null, "target": 1}', "line 2: the field 'prompt' must be a text, not null"),
        (b'{"prompt": "x", "target": null}', "line 2: the target None names no class"),
        (b'{"prompt": "x", "target": NaN}', "line 2: the target nan names no class"),
        (b'{"prompt": "x", "target": -Infinity}', "line 2: the target -inf names no class"),
        (b'{"prompt": "x", "target": [1]}', r"line 2: the target \[1\] names no class"),
        (b'{"prompt": "x", "target": " "}', "line 2: the target ' ' names no class"),
        (b'{"prompt": "\\ud800", "target": 1}', "line 2: .* surrogate"),
        (b'{"prompt": "x", "target": "\\ud800"}', "line 2: .* surrogate"),
        (b"[" * 100_000, "line 2: "),
        (b'{"prompt": "x", "target": ' + b"1" * 5000 + b"}", "line 2: "),
    ],
)
def test_bad_lines_name_file_and_line(scratch, line, message):
    with pytest.raises(DataError, match=message) as caught:
        list(read_jsonl(written(scratch, b'{"prompt": "fine", "target": 1}\n' + line + b"\n")))
    assert str(scratch) in str(caught.value)


# ------------------------------------------------------------------ both


@given(st.binary(max_size=60) | st.text(alphabet='prompt,tage"{}:[]\n\r 01\\u', max_size=60).map(str.encode))
def test_wild_content_is_rows_or_one_data_error(scratch, content):
    for data in (content, b"prompt,target\n" + content, b'{"prompt": "x", "target": ' + content):
        written(scratch, data)
        for read in (read_csv, read_jsonl, read_parquet):
            with contextlib.suppress(DataError):
                rows = list(read(scratch))
                assert all(isinstance(prompt, str) and name == name.strip() and name for prompt, name in rows)


def test_a_file_that_cannot_be_read(tmp_path):
    for read in (read_csv, read_jsonl, read_parquet):
        with pytest.raises(DataError, match="Cannot read"):
            list(read(tmp_path))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_whole_numbers_are_named_alike(number):
    name = class_name(number, "here")
    assert float(name) == number
    if math.floor(number) == number:
        assert name == class_name(int(number), "here")
