"""Named generators: repeatable, and independent of each other."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from saebench.stats.rng import NO_CONTENT, generator


def draws(seed: int, name: str, n: int = 4) -> list[int]:
    return generator(seed, name).integers(0, 2**62, n).tolist()


@given(seed=st.integers(0, 2**63), name=st.text(max_size=20))
def test_same_seed_and_name_same_numbers(seed: int, name: str):
    assert draws(seed, name) == draws(seed, name)


def test_the_numbers_are_these_on_every_machine():
    """A change here changes every split and bootstrap ever recorded."""
    assert generator(0, "bootstrap").integers(0, 1000, 5).tolist() == [106, 151, 463, 532, 963]


def test_no_two_names_or_seeds_share_a_stream():
    streams = {tuple(draws(seed, name)) for seed in range(50) for name in ("a", "b", "split:a", "split:b", "", "é")}
    assert len(streams) == 300


def test_purpose_content_and_numbers_tell_draws_apart():
    drawn = [("a",), ("b",), ("a", "c"), ("a", "d"), ("a", "c", 1), ("a", "c", 2), ("a", "c", 0.1), ("a", "c", 1, 2)]
    assert len({generator(0, *each).random() for each in drawn}) == len(drawn)
    assert generator(0, "a", "c", 1).random() == generator(0, "a", "c", 1.0).random()
    assert generator(0, "bootstrap", NO_CONTENT, 7).random() == generator(0, "bootstrap:7").random()


def test_streams_of_different_names_are_uncorrelated():
    streams = np.array([generator(0, f"name {index}").standard_normal(10_000) for index in range(8)])
    correlation = np.corrcoef(streams) - np.eye(8)
    assert np.abs(correlation).max() < 0.04  # four standard errors


def test_the_global_generator_is_left_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    generator(1, "x").random(10)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
