"""Names of hooks, and where a pass restarts for them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.errors import HookMismatchError
from saebench.lm.site import parse_site

KINDS = ["hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_mlp_out", "hook_attn_out", "attn.hook_z"]


@pytest.mark.parametrize("kind", KINDS)
@given(layer=st.integers(0, 200))
def test_restart_is_the_first_block_that_sees_the_change(kind: str, layer: int):
    site = parse_site(f"blocks.{layer}.{kind}")
    assert (site.layer, site.kind, site.name) == (layer, kind, f"blocks.{layer}.{kind}")
    assert site.restart == (layer + 1 if kind == "hook_resid_post" else layer)
    assert site.boundary == (kind in ("hook_resid_pre", "hook_resid_post"))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "blocks.9",
        "blocks.-1.hook_resid_post",
        "blocks.1.5.hook_resid_post",
        "blocks.9.hook_resid_post.extra",
        " blocks.9.hook_resid_post",
        "xblocks.9.hook_resid_post",
        "blocks.9.hook_resid_post\n",
        "blocks.٣.hook_resid_post",
        "blocks.9.attn.hook_q",
        "blocks..hook_resid_post",
    ],
)
def test_other_names_are_refused(name: str):
    with pytest.raises(HookMismatchError, match="not a hook that saebench can splice"):
        parse_site(name)


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("blocks.0.hook_resid_pots", "blocks.0.hook_resid_post"),
        ("blocks.17.hook_mlpout", "blocks.17.hook_mlp_out"),
        ("blocks.3.hook_z", "blocks.3.attn.hook_z"),
    ],
)
def test_a_typo_gets_did_you_mean(typo: str, meant: str):
    with pytest.raises(HookMismatchError, match=rf"Did you mean '{meant}'"):
        parse_site(typo)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_with_our_error(text: str):
    with suppress(HookMismatchError):
        assert parse_site(text).name == text
