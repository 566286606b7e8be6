"""A file of any format that is damaged, incomplete or of another kind is refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from saebench.errors import SAELoadError, UsageError
from saebench.sae.base import LoadContext
from saebench.sae.reference import load_sae
from tests.sae.affine.examples import EXAMPLES, edit, matrices
from tests.sae.affine.files import D, Example, M, write_json

TOPK = [name for name in EXAMPLES if "topk" in name.lower() and "batch" not in name.lower()]
Change = Callable[[dict[str, Any]], None]


def message(example: Example, reference: str | None = None) -> str:
    with pytest.raises(SAELoadError) as caught:
        load_sae(reference or example.reference, LoadContext())
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_file_without_its_encoder_or_decoder_is_refused_by_name(name: str, tmp_path: Path) -> None:
    for number, key in enumerate(matrices(EXAMPLES[name](tmp_path))):
        example = EXAMPLES[name](tmp_path / str(number))
        edit(example, lambda tensors, key=key: tensors.pop(key))  # type: ignore[misc]

        text = message(example)

        assert key in text or "none of the variants" in text or "holds no" in text


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_matrix_of_another_shape_is_refused(name: str, tmp_path: Path) -> None:
    for number, key in enumerate(matrices(EXAMPLES[name](tmp_path))):
        for dimension in (0, 1):
            example = EXAMPLES[name](tmp_path / f"{number}-{dimension}")
            edit(example, lambda tensors, key=key, d=dimension: tensors.update({key: tensors[key].narrow(d, 1, 8)}))  # type: ignore[misc]

            text = message(example)

            assert "shape" in text or "dimensions" in text or "transpose" in text


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(name: str, bad: float, tmp_path: Path) -> None:
    example = EXAMPLES[name](tmp_path)

    def spoil(tensors: dict[str, Any]) -> None:
        for value in tensors.values():
            if torch.is_tensor(value) and value.is_floating_point():
                value.view(-1)[:1].fill_(bad)

    edit(example, spoil)

    message(example)


@pytest.mark.parametrize("name", TOPK)
def test_more_active_latents_than_latents_are_refused(name: str, tmp_path: Path) -> None:
    example = EXAMPLES[name](tmp_path)
    query = "&".join([part for part in example.query.split("&") if part and not part.startswith("k=")] + ["k=49"])

    assert "k=49" in message(example, f"{example.format}:{example.path}?{query}")


def without_k(folder: Path, change: Change) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    write_json(folder / "config.json", config)


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("llamascopium_topk", {"sae_type": "lorsa"}, "another kind than `sae`"),
        ("llamascopium_topk", {"sae_type": "mine"}, "none of the variants"),
        ("llamascopium_topk", {"norm_activation": "batch-wise"}, "other tokens of a batch"),
        ("llamascopium_topk", {"norm_activation": "other"}, "normalisation is 'other'"),
        ("llamascopium_topk", {"act_fn": "batchtopk"}, "convert_topk_to_jumprelu"),
        ("llamascopium_topk", {"act_fn": "swish"}, "activation function is 'swish'"),
        ("llamascopium_topk", {"top_k": 0}, "k must be a whole number above 0"),
        ("llamascopium_topk", {"top_k": None}, r"add \?k=NUMBER"),
        ("llamascopium_relu_transcoder", {"norm_activation": "token-wise"}, "transcoder whose training scaled each"),
        ("llamascopium_jumprelu", {"hook_point_in": "blocks.0.hook_resid_post"}, r"\?norm_scaling_factor="),
        ("prisma_topk", {"normalize_activations": None}, "does not name normalize_activations"),
        ("prisma_topk", {"is_transcoder": True}, "transcoder of Prisma"),
        ("prisma_topk", {"cls_token_only": True}, "class token"),
        ("prisma_topk", {"architecture": "jumprelu"}, "none of the variants"),
        ("prisma_topk", {"activation_fn_str": "tanh-relu"}, "activation function is 'tanh-relu'"),
        ("prisma_gated", {"activation_fn_str": "topk"}, "activation function is 'topk'"),
        ("visaebench_topk", {"activation": "softmax"}, "activation function is 'softmax'"),
        ("visaebench_topk", {"activation": None}, "activation function is not stored"),
        ("visaebench_topk", {"activation": "batchtopk"}, "never estimated"),
        ("visaebench_topk", {"activation": "jumprelu"}, "without a threshold"),
        ("opensae", {"activation": "relu6"}, "activation function is 'relu6'"),
    ],
)
def test_settings_that_cannot_be_run_faithfully_are_refused(
    name: str, change: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    example = EXAMPLES[name](tmp_path)
    without_k(example.path, lambda config: config.update(change))

    with pytest.raises(SAELoadError, match=expected):
        load_sae(example.reference, LoadContext())


@pytest.mark.parametrize(
    ("name", "tensors", "expected"),
    [
        ("overcomplete_topk", {"encoder.final_block.1.running_mean": torch.zeros(M)}, "more than one linear map"),
        ("overcomplete_topk", {"encoder.mlp_blocks.0.0.weight": torch.zeros(M, D)}, "more than one linear map"),
        ("overcomplete_topk", {"encoder.attention_blocks.0.norm1.weight": torch.zeros(D)}, "more than one linear map"),
        ("overcomplete_topk", {"Q": torch.zeros(4)}, "quantised"),
        ("overcomplete_topk", {"dictionary.C": torch.zeros(4, D)}, "archetypal"),
        ("overcomplete_topk", {"dictionary.multiplier": torch.zeros(2)}, "must hold one number"),
        ("visaebench_of_overcomplete", {"thresholds": torch.zeros(M)}, "are logarithms"),
        ("visaebench_batchtopk", {"_running_threshold": torch.tensor(0.0)}, "never estimated"),
        ("saev_batchtopk", {"activation.threshold": torch.tensor(0.0)}, "never estimated"),
        ("llamascopium_topk", {"W_E_glu": torch.zeros(D, M)}, "use_glu_encoder"),
        (
            "llamascopium_jumprelu",
            {"activation_function.log_jumprelu_threshold": torch.zeros(3)},
            "threshold has shape",
        ),
        ("dictionary_learning_GatedAutoEncoder", {"gate_bias": torch.zeros(0)}, "b_gate has shape"),
        ("prisma_gated", {"r_mag": torch.zeros(3)}, "r_mag has shape"),
        ("openai_v5", {"activation": "Softmax"}, "activation function is 'Softmax'"),
        ("openai_v5", {"activation_state_dict": {"k": 5, "postact_fn": "Identity"}}, "not rectified"),
        ("openai_v5", {"activation_state_dict": {"k": 49}}, "k=49"),
        ("openai_v5", {"activation_state_dict": {}}, r"\?k=NUMBER"),
        ("openai_v5", {"encoder.weight": "text"}, "must be a tensor, not str"),
    ],
)
def test_tensors_that_tell_of_something_else_are_refused(
    name: str, tensors: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    example = EXAMPLES[name](tmp_path)
    edit(example, lambda content: content.update(tensors))

    with pytest.raises(SAELoadError, match=expected):
        load_sae(example.reference, LoadContext())


def test_the_mean_norm_of_activations_must_be_above_zero(tmp_path: Path) -> None:
    example = EXAMPLES["llamascopium_jumprelu"](tmp_path)
    key = "dataset_average_activation_norm.blocks.9.hook_resid_post"
    edit(example, lambda content: content.update({key: torch.tensor(0.0)}))

    assert "mean norm of its input must be above 0" in message(example)


@pytest.mark.parametrize("key", ["scale", "k"])
def test_a_dict_without_its_scale_or_k_says_what_to_add(key: str, tmp_path: Path) -> None:
    example = EXAMPLES["scaled_topk"](tmp_path)
    content = torch.load(example.path, weights_only=True)
    del content[key]
    torch.save(content, example.path)

    assert ("?norm_scaling_factor=" if key == "scale" else "?k=") in message(example)


def test_an_overcomplete_sae_without_its_kind_says_what_to_add(tmp_path: Path) -> None:
    example = EXAMPLES["overcomplete_topk"](tmp_path)

    assert "?threshold=NUMBER" in message(example, f"overcomplete:{example.path}?hook=blocks.0.hook_resid_post")


def test_a_variational_sae_asks_which_of_its_two_formulas_is_meant(tmp_path: Path) -> None:
    example = EXAMPLES["vsae_topk"](tmp_path)

    for query in ("", "?k=3"):
        assert "?activation=topk if the mean" in message(example, f"vsae:{example.path}{query}")


def test_an_sae_of_a_vision_model_needs_a_hook_in_the_reference(tmp_path: Path) -> None:
    example = EXAMPLES["saev_topk"](tmp_path)

    assert "add ?hook=" in message(example, f"saev:{example.path}")


def test_an_unknown_activation_in_the_reference_is_refused(tmp_path: Path) -> None:
    example = EXAMPLES["overcomplete_topk"](tmp_path)

    with pytest.raises(UsageError, match="activation must be an activation function"):
        load_sae(f"overcomplete:{example.path}?activation=swish", LoadContext())
