"""What groups of latents do, against dense float64 passes of a plain model, and where the answer is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saebench.errors import SaebenchError
from saebench.evaluation import Report
from saebench.passes.context import TaskContext
from saebench.results.record import Arrays, Measurement
from saebench.sae.base import BaseAdapter
from saebench.sae.baselines import NeuronBaseline
from saebench.sae.protocol import SAE, Capability, HookSite
from saebench.stats.strata import frequency_strata
from saebench.tasks.seed_stability import selection
from saebench.tasks.seed_stability.report.function import report_function
from saebench.tasks.seed_stability.scoring.firing import FiringTotals
from saebench.tasks.seed_stability.scoring.function import function_scores
from saebench.tasks.seed_stability.scoring.losses import group_losses
from saebench.tasks.seed_stability.selection import MemberStability
from saebench.tasks.seed_stability.settings import SeedStabilitySettings
from saebench.tasks.seed_stability.task import SeedStabilityTask
from tests.conftest import WIDTH
from tests.tasks.conftest import PARAMETERS, Plain, activations, topk_sae, transcoder

SITE = "blocks.1.hook_resid_post"
CHANGES = {
    **PARAMETERS,
    "control_draws": 3,
    "loss_sequences": PARAMETERS["sequences"],
    "loss_members": 2,
    "loss_draws": 2,
    "loss_keep": True,
    "surface_firings": 4,
}

SETTINGS = SeedStabilitySettings.parse(CHANGES, task="seed_stability")
Make = Callable[..., TaskContext]
Found = dict[tuple[str, str], float | None]


def latents(sae: Any, x: Tensor) -> np.ndarray:
    """Dense latents ``[tokens, d_sae]`` of activations."""
    return sae.encode(x.float()).detach().double().numpy()


def member(sae: SAE, context: TaskContext, stable: np.ndarray, unstable: np.ndarray) -> MemberStability:
    clean = context.clean(SETTINGS.text, SETTINGS.context_length, SETTINGS.sequences, sae.hook.site_in)
    f = latents(sae, activations(clean)[clean.evaluated])
    alive = (f != 0).any(0)
    return MemberStability(
        sae=sae,
        fingerprint=sae.fingerprint(),
        similarity=np.where(alive, 0.5, np.nan),
        probability=np.where(alive, 0.5, np.nan),
        stable=stable & alive,
        unstable=unstable & alive,
        firing=FiringTotals((f != 0).sum(0), np.abs(f).sum(0)),
    )


def halves(sae: SAE, context: TaskContext, seed: int = 0) -> MemberStability:
    draw = np.random.default_rng(seed).integers(0, 3, sae.d_sae)
    return member(sae, context, draw == 0, draw == 1)


def measure(
    members: list[MemberStability], context: TaskContext, **changes: Any
) -> tuple[Found, Arrays, list[Measurement]]:
    settings = SeedStabilitySettings.parse({**CHANGES, **changes}, task="seed_stability")
    report = Report(SeedStabilityTask().card, context, settings.bootstrap_replicates)
    report_function(report, function_scores(members, context, settings))
    output = report.output()
    return {(m.metric, m.subset): m.value for m in output.measurements}, output.arrays, output.measurements


def reference(plain: Plain, context: TaskContext, one: MemberStability, masks: dict[str, np.ndarray]) -> Found:
    """Dense codes in float64, full passes of a plain model, for each mask: EV, CE, KL without it and with it alone."""
    sae: Any = one.sae
    batch = context.batch(SETTINGS.text, SETTINGS.context_length, SETTINGS.sequences)
    evaluated = batch.evaluated.numpy()
    inside = plain.activation(batch.tokens, sae.hook.site_in)[evaluated]
    whole = plain.activation(batch.tokens, sae.hook.site_out)
    x = whole[evaluated]
    f = latents(sae, torch.from_numpy(inside))
    spread = ((x - x.mean(0)) ** 2).sum()

    def decode(z: np.ndarray) -> np.ndarray:
        return sae.decode(torch.from_numpy(z).float(), torch.from_numpy(inside).float()).detach().double().numpy()

    def ev(xhat: np.ndarray) -> float:
        return float(1 - ((x - xhat) ** 2).sum() / spread)

    predicts = evaluated[:, 1:]
    log_p = plain.log_probabilities(batch.tokens)

    def losses(rows: np.ndarray) -> tuple[float, float]:
        new = np.zeros_like(whole)
        new[evaluated] = rows
        log_q = plain.log_probabilities(batch.tokens, sae.hook.site_out, evaluated, new)
        rise = np.take_along_axis((log_p - log_q)[:, :-1], batch.tokens.numpy()[:, 1:, None], -1)[..., 0][predicts]
        kl = (np.exp(log_p) * (log_p - log_q)).sum(-1)[:, :-1][predicts]
        return float(rise.mean()), float(kl.mean())

    out: Found = {("ev_all", ""): ev(decode(f)), ("ev_none", ""): ev(decode(0 * f))}
    for name, mask in masks.items():
        out["ev_drop", name] = ev(decode(f)) - ev(decode(f * ~mask))
        out["ev_keep", name] = ev(decode(f * mask))
        contribution = (f * mask) @ sae.decoder_directions().detach().double().numpy()
        out["ce_drop", name], out["kl_drop", name] = losses(x - contribution)
        out["ce_keep", name], out["kl_keep", name] = losses(decode(f * mask))
    return out


@pytest.mark.parametrize("family", ["gemma3", "gpt2"])
def test_groups_against_dense_passes(context: Make, plain: Callable[[str], Plain], family: str):
    tiny = context(family)
    one = halves(topk_sae(SITE), tiny)
    found, arrays, _ = measure([one], tiny)
    expected = reference(plain(family), tiny, one, {"stable": one.stable, "unstable": one.unstable})
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-3, abs=2e-4), key
    for name, mask in (("stable", one.stable), ("unstable", one.unstable)):
        mass = one.firing.mass[mask].sum() / one.firing.mass.sum()
        assert found["ev_drop_per_mass", name] == pytest.approx(expected["ev_drop", name] / mass, rel=1e-3)
        count = mask.sum() / one.scored.sum()
        assert found["ev_drop_per_latent", name] == pytest.approx(expected["ev_drop", name] / count, rel=1e-3)
        for metric in ("ev_drop", "ev_keep", "ev_drop_per_mass", "ce_drop", "kl_drop", "ce_keep", "kl_keep"):
            own, control = found[metric, name], found[f"{metric}_random", name]
            assert found[f"{metric}_excess", name] == pytest.approx(own - control, abs=1e-9)
            key = f"{metric}/{name}"
            assert arrays[f"{key}.num"].sum() / arrays[f"{key}.den"].sum() == pytest.approx(own)


def test_a_transcoder_reads_one_site_and_writes_another(context: Make, plain: Callable[[str], Plain]):
    tiny = context("gemma3")
    one = halves(transcoder("blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out"), tiny)
    found, _, _ = measure([one], tiny)
    for key, value in reference(plain("gemma3"), tiny, one, {"stable": one.stable}).items():
        assert found[key] == pytest.approx(value, rel=1e-3, abs=2e-4), key


def test_members_are_averaged_and_kept(context: Make):
    tiny = context()
    members = [halves(topk_sae(SITE, seed), tiny, seed) for seed in range(3)]
    together, arrays, _ = measure(members, tiny)
    alone = [measure([each], tiny)[0] for each in members]
    for metric in ("ev_drop", "ev_keep", "ev_drop_per_mass", "ev_drop_excess"):
        each = [found[metric, "stable"] for found in alone]
        assert together[metric, "stable"] == pytest.approx(np.mean(each))
        np.testing.assert_allclose(arrays[f"{metric}/stable.members"], each)
    # The losses are those of the first two members.
    each = [found["ce_drop", "unstable"] for found in alone[:2]]
    np.testing.assert_allclose(arrays["ce_drop/unstable.members"], each, atol=1e-7)


def test_orthogonal_groups_add_up(context: Make):
    """The neurons reconstruct exactly and are orthogonal: what is kept and lost is each group's variance."""
    tiny = context()
    sae = NeuronBaseline(WIDTH, name="neurons", hook=HookSite.at(SITE))
    stable = np.arange(WIDTH) < 10
    one = member(sae, tiny, stable, ~stable)
    found, _, _ = measure([one], tiny, loss_members=0)
    assert found["ev_all", ""] == pytest.approx(1.0)
    assert found["ev_drop", "stable"] + found["ev_drop", "unstable"] == pytest.approx(
        1 - found["ev_none", ""], rel=1e-5
    )
    for kept, lost in (("stable", "unstable"), ("unstable", "stable")):
        assert found["ev_keep", kept] == pytest.approx(1 - found["ev_drop", lost], rel=1e-5)
    # Every latent fires on every token: one stratum, so that the controls are any latents.
    assert found["ev_drop_excess", "stable"] == pytest.approx(
        found["ev_drop", "stable"] - found["ev_drop_random", "stable"]
    )


def test_dropping_everything_leaves_the_constant(context: Make):
    tiny = context()
    sae = topk_sae(SITE)
    one = member(sae, tiny, np.ones(sae.d_sae, bool), np.zeros(sae.d_sae, bool))
    found, _, measurements = measure([one], tiny)
    assert found["ev_drop", "stable"] == pytest.approx(found["ev_all", ""] - found["ev_none", ""])
    assert found["ev_keep", "stable"] == pytest.approx(found["ev_all", ""])
    # All latents are in the group, so its controls are the group itself.
    assert found["ev_drop_excess", "stable"] == pytest.approx(0.0, abs=1e-9)
    assert found["control_mass_ratio", "stable"] == pytest.approx(1.0)
    reasons = {(m.metric, m.subset): m.not_scored for m in measurements if m.value is None}
    for metric in ("ev_drop", "ev_keep_excess", "ce_drop", "kl_keep_random", "ev_drop_per_latent", "token_entropy"):
        assert reasons[metric, "unstable"], metric
    assert all(subset != "stable" for _, subset in reasons)


def test_latents_that_never_fire_change_nothing(context: Make):
    """Exactly: the same activations go through the same passes."""
    tiny = context()
    sae: Any = topk_sae(SITE)
    silent = np.arange(sae.d_sae) < 6
    with torch.no_grad():
        sae.sae.b_enc[:6] = -1e6
    clean = tiny.clean(SETTINGS.text, SETTINGS.context_length, SETTINGS.sequences, SITE)
    found = group_losses(sae, silent, clean, 10**8, "silent")
    assert torch.equal(found.ce, clean.ce)
    others, everything = (
        group_losses(sae, group, clean, 10**8, "kept", keep=True) for group in (~silent, silent | ~silent)
    )
    np.testing.assert_allclose(others.ce, everything.ce, rtol=1e-6)


def test_controls_match_in_count_and_frequency(context: Make, monkeypatch: pytest.MonkeyPatch):
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    real = selection.matched_groups

    def spy(group: np.ndarray, *rest: Any, **key: Any) -> np.ndarray:
        drawn = real(group, *rest, **key)
        seen.append((group, drawn))
        return drawn

    monkeypatch.setattr(selection, "matched_groups", spy)
    tiny = context()
    one = halves(topk_sae(SITE), tiny)
    measure([one], tiny, loss_members=0)
    strata = frequency_strata(one.firing.counts, one.scored)
    assert len(seen) == 2
    for group, drawn in seen:
        assert drawn.shape == (3, one.sae.d_sae)
        for draw in drawn:
            assert (np.bincount(strata[draw], minlength=10) == np.bincount(strata[group], minlength=10)).all()


def test_the_same_numbers_again_and_in_smaller_batches(context: Make):
    sae = topk_sae(SITE)
    runs = []
    for batch_size in (3, 7):
        tiny = context(batch_size=batch_size)
        runs.append(measure([halves(sae, tiny)], tiny)[0])
    for key, value in runs[0].items():
        if value is None:
            assert runs[1][key] is None, key
        else:
            assert runs[1][key] == pytest.approx(value, rel=1e-4, abs=1e-6), key


def test_values_that_are_not_finite_are_an_error(context: Make):
    tiny = context()
    one = halves(topk_sae(SITE), tiny)

    class Broken(BaseAdapter):
        def __init__(self) -> None:
            super().__init__(
                name="broken",
                architecture="broken",
                hook=HookSite.at(SITE),
                d_in=WIDTH,
                d_sae=one.sae.d_sae,
                capabilities=frozenset({Capability.LINEAR_DECODER, Capability.POSITION_WISE}),
            )

        def encode(self, x: Tensor) -> Tensor:
            return torch.full((len(x), self.d_sae), torch.nan)

        def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
            return z @ self.decoder_directions()

        def decoder_directions(self) -> Tensor:
            return one.sae.decoder_directions()

    with pytest.raises(SaebenchError, match="broken: its latents or its reconstruction hold NaN or Inf"):
        measure([MemberStability(**{**vars(one), "sae": Broken()})], tiny)
