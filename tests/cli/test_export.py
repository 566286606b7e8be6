from __future__ import annotations

import json
from pathlib import Path

import pytest

from saebench.cards.registry import registry
from saebench.results.store import ResultStore
from tests.cli.conftest import Invoke
from tests.results.conftest import make_identity, make_number, make_record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    version = registry().card("core").version
    store = ResultStore(tmp_path / "records")
    store.write(make_record(make_identity(task_version=version), measurements=[make_number("fvu", 0.1)]))
    store.write(make_record(make_identity(task_version=version, seed=1), measurements=[make_number("l0", 32.0)]))
    return store.root


def test_a_file_per_record_with_a_score(invoke: Invoke, folder: Path, tmp_path: Path):
    result = invoke("export", folder, "--out", tmp_path / "eee", "--organization", "Example")
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        f"records written to {tmp_path / 'eee'}: 1; left out without a number that the schema can hold: 1\n"
    )
    [path] = (tmp_path / "eee").rglob("*.json")
    log = json.loads(path.read_text("utf-8"))
    assert log["source_metadata"]["source_organization_name"] == "Example"
    [score] = log["evaluation_results"]
    assert score["metric_config"]["lower_is_better"] is True
    assert score["score_details"]["score"] == 0.1


def test_nothing_to_write(invoke: Invoke, folder: Path, tmp_path: Path):
    for path in folder.rglob("*.json"):
        if json.loads(path.read_text())["measurements"][0]["metric"] == "fvu":
            path.unlink()
    result = invoke("export", folder, "--out", tmp_path / "eee")
    assert result.exit_code == 2
    assert "nothing was written" in result.stderr
    assert not (tmp_path / "eee").exists()
