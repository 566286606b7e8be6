"""The joint pass against a plain float64 model whose hooks decode and encode on the way, and closed forms."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
import torch

from saebench.errors import NotApplicableError
from saebench.evaluation import SAEGroup
from saebench.sae.base import BaseAdapter
from saebench.sae.baselines import NeuronBaseline
from saebench.sae.protocol import HookSite
from saebench.tasks.core.task import CoreTask
from saebench.tasks.joint_splice.settings import JointSpliceSettings
from saebench.tasks.joint_splice.task import JointSpliceTask
from tests.conftest import WIDTH
from tests.tasks.conftest import CORE, PARAMETERS, assert_units, documents, topk_sae, transcoder

FIRST, SECOND, LAST = "blocks.0.hook_resid_post", "blocks.1.hook_mlp_out", "blocks.1.hook_resid_post"
SETTINGS = JointSpliceSettings.parse(PARAMETERS, task="joint_splice")


class Zeros(BaseAdapter):
    """Reconstructs everything as zero."""

    def __init__(self, site):
        super().__init__(name=f"zeros-{site}", architecture="zeros", hook=HookSite.at(site), d_in=WIDTH, d_sae=4)

    def encode(self, x):
        return x.new_zeros(*x.shape[:-1], 4, dtype=torch.float32)

    def decode(self, z, x=None):
        return z.new_zeros(*z.shape[:-1], WIDTH)


def measure(context, *saes):
    return JointSpliceTask().run_group(SAEGroup("set", saes), context, SETTINGS)


def values(output):
    return {(m.metric, m.subset): m.value for m in output.measurements}


def by_hand(plain, context, saes):
    """CE and KL with all SAEs, and the squared error and L0 of each, from float64 passes of a plain model."""
    batch = context.batch(PARAMETERS["text"], PARAMETERS["context_length"], PARAMETERS["sequences"])
    evaluated = batch.evaluated
    seen = {}
    inputs = {}

    def splice(sae):
        def act(value):
            source = value if sae.hook.site_in == sae.hook.site_out else inputs[sae.hook.site_in]
            z = sae.encode(source.float())
            xhat = sae.decode(z, source.float()).double()
            x = value[evaluated].double()
            seen[sae.name] = (
                float((x - xhat[evaluated]).square().sum()),
                float((z[evaluated] != 0).sum(-1).double().mean()),
                x.numpy().copy(),
            )
            return torch.where(evaluated[..., None], xhat, value)

        return act

    def note(site):
        def act(value):
            inputs[site] = value.clone()

        return act

    with ExitStack() as hooks, torch.no_grad():
        for sae in saes:
            hooks.enter_context(plain._at(sae.hook.site_out, splice(sae)))
        for sae in saes:
            if sae.hook.site_in != sae.hook.site_out:
                hooks.enter_context(plain._at(sae.hook.site_in, note(sae.hook.site_in)))
        log_q = plain.log_probabilities(batch.tokens)
    log_p = plain.log_probabilities(batch.tokens)
    rows, columns = np.nonzero(evaluated[:, 1:].numpy())
    targets = batch.tokens.numpy()[rows, columns + 1]
    ce = -log_q[rows, columns, targets].mean()
    p = np.exp(log_p[rows, columns])
    kl = (p * (log_p[rows, columns] - log_q[rows, columns])).sum(-1).mean()
    return ce, kl, seen, log_p[rows, columns, targets].mean() * -1


@pytest.mark.parametrize("family", ["gpt2", "gemma3"])
def test_the_joint_pass_agrees_with_hooks_on_a_plain_model(context, plain, family):
    context, plain = context(family), plain(family)
    saes = (
        topk_sae(FIRST, 0),
        transcoder("blocks.1.hook_resid_mid", SECOND),
        topk_sae(LAST, 1),
    )
    ce, kl, seen, ce_clean = by_hand(plain, context, saes)
    output = measure(context, *saes)
    got = values(output)
    assert got["ce_joint", ""] == pytest.approx(ce, rel=2e-4)
    assert got["kl_joint", ""] == pytest.approx(kl, rel=2e-4)
    assert got["ce_clean", ""] == pytest.approx(ce_clean, rel=2e-4)
    assert output.notes["members"] == [sae.name for sae in saes]
    batch = context.batch(PARAMETERS["text"], PARAMETERS["context_length"], PARAMETERS["sequences"])
    for sae in saes:
        clean = plain.activation(batch.tokens, sae.hook.site_out)[batch.evaluated.numpy()]
        variance = ((clean - clean.mean(0)) ** 2).sum()
        error, l0, x = seen[sae.name]
        assert got["fvu_joint", sae.name] == pytest.approx(error / variance, rel=2e-4)
        assert got["drift", sae.name] == pytest.approx(((x - clean) ** 2).sum() / variance, rel=1e-3, abs=1e-9)
        assert got["l0_joint", sae.name] == pytest.approx(l0, rel=1e-6)
    assert got["l0_joint", ""] == pytest.approx(sum(l0 for _, l0, _ in seen.values()))


def test_alone_each_sae_costs_what_core_says(context):
    context = context("gpt2")
    saes = (topk_sae(FIRST, 0), topk_sae(LAST, 1))
    got = values(measure(context, *saes))
    for sae in saes:
        core = {m.metric: m.value for m in CoreTask().run(sae, context, CORE).measurements}
        assert got["ce_increase", sae.name] == pytest.approx(core["ce_sae"] - core["ce_clean"], abs=1e-6)
        assert got["kl_alone", sae.name] == pytest.approx(core["kl_sae"], abs=1e-6)
    assert got["fvu_joint", saes[0].name] == pytest.approx(
        next(m.value for m in CoreTask().run(saes[0], context, CORE).measurements if m.metric == "fvu"), rel=1e-5
    )
    assert got["drift", saes[0].name] == 0


def test_sets_whose_numbers_are_known(context):
    context = context("gpt2")
    neurons = [NeuronBaseline(WIDTH, name=f"neurons-{site}", hook=HookSite.at(site)) for site in (FIRST, LAST)]
    same = values(measure(context, *neurons))
    assert same["ce_joint", ""] == pytest.approx(same["ce_clean", ""], abs=1e-5)
    nothing = values(measure(context, Zeros(FIRST), Zeros(LAST)))
    assert nothing["ce_joint", ""] == pytest.approx(nothing["ce_zero", ""], abs=1e-5)
    # An SAE that changes nothing leaves the other alone.
    one = topk_sae(LAST, 1)
    beside = values(measure(context, neurons[0], one))
    assert beside["ce_increase", ""] == pytest.approx(beside["ce_increase", one.name], abs=1e-5)


def test_the_order_of_the_group_and_of_batches_does_not_matter(context):
    saes = (topk_sae(FIRST, 0), topk_sae(LAST, 1))
    first = values(measure(context("gpt2"), *saes))
    again = values(measure(context("gpt2", batch_size=2), *saes[::-1]))
    assert first.keys() == again.keys()
    for key, value in first.items():
        assert (again[key] is None) == (value is None), key
        if value is not None:
            assert again[key] == pytest.approx(value, rel=1e-5, abs=1e-7), key


def test_two_saes_of_one_hook_point_are_refused(context):
    with pytest.raises(NotApplicableError, match=r"both write at blocks\.1\.hook_resid_post"):
        measure(context("gpt2"), topk_sae(LAST, 0), topk_sae(LAST, 1))


def test_units_follow_from_the_text(context):
    saes, others = (topk_sae(FIRST, 0), topk_sae(LAST, 1)), (topk_sae(FIRST, 2), topk_sae(LAST, 3))
    here = context("gpt2")
    there = context("gpt2", read=lambda ref: documents(seed=1))
    assert_units(measure(here, *saes), same=measure(here, *others), other=measure(there, *saes), differ={"sequence"})
