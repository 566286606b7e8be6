"""Projects whose tests check SAEs: with runs that are made up, number by number, and with real ones on tiny models."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from saebench.cards.registry import registry
from saebench.regression import check as check_module
from saebench.regression import report
from saebench.regression.baseline import Baseline, entry, write_baseline
from saebench.results.record import Arrays, Measurement, Record
from saebench.results.store import ResultStore
from saebench.stats.intervals import mean_estimate
from tests.results.conftest import make_identity, make_record

assert report  # imported here: what a run inside a test imports first, pytester forgets again
UNITS = 32
VERSION = registry().card("core").version
LEVELS = {"fvu": 0.2, "ce_recovered_mean": 0.8, "ce_sae": 4.0, "l0": 32.0}


def units(level: float, noise: float = 0.0, seed: int = 1) -> np.ndarray:
    """Per-unit values ``[UNITS]`` around ``level``: what makes a unit hard is the same for all, ``noise`` is not."""
    hard, own = (np.random.default_rng(number).normal(size=UNITS) for number in (0, seed))
    return level + 0.1 * (hard - hard.mean()) + noise * (own - own.mean())


def numbers(levels: Mapping[str, float | None], noise: float = 0.0) -> tuple[list[Measurement], Arrays]:
    """A mean over units per metric; None is not scored."""
    measurements, arrays = [], {}
    for metric, level in levels.items():
        if level is None:
            measurements.append(Measurement(metric=metric, value=None, not_scored="no token fired", unit="sequence"))
            continue
        values = units(level, noise)
        found = mean_estimate(values)
        arrays |= {f"{metric}.num": values, f"{metric}.den": np.ones(UNITS)}
        measurements.append(
            Measurement(
                metric=metric,
                value=found.value,
                stderr=found.stderr,
                ci_low=found.ci_low,
                ci_high=found.ci_high,
                n=UNITS,
                unit="sequence",
                contributions=metric,
            )
        )
    return measurements, arrays


def made_up(noise: float = 0.0, identity: Mapping[str, Any] | None = None, **levels: float | None) -> Any:
    """A record of ``core`` with `LEVELS`, but for those that are given, and its arrays."""
    measurements, arrays = numbers({**LEVELS, **levels}, noise)
    return make_record(
        make_identity(**{"task_version": VERSION, **(identity or {})}), measurements=measurements, preset="smoke"
    ), arrays


class MadeUp:
    """Stands in for `saebench.run`: finds ``records``."""

    def __init__(self) -> None:
        self.records: list[tuple[Record, Arrays]] = [made_up()]
        self.asked: list[dict[str, Any]] = []

    def __call__(self, progress: Any = None, **options: Any) -> pd.DataFrame:
        self.asked.append(options)
        store = ResultStore(options["out"])
        for record, arrays in self.records:
            store.write(record, arrays)
        rows = [(r.record_id, r.identity.task, r.status.value, r.error) for r, _ in self.records]
        return pd.DataFrame(rows, columns=["record_id", "task", "status", "error"])


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """In continuous integration pytest says the whole of every failure once more, in its summary."""
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    """``finds.records = [made_up(fvu=0.3)]``: what the next check measures."""
    stand_in = MadeUp()
    monkeypatch.setattr(check_module, "run", stand_in)
    return stand_in


class Project:
    """A repository with one test file and nothing else of saebench."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        pytester.makeini("[pytest]\n")

    def write(self, body: str) -> None:
        """The test file."""
        self.pytester.makepyfile(test_sae=textwrap.dedent(body))

    def check(self, arguments: str = "", sae: str = "zoo:topk-k32-s0") -> None:
        """A test file with one check."""
        self.write(
            f"""
            def test_quality(sae_quality):
                sae_quality.check({sae!r}, baseline="topk", {arguments})
            """
        )

    def run(self, *options: str, passed: int = 0, failed: int = 0, **outcomes: int) -> str:
        """Run pytest, with that many outcomes; returns what it printed."""
        result = self.pytester.runpytest("-p", "no:cacheprovider", "-p", "no:xdist", *options)
        result.assert_outcomes(passed=passed, failed=failed, **outcomes)
        return result.stdout.str()

    @property
    def path(self) -> Path:
        return self.pytester.path / "saebench-baselines" / "topk.json"

    @property
    def baseline(self) -> dict[str, Any]:
        return json.loads(self.path.read_text("utf-8"))


@pytest.fixture
def project(pytester: pytest.Pytester, finds: MadeUp) -> Project:
    """With one check, and a baseline of what `made_up` finds."""
    project = Project(pytester)
    project.check()
    primary = {("core", "fvu", ""), ("core", "ce_recovered_mean", "")}
    write_baseline(project.path, Baseline(entries=[entry(*made_up(), primary, pytester.path)]))
    return project
