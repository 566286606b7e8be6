"""The rules of grading on cases made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saebench.audit import lenses, rules
from saebench.cards.audits import LENSES, Figure, Finding, Lens

SOUND = lenses.noise(np.array([[0.0, 0.01, 0.0], [1.0, 1.01, 1.02], [2.0, 2.02, 2.0]]))


def figure(value: float | None, low: float | None = None) -> Figure:
    return Figure(value=value, ci_low=low)


def sound(**changed: Finding) -> dict[Lens, Finding]:
    return {
        "noise": rules.judge_noise(SOUND),
        "truth": rules.judge_truth(figure(0.95, 0.8), []),
        "training": rules.judge_training(figure(0.9), {"planted": figure(1.0)}, figure(10.0), []),
        "precision": rules.judge_precision(figure(0.0), figure(0.0), SOUND.reliable),
        "gaming": rules.judge_gaming([], [], [], 8),
        "invariance": rules.judge_invariance({"order": figure(0.0)}, 1.0, SOUND.reliable),
        **changed,
    }


def test_a_sound_metric_is_an_a() -> None:
    assert rules.grade(sound()) == ("A", "Every lens finds it sound.")


def test_the_worst_lens_decides_and_gives_the_reason() -> None:
    won = rules.judge_gaming(["adversary:norm"], ["adversary:norm"], [], 8)
    noisy = rules.judge_noise(lenses.noise(np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.4], [0.5, 0.6, 0.9]])))
    letter, reason = rules.grade(sound(gaming=won))
    assert letter == "C"
    assert reason == "Degenerate SAEs win: adversary:norm."
    letter, reason = rules.grade(sound(gaming=won, noise=noisy))
    assert letter == "C"
    assert "noise" in reason
    assert "adversary:norm" in reason


@pytest.mark.parametrize("lens", LENSES)
def test_a_lens_that_was_not_used_costs_the_a(lens: Lens) -> None:
    findings = sound()
    del findings[lens]
    assert rules.grade(findings)[0] == "B"


@pytest.mark.parametrize(
    ("finding", "worst"),
    [
        (rules.judge_truth(figure(0.8, 0.5), []), "A"),
        (rules.judge_truth(figure(0.8, 0.49), []), "B"),  # too few SAEs to be sure
        (rules.judge_truth(figure(0.9, 0.7), ["planted-panel:noisy"]), "B"),  # the oracle is not first
        (rules.judge_truth(figure(0.79, 0.6), []), "B"),
        (rules.judge_truth(figure(0.49, 0.2), []), "C"),
        (rules.judge_truth(figure(-0.9, -1.0), []), "C"),
        (rules.judge_truth(figure(None), []), "B"),
        (rules.judge_training(figure(0.9), {"a": figure(1.0), "b": figure(0.95)}, figure(3.0), ["x"]), "B"),
        (rules.judge_training(figure(0.9), {"a": figure(1.0), "b": figure(0.89)}, figure(3.0), ["x"]), "C"),
        (rules.judge_training(figure(0.1), {"a": figure(1.0)}, figure(3.0), []), "C"),
        (rules.judge_training(figure(None), {"a": figure(1.0)}, figure(3.0), []), "B"),
        (rules.judge_training(figure(0.9), {}, figure(3.0), []), "B"),
        (rules.judge_training(figure(None), {}, figure(None), []), "B"),
        (rules.judge_precision(figure(0.2), figure(0.0), figure(0.1)), "B"),
        (rules.judge_precision(figure(0.0), figure(0.2), figure(0.1)), "B"),
        (rules.judge_precision(figure(None), figure(0.0), figure(0.1)), "B"),
        (rules.judge_precision(figure(0.1), figure(0.1), figure(0.1)), "A"),
        (rules.judge_gaming([], ["adversary:empty"], [], 8), "B"),
        (rules.judge_gaming([], [], ["adversary:identity"], 8), "B"),
        (rules.judge_gaming([], [], [], 0), "B"),
        (rules.judge_invariance({"order": figure(0.004)}, 1.0, figure(0.1)), "A"),
        (rules.judge_invariance({"order": figure(0.05)}, 1.0, figure(0.1)), "B"),
        (rules.judge_invariance({"order": figure(0.2)}, 1.0, figure(0.1)), "C"),
        (rules.judge_invariance({}, 1.0, figure(0.1)), "B"),
    ],
)
def test_each_lens_allows_the_right_grade(finding: Finding, worst: str) -> None:
    assert finding.worst == worst
    assert (finding.passed is True) == (worst == "A")


@pytest.mark.parametrize(("share", "worst"), [(0.1, "A"), (0.3, "B"), (0.7, "C"), (None, "B")])
def test_noise_decides_by_its_share(share: float | None, worst: str) -> None:
    known: dict[str, Any] = dict.fromkeys(("run", "pair", "reliable"), figure(0.1))
    finding = rules.judge_noise(lenses.Noise(**known, share=figure(share)))
    assert finding.worst == worst
    if share is not None:
        assert f"{share:.0%}" in finding.says


def test_a_metric_without_direction_is_never_ranked() -> None:
    letter, reason = rules.grade(rules.undirected())
    assert letter == "C"
    assert "no SAE is better than another" in reason
