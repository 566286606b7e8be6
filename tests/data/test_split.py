"""Documents for calibration and for evaluation never meet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.data.split import CALIBRATION_SHARE, split_documents
from saebench.data.text import Documents
from saebench.errors import DataError
from saebench.stats.rng import generator


def texts(n: int) -> Documents:
    return Documents("memory:x", [f"document {i}" for i in range(n)])


@given(n=st.integers(2, 300), share=st.floats(0.01, 0.99), seed=st.integers(0, 2**32))
def test_each_document_is_on_one_side_in_its_order(n: int, share: float, seed: int):
    documents = texts(n)
    split = split_documents(documents, generator(seed, "split"), share)
    calibration, evaluation = split.calibration.texts, split.evaluation.texts
    assert calibration
    assert evaluation
    assert not set(calibration) & set(evaluation)
    assert [t for t in documents.texts if t in set(calibration)] == calibration
    assert [t for t in documents.texts if t in set(evaluation)] == evaluation
    assert len(calibration) + len(evaluation) == n
    assert abs(len(calibration) - share * n) <= 1
    assert split.content_hash == documents.content_hash
    assert split.calibration.ref == split.evaluation.ref == documents.ref


def test_a_fifth_is_set_apart():
    assert len(split_documents(texts(100), generator(0, "split")).calibration.texts) == 100 * CALIBRATION_SHARE == 20


def test_the_seed_decides():
    sides = [split_documents(texts(50), generator(seed, "split")).calibration.texts for seed in (0, 0, 1)]
    assert sides[0] == sides[1] != sides[2]


@pytest.mark.parametrize(
    ("n", "message"), [(0, "no document, but at least two"), (1, "one document, but at least two")]
)
def test_too_few_documents(n: int, message: str):
    with pytest.raises(DataError, match=message):
        split_documents(texts(n), generator(0, "split"))
