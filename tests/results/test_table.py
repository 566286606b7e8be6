from __future__ import annotations

import io
import json
import math
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.errors import UsageError
from saebench.results import table
from saebench.results.filters import Filters, apply
from saebench.results.pivot import pivot
from saebench.results.record import Status
from saebench.results.store import ResultStore
from tests.results.conftest import VERSION, make_identity, make_number, make_record

# As in the published design; scripts depend on names and order.
COLUMNS = """
    record_id model hook sae sae_fingerprint architecture d_sae l0 control task task_version preset subset metric value
    stderr ci_low ci_high n unit higher_is_better primary grade seed status error created saebench_version
    wall_seconds device
""".split()  # noqa: SIM905


@pytest.fixture
def records(record, identity, number):
    return [
        record(
            measurements=[
                number("fvu", 1 / 3, 0.3, 0.35, stderr=0.01),
                number("l0", 32.0),
                number("ce_recovered_mean", None, not_scored="ablation does not hurt"),
                number("mystery", 1e-17, subset="news", n=None, unit=""),
            ]
        ),
        record(identity(sae="zoo:broken"), status=Status.FAILED, error="weights hold NaN", l0=None, hook=""),
        record(identity(sae="baseline:neurons"), status=Status.NOT_APPLICABLE, error="no decoder", control=True),
    ]


@pytest.fixture
def frame(records):
    return table.from_records(records)


def test_columns_are_exactly_the_published_ones(frame):
    assert list(frame.columns) == list(table.COLUMNS) == COLUMNS
    assert list(table.from_records([]).columns) == COLUMNS


def test_a_row_per_number(frame):
    assert list(frame["metric"]) == ["fvu", "l0", "ce_recovered_mean", "mystery", "", ""]
    row = frame.iloc[0]
    assert row["value"] == 1 / 3
    assert (row["ci_low"], row["ci_high"], row["stderr"], row["n"], row["unit"]) == (0.3, 0.35, 0.01, 128, "sequence")
    assert (row["sae"], row["hook"], row["seed"], row["preset"]) == (
        "zoo:topk-k32-s0",
        "blocks.9.hook_resid_post",
        0,
        "quick",
    )
    assert row["created"] == pd.Timestamp("2026-01-02T03:04:05Z")
    assert frame.iloc[3]["subset"] == "news"
    assert pd.isna(frame.iloc[3]["n"])


def test_direction_and_primary_come_from_the_card(frame):
    assert frame["higher_is_better"].tolist() == [False, pd.NA, True, pd.NA, pd.NA, pd.NA]
    assert frame["primary"].tolist() == [True, False, True, pd.NA, pd.NA, pd.NA]


def test_a_task_that_is_not_installed_is_not_described(record, identity, number):
    frame = table.from_records([record(identity(task="elsewhere"), measurements=[number("fvu", 0.1)])])
    assert frame[["higher_is_better", "primary"]].isna().all(axis=None)


def test_another_task_version_is_not_described(record, identity, number):
    other = record(identity(task_version=VERSION + 1), measurements=[number("fvu", 0.1)])
    assert table.from_records([other])["higher_is_better"].isna().all()


def test_not_scored_and_failed_rows_say_why(frame):
    assert math.isnan(frame.iloc[2]["value"])
    assert list(frame["error"]) == ["", "", "ablation does not hurt", "", "weights hold NaN", "no decoder"]
    assert list(frame["status"]) == ["ok"] * 4 + ["failed", "not_applicable"]
    assert frame["value"][4:].isna().all()


def test_every_row_says_whether_its_sae_is_a_control(frame):
    assert list(frame["control"]) == [False] * 5 + [True]
    assert frame["control"].dtype == "boolean"


def test_load_reads_folders_and_files_once(tmp_path, records, frame):
    store = ResultStore(tmp_path)
    paths = [store.write(record) for record in records]
    loaded = table.load(tmp_path, paths[0], tmp_path)
    pd.testing.assert_frame_equal(
        loaded.sort_values(["record_id", "metric"], ignore_index=True),
        frame.sort_values(["record_id", "metric"], ignore_index=True),
    )
    assert set(table.load(paths[0])["record_id"]) == {records[0].record_id}


def test_of_two_copies_the_newest_counts(tmp_path, record, number):
    now = datetime(2026, 5, 1, tzinfo=UTC)
    for place, day, value in [("a", 1, 0.1), ("b", 3, 0.3), ("c", 2, 0.2)]:
        made = record(measurements=[number("fvu", value)], created=now + timedelta(days=day))
        ResultStore(tmp_path / place).write(made)
    assert table.load(tmp_path)["value"].tolist() == [0.3]


def test_a_missing_path_is_said(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        table.load(tmp_path / "nowhere")


def test_an_empty_folder_is_an_empty_table(tmp_path):
    assert table.load(tmp_path).empty


def test_select(frame):
    assert list(table.select(frame, ["fvu"])["metric"]) == ["fvu", "", ""]
    assert table.select(frame, ["fvu"]).attrs == frame.attrs
    with pytest.raises(UsageError, match=r"'fvuu'\. Did you mean 'fvu'\?"):
        table.select(frame, ["fvuu"])


# Export


def test_csv_reads_back_equal(frame):
    pd.testing.assert_frame_equal(table.from_csv(table.export(frame, "csv")), frame)


def test_other_csv_is_refused():
    with pytest.raises(ValueError, match="no long table"):
        table.from_csv(b"a,b\n1,2\n")


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=3))
def test_csv_and_json_keep_every_name(names):
    records = [
        make_record(make_identity(sae=name), measurements=[make_number(name, -1 / 3, -1.0, 0.5)]) for name in names
    ]
    frame = table.from_records(records)
    assert list(table.from_csv(table.export(frame, "csv"))["metric"]) == names
    assert [row["metric"] for row in json.loads(table.export(frame, "json"))] == names


def test_csv_is_read_by_others(frame):
    again = pd.read_csv(
        io.BytesIO(table.export(frame, "csv")), keep_default_na=False, na_values={"value": [""], "l0": [""]}
    )
    assert list(again.columns) == COLUMNS
    pd.testing.assert_series_equal(again["value"], frame["value"])
    assert list(again["error"]) == list(frame["error"])
    assert list(pd.to_datetime(again["created"])) == list(frame["created"])


def test_json_holds_full_numbers_and_null(frame):
    rows = json.loads(table.export(frame, "json"))
    assert [list(row) for row in rows] == [COLUMNS] * len(frame)
    assert rows[0]["value"] == 1 / 3
    assert rows[3]["value"] == 1e-17
    assert rows[2]["value"] is None
    assert rows[0]["higher_is_better"] is False
    assert rows[0]["created"] == "2026-01-02T03:04:05+00:00"


def test_parquet_reads_back_equal(frame):
    again = pd.read_parquet(io.BytesIO(table.export(frame, "parquet")))
    pd.testing.assert_frame_equal(again, frame, check_dtype=False)


READ = {
    "csv": lambda content: pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values={"l0": [""]}),
    "json": lambda content: pd.DataFrame(json.loads(content)),
    "parquet": lambda content: pd.read_parquet(io.BytesIO(content)),
}


@pytest.mark.parametrize("format", READ)
def test_a_control_survives_export(record, identity, number, format):
    """The name of a control need not say that it is one, and no file holds the attributes of a frame."""
    frame = table.from_records(
        [
            record(identity(sae=sae), measurements=[number("fvu", 0.1, 0.05, 0.2)], control=control)
            for sae, control in [("zoo:frozen-topk-k32-s0", True), ("zoo:topk-k32-s0", False)]
        ]
    )
    again = READ[format](table.export(frame, format))
    assert list(again["control"]) == [True, False]
    assert list(apply(again, Filters(controls=False))["sae"]) == ["zoo:topk-k32-s0"]
    (wide,) = table.to_wide(again)
    assert list(wide.cells["SAE"]) == ["zoo:topk-k32-s0", "zoo:frozen-topk-k32-s0 (control)"]
    assert pivot(again, ["sae", "control"], ["metric"])["control"].tolist() == [True, False]


@pytest.mark.parametrize("format", ["md", "csv", "json", "parquet"])
def test_an_empty_table_can_be_exported(format):
    assert table.export(table.from_records([]), format)


def test_markdown(frame):
    lines = table.to_markdown(frame).splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == COLUMNS
    assert len(lines) == 2 + len(frame)
    cells = dict(zip(COLUMNS, [cell.strip() for cell in lines[4].strip("|").split("|")], strict=True))
    assert (cells["metric"], cells["value"], cells["error"]) == ("ce_recovered_mean", "", "ablation does not hurt")


def test_export_of_a_wide_table(frame):
    (wide,) = table.to_wide(frame)
    assert table.export(wide, "md").decode().startswith(f"core v{VERSION}")
    assert table.export(wide, "csv").decode().splitlines()[0] == "SAE,L0,fvu ↓,ce_recovered_mean ↑"
