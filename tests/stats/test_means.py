"""The difference in means, against its formula."""

from __future__ import annotations

import pytest
import torch

from saebench.stats.means import DifferenceInMeans


def rows(n: int, seed: int, d: int = 4) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_of_two_groups_it_is_the_difference_of_their_means():
    own, other = rows(5, 0), rows(3, 1)
    found = DifferenceInMeans.between(own, other)
    torch.testing.assert_close(found.centre, other.mean(0))
    torch.testing.assert_close(found.direction, own.mean(0) - other.mean(0))


def test_every_other_group_counts_equally_whatever_its_size():
    own, small, large = rows(5, 0), rows(2, 1), rows(100, 2)
    found = DifferenceInMeans.between(own, small, large)
    centre = (small.mean(0) + large.mean(0)) / 2
    torch.testing.assert_close(found.centre, centre)
    torch.testing.assert_close(found.direction, own.mean(0) - centre)
    assert not torch.allclose(found.centre, torch.cat([small, large]).mean(0))


@pytest.mark.parametrize("shift", [-3.0, 0.0, 2.5])
def test_a_planted_shift_is_the_direction(shift: float):
    base = rows(40, 0)
    found = DifferenceInMeans.between(base + shift * torch.eye(4, dtype=torch.float64)[1], base)
    torch.testing.assert_close(found.direction, torch.tensor([0, shift, 0, 0], dtype=torch.float64))


def test_it_does_not_depend_on_the_order_of_rows_and_groups():
    own, one, other = rows(6, 0), rows(4, 1), rows(3, 2)
    there, back = DifferenceInMeans.between(own, one, other), DifferenceInMeans.between(own.flip(0), other, one)
    torch.testing.assert_close(there.direction, back.direction)
    torch.testing.assert_close(there.centre, back.centre)


def test_dtype_and_width_are_those_of_the_rows():
    found = DifferenceInMeans.between(rows(3, 0, d=7).float(), rows(2, 1, d=7).float())
    assert found.direction.shape == found.centre.shape == (7,)
    assert found.direction.dtype == torch.float32
