"""Probabilities under interventions, against full passes of single texts; what is shared and what is spared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saebench.cache.tensors import TensorCache
from saebench.errors import DataError, HookMismatchError, UsageError
from saebench.interventions.base import Intervention
from saebench.interventions.clamp import Clamp, zero
from saebench.interventions.compose import Composed
from saebench.interventions.edit import LatentEdit
from saebench.interventions.guardrail import DynamicGuardrail
from saebench.interventions.latents import Latents
from saebench.interventions.noise import EqualNormNoise
from saebench.interventions.splice import Splice
from saebench.interventions.steer import Steer
from saebench.interventions.vectors import AddVector
from saebench.lm.intervene import logits
from saebench.lm.model import LanguageModel
from saebench.passes.context import TaskContext
from saebench.passes.scored import Item, ScoredItems
from saebench.sae.protocol import SAE
from tests.conftest import WIDTH
from tests.tasks.conftest import topk_sae, transcoder

SITE, INSIDE = "blocks.1.hook_resid_post", "blocks.2.hook_mlp_out"
BOS, UNK = 2, 3

Make = Callable[..., TaskContext]


def some_items(seed: int = 0, n: int = 11) -> list[Item]:
    """Of many lengths, with a special token inside and places in arbitrary numbers, sometimes none."""
    rng = np.random.default_rng(seed)
    found = [Item((BOS, 40, 41, 42), ())]
    for _ in range(n):
        length = int(rng.integers(3, 20))
        tokens = rng.integers(4, 100, length)
        tokens[rng.integers(1, length)], tokens[0] = UNK, BOS
        places = rng.choice(np.arange(1, length), rng.integers(1, length), replace=False)
        found.append(Item(tuple(tokens.tolist()), tuple(sorted(places.tolist()))))
    return found


def one_by_one(lm: LanguageModel, items: list[Item], intervention: Intervention | None) -> Tensor:
    """The same from whole passes with hooks over single texts: no padding, no prefix, no cache."""
    return torch.cat([at_once(lm, [item], intervention) for item in items])


def at_once(lm: LanguageModel, items: list[Item], intervention: Intervention | None) -> Tensor:
    """From one whole pass with hooks over all texts."""
    length = max(len(item.tokens) for item in items)
    tokens = torch.tensor([[*item.tokens, *[99] * (length - len(item.tokens))] for item in items])
    text = torch.tensor([[place < len(item.tokens) for place in range(length)] for item in items])
    log_p = logits(lm, tokens, intervention=intervention, text=text).double().log_softmax(-1)
    wanted = [(row, place, item.tokens[place]) for row, item in enumerate(items) for place in item.predict]
    return torch.tensor([-float(log_p[row, place - 1, token]) for row, place, token in wanted], dtype=torch.float64)


def firing(lm: LanguageModel, items: list[Item], sae: SAE, share: float) -> list[int]:
    """Latents that fire on about that share of tokens."""
    x = torch.cat([lm.prefix(torch.tensor([i.tokens]), [sae.hook.site_in])[sae.hook.site_in][0, 1:] for i in items])
    return ((sae.encode(x) != 0).double().mean(0) - share).abs().argsort()[:3].tolist()


def edits(lm: LanguageModel, items: list[Item], site: str) -> list[Intervention]:
    """Several on one set of latents, which they share, and others beside them."""
    sae = topk_sae(site)
    latents = Latents(sae, firing(lm, items, sae, 0.3), error="kept")
    dropped = Latents(sae, latents.indices, error="dropped")
    vector = torch.randn(WIDTH, generator=torch.Generator().manual_seed(5))
    clamp = Clamp(latents, -9.0)
    return [
        clamp,
        Steer(latents, 4.0),
        Steer(latents, -3.0, tier="input", weight="mean"),
        Steer(latents, 2.0, tier="input", scope="whole"),
        DynamicGuardrail(latents, tau=0.2, value=-6.0, scope="whole"),
        DynamicGuardrail(latents, tau=0.2, value=-6.0),
        zero(dropped),
        Steer(dropped, 1.0),
        Splice(sae),
        AddVector(site, vector, 2.0),
        EqualNormNoise(clamp, seed=1),
        Composed([clamp, AddVector(site, vector, 1.0)]),
    ]


@pytest.mark.parametrize(
    ("family", "site"),
    [
        ("gemma3", SITE),
        ("gemma2", INSIDE),
        ("gpt2", "blocks.1.hook_resid_mid"),
        ("gpt2", "blocks.0.hook_resid_pre"),
        ("llama", "blocks.1.attn.hook_z"),
    ],
)
def test_every_intervention_gives_what_whole_passes_give(context: Make, family: str, site: str):
    tiny, items = context(family), some_items()
    scored, interventions = tiny.scored(items, site), edits(tiny.lm, items, site)
    clean, found = scored.clean, scored.under(interventions)
    assert found.dtype == clean.dtype == torch.float64
    torch.testing.assert_close(clean, at_once(tiny.lm, items, None), atol=1e-4, rtol=1e-4)
    for values, intervention in zip(found, interventions, strict=True):
        torch.testing.assert_close(values, at_once(tiny.lm, items, intervention), atol=1e-3, rtol=1e-3)
        assert (values - clean).abs().max() > 0.02  # it did something


def test_padding_changes_nothing(context: Make):
    tiny, items = context(), some_items(n=5)
    interventions = [each for each in edits(tiny.lm, items, SITE) if isinstance(each, Steer | DynamicGuardrail)]
    scored = tiny.scored(items, SITE)
    torch.testing.assert_close(scored.clean, one_by_one(tiny.lm, items, None), atol=1e-4, rtol=1e-4)
    for values, intervention in zip(scored.under(interventions), interventions, strict=True):
        torch.testing.assert_close(values, one_by_one(tiny.lm, items, intervention), atol=1e-3, rtol=1e-3)


def test_a_transcoder_reads_at_its_own_site(context: Make):
    tiny, items = context("gpt2"), some_items()
    sae = transcoder("blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out")
    clamp = Clamp(Latents(sae, firing(tiny.lm, items, sae, 0.5), error="kept"), -9.0)
    found = tiny.scored(items, sae.hook.site_out).under([clamp, Steer(clamp.latents, 1.0)])
    torch.testing.assert_close(found[0], at_once(tiny.lm, items, clamp), atol=1e-3, rtol=1e-3)
    assert (found[0] - tiny.scored(items, sae.hook.site_out).clean).abs().max() > 0.02


@pytest.mark.parametrize("batch_size", [1, 100])
def test_batches_change_nothing(context: Make, batch_size: int):
    items = some_items()
    reference, tiny = context("gemma3"), context("gemma3", batch_size=batch_size)
    interventions = edits(tiny.lm, items, SITE)
    expected = reference.scored(items, SITE).under(interventions)
    torch.testing.assert_close(tiny.scored(items, SITE).under(interventions), expected, atol=1e-4, rtol=1e-4)


def test_running_out_of_memory_makes_batches_smaller(context: Make, monkeypatch: pytest.MonkeyPatch):
    items, tiny = some_items(), context(batch_size=64)
    interventions = edits(tiny.lm, items, SITE)
    expected = context().scored(items, SITE).under(interventions)
    suffix, tried = tiny.lm.suffix, []

    def small(tokens: Tensor, *args: Any) -> Tensor:
        tried.append(len(tokens))
        if len(tokens) > 3:
            raise MemoryError
        return suffix(tokens, *args)

    monkeypatch.setattr(tiny.lm, "suffix", small)
    torch.testing.assert_close(tiny.scored(items, SITE).under(interventions), expected, atol=1e-4, rtol=1e-4)
    assert max(tried) > 3
    before = len(tried)
    tiny.scored(items, SITE).under(interventions)
    assert max(tried[before:]) <= 3  # it has learned


def test_an_item_that_stays_as_it_is_keeps_its_clean_values_and_costs_no_pass(
    context: Make, monkeypatch: pytest.MonkeyPatch
):
    items, tiny = some_items(), context("gemma3")
    sae = topk_sae(SITE)
    latents = Latents(sae, firing(tiny.lm, items, sae, 0.04), error="kept")
    passed, suffix = [], tiny.lm.suffix

    def counted(tokens: Tensor, *args: Any) -> Tensor:
        passed.extend(tokens.tolist())
        return suffix(tokens, *args)

    monkeypatch.setattr(tiny.lm, "suffix", counted)
    scored = tiny.scored(items, SITE)
    nothing = [
        Steer(latents, 0.0),
        DynamicGuardrail(latents, tau=1.0, value=-5.0),
        zero(Latents(sae, [], error="kept")),
    ]
    assert torch.equal(scored.under(nothing), scored.clean.repeat(3, 1))
    assert not passed
    found = scored.under([Clamp(latents, -30.0)])[0]
    changed = scored.per_item((found != scored.clean).double()) > 0
    assert 0 < int(changed.sum()) < len(items)
    fires = [bool((_codes(tiny.lm, sae, item)[:, latents.indices] != 0).any()) for item in items]
    assert len(passed) == sum(f and len(item.predict) > 0 for f, item in zip(fires, items, strict=True))
    assert not changed[~torch.tensor(fires)].any()


def _codes(lm: LanguageModel, sae: SAE, item: Item) -> Tensor:
    tokens = torch.tensor(item.tokens)
    return sae.encode(lm.prefix(tokens[None], [SITE])[SITE][0][tokens > UNK])


def test_edits_of_the_same_latents_encode_once(context: Make, monkeypatch: pytest.MonkeyPatch):
    items, tiny = some_items(), context()
    sae = topk_sae(SITE)
    latents, other = (Latents(sae, [1, 2, 3], error="kept") for _ in range(2))
    seen: list[int] = []
    read = LatentEdit.read
    monkeypatch.setattr(
        LatentEdit, "read", lambda self, x, mask, source=None: (seen.append(len(x)), read(self, x, mask, source))[1]
    )
    scored = tiny.scored(items, SITE)
    scored.under([Clamp(latents, value) for value in (-1.0, -2.0, -3.0)])
    once = len(seen)
    scored.under([Clamp(latents, -1.0), Clamp(other, -1.0)])
    assert len(seen) == 3 * once


def test_prefixes_and_clean_values_are_computed_once_and_cached(
    context: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    items, passes = some_items(), []

    def fresh() -> TaskContext:
        return context(cache=TensorCache(tmp_path, memory=0, disk=10**9))

    first = fresh()
    for name in ("prefix", "capture", "full"):
        original = getattr(first.lm, name)
        monkeypatch.setattr(
            first.lm, name, lambda *args, name=name, original=original: (passes.append(name), original(*args))[1]
        )
    scored, interventions = first.scored(items, SITE), edits(first.lm, items, SITE)
    for site in (SITE, INSIDE, first.lm.restart_site(INSIDE)):
        first.lm.d_at(site)
    passes.clear()
    clean, found = scored.clean, scored.under(interventions)
    assert set(passes) == {"capture"}  # one pass gave both
    n = len(passes)
    assert first.scored(list(items), SITE) is scored
    second = fresh().scored(items, SITE)
    assert torch.equal(second.clean, clean)
    assert torch.equal(second.under(interventions), found)
    assert len(passes) == n
    fresh().scored(items, INSIDE).under([])
    assert passes[n:] == ["prefix"] * n  # another site needs its prefix, not the clean values
    fresh().scored(some_items(seed=1), SITE)  # nothing is computed before it is asked for
    assert len(passes) == 2 * n
    fresh().scored(some_items(seed=1), SITE).under([])
    assert len(passes) > 2 * n


def test_weights_as_they_are_now(context: Make):
    items, tiny = some_items(), context("llama")
    scored = tiny.scored(items, SITE)
    clean = scored.clean
    assert torch.equal(scored.as_is(), clean)
    weight = next(p for name, p in tiny.lm.model.named_parameters() if "mlp" in name and p.ndim == 2)
    before = weight.clone()
    try:
        weight.mul_(1.5)
        changed = scored.as_is()
        torch.testing.assert_close(changed, at_once(tiny.lm, items, None), atol=1e-4, rtol=1e-4)
    finally:
        weight.copy_(before)
    assert (changed - clean).abs().max() > 0.02
    assert torch.equal(scored.as_is(), clean)
    assert torch.equal(context("llama").scored(items, SITE).clean, clean)


def test_a_later_token_changes_no_earlier_prediction(context: Make):
    tiny, beginning = context("gemma3"), (BOS, 50, 61, 72, 55)
    ends = [(60, 61, 62), (99, 98, 97), ()]
    items = [Item((*beginning, *end), (1, 2, 3, 4)) for end in ends]
    interventions = [each for each in edits(tiny.lm, some_items(), SITE) if each.causal]
    assert len(interventions) >= 8
    found = tiny.scored(items, SITE).under(interventions).view(len(interventions), 3, 4)
    torch.testing.assert_close(found[:, 1], found[:, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[:, 2], found[:, 0], atol=1e-4, rtol=1e-4)


def test_sums_over_the_predictions_of_each_item(context: Make):
    items = [Item((BOS, 40, 41, 42), (1, 3)), Item((BOS, 40), ()), Item((BOS, 40, 41), (2,))]
    scored = context().scored(items, SITE)
    assert scored.n == 3
    assert scored.item.tolist() == [0, 0, 2]
    assert scored.counts.tolist() == [2, 0, 1]
    values = torch.tensor([[[1.0, 2.0, 4.0]], [[0.5, 0.25, 8.0]]])
    found = scored.per_item(values)
    assert found.dtype == torch.float64
    assert found.tolist() == [[[3.0, 0.0, 4.0]], [[0.75, 0.0, 8.0]]]
    assert scored.under([]).shape == (0, 3)


def test_refusals(context: Make):
    tiny, items = context(), some_items()
    with pytest.raises(UsageError, match=r"scored at blocks\.1.*acts at blocks\.2"):
        tiny.scored(items, SITE).under([Composed([], site=INSIDE)])
    with pytest.raises(HookMismatchError, match="Did you mean"):
        tiny.scored(items, "blocks.1.hook_resid_nowhere")
    with pytest.raises(UsageError, match="64 positions"):
        tiny.scored([Item((BOS, *[40] * 64), (1,))], SITE)
    for nothing in ([], [Item((BOS, 40), ())]):
        with pytest.raises(DataError, match="no token whose probability"):
            tiny.scored(nothing, SITE)


def test_what_scored_items_are_of_is_not_confused(context: Make):
    """Equal tokens with other places, and the same tokens cut otherwise, are other items."""
    tiny = context()
    a = tiny.scored([Item((BOS, 40, 41), (1,)), Item((BOS, 42), (1,))], SITE)
    b = tiny.scored([Item((BOS, 40, 41), (2,)), Item((BOS, 42), (1,))], SITE)
    c = tiny.scored([Item((BOS, 40), (1,)), Item((BOS, 41, 42), (1,))], SITE)
    assert len({a, b, c}) == 3
    assert a.clean[0] != b.clean[0]
    assert a.clean[0] == pytest.approx(float(c.clean[0]), abs=1e-4)
    assert isinstance(a, ScoredItems)
