"""What the table of variants is made of: other hooks, published numbers, what to write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from saebench.diagnosis import fixes
from saebench.diagnosis.published import l0_in_name, published
from saebench.diagnosis.sites import other_hooks
from saebench.sae.base import LoadContext
from saebench.sae.hook import HookSite
from saebench.sae.reference import load_sae, parse_sae_ref
from tests.diagnosis.planted import PLANTS

POST = "blocks.9.hook_resid_post"


def others(site_in: str, site_out: str | None = None) -> list[str]:
    return [str(hook) for hook in other_hooks(HookSite(site_in, site_out or site_in))]


def test_other_hooks() -> None:
    same_block = ["blocks.9.hook_resid_mid", "blocks.9.hook_mlp_out", "blocks.9.hook_attn_out"]
    assert others(POST) == ["blocks.8.hook_resid_post", "blocks.10.hook_resid_post", *same_block]
    # The input of a block is the output of the one before, and no activations are read twice.
    assert set(others("blocks.9.hook_resid_pre")) == {"blocks.7.hook_resid_post", POST, *same_block}
    assert others("blocks.0.hook_resid_pre") == [
        *("blocks.0.hook_resid_post", "blocks.0.hook_resid_mid", "blocks.0.hook_mlp_out", "blocks.0.hook_attn_out")
    ]
    assert others("blocks.2.attn.hook_z") == ["blocks.1.attn.hook_z", "blocks.3.attn.hook_z"]


def test_other_hooks_of_a_transcoder() -> None:
    assert others("blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out") == [
        "blocks.0.hook_resid_mid->blocks.0.hook_mlp_out",
        "blocks.2.hook_resid_mid->blocks.2.hook_mlp_out",
        "blocks.0.hook_resid_post->blocks.1.hook_mlp_out",
        "blocks.1.hook_resid_post->blocks.1.hook_mlp_out",
    ]


@pytest.mark.parametrize(
    ("name", "l0"),
    [
        ("layer_20/width_16k/average_l0_71", 71),
        ("layer_12_width_65k_l0_21", 21),
        ("sae-k32-s0", 32),
        ("run_k=64", 64),
        ("width_16k/canonical", None),
        ("layer_3_l0_big", None),
        ("l0_0", 0),
        ("", None),
    ],
)
def test_l0_in_a_name(name: str, l0: float | None) -> None:

    assert l0_in_name(name) == l0


def test_published_numbers_of_the_zoo() -> None:
    reference = parse_sae_ref("zoo:topk-k32-s0")
    known = published(reference, load_sae(reference, LoadContext()))
    assert (known.l0, known.fvu, known.source) == (pytest.approx(32, abs=0.01), pytest.approx(0.0864), "its card")


def test_published_numbers_of_a_folder(tmp_path: Path) -> None:
    plain = next(plant for plant in PLANTS if plant.name == "hook one block early")
    x = torch.zeros(0)
    reference = parse_sae_ref(plain.write(tmp_path / "sae", x))
    known = published(reference, load_sae(reference, LoadContext()))
    assert (known.l0, known.fvu, known.source) == (pytest.approx(32, abs=0.01), None, "its metadata")

    config = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    for name in ("l0", "training_architecture_details"):
        del config["metadata"][name]
    (tmp_path / "sae" / "cfg.json").write_text(json.dumps(config))
    assert published(reference, load_sae(reference, LoadContext())).l0 is None
    (tmp_path / "sae").rename(tmp_path / "average_l0_71")
    reference = parse_sae_ref(f"sae_lens:{tmp_path / 'average_l0_71'}")
    known = published(reference, load_sae(reference, LoadContext()))
    assert (known.l0, known.source) == (71, "its name")


def test_published_numbers_of_a_release() -> None:
    reference = parse_sae_ref("sae_lens:gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71")
    known = published(reference, load_sae("zoo:topk-k32-s0", LoadContext()))  # no SAE of the release is on this disk
    assert known.l0 == 71
    assert known.source == "SAELens' directory"


def test_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "sae").mkdir()
    folder = f"sae_lens:{tmp_path / 'sae'}"
    scoped = f"gemma_scope:{tmp_path / 'sae'}"
    lens, named = parse_sae_ref(folder), parse_sae_ref(f"{folder}?hook={POST}&norm_scaling_factor=0.5")
    mapped, code = parse_sae_ref(scoped), parse_sae_ref("python:tests.diagnosis.planted:PLANTS")
    other = HookSite.at("blocks.8.hook_resid_post")
    assert fixes.other_hook(lens, other) == f"{folder}?hook=blocks.8.hook_resid_post"
    assert fixes.other_hook(named, other) == f"{folder}?hook=blocks.8.hook_resid_post&norm_scaling_factor=0.5"
    assert fixes.other_hook(code, other) == "load it with the hook blocks.8.hook_resid_post"
    assert fixes.other_hook(mapped, HookSite("blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out")).endswith(
        "?hook=blocks.1.hook_resid_mid&hook_out=blocks.1.hook_mlp_out"
    )
    assert fixes.other_scale(mapped, 0.004) == f"{scoped}?norm_scaling_factor=0.004"
    assert fixes.other_scale(named, 0.004).endswith("norm_scaling_factor=0.002")
    assert "expected_average_only_in" in fixes.other_scale(lens, 0.004)
    assert fixes.other_scale(code, 0.004).startswith("give it activations times 0.004")
    assert fixes.scale_left_out(mapped, 0.004) == f"{scoped}?norm_scaling_factor=1"
    assert fixes.scale_left_out(named, 0.25).endswith("norm_scaling_factor=2")
    assert '"none"' in fixes.scale_left_out(lens, 0.004)
    assert fixes.other_k(mapped, 8) == f"{scoped}?k=8"
    assert '"k": 8' in fixes.other_k(lens, 8)
    assert fixes.changed_setting(lens, "pre_bias") == 'write "apply_b_dec_to_input": true into cfg.json'
    assert "`tensors: {pre_bias: b_dec}`" in fixes.changed_setting(mapped, "pre_bias")
    assert "center_writing_weights" in fixes.centring(lens, True)
    assert fixes.centring(lens, False) == fixes.centring(code, True) == fixes.centring(mapped, True)
    assert fixes.changed_setting(code, "pre_bias") == "subtract b_dec from the input of the encoder"
