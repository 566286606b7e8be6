"""Which values each lens looks at: a sound metric is an A, and each way of being unsound is found."""

from __future__ import annotations

import math

import pytest

from saebench.audit.assemble import audit_metric
from tests.audit.made_up import SOUND, known, spec, values


def test_a_sound_metric_is_an_a() -> None:
    judged = audit_metric(values(SOUND), [known()], 0)
    assert judged.grade == "A", judged.reason
    assert judged.lenses["truth"].figures["correlation"].value == pytest.approx(1.0)
    assert judged.lenses["gaming"].figures["tried"].value == 3


@pytest.mark.parametrize(
    ("changed", "grade", "reason"),
    [
        ({"oracle": 4.0}, "B", "noisy"),  # others come before the true features
        ({"random": 5.5}, "C", "random"),  # a control beats a trained SAE
        ({"norm": 7.5}, "C", "Degenerate SAEs win: norm."),
        ({"norm": 6.5}, "B", "norm beat half of the trained SAEs."),
        ({"identity": 9.0}, "B", "dense codes"),
        ({"reordered": 5.5}, "C", "another order of latents"),
        ({"s1": 9.0, "s2": 8.0, "s3": 7.0}, "C", "length of training is"),
        ({"oracle": 1.0, "noisy": 2.0, "noisier": 4.0, "bad": 7.0, "worse": 9.0}, "C", "rank correlation"),
        ({"reordered": math.nan}, "B", "could not be measured"),
    ],
)
def test_each_fault_costs_what_the_rules_say(changed: dict[str, float], grade: str, reason: str) -> None:
    judged = audit_metric(values({**SOUND, **changed}), [known()], 0)
    assert judged.grade == grade
    assert reason in judged.reason


def test_a_metric_that_ignores_the_decoder_is_a_b_whatever_it_was_made_from() -> None:
    judged = audit_metric(values({**SOUND, "permuted": SOUND["t0"]}), [known()], 0)
    assert judged.grade == "B"
    assert "ignores the decoder" in judged.reason
    assert judged.lenses["training"].figures["separation on planted"].value == 1.0
    # A permuted decoder that is nearly as good is no such case.
    assert audit_metric(values({**SOUND, "permuted": SOUND["t0"] - 0.1}), [known()], 0).grade == "A"


def test_a_metric_that_ignores_the_decoder_is_not_gamed_by_breaking_it() -> None:
    """Whether the SAE that was broken is the best of the trained ones must not decide."""
    best = {**SOUND, "t0": 9.0, "amplified(t0)": 9.0}
    panel = known(adversaries=("amplified(t0)", "norm"))
    blind = audit_metric(values({**best, "permuted": 9.0}), [panel], 0)
    assert blind.lenses["gaming"].worst == "A"
    assert audit_metric(values(best), [panel], 0).lenses["gaming"].worst == "C"


def test_lower_is_better_is_turned_before_anything_is_judged() -> None:
    turned = audit_metric(values({sae: -value for sae, value in SOUND.items()}), [known()], 0)
    assert turned.grade == "C"  # as if it were better higher: everything is upside down


def test_noise_that_hides_the_differences_is_a_c() -> None:
    judged = audit_metric(values(SOUND, noise=5.0), [known()], 0)
    assert judged.lenses["noise"].worst == "C"


def test_a_metric_without_direction_is_described_only() -> None:
    for unranked in (spec(higher_is_better=None), spec(ranked=False)):
        of_metric = values(SOUND)
        of_metric.metric = unranked
        assert audit_metric(of_metric, [known()], 0).grade == "C"


def test_what_was_not_measured_costs_the_a() -> None:
    of_metric = values(SOUND)
    of_metric.numbers = [number for number in of_metric.numbers if number.purpose == "values"]
    judged = audit_metric(of_metric, [known()], 0)
    assert judged.grade == "B"
    assert judged.lenses["noise"].passed is None


def test_two_models_count_both_and_the_first_gives_the_noise() -> None:
    both = values(SOUND, where="bundled", noise=0.02)
    both.numbers += values({**SOUND, "frozen": 6.5}).numbers
    judged = audit_metric(both, [known("bundled", {}), known()], 0)
    separations = {key: figure.value for key, figure in judged.lenses["training"].figures.items() if "sep" in key}
    assert separations["separation on bundled"] == 1.0
    assert separations["separation on planted"] < 1.0
    alone = audit_metric(values(SOUND, noise=0.02), [known()], 0)
    assert judged.lenses["noise"].figures == alone.lenses["noise"].figures
