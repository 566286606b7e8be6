"""What latents do on texts, against encoding one text after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sae_lens
import torch
from sae_lens.saes.sae import SAEMetadata

from saebench.budget import Budget
from saebench.errors import NotApplicableError, SaebenchError
from saebench.passes.activity import Activity, activity, mean_activations
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench.sae.sae_lens_adapter import SAELensAdapter
from tests.conftest import WIDTH
from tests.tasks.conftest import _randomised, topk_sae

SITE, D_SAE = "blocks.1.hook_resid_post", 48
# é is unknown to the tokenizer, a special token; two texts are longer than the context of 16.
TEXTS = ["a", "bcd éfg", *("abcdefgh ij klm nop"[: 1 + i % 19] for i in range(20)), "the longest of them all"]

Make = Callable[..., TaskContext]


def sae_of(kind: str) -> SAELensAdapter:
    metadata = SAEMetadata(hook_name=SITE)
    options: dict[str, Any] = {"d_in": WIDTH, "d_sae": D_SAE, "metadata": metadata}
    if kind == "topk":
        return topk_sae(SITE)
    if kind == "signed":
        return _randomised(sae_lens.AbsTopKSAE(sae_lens.AbsTopKSAEConfig(k=5, **options)), 1)
    if kind == "dense":
        return _randomised(sae_lens.StandardSAE(sae_lens.StandardSAEConfig(**options)), 2)
    temporal = sae_lens.TemporalSAEConfig(n_heads=2, bottleneck_factor=4, kval_topk=5, **options)
    return _randomised(sae_lens.TemporalSAE(temporal), 3)


def naive(tiny: TaskContext, sae: SAE) -> list[np.ndarray]:
    """``[tokens, d_sae]`` of each text."""
    tokenizer, found = tiny.lm.tokenizer, []
    for text in TEXTS:
        tokens = torch.tensor([2, *tokenizer(text, add_special_tokens=False)["input_ids"][-15:]])
        x = tiny.lm.prefix(tokens[None], [SITE])[SITE][0]
        found.append(sae.encode(x[tokens > 3]).detach().double().numpy())
    return found


@pytest.mark.parametrize("memory", [10**9, 20_000])
@pytest.mark.parametrize("kind", ["topk", "signed", "dense"])
def test_each_text_against_encoding_it_alone(context: Make, kind: str, memory: int):
    tiny, sae = context(budget=Budget(memory=memory)), sae_of(kind)
    found, expected = activity(sae, tiny, TEXTS, 16), naive(tiny, sae)
    assert found.tokens.tolist() == [len(f) for f in expected]
    for table, of in (
        (found.maximum, lambda f: abs(f).max(0)),
        (found.total, lambda f: f.sum(0)),
        (found.firing, lambda f: (f != 0).sum(0)),
    ):
        assert table.shape == (len(TEXTS), D_SAE)
        assert table.dtype == np.float32
        np.testing.assert_allclose(table.toarray(), np.stack([of(f) for f in expected]), rtol=1e-4, atol=1e-4)
    f = np.concatenate(expected)
    fires = (f != 0).sum(0)
    np.testing.assert_allclose(found.token_rate(), (f != 0).mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.text_rate(), np.mean([(each != 0).any(0) for each in expected], axis=0))
    np.testing.assert_allclose(found.mean(), f.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.mean_when_firing(), f.sum(0) / np.maximum(fires, 1), rtol=1e-4, atol=1e-4)
    assert (found.maximum.data > 0).all()


def test_signed_latents_that_cancel_do_fire(context: Make):
    class Cancels(SAELensAdapter):
        def encode(self, x: torch.Tensor) -> torch.Tensor:
            z = torch.zeros(len(x), D_SAE)
            z[:, 7] = torch.tensor([1.0, -1.0]).repeat(len(x))[: len(x)]
            return z

    sae = sae_of("dense")
    sae.__class__ = Cancels
    found = activity(sae, context(), ["abcd"], 16)
    assert found.firing.toarray()[0, 7] == 4
    assert found.maximum.toarray()[0, 7] == 1
    assert found.total.toarray()[0, 7] == 0
    assert found.text_rate()[7] == found.token_rate()[7] == 1


def test_latents_that_never_fire(context: Make):
    sae = sae_of("dense")
    with torch.no_grad():
        sae.sae.b_enc.fill_(-1e6)
    found = activity(sae, context(), TEXTS, 16)
    assert found.firing.nnz == 0
    for rate in (found.token_rate(), found.text_rate(), found.mean(), found.mean_when_firing()):
        assert rate.shape == (D_SAE,)
        assert not rate.any()
    assert isinstance(found, Activity)


def test_refusals(context: Make):
    with pytest.raises(NotApplicableError):
        activity(sae_of("temporal"), context(), TEXTS, 16)
    broken = sae_of("dense")
    with torch.no_grad():
        broken.sae.W_enc[0, 0] = torch.nan
    with pytest.raises(SaebenchError, match="NaN or Inf on 23 texts"):
        activity(broken, context(), TEXTS, 16)


def test_mean_activations_of_each_text(context: Make):
    tiny = context()
    found = mean_activations(tiny, TEXTS, 16, SITE)
    assert found.shape == (len(TEXTS), WIDTH)
    assert found.dtype == torch.float32
    for text, mean in zip(TEXTS, found, strict=True):
        tokens = torch.tensor([2, *tiny.lm.tokenizer(text, add_special_tokens=False)["input_ids"][-15:]])
        x = tiny.lm.prefix(tokens[None], [SITE])[SITE][0]
        torch.testing.assert_close(mean, x[tokens > 3].mean(0), atol=1e-4, rtol=1e-4)
