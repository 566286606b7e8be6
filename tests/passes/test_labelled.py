"""Labelled sets are read once for everyone, and have short names in records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from saebench.errors import DataError
from saebench.passes.context import TaskContext
from saebench.passes.labelled import labelled, set_name


def test_a_set_is_read_once(context: Callable[..., TaskContext], tmp_path: Path):
    path = tmp_path / "two.csv"
    path.write_text("prompt,target\na,x\nb,y\n")
    tiny, ref = context(), f"csv:{path}"
    first = labelled(tiny, ref)
    path.write_text("prompt,target\na,x\n")
    assert labelled(tiny, ref) is first
    with pytest.raises(DataError, match="two classes"):
        labelled(context(), ref)


def test_sets_of_the_asset_are_named_without_it():
    assert set_name("asset:sae-probes/97_news_class") == "97_news_class"
    assert set_name("words:asset:sae-probes/97_news_class") == "words:97_news_class"
    assert set_name("csv:a.csv") == "csv:a.csv"
