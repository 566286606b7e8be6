import json
import sys
from types import SimpleNamespace

import pytest

from saebench.data.parallel import load_parallel
from saebench.errors import DataError, UsageError

LANGUAGES = ("en", "fr", "es", "pt", "it", "de", "ru", "zh")


def row(split, **sentences):
    return {"id": "x", "split": split, **sentences}


def six_rows():
    return [
        row(split, en=f"{split} {n}", fr=f"{split} {n} en français")
        for split in ("train", "validation", "test")
        for n in "ab"
    ]


@pytest.fixture
def written(tmp_path):
    def write(rows):
        path = tmp_path / "rows.jsonl"
        lines = [each if isinstance(each, bytes) else json.dumps(each, ensure_ascii=False).encode() for each in rows]
        path.write_bytes(b"\n".join(lines))
        return f"jsonl:{path}"

    return write


# ------------------------------------------------------------------ what is loaded


def test_built_in_set_has_the_promised_size():
    everyday = load_parallel("builtin:everyday")
    assert everyday.languages == LANGUAGES
    assert {split: len(rows) for split, rows in everyday.splits.items()} == {"train": 64, "validation": 24, "test": 40}
    assert all(tuple(each) == LANGUAGES for rows in everyday.splits.values() for each in rows)
    assert everyday.sentences("test", "fr") == [each["fr"] for each in everyday.splits["test"]]


def test_file_is_read_in_order_and_stripped(written):
    rows = [*six_rows(), row("train", fr="  Non.\n", en=" No. ", note=3)]
    rows[0]["id"] = 7  # names the row and is not Indonesian
    parallel = load_parallel(written([b"", *rows, b"  "]))
    assert parallel.languages == ("en", "fr")
    assert parallel.sentences("train", "en") == ["train a", "train b", "No."]
    assert parallel.sentences("train", "fr")[-1] == "Non."


def test_hash_changes_with_every_part(written):
    rows = six_rows()
    reference = load_parallel(written(rows)).content_hash
    assert load_parallel(written([{**each, "topic": "home"} for each in rows])).content_hash == reference
    moved = [*rows[:1], {**rows[1], "split": "validation"}, *rows[2:], row("train", en="x", fr="y")]
    changed = [
        [{**rows[0], "en": "other"}, *rows[1:]],
        [rows[1], rows[0], *rows[2:]],
        [{"split": each["split"], "en": each["en"], "de": each["fr"]} for each in rows],
        moved,
    ]
    hashes = {load_parallel(written(each)).content_hash for each in changed}
    assert len(hashes | {reference}) == len(changed) + 1


def test_unknown_split_and_language_are_named():
    everyday = load_parallel("builtin:everyday")
    with pytest.raises(UsageError, match=r"no split 'tests'. Did you mean 'test'\?"):
        everyday.sentences("tests", "en")
    with pytest.raises(UsageError, match="no language 'nl'; it has en, fr"):
        everyday.sentences("test", "nl")


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("builtin:everday", r"no built-in parallel set 'everday'. Did you mean 'everyday'\?"),
        ("bultin:everyday", r"Unknown parallel set 'bultin:everyday'. Did you mean 'builtin'\?"),
        ("everyday", "Unknown parallel set 'everyday'. Give 'builtin:everyday'"),
        ("", "Unknown parallel set"),
        ("builtin:", "names nothing"),
        ("jsonl:/nowhere.jsonl", "'/nowhere.jsonl' with parallel sentences does not exist"),
        ("hf:flores:en", "two or more different languages"),
        ("hf:flores:en,en", "two or more different languages"),
        ("hf:@main", "Cannot read the parallel set"),
        ("hf:flores:en,xx", "No FLORES language 'xx' is known"),
        ("hf:flores:en,", "No FLORES language '' is known"),
    ],
)
def test_bad_reference_says_what_to_give(ref, message):
    with pytest.raises(UsageError, match=message):
        load_parallel(ref)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row("train", en="x"), "line 7: there is no sentence in 'fr'; every row needs en, fr"),
        (row("train", en="x", fr="y", de="z"), "line 7: there is a sentence in 'de', which the first row does not"),
        (row("train", en="x", fr=" \n"), "line 7: the sentence in 'fr' is empty"),
        (row("train", en="x", fr=None), "line 7: the field 'fr' must be a text, not null"),
        (row("tests", en="x", fr="y"), r"line 7: there is no split 'tests'. Did you mean 'test'\?"),
        (row(["test"], en="x", fr="y"), "line 7: there is no split"),
        ({"Split": "test", "en": "x", "fr": "y"}, r"line 7: the field 'split' is missing. Did you mean 'Split'\?"),
        (["x"], "line 7: each line must hold a JSON object, but this one holds a list"),
        (b'{"split": "test"', "line 7: this is not valid JSON"),
        (b"[" * 100_000, "line 7: this JSON cannot be used"),
        (b'{"split": "test", "en": "caf\xe9"}', "line 7: byte 28 is not UTF-8"),
        (b'{"split": "test", "en": "\\ud800", "fr": "y"}', "line 7: the field 'en' holds half a surrogate pair"),
    ],
)
def test_bad_row_names_file_and_line(written, bad, message):
    with pytest.raises(DataError, match=rf"rows\.jsonl, {message}"):
        load_parallel(written([*six_rows(), bad]))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "has no rows"),
        ([row("train", en="x", English="y")], "has one language"),
        ([row("train")], "has no language"),
        (six_rows()[:-1], "has 1 row in the split 'test', which needs at least 2"),
        (six_rows()[:4], "has 0 rows in the split 'test'"),
    ],
)
def test_too_little_is_refused(written, rows, message):
    with pytest.raises(DataError, match=message):
        load_parallel(written(rows))


# ------------------------------------------------------------------ the hub


class Table:
    def __init__(self, **columns):
        self.columns = columns
        self.column_names = list(columns)

    def __getitem__(self, name):
        return self.columns[name]


def hub(monkeypatch, tables):
    """A stand-in for `datasets` with ``tables`` {(configuration, split): Table}; returns the revisions asked for."""
    revisions = []

    def load_dataset(dataset, config, *, split, revision):
        revisions.append(revision)
        return tables[config, split]

    fake = SimpleNamespace(
        load_dataset=load_dataset,
        get_dataset_config_names=lambda dataset, revision: sorted({config for config, _ in tables}),
    )
    monkeypatch.setitem(sys.modules, "datasets", fake)
    return revisions


def flores(column, chinese):
    ids = {"dev": [1, 2, 3, 4, 5, 6, 7, 8], "devtest": [1, 2, 3]}
    return {
        (config, split): Table(id=ids[split], **{column: [f"{config} {split} {n}" for n in ids[split]]})
        for config in ("eng_Latn", chinese)
        for split in ids
    }


@pytest.mark.parametrize(("column", "chinese"), [("sentence", "zho_Hans"), ("text", "cmn_Hans")])
def test_flores_splits_and_columns(monkeypatch, column, chinese):
    revisions = hub(monkeypatch, flores(column, chinese))
    parallel = load_parallel("hf:some/flores@abc:zh,en")
    assert parallel.languages == ("zh", "en")
    assert parallel.sentences("train", "zh") == [f"{chinese} dev {n}" for n in range(1, 7)]
    assert parallel.sentences("validation", "en") == ["eng_Latn dev 7", "eng_Latn dev 8"]
    assert parallel.sentences("test", "en") == [f"eng_Latn devtest {n}" for n in range(1, 4)]
    assert set(revisions) == {"abc"}


def test_flores_that_does_not_match_is_refused(monkeypatch):
    tables = flores("text", "zho_Hans")
    hub(monkeypatch, tables)
    with pytest.raises(DataError, match="has no configuration fra_Latn, unlike FLORES-200"):
        load_parallel("hf:some/flores")
    tables["zho_Hans", "dev"] = Table(id=[8, 7, 6, 5, 4, 3, 2, 1], text=["x"] * 8)
    with pytest.raises(DataError, match=r"the split 'dev' of .* do not match row by row"):
        load_parallel("hf:some/flores:en,zh")
    tables["zho_Hans", "dev"] = Table(text=["x"] * 7)
    with pytest.raises(DataError, match="do not match row by row"):
        load_parallel("hf:some/flores:en,zh")
    tables["zho_Hans", "dev"] = Table(words=["x"] * 8)
    with pytest.raises(DataError, match="no column 'sentence' or 'text'; its columns are words"):
        load_parallel("hf:some/flores:en,zh")
    del tables["zho_Hans", "dev"]  # the library's own error
    with pytest.raises(DataError, match="Cannot load the dataset 'some/flores' from the hub"):
        load_parallel("hf:some/flores:en,zh")


def test_hub_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"extra 'hub': pip install 'saebench\[hub\]'"):
        load_parallel("hf:facebook/flores")
