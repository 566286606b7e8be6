"""Labelled sets are read once for everyone, and records name them without folders, in the order of their content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from saebench.data.labelled_ref import short_name
from saebench.errors import DataError, UsageError
from saebench.passes.context import TaskContext
from saebench.passes.labelled import labelled, labelled_sets, set_names


def write(path: Path, *targets: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("prompt,target\n" + "".join(f"{number},{target}\n" for number, target in enumerate(targets)))
    return f"csv:{path}"


def test_a_set_is_read_once(context: Callable[..., TaskContext], tmp_path: Path):
    tiny, ref = context(), write(tmp_path / "two.csv", "x", "y")
    first = labelled(tiny, ref)
    write(tmp_path / "two.csv", "x")
    assert labelled(tiny, ref) is first
    with pytest.raises(DataError, match="two classes"):
        labelled(context(), ref)


def test_sets_are_named_without_asset_and_folder(tmp_path: Path):
    text = tmp_path / "news.jsonl"
    text.write_text('{"text": "a"}\n')
    assert short_name("asset:sae-probes/97_news_class") == "97_news_class"
    assert short_name("words:asset:sae-probes/97_news_class") == "words:97_news_class"
    assert short_name(write(tmp_path / "a.csv", "x", "y")) == "a"
    assert short_name(f"words:jsonl:{text}?words=time,money") == "words:news?words=time,money"
    assert short_name(f"words:jsonl:{text}:body") == "words:news:body"


def test_equal_names_are_told_apart_by_content(context: Callable[..., TaskContext], tmp_path: Path):
    refs = [write(tmp_path / f"{folder}/set.csv", *targets) for folder, targets in (("a", "xy"), ("b", "xyx"))]
    hashes = [labelled(context(), ref).content_hash for ref in refs]
    assert set_names(refs, hashes) == [f"set~{content[:8]}" for content in hashes]


def test_the_order_is_that_of_the_content(context: Callable[..., TaskContext], tmp_path: Path):
    refs = [write(tmp_path / f"{n}.csv", *("xy" * n)) for n in range(1, 6)]
    one, other = (labelled_sets(context(), given) for given in (refs, refs[::-1]))
    assert [name for name, _ in one] == [name for name, _ in other]
    assert [data.content_hash for _, data in one] == sorted(data.content_hash for _, data in one)


def test_one_content_counts_only_once(context: Callable[..., TaskContext], tmp_path: Path):
    refs = [write(tmp_path / f"{folder}/set.csv", "x", "y") for folder in "ab"]
    with pytest.raises(UsageError, match=r"'csv:.*a/set.csv' and 'csv:.*b/set.csv' hold the same examples"):
        labelled_sets(context(), refs)
