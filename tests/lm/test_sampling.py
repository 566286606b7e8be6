"""Draws: the nucleus that is found without sorting the vocabulary, and frequencies of tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import TopPLogitsWarper

from saebench.lm.sampling import _NUCLEUS, Draw, Sampling, draw, nucleus

NO_TOKENS = torch.zeros(3, 0, dtype=torch.long)


def full_nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Probabilities ``[rows, vocabulary]``, 0 outside of the nucleus."""
    out = torch.zeros_like(logits)
    seen = []
    for rows, mass, ids in nucleus(logits, top_p):
        assert bool((ids.diff(dim=-1) > 0).all())
        out[rows] = torch.zeros_like(logits[rows]).scatter_(1, ids, mass)
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(logits)))
    return out


def kept(logits: Tensor, top_p: float) -> Tensor:
    return full_nucleus(logits, top_p) > 0


@pytest.mark.parametrize("spread", [0.1, 1.0, 8.0])  # flat: more tokens than are looked at first; peaked: a few
@pytest.mark.parametrize("vocabulary", [50, _NUCLEUS, 3 * _NUCLEUS])
@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.9, 0.999])
def test_keeps_what_transformers_keeps(spread: float, vocabulary: int, top_p: float):
    logits = spread * torch.randn(3, vocabulary, generator=torch.Generator().manual_seed(0))
    found, expected = kept(logits, top_p), torch.isfinite(TopPLogitsWarper(top_p)(NO_TOKENS, logits))
    # A token at the very border may fall to either side by rounding.
    assert (found != expected).sum(-1).max() <= 1
    assert found.sum(-1).min() >= 1
    mass = full_nucleus(logits, top_p)
    assert torch.allclose(mass[found], logits.softmax(-1)[found], rtol=1e-4)


def test_rows_that_need_many_candidates_do_not_hinder_others():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 20 * _NUCLEUS, generator=generator) * torch.tensor([[8.0], [0.1], [1.0], [8.0]])
    sizes = {tuple(rows.tolist()): ids.shape[1] for rows, _, ids in nucleus(logits, 0.9)}
    assert sizes == {(0, 3): _NUCLEUS, (2,): 16 * _NUCLEUS, (1,): 20 * _NUCLEUS}
    uniform = torch.rand(4, generator=generator, dtype=torch.float64)
    alone = [int(draw(logits[[row]], 0.9, uniform[[row]])) for row in range(4)]
    assert draw(logits, 0.9, uniform).tolist() == alone


def test_by_hand():
    logits = torch.tensor([[0.05, 0.5, 0.15, 0.3]]).log()
    assert [kept(logits, p)[0].int().tolist() for p in (0.4, 0.6, 0.9, 0.99)] == [
        [0, 1, 0, 0],
        [0, 1, 0, 1],
        [0, 1, 1, 1],
        [1, 1, 1, 1],
    ]
    at = [0.0, 0.0499, 0.0501, 0.5499, 0.5501, 0.6999, 0.7001, 0.9999]
    assert draw(logits.repeat(8, 1), 1.0, torch.tensor(at).double()).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    # In the nucleus {1, 3} token 1 has 5/8.
    assert draw(logits.repeat(4, 1), 0.6, torch.tensor([0.0, 0.62, 0.63, 0.999]).double()).tolist() == [1, 1, 3, 3]


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_frequencies(top_p: float):
    logits = torch.randn(1, 12, generator=torch.Generator().manual_seed(1))
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    drawn = draw(logits.expand(len(uniform), -1), top_p, uniform).bincount(minlength=12) / len(uniform)
    p = logits.softmax(-1)[0] * kept(logits, top_p)[0]
    assert torch.allclose(drawn, p / p.sum(), atol=0.012)


def test_rows_of_a_prompt_draw_alike():
    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(0)).repeat(6, 1)
    choose = Draw(Sampling(temperature=2.0, seed=4), [0, 1, 2, 0, 1, 2])
    steps = torch.stack([choose(logits) for _ in range(8)])
    assert torch.equal(steps[:, :3], steps[:, 3:])
    assert not torch.equal(steps[:, 0], steps[:, 1])
    again = Draw(Sampling(temperature=2.0, seed=4), [1])
    assert torch.equal(torch.stack([again(logits[:1]) for _ in range(8)])[:, 0], steps[:, 1])
