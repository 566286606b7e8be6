"""The hooks that references tell without loading agree with those of the loaded SAEs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saebench.sae import zoo
from saebench.sae.base import LoadContext
from saebench.sae.hook import HookSite
from saebench.sae.reference import SAERef, load_sae, parse_sae_ref
from saebench.sae.zoo import zoo_card, zoo_names
from tests.sae.conftest import SITE, SITE_OUT

OTHER = "blocks.2.hook_resid_pre"
RES_JB = "sae_lens:gpt2-small-res-jb/blocks.8.hook_resid_pre"


def site(text: str, default: str | None = None) -> HookSite | None:
    return parse_sae_ref(text).site(default)


def test_every_architecture_as_it_loads(every_folder: Path):
    ref = f"sae_lens:{every_folder}"
    assert site(ref) == load_sae(ref, LoadContext()).hook
    given_hook = f"{ref}?hook={OTHER}"
    assert site(given_hook) == load_sae(given_hook, LoadContext()).hook
    assert site(f"baseline:permuted-decoder({ref})", "blocks.0.hook_resid_pre") == site(ref)


def test_a_transcoder_told_where_it_writes(lens_folder: Callable[..., Path]):
    ref = f"sae_lens:{lens_folder('transcoder')}"
    assert site(ref) == HookSite(SITE, SITE_OUT)
    assert site(f"{ref}?hook_out={OTHER}") == load_sae(f"{ref}?hook_out={OTHER}", LoadContext()).hook
    assert site(f"{ref}?hook_out={OTHER}") == HookSite(SITE, OTHER)


@pytest.mark.parametrize("key", ["hook_name", "hook_point"])
def test_layouts_of_older_versions(lens_folder: Callable[..., Path], key: str):
    folder = lens_folder("standard")
    config = json.loads((folder / "cfg.json").read_text())
    del config["metadata"]
    (folder / "cfg.json").write_text(json.dumps({**config, key: OTHER}))
    ref = f"sae_lens:{folder}"
    assert site(ref) == load_sae(ref, LoadContext()).hook == HookSite.at(OTHER)


def test_no_weights_are_read(lens_folder: Callable[..., Path]):
    folder = lens_folder("topk")
    (folder / "sae_weights.safetensors").unlink()
    assert site(f"sae_lens:{folder}") == HookSite.at(SITE)


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{",
        "[]",
        "null",
        "{}",
        '{"hook_name": 7}',
        '{"metadata": {"hook_name": ""}}',
        '{"metadata": 3}',
        '{"architecture": "transcoder", "hook_name": "blocks.1.hook_resid_mid"}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_what_is_broken_has_none(tmp_path: Path, content: str | None):
    if content is not None:
        (tmp_path / "cfg.json").write_bytes(content.encode(errors="surrogateescape"))
    assert site(f"sae_lens:{tmp_path}", OTHER) is None
    (tmp_path / "file").write_text("")
    assert site(f"sae_lens:{tmp_path / 'file'}?hook={OTHER}") is None


@given(
    config=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["metadata", "architecture", "hook_name", "hook_name_out", "hook_point"]),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_wild_settings_raise_nothing(tmp_path_factory: pytest.TempPathFactory, config: Any):
    folder = tmp_path_factory.mktemp("wild")
    (folder / "cfg.json").write_text(json.dumps(config))
    found = site(f"sae_lens:{folder}")
    assert found is None or (isinstance(found.site_in, str) and isinstance(found.site_out, str))


@pytest.mark.parametrize("name", zoo_names())
def test_the_zoo(name: str):
    assert site(f"zoo:{name}") == load_sae(f"zoo:{name}", LoadContext()).hook
    assert site(f"baseline:permuted-decoder(zoo:{name})", OTHER) == HookSite.at(zoo_card(name)["hook"])


def test_a_card_of_the_zoo_without_a_site(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(zoo, "zoo_index", lambda: {"x": {}})
    assert site("zoo:x", OTHER) is None


@pytest.mark.parametrize("name", ["pca", "neurons", "random"])
def test_controls(name: str):
    assert site(f"baseline:{name}") is None
    assert site(f"baseline:{name}", OTHER) == HookSite.at(OTHER)
    assert site(f"baseline:{name}?hook={SITE}", OTHER) == HookSite.at(SITE)
    context = LoadContext(
        hook=HookSite.at(OTHER), calibration=lambda _: torch.randn(100, 40), d_in=lambda _: 40, seed=0
    )
    options = "?d_sae=64&l0=4" if name == "random" else ""
    assert load_sae(f"baseline:{name}{options}", context).hook == site(f"baseline:{name}{options}", OTHER)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RES_JB, HookSite.at("blocks.8.hook_resid_pre")),
        (
            "sae_lens:gpt2-small-res-jb-feature-splitting/blocks.8.hook_resid_pre_98304",
            HookSite.at("blocks.8.hook_resid_pre"),
        ),
        (f"{RES_JB}?hook={SITE}", HookSite.at(SITE)),
        (f"{RES_JB}?hook={SITE}&hook_out={SITE_OUT}", HookSite(SITE, SITE_OUT)),
        ("sae_lens:gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical", None),
        ("sae_lens:someone/repository/blocks/folder", None),
        (f"sae_lens:someone/repository/folder?hook={SITE}", HookSite.at(SITE)),
    ],
)
def test_the_hub(text: str, expected: HookSite | None):
    assert site(text) == expected


def test_code_of_ones_own_is_not_run():
    assert SAERef("python", "no_such_module:factory", (("hook", SITE),)).site(OTHER) is None
