"""Posteriors by hand, at their limits, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.naive_bayes import GaussianNB
from torch.testing import assert_close

from saebench.errors import DataError, UsageError
from saebench.interventions import posterior as module
from saebench.interventions.attenuate import Attenuate
from saebench.interventions.posterior import Posterior
from tests.interventions.conftest import activations, latents_of


def labelled(n: int = 300, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    return torch.randn(n, 4, generator=draw) + 1.5 * labels[:, None] + 0.1, labels


def test_gaussians_agree_with_sklearn() -> None:
    f, labels = labelled()
    ours = Posterior.fit(f, labels, 2, n_classes=3, density="gaussian")(f)
    for latent in range(4):
        theirs = GaussianNB(priors=[1 / 3] * 3, var_smoothing=0).fit(f[:, [latent]].numpy(), labels.numpy())
        # scikit-learn divides the variance by n, not by n - 1
        assert_close(
            ours[:, latent].numpy(),
            theirs.predict_proba(f[:, [latent]].numpy())[:, 2].astype(np.float32),
            rtol=0.05,
            atol=5e-3,
        )


def test_zero_inflated_by_hand() -> None:
    f = torch.tensor([[0.0], [1.0], [3.0], [0.0], [0.0], [5.0], [7.0], [6.0]])
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    found = Posterior.fit(f, labels, 1, n_classes=2)
    assert_close(found.firing, torch.tensor([[3 / 6, 4 / 6]]).double())
    assert_close(found.mean, torch.tensor([[2.0, 6.0]]).double())
    assert_close(found.sd, torch.tensor([[math.sqrt(2), 1.0]]).double())

    def normal(x: float, mean: float, sd: float) -> float:
        return math.exp(-0.5 * ((x - mean) / sd) ** 2) / sd / math.sqrt(2 * math.pi)

    at_four = (3 / 6 * normal(4, 2, math.sqrt(2)), 4 / 6 * normal(4, 6, 1))
    expected = [[(2 / 6) / (2 / 6 + 3 / 6)], [at_four[1] / sum(at_four)]]
    assert_close(found(torch.tensor([[0.0], [4.0]])), torch.tensor(expected))


def test_priors_weigh() -> None:
    f, labels = labelled()
    uniform = Posterior.fit(f, labels, 0, n_classes=3)
    certain = Posterior.fit(f, labels, 0, n_classes=3, priors=torch.tensor([1.0, 0.0, 0.0]))
    assert_close(certain(f), torch.ones_like(f))
    double = Posterior.fit(f, labels, 0, n_classes=3, priors=torch.tensor([2.0, 2.0, 2.0]))
    assert_close(double(f), uniform(f))


@pytest.mark.parametrize("classes", [2, 5])
def test_a_posterior_that_knows_nothing_scales_by_one_minus_one_over_c(classes: int) -> None:
    f = torch.rand(40, 4).repeat(classes, 1)  # the same activations in each class
    labels = torch.arange(classes).repeat_interleave(40)
    attenuate = Attenuate(latents_of("topk"), Posterior.fit(f, labels, 0, n_classes=classes))
    latents = attenuate.latents
    x, everywhere = activations(), torch.ones(3, 9, dtype=torch.bool)
    change = latents.sae.encode(x)[..., latents.indices] * -(1 / classes)
    assert_close(attenuate(x, everywhere), x + change @ latents.directions, rtol=1e-4, atol=1e-4)


def test_a_threshold_masks_what_belongs_to_the_concept() -> None:
    f, labels = labelled()
    posterior = Posterior.fit(f, labels, 2, n_classes=3)
    attenuate = Attenuate(latents_of("topk"), posterior, threshold=0.5)
    change = attenuate.change(f, None)  # type: ignore[arg-type]
    assert torch.equal(change, torch.where(posterior(f) > 0.5, -f, 0.0))
    assert bool((change != 0).any())
    assert bool((change == 0).any())


def test_latents_that_hardly_fire_have_a_posterior() -> None:
    f, labels = torch.zeros(6, 3), torch.tensor([0, 0, 0, 1, 1, 1])
    f[0, 1] = 2.0  # fires once
    f[:3, 2] = 4.0  # fires with one value
    p = Posterior.fit(f, labels, 0, n_classes=2)(torch.tensor([[0.0, 0.0, 0.0], [1e4, 1e4, 1e4], [1.0, 2.0, 4.0]]))
    assert bool(torch.isfinite(p).all())
    assert bool(((p >= 0) & (p <= 1)).all())
    assert_close(p[:, 0], torch.full((3,), 0.5))
    assert p[2, 2] > 0.7


def test_a_class_with_one_firing_example_takes_the_moments_of_all() -> None:
    f = torch.tensor([[2.0], [0.0], [0.0], [1.0], [3.0], [6.0]])
    found = Posterior.fit(f, torch.tensor([0, 0, 0, 1, 1, 1]), 0, n_classes=2)
    of_all = torch.tensor([2.0, 1.0, 3.0, 6.0]).double()
    assert_close(found.mean[0, 0], of_all.mean())
    assert_close(found.sd[0, 0], of_all.std())
    assert_close(found.mean[0, 1], of_all[1:].mean())


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    f, labels = labelled()
    posterior = Posterior.fit(f, labels, 2, n_classes=3)
    whole = posterior(f)
    monkeypatch.setattr(module, "_BLOCK", 36)
    assert torch.equal(posterior(f), whole)
    assert posterior(f[:0]).shape == (0, 4)


def test_bad_input_gets_a_sentence() -> None:
    f, labels = labelled()
    with pytest.raises(DataError, match="each of the 4 concepts"):
        Posterior.fit(f, labels, 0, n_classes=4)
    with pytest.raises(UsageError, match="zero_inflated or gaussian"):
        Posterior.fit(f, labels, 0, n_classes=3, density="kde")  # type: ignore[arg-type]
    three = Posterior.fit(f[:, :3], labels, 0, n_classes=3)
    with pytest.raises(UsageError, match="knows 3 latents, but 4"):
        Attenuate(latents_of("topk"), three)
    four = Posterior.fit(f, labels, 0, n_classes=3)
    for settings in ({"power": -1.0}, {"threshold": 1.5}, {"threshold": 0.5, "power": 2.0}):
        with pytest.raises(UsageError, match=r"power|threshold"):
            Attenuate(latents_of("topk"), four, **settings)
