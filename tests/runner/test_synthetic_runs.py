"""Runs on a synthetic model: without a language model, with the tasks, SAEs and controls that fit it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sae_lens
import torch
from sae_lens.saes.sae import SAEMetadata

from saebench.cards.registry import registry
from saebench.errors import HookMismatchError, UsageError
from saebench.progress import NullProgress
from saebench.results.record import Record, Status
from saebench.runner import execute as execute_module
from saebench.runner.assets import needed_assets
from saebench.runner.describe import describe
from saebench.runner.execute import RunSummary, execute
from saebench.runner.inputs import check_inputs
from saebench.runner.plan import Plan, make_plan
from saebench.runner.prefetch import prefetch
from saebench.runner.request import make_request
from saebench.sae.panel.scheme import PANEL
from saebench.synthetic.recipes import RECIPES
from tests.runner.conftest import SITE, save_topk

MODEL = "synthetic:tiny?seed=1"
OPTIONS = {"model": MODEL, "preset": "smoke", "device": "cpu"}
ORACLE, RANDOM = "synthetic-panel:oracle", "baseline:random?d_sae=20&l0=2"
PCA, PERMUTED = "baseline:pca?k=4", f"baseline:permuted-decoder({ORACLE})"


@pytest.fixture(autouse=True)
def _no_language_model_and_no_assets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("a run on a synthetic model loads no language model")

    monkeypatch.setattr(execute_module, "load_lm", load)
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path / "home"))


def plan(**options: Any) -> Plan:
    return make_plan(make_request({**OPTIONS, **options}))


def run(out: Path, *saes: str, **options: Any) -> RunSummary:
    return execute(plan(out=out, sae=list(saes), **options), NullProgress())


def values(record: Record) -> dict[str, float | None]:
    assert record.status is Status.OK, record.error
    return {m.metric: m.value for m in record.measurements if not m.subset}


def test_a_run_measures_and_takes_up_what_is_there(tmp_path: Path):
    summary = run(tmp_path / "out", ORACLE, RANDOM, PCA, PERMUTED, "baseline:neurons")
    oracle, random, pca, permuted, neurons = map(values, summary.records)
    assert oracle["mcc"] == pytest.approx(1)
    assert random["mcc"] < 0.8
    assert random["l0"] == pytest.approx(2, rel=0.2)  # it is fitted to samples of the model
    assert pca["fvu"] < 1
    assert (permuted["l0"], permuted["mcc"]) == (oracle["l0"], pytest.approx(1))
    assert permuted["f1"] < 0.5 * oracle["f1"]
    assert neurons["fvu"] == 0
    [identity] = {(r.identity.model, r.identity.model_fingerprint, r.identity.dtype) for r in summary.records}
    assert identity == (MODEL, RECIPES["tiny"].content_hash(1), "float32")
    assert {record.sae.hook for record in summary.records} == {"synthetic"}
    again = run(tmp_path / "out", ORACLE, RANDOM, PCA, PERMUTED, "baseline:neurons")
    assert (again.new, [r.record_id for r in again.records]) == (0, [r.record_id for r in summary.records])


def test_the_seed_of_a_run_draws_samples_and_controls(tmp_path: Path):
    one, other = run(tmp_path / "out", RANDOM, seed=[0, 1]).records
    assert one.identity.sae_fingerprint != other.identity.sae_fingerprint
    assert values(one)["l0_true"] != values(other)["l0_true"]


def test_by_default_the_panel_and_the_tasks_that_fit():
    made = plan()
    assert [str(ref) for ref in made.saes] == list(PANEL)
    assert [task.name for task in made.tasks] == ["ground_truth"]
    named = make_plan(make_request({"model": "asset:gemma-3-270m", "sae": ["zoo:topk-k32-s0"]}))
    assert "ground_truth" not in {task.name for task in named.tasks}


@pytest.mark.parametrize("task", [name for name in registry().names() if registry().card(name).model == "language"])
def test_tasks_on_language_models_are_refused(task: str):
    with pytest.raises(UsageError, match=f"Task '{task}' measures on a language model, and .* is a synthetic one"):
        plan(tasks=[task])


def test_the_task_is_refused_on_a_language_model():
    with pytest.raises(UsageError, match="measures on a synthetic model, and asset:gemma-3-270m is a language one"):
        plan(tasks=["ground_truth"], model="asset:gemma-3-270m")


def test_an_sae_of_a_language_model_is_not_applicable(tmp_path: Path):
    elsewhere = f"sae_lens:{save_topk(tmp_path / 'sae', d_in=16)}"
    refused, measured = run(tmp_path / "out", elsewhere, ORACLE).records
    assert refused.status is Status.NOT_APPLICABLE
    assert f"whose only hook point is 'synthetic'; an SAE at '{SITE}' was not made for it" in refused.error
    assert measured.status is Status.OK
    with pytest.raises(HookMismatchError, match="whose only hook point is 'synthetic', and not"):
        plan(sae=[elsewhere])
    with pytest.raises(HookMismatchError, match=f"--hook: {MODEL.replace('?', '.')} is a synthetic model"):
        plan(hook=SITE)


def test_an_sae_of_the_panel_is_refused_on_a_language_model():
    with pytest.raises(HookMismatchError, match="It is made for a synthetic model, and asset:gemma-3-270m"):
        plan(sae=[ORACLE], model="asset:gemma-3-270m")


def test_an_sae_of_sae_lens_that_names_no_hook_reads_the_model(tmp_path: Path):
    sae = sae_lens.TopKSAE(sae_lens.TopKSAEConfig(d_in=16, d_sae=24, k=2, metadata=SAEMetadata()))
    with torch.no_grad():
        sae.W_enc.copy_(sae.W_dec.T)
    sae.save_model(tmp_path / "sae")
    [record] = run(tmp_path / "out", f"sae_lens:{tmp_path / 'sae'}").records
    assert values(record)["l0"] == pytest.approx(2, abs=0.1)


def test_an_sae_for_a_model_of_another_width_says_so(tmp_path: Path):
    folder = save_topk(tmp_path / "sae", site="synthetic", d_in=12)
    failed, _ = run(tmp_path / "out", f"sae_lens:{folder}", ORACLE).records
    assert failed.status is Status.FAILED
    assert "expects 12 dimensions at synthetic" in failed.error


def test_a_dry_run_makes_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("saebench.lm.synthetic.load_synthetic", lambda ref: pytest.fail("it makes the model"))
    made = plan(sae=[ORACLE, RANDOM])
    text = describe(made, check_inputs(made))
    assert f"model   {MODEL}\n" in text
    assert "synthetic  synthetic-panel:oracle" in text
    assert needed_assets(made) == []
    assert list(prefetch(made, NullProgress())) == []
