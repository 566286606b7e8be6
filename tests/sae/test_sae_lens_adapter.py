from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import sae_lens
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from saebench.errors import NotApplicableError, SAELoadError, UsageError
from saebench.sae.base import LoadContext
from saebench.sae.protocol import SAE, Capability, HookSite
from saebench.sae.reference import load_sae, parse_sae_ref
from saebench.sae.sae_lens_adapter import SAELensAdapter

Folder = Callable[..., Path]
WEIGHTS = "sae_weights.safetensors"
SITE = "blocks.1.hook_resid_post"
GOLDEN = "63b74052bf9590b2e2377dafdd558b658568cc8b3fa7f114ae8d7db1b6b3f3c7"


def edit_config(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "cfg.json").read_text())
    edit(config)
    (folder / "cfg.json").write_text(json.dumps(config))


def edit_weights(folder: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


def test_every_architecture_agrees_with_saelens(every_folder: Path, sequences: Tensor) -> None:
    theirs = sae_lens.SAE.load_from_disk(every_folder)
    ours = SAELensAdapter.from_disk(every_folder)
    assert isinstance(ours, SAE)
    with torch.no_grad():
        z = ours.encode(sequences)
        assert_close(z, theirs.encode(sequences), rtol=0, atol=0)
        assert_close(ours.decode(z, sequences), theirs(sequences))
    assert ours.architecture == theirs.cfg.architecture()
    assert ours.model_name == "tiny"
    assert ours.hook.site_in == SITE
    transcodes = "transcoder" in ours.architecture
    assert (Capability.TRANSCODER in ours.capabilities) == transcodes
    assert ours.hook == (HookSite(SITE, "blocks.1.hook_mlp_out") if transcodes else HookSite.at(SITE))
    assert ours.decode(z, sequences).shape[-1] == ours.d_out


@pytest.mark.parametrize(
    ("case", "absent"),
    [
        ("abstopk", {Capability.NON_NEGATIVE}),
        ("temporal", {Capability.POSITION_WISE, Capability.SPARSE_ENCODE, Capability.ENCODER_DIRECTIONS}),
        ("standard-layer_norm", {Capability.LINEAR_DECODER, Capability.ENCODER_DIRECTIONS}),
        ("transcoder-layer_norm", {Capability.ENCODER_DIRECTIONS}),
        ("matching_pursuit", {Capability.ENCODER_DIRECTIONS}),
        ("topk", set()),
    ],
)
def test_capabilities(lens: Callable[..., Any], case: str, absent: set[Capability]) -> None:
    sae = SAELensAdapter(lens(case), case)
    expected = set(Capability) - absent - (set() if "transcoder" in case else {Capability.TRANSCODER})
    assert sae.capabilities == expected


@pytest.mark.parametrize(
    ("training", "config"),
    [
        (sae_lens.BatchTopKTrainingSAE, sae_lens.BatchTopKTrainingSAEConfig(d_in=16, d_sae=32, k=4)),
        (
            sae_lens.MatryoshkaBatchTopKTrainingSAE,
            sae_lens.MatryoshkaBatchTopKTrainingSAEConfig(d_in=16, d_sae=32, k=4, matryoshka_widths=[8, 32]),
        ),
    ],
)
def test_batchtopk_is_called_so_although_it_is_saved_as_jumprelu(
    training: type, config: Any, tmp_path: Path, sequences: Tensor
) -> None:
    config.metadata.hook_name = SITE
    sae = training(config)
    sae.topk_threshold = torch.tensor(0.1)
    sae.save_inference_model(tmp_path)
    ours = SAELensAdapter.from_disk(tmp_path)
    assert json.loads((tmp_path / "cfg.json").read_text())["architecture"] == "jumprelu"
    assert ours.architecture == config.architecture()
    assert_close(ours.decode(ours.encode(sequences)), sae_lens.SAE.load_from_disk(tmp_path)(sequences))
    with pytest.raises(SAELoadError, match="save_inference_model"):
        SAELensAdapter(sae, "training")


@pytest.mark.parametrize("case", ["standard-layer_norm", "topk-norm_rescale", "skip_transcoder", "temporal"])
def test_decode_without_its_input_is_refused(lens: Callable[..., Any], case: str, sequences: Tensor) -> None:
    sae = SAELensAdapter(lens(case), case)
    with pytest.raises(NotApplicableError, match="needs the encoder's input"):
        sae.decode(sae.encode(sequences))


def test_temporal_refuses_loose_tokens(lens: Callable[..., Any], sequences: Tensor) -> None:
    with pytest.raises(NotApplicableError, match="batch, position, d_in"):
        SAELensAdapter(lens("temporal"), "temporal").encode(sequences[0])


def test_attention_z_is_flat(lens_folder: Folder, sequences: Tensor) -> None:
    folder = lens_folder("standard", reshape_activations="hook_z", metadata={"hook_name": "blocks.1.attn.hook_z"})
    ours = SAELensAdapter.from_disk(folder)
    theirs = sae_lens.SAE.load_from_disk(folder)(sequences.unflatten(-1, (4, 4)))
    assert_close(ours.decode(ours.encode(sequences)), theirs.flatten(-2))


def test_scaled_training_activations_are_folded_or_refused(
    lens_folder: Folder, lens: Callable[..., Any], sequences: Tensor
) -> None:
    folder = lens_folder("jumprelu", normalize_activations="expected_average_only_in")
    with pytest.raises(SAELoadError, match="norm_scaling_factor=FACTOR"):
        SAELensAdapter.from_disk(folder)
    unfolded = lens("jumprelu", normalize_activations="expected_average_only_in")
    with torch.no_grad():
        expected = unfolded(sequences * 0.2) / 0.2
    given = SAELensAdapter.from_disk(folder, norm_scaling_factor=0.2)
    assert_close(given.decode(given.encode(sequences)), expected)
    sae_lens.training.activation_scaler.ActivationScaler(0.2).save(str(folder / "activation_scaler.json"))
    beside = SAELensAdapter.from_disk(folder)
    assert beside.fingerprint() == given.fingerprint()


def test_whitened_training_activations_are_folded(
    lens_folder: Folder, lens: Callable[..., Any], sequences: Tensor
) -> None:
    folder = lens_folder("topk", normalize_activations="covariance_whitening")
    scaler = sae_lens.training.activation_scaler.ActivationScaler()
    draws = torch.Generator().manual_seed(1)
    mixing = torch.randn(16, 16, generator=draws)
    scaler.estimate_whitening(16, iter(lambda: torch.randn(64, 16, generator=draws) @ mixing, None), 8)
    scaler.save(str(folder / "activation_scaler.json"))
    ours = SAELensAdapter.from_disk(folder)
    with torch.no_grad():
        expected = scaler.unscale(lens("topk", normalize_activations="covariance_whitening")(scaler.scale(sequences)))
    assert_close(ours.decode(ours.encode(sequences)), expected, rtol=1e-3, atol=1e-3)


def test_scaling_factor_is_refused_where_it_has_no_place(lens_folder: Folder) -> None:
    with pytest.raises(UsageError, match="norm_scaling_factor"):
        SAELensAdapter.from_disk(lens_folder("topk"), norm_scaling_factor=2.0)


def test_float16_file_runs_in_float32(lens_folder: Folder, sequences: Tensor) -> None:
    folder = lens_folder("topk")
    edit_config(folder, lambda config: config.update(dtype="float16"))
    edit_weights(folder, lambda tensors: tensors.update({k: v.half() for k, v in tensors.items()}))
    sae = SAELensAdapter.from_disk(folder)
    assert sae.weights_dtype == "float16"
    assert {t.dtype for t in sae.state_dict().values()} == {torch.float32}
    assert sae.encode(sequences.bfloat16()).dtype == torch.float32


def test_metadata_without_version_is_kept(lens_folder: Folder) -> None:
    folder = lens_folder("topk")
    edit_config(folder, lambda config: config["metadata"].pop("sae_lens_version"))
    assert sae_lens.SAE.load_from_disk(folder).cfg.metadata.hook_name is None  # what SAELens makes of it
    sae = SAELensAdapter.from_disk(folder)
    assert (sae.hook, sae.model_name, sae.sae.cfg.k) == (HookSite.at(SITE), "tiny", 5)


def test_hook_beside_the_metadata_is_read(lens_folder: Folder) -> None:
    folder = lens_folder("topk")

    def flatten(config: dict[str, Any]) -> None:
        config["hook_name"] = config["metadata"].pop("hook_name")

    edit_config(folder, flatten)
    assert SAELensAdapter.from_disk(folder).hook == HookSite.at(SITE)


def test_no_hook_anywhere(lens_folder: Folder) -> None:
    folder = lens_folder("topk")
    edit_config(folder, lambda config: config["metadata"].pop("hook_name"))
    with pytest.raises(SAELoadError, match=r"\?hook=blocks.9.hook_resid_post"):
        SAELensAdapter.from_disk(folder)
    assert SAELensAdapter.from_disk(folder, hook="blocks.0.hook_resid_pre").hook.site_in == "blocks.0.hook_resid_pre"


def test_transcoder_needs_its_output_site(lens_folder: Folder) -> None:
    folder = lens_folder("transcoder")
    edit_config(folder, lambda config: config["metadata"].pop("hook_name_out"))
    with pytest.raises(SAELoadError, match="hook_out=SITE"):
        SAELensAdapter.from_disk(folder, hook=SITE)
    assert SAELensAdapter.from_disk(folder, hook=SITE, hook_out="b").hook == HookSite(SITE, "b")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_damaged_weights_name_the_tensor(lens_folder: Folder, value: float) -> None:
    folder = lens_folder("topk")
    edit_weights(folder, lambda tensors: tensors["W_enc"].view(-1).__setitem__(3, value))
    with pytest.raises(SAELoadError, match="W_enc holds 1 NaN or Inf"):
        SAELensAdapter.from_disk(folder)


def truncate(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def pickle_only(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "sae.pt")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncate, "sae_weights.safetensors is truncated.*fetch it again"),
        (pickle_only, "sae.pt is pickled.*safetensors"),
        (lambda folder: (folder / WEIGHTS).unlink(), "has no sae_weights.safetensors"),
        (lambda folder: (folder / "cfg.json").unlink(), "has no cfg.json"),
        (lambda folder: (folder / "cfg.json").write_text("{"), "cfg.json is not valid JSON"),
        (lambda folder: (folder / "cfg.json").write_text("[]"), "JSON object"),
        (lambda folder: edit_config(folder, lambda c: c.update(architecture="batchtopk")), "training checkpoint"),
        (
            lambda folder: edit_config(folder, lambda c: c.update(d_sae=31)),
            "needed, because cfg.json says d_in=16, d_sae=31",
        ),
        (lambda folder: edit_weights(folder, lambda t: t.pop("b_dec")), "b_dec"),
        (lambda folder: edit_config(folder, lambda c: c["metadata"].update(hook_head_index=2)), "attention head"),
    ],
)
def test_unusable_folders(lens_folder: Folder, spoil: Callable[[Path], object], message: str) -> None:
    folder = lens_folder("topk")
    spoil(folder)
    with pytest.raises(SAELoadError, match=message):
        SAELensAdapter.from_disk(folder)


def test_pickled_file_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "sae.pt").write_bytes(b"not even a pickle")
    with pytest.raises(SAELoadError, match="pickled weights can run code"):
        SAELensAdapter.from_disk(tmp_path / "sae.pt")


def test_hub_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(sae_lens.SAE, "from_pretrained", offline)  # for formats that SAELens converts
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    for release, sae_id in (
        ("gpt2-small-res-jb", "blocks.8.hook_resid_pre"),
        ("gemma-scope-2b-pt-res-canonical", "layer_12/width_16k/canonical"),
    ):
        with pytest.raises(SAELoadError, match=r"ConnectionError: no route to host.*network"):
            SAELensAdapter.from_release(release, sae_id)


@pytest.mark.parametrize(
    ("ref", "instead"),
    [
        ("llama_scope_lxr_8x/l15r_8x", "hf:fnlp/Llama3_1-8B-Base-LXR-8x/Llama3_1-8B-Base-L15R-8x?format=llama_scope"),
        (
            "mntss-gemma-2-2b-2.5m-clt-as-per-layer/layer_1",
            "hf:mntss/clt-gemma-2-2b-2.5M?format=circuit_tracer_clt",
        ),
    ],
)
def test_what_sae_lens_loads_wrongly_is_refused_with_the_right_reference(ref: str, instead: str) -> None:
    with pytest.raises(SAELoadError) as caught:
        load_sae(f"sae_lens:{ref}", LoadContext())
    assert str(caught.value).endswith(f"use {instead}.")
    parse_sae_ref(instead)


class TestFingerprint:
    def test_changes_with_weights_settings_and_site(self, lens: Callable[..., Any]) -> None:
        base = SAELensAdapter(lens("topk"), "a").fingerprint()
        other_weights = lens("topk")
        other_weights.b_dec.data[0] += 1
        others = [
            SAELensAdapter(other_weights, "a"),
            SAELensAdapter(lens("topk-rescaled"), "a"),
            SAELensAdapter(lens("topk", apply_b_dec_to_input=False), "a"),
            SAELensAdapter(lens("topk"), "a", hook="blocks.2.hook_resid_post"),
            SAELensAdapter(lens("abstopk"), "a"),
        ]
        assert len({base, *(other.fingerprint() for other in others)}) == 6

    def test_ignores_name_place_and_metadata(self, lens_folder: Folder, lens: Callable[..., Any]) -> None:
        loaded = SAELensAdapter.from_disk(lens_folder("topk", metadata={"dataset_path": "x"}))
        assert loaded.fingerprint() == SAELensAdapter(lens("topk"), "other").fingerprint()

    def test_golden(self, lens: Callable[..., Any]) -> None:
        """Pins the digest: it must be the same in every process, on every platform, and after every upgrade."""
        sae = lens("topk")
        with torch.no_grad():
            for parameter in sae.parameters():
                parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape) / 8)
        assert SAELensAdapter(sae, "golden").fingerprint() == GOLDEN
