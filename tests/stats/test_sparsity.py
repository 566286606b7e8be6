"""Firing counts and shares against dense numpy computations."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from saebench.stats import sparsity
from saebench.stats.intervals import Estimate, jackknife
from saebench.stats.sparsity import FiringCounts

RULES = {"dead_share": None, "density_over_1pct": 1, "density_over_10pct": 10}


def sample(n_sequences: int, per_sequence: int, d_sae: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Signed latents of very different densities (some never fire), tokens of the sequences intermixed."""
    rng = np.random.default_rng(seed)
    density = np.concatenate([np.zeros(d_sae // 4), np.logspace(-3, -0.3, d_sae - d_sae // 4)])
    z = rng.standard_normal((n_sequences * per_sequence, d_sae))
    z *= rng.random(z.shape) < density
    sequence = rng.permutation(np.repeat(np.arange(n_sequences), per_sequence))
    return torch.from_numpy(z).float(), torch.from_numpy(sequence)


def collect(z: torch.Tensor, sequence: torch.Tensor, n_sequences: int, batch: int) -> FiringCounts:
    firing = FiringCounts(n_sequences, z.shape[1])
    for rows in torch.arange(len(z)).split(batch):
        firing.add(z[rows], sequence[rows])
    return firing


def shares_of(active: np.ndarray) -> dict[str, float]:
    """Densely, with whole numbers."""
    counts, tokens = active.sum(0), len(active)
    return {
        name: np.mean(counts == 0) if percent is None else np.mean(100 * counts > percent * tokens)
        for name, percent in RULES.items()
    }


@pytest.mark.parametrize("batch", [1, 13, 100_000])
def test_against_dense_numpy(batch: int):
    z, sequence = sample(7, 60, 40)
    firing = collect(z, sequence, 7, batch)
    active, who = z.numpy() != 0, sequence.numpy()
    assert (z < 0).any()  # signed latents fire too

    counts = np.stack([active[who == s].sum(0) for s in range(7)])
    assert np.array_equal(firing.per_sequence.toarray(), counts)
    np.testing.assert_allclose(firing.densities(), active.mean(0), rtol=1e-14)
    ratios = firing.ratios()
    np.testing.assert_array_equal(ratios["l0"][0], [active[who == s].sum() for s in range(7)])
    np.testing.assert_allclose(
        ratios["l1"][0], [np.abs(z.double().numpy()[who == s]).sum() for s in range(7)], rtol=1e-12
    )
    for name in ("l0", "l1"):
        np.testing.assert_array_equal(ratios[name][1], np.full(7, 60.0))
    assert {name: estimate.value for name, estimate in firing.shares().items()} == shares_of(active)


def test_jackknife_against_brute_force():
    n = 12
    z, sequence = sample(n, 30, 64)
    active, who = z.numpy() != 0, sequence.numpy()
    shares = collect(z, sequence, n, 50).shares()
    left_out = [shares_of(active[who != s]) for s in range(n)]
    for name, estimate in shares.items():
        values = np.array([each[name] for each in left_out])
        stderr = np.sqrt((n - 1) * np.var(values))
        assert estimate.stderr == pytest.approx(stderr, rel=1e-12)
        assert estimate.ci_low == pytest.approx(max(0.0, estimate.value - 2.2009851600916384 * stderr), abs=1e-12)
        assert estimate.ci_high == pytest.approx(min(1.0, estimate.value + 2.2009851600916384 * stderr), abs=1e-12)
        assert (estimate.n, estimate.method) == (n, "jackknife")
    assert shares["dead_share"].stderr > 0


@pytest.mark.parametrize("tokens", [100, 300, 700, 2_900, 5_700, 9_900])
def test_exactly_one_percent_is_not_more_than_one_percent(tokens: int):
    """Nor exactly ten percent more than ten, at token counts where the product could be rounded down."""
    z = torch.zeros(tokens, 4)
    z[: tokens // 100, 0] = 1.0
    z[: tokens // 100 + 1, 1] = 1.0
    z[: tokens // 10, 2] = 1.0
    z[: tokens // 10 + 1, 3] = 1.0
    shares = collect(z, torch.zeros(tokens, dtype=torch.long), 1, 1000).shares()
    assert shares["density_over_1pct"].value == 0.75
    assert shares["density_over_10pct"].value == 0.25
    assert shares["dead_share"].value == 0.0


def test_sequences_may_have_no_tokens():
    z, sequence = sample(5, 20, 16)
    firing = collect(z, sequence * 2, 10, 33)  # every other sequence is empty
    assert firing.per_sequence.toarray()[1::2].sum() == 0
    np.testing.assert_array_equal(firing.ratios()["l0"][1], [20.0, 0.0] * 5)
    assert firing.shares()["dead_share"].value == np.mean(~(z.numpy() != 0).any(0))


def test_one_sequence_has_no_interval():
    z, sequence = sample(1, 20, 16)
    estimate = collect(z, sequence, 1, 33).shares()["dead_share"]
    assert np.isfinite(estimate.value)
    assert np.isnan([estimate.stderr, estimate.ci_low, estimate.ci_high]).all()


def test_nothing_added():
    firing = FiringCounts(3, 5)
    assert firing.per_sequence.toarray().tolist() == [[0] * 5] * 3
    assert all(np.isnan(estimate.value) for estimate in firing.shares().values())


def test_all_dead_and_all_dense():
    sequence = torch.arange(4).repeat_interleave(3)
    for value, dead in ((0.0, 1.0), (-2.0, 0.0)):
        shares = collect(torch.full((12, 6), value), sequence, 4, 5).shares()
        assert shares["dead_share"].value == dead
        assert shares["density_over_10pct"].value == 1.0 - dead
        assert np.isnan(shares["dead_share"].ci_low), "what no sequence changes is not certain"


def test_half_precision_and_tiny_activations_count():
    z = torch.tensor([[1e-7, 0.0, -6e-8]], dtype=torch.float16)
    firing = collect(z, torch.zeros(1, dtype=torch.long), 1, 1)
    assert firing.per_sequence.toarray().tolist() == [[1, 0, 1]]
    assert collect(torch.full((4, 3), 3e4).half(), torch.zeros(4).long(), 1, 2).ratios()["l1"][0][0] == pytest.approx(
        360_000, rel=1e-3
    )  # beyond the largest float16


def test_running_out_of_memory_leaves_nothing_half_added(monkeypatch: pytest.MonkeyPatch):
    """A batch that fails is repeated: it must not be counted twice."""
    z, sequence = sample(3, 10, 8)
    firing = FiringCounts(3, 8)
    originals = {name: getattr(torch.Tensor, name) for name in ("abs", "sum", "index_add_")}

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    for name, original in originals.items():
        monkeypatch.setattr(torch.Tensor, name, fail)
        with pytest.raises(MemoryError):
            firing.add(z, sequence)
        monkeypatch.setattr(torch.Tensor, name, original)
    firing.add(z, sequence)
    assert firing.per_sequence.sum() == int((z != 0).sum()) == firing.ratios()["l0"][0].sum()
    assert firing.ratios()["l0"][1].tolist() == [10.0] * 3


@given(
    n=st.integers(2, 5),
    d=st.integers(1, 6),
    seed=st.integers(0, 1000),
    batch=st.integers(1, 40),
)
def test_any_order_and_batching(n: int, d: int, seed: int, batch: int):
    z, sequence = sample(n, 8, d, seed)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(z)))
    one, other = collect(z, sequence, n, 1000), collect(z[order], sequence[order], n, batch)
    assert np.array_equal(one.per_sequence.toarray(), other.per_sequence.toarray())
    assert one.shares() == other.shares()
    np.testing.assert_allclose(one.ratios()["l1"][0], other.ratios()["l1"][0], rtol=1e-12)


def slots_of(z: torch.Tensor, spare: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(values, indices) in any order, with ``spare`` more slots than needed; unused ones hold 0 at any index."""
    rng = np.random.default_rng(seed)
    slots = max(1, int((z != 0).sum(-1).max())) + spare if len(z) else 1
    values, indices = torch.zeros(len(z), slots), torch.from_numpy(rng.integers(z.shape[1], size=(len(z), slots)))
    for token, row in enumerate(z):
        latents = row.nonzero()[:, 0]
        where = torch.from_numpy(rng.permutation(slots)[: len(latents)])
        indices[token, where], values[token, where] = latents, row[latents]
    return values, indices


def plain(shares: dict[str, Estimate]) -> dict[str, dict[str, object]]:
    """So that NaN may equal NaN."""
    return {name: asdict(estimate) for name, estimate in shares.items()}


def same(one: FiringCounts, other: FiringCounts) -> None:
    assert np.array_equal(one.per_sequence.toarray(), other.per_sequence.toarray())
    for name, rtol in (("l0", 0.0), ("l1", 1e-14)):
        np.testing.assert_allclose(one.ratios()[name][0], other.ratios()[name][0], rtol=rtol, atol=0)
        np.testing.assert_array_equal(one.ratios()[name][1], other.ratios()[name][1])
    np.testing.assert_equal(plain(one.shares()), plain(other.shares()))


WILD = st.one_of(st.sampled_from([0.0, -0.0, 1e-42, -1e-42, 1.0]), st.floats(-1e4, 1e4, width=32))


@given(
    array=arrays.arrays(np.float32, st.tuples(st.integers(0, 8), st.integers(1, 6)), elements=WILD),
    spare=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_sparse_codes_count_like_dense_ones(array: np.ndarray, spare: int, seed: int):
    z = torch.from_numpy(array)
    sequence = torch.from_numpy(np.random.default_rng(seed).integers(3, size=len(z)))
    dense, sparse = FiringCounts(3, z.shape[1]), FiringCounts(3, z.shape[1])
    dense.add(z, sequence)
    sparse.add(slots_of(z, spare, seed), sequence)
    same(sparse, dense)


def test_sparse_and_dense_blocks_may_alternate_and_be_read_in_between():
    z, sequence = sample(5, 40, 30)
    dense, mixed = collect(z, sequence, 5, 1000), FiringCounts(5, 30)
    for start in range(0, len(z), 17):
        rows = slice(start, start + 17)
        mixed.add(z[rows] if start % 2 else slots_of(z[rows], 1), sequence[rows])
        assert mixed.per_sequence.sum() == mixed.ratios()["l0"][0].sum() == int((z[: start + 17] != 0).sum())
    same(mixed, dense)
    assert mixed.per_sequence is mixed.per_sequence  # assembled once


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_bad_values_of_sparse_codes_show(bad: float):
    firing = FiringCounts(2, 9)
    firing.add((torch.tensor([[1.0, bad], [2.0, 0.0]]), torch.tensor([[3, 4], [5, 5]])), torch.tensor([0, 1]))
    l1 = firing.ratios()["l1"][0]
    assert not np.isfinite(l1[0])
    assert l1[1] == 2.0


def test_keys_of_many_sequences_and_latents_do_not_overflow():
    firing = FiringCounts(100_000, 131_072)
    firing.add((torch.ones(1, 1), torch.tensor([[131_071]], dtype=torch.int32)), torch.tensor([99_999]).int())
    assert firing.per_sequence[99_999, 131_071] == firing.per_sequence.sum() == 1


def test_sparse_codes_never_become_dense():
    """A dense row here would take 8 TB."""
    firing = FiringCounts(2, 2_000_000_000)
    firing.add((torch.ones(1000, 2), torch.arange(2000).view(1000, 2) * 1_000_000), torch.arange(1000) % 2)
    assert firing.ratios()["l0"][0].tolist() == [1000.0, 1000.0]


def shares_by_whole_recount(firing: FiringCounts) -> dict[str, Estimate]:
    """Every left-out sequence counted over all latents anew: slow, and plainly right."""
    counts = firing.per_sequence.toarray().astype(np.float64)
    tokens = firing.ratios()["l0"][1]

    def share(total: np.ndarray, n: float, percent: int | None) -> float:
        if n <= 0:
            return float("nan")
        return float(np.mean(total == 0) if percent is None else np.mean(100 * total > percent * n))

    found: dict[str, Estimate] = {}
    for name, percent in RULES.items():
        value = share(counts.sum(0), tokens.sum(), percent)
        rest = [share(counts.sum(0) - counts[i], tokens.sum() - tokens[i], percent) for i in range(len(counts))]
        whole = jackknife(value, np.array(rest))
        low, high = np.clip([whole.ci_low, whole.ci_high], 0.0, 1.0)
        found[name] = Estimate(whole.value, whole.stderr, float(low), float(high), whole.n, whole.method)
    return found


@given(
    n=st.integers(1, 8),
    d=st.integers(1, 40),
    seed=st.integers(0, 10_000),
    lengths=st.lists(st.integers(0, 120), min_size=8, max_size=8),
)
def test_shares_are_those_of_a_whole_recount_bit_for_bit(n: int, d: int, seed: int, lengths: list[int]):
    rng = np.random.default_rng(seed)
    sequence = torch.from_numpy(np.repeat(np.arange(n), lengths[:n]))
    density = rng.choice([0.0, 0.005, 0.01, 0.02, 0.1, 0.12, 1.0], size=d)  # near the percentages, and dead
    z = torch.from_numpy((rng.random((len(sequence), d)) < density).astype(np.float32))
    firing = collect(z, sequence, n, 50)
    np.testing.assert_equal(plain(firing.shares()), plain(shares_by_whole_recount(firing)))


def test_memory_that_runs_out_leaves_nothing_half_counted(monkeypatch: pytest.MonkeyPatch):
    counts, z, sequence = FiringCounts(2, 3), torch.ones(3, 3), torch.tensor([0, 0, 1])
    with monkeypatch.context() as patch:

        def exhausted(*_: object, **__: object) -> object:
            raise MemoryError

        patch.setattr(sparsity.sparse, "coo_array", exhausted)
        with pytest.raises(MemoryError):
            counts.add(z, sequence)
    counts.add(z, sequence)
    assert counts.per_sequence.toarray().tolist() == [[2, 2, 2], [1, 1, 1]]
    assert counts.ratios()["l0"][1].tolist() == [2, 1]


def test_blocks_that_cut_sequences_in_pieces_are_put_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sparsity, "_UNMERGED", 10)
    counts, sequence = FiringCounts(2, 4), torch.tensor([0] * 30 + [1] * 20)
    for token in range(50):
        counts.add(torch.ones(1, 4), sequence[token : token + 1])
        assert sum(len(part[0]) for part in counts._entries) <= 10
    assert counts.per_sequence.toarray().tolist() == [[30] * 4, [20] * 4]
