"""LangFIR, nu and SAE-LAPE on rates that are written down."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from saebench.tasks.language_steering.selection import LatentRates, langfir, lape, monolingual

LANGUAGES = ("en", "fr", "de", "es", "it")


def rates(**arrays: list[list[float]] | list[float]) -> LatentRates:
    """Rates with the given arrays; all others are 0. The languages are the first of `LANGUAGES`."""
    shape = np.shape(next(iter(arrays.values())))
    parts = {name: np.zeros(shape) for name in ("sentence", "token", "mean", "when_firing")}
    parts |= {"random": np.zeros(shape[-1]), **{name: np.array(values, float) for name, values in arrays.items()}}
    return LatentRates(LANGUAGES[: shape[0]], **parts)


def test_langfir_wants_consistent_latents_that_random_tokens_do_not_have():
    found = rates(
        sentence=[[1.0, 0.95, 0.94, 1.0, 0.96], [0.0, 1.0, 1.0, 1.0, 0.0]],
        mean=[[1.0, 3.0, 9.0, 9.0, 2.0], [0.0] * 5],
        random=[0.0, 0.05, 0.0, 0.06, 0.01],
    )
    assert_array_equal(langfir(found, "en", 0.95, 0.05), [1, 4, 0])  # by mean
    assert_array_equal(langfir(found, "fr", 0.95, 0.05), [1, 2])
    assert len(langfir(found, "en", 1.1, 0.05)) == 0


def test_nu_is_the_mean_beyond_that_of_the_others():
    found = rates(mean=[[5.0, 2.0, 1.0], [5.0, 0.0, 0.0], [6.0, 0.0, 3.0]])
    assert_array_equal(monolingual(found, "en", 2), [1])  # nu = -0.5, 2, -0.5
    assert_array_equal(monolingual(found, "de", 2), [2, 0])  # nu = 1, -1, 2.5
    assert_array_equal(monolingual(found, "de", 1), [2])


def test_lape_wants_frequent_latents_of_one_language():
    found = rates(
        sentence=[[1.0, 1.0, 0.97, 1.0, 1.0], [0.2, 1.0, 0.1, 0.5, 0.1]],
        token=[[0.6, 0.6, 0.6, 0.09, 0.5], [0.1, 0.4, 0.0, 0.0, 0.0]],
    )
    # 1 fires in both languages, 2 in too few sentences, 3 on too few tokens; 4 has the lower entropy.
    specific = lape(found)
    assert_array_equal(specific["en"], [4, 0])
    assert len(specific["fr"]) == 0


def test_lape_of_silent_latents():
    assert all(len(latents) == 0 for latents in lape(rates(token=[[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])).values())


@settings(max_examples=30)
@given(st.integers(2, 5), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_lape_latents_belong_to_one_language(languages: int, d_sae: int, seed: int):
    rng = np.random.default_rng(seed)
    token = rng.random((languages, d_sae)) * rng.integers(0, 2, (languages, d_sae))
    found = lape(rates(token=token.tolist(), sentence=np.ones((languages, d_sae)).tolist()))
    every = np.concatenate(list(found.values()))
    assert len(np.unique(every)) == len(every)
    for row, latents in enumerate(found.values()):
        assert_array_equal(token[:, latents].argmax(0), np.full(len(latents), row))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_stricter_thresholds_find_fewer(seed: int):
    rng = np.random.default_rng(seed)
    found = rates(sentence=rng.random((2, 20)).tolist(), random=rng.random(20).tolist())
    strict, loose = langfir(found, "en", 0.8, 0.2), langfir(found, "en", 0.5, 0.5)
    assert set(strict) <= set(loose)
