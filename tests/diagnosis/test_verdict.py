"""The rule of the verdict, on numbers made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saebench.diagnosis.activations import Source
from saebench.diagnosis.measure import Fit
from saebench.diagnosis.published import Published
from saebench.diagnosis.variants import Variant
from saebench.diagnosis.verdict import Outcome, Row, Verdict, judge

SEQUENCES = 16
SOURCE = Source.at("blocks.1.hook_resid_post")
NOISE = np.random.default_rng(0).normal(size=SEQUENCES)


def row(fvu: float, std: float, l0: float = 32.0, *, noise: float = 0.02, label: str = "", **options: Any) -> Row:
    """A variant with these numbers, whose sequences differ by ``noise``."""
    variant = Variant("family", label, "finding", "fix", SOURCE, **options)
    ones = np.ones(SEQUENCES)
    wobble = 1 + noise * (NOISE - NOISE.mean())
    return Row(variant, Fit((fvu * wobble, ones), (std * wobble, ones), l0, 1.0))


LOADED = row(0.2, 0.6)
NOTHING_KNOWN = Published()


def verdict(*others: Row, loaded: Row = LOADED, known: Published = NOTHING_KNOWN, selects_k: bool = False) -> Verdict:
    return judge(loaded, others, known, selects_k)


def named(found: Verdict) -> str | None:
    return found.best.variant.label if found.best else None


def test_nothing_is_better() -> None:
    assert verdict(row(0.25, 0.7), row(0.2, 0.6)).outcome is Outcome.RIGHT
    assert verdict().outcome is Outcome.RIGHT


@pytest.mark.parametrize(("fvu", "std"), [(0.1, 0.6), (0.2, 0.3), (0.1, 0.3)])
def test_one_of_the_two_is_clearly_better(fvu: float, std: float) -> None:
    found = verdict(row(fvu, std, label="it"))
    assert found.outcome is Outcome.OTHER
    assert named(found) == "it"


@pytest.mark.parametrize(
    ("fvu", "std"),
    [(0.17, 0.55), (0.02, 0.7), (0.3, 0.2)],
    ids=["too little", "only outliers are better", "only the others are better"],
)
def test_no_false_alarm(fvu: float, std: float) -> None:
    assert verdict(row(fvu, std)).outcome is Outcome.RIGHT


def test_what_differs_by_chance_is_not_clear() -> None:
    """The same numbers with another spread between sequences, which is not that of the loaded SAE."""
    other = row(0.13, 0.6, label="it")
    assert named(verdict(other)) == "it"
    shaken = row(0.13, 0.6, noise=0.9)
    assert verdict(shaken).outcome is Outcome.RIGHT


def test_the_comparison_is_paired() -> None:
    """What moves both alike does not blur the difference."""
    assert named(verdict(row(0.13, 0.6, noise=0.9, label="it"), loaded=row(0.2, 0.6, noise=0.9))) == "it"


def test_tiny_differences_of_a_perfect_sae_do_not_count() -> None:
    assert verdict(row(0.0, 0.0), loaded=row(0.005, 0.009)).outcome is Outcome.RIGHT


def test_what_explains_nothing_never_fits() -> None:
    assert verdict(row(0.95, 0.9), loaded=row(9.0, 9.0)).outcome is Outcome.NOTHING


def test_more_latents_must_pay() -> None:
    assert verdict(row(0.1, 0.3, l0=320)).outcome is Outcome.RIGHT
    assert named(verdict(row(0.02, 0.06, l0=320, label="it"))) == "it"


def test_more_latents_are_fine_where_that_is_nearer_to_the_published_number() -> None:
    known = Published(l0=320, source="its card")
    assert named(verdict(row(0.1, 0.3, l0=320, label="it"), known=known)) == "it"


def test_the_published_l0_rules_out_variants() -> None:
    known = Published(l0=32, source="its card")
    assert verdict(row(0.02, 0.06, l0=320), known=known).outcome is Outcome.RIGHT


def test_too_many_latents_are_a_mistake_even_with_a_lower_fvu() -> None:
    known = Published(l0=32, source="its card")
    loaded = row(0.1, 0.3, l0=256)
    assert named(verdict(row(0.2, 0.6, l0=32, label="k"), loaded=loaded, known=known, selects_k=True)) == "k"
    assert verdict(row(0.8, 0.9, l0=32), loaded=loaded, known=known).outcome is Outcome.NOTHING


def test_l0_of_a_topk_sae_must_agree_more_closely() -> None:
    known = Published(l0=32, source="its card")
    assert verdict(loaded=row(0.2, 0.6, l0=48), known=known).outcome is Outcome.RIGHT
    found = verdict(loaded=row(0.2, 0.6, l0=48), known=known, selects_k=True)
    assert found.outcome is Outcome.NOTHING
    assert found.reason == "L0 is 48 as loaded, and 32 according to its card"


def test_the_published_fvu() -> None:
    known = Published(fvu=0.05, source="its card")
    found = verdict(loaded=row(0.4, 0.6), known=known)
    assert found.outcome is Outcome.NOTHING
    assert found.reason == "FVU is 0.4 as loaded, and 0.05 according to its card"
    assert verdict(loaded=row(0.77, 6.0), known=Published(fvu=0.77)).outcome is Outcome.RIGHT
    assert verdict(loaded=row(0.77, 6.0)).outcome is Outcome.NOTHING


def test_dead_saes_and_numbers_that_overflow() -> None:
    assert verdict(row(1e60, 1e60, l0=0), loaded=row(1e60, 1e60, l0=0)).outcome is Outcome.NOTHING
    assert named(verdict(row(0.1, 0.3, l0=40, label="it"), loaded=row(1e60, 1e60, l0=0))) == "it"


def test_the_best_is_named() -> None:
    assert named(verdict(row(0.1, 0.3, label="good"), row(0.05, 0.2, label="better"))) == "better"


def test_rows_for_information_are_not_named() -> None:
    assert named(verdict(row(0.1, 0.3, label="good"), row(0.05, 0.2, judged=False))) == "good"


def test_a_number_chosen_for_the_text_must_win_clearly() -> None:
    fitted = row(0.1, 0.28, label="fitted", fitted=True)
    assert named(verdict(row(0.1, 0.3, label="plain"), fitted)) == "plain"
    assert named(verdict(row(0.1, 0.4, label="plain"), fitted)) == "fitted"
