"""The file of a baseline: what it holds, and that it is whole, readable and stable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saebench.errors import SaebenchError, UsageError
from saebench.regression.baseline import Baseline, Entry, baseline_path, entry, read_baseline, write_baseline
from tests.regression.conftest import made_up

FVU, CE = ("core", "fvu", ""), ("core", "ce_sae", "")


def share(keys: set[Any], root: Path = Path("/root"), **changes: Any) -> Entry:
    record, arrays = made_up(**changes)
    return entry(record, arrays, keys, root)


def test_what_is_written_is_read(tmp_path: Path):
    path, baseline = tmp_path / "deep" / "b.json", Baseline(entries=[share({FVU, CE})])
    assert write_baseline(path, baseline)
    assert read_baseline(path) == baseline
    assert read_baseline(tmp_path / "none.json") is None
    assert [file.name for file in path.parent.iterdir()] == ["b.json"]


def test_it_holds_what_is_checked_and_no_more():
    found = share({FVU})
    assert [m.metric for m in found.record.measurements] == ["fvu"]
    assert set(found.contributions) == {"fvu"}


def test_eight_digits_give_the_same_numbers():
    record, arrays = made_up(fvu=0.123456789123)
    [kept] = entry(record, arrays, {FVU}, Path("/root")).scores().values()
    assert kept.value == 0.12345679
    assert kept.num is not None
    np.testing.assert_allclose(kept.num, arrays["fvu.num"], rtol=1e-7)
    assert [float(f"{value:.8g}") for value in kept.num] == list(kept.num)


def test_the_file_is_readable(tmp_path: Path):
    path = tmp_path / "b.json"
    write_baseline(path, Baseline(entries=[share({FVU})]))
    text = path.read_text("utf-8")
    content = json.loads(text)
    assert text.endswith("}\n")
    assert list(content) == ["entries", "schema_version"]
    assert list(content["entries"][0]["record"]) == sorted(content["entries"][0]["record"])
    arrays = [line for line in text.splitlines() if line.strip().startswith(('"num"', '"den"'))]
    assert len(arrays) == 2
    assert all(line.rstrip(",").endswith("]") for line in arrays)
    assert "null" not in text


def test_an_update_with_the_same_numbers_changes_nothing(tmp_path: Path):
    path, record, arrays = tmp_path / "b.json", *made_up()
    write_baseline(path, Baseline(entries=[entry(record, arrays, {FVU}, tmp_path)]))
    before = path.read_bytes()
    moved = record.model_copy(update={"identity": record.identity.model_copy(update={"sae": "sae_lens:/tmp/other"})})
    slower = moved.model_copy(update={"provenance": moved.provenance.model_copy(update={"wall_seconds": 9.0})})
    assert not write_baseline(path, Baseline(entries=[entry(slower, arrays, {FVU}, tmp_path)]))
    assert path.read_bytes() == before
    assert write_baseline(path, Baseline(entries=[share({FVU}, identity={"sae_fingerprint": "ff" * 32})]))


def test_paths_in_the_project_are_relative(tmp_path: Path):
    places = {"sae": f"sae_lens:{tmp_path}/saes/ä", "parameters": {"text": f"jsonl:{tmp_path}/a.jsonl"}}
    found = share({FVU}, tmp_path, identity=places).record.identity
    assert found.sae == "sae_lens:saes/ä"
    assert found.parameters["text"] == "jsonl:a.jsonl"


def test_new_metrics_join_the_same_record_or_stand_beside_another():
    baseline = Baseline(entries=[share({FVU})])
    same = baseline.with_new([share({FVU, CE}, fvu=0.9)])
    assert [one.keys for one in same.entries] == [[FVU, CE]]
    assert same.entries[0].scores()[FVU].value == pytest.approx(0.2)  # what is there stays
    other = baseline.with_new([share({FVU, CE}, identity={"sae_fingerprint": "ff" * 32})])
    assert [one.keys for one in other.entries] == [[FVU], [CE]]
    assert baseline.with_new([share({FVU})]) == baseline


@pytest.mark.parametrize("content", ["", "{", "[]", '{"entries": [], "schema_version": 2}', '{"entries": [{}]}'])
def test_what_is_no_baseline_is_refused_and_replaced(tmp_path: Path, content: str):
    path = tmp_path / "b.json"
    path.write_text(content)
    with pytest.raises(SaebenchError, match=r"b.json cannot be used .*--saebench-update"):
        read_baseline(path)
    assert write_baseline(path, Baseline(entries=[share({FVU})]))
    assert read_baseline(path) is not None


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SaebenchError, match="cannot be written"):
        write_baseline(tmp_path / "file" / "b.json", Baseline(entries=[]))


def test_names(tmp_path: Path):
    assert baseline_path(tmp_path, "topk-k32_v1.2~ab") == tmp_path / "topk-k32_v1.2~ab.json"
    for wrong in ("", "../x", "a/b", ".hidden", "a b", "ä"):
        with pytest.raises(UsageError, match="name of a baseline may hold letters"):
            baseline_path(tmp_path, wrong)


def test_a_number_without_a_value_stays_readable(tmp_path: Path):
    """Older versions, and hands, wrote some; an update of other metrics must not make the file unreadable."""
    path, baseline = tmp_path / "b.json", Baseline(entries=[share({FVU}, fvu=None)])
    write_baseline(path, baseline)
    assert read_baseline(path) == baseline


def test_a_baseline_has_no_checksum_of_arrays_that_it_does_not_hold():
    record, arrays = made_up()
    found = entry(record.model_copy(update={"arrays_sha256": "a" * 64}), arrays, {FVU}, Path("/root"))
    assert found.record.arrays_sha256 is None


def test_the_same_text_under_another_path_leaves_the_file_as_it_is(tmp_path: Path):
    def on(text: str, content: str) -> Baseline:
        places = {"parameters": {"text": text}, "data": {text: content}}
        return Baseline(entries=[share({FVU}, identity=places)])

    path = tmp_path / "b.json"
    assert write_baseline(path, on("jsonl:text.jsonl", "cc" * 32))
    assert not write_baseline(path, on("jsonl:/elsewhere/copy.jsonl", "cc" * 32))
    assert write_baseline(path, on("jsonl:text.jsonl", "dd" * 32))
