"""``saebench leaderboard`` and the script that publishes boards."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from saebench.cli.main import cli
from saebench.results.record import Status
from saebench.results.store import ResultStore
from scripts import build_leaderboards
from tests.results.conftest import make_identity, make_number, make_record
from tests.results.damage import DAMAGES

BOARD = "name: mine\ntitle: Mine\ndescription: D\ntasks:\n  core:\n"


@pytest.fixture
def results(tmp_path) -> Path:
    store = ResultStore(tmp_path / "results")
    for sae, fvu in (("zoo:a", 0.1), ("zoo:b", 0.9)):
        numbers = [make_number("fvu", fvu, fvu - 0.01, fvu + 0.01), make_number("ce_recovered_mean", 1 - fvu, 0.0, 1.0)]
        store.write(make_record(make_identity(sae=sae), measurements=numbers))
    return store.root


@pytest.fixture
def boards(tmp_path) -> Path:
    folder = tmp_path / "leaderboards"
    folder.mkdir()
    (folder / "mine.yaml").write_text(BOARD)
    return folder


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["leaderboard", *map(str, arguments)], prog_name="saebench")


def test_build_writes_everything(results, tmp_path, boards):
    out = tmp_path / "site"
    made = invoke("build", "--board", boards / "mine.yaml", "--results", results, "--out", out)
    assert made.exit_code == 0, made.output
    assert "mine: 2 rows from 2 records" in made.output
    data = json.loads((out / "mine.json").read_text())
    assert [row["sae"] for row in data["strata"][0]["rows"]] == ["zoo:a", "zoo:b"]
    assert (out / "mine.md").read_text().startswith("# Mine\n")
    assert (out / "mine.csv").read_text().startswith("board,stratum,")
    assert (out / "index.html").is_file()


def test_build_without_a_board_takes_every_task_that_was_run(results, tmp_path):
    made = invoke("build", "--results", results, "--out", tmp_path / "site")
    assert made.exit_code == 0, made.output
    assert (tmp_path / "site" / "leaderboard.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("build", "--board", "nosuch"), "There is no board 'nosuch'"),
        (("build", "--results", "nowhere"), "No results at nowhere"),
        (("serve", "nowhere"), "There is no site in nowhere"),
    ],
)
def test_mistakes_are_one_sentence(arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = invoke(*arguments)
    assert found.exit_code == 2
    assert sentence in found.output


def test_published_boards_are_written_and_a_stale_one_is_noticed(results, boards, capsys):
    arguments = ["--results", str(results), "--boards", str(boards)]
    assert build_leaderboards.main([*arguments, "--check"]) == 1
    assert "out of date: mine.md, mine.csv, mine.json" in capsys.readouterr().err
    assert not (boards / "mine.md").exists()
    assert build_leaderboards.main(arguments) == 0
    assert build_leaderboards.main([*arguments, "--check"]) == 0
    (boards / "mine.csv").write_text("edited")
    assert build_leaderboards.main([*arguments, "--check"]) == 1
    assert "out of date: mine.csv;" in capsys.readouterr().err


def test_a_wrong_board_is_said(results, boards, capsys):
    (boards / "mine.yaml").write_text(BOARD.replace("core", "coer"))
    assert build_leaderboards.main(["--results", str(results), "--boards", str(boards)]) == 2
    assert "Did you mean 'core'?" in capsys.readouterr().err


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_left_out(results, tmp_path, boards, damage):
    record = make_record(
        make_identity(sae="zoo:c"), measurements=[make_number("fvu", 0.5, 0.4, 0.6, contributions="fvu")]
    )
    arrays = {"fvu.num": np.full(20, 0.5), "fvu.den": np.ones(20)}
    path = ResultStore(results).write(record, arrays).with_suffix(".npz")
    DAMAGES[damage](path)
    out = tmp_path / "site"
    made = invoke("build", "--board", boards / "mine.yaml", "--results", results, "--out", out)
    assert made.exit_code == 0, made.output
    assert "mine: 2 rows from 2 records" in made.output
    assert f"Warning: The record {record.record_id} is damaged: its arrays in {path} are unusable" in made.stderr
    assert "makes the record again" in made.stderr
    [left_out] = json.loads((out / "mine.json").read_text())["left_out"]
    assert (left_out["record_id"], left_out["sae"]) == (record.record_id, "zoo:c")
    assert path.name in left_out["reason"]
    assert str(tmp_path) not in left_out["reason"]
    assert path.name in (out / "mine.md").read_text()


def test_only_damaged_records(tmp_path):
    store = ResultStore(tmp_path / "results")
    number = make_number("fvu", 0.5, 0.4, 0.6, contributions="fvu")
    arrays = {"fvu.num": np.full(20, 0.5), "fvu.den": np.ones(20)}
    DAMAGES["one bit"](store.write(make_record(measurements=[number]), arrays).with_suffix(".npz"))
    made = invoke("build", "--results", store.root, "--out", tmp_path / "site")
    assert made.exit_code == 0, made.output
    assert "0 rows from 0 records" in made.output
    assert "is damaged" in made.stderr


def test_a_failed_sae_of_unknown_width_ends_nothing(results, tmp_path, boards):
    failed = make_record(make_identity(sae="zoo:c"), status=Status.FAILED, error="weights hold NaN")
    failed.sae.d_in, failed.sae.d_sae, failed.sae.l0 = 0, 0, None
    ResultStore(results).write(failed)
    out = tmp_path / "site"
    made = invoke("build", "--board", boards / "mine.yaml", "--results", results, "--out", out)
    assert made.exit_code == 0, made.output
    assert "mine: 3 rows from 3 records" in made.output
    assert "width unknown" in (out / "mine.md").read_text()


def test_a_damaged_copy_hides_no_older_one(results, tmp_path, boards):
    number = make_number("fvu", 0.5, 0.4, 0.6, contributions="fvu")
    arrays = {"fvu.num": np.full(20, 0.5), "fvu.den": np.ones(20)}
    paths = []
    for days, folder in enumerate((results, tmp_path / "newer")):
        created = datetime(2026, 1, 1 + days, tzinfo=UTC)
        record = make_record(make_identity(sae="zoo:c"), measurements=[number], created=created)
        paths.append(ResultStore(folder).write(record, arrays))
    DAMAGES["one bit"](paths[1].with_suffix(".npz"))
    folders = ("--results", results, "--results", tmp_path / "newer")
    made = invoke("build", "--board", boards / "mine.yaml", *folders, "--out", tmp_path / "site")
    assert made.exit_code == 0, made.output
    assert "mine: 3 rows from 3 records" in made.output
    [line] = made.stderr.splitlines()
    assert f"its arrays in {paths[1].with_suffix('.npz')}" in line
    assert "makes the record again" in line
    assert str(paths[0]) in line
