"""Error norms of one SAE predicted from another's: against numpy and scipy, and on SAEs made to agree."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from saebench.errors import NotApplicableError
from saebench.evaluation.task import SAEGroup, TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae.baselines import NeuronBaseline
from saebench.sae.protocol import SAE, HookSite
from saebench.tasks.dark_matter.scoring.agreement import agreement, rank_correlation
from saebench.tasks.dark_matter.scoring.errors import norms
from saebench.tasks.dark_matter.scoring.evaluation import TokenErrors
from saebench.tasks.dark_matter.task import DarkMatterTask
from tests.conftest import WIDTH
from tests.tasks.conftest import topk_sae
from tests.tasks.dark_matter.test_task import SETTINGS, SITE, TEXT

UNITS = 20


def errors(rng: np.random.Generator, size: np.ndarray, sequence: np.ndarray) -> TokenErrors:
    lengths = norms(torch.from_numpy(size[:, None]))
    return TokenErrors(
        torch.from_numpy(sequence), lengths, torch.from_numpy(size * rng.uniform(0.2, 1, len(size))), False
    )


def pair(noise: float = 0.5, n: int = 500) -> tuple[TokenErrors, TokenErrors]:
    rng = np.random.default_rng(0)
    sequence = np.sort(rng.integers(0, UNITS, n))
    one = np.exp(rng.normal(size=n))
    return errors(rng, one, sequence), errors(rng, 0.5 * one + 1 + noise * np.exp(rng.normal(size=n)), sequence)


def value(ratio: tuple[np.ndarray, np.ndarray]) -> float:
    return float(ratio[0].sum() / ratio[1].sum())


def test_agrees_with_scikit_learn():
    a, b = pair()
    x, y, sequence = a.norms[:, 0].numpy(), b.norms[:, 0].numpy(), a.sequence.numpy()
    first = sequence < UNITS // 2
    predicted = {}
    for name, features in (("one", x[:, None]), ("both", np.stack([x, a.nonlinear.numpy()], 1))):
        predicted[name] = np.zeros_like(y)
        for rows in (first, ~first):
            predicted[name][rows] = LinearRegression().fit(features[~rows], y[~rows]).predict(features[rows])
    found = agreement(a, b, UNITS)
    one, both = (r2_score(y, predicted[name]) for name in ("one", "both"))
    assert value(found["agreement_r2"]) == pytest.approx(one)
    assert value(found["agreement_nonlinear_gain"]) == pytest.approx((both - one) / (1 - one), abs=1e-9)
    assert value(found["agreement_rank_correlation"]) == pytest.approx(spearmanr(x, y).statistic)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
def test_rank_correlation_is_spearmans(ties: bool, sign: int):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 300))
    x, y = (np.round(x), np.round(x + y)) if ties else (x, x + y)
    sequence = torch.from_numpy(np.sort(rng.integers(0, UNITS, 300)))
    found = rank_correlation(torch.from_numpy(x), torch.from_numpy(sign * y), sequence, UNITS)
    assert value(found) == pytest.approx(spearmanr(x, sign * y).statistic)


def test_all_tied_is_not_scored():
    same = torch.ones(30, dtype=torch.float64)
    _, den = rank_correlation(same, torch.arange(30.0), torch.zeros(30, dtype=torch.long), 2)
    assert den.sum() == 0


def test_the_same_errors_agree_wholly_and_unrelated_ones_not_at_all():
    a, b = pair(noise=0.0)
    assert value(agreement(a, b, UNITS)["agreement_r2"]) == pytest.approx(1)
    assert value(agreement(a, b, UNITS)["agreement_rank_correlation"]) == pytest.approx(1)
    rng = np.random.default_rng(5)
    unrelated = errors(rng, np.exp(rng.normal(size=len(a.sequence))), a.sequence.numpy())
    assert value(agreement(a, unrelated, UNITS)["agreement_r2"]) == pytest.approx(0, abs=0.05)
    assert value(agreement(a, unrelated, UNITS)["agreement_rank_correlation"]) == pytest.approx(0, abs=0.1)


@pytest.fixture
def tiny(context: Callable[..., TaskContext]) -> TaskContext:
    return context("gemma3", read=lambda ref: TEXT, batch_size=16)


def group(*saes: SAE) -> SAEGroup:
    return SAEGroup("sizes", saes)


def scores(output: TaskOutput) -> dict[tuple[str, str], float | None]:
    return {(m.metric, m.subset): m.value for m in output.measurements}


def test_every_ordered_pair_of_a_group(tiny: TaskContext):
    saes = [topk_sae(SITE, seed=0), topk_sae(SITE, seed=1), topk_sae(SITE, seed=2, d_sae=64, k=9)]
    output = DarkMatterTask().run_group(group(*saes), tiny, SETTINGS)
    found = scores(output)
    pairs = {subset for metric, subset in found if metric == "agreement_r2"}
    assert pairs == {f"tiny-{i} -> tiny-{j}" for i in range(3) for j in range(3) if i != j}
    in_order = [sae.name for sae in sorted(saes, key=lambda sae: sae.fingerprint())]
    assert {s for m, s in found if m == "agreement_rank_correlation"} == {
        f"{a} -> {b}" for a, b in itertools.combinations(in_order, 2)
    }
    for m in output.measurements:
        num, den = (output.arrays[f"{m.metric}/{m.subset}.{part}"] for part in ("num", "den"))
        assert m.value == num.sum() / den.sum()
        assert m.n == len(num) == SETTINGS.sequences
    assert output.counts["pairs"] == 6
    assert output.counts["not_scored"] == 0


def test_an_sae_agrees_with_itself(tiny: TaskContext):
    sae = topk_sae(SITE)
    twin = topk_sae(SITE)
    twin.name = "twin"
    found = scores(DarkMatterTask().run_group(group(sae, twin), tiny, SETTINGS))
    assert found["agreement_r2", "tiny-0 -> twin"] == pytest.approx(1)
    assert found["agreement_rank_correlation", "tiny-0 -> twin"] == pytest.approx(1)


def test_members_that_were_measured_are_not_read_again(
    tiny: TaskContext, context: Callable[..., TaskContext], monkeypatch: pytest.MonkeyPatch
):
    saes = [topk_sae(SITE, seed=seed) for seed in range(2)]
    other = context("gemma3", read=lambda ref: TEXT, batch_size=16)
    alone = scores(DarkMatterTask().run_group(group(*saes), other, SETTINGS))
    for sae in saes:
        DarkMatterTask().run(sae, tiny, SETTINGS)
    monkeypatch.setattr("saebench.tasks.dark_matter.scoring.prediction.Coder", _refuse)
    assert scores(DarkMatterTask().run_group(group(*saes), tiny, SETTINGS)) == alone


def _refuse(*_: Any) -> None:
    raise AssertionError("encoded again")


def test_an_exact_member_is_not_applicable(tiny: TaskContext):
    neurons = NeuronBaseline(WIDTH, name="neurons", hook=HookSite.at(SITE))
    with pytest.raises(NotApplicableError, match="neurons reconstructs exactly up to rounding"):
        DarkMatterTask().run_group(group(topk_sae(SITE), neurons), tiny, SETTINGS)
