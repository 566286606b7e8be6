"""Replacing activations at several sites in one pass, against a full pass with all hooks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from saebench.errors import HookMismatchError
from saebench.lm.model import replacing
from saebench.lm.site import parse_site, start_of
from tests.lm.conftest import Pair

SETS = {
    "mlp": ["blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out", "blocks.2.hook_mlp_out"],
    "later mlp": ["blocks.1.hook_mlp_out", "blocks.2.hook_mlp_out"],
    "stream": ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"],
    "stream and mlp": ["blocks.2.hook_mlp_out", "blocks.0.hook_mlp_out", "blocks.1.hook_resid_pre"],
    "in a block": ["blocks.1.hook_mlp_out", "blocks.1.attn.hook_z", "blocks.1.hook_resid_mid"],
    "one place by two names": ["blocks.1.hook_resid_pre", "blocks.0.hook_resid_post"],
    "from the first block on": ["blocks.0.hook_resid_pre", "blocks.1.hook_mlp_out"],
}
STARTS = {
    "mlp": "blocks.0.hook_resid_pre",
    "later mlp": "blocks.1.hook_resid_pre",
    "stream": "blocks.1.hook_resid_post",
    "stream and mlp": "blocks.1.hook_resid_pre",
    "in a block": "blocks.1.hook_resid_pre",
    "one place by two names": "blocks.1.hook_resid_pre",
    "from the first block on": "blocks.0.hook_resid_pre",
}


def random_at(pair: Pair, sites: list[str]) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    own = pair.lm.prefix(pair.tokens, sites)
    return {site: own[site].std() * torch.randn(own[site].shape, generator=draw) for site in sites}


@pytest.mark.parametrize("name", SETS)
def test_one_pass_replaces_all_sites(pair: Pair, name: str):
    sites = SETS[name]
    values = random_at(pair, sites)
    kept = {site: value.clone() for site, value in values.items()}
    with pair.lm.hooks({site: replacing(parse_site(site), values[site]) for site in sites}):
        expected = pair.lm.full(pair.tokens)
    start = pair.lm.restart_site(*sites)
    assert start == STARTS[name]
    restart = None if start in sites else pair.lm.prefix(pair.tokens, [start])[start]

    for given in (restart, None):
        found = pair.lm.suffix_of_several(pair.tokens, values, given)
        assert float((found - expected).norm() / expected.norm()) <= 1e-5
    assert all(torch.equal(values[site], kept[site]) for site in sites)


def test_one_site_as_suffix_does_it(pair: Pair):
    for site in ("blocks.1.hook_resid_post", "blocks.1.hook_mlp_out"):
        values = random_at(pair, [site])
        restart = pair.lm.prefix(pair.tokens, [pair.lm.restart_site(site)])[pair.lm.restart_site(site)]
        one = pair.lm.suffix(pair.tokens, site, values[site], restart)
        assert torch.equal(pair.lm.suffix_of_several(pair.tokens, values, restart), one)


def test_blocks_before_the_first_site_are_not_run(pair: Pair):
    calls: list[int] = []
    handles = [block.register_forward_hook(lambda *_, n=n: calls.append(n)) for n, block in enumerate(pair.lm._blocks)]
    values = random_at(pair, SETS["later mlp"])
    restart = pair.lm.prefix(pair.tokens, ["blocks.1.hook_resid_pre"])["blocks.1.hook_resid_pre"]
    calls.clear()
    pair.lm.suffix_of_several(pair.tokens, values, restart)
    for handle in handles:
        handle.remove()
    assert calls == list(range(1, pair.lm.n_layers))


def test_a_hook_point_of_another_model_is_refused_in_one_sentence(pair: Pair):
    for ask in (pair.lm.d_at, parse_site, lambda site: start_of([site])):
        with pytest.raises(HookMismatchError, match="a run has one language model"):
            ask("blocks.1.hook_resid_pre@B")


def test_what_the_mlp_reads_is_read_and_replaced(pair: Pair):
    """``mlp.hook_in`` is the input of the MLP's module, after the norm with its gain."""
    site, module = "blocks.1.mlp.hook_in", pair.plain_blocks[1].mlp
    seen: list[Tensor] = []
    new = random_at(pair, [site])[site]
    reading = module.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    pair.plain.base_model(input_ids=pair.tokens, use_cache=False)
    reading.remove()
    replacing_it = module.register_forward_pre_hook(lambda _, args: (new, *args[1:]))
    expected = pair.plain.base_model(input_ids=pair.tokens, use_cache=False).last_hidden_state
    replacing_it.remove()

    own = pair.lm.prefix(pair.tokens, [site, "blocks.1.hook_resid_pre"])
    found = pair.lm.suffix(pair.tokens, site, new, own["blocks.1.hook_resid_pre"])

    assert float((own[site] - seen[0]).norm() / seen[0].norm()) <= 1e-5
    assert float((found - expected).norm() / expected.norm()) <= 1e-5
