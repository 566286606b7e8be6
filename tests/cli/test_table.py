"""``saebench table`` on the records of one run with a good and a broken SAE."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result

from saebench.results.table import COLUMNS
from tests.cli.conftest import Inputs, Invoke

Finished = tuple[Path, Result]


def test_wide_is_the_default_for_reading(invoke: Invoke, finished: Finished, inputs: Inputs):
    result = invoke("table", finished[0])
    assert result.exit_code == 0, result.output
    rows = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert rows[0].startswith("| SAE ")
    assert [inputs.good in line for line in rows].count(True) == 1
    assert any(inputs.broken in line and "failed: " in line for line in rows)
    assert invoke("table", finished[0], "--wide").stdout == result.stdout


def test_long_has_all_columns(invoke: Invoke, finished: Finished):
    header = invoke("table", finished[0], "--long").stdout.splitlines()[0]
    assert [cell.strip() for cell in header.strip("|").split("|")] == list(COLUMNS)


def test_formats_hold_the_same_numbers(invoke: Invoke, finished: Finished, tmp_path: Path):
    out = finished[0]
    rows = list(csv.DictReader(io.StringIO(invoke("table", out, "--format", "csv").stdout)))
    objects = json.loads(invoke("table", out, "--format", "json").stdout)
    written = invoke("table", out, "--format", "parquet", "--output", tmp_path / "t.parquet")
    assert written.exit_code == 0, written.output
    frame = pd.read_parquet(tmp_path / "t.parquet")
    assert list(rows[0]) == list(objects[0]) == list(frame.columns) == list(COLUMNS)
    values = [float(row["value"]) if row["value"] else None for row in rows]
    assert values == [row["value"] for row in objects]
    assert values == frame["value"].astype(object).where(frame["value"].notna(), None).tolist()
    assert {row["status"] for row in rows} == {"ok", "failed"}


def test_parquet_on_stdout(invoke: Invoke, finished: Finished):
    stdout = invoke("table", finished[0], "--format", "parquet").stdout_bytes
    assert len(pd.read_parquet(io.BytesIO(stdout))) > 5


def test_metrics_choose_columns(invoke: Invoke, finished: Finished):
    header = next(
        line
        for line in invoke("table", finished[0], "--metric", "l0", "--metric", "mse").stdout.splitlines()
        if line.startswith("| SAE")
    )
    assert [cell.split()[0] for cell in header.strip("|").split("|")] == ["SAE", "l0", "mse"]


def test_wide_csv(invoke: Invoke, finished: Finished):
    rows = list(csv.reader(io.StringIO(invoke("table", finished[0], "--wide", "--format", "csv").stdout)))
    assert rows[0][0] == "SAE"
    assert len(rows) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "fvuu"], "Did you mean 'fvu'?"),
        (["--task", "cor"], "Did you mean 'core'?"),
        (["--format", "xml"], "xml"),
    ],
)
def test_unknown_names(invoke: Invoke, finished: Finished, arguments: list[str], message: str):
    result = invoke("table", finished[0], *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_nothing_to_show(invoke: Invoke, tmp_path: Path):
    for folder, message in ((tmp_path, "There are no records in"), (tmp_path / "none", "No results at")):
        result = invoke("table", folder)
        assert result.exit_code == 2
        assert message in result.stderr


def test_several_wide_tables_do_not_fit_one_file(invoke: Invoke, finished: Finished, tmp_path: Path):
    for path in finished[0].rglob("*.json"):
        record = json.loads(path.read_text())
        (tmp_path / path.name).write_text(json.dumps(record | {"preset": record["status"]}))
    result = invoke("table", tmp_path, "--wide", "--format", "csv")
    assert result.exit_code == 2
    assert "2 wide tables" in result.stderr
    assert invoke("table", tmp_path, "--wide").stdout.count("| SAE") == 2


def test_output_into_a_pipe(invoke: Invoke, finished: Finished, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    nobody = invoke("table", finished[0], "--output", tmp_path / "pipe")
    assert (nobody.exit_code, "nobody reads this pipe" in nobody.output) == (2, True)
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with open(reader, "rb") as pipe:
        assert invoke("table", finished[0], "--output", tmp_path / "pipe").exit_code == 0
        assert b"fvu" in pipe.read()


def test_output_that_cannot_be_written(invoke: Invoke, finished: Finished, tmp_path: Path):
    result = invoke("table", finished[0], "--output", tmp_path / "no" / "such" / "folder.md")
    assert result.exit_code == 2
    assert "Cannot write" in result.stderr


def test_damaged_record_is_a_warning_line(invoke: Invoke, finished: Finished, tmp_path: Path):
    path = next(finished[0].rglob("*.json"))
    (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / f"{'0' * len(path.stem)}.json").write_text("{")
    result = invoke("table", tmp_path)
    assert result.exit_code == 0
    named, remedy = result.stderr.splitlines()
    assert named.startswith("Warning: Leaving out ")
    assert "the same options makes them again" in remedy
