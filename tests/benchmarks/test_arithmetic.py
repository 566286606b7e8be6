"""Ratios and exponents: the arithmetic between seconds and what is reported."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import floor, gpu, growth, peer
from benchmarks.arithmetic import exponent, last_doubling, ratio_of_medians
from tests.benchmarks.conftest import GB, floor_rows, growth_row, growth_rows, one_side, peer_rows

positive = st.floats(1e-3, 1e3)


def test_ratio_takes_the_median_of_each_side_not_of_the_ratios():
    assert ratio_of_medians([50, 60, 90], [20, 19, 21]) == 3.0


@pytest.mark.parametrize("bottom", [[0.0], [-1.0, 0.0]])
def test_ratio_refuses_to_divide_by_nothing(bottom):
    with pytest.raises(ValueError, match="cannot divide"):
        ratio_of_medians([1.0], bottom)


@given(scale=positive, power=st.floats(-2, 2), sizes=st.lists(st.integers(1, 1000), min_size=2, unique=True))
def test_exponent_finds_the_power_of_a_power_law(scale, power, sizes):
    values = [scale * size**power for size in sizes]
    assert exponent(sizes, values) == pytest.approx(power, abs=1e-6)
    assert last_doubling(sizes, values) == pytest.approx(power, abs=1e-6)


def test_a_fixed_cost_flattens_the_exponent_more_than_the_last_doubling():
    sizes = [1, 2, 4, 8, 16]
    seconds = [10 + size for size in sizes]
    assert exponent(sizes, seconds) < last_doubling(sizes, seconds) < 1


def test_last_doubling_sorts_by_size():
    assert last_doubling([16, 1, 8], [4.0, 100.0, 1.0]) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("sizes", "values"), [([1], [1.0]), ([2, 2], [1.0, 2.0]), ([1, 2], [1.0]), ([1, 2], [0.0, 1.0])]
)
def test_exponent_refuses_what_has_none(sizes, values):
    with pytest.raises(ValueError, match=r"different sizes|positive"):
        exponent(sizes, values)


def test_peer_ratios_are_per_dtype_phase_and_number_of_saes():
    found = peer.ratios(
        [*peer_rows(), one_side("peer", 1, 80, dtype="default"), one_side("ours", 1, 10, dtype="default")]
    )
    assert found["float32/evaluation/1"] == 3.0
    assert found["float32/whole/1"] == pytest.approx(70 / 30)
    assert found["float32/evaluation/10"] == 10.0
    assert found["default/evaluation/1"] == 8.0
    assert found["float32/memory/1"] == 8.0


def test_peer_memory_is_left_out_where_the_system_does_not_tell():
    rows = [one_side(side, 1, 5.0) | {"peak": None, "resident_after_load": None} for side in ("peer", "ours")]
    assert set(peer.ratios(rows)) == {"float32/evaluation/1", "float32/whole/1"}


def test_share_is_floor_over_ours():
    assert floor.ratios(floor_rows()) == {"share/1": 0.75}


def test_growth_ratios():
    found = growth.ratios(growth_rows())
    assert found["exponent/tokens"] == pytest.approx(1.0)
    assert found["exponent/latents"] == pytest.approx(0.0)
    assert found["memory/tokens"] == 1.0
    assert found["memory/latents"] == pytest.approx(1.0), "the weights of the SAE itself are taken off"
    assert found["total_memory/latents"] == pytest.approx(1.7 / 1.6)


def test_growth_of_memory_takes_the_worst_point():
    rows = [growth_row("tokens", factor, 1.0, above) for factor, above in ((1, GB), (2, 3 * GB), (4, 2 * GB))]
    assert growth.ratios(rows)["memory/tokens"] == 3.0


def test_gpu_ratios_are_medians_of_the_repetitions():
    same = {"kind": "topk", "d_sae": 64, "saes": 1, "tokens": 600}
    times = [(1.0, 3.0), (1.5, 2.0), (9.0, 9.0)]
    rows = [same | {"floor": bare, "ours": ours, "above_model": GB} for bare, ours in times]
    assert gpu.ratios(rows) == {
        "tokens_per_second/topk/64/1": 200.0,
        "share/topk/64/1": 0.5,
        "above_model_gb/topk/64/1": 1.0,
    }
