"""``core`` for SAEs with several hook points, against float64 definitions on full passes of a plain model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saebench.evaluation.task import TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae.affine.activations import ReLU
from saebench.sae.affine.adapter import AffineSAE
from saebench.sae.affine.weights import Weights
from saebench.sae.baselines import PermutedDecoderBaseline
from saebench.sae.hook import HookSite
from saebench.tasks.core.settings import CoreSettings
from saebench.tasks.core.task import CoreTask
from tests.conftest import WIDTH
from tests.tasks.conftest import PARAMETERS, Plain

Make = Callable[..., TaskContext]
HOOKS = {
    "mlp": HookSite.at([f"blocks.{layer}.hook_mlp_out" for layer in range(3)]),
    "stream": HookSite.at(["blocks.0.hook_resid_post", "blocks.1.hook_resid_pre", "blocks.1.hook_resid_post"][::2]),
    "clt": HookSite(*([f"blocks.{layer}.{kind}" for layer in (1, 2)] for kind in ("hook_resid_mid", "hook_mlp_out"))),
    "in one block": HookSite.at(["blocks.1.hook_mlp_out", "blocks.1.hook_attn_out"]),
    "three to one": HookSite([f"blocks.{layer}.hook_resid_pre" for layer in range(3)], "blocks.2.hook_mlp_out"),
}


def build(hook: HookSite, latents: int = 40) -> AffineSAE:
    draw = torch.Generator().manual_seed(0)
    d_in, d_out = WIDTH * len(hook.sites_in), WIDTH * len(hook.sites_out)
    shapes = (d_in, latents), (latents,), (latents, d_out), (d_out,)
    parts = [torch.randn(shape, generator=draw) * 0.2 for shape in shapes]
    return AffineSAE(Weights(*parts), ReLU(), name="several", architecture="crosscoder", hook=hook)


def measure(sae: Any, context: TaskContext) -> TaskOutput:
    return CoreTask().run(sae, context, CoreSettings.parse(PARAMETERS, task="core"))


def values(output: TaskOutput) -> dict[str, float | None]:
    return {m.metric: m.value for m in output.measurements if not m.subset}


class Reference:
    """The definitions, with every target replaced in one full pass of the plain model by what is given."""

    def __init__(self, plain: Plain, context: TaskContext, hook: HookSite) -> None:
        batch = context.batch(*(PARAMETERS[key] for key in ("text", "context_length", "sequences")))
        self.plain, self.hook = plain, hook
        self.tokens, self.evaluated = batch.tokens, batch.evaluated.numpy()
        self.x = self._read(hook.sites_in)
        self.target = self._read(hook.sites_out)

    def _read(self, sites: tuple[str, ...]) -> np.ndarray:
        parts = [self.plain.activation(self.tokens, site)[self.evaluated] for site in sites]
        return np.concatenate(parts, -1)

    def losses(self, new: np.ndarray | None) -> tuple[float, np.ndarray]:
        clean = {site: self.plain.activation(self.tokens, site) for site in self.hook.sites_out}
        parts = [] if new is None else np.split(new, len(self.hook.sites_out), -1)
        with ExitStack() as hooks:
            for site, part in zip(self.hook.sites_out, parts, strict=bool(parts)):
                whole = clean[site].copy()  # special positions keep the clean activation
                whole[self.evaluated] = part
                hooks.enter_context(self.plain._at(site, lambda value, whole=whole: torch.as_tensor(whole)))
            log_p = self.plain.log_probabilities(self.tokens)[:, :-1]
        predicts = self.evaluated[:, 1:]
        at_targets = np.take_along_axis(log_p, self.tokens.numpy()[:, 1:, None], -1)[..., 0]
        return float(-at_targets[predicts].mean()), log_p[predicts]

    def expected(self, xhat: np.ndarray) -> dict[str, float]:
        x, mean = self.target, self.target.mean(0)
        spread, error = x - mean, x - xhat
        found = {"fvu": (error**2).sum() / (spread**2).sum(), "mse": (error**2).sum(1).mean()}
        ce_clean, clean = self.losses(None)
        ablations = {"sae": xhat, "zero": np.zeros_like(x), "mean": np.broadcast_to(mean, x.shape)}
        for name, new in ablations.items():
            ce, log_q = self.losses(new)
            found |= {f"ce_{name}": ce, f"kl_{name}": (np.exp(clean) * (clean - log_q)).sum(-1).mean()}
        found["ce_clean"] = ce_clean
        return found


@pytest.mark.parametrize("family", ["gemma3", "gpt2"])
@pytest.mark.parametrize("name", HOOKS)
def test_the_numbers_are_those_of_the_definitions(context: Make, plain: Callable[[str], Plain], family: str, name: str):
    hook, tiny = HOOKS[name], context(family)
    sae = build(hook)
    reference = Reference(plain(family), tiny, hook)
    W_enc, b_enc, W_dec, b_dec = (getattr(sae, key).double().numpy() for key in ("W_enc", "b_enc", "W_dec", "b_dec"))
    z = np.maximum(reference.x @ W_enc + b_enc, 0)
    xhat = z @ W_dec + b_dec

    output = measure(sae, tiny)

    found = values(output)
    for metric, value in {**reference.expected(xhat), "l0": (z != 0).sum(1).mean()}.items():
        assert found[metric] == pytest.approx(value, rel=2e-4, abs=2e-5), metric
    share = {m.subset: m.value for m in output.measurements if m.metric == "fvu" and m.subset}
    assert sorted(share) == (sorted(hook.sites_out) if len(hook.sites_out) > 1 else [])
    n = len(hook.sites_out)
    for site, x, estimate in zip(hook.sites_out, *(np.split(a, n, -1) for a in (reference.target, xhat)), strict=True):
        if n > 1:
            expected = ((x - estimate) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
            assert share[site] == pytest.approx(expected, rel=2e-4)


def test_a_permuted_decoder_is_a_control_here_too(context: Make):
    sae = build(HOOKS["mlp"])
    whole, shuffled = (values(measure(s, context())) for s in (sae, PermutedDecoderBaseline(sae, name="p", seed=0)))
    assert whole["l0"] == shuffled["l0"]
    assert whole["fvu"] != pytest.approx(shuffled["fvu"], rel=1e-3)


def test_ablations_are_computed_once_for_all_saes_there(context: Make, monkeypatch: pytest.MonkeyPatch):
    tiny, hook = context(), HOOKS["mlp"]
    measure(build(hook), tiny)
    calls: list[int] = []
    original = type(tiny.lm).suffix_of_several

    def counted(self: Any, tokens: Tensor, *rest: Any) -> Tensor:
        calls.append(len(tokens))
        return original(self, tokens, *rest)

    monkeypatch.setattr(type(tiny.lm), "suffix_of_several", counted)
    measure(build(hook), tiny)
    assert sum(calls) == PARAMETERS["sequences"]
