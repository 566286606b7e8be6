"""Cleaning, splits and prompts."""

from __future__ import annotations

import copy
import csv
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.data.text import Documents
from saebench.errors import DataError, UsageError
from saebench.passes.context import TaskContext
from saebench.tasks.detox.data import cleaned, prompt_tokens, splits
from tests.tasks.detox.conftest import Stub, parsed, texts


def write(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["prompt", "target"])
        table.writerows(rows)
    return path


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("RT @a_b: so true!! http://t.co/x1 &amp; more", "so true!! & more"),
        ("hi @someone and @other,  bye", "hi and , bye"),
        ("&#8220;www.site.org&#8221; #tag", "“ #tag"),
        ("ART @x stays", "ART stays"),
        ("  nothing\nto do ", "nothing to do"),
        ("@only https://t.co/1", ""),
    ],
)
def test_cleaning_takes_out_addresses_handles_and_entities(text: str, wanted: str):
    assert cleaned(text) == wanted


@given(st.text())
def test_cleaning_leaves_single_blanks(text: str):
    found = cleaned(text)
    assert found == " ".join(found.split())
    assert "http://" not in found or not found.partition("http://")[2][:1].strip()


def test_splits_share_no_text_and_balance_the_sides(tiny: TaskContext, parameters: dict[str, Any]):
    found = splits(tiny, parsed(parameters))
    every = [text for split in found.values() for text in split.texts]
    assert len(set(every)) == len(every) == 2 * (30 + 16 + 16)
    for split in found.values():
        assert split.toxic.sum() * 2 == len(split.texts)
        assert all(("z" in text) == bool(toxic) for text, toxic in zip(split.texts, split.toxic, strict=True))
    assert found["fit"].prompts == []
    assert splits(tiny, parsed(parameters)) is found


def test_prompts_are_first_words_of_toxic_texts_of_their_split(tiny: TaskContext, parameters: dict[str, Any]):
    found = splits(tiny, parsed(parameters, heldout_texts=20))
    scorer, split = Stub(), found["test"]
    assert len(split.prompts) == parameters["test_prompts"]
    for prompt in split.prompts:
        assert 8 <= len(prompt) <= 12  # one token for each character
        assert scorer([prompt])[0] > 0.05
        assert any(text.startswith(prompt + " ") for text in np.array(split.texts)[split.toxic])
    assert found["validation"].prompts == []  # settings are chosen by texts, without prompts
    tokens = prompt_tokens(found["test"].prompts, tiny, 32)
    assert {row[0] for row in tokens} == {tiny.lm.tokenizer.bos_token_id}
    assert [len(row) - 1 for row in tokens] == [len(prompt) for prompt in found["test"].prompts]


def test_sources_that_overlap(tiny: TaskContext, parameters: dict[str, Any], tmp_path: Path):
    """What both sides hold is dropped, what two sources of a side hold counts once, shared sources are shared out."""
    bad, good, both = texts(True, 40, 2), texts(False, 60, 3), texts(True, 12, 4)
    one = write(tmp_path / "one.csv", [(t, "1") for t in bad + both] + [("other one", "0")])
    two = write(tmp_path / "two.csv", [(t, "0") for t in good + [b.upper() for b in both]] + [("zzz zzz", "1")])
    three = write(tmp_path / "three.csv", [(t, "1") for t in [*bad[:5], *texts(True, 40, 5)]] + [("what", "0")])
    changes = {
        "toxic": [f"csv:{one}=1", f"csv:{three}=1"],
        "neutral": [f"csv:{two}=0", f"csv:{two}=0"],
        "fit_texts": 1000,
        "heldout_texts": 1000,
    }
    found = splits(tiny, parsed(parameters, **changes))
    every = [text for split in found.values() for text in split.texts]
    assert len({text.casefold() for text in every}) == len(every)
    assert not {text.casefold() for text in every} & set(both)
    toxic = {text for split in found.values() for text in np.array(split.texts)[split.toxic]}
    assert toxic & set(bad[:5])
    sizes = {name: len(split.texts) // 2 for name, split in found.items()}
    assert sizes == {"fit": 30, "validation": 15, "test": 15}  # all 60 neutral texts


def test_prompts_from_elsewhere_are_taken_whole(tiny: TaskContext, parameters: dict[str, Any]):
    given = [f"zz{letter} zzz" for letter in "abcdefghijkl"] + ["harmless", "words"]
    context = TaskContext(tiny.lm, read=lambda ref: Documents(ref, given))
    found = splits(context, parsed(parameters, prompts="memory:x"))
    prompts = found["test"].prompts
    assert set(prompts) <= set(given[:12])
    assert len(set(prompts)) == len(prompts) == parameters["test_prompts"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"toxic": ["no-class"]}, UsageError, "REF=CLASS"),
        ({"prompt_toxicity": 0.999}, DataError, "lower 'prompt_toxicity'"),
        ({"context_length": 12}, UsageError, "raise 'context_length'"),
    ],
)
def test_bad_input(
    tiny: TaskContext, parameters: dict[str, Any], changes: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        splits(tiny, parsed(parameters, **changes))


def test_an_unknown_class(tiny: TaskContext, parameters: dict[str, Any], table: Path):
    with pytest.raises(UsageError, match="Did you mean 'toxic'"):
        splits(tiny, parsed(parameters, toxic=[f"csv:{table}=toxicc"]))


def test_too_few_texts(tiny: TaskContext, parameters: dict[str, Any], tmp_path: Path):
    few = write(tmp_path / "few.csv", [("zzz zz zzzz", "1"), ("abc abc", "0")])
    with pytest.raises(DataError, match="give more"):
        splits(tiny, parsed(parameters, toxic=[f"csv:{few}=1"], neutral=[f"csv:{few}=0"]))


def test_without_bos_a_prompt_begins_with_eos(tiny_tokenizer: Any):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.bos_token = None
    context: Any = SimpleNamespace(lm=SimpleNamespace(tokenizer=tokenizer))
    assert prompt_tokens(["ab"], context, 8)[0][0] == tokenizer.eos_token_id
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="neither a BOS nor an EOS"):
        prompt_tokens(["ab"], context, 8)
