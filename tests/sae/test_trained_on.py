"""What metadata says about an SAE's training, against what a run does."""

from __future__ import annotations

from typing import Any

import pytest

from saebench.sae.trained_on import TrainedOn, differences

SITE = "blocks.1.hook_resid_post"


class Model:
    name, revision = "hf:openai-community/gpt2@r1", "r1"

    def is_called(self, name: str) -> bool:
        return name == "gpt2"

    def ignores_mean(self) -> bool:
        return True


def told(metadata: dict[str, Any], *, site: str = SITE, context_length: int | None = 128) -> list[str]:
    return list(differences(TrainedOn.of(metadata), "ref", (site,), Model(), context_length))


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"model_name": "gpt2", "context_size": 128, "prepend_bos": True, "seqpos_slice": [None]},
        {"context_size": 256, "seqpos_slice": [0, None], "model_from_pretrained_kwargs": {}},
        {"model_from_pretrained_kwargs": {"center_writing_weights": True, "fold_ln": True, "device": "cuda"}},
        {"model_from_pretrained_kwargs": {"fold_value_biases": True, "n_devices": 2, "revision": "r1", "odd": None}},
        {"model_name": 7, "context_size": "128", "seqpos_slice": {}, "model_from_pretrained_kwargs": []},
    ],
)
def test_no_difference(metadata: dict[str, Any]) -> None:
    assert told(metadata) == []


@pytest.mark.parametrize(
    ("metadata", "site", "message"),
    [
        ({"model_name": "pythia-70m"}, SITE, "trained on the language model 'pythia-70m', and this run uses hf:openai"),
        ({"context_size": 64}, SITE, "sequences of 64 tokens, and those of this run have 128"),
        ({"prepend_bos": False}, SITE, "sequences without a BOS token"),
        ({"seqpos_slice": [10, None]}, SITE, r"the positions seqpos_slice=[10, None] of each sequence only"),
        ({"model_from_pretrained_kwargs": {"revision": "step3"}}, SITE, "loaded with 'revision': 'step3'"),
        ({"model_from_pretrained_kwargs": {"checkpoint_index": 3}}, SITE, "loaded with 'checkpoint_index': 3"),
        ({"model_from_pretrained_kwargs": {"fold_value_biases": True}}, "blocks.1.attn.hook_z", "'fold_value_biases'"),
        ({"model_from_pretrained_kwargs": {"\x1b": [{}] * 999}}, SITE, r"loaded with '\x1b'"),
    ],
)
def test_each_difference_is_a_sentence(metadata: dict[str, Any], site: str, message: str) -> None:
    [sentence] = told(metadata, site=site)
    assert message in sentence
    assert sentence.startswith("ref was trained on ")
    assert sentence.endswith(".")
    assert len(sentence) < 500


def test_the_context_is_compared_only_where_it_is_known() -> None:
    assert told({"context_size": 64}, context_length=None) == []


@pytest.mark.parametrize(
    ("arguments", "site", "centred"),
    [
        ({"center_writing_weights": True}, SITE, True),
        ({"center_writing_weights": True}, "blocks.0.hook_mlp_out", True),
        ({"center_writing_weights": True}, "blocks.0.attn.hook_z", False),
        ({"center_writing_weights": False}, SITE, False),
        ({}, SITE, False),
    ],
)
def test_where_activations_were_centred(arguments: dict[str, Any], site: str, centred: bool) -> None:
    assert TrainedOn(model_arguments=arguments).centred(site) is centred


def test_what_a_record_keeps() -> None:
    metadata = {"model_name": "gpt2", "context_size": 128, "prepend_bos": False, "seqpos_slice": [1, None]}
    assert TrainedOn.of(metadata).notes() == metadata
    assert TrainedOn.of({"seqpos_slice": [None]}).notes() == {}
