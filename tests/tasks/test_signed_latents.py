"""A latent that is not 0 is active, whatever its sign: an SAE and its mirror image have the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from torch import Tensor

from saebench.passes.activity import activity
from saebench.passes.context import TaskContext
from saebench.sae.base import BaseAdapter
from saebench.sae.protocol import Capability, SparseCodes
from saebench.tasks.core.settings import CoreSettings
from saebench.tasks.core.task import CoreTask
from tests.tasks.conftest import PARAMETERS, documents, topk_sae

SITE = "blocks.1.hook_resid_post"


class Mirrored(BaseAdapter):
    """The SAE with the opposite signs of all latents and of all decoder rows."""

    def __init__(self, inner: BaseAdapter, architecture: str) -> None:
        super().__init__(
            name="mirrored",
            architecture=architecture,
            hook=inner.hook,
            d_in=inner.d_in,
            d_sae=inner.d_sae,
            capabilities=inner.capabilities - {Capability.NON_NEGATIVE},
        )
        self.inner = inner

    def encode(self, x: Tensor) -> Tensor:
        return -self.inner.encode(x)

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        values, indices = self.inner.encode_sparse(x)
        return SparseCodes(-values, indices)

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return self.inner.decode(-z, x)

    def decoder_directions(self) -> Tensor:
        return -self.inner.decoder_directions()

    def encoder_directions(self) -> Tensor:
        return -self.inner.encoder_directions()


@pytest.mark.parametrize("architecture", ["abstopk", "other"])  # sparse codes, and dense ones
def test_core(context: Callable[..., TaskContext], architecture: str) -> None:
    sae = topk_sae(SITE)
    settings = CoreSettings.parse(PARAMETERS, task="core")
    plain, mirrored = (
        {m.metric: m.value for m in CoreTask().run(each, context(), settings).measurements}
        for each in (sae, Mirrored(sae, architecture))
    )
    assert plain["l0"] is not None
    assert 0 < plain["l0"] <= 5
    for metric in ("l0", "l1", "dead_share", "fvu", "ce_sae", "kl_sae"):
        assert mirrored[metric] == pytest.approx(plain[metric], rel=1e-6), metric


@pytest.mark.parametrize("architecture", ["abstopk", "other"])
def test_activity(context: Callable[..., TaskContext], architecture: str) -> None:
    sae, texts = topk_sae(SITE), documents().texts[:10]
    plain, mirrored = (activity(each, context(), texts, 24) for each in (sae, Mirrored(sae, architecture)))
    assert np.array_equal(plain.firing.toarray(), mirrored.firing.toarray())
    assert np.array_equal(plain.maximum.toarray(), mirrored.maximum.toarray())
    assert np.array_equal(plain.total.toarray(), -mirrored.total.toarray())
    assert plain.firing.sum() > 0
