from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.results import table
from saebench.results.record import Status
from saebench.results.render import format_number, markdown, to_wide
from tests.results.conftest import VERSION


@pytest.fixture
def records(record, identity, number):
    def scored(sae, ce, fvu, l0, **more):
        numbers = [number("fvu", *fvu), number("ce_recovered_mean", *ce), number("l0", *l0)]
        return record(identity(sae=sae), measurements=numbers, l0=l0[0], **more)

    return [
        scored("baseline:pca", (0.5, 0.45, 0.56), (0.31, 0.3, 0.325), (32.0, 31.5, 32.4), control=True),
        scored("zoo:topk-k32-s0", (0.90461, 0.89713, 0.91222), (0.1, 0.098, 0.102), (32.0, 32.0, 32.0)),
        scored("zoo:frozen", (float("nan"), None, None), (1.4e7, 1.3e7, 1.5e7), (32.0, 32.0, 32.0), control=True),
        record(
            identity(sae="zoo:broken", sae_fingerprint=""),
            status=Status.FAILED,
            error="weights hold NaN |\nnot a number",
            hook="",
            l0=None,
        ),
    ]


def text(cells) -> list[list[str]]:
    return [list(cells.columns), *cells.to_numpy().tolist()]


def test_golden(records):
    columns = {"core": ["ce_recovered_mean", "fvu", "l0", "not_measured"]}
    (wide,) = to_wide(table.from_records(records), columns)
    assert wide.caption == (
        f"core v{VERSION} · preset quick · asset:gemma-3-270m · blocks.9.hook_resid_post · "
        "seed 0 · n = 128 sequences · value [interval]"
    )
    assert text(wide.cells) == [
        ["SAE", "ce_recovered_mean ↑", "fvu ↓", "l0"],
        ["zoo:broken", "failed: weights hold NaN |\nnot a number", "", ""],
        ["zoo:topk-k32-s0", "0.905 [0.897, 0.912]", "0.1000 [0.0980, 0.1020]", "32 [32, 32]"],
        ["baseline:pca (control)", "0.50 [0.45, 0.56]", "0.310 [0.300, 0.325]", "32.00 [31.50, 32.40]"],
        ["zoo:frozen (control)", "not scored", "1.40e+07 [1.30e+07, 1.50e+07]", "32 [32, 32]"],
    ]


def test_by_default_the_primary_metrics_and_l0_are_shown(records):
    (wide,) = to_wide(table.from_records(records))
    assert list(wide.cells.columns) == ["SAE", "L0", "fvu ↓", "ce_recovered_mean ↑"]
    assert list(wide.cells["L0"]) == ["", "32", "32", "32"]


def test_without_a_card_all_metrics_are_shown(records):
    frame = table.from_records(records).assign(primary=None, higher_is_better=None)
    (wide,) = to_wide(frame.astype({"primary": "boolean", "higher_is_better": "boolean"}))
    assert list(wide.cells.columns) == ["SAE", "fvu", "ce_recovered_mean", "l0"]


def test_markdown_has_one_line_per_row(records):
    (wide,) = to_wide(table.from_records(records))
    lines = wide.to_markdown().splitlines()
    assert lines[:2] == [wide.caption, ""]
    assert len(lines) == 2 + 2 + 4
    assert "weights hold NaN \\| not a number" in lines[4]
    assert len({line.count("|") - line.count("\\|") for line in lines[2:]}) == 1
    assert len(markdown(wide.cells).splitlines()) == 6


def test_controls_are_known_without_the_attributes_of_the_frame(records):
    frame = table.from_records(records)
    frame.attrs.clear()
    (wide,) = to_wide(frame)
    assert list(wide.cells["SAE"]) == [
        "zoo:broken",
        "zoo:topk-k32-s0",
        "baseline:pca (control)",
        "zoo:frozen (control)",
    ]


def test_filtered_metrics(records):
    frame = table.select(table.from_records(records), ["fvu"])
    (wide,) = to_wide(frame)
    assert list(wide.cells.columns) == ["SAE", "L0", "fvu ↓"]
    assert list(wide.cells["SAE"])[-1] == "zoo:frozen (control)"


def test_a_table_per_task_version_preset_model_and_hook(record, identity, number):
    numbers = [number("fvu", 0.5)]
    records = [
        record(identity(), measurements=numbers),
        record(identity(seed=1), measurements=numbers),
        record(identity(task="other"), measurements=numbers),
        record(identity(task_version=VERSION + 1), measurements=numbers),
        record(identity(model="hf:other/lm"), measurements=numbers),
        record(identity(seed=2), measurements=numbers, hook="blocks.1.hook_mlp_out"),
        record(identity(seed=3), measurements=numbers, preset="paper"),
    ]
    tables = to_wide(table.from_records(records))
    assert len(tables) == 6
    assert sum(len(wide.cells) for wide in tables) == len(records)
    (two_seeds,) = [wide for wide in tables if "seed" in wide.cells]
    assert list(two_seeds.cells["seed"]) == ["0", "1"]
    assert "seed" not in two_seeds.caption


def test_the_same_sae_under_other_parameters_is_told_apart(record, identity, number):
    made = [record(identity(parameters={"sequences": n}), measurements=[number("fvu", 0.5, n=n)]) for n in (64, 128)]
    (wide,) = to_wide(table.from_records(made))
    assert set(wide.cells["record"]) == {r.record_id[:8] for r in made}
    assert "n = 64 to 128 sequences" in wide.caption


def test_subsets_are_columns_when_there_is_no_number_for_everything(record, number):
    made = record(
        measurements=[
            number("auc", 0.7, subset="a", unit="dataset", n=1),
            number("auc", 0.8, subset="b", unit="dataset", n=1),
            number("mean", 0.75, unit="dataset", n=2),
            number("mean", 0.7, subset="a", unit="dataset", n=1),
        ]
    )
    (wide,) = to_wide(table.from_records([made]))
    assert list(wide.cells.columns) == ["SAE", "L0", "auc (a)", "auc (b)", "mean"]


def test_only_failures(record):
    (wide,) = to_wide(table.from_records([record(status=Status.FAILED, error="no such hook", hook="", l0=None)]))
    assert text(wide.cells) == [["SAE", "result"], ["zoo:topk-k32-s0", "failed: no such hook"]]
    assert "hook unknown" in wide.caption


def test_an_empty_table_renders_to_nothing():
    assert to_wide(table.from_records([])) == []


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.9046, 0.897, 0.912, "0.905 [0.897, 0.912]"),
        (0.5, 0.4, 0.6, "0.50 [0.40, 0.60]"),
        (1234.56, 1100.0, 1400.0, "1235 [1100, 1400]"),
        (32.0, 32.0, 32.0, "32 [32, 32]"),
        (31.99947, 31.99852, 31.99991, "32.00 [32.00, 32.00]"),
        (1.23456789e7, 1.23456e7, 1.23458e7, "1.235e+07 [1.235e+07, 1.235e+07]"),
        (0.0, 0.0, 0.0, "0 [0, 0]"),
        (3.1e-7, 2.9e-7, 3.3e-7, "3.10e-07 [2.90e-07, 3.30e-07]"),
        (0.123456, math.nan, math.nan, "0.1235"),
        (math.nan, 0.0, 1.0, "not scored"),
        (-0.25, -0.4, 0.1, "-0.25 [-0.40, 0.10]"),
    ],
)
def test_rounding(value, low, high, expected):
    assert format_number(value, low, high) == expected


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e9), st.floats(1e-9, 1e9))
def test_rounding_errs_by_less_than_a_tenth_of_the_interval_or_the_fourth_digit(value, below, above):
    low, high = value - below, value + above
    if not low < high:
        return
    shown = format_number(value, low, high).replace("[", "").replace("]", "").replace(",", "").split()
    largest = max(abs(value), abs(low), abs(high))
    allowed = max(0.05 * (high - low), 0.5 * 10 ** (math.floor(math.log10(largest)) - 3))
    for exact, rounded in zip((value, low, high), map(float, shown), strict=True):
        assert abs(exact - rounded) <= allowed * (1 + 1e-6) + 1e-15


def test_caption_says_how_much_text_was_seen(records):
    """A share of dead latents means nothing without the number of tokens."""
    for record, tokens in zip(records, (8123, 8123, 8001, 0), strict=True):
        record.counts = {"tokens": tokens} if tokens else {}
    frame = table.from_records(records)
    assert to_wide(frame)[0].caption.endswith(" · 8,001 to 8,123 tokens · value [interval]")
    assert to_wide(frame[frame["sae"] == "baseline:pca"])[0].caption.endswith(" · 8,123 tokens · value [interval]")
