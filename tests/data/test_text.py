import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.data.heldout import zoo_documents
from saebench.data.text import Documents, load_documents
from saebench.data.text_ref import AssetText, FileText, HubText, parse_text_ref
from saebench.errors import DataError, UsageError


@pytest.fixture
def jsonl(tmp_path):
    def write(content, name="texts.jsonl"):
        path = tmp_path / name
        data = content if isinstance(content, bytes) else "".join(json.dumps(row) + "\n" for row in content).encode()
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize(
    ("ref", "parsed"),
    [
        ("asset:sae-probes/97_news_class", AssetText("97_news_class")),
        ("hf:org/name", HubText("org/name")),
        ("hf:org/name@main", HubText("org/name", revision="main")),
        ("hf:name:en:validation:body", HubText("name", config="en", split="validation", field="body")),
        ("hf:name@v1::train[:1000]", HubText("name", revision="v1", split="train[:1000]")),
        ("hf:name:::story", HubText("name", field="story")),
    ],
)
def test_parse(ref, parsed):
    assert parse_text_ref(ref) == parsed


def test_parse_jsonl_field_after_the_last_colon(jsonl):
    plain, colon = jsonl([]), jsonl([], "part:1.jsonl")
    assert parse_text_ref(f"jsonl:{plain}") == FileText(plain, "text")
    assert parse_text_ref(f"jsonl:{plain}:body") == FileText(plain, "body")
    assert parse_text_ref(f"jsonl:{colon}") == FileText(colon, "text")
    assert parse_text_ref(f"jsonl:{colon}:body") == FileText(colon, "body")


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("", "Unknown text reference"),
        ("97_news_class", "Unknown text reference"),
        ("json:x.jsonl", r"Did you mean 'jsonl'\?"),
        ("hf:", "names nothing"),
        ("hf:@main", "Cannot read the text reference"),
        ("hf:a:b:c:d:e", "Cannot read the text reference"),
        ("asset:sae-probe/97_news_class", r"Did you mean 'sae-probes'\?"),
        ("asset:sae-probes/97_new_class", r"Did you mean '97_news_class'\?"),
        ("asset:sae-probes", "Unknown dataset ''"),
        ("asset:gemma-3-270m", "holds no text"),
        ("jsonl:/nowhere/x.jsonl", "does not exist"),
        ("jsonl:" + "x" * 5000, "does not exist"),
    ],
)
def test_bad_references_are_usage_errors(ref, message):
    with pytest.raises(UsageError, match=message):
        parse_text_ref(ref)


@given(st.text(max_size=40))
def test_parsing_never_fails_in_another_way(ref):
    for text in (ref, f"asset:{ref}", f"hf:{ref}", f"jsonl:/nowhere/{ref}"):
        with contextlib.suppress(UsageError):
            parse_text_ref(text)


def test_order_kept_duplicates_and_empty_documents_dropped_and_counted(jsonl):
    rows = [{"text": text} for text in ["b", "", "a", "b", " \n", "a ", "b"]]
    documents = load_documents(f"jsonl:{jsonl(rows)}")
    assert documents.texts == ["b", "a", "a "]
    assert (documents.n_duplicates, documents.n_empty, documents.n_zoo) == (2, 2, 0)


def test_field_and_blank_lines_and_byte_order_mark(jsonl):
    path = jsonl(b'\xef\xbb\xbf{"body": "x\\u2028y"}\n\n{"body": "z"}')
    assert load_documents(f"jsonl:{path}:body").texts == ["x\u2028y", "z"]
    assert load_documents(f"jsonl:{path}", field="body").texts == ["x\u2028y", "z"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "caf\xe9"}', "line 2: byte 13 is not UTF-8"),
        (b'{"text": "x"', "line 2: this is not valid JSON"),
        (b"[1]", "line 2: each line must hold a JSON object, but this one holds a list"),
        (
            b'{"texts": "x"}',
            r"line 2: the field 'text' is missing. Did you mean 'texts'\? Name another one as 'jsonl:PATH:FIELD'.",
        ),
        (b'{"text": null}', "line 2: the field 'text' must be a text, not null"),
        (b'{"text": "\\ud800"}', "line 2: .* surrogate"),
        (b"[" * 100_000, "line 2: "),
        (b'{"text": ' + b"1" * 5000 + b"}", "line 2: "),
    ],
)
def test_bad_lines_are_data_errors_with_file_and_line(jsonl, line, message):
    path = jsonl(b'{"text": "fine"}\n' + line + b"\n")
    with pytest.raises(DataError, match=message) as caught:
        load_documents(f"jsonl:{path}")
    assert str(path) in str(caught.value)


def test_text_without_documents(jsonl):
    with pytest.raises(DataError, match=r"no usable document \(1 empty"):
        load_documents(f"jsonl:{jsonl([{'text': ' '}])}")


def test_asset_text_leaves_out_what_the_zoo_has_seen(fake_probes):
    fake_probes.add("cleaned_data/94_ai_gen.csv.zst", [(f"essay {i}", 0) for i in range(100)])
    ref = "asset:sae-probes/94_ai_gen"
    everything = load_documents(ref, exclude_zoo_text=False)
    kept = load_documents(ref)
    assert len(everything.texts) == 100
    assert kept.n_zoo == len(zoo_documents(everything).texts) > 40
    assert set(kept.texts).isdisjoint(zoo_documents(everything).texts)
    assert len(kept.texts) + kept.n_zoo == 100


def test_asset_text_has_one_field(fake_probes):
    fake_probes.add("cleaned_data/97_news_class.csv.zst", [("x", 0)])
    assert load_documents("asset:sae-probes/97_news_class", field="prompt").texts == ["x"]
    with pytest.raises(UsageError, match="no 'body'"):
        load_documents("asset:sae-probes/97_news_class", field="body")


def test_content_hash_sees_order_content_and_boundaries():
    hashes = {Documents("r", texts).content_hash for texts in (["a", "b"], ["b", "a"], ["ab"], ["a", "c"], ["", "ab"])}
    assert len(hashes) == 5
    assert Documents("other", ["a", "b"], n_empty=3).content_hash == Documents("r", ["a", "b"]).content_hash
