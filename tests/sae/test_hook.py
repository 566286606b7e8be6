"""One hook point or several: how a hook is written, read back and compared."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.errors import NotApplicableError
from saebench.sae.hook import HookSite, format_sites, of_model, parse_sites

POST, OUT = "blocks.9.hook_resid_post", "blocks.9.hook_mlp_out"
LAYERS = tuple(f"blocks.{layer}.hook_mlp_out" for layer in range(3))
blocks = st.builds(
    "blocks.{}.{}".format, st.integers(0, 30), st.sampled_from(["hook_mlp_out", "attn.hook_z", "hook_resid_post@A"])
)


def test_one_hook_point_is_written_as_before():
    assert str(HookSite.at(POST)) == POST
    assert str(HookSite("a", "b")) == "a->b"
    assert HookSite(POST, OUT) == HookSite(site_in=POST, site_out=OUT) == HookSite((POST,), [OUT])
    assert (HookSite.at(POST).site_in, HookSite.at(POST).several, HookSite.at(POST).crosses) == (POST, False, False)
    assert HookSite(POST, OUT).sites == (POST, OUT)


def test_several_hook_points():
    hook = HookSite(["blocks.0.hook_resid_mid", "blocks.1.hook_resid_mid"], LAYERS)
    assert str(hook) == "blocks.0-1.hook_resid_mid->blocks.0-2.hook_mlp_out"
    assert (hook.several, hook.crosses) == (True, True)
    assert hook.sites == ("blocks.0.hook_resid_mid", "blocks.1.hook_resid_mid", *LAYERS)
    assert str(HookSite.at(LAYERS)) == "blocks.0-2.hook_mlp_out"
    assert hook != HookSite(LAYERS, hook.sites_in)
    assert hash(hook) == hash(copy.deepcopy(hook)) == hash(pickle.loads(pickle.dumps(hook)))
    assert str(HookSite.at([of_model(POST, model) for model in "AB"])) == f"{POST}@A+{POST}@B"


@pytest.mark.parametrize("side", ["site_in", "site_out"])
def test_what_is_defined_for_one_hook_point_refuses_several(side: str):
    with pytest.raises(NotApplicableError, match=r"at 3 hook points \(blocks.0-2.hook_mlp_out\)"):
        getattr(HookSite.at(LAYERS), side)


@pytest.mark.parametrize("sites", [(), (POST, POST)])
def test_sides_that_no_sae_can_have(sites: tuple[str, ...]):
    with pytest.raises(ValueError, match="hook point"):
        HookSite(POST, sites)


@given(st.lists(blocks, min_size=1, max_size=12))
def test_what_is_written_is_read_back(sites: list[str]):
    assert parse_sites(format_sites(sites)) == tuple(sites)


@given(st.text(alphabet="blocks.0123-,+hook_ ", max_size=30))
def test_any_text_is_read_or_refused(text: str):
    try:
        sites = parse_sites(text)
    except ValueError:
        return
    assert 0 < len(sites) <= 1000


@pytest.mark.parametrize("text", ["", "a+", "blocks.3-1.x", "blocks.0-999999999.x", "blocks.0-999,3-900.x"])
def test_texts_that_name_no_hook_points_or_too_many(text: str):
    with pytest.raises(ValueError, match=r"hook point|layers"):
        parse_sites(text)
