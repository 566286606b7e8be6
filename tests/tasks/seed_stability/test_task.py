"""The whole task on a tiny model, its figures against numpy and scipy, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from saebench.cards.card import cards_dir, load_card
from saebench.errors import NotApplicableError, SaebenchError, UsageError
from saebench.evaluation.task import GroupTask, SAEGroup, TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae import adversaries
from saebench.sae.base import BaseAdapter
from saebench.sae.baselines import NeuronBaseline, RandomBaseline
from saebench.sae.protocol import HookSite
from saebench.sae.units import in_units
from saebench.tasks.seed_stability.settings import SeedStabilitySettings
from saebench.tasks.seed_stability.task import SeedStabilityTask
from tests.conftest import WIDTH
from tests.tasks.conftest import PARAMETERS, assert_units, topk_sae

SITE = "blocks.1.hook_resid_post"
CARD = load_card(cards_dir() / "seed_stability.yaml")
CHANGES = CARD.resolve("smoke", {**PARAMETERS, "threshold": 0.4, "thresholds": [0.4, 0.5], "loss_members": 0})

Make = Callable[..., TaskContext]


def settings(**changes: Any) -> SeedStabilitySettings:
    return SeedStabilitySettings.parse({**CHANGES, **changes}, task="seed_stability")


def measure(context: TaskContext, *saes: BaseAdapter, **changes: Any) -> TaskOutput:
    return SeedStabilityTask().run_group(SAEGroup("tiny", saes), context, settings(**changes))


def values(output: TaskOutput) -> dict[tuple[str, str], float | None]:
    return {(m.metric, m.subset): m.value for m in output.measurements}


@pytest.fixture(scope="module")
def saes() -> list[BaseAdapter]:
    """Three SAEs that share half of their latents but not their places."""
    found = [topk_sae(SITE, seed) for seed in range(3)]
    with torch.no_grad():
        for turn, sae in enumerate(found[1:], start=1):
            where = (torch.arange(24) + 5 * turn) % 48
            sae.sae.W_dec[where] = found[0].sae.W_dec[:24]
            sae.sae.W_enc[:, where] = found[0].sae.W_enc[:, :24]
    return sorted(found, key=lambda sae: sae.fingerprint())  # the order in which a group holds them


def test_the_task_is_a_group_task_that_says_what_it_needs() -> None:
    assert isinstance(SeedStabilityTask(), GroupTask)
    assert sorted(SeedStabilityTask.needs) == sorted(CARD.needs)
    assert CARD.scope == "group"


def test_figures_are_those_of_numpy_and_scipy(context: Make, saes: list[BaseAdapter]) -> None:
    ctx = context()
    output = measure(ctx, *saes)
    found = values(output)
    batch = ctx.batch(PARAMETERS["text"], PARAMETERS["context_length"], PARAMETERS["sequences"])
    captured = ctx.captured(PARAMETERS["text"], PARAMETERS["context_length"], PARAMETERS["sequences"])
    x = torch.cat([captured.activations(SITE, shard) for shard in captured.shards])[batch.evaluated]
    z = [sae.encode(x).double().numpy() for sae in saes]
    alive = [np.flatnonzero((each != 0).any(0)) for each in z]
    assert all(0 < len(each) < 48 for each in alive)

    def unit(rows: torch.Tensor) -> np.ndarray:
        wide = rows.detach().double().numpy()
        return wide / np.linalg.norm(wide, axis=1, keepdims=True)

    for label, keep in (("", alive), ("all", [np.arange(48)] * 3)):
        decoder = [unit(sae.decoder_directions())[each] for sae, each in zip(saes, keep, strict=True)]
        encoder = [unit(sae.encoder_directions())[each] for sae, each in zip(saes, keep, strict=True)]
        mcc, shared = [], []
        for a, b in combinations(range(3), 2):
            cosines, encoded = decoder[a] @ decoder[b].T, encoder[a] @ encoder[b].T
            rows, columns = linear_sum_assignment(cosines, maximize=True)
            pairs = set(zip(*linear_sum_assignment(encoded, maximize=True), strict=True))
            mcc.append(cosines[rows, columns].mean())
            both = [
                (r, c) in pairs and cosines[r, c] > 0.7 and encoded[r, c] > 0.7
                for r, c in zip(rows, columns, strict=True)
            ]
            shared.append(sum(both) / len(decoder[a]))
        best = {(a, b): (decoder[a] @ decoder[b].T).max(1) for a, b in permutations(range(3), 2)}
        p = [np.mean([best[a, b] >= 0.4 for b in range(3) if b != a], axis=0) for a in range(3)]
        pooled = np.concatenate(p)
        mass = np.concatenate([np.abs(each).sum(0)[k] for each, k in zip(z, keep, strict=True)])
        fires = np.concatenate([(each != 0).sum(0)[k] for each, k in zip(z, keep, strict=True)])
        name = lambda *parts: "/".join(part for part in (*parts, label) if part)  # noqa: B023, E731
        assert found["pw_mcc", name()] == pytest.approx(np.mean(mcc), abs=1e-5)
        assert found["shared_share", name()] == pytest.approx(np.mean(shared), abs=1e-9)
        assert found["mmcs", name()] == pytest.approx(np.mean([each.mean() for each in best.values()]), abs=1e-5)
        assert found["stability", name()] == pytest.approx(pooled.mean())
        assert found["survival", name("0.4")] == pytest.approx(pooled.mean())
        assert found["stable_share", name()] == pytest.approx((pooled >= 0.75).mean())
        assert found["unstable_share", name("frequency")] == pytest.approx(fires[pooled <= 0.25].sum() / fires.sum())
        assert found["stable_share", name("mass")] == pytest.approx(mass[pooled >= 0.75].sum() / mass.sum(), abs=1e-5)
        assert sum(found[f"{kind}_share", name()] for kind in ("stable", "mixed", "unstable")) == pytest.approx(1)


def test_latents_in_the_arrays_are_those_of_the_saes(context: Make, saes: list[BaseAdapter]) -> None:
    output = measure(context(), *saes)
    arrays = output.arrays
    for run, sae in enumerate(saes):
        scored = np.isfinite(arrays[f"member{run}.probability"])
        assert ((arrays[f"member{run}.counts"] > 0) == scored).all()
        other = (run + 1) % 3
        a = torch.nn.functional.normalize(sae.decoder_directions(), dim=-1)
        b = torch.nn.functional.normalize(saes[other].decoder_directions(), dim=-1)
        for kind in ("best", "one_to_one"):
            partner = arrays[f"member{run}.{kind}_partner.{other}"]
            rows = np.flatnonzero(partner >= 0)
            expected = (a[rows] * b[partner[rows]]).sum(-1).detach()
            np.testing.assert_allclose(arrays[f"member{run}.{kind}.{other}"][rows], expected, atol=1e-5)
        # Partners under a one-to-one matching are each other's.
        there, back = (
            arrays[f"member{run}.one_to_one_partner.{other}"],
            arrays[f"member{other}.one_to_one_partner.{run}"],
        )
        rows = np.flatnonzero(there >= 0)
        np.testing.assert_array_equal(back[there[rows]], rows)
        low, high = arrays[f"member{run}.probability_low"], arrays[f"member{run}.probability_high"]
        p = arrays[f"member{run}.probability"]
        assert ((low <= p + 1e-6) & (p <= high + 1e-6))[scored].all()


def test_every_measurement_is_in_the_card_and_within_its_bounds(context: Make, saes: list[BaseAdapter]) -> None:
    output = measure(context(), *saes, loss_members=1, loss_keep=True)
    keys = [(m.metric, m.subset) for m in output.measurements]
    assert len(keys) == len(set(keys))
    assert {metric for metric, _ in keys} == {metric.id for metric in CARD.metrics}
    for m in output.measurements:
        low, high = CARD.metric(m.metric).bounds
        assert m.value is None or ((low is None or m.value >= low - 1e-6) and (high is None or m.value <= high + 1e-6))
        assert (m.value is None) == (m.not_scored is not None)
    assert output.counts["not_scored"] == sum(m.value is None for m in output.measurements)


def test_every_headline_figure_has_both_nulls_and_they_are_lower(context: Make, saes: list[BaseAdapter]) -> None:
    found = values(measure(context(), *saes))
    headline = ["pw_mcc", "mmcs", "stability", "shared_share", "stable_share", "mixed_share", "unstable_share"]
    for label in ("", "all/"):
        for null in ("isotropic", "covariance"):
            for metric in headline:
                if label and metric == "shared_share":
                    continue  # of all latents, nulls are of decoders alone
                assert found[metric, f"{label}null:{null}"] is not None
            assert found["pw_mcc", f"{label}null:{null}"] < found["pw_mcc", label.rstrip("/")] - 0.1
    beyond = found["pw_mcc", ""] - found["pw_mcc", "null:covariance"]
    assert found["pw_mcc_over_null", ""] == pytest.approx(beyond, abs=0.02)  # of which only one way is in the subset


def test_the_same_seed_gives_the_same_numbers(context: Make, saes: list[BaseAdapter]) -> None:
    first, second = (measure(context(batch_size=size), *saes) for size in (3, 2))
    assert [(m.metric, m.subset) for m in first.measurements] == [(m.metric, m.subset) for m in second.measurements]
    for a, b in zip(first.measurements, second.measurements, strict=True):
        assert a.value == pytest.approx(b.value, rel=1e-4, abs=1e-6), (a.metric, a.subset)


def test_random_directions_are_stable_at_their_null_only(context: Make) -> None:
    ctx = context()
    activations = ctx.calibration(PARAMETERS["text"], SITE)
    hook = HookSite.at(SITE)
    random = [RandomBaseline(activations, name=f"r{s}", hook=hook, seed=s, l0=5, d_sae=200) for s in range(3)]
    found = values(measure(ctx, *random, threshold=0.9))
    assert found["pw_mcc", "all"] == pytest.approx(found["pw_mcc", "all/null:isotropic"], abs=0.02)
    assert found["mmcs", ""] == pytest.approx(found["mmcs", "null:isotropic"], abs=0.02)
    assert found["effective_rank", "stable"] is None
    assert found["shared_share", ""] == 0


def test_at_init_shows_a_shared_initialisation(context: Make, saes: list[BaseAdapter]) -> None:
    ctx = context()
    ref = f"baseline:random?d_sae=48&hook={SITE}&l0=5&seed="
    apart, same = (
        values(measure(ctx, *saes, at_init=[f"{ref}{seed}" for seed in seeds])) for seeds in ([0, 1, 2], [0, 0, 0])
    )
    # Latents are compared that fire after training: almost the same ones in all three.
    assert same["pw_mcc", "at-init"] > 0.8 > apart["pw_mcc", "at-init"]
    assert same["stability", "at-init"] > 0.8
    assert same["stability", ""] == apart["stability", ""]
    data = SeedStabilityTask().data(ctx, settings(at_init=[f"{ref}0", f"{ref}1"]))
    text = {"memory:tiny": ctx.text("memory:tiny").content_hash}
    assert list(data) == ["memory:tiny", f"at_init:{ref}0", f"at_init:{ref}1"]
    assert len(set(data.values())) == 3
    assert SeedStabilityTask().data(ctx, settings()) == text
    for wrong in ([f"{ref}0"] * 2, [ref.replace("48", "40") + "0"] * 3):
        with pytest.raises(UsageError, match="one SAE of the same widths for each member"):
            measure(ctx, *saes, at_init=wrong)


def test_what_cannot_be_compared_is_refused(context: Make, saes: list[BaseAdapter]) -> None:
    with pytest.raises(NotApplicableError, match="the same SAE twice"):
        measure(context(), saes[0], topk_sae(SITE, 7), topk_sae(SITE, 7))
    with pytest.raises(
        UsageError, match=r"Task 'seed_stability': unstable_to \(0.8\) must be below stable_from \(0.75\)"
    ):
        settings(unstable_to=0.8)
    with pytest.raises(UsageError, match=r"'stable_from' of task 'seed_stability' must be at most 1, not 1.5"):
        settings(stable_from=1.5)
    with pytest.raises(UsageError, match="'thresholds' of task 'seed_stability' must name each value once"):
        settings(thresholds=[0.5, 0.7, 0.5])
    broken = topk_sae(SITE, 5)
    with torch.no_grad():
        broken.sae.b_enc[3] = torch.nan
    with pytest.raises(SaebenchError, match="NaN or Inf"):
        measure(context(), saes[0], broken)


def test_signed_and_dense_latents_count_by_their_size(context: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The neurons' own basis, and nearly the same turned round: other directions, the same lines."""
    neurons, turned = (NeuronBaseline(WIDTH, name=name, hook=HookSite.at(SITE)) for name in "ab")
    turned.ones.neg_()
    tilt = 0.05 * torch.eye(WIDTH).roll(1, 0)
    monkeypatch.setattr(turned, "decoder_directions", lambda: tilt - torch.eye(WIDTH))
    signed, lines = (values(measure(context(), neurons, turned, absolute=each)) for each in (False, True))
    assert signed["stability", ""] == 0
    assert lines["stability", ""] == 1
    assert lines["pw_mcc", ""] == pytest.approx((1 + 0.05**2) ** -0.5, abs=1e-6)


@pytest.mark.parametrize("copied", [adversaries.reordered, adversaries.rescaled])
def test_a_group_of_an_sae_and_its_copy_is_refused(context: Make, saes: list[BaseAdapter], copied: Any) -> None:
    copy = copied(saes[0], name="copy", seed=0)
    assert copy.fingerprint() != saes[0].fingerprint()
    with pytest.raises(NotApplicableError, match="holds one dictionary twice"):
        measure(context(), saes[1], saes[0], copy)


def test_lines_that_are_the_same_are_one_dictionary(context: Make) -> None:
    neurons, turned = (NeuronBaseline(WIDTH, name=name, hook=HookSite.at(SITE)) for name in "ab")
    turned.ones.neg_()
    with pytest.raises(NotApplicableError, match="holds one dictionary twice"):
        measure(context(), neurons, turned, absolute=True)


@pytest.mark.parametrize("copied", [adversaries.reordered, adversaries.rescaled])
def test_the_order_and_the_scale_of_latents_do_not_matter(context: Make, saes: list[BaseAdapter], copied: Any) -> None:
    """The draws are seeded by fingerprints, so the copies are given those of their SAEs."""
    seen = [in_units(sae) for sae in saes]
    copies = [in_units(copied(sae, name=sae.name, seed=seed)) for seed, sae in enumerate(saes)]
    fingerprints = tuple(sae.fingerprint() for sae in saes)
    own, other = (
        values(
            SeedStabilityTask().run_group(
                SAEGroup("tiny", tuple(members), fingerprints), context(), settings(loss_members=1, cluster_size=4)
            )
        )
        for members in (seen, copies)
    )
    assert own.keys() == other.keys()
    for key, value in own.items():
        assert other[key] == pytest.approx(value, rel=1e-4, abs=1e-5, nan_ok=True), key


def test_units_are_the_sequences(context: Make, saes: list[BaseAdapter]) -> None:
    one, two = (measure(context(), *pair, loss_members=1) for pair in (saes[:2], saes[1:]))
    other = measure(context(seed=1), *saes[:2], loss_members=1)
    assert_units(one, same=two, other=other, differ={"sequence"})
    fewer = measure(context(), *saes[:2], loss_members=1, loss_sequences=3)
    assert_units(one, same=two, other=fewer, differ={"sequence"})
