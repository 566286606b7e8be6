"""Every format that a map describes computes what its source computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from saebench.errors import SAELoadError, UsageError
from saebench.sae.affine.map import built_in_maps, read_map
from saebench.sae.base import LoadContext
from saebench.sae.conformance import run_checks
from saebench.sae.hook import HookSite
from saebench.sae.reference import load_sae
from tests.sae.affine.examples import EXAMPLES
from tests.sae.affine.files import D, M, inputs, relative, save, weights, write_json


def test_every_map_has_an_example(tmp_path: Path) -> None:
    shown = {make(tmp_path / name).format for name, make in EXAMPLES.items()}

    assert shown == set(built_in_maps())


@pytest.mark.parametrize("name", EXAMPLES)
def test_latents_and_reconstructions_are_those_of_the_formula(name: str, tmp_path: Path) -> None:
    example = EXAMPLES[name](tmp_path)
    x = inputs()

    sae = load_sae(example.reference, LoadContext())

    z, xhat = example.formula(x.double())
    mine = sae.encode(x)
    assert (z != 0).any(-1).all()
    assert (z == 0).any(-1).all()
    assert relative(mine, z) < 1e-5
    assert relative(sae.decode(mine, x), xhat) < 1e-5
    assert (sae.hook.site_in, sae.hook.site_out) == (example.site, example.site_out)
    assert (sae.architecture, sae.d_in, sae.d_sae) == (example.architecture, D, M)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_adapter_passes_the_conformance_suite(name: str, tmp_path: Path) -> None:
    reference = EXAMPLES[name](tmp_path).reference

    results = run_checks(lambda: load_sae(reference, LoadContext()), activations=inputs())

    assert [(result.name, result.detail) for result in results if not result.ok] == []


@pytest.mark.parametrize("threshold", [-1.0, 0.0])
def test_a_threshold_that_was_never_estimated_is_refused(threshold: float, tmp_path: Path) -> None:
    example = EXAMPLES["dictionary_learning_BatchTopKSAE"](tmp_path)
    content = torch.load(example.path / "ae.pt", weights_only=True)
    save(example.path / "ae.pt", {**content, "threshold": torch.tensor(threshold)})

    with pytest.raises(SAELoadError, match="never estimated"):
        load_sae(f"dictionary_learning:{example.path}", LoadContext())


def test_a_map_of_the_user_serves_an_odd_file(tmp_path: Path) -> None:
    W_enc, W_dec, b_enc, b_pre = weights((D, M), (M, D), (M,), (D,))
    scale = 0.25
    state = {"b_pre": b_pre, "W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec}
    file = tmp_path / "odd.pt"
    torch.save({"state": state, "scale": scale, "k": 5}, file)
    (tmp_path / "my.yaml").write_text(
        "name: mine\ntitle: an odd file\nweights: ['*.pt']\nwithin: state\n"
        "tensors: {W_enc: W_enc, b_enc: b_enc, W_dec: W_dec, b_dec: b_pre, pre_bias: b_dec}\n"
        "activation: {kind: topk, k: 5}\nscale: {factor: 0.25}\n"
    )

    sae = load_sae(f"file:{file}?map={tmp_path / 'my.yaml'}&hook=blocks.1.hook_resid_post", LoadContext())

    x = inputs()
    p = (x.double() * scale - b_pre) @ W_enc.double() + b_enc
    values, indices = p.clamp(min=0).topk(5)
    z = torch.zeros_like(p).scatter_(-1, indices, values)
    torch.testing.assert_close(sae.encode(x).double(), z, rtol=1e-4, atol=1e-4)
    expected = (z @ W_dec.double() + b_pre) / scale
    torch.testing.assert_close(sae.decode(sae.encode(x)).double(), expected, rtol=1e-4, atol=5e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "is not valid YAML"),
        ("- 1", "cannot be used"),
        ("name: x\ntitle: y\ntensors: {W_enc: a}\nactivation: {kind: relu}", "tensors.W_dec"),
        ("name: x\ntitle: y\ntensors: {W_enc: a, W_dec: b}\nactivation: {kind: swish}", "activation.kind"),
        ("name: x\ntitle: y\ntensors: {W_enc: a, W_dec: b}\nactivation: {kind: relu}\nscale: {}", "either a factor"),
    ],
)
def test_a_map_that_is_wrong_is_refused_by_its_field(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)

    with pytest.raises(UsageError, match=message):
        read_map(file)


def test_weights_that_are_no_floats_are_refused(tmp_path: Path) -> None:
    example = EXAMPLES["gemma_scope"](tmp_path)
    content = {"W_enc": torch.zeros(D, M, dtype=torch.int8)}
    others = dict(zip(("W_dec", "b_enc", "b_dec", "threshold"), weights((M, D), (M,), (D,), (M,)), strict=True))
    save(example.path / "params.npz", {**content, **others})

    with pytest.raises(SAELoadError, match=r"W_enc.*int8"):
        load_sae(f"gemma_scope:{example.path}", LoadContext())


def test_a_pickle_of_objects_is_refused_with_the_way_out(tmp_path: Path) -> None:
    file = tmp_path / "Llama-3.1-8B-Instruct-SAE-l19.pth"
    torch.save({"encoder_linear.weight": Path("/")}, file)

    with pytest.raises(SAELoadError, match=r"could run code.*save_file"):
        load_sae(f"goodfire:{file}", LoadContext())


def test_a_folder_without_the_files_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SAELoadError, match=r"holds no file of weights \(ae.pt"):
        load_sae(f"dictionary_learning:{tmp_path}", LoadContext())


def test_a_class_that_the_map_does_not_know_is_refused(tmp_path: Path) -> None:
    example = EXAMPLES["dictionary_learning_AutoEncoder"](tmp_path)
    write_json(example.path / "config.json", {"trainer": {"dict_class": "CrossCoder"}})

    with pytest.raises(SAELoadError, match="none of the variants"):
        load_sae(f"dictionary_learning:{example.path}", LoadContext())


@pytest.mark.parametrize(
    ("named", "refused"), [("blocks.1.hook_resid_post", False), (None, True)], ids=["--hook", "no --hook"]
)
def test_the_hook_that_the_user_names_serves_a_file_that_names_none(
    named: str | None, refused: bool, tmp_path: Path
) -> None:
    W_enc, W_dec = weights((D, M), (M, D))
    torch.save({"W_enc": W_enc, "W_dec": W_dec}, tmp_path / "odd.pt")
    (tmp_path / "my.yaml").write_text(
        "name: mine\ntitle: an odd file\nweights: ['*.pt']\ntensors: {W_enc: W_enc, W_dec: W_dec}\n"
        "activation: {kind: topk, k: 5}\n"
    )
    reference = f"file:{tmp_path / 'odd.pt'}?map={tmp_path / 'my.yaml'}"
    default = HookSite.at(named or "blocks.0.hook_resid_post")
    context = LoadContext(hook=default, hook_named=named is not None)
    if refused:
        with pytest.raises(SAELoadError, match="does not say where it reads"):
            load_sae(reference, context)
    else:
        assert load_sae(reference, context).hook == default
