"""Each hostile record beside good ones, given to every reader: the good rows are there, and the bad one is named."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from saebench.cards.registry import registry
from saebench.cli.main import cli
from saebench.results import load
from saebench.results.store import ResultStore
from tests.hostile.record_folder import ARRAYS, JSON, NOBODY, STRANGER, Hostile
from tests.hostile.records import cases, hostile
from tests.results.conftest import make_identity, make_number, make_record

GOOD = ("zoo:good-a", "zoo:good-b", "baseline:neurons")
ALL = hostile()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of two SAEs and a control. Read only."""
    root = tmp_path_factory.mktemp("hostile") / "results"
    card = registry().card("core")
    hard = np.linspace(0.1, 0.9, 20)
    for shift, sae in enumerate(GOOD):
        who = make_identity(
            task_version=card.version,
            parameters=card.resolve("quick"),
            sae=sae,
            sae_fingerprint=f"{shift}" * 64,
        )
        units = hard + 0.1 * shift + 0.01 * np.sin(hard * 50 * (shift + 1))
        value = float(units.mean())
        number = make_number("fvu", value, value - 0.1, value + 0.1, stderr=0.05, n=20, contributions="fvu")
        record = make_record(who, measurements=[number], control=shift == 2)
        ResultStore(root).write(record, {"fvu.num": units, "fvu.den": np.ones(20)})
    return root


def run(*arguments: object) -> Result:
    """Return what the command line did, which must be documented."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="saebench")
    assert result.exit_code in (0, 1, 2), (arguments, result.output)
    raw = "csv" in arguments  # it keeps every name as it is
    assert raw or result.output.replace("\n", "").isprintable()
    return result


def told(result: Result) -> list[str]:
    """Return the lines on stderr, none of which is long."""
    lines = result.stderr.splitlines()
    assert len(lines) <= 22
    assert all(len(line) <= 1_700 for line in lines)
    return lines


def check_named(one: Hostile, path: Path, lines: list[str]) -> None:
    """Check that exactly the bad record is named, with the reason."""
    naming = [line for line in lines if path.stem in line]
    assert bool(naming) == (one.noticed == JSON), lines
    assert not naming or one.says in naming[0]


def table(root: Path, one: Hostile, path: Path) -> None:
    result = run("table", root)
    assert result.exit_code == 0, result.output
    assert all(sae in result.stdout for sae in GOOD)
    check_named(one, path, told(result))
    if one.noticed == JSON:  # no table holds anything of it
        return
    rows = json.loads(run("table", root, "--format", "json").stdout)
    assert len([row for row in rows if row["sae"] in GOOD]) == len(GOOD)
    for more in (("--format", "latex"), ("--format", "csv"), ("--pivot", "record_id/metric"), ("--metric", "*")):
        assert run("table", root, *more).exit_code == 0


def compare(root: Path, one: Hostile, path: Path) -> None:
    result = run("compare", GOOD[0], GOOD[1], "--results", root)
    assert result.exit_code == 0, result.output
    assert "fvu" in result.stdout
    check_named(one, path, told(result))
    with_it = run("compare", GOOD[0], path.stem, "--results", root, "--all", "--subsets")
    assert with_it.exit_code in (0, 2)
    assert with_it.exit_code == 0 or len(with_it.stderr.splitlines()[-1]) < 2_500


def export(root: Path, one: Hostile, path: Path) -> None:
    out = root.parent / "exported"
    result = run("export", root, "--out", out)
    assert result.exit_code == 0, result.output
    names = {json.loads(file.read_text())["model_info"]["name"] for file in out.rglob("*.json")}
    assert names >= set(GOOD)
    check_named(one, path, told(result))


def board(root: Path, one: Hostile, path: Path) -> None:
    out = root.parent / "board"
    result = run("leaderboard", "build", "--results", root, "--out", out)
    assert result.exit_code == 0, result.output
    data = json.loads((out / "leaderboard.json").read_text())
    rows = [row["sae"] for stratum in data["strata"] for row in stratum["rows"]]
    assert all(rows.count(sae) >= 1 for sae in GOOD)
    assert all(sae.replace("_", "\\_") in (out / "leaderboard.md").read_text() for sae in GOOD)
    lines = told(result)
    if one.noticed == ARRAYS:
        assert any(path.stem in line and "makes the record again" in line for line in lines)
    else:
        check_named(one, path, lines)


def submit(root: Path, one: Hostile, path: Path) -> None:
    result = run("submit", root)
    assert result.exit_code in (0, 1), result.output
    assert (path.stem in result.stdout) or one.noticed == NOBODY
    if one.noticed != NOBODY:
        assert result.exit_code == 1
    for sae in GOOD:
        store = ResultStore(root)
        record = next(record for record in store if record.identity.sae == sae)
        name = store.path(record).relative_to(root).as_posix()
        assert f"\n{name}\n  is not a record" not in f"\n{result.stdout}"


def python(root: Path, one: Hostile, path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = load(root)
    assert set(frame["sae"]) >= set(GOOD)
    check_named(one, path, [str(warning.message) for warning in caught])


READERS: dict[str, Callable[[Path, Hostile, Path], None]] = {
    "table": table,
    "compare": compare,
    "export": export,
    "leaderboard build": board,
    "submit": submit,
    "results.load": python,
}


@pytest.mark.parametrize("one", ALL, ids=[one.name for one in ALL])
@pytest.mark.filterwarnings("ignore")
def test_every_reader(one: Hostile, good: Path, tmp_path: Path) -> None:
    root = tmp_path / "results"
    shutil.copytree(good, root)
    path = one.put(root)
    for reader in READERS.values():
        reader(root, one, path)
    assert not list(Path.cwd().glob("EXECUTED"))


def test_there_are_enough_of_them() -> None:
    assert len(ALL) >= 130
    assert len({case.name for case in cases()}) == len(ALL)
    assert STRANGER
