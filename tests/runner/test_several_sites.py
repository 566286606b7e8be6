"""Whole runs of crosscoders and cross-layer transcoders, and what the other tasks say about them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from saebench.cards.registry import registry
from saebench.cli.main import cli
from saebench.errors import NotApplicableError
from saebench.lm.load import load_lm
from saebench.results.record import Record, Status
from saebench.results.store import ResultStore
from saebench.runner.describe import describe
from saebench.runner.execute import _SeedRun, execute
from saebench.runner.plan import make_plan
from saebench.runner.request import make_request
from saebench.sae.base import LoadContext
from saebench.sae.reference import load_sae, parse_sae_ref
from saebench.tasks.factory import create
from tests.conftest import WIDTH
from tests.runner.conftest import Inputs

LAYERS = 3
OUT = tuple(f"blocks.{layer}.hook_mlp_out" for layer in range(LAYERS))


def crosscoder(folder: Path, scale: float = 1.0) -> str:
    """Reads and writes three MLP outputs. Latents are the positive and the negative part of every dimension."""
    folder.mkdir()
    width = LAYERS * WIDTH
    both = torch.cat([torch.eye(width), -torch.eye(width)], dim=1)  # [width, latents]
    W_enc = both.reshape(LAYERS, WIDTH, 2 * width).contiguous()
    W_dec = scale * both.T.reshape(2 * width, LAYERS, WIDTH).transpose(0, 1).contiguous()
    tensors = {"encoder.weight": W_enc, "encoder.bias": torch.zeros(2 * width)}
    tensors |= {"decoder.weight": W_dec.contiguous(), "decoder.bias": torch.zeros(LAYERS, WIDTH)}
    save_file(tensors, folder / "model.safetensors")
    return f"finetuning_crosscoder:{folder}?hook=blocks.0-2.hook_mlp_out"


def clt(folder: Path, scale: float = 1.0) -> str:
    """A cross-layer transcoder that copies each MLP output and writes nothing to later layers."""
    folder.mkdir()
    both = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)])  # [latents, width]
    for layer in range(LAYERS):
        decoder = torch.zeros(2 * WIDTH, LAYERS - layer, WIDTH)
        decoder[:, 0] = scale * both
        save_file({f"W_dec_{layer}": decoder}, folder / f"W_dec_{layer}.safetensors")
        bias = {f"b_enc_{layer}": torch.zeros(2 * WIDTH), f"b_dec_{layer}": torch.zeros(WIDTH)}
        save_file({f"W_enc_{layer}": both.clone(), **bias}, folder / f"W_enc_{layer}.safetensors")
    (folder / "config.yaml").write_text("feature_input_hook: hook_mlp_out\nfeature_output_hook: hook_mlp_out\n")
    return f"circuit_tracer_clt:{folder}"


MAKE = {"crosscoder": crosscoder, "clt": clt}


@pytest.fixture
def predictable(inputs: Inputs, tmp_path: Path) -> Inputs:
    """A text that the tiny model wrote itself, so that ablations do harm."""
    lm = load_lm(inputs.model, device=torch.device("cpu"), dtype=torch.float32)
    characters = lm.tokenizer.convert_tokens_to_ids(list("abcdefghijklmnopqrstuvwxyz ,."))
    tokens = torch.full((60, 1), lm.tokenizer.bos_token_id)
    rng = np.random.default_rng(0)
    for _ in range(30):
        p = lm.model(input_ids=tokens).logits[:, -1, characters].double().softmax(-1).detach().numpy()
        drawn = [rng.choice(characters, p=row / row.sum()) for row in p]
        tokens = torch.cat([tokens, torch.tensor(drawn)[:, None]], 1)
    texts = ["".join(lm.tokenizer.convert_ids_to_tokens(row)) for row in tokens[:, 1:]]
    file = tmp_path / "written.jsonl"
    file.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return Inputs(inputs.model, f"jsonl:{file}", inputs.folder)


def values(record: Record) -> dict[str, float | None]:
    return {m.metric: m.value for m in record.measurements if not m.subset}


@pytest.mark.parametrize("kind", MAKE)
def test_the_command_measures_an_exact_one_and_one_that_writes_nothing(predictable: Inputs, tmp_path: Path, kind: str):
    exact, nothing = MAKE[kind](tmp_path / "exact"), MAKE[kind](tmp_path / "nothing", 0.0)
    arguments = ["run", "--tasks", "core", "--preset", "smoke", "--model", predictable.model, "--device", "cpu"]
    arguments += ["--text", predictable.text, "--limit", "6", "--out", str(tmp_path / "results")]

    done = CliRunner().invoke(cli, [*arguments, "--sae", exact, "--sae", nothing])

    assert done.exit_code == 0, done.output
    records = {record.identity.sae: record for record in ResultStore(tmp_path / "results")}
    good, bad = (values(record) for record in (records[exact], records[nothing]))
    assert {record.sae.hook for record in records.values()} == {"blocks.0-2.hook_mlp_out"}
    assert good["fvu"] == pytest.approx(0, abs=1e-9)
    assert bad["fvu"] > 0.5
    assert good["ce_recovered_zero"] == pytest.approx(1, abs=1e-4)
    assert bad["ce_recovered_zero"] == pytest.approx(0, abs=1e-6)
    assert good["kl_sae"] == pytest.approx(0, abs=1e-5)
    assert bad["kl_sae"] == pytest.approx(bad["kl_zero"])
    share = {m.subset: m.value for m in records[exact].measurements if m.metric == "fvu" and m.subset}
    assert sorted(share) == sorted(OUT)
    assert good["ce_zero"] == bad["ce_zero"] != good["ce_clean"]


def run(inputs: Inputs, out: Path, **options: Any) -> list[Record]:
    request = make_request({**inputs.options, "hook": None, "out": out, **options})
    return execute(make_plan(request)).records


@pytest.mark.parametrize("name", [name for name in registry().names() if name != "core"])
def test_every_other_task_says_that_it_takes_one_hook_point(name: str, tmp_path: Path):
    ref = parse_sae_ref(clt(tmp_path / "clt"))
    run_of_seed = _SeedRun.__new__(_SeedRun)
    run_of_seed.tasks = {name: create(name)}
    job: Any = SimpleNamespace(task=SimpleNamespace(name=name), subject=ref, members=(ref,))
    with pytest.raises(NotApplicableError) as refused:
        run_of_seed._measure(job, (load_sae(ref, LoadContext()),))
    assert str(refused.value) == (
        f"{name} is defined for SAEs with one hook point, and {ref} reads or writes at several "
        "(blocks.0-2.hook_mlp_out)."
    )


def test_a_crosscoder_of_two_models_is_refused_before_the_model_is_loaded(inputs: Inputs, tmp_path: Path):
    weights = {"W_enc": torch.zeros(2, WIDTH, 8), "W_dec": torch.zeros(8, 2, WIDTH)}
    weights |= {"b_enc": torch.zeros(8), "b_dec": torch.zeros(2, WIDTH)}
    torch.save(weights, tmp_path / "cc_weights.pt")
    (tmp_path / "cfg.json").write_text(json.dumps({"hook_point": "blocks.1.hook_resid_pre"}))
    two = f"nanda_crosscoder:{tmp_path}?norm_scaling_factor=1"
    made = make_plan(make_request({**inputs.options, "hook": None, "sae": [two, inputs.topk(0)]}))
    assert any("has one language model" in note and note.startswith("will fail") for note in made.notes)
    assert "blocks.1.hook_resid_pre@A+blocks.1.hook_resid_pre@B" in describe(made)

    failed, ok = run(inputs, tmp_path / "out", sae=[two, inputs.topk(0)])

    assert (failed.status, ok.status) == (Status.FAILED, Status.OK)
    assert "a run has one language model" in failed.error


def test_hook_points_of_an_sae_are_captured_in_one_pass(inputs: Inputs, tmp_path: Path, monkeypatch: Any):
    from saebench.lm.model import LanguageModel

    passes: list[int] = []
    capture, prefix = LanguageModel.capture, LanguageModel.prefix
    monkeypatch.setattr(LanguageModel, "capture", lambda self, t, s: (passes.append(len(s)), capture(self, t, s))[1])
    monkeypatch.setattr(
        LanguageModel, "prefix", lambda self, t, s: (t.shape[1] > 12 and passes.append(-1), prefix(self, t, s))[1]
    )
    sae = crosscoder(tmp_path / "cc").replace("0-2.hook_mlp_out", "2,0-1.hook_mlp_out")
    [record] = run(inputs, tmp_path / "out", sae=[sae], cache_budget="0")
    assert record.status is Status.OK
    assert set(passes) == {LAYERS + 1}  # the outputs of the MLPs, and what enters the first block
