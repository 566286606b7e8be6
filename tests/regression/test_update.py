"""An update that passes writes a baseline that the next check of the same SAE passes; any other update says why not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from saebench.cards.registry import registry
from saebench.errors import UsageError
from saebench.regression import check as check_module
from saebench.regression.check import Mode, Outcome, check
from saebench.results.array_file import read_arrays
from saebench.results.record import Arrays, Measurement, Record, Status
from saebench.results.store import ResultStore
from tests.regression.conftest import UNITS, made_up, units
from tests.results.conftest import make_identity, make_record

Measured = tuple[Record, Arrays]
ONES = np.ones(UNITS)
HARD = units(0.5)
INTERVAL = {"stderr": 0.1, "ci_low": 0.3, "ci_high": 0.7}


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """``checked(records, mode, metrics=...)``: one check of an SAE of which a run measures ``records``."""

    def call(records: list[Measured], mode: Mode, **options: Any) -> Outcome:
        def run(**_: Any) -> pd.DataFrame:
            rows = [(r.record_id, r.identity.task, r.status.value, r.error, r.sae.name) for r, _ in records]
            return pd.DataFrame(rows, columns=["record_id", "task", "status", "error", "sae"])

        class Store:
            def __init__(self, _: Any) -> None:
                self.arrays = lambda record: next(arrays for one, arrays in records if one is record)

            def read(self, record_id: str) -> Record:
                return next(record for record, _ in records if record.record_id == record_id)

        monkeypatch.setattr(check_module, "run", run)
        monkeypatch.setattr(check_module, "ResultStore", Store)
        return check(
            {"sae": "zoo:x", "out": tmp_path / "out"},
            tmp_path / "b.json",
            root=tmp_path,
            mode=mode,
            **{"tolerance": 0.0, "metrics": None, **options},
        )

    return call


def with_number(num: Any, den: Any = ONES, *, value: float = 0.5, **changes: Any) -> Measured:
    """`made_up`, with the number ``mse`` that has these contributions; None has none."""
    record, arrays = made_up()
    parts = {} if num is None else {"mse.num": np.asarray(num), "mse.den": np.asarray(den)}
    fields = {"n": UNITS, "unit": "sequence", "contributions": "mse" if parts else None, **changes}
    number = Measurement(metric="mse", value=value, **fields)
    return record.model_copy(update={"measurements": [*record.measurements, number]}), {**arrays, **parts}


STEADY = {
    "contributions": with_number(HARD, **INTERVAL),
    "contributions, and no interval": with_number(HARD),
    "an interval alone": with_number(None, **INTERVAL),
    "a standard error alone": with_number(None, stderr=0.1),
    "both ends alone": with_number(None, ci_low=0.3, ci_high=0.7),
    "units of the SAE": with_number(HARD, unit="latent", **INTERVAL),
    "the same in every unit": with_number(ONES / 2),
    "zero everywhere": with_number(0 * ONES, value=0.0),
    "two units": with_number([0.4, 0.6], [1.0, 1.0]),
    "whole numbers": with_number(np.tile([0, 1], UNITS // 2), np.ones(UNITS, int)),
    "truth values": with_number(np.tile([False, True], UNITS // 2), np.ones(UNITS, bool)),
    "half precision": with_number(HARD.astype(np.float16), np.ones(UNITS, np.float16)),
    "small": with_number(HARD * 1e-300, value=0.5e-300),
    "large": with_number(HARD * 1e60, value=0.5e60),
    "unscored units that are NaN": with_number([*HARD[:-1], np.nan], [*ONES[:-1], 0.0]),
    "negative denominators": with_number(-HARD, -ONES),
    "one in three units scored": with_number(HARD * (np.arange(UNITS) % 3 == 0), np.arange(UNITS) % 3 == 0),
}
UNSTEADY = {
    "no interval": with_number(None),
    "one end": with_number(None, ci_low=0.3),
    "one unit": with_number([0.5], [1.0], **INTERVAL),
    "one unit scored": with_number(np.eye(UNITS)[0], np.eye(UNITS)[0], **INTERVAL),
    "units of the SAE without an interval": with_number(HARD, unit="latent"),
    "no unit scored": with_number(0 * ONES, 0 * ONES, **INTERVAL),
    "a denominator around zero": with_number(HARD, units(0.0) + 0.01, **INTERVAL),
    "contributions that are NaN": with_number([*HARD[:-1], np.nan], **INTERVAL),
    "contributions that are infinite": with_number([*HARD[:-1], np.inf], **INTERVAL),
    "not scored": with_number(HARD, value=math.nan, not_scored="no token fired"),
}
METRICS = ["fvu", "mse"]  # mse has a direction


@pytest.mark.parametrize("mode", [Mode.UPDATE, Mode.NEW_ONLY])
@pytest.mark.parametrize("case", STEADY)
def test_what_can_be_compared_is_written_and_passes(checked: Any, mode: Mode, case: str):
    outcome = checked([STEADY[case]], mode, metrics=METRICS)
    assert (outcome.passed, outcome.wrote, outcome.problems) == (True, True, ())
    again = checked([STEADY[case]], Mode.COMPARE, metrics=METRICS)
    assert [str(row.verdict) for row in again.rows] == ["within tolerance"] * 2
    assert again.passed
    assert not checked([STEADY[case]], mode, metrics=METRICS).wrote


@pytest.mark.parametrize("mode", [Mode.UPDATE, Mode.NEW_ONLY])
@pytest.mark.parametrize("case", UNSTEADY)
def test_what_cannot_be_compared_is_refused_in_one_sentence(checked: Any, tmp_path: Path, mode: Mode, case: str):
    outcome = checked([UNSTEADY[case]], mode, metrics=METRICS)
    [problem] = outcome.problems
    assert problem.startswith("core/mse cannot become a baseline: it ")
    assert problem.endswith("leave the metric out of metrics=.")
    assert (outcome.passed, outcome.wrote) == (False, False)
    assert not (tmp_path / "b.json").exists()
    checked([UNSTEADY[case]], mode, metrics=["fvu"])
    assert checked([UNSTEADY[case]], Mode.COMPARE, metrics=["fvu"]).passed


@pytest.mark.parametrize("tolerance", ["5", -1, math.nan, {"fvu": "x%"}])
def test_a_tolerance_that_no_check_would_take_is_refused(checked: Any, tmp_path: Path, tolerance: Any):
    with pytest.raises(UsageError, match="A tolerance is a number"):
        checked([made_up()], Mode.UPDATE, tolerance=tolerance)
    assert not (tmp_path / "b.json").exists()


def test_numbers_of_two_records_are_refused(checked: Any, tmp_path: Path):
    """Two groups of SAEs, or two seeds: a baseline has room for one number of each metric."""
    records = [made_up(identity={"sae": sae, "seed": seed}) for sae, seed in (("a=x,y", 0), ("b=x,z", 0))]
    with pytest.raises(UsageError, match="core/ce_recovered_mean was measured twice, on a=x,y and on b=x,z; check one"):
        checked(records, Mode.UPDATE)
    assert not (tmp_path / "b.json").exists()
    other = make_record(make_identity(task="dark_matter"), measurements=made_up()[0].measurements), made_up()[1]
    assert checked([made_up(), other], Mode.UPDATE).passed


def published() -> dict[str, Measured]:
    """A record of each built-in task, with every kind of number that tasks report."""
    found: dict[str, Measured] = {}
    for path in sorted(Path(__file__).parents[2].joinpath("results").rglob("*.json")):
        record = Record.model_validate_json(path.read_bytes())
        task = record.identity.task
        if record.status is Status.OK and not record.sae.control and task not in found:
            arrays = read_arrays(path.with_suffix(".npz"))
            found[task] = record, arrays
    return found


PUBLISHED = published()


def test_every_task_has_a_published_record():
    without_saes = {"joint_splice"}  # the zoo has SAEs at one hook point only
    on_language_models = {name for name in registry().names() if registry().card(name).model == "language"}
    assert PUBLISHED.keys() == on_language_models - without_saes


@pytest.mark.parametrize("task", PUBLISHED)
def test_every_number_of_every_task_is_comparable_or_refused(checked: Any, task: str):
    record, arrays = PUBLISHED[task]
    version = registry().card(task).version
    record = record.model_copy(update={"identity": record.identity.model_copy(update={"task_version": version})})
    every = ["*/*", "*/*/*"]
    refused = {
        problem.partition(" ")[0] for problem in checked([(record, arrays)], Mode.UPDATE, metrics=every).problems
    }
    names = {f"{task}/{m.metric}" + (f"/{m.subset}" if m.subset else ""): m for m in record.measurements}
    assert refused <= names.keys()
    for name in refused:
        assert names[name].value is None or names[name].stderr is None, name
    kept = record.model_copy(update={"measurements": [m for name, m in names.items() if name not in refused]})
    assert checked([(kept, arrays)], Mode.UPDATE, metrics=every).passed
    again = checked([(kept, arrays)], Mode.COMPARE, metrics=every)
    assert {str(row.verdict) for row in again.rows} <= {"within tolerance", "no direction"}
    assert len(again.rows) == len(kept.measurements)


@pytest.mark.parametrize("task", sorted(PUBLISHED.keys() - {"dark_matter"}))  # its primary metrics have no direction
def test_the_primary_numbers_of_every_task_become_a_baseline(checked: Any, task: str):
    record, arrays = PUBLISHED[task]
    version = registry().card(task).version
    record = record.model_copy(update={"identity": record.identity.model_copy(update={"task_version": version})})
    assert checked([(record, arrays)], Mode.UPDATE).passed
    assert checked([(record, arrays)], Mode.COMPARE).passed


def test_the_store_is_the_one_that_checks_use():
    assert check_module.ResultStore is ResultStore
