"""Comparisons of groups whose answer is known: permuted, half shared, unequal, without encoders."""

from __future__ import annotations

import functools
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from saebench.evaluation import TaskOutput
from saebench.stats.rng import generator
from saebench.tasks.seed_stability.report.geometry import report_comparison, report_over_null, report_pairs
from saebench.tasks.seed_stability.scoring.firing import FiringTotals
from saebench.tasks.seed_stability.scoring.geometry import ComparedLatents, compare, stand_ins
from saebench.tasks.seed_stability.selection import masks, probability, similarity
from saebench.tasks.seed_stability.settings import SeedStabilitySettings
from tests.tasks.seed_stability.reports import empty_report, values

SETTINGS = SeedStabilitySettings.parse({"thresholds": [0.5, 0.7]}, task="seed_stability")
D = 128


def directions(n: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(generator(seed, "rows").standard_normal((n, D))).float()


def rows(decoder: torch.Tensor, encoder: torch.Tensor | None = None) -> ComparedLatents:
    n = len(decoder)
    return ComparedLatents(np.arange(n), n, decoder, encoder, FiringTotals(np.ones(n, np.int64), np.ones(n)))


def half_shared(runs: int = 3) -> list[ComparedLatents]:
    """40 of 100 latents are in every run, 20 in the first two only, in other places each time."""
    every, some = directions(40, 0), directions(20, 1)
    out = []
    for run in range(runs):
        own = directions(60 if run > 1 else 40, 10 + run)
        order = torch.from_numpy(generator(run, "order").permutation(100))
        whole = torch.cat([every, own] if run > 1 else [every, some, own])[order]
        out.append(rows(whole, 2 * whole))
    return out


def measure(runs: list[ComparedLatents], others: list[ComparedLatents], label: str = "") -> TaskOutput:
    report = empty_report()
    comparison = compare(runs, others, SETTINGS)
    report_comparison(report, runs, comparison, SETTINGS, label)
    if runs is others:
        report_pairs(report, [f"run{i}" for i in range(len(runs))], comparison, SETTINGS)
    return report.output()


def figures(runs: list[ComparedLatents], label: str = "") -> dict[tuple[str, str], float | None]:
    return values(measure(runs, runs, label))


def test_permuted_runs_are_perfectly_stable() -> None:
    base = directions(50, 0)
    orders = [torch.from_numpy(generator(seed, "order").permutation(50)) for seed in range(3)]
    found = figures([rows(base[order], base[order]) for order in orders])
    for metric in ("pw_mcc", "mmcs", "stability", "shared_share", "stable_share"):
        assert found[metric, ""] == pytest.approx(1, abs=1e-6)
    assert found["unstable_share", ""] == found["mixed_share", ""] == 0
    assert found["mmcs", "run2->run0"] == found["pw_mcc", "run0~run2"] == pytest.approx(1, abs=1e-6)


def test_a_known_shared_part_gives_its_share_in_every_figure() -> None:
    found = figures(half_shared())
    assert found["pw_mcc", "run0~run1"] > found["pw_mcc", "run0~run2"]
    shares = {(0, 1): 0.6, (0, 2): 0.4, (1, 2): 0.4}
    assert found["shared_share", ""] == pytest.approx(np.mean(list(shares.values())))
    assert found["stability", ""] == pytest.approx(
        np.mean([shares[tuple(sorted(p))] for p in permutations(range(3), 2)])
    )
    assert found["survival", "0.7"] == pytest.approx(found["stability", ""])
    assert found["survival", "0.7/encoder"] == pytest.approx(found["stability", ""])
    assert found["stable_share", ""] == pytest.approx(0.4)
    assert found["mixed_share", ""] == pytest.approx(40 / 300)
    assert found["unstable_share", ""] == pytest.approx(1 - 0.4 - 40 / 300)
    assert found["stability", "run2"] == pytest.approx(0.4)


def test_weights_move_the_shares_as_they_should() -> None:
    group = half_shared()
    p = [probability(compare(group, group, SETTINGS).decoder, run, 0.7) for run in range(3)]
    firing = [FiringTotals(1 + 8 * (each == 1), 1.0 * (each == 0)) for each in p]
    found = figures([replace(run, firing=totals) for run, totals in zip(group, firing, strict=True)])
    stable, rest = 3 * 40, 300 - 3 * 40
    assert found["stable_share", "frequency"] == pytest.approx(9 * stable / (9 * stable + rest))
    assert found["unstable_share", "mass"] == pytest.approx(1)
    assert found["stable_share", ""] == pytest.approx(0.4)


def test_labels_go_last_so_that_the_headline_null_is_called_by_its_name() -> None:
    found = figures(half_shared(), label="null:isotropic")
    names = {subset for _, subset in found}
    assert {"null:isotropic", "0.7/null:isotropic", "0.7/encoder/null:isotropic", "mass/null:isotropic"} <= names


@pytest.mark.parametrize("kind", ["isotropic", "covariance"])
def test_no_signal_lies_at_its_null(kind: str) -> None:
    """Random dictionaries against each other, and against what stands in for them."""
    group = [rows(directions(200, run), directions(200, 50 + run)) for run in range(3)]
    nulls = stand_ins(group, kind, functools.partial(generator, 0), "null")
    real, chance = measure(group, group), measure(group, nulls)
    for a, b in zip(real.measurements, chance.measurements, strict=False):  # the single pairs have no null
        assert a.value == pytest.approx(b.value, abs=0.02)
        if a.metric == "pw_mcc":
            assert 0.1 < a.value < 0.4
        if a.metric in ("stability", "shared_share"):
            assert a.value == 0


def over_null(group: list[ComparedLatents]) -> float:
    nulls = stand_ins(group, "covariance", functools.partial(generator, 0), "null")
    report = empty_report()
    against, backward = compare(group, nulls, SETTINGS), compare(group[::-1], nulls[::-1], SETTINGS)
    report_over_null(report, compare(group, group, SETTINGS), against, backward)
    return values(report.output())["pw_mcc_over_null", ""] or 0.0


@pytest.mark.parametrize(("common", "shared", "low", "high"), [(50.0, False, -0.02, 0.02), (0.0, True, 0.3, 0.9)])
def test_what_all_rows_have_in_common_is_no_stability(common: float, shared: bool, low: float, high: float) -> None:
    """Rows that all point in about one direction match those of any other run, and so do random rows like them."""
    mean = common * directions(1, 99)[0] / D**0.5
    group = half_shared() if shared else [rows(directions(100, run) + mean) for run in range(3)]
    report = empty_report()
    report_comparison(report, group, compare(group, group, SETTINGS), SETTINGS)
    found = values(report.output())
    beyond = over_null(group)
    assert found["pw_mcc", ""] > 0.5
    assert low < beyond < high
    assert over_null(group[::-1]) == pytest.approx(beyond, abs=1e-6)  # whichever run comes first


def test_a_null_depends_neither_on_the_order_of_latents_nor_on_their_units() -> None:
    group = half_shared()
    order = torch.from_numpy(generator(7, "order").permutation(100))
    scale = torch.from_numpy(generator(8, "scale").uniform(0.1, 10, (100, 1))).float()
    rewritten = [rows((run.decoder * scale)[order]) for run in group]
    for null in ("isotropic", "covariance"):
        one, other = (
            compare(runs, stand_ins(runs, null, functools.partial(generator, 0), "null"), SETTINGS).decoder
            for runs in (group, rewritten)
        )
        for pair, matching in one.matched.items():
            assert matching.mean == pytest.approx(other.matched[pair].mean, abs=1e-5)


def test_a_null_stands_in_for_the_others_and_not_for_the_run_itself() -> None:
    group = half_shared()
    nulls = stand_ins(group, "isotropic", functools.partial(generator, 0), "null")
    found = compare(group, nulls, SETTINGS).decoder
    for (a, b), best in found.best.items():
        x, y = (t / t.norm(dim=-1, keepdim=True) for t in (group[a].decoder, nulls[b].decoder))
        np.testing.assert_allclose(best, (x @ y.T).amax(1), atol=1e-6)


def test_one_way_figures_only_for_unequal_widths() -> None:
    small, large = directions(30, 0), torch.cat([directions(30, 0), directions(20, 1)])
    found = figures([rows(small, small), rows(large, large)])
    assert found["mmcs", "run0->run1"] == pytest.approx(1, abs=1e-6)
    assert found["mmcs", "run1->run0"] < 0.9
    assert found["pw_mcc", ""] is None
    assert found["shared_share", ""] is None
    assert found["stability", "run0"] == 1
    assert found["stability", "run1"] == pytest.approx(30 / 50)


def test_without_encoders_of_every_run_there_is_no_shared_share() -> None:
    group = half_shared()
    group[1] = rows(group[1].decoder)
    found = figures(group)
    assert found["shared_share", ""] is None
    assert ("pw_mcc", "encoder") not in found
    assert found["pw_mcc", ""] is not None


def test_encoders_that_disagree_are_not_shared() -> None:
    base = directions(50, 0)
    found = figures([rows(base, base), rows(base, base.roll(1, 0))])
    assert found["pw_mcc", ""] == pytest.approx(1, abs=1e-6)
    assert found["pw_mcc", "encoder"] == pytest.approx(1, abs=1e-6)
    assert found["shared_share", ""] == 0


def test_rows_without_direction_are_not_scored() -> None:
    a, b = directions(20, 0), directions(20, 0)
    a[3] = 0
    side = compare([rows(a), rows(b)], [rows(a), rows(b)], SETTINGS).decoder
    p = probability(side, 0, 0.7)
    assert np.isnan(p[3])
    assert np.isnan(similarity(side, 0)[3])
    assert not any(mask[3] for mask in masks(p, SETTINGS).values())
    assert figures([rows(a), rows(b)])["stability", "run0"] == 1


def test_only_chosen_latents_are_compared() -> None:
    whole = rows(directions(20, 0))
    keep = np.arange(20) % 3 == 0
    chosen = whole.where(keep)
    assert chosen.numbers.tolist() == [0, 3, 6, 9, 12, 15, 18]
    assert torch.equal(chosen.decoder, whole.decoder[keep])
    assert chosen.where(np.arange(20) > 9).numbers.tolist() == [12, 15, 18]
