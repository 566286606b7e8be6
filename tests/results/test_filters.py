from __future__ import annotations

import fnmatch

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saebench.errors import UsageError
from saebench.results.filters import Filters, apply, matching
from saebench.results.record import Status
from saebench.results.table import from_records
from tests.results.conftest import make_identity, make_number, make_record


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    numbers = [make_number("fvu", 0.1), make_number("l0", 32.0), make_number("fvu", 0.2, subset="news")]
    probing = [make_number("auc", 0.9), make_number("auc_gap", 0.1)]
    return from_records(
        [
            make_record(measurements=numbers),
            make_record(make_identity(seed=1), measurements=numbers[:1]),
            make_record(make_identity(sae="zoo:topk-k64-s0"), measurements=numbers, preset="smoke"),
            make_record(make_identity(sae="baseline:pca?k=32"), measurements=numbers, control=True),
            make_record(make_identity(sae="zoo:[odd]"), measurements=numbers[:1], hook="blocks.3.hook_resid_post"),
            make_record(make_identity(sae="zoo:broken"), status=Status.FAILED, error="weights hold NaN", hook=""),
            make_record(make_identity(task="sparse_probing"), measurements=probing),
        ]
    )


@pytest.mark.parametrize(
    ("filters", "rows"),
    [
        (Filters(), 14),
        (Filters(task=["sparse_probing"]), 2),
        (Filters(task=["core", "sparse_probing"]), 14),
        (Filters(sae=["zoo:topk-k64-s0"]), 3),
        (Filters(sae=["zoo:topk-*"]), 9),
        (Filters(sae=["zoo:topk-*"], task=["core"]), 7),
        (Filters(sae=["baseline:pca?k=32"]), 3),  # a wildcard in the name itself
        (Filters(sae=["zoo:[odd]"]), 1),
        (Filters(hook=["blocks.3.hook_resid_post"]), 1),
        (Filters(preset=["smoke"]), 3),
        (Filters(seed=[1]), 1),
        (Filters(seed=[0, 1], task=["core"]), 12),
        (Filters(status=["failed"]), 1),
        (Filters(controls=False), 11),
        (Filters(metric=["l0"]), 3 + 1),  # and the record without numbers
        (Filters(metric=["fvu"], subset=[""]), 5 + 1),
        (Filters(subset=["news"]), 3 + 1),
        (Filters(metric=["auc*"]), 2 + 1),
    ],
)
def test_rows_that_fit(frame: pd.DataFrame, filters: Filters, rows: int):
    found = apply(frame, filters)
    assert len(found) == rows
    assert found.attrs == frame.attrs
    assert found.index.is_unique


def test_each_filter_keeps_exactly_its_values(frame: pd.DataFrame):
    assert set(apply(frame, Filters(sae=["zoo:topk-*"]))["sae"]) == {"zoo:topk-k32-s0", "zoo:topk-k64-s0"}
    assert set(apply(frame, Filters(controls=False))["sae"]) == set(frame["sae"]) - {"baseline:pca?k=32"}
    assert list(apply(frame, Filters(metric=["auc_gap"]))["metric"]) == ["", "auc_gap"]


def test_controls_are_known_by_their_column_and_not_by_name():
    records = [
        make_record(make_identity(sae=sae), measurements=[make_number("fvu", 0.1)], control=control)
        for sae, control in [("zoo:frozen-topk-k32-s0", True), ("baseline:mine", False), ("zoo:topk-k32-s0", False)]
    ]
    frame = from_records(records)
    frame.attrs.clear()
    assert list(apply(frame, Filters(controls=False))["sae"]) == ["baseline:mine", "zoo:topk-k32-s0"]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (Filters(task=["cor"]), "No result has the task 'cor'. Did you mean 'core'?"),
        (Filters(sae=["zoo:topk-k32-s9"]), "Did you mean 'zoo:topk-k32-s0'?"),
        (Filters(sae=["sparsify:*"]), "No sae of a result matches 'sparsify:*'. There are baseline:pca?k=32, "),
        (Filters(metric=["fvu", "l1"]), "No result has the metric 'l1'."),
        (Filters(seed=[7]), "No result has the seed 7. There are 0, 1."),
        (Filters(status=["okay"]), "Did you mean 'ok'?"),
        (Filters(subset=["new"]), "Did you mean 'news'?"),
    ],
)
def test_unknown_values(frame: pd.DataFrame, filters: Filters, message: str):
    with pytest.raises(UsageError) as error:
        apply(frame, filters)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (
            Filters(task=["sparse_probing"], seed=[1]),
            "Nothing is left: of the results with task 'sparse_probing', none has seed 1.",
        ),
        (
            Filters(task=["sparse_probing"], sae=["zoo:*"], metric=["fvu"]),
            "Nothing is left: of the results with task 'sparse_probing' and sae 'zoo:*', none has metric 'fvu'.",
        ),
        (
            Filters(sae=["baseline:*"], controls=False),
            "Nothing is left: of the results with an SAE that is not a control, none has sae 'baseline:*'.",
        ),
    ],
)
def test_the_filter_that_takes_the_last_rows_is_named(frame: pd.DataFrame, filters: Filters, message: str):
    with pytest.raises(UsageError) as error:
        apply(frame, filters)
    assert str(error.value) == message


def test_only_controls():
    frame = from_records([make_record(measurements=[make_number("fvu", 0.1)], control=True)])
    with pytest.raises(UsageError, match="every result is of a control"):
        apply(frame, Filters(controls=False))


def test_matching_follows_the_order_of_the_patterns(frame: pd.DataFrame):
    assert matching(frame, "metric", ["l0", "*u"]) == ["l0", "fvu"]
    assert matching(frame, "metric", []) == []


NAMES = st.text("ab*?[]!-|\n\u202e", min_size=1, max_size=6)


@settings(max_examples=60)
@given(names=st.lists(NAMES, min_size=1, max_size=4, unique=True), pattern=NAMES)
def test_any_name_is_found_by_itself_and_patterns_as_fnmatch_has_them(names: list[str], pattern: str):
    frame = pd.DataFrame({"sae": names})
    for name in names:
        assert matching(frame, "sae", [name]) == [name]
    fitting = [pattern] if pattern in names else [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    try:
        assert matching(frame, "sae", [pattern]) == fitting
    except UsageError:
        assert fitting == []
