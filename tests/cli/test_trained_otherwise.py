"""What an SAE says about its training, and a run that does otherwise: applied, or said, never ignored in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sae_lens
import torch
from click.testing import Result
from sae_lens.saes.sae import SAEMetadata

from tests.cli.conftest import SITE, WIDTH, Inputs, Invoke

Run = Callable[..., tuple[Result, dict[str, Any]]]


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., str]:
    """``save(model_name=..., ...)``: the reference of an SAE that reconstructs what has no mean over its dimensions."""

    def write(**metadata: Any) -> str:
        sae = sae_lens.StandardSAE(
            sae_lens.StandardSAEConfig(d_in=WIDTH, d_sae=2 * WIDTH, metadata=SAEMetadata(**metadata))
        )
        centring = torch.eye(WIDTH) - 1 / WIDTH
        with torch.no_grad():
            sae.W_enc.copy_(torch.cat([centring, -centring], 1))
            sae.W_dec.copy_(torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)]))
        sae.save_model(tmp_path / "sae")
        return f"sae_lens:{tmp_path / 'sae'}"

    return write


@pytest.fixture
def run(invoke: Invoke, inputs: Inputs, tmp_path: Path) -> Run:
    """``run(reference, model=..., ...)``: what the command says, and the record."""

    def call(reference: str, *options: object, model: object = inputs.model) -> tuple[Result, dict[str, Any]]:
        command = ["run", "--tasks", "core", "--model", model, "--text", inputs.text, "--preset", "smoke"]
        command += ["--limit", 4, "--dtype", "float32", "--device", "cpu", "--cache-budget", 0, "--sae", reference]
        result = invoke(*command, *options, "--out", tmp_path / "out")
        [file] = (tmp_path / "out").rglob("*.json")
        return result, json.loads(file.read_text())

    return call


def measured(record: dict[str, Any]) -> dict[str, float]:
    return {m["metric"]: m["value"] for m in record["measurements"]}


CENTRED = {"hook_name": SITE, "model_from_pretrained_kwargs": {"center_writing_weights": True}}


def test_a_centred_stream_is_read_centred(save: Callable[..., str], run: Run, tiny_gpt2_dir: Path) -> None:
    result, record = run(save(**CENTRED), model=tiny_gpt2_dir)
    assert result.exit_code == 0, result.output
    numbers = measured(record)
    assert numbers["fvu"] < 1e-9
    assert abs(numbers["kl_sae"]) < 1e-6
    assert "without their mean" in record["sae"]["notes"]["centred"]
    assert "warning" not in result.stderr


def test_without_this_note_the_mean_is_part_of_the_stream(
    save: Callable[..., str], run: Run, tiny_gpt2_dir: Path
) -> None:
    _, record = run(save(hook_name=SITE), model=tiny_gpt2_dir)
    assert measured(record)["fvu"] > 1e-3
    assert "centred" not in record["sae"]["notes"]


def test_models_without_layer_norm_are_never_centred(save: Callable[..., str], run: Run) -> None:
    result, record = run(save(**CENTRED))  # a Llama
    assert result.exit_code == 0, result.output
    assert measured(record)["fvu"] > 1e-3
    assert "centred" not in record["sae"]["notes"]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"model_name": "another-model"}, "was trained on the language model 'another-model', and this run uses"),
        ({"context_size": 16}, "was trained on sequences of 16 tokens"),
        ({"prepend_bos": False}, "was trained on sequences without a BOS token"),
        ({"seqpos_slice": [5, None]}, "seqpos_slice=[5, None]"),
    ],
)
def test_differences_are_logged_and_recorded(
    save: Callable[..., str], run: Run, metadata: dict[str, Any], message: str
) -> None:
    reference = save(hook_name=SITE, **metadata)
    result, record = run(reference)
    assert result.exit_code == 0, result.output
    [line] = [line for line in result.stderr.splitlines() if "warning: " in line]
    assert f"warning: {reference} was trained on " in line
    assert message in line
    [said] = record["sae"]["notes"]["differences"]
    assert message in said
    again, _ = run(reference)
    assert message in again.stderr  # also when the record is there already


def test_no_false_alarm(save: Callable[..., str], run: Run, inputs: Inputs) -> None:
    known = {"model_name": f"someone/{Path(inputs.model).name}", "context_size": 4096, "prepend_bos": True}
    result, record = run(save(hook_name=SITE, **known))
    assert "warning: " not in result.stderr
    assert record["sae"]["notes"] == known


def test_the_hook_of_the_run_serves_a_folder_that_names_none(save: Callable[..., str], run: Run) -> None:
    result, record = run(save(), "--hook", SITE)
    assert result.exit_code == 0, result.output
    assert record["sae"]["hook"] == SITE


def test_no_other_hook_is_guessed(save: Callable[..., str], run: Run) -> None:
    result, record = run(save())
    assert result.exit_code == 1
    assert "does not say where it reads; add ?hook=" in record["error"]


def test_the_hook_of_the_run_leaves_a_folder_that_names_one_alone(save: Callable[..., str], run: Run) -> None:
    _, record = run(save(hook_name=SITE), "--hook", "blocks.0.hook_resid_post")
    assert record["sae"]["hook"] == SITE


def test_check_adapter_tells_differences(invoke: Invoke, inputs: Inputs, save: Callable[..., str]) -> None:
    arguments = ["--model", inputs.model, "--text", inputs.text]
    otherwise = {"model_name": "another-model", "context_size": 16, "prepend_bos": False, "seqpos_slice": [5, None]}
    result = invoke("check-adapter", save(hook_name=SITE, **otherwise), *arguments)
    assert result.stderr.count("Warning: ") == 4
    for told in ("'another-model'", "of 16 tokens, and those of this run have 128", "without a BOS", "[5, None]"):
        assert told in result.stderr
    # It reconstructs all but the mean, which a diagnosis finds out.
    assert result.exit_code == 1
    assert "It looks as if it was trained on weights as TransformerLens centres them" in result.stdout
    assert f"{save()} passes all checks" in invoke("check-adapter", save(), *arguments, "--hook", SITE).stdout
