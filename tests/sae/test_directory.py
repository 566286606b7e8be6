"""SAELens' directory: what names tell of hook points and widths, and that it is read once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saebench.data import assets
from saebench.sae import directory
from saebench.sae.directory import published, releases
from saebench.sae.reference import parse_sae_ref


@pytest.fixture(scope="module")
def saes() -> dict[str, Any]:
    return {sae.reference.removeprefix("sae_lens:"): sae for sae in published()}


@pytest.mark.parametrize(
    ("name", "hook", "width", "l0"),
    [
        ("gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82", "blocks.12.hook_resid_post", 16384, 82),
        ("gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical", "blocks.12.hook_resid_post", 16384, 82),
        ("gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6", "hook_embed", 4096, 6),
        ("gemma-scope-2b-pt-att-canonical/layer_0/width_16k/canonical", "blocks.0.attn.hook_z", 16384, None),
        (
            "gemma-scope-2-270m-pt-transcoders-all/layer_0_width_16k_l0_big",
            "blocks.0.mlp.hook_in->blocks.0.hook_mlp_out",
            16384,
            60,
        ),
        ("gemma-scope-2-270m-pt-res/layer_5_width_1m_l0_big", "blocks.5.hook_resid_post", 1048576, 135),
        ("gpt2-small-res-jb/blocks.8.hook_resid_pre", "blocks.8.hook_resid_pre", None, None),
        ("gpt2-small-res-jb-feature-splitting/blocks.8.hook_resid_pre_768", "blocks.8.hook_resid_pre", 768, 36),
        ("gpt2-small-hook-z-kk/blocks.0.hook_z", "blocks.0.attn.hook_z", 24576, 3),
        ("llama_scope_lxm_8x/l0m_8x", "blocks.0.hook_mlp_out", 32768, 50),
        ("llama_scope_r1_distill/l0r_400m_slimpajama_400m_openr1_math", "blocks.0.hook_resid_post", None, None),
        ("qwen-scope-3.5-27b-w80k-l50/layer0", "blocks.0.hook_resid_post", 81920, 50),
        ("sae_bench_gemma-2-2b_topk_width-2pow12_date-1109/blocks.5.hook_resid_post__trainer_0", None, 4096, None),
    ],
)
def test_what_names_tell(saes: dict[str, Any], name: str, hook: str | None, width: int | None, l0: float | None):
    sae = saes[name]
    assert sae.d_sae == width
    assert hook is None or sae.hook == hook
    assert l0 is None or sae.l0 == l0


def test_every_reference_can_be_parsed(saes: dict[str, Any]):
    assert len(saes) == sum(len({sae[0] for sae in entry["saes"]}) for entry in releases().values())
    for name in list(saes)[::500]:
        assert str(parse_sae_ref(f"sae_lens:{name}")) == f"sae_lens:{name}"


def test_it_is_read_once_and_again_when_the_cache_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    read = 0

    def counting(file: Path) -> Any:
        nonlocal read
        read += 1
        return {"r": {"model": "m", "repo_id": "o/r", "conversion_func": "", "saes": [["a", "p", None]]}}

    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(directory, "_parsed", counting)
    kept = assets.home() / "sae-lens-directory.json"
    try:
        for content, expected in ((None, 1), (None, 1), (b'{"key": 3', 2), (b"[]", 3)):
            if content is not None:
                kept.write_bytes(content)
            directory.releases.cache_clear()
            assert list(directory.releases()) == ["r"]
            assert read == expected
    finally:
        directory.releases.cache_clear()


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(directory, "_parsed", lambda file: {"r": {}})
    directory.releases.cache_clear()
    try:
        assert directory.releases() == {"r": {}}
    finally:
        directory.releases.cache_clear()
