"""References to synthetic models: what they mean, and what is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.errors import UsageError
from saebench.lm.reference import parse_lm_ref, parse_model_ref
from saebench.synthetic.recipes import RECIPES
from saebench.synthetic.reference import CONFIG, parse_synthetic_ref


@pytest.mark.parametrize("text", ["synthetic:tiny", "synthetic:small?seed=3"])
def test_a_canonical_reference_keeps_its_text(text: str):
    ref = parse_model_ref(text)
    assert (str(ref), ref.synthetic) == (text, True)
    assert parse_model_ref(str(ref)) == ref


def test_the_seed_zero_is_not_written():
    assert str(parse_model_ref("synthetic:tiny?seed=0")) == "synthetic:tiny"
    assert str(parse_model_ref("synthetic:tiny?seed=007")) == "synthetic:tiny?seed=7"


def test_a_folder_of_sae_lens(tmp_path: Path):
    (tmp_path / CONFIG).write_text("{}")
    ref = parse_synthetic_ref(f"synthetic:{tmp_path}")
    assert (ref.name, ref.folder) == (str(tmp_path), True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("synthetic:tinny", "Did you mean 'tiny'"),
        ("synthetic:", "There is no synthetic model ''"),
        ("synthetic:tiny?seed=-1", "the only option of a synthetic model is seed=N"),
        ("synthetic:tiny?seed=1&seed=2", "the only option"),
        ("synthetic:tiny?", "the only option"),
        ("synthetic:./nowhere", f"there is no folder './nowhere' with the file {CONFIG}"),
    ],
)
def test_what_names_no_model_is_refused(text: str, said: str):
    with pytest.raises(UsageError, match=said.replace("?", r"\?").replace(".", r"\.")):
        parse_model_ref(text)


@given(st.text())
def test_any_text_is_parsed_or_refused(body: str):
    try:
        ref = parse_synthetic_ref(f"synthetic:{body}")
    except UsageError:
        return
    assert ref.folder or ref.name in RECIPES


def test_a_synthetic_model_is_no_language_model():
    with pytest.raises(UsageError, match="'synthetic:tiny' is a synthetic model without tokens"):
        parse_lm_ref("synthetic:tiny")
