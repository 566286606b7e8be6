"""Texts and labelled data in CSV, Parquet and plain text, and the references that name files."""

import gzip
import json

import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from saebench.data import parquet as parquet_module
from saebench.data import source
from saebench.data.labelled import load_labelled
from saebench.data.labelled_ref import parse_labelled_ref, short_name
from saebench.data.probes import check_dataset_name
from saebench.data.text import load_documents
from saebench.data.text_ref import FileText, PlainText, parse_text_ref, short_text_name
from saebench.errors import DataError, UsageError

TEXTS = ["one", "zwei, drei", 'vier "fünf"\nsechs', "one"]


@pytest.fixture
def table(tmp_path):
    """Write a Parquet file from columns."""

    def write(columns, name="table.parquet", **options):
        path = tmp_path / name
        parquet.write_table(pa.table(columns), path, **options)
        return path

    return write


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "brotli", "lz4"])
@pytest.mark.parametrize(
    "type_", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_texts_of_a_parquet_file(table, compression, type_):
    column = pa.array(TEXTS).cast(type_) if type_ != pa.string() else pa.array(TEXTS)
    documents = load_documents(f"parquet:{table({'id': [1, 2, 3, 4], 'text': column}, compression=compression)}")
    assert documents.texts == TEXTS[:3]
    assert documents.n_duplicates == 1


def test_the_order_of_many_rows_in_several_groups(table):
    texts = [f"text {number}" for number in range(5000)]
    path = table({"body": texts}, row_group_size=700, use_dictionary=False)
    assert load_documents(f"parquet:{path}:body").texts == texts


def test_a_field_of_a_column(table):
    path = table({"prompt": [{"text": "a", "n": 1}, {"text": "b", "n": 2}], "text": ["x", "y"]})
    assert load_documents(f"parquet:{path}:prompt.text").texts == ["a", "b"]
    with pytest.raises(DataError, match=r"no column 'prompt'\. Did you mean 'prompt\.text'\?"):
        load_documents(f"parquet:{path}:prompt")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"texts": ["a"]}, r"has no column 'text'\. Did you mean 'texts'\? Its columns are texts\."),
        ({"text": [1, 2]}, "row 1: the field 'text' must be a text, not a number"),
        ({"text": ["a", None]}, "row 2: the field 'text' must be a text, not null"),
        ({"text": [["a"], ["b"]]}, "has no column 'text'"),
        ({"text": [b"a"]}, "row 1: the field 'text' must be a text, not of the type bytes"),
        ({"text": pa.array([], pa.string())}, "no usable document"),
    ],
)
def test_parquet_files_without_texts(table, columns, message):
    with pytest.raises(DataError, match=message):
        load_documents(f"parquet:{table(columns)}")


def test_texts_that_are_not_utf_8_in_a_parquet_file(table):
    broken = pa.array([b"\xff\xfe"]).cast(pa.binary()).view(pa.string())
    with pytest.raises(DataError, match=r"cannot be read as Parquet \(.*UTF8.*\)"):
        load_documents(f"parquet:{table({'text': broken})}")


def test_a_small_parquet_file_that_stands_for_a_huge_table(table, monkeypatch):
    """A text of a megabyte, which is in the file once, and ten thousand references to it."""
    path = table({"text": pa.DictionaryArray.from_arrays([0] * 10_000, ["a" * 10**6])})
    assert path.stat().st_size < 10**6
    for module in (source, parquet_module):
        monkeypatch.setattr(module, "most_bytes", lambda: 10**9)
    with pytest.raises(DataError, match=r"holds more than 1\.0 GB of text"):
        load_documents(f"parquet:{path}")


def test_flipped_bits_and_truncations_of_a_parquet_file(table):
    path = table({"text": [f"text {number}" for number in range(50)]})
    good = path.read_bytes()
    for bit in range(0, 8 * len(good), 61):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(data))
        try:
            load_documents(f"parquet:{path}")
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017
    for length in range(0, len(good), 29):
        path.write_bytes(good[:length])
        with pytest.raises(DataError):
            load_documents(f"parquet:{path}")


def test_what_is_no_parquet_file(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match="is not a Parquet file; give a file of JSON Lines as 'jsonl:"):
        load_documents(f"parquet:{path}")


# ---------------------------------------------------------------- CSV and plain text


def test_texts_of_a_csv_file(tmp_path):
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b'id,text,body\n1,one,"a\nb"\n2,"zwei, drei",c\n'))
    assert load_documents(f"csv:{path}").texts == ["one", "zwei, drei"]
    assert load_documents(f"csv:{path}:body").texts == ["a\nb", "c"]
    with pytest.raises(DataError, match=r"has no column 'bodi'\. Did you mean 'body'\? It needs 'bodi'"):
        load_documents(f"csv:{path}:bodi")


def test_columns_that_are_separated_by_something_else(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("prompt;target\na;b\n")
    with pytest.raises(DataError, match="Its columns are separated by ';'; separate them by commas"):
        load_labelled(f"csv:{path}")


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_plain_text_is_divided_at_empty_lines(tmp_path, pack, end):
    lines = [
        "",
        "The first.",
        "  Its second line.",
        "",
        " \t",
        "",
        "The second.",
        "",
        "The first.",
        "  Its second line.",
    ]
    path = tmp_path / "x.txt"
    path.write_bytes(pack(end.join(lines).encode("utf-8-sig")))
    documents = load_documents(f"txt:{path}")
    assert documents.texts == ["The first.\n  Its second line.", "The second."]
    assert documents.n_duplicates == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"caf\xe9\n", "line 1: this is not UTF-8"),
        ("two\nlines".encode("utf-16-le"), "line 1: there is a zero byte"),
        (b"\n \n", "no usable document"),
        (b"PAR1" + bytes(9), "is a Parquet file; give 'parquet:"),
    ],
)
def test_what_is_no_plain_text(tmp_path, data, message):
    path = tmp_path / "x.txt"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        load_documents(f"txt:{path}")


# ---------------------------------------------------------------- labelled data


def test_labelled_data_in_every_format(tmp_path, table):
    rows = [("good film", 1), ("bad film", 0), ("fine, really", 1)]
    lines = "".join(json.dumps({"prompt": prompt, "target": target}) + "\n" for prompt, target in rows)
    (tmp_path / "x.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
    content = "prompt,target\n" + "".join(f'"{prompt}",{target}\n' for prompt, target in rows)
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(content.encode("utf-16")))
    path = table(
        {"prompt": [prompt for prompt, _ in rows], "target": [target for _, target in rows], "more": [None] * 3}
    )
    loaded = [load_labelled(f"{scheme}:{file}") for scheme, file in
              (("jsonl", tmp_path / "x.jsonl.zst"), ("csv", tmp_path / "x.csv.gz"), ("parquet", path))]  # fmt: skip
    assert len({data.content_hash for data in loaded}) == 1
    assert loaded[0].texts == [prompt for prompt, _ in rows]


# ---------------------------------------------------------------- references


@pytest.mark.parametrize(
    ("name", "content", "scheme"),
    [
        ("x.parquet", b"PAR1", "parquet"),
        ("odd", b"PAR1", "parquet"),
        ("x.csv", b"a,b\n", "csv"),
        ("x.csv.gz", gzip.compress(b"a,b\n"), "csv"),
        ("x.jsonl", b'{"text": "a"}\n', "jsonl"),
        ("odd.txt", b'\xef\xbb\xbf\n {"text": "a"}\n', "jsonl"),
        ("x.jsonl.gz", gzip.compress(b'{"text": "a"}\n'), "jsonl"),
        ("x.txt", b"Words.\n", "txt"),
        ("x.txt.zst", zstandard.compress(b"Words.\n"), "txt"),
    ],
)
def test_a_file_without_a_scheme_is_told_its_reference(tmp_path, name, content, scheme):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        parse_text_ref(str(path))
    assert f" It is a file; write '{scheme}:{path}'. Give " in str(caught.value)
    parse_text_ref(f"{scheme}:{path}")
    with pytest.raises(UsageError) as caught:
        parse_labelled_ref(str(path))
    assert (f"write '{scheme}:{path}'" in str(caught.value)) is (scheme != "txt")


def test_names_in_records_have_no_endings(tmp_path):
    for name in ("news.jsonl", "news.jsonl.gz", "news.zst", "news.csv.zst", "news"):
        path = tmp_path / name
        path.write_text("")
        assert short_text_name(f"jsonl:{path}") == short_text_name(f"txt:{path}") == "news"
        assert short_text_name(f"csv:{path}:body") == "news:body"
        assert short_name(f"parquet:{path}") == "news"


def test_the_home_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.jsonl").write_text("")
    assert parse_text_ref("jsonl:~/x.jsonl:a.b") == FileText(tmp_path / "x.jsonl", "a.b")
    assert parse_text_ref("txt:~/x.jsonl") == PlainText(tmp_path / "x.jsonl")
    for ref in ("jsonl:~nouser/x", "txt:~nouser", "csv:\0", "parquet:" + "x" * 5000):
        with pytest.raises(UsageError, match="does not exist"):
            parse_text_ref(ref)


def test_plain_text_has_no_fields(tmp_path):
    (tmp_path / "x.txt").write_text("a\n")
    with pytest.raises(UsageError, match="Plain text has no fields"):
        load_documents(f"txt:{tmp_path / 'x.txt'}", field="body")


def test_a_path_whose_end_looks_like_a_field(tmp_path):
    whole, short = tmp_path / "x.jsonl:y", tmp_path / "x.jsonl"
    whole.write_text("")
    assert parse_text_ref(f"jsonl:{whole}") == FileText(whole)
    short.write_text("")
    assert parse_text_ref(f"jsonl:{whole}") == FileText(short, "y")


def test_a_file_in_the_place_of_a_dataset_of_the_asset_is_told_its_reference(tmp_path):
    (tmp_path / "x.csv").write_text("prompt,target\n")
    with pytest.raises(UsageError, match=r"Unknown dataset .* It is a file; write 'csv:.*x\.csv'\."):
        check_dataset_name(str(tmp_path / "x.csv"))
