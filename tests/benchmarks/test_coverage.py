"""The simulation of coverage: its cases, its comparison, and the page that it fills."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from benchmarks.coverage.__main__ import PAGE, main
from benchmarks.coverage.cases import CASES, Case, bca
from benchmarks.coverage.simulate import METHODS, simulate
from saebench.stats.intervals import resampling_weights


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_truth_of_each_case_is_true(case: Case):
    num, den = case.draw(np.random.default_rng(0), 400_000)
    moves = (num - case.truth * den) / den.mean()
    assert num.sum() / den.sum() == pytest.approx(case.truth, abs=5 * moves.std() / 400_000**0.5)


def test_the_old_interval_is_scipys():
    rng = np.random.default_rng(3)
    den = rng.lognormal(0, 0.5, 25)
    num = den * rng.lognormal(0, 0.8, 25)
    resamples = rng.integers(0, 25, (999, 25))
    weights = np.stack([np.bincount(row, minlength=25) for row in resamples]).astype(float)
    theirs = scipy.stats.bootstrap(
        (num, den),
        lambda a, b, axis=-1: a.sum(axis) / b.sum(axis),
        paired=True,
        method="BCa",
        n_resamples=0,
        bootstrap_result=type(
            "Result", (), {"bootstrap_distribution": num[resamples].sum(1) / den[resamples].sum(1)}
        )(),
    )
    assert bca(num, den, weights) == pytest.approx(tuple(theirs.confidence_interval), rel=1e-12)
    assert bca(np.zeros(25), den, weights) == (0, 0)
    around_zero = np.r_[np.ones(13), -np.ones(12)]
    assert np.isnan(bca(num, around_zero, resampling_weights(25, 200, rng))[0])


def test_rows_hold_coverage_and_width():
    rows = simulate(CASES[0], 16, 60)
    assert [row["method"] for row in rows] == list(METHODS)
    assert rows == simulate(CASES[0], 16, 60), "the draws are seeded"
    for row in rows:
        assert 0.75 <= row["coverage"] <= 1
        assert 0.5 < row["width"] < 2


def test_the_page_is_filled_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page = tmp_path / "intervals.md"
    page.write_text("# Page\n\n<!-- coverage:saebench -->\n<!-- /coverage -->\n", encoding="utf-8")
    where = ["--results", str(tmp_path), "--page", str(page)]
    assert main([*where, "--check"]) == 2
    assert "There is no coverage.json; run: python -m benchmarks.coverage" in capsys.readouterr().err
    assert main([*where, "--repetitions", "4"]) == 0
    assert f"| {CASES[0].name} " in page.read_text(encoding="utf-8")
    assert main([*where, "--check"]) == 0
    page.write_text(page.read_text(encoding="utf-8").replace(CASES[0].name, "other"), encoding="utf-8")
    assert main([*where, "--check"]) == 1
    assert "out of date: intervals.md" in capsys.readouterr().err


def test_the_published_page_is_up_to_date():
    assert main(["--check", "--page", str(PAGE)]) == 0
