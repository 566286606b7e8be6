"""Seeds, what SAEs share, and what decides which record numbers go into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from saebench.results.record import Status
from saebench.runner import execute as execute_module
from saebench.runner import loading
from tests.conftest import WIDTH
from tests.runner.conftest import SITE, Inputs, Run


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("this must not be called")


def test_seeds_differ_in_split_tokens_and_numbers(run: Run, inputs: Inputs):
    summary = run(inputs.topk(0), seed=[0, 1])
    first, second = summary.records
    assert (first.identity.seed, second.identity.seed) == (0, 1)
    assert first.identity.data == second.identity.data
    assert first.record_id != second.record_id
    value = {r.identity.seed: {m.metric: m.value for m in r.measurements} for r in summary.records}
    assert value[0]["ce_clean"] != value[1]["ce_clean"]
    assert value[0]["fvu"] != value[1]["fvu"]
    assert value[0]["decoder_max_cosine"] == value[1]["decoder_max_cosine"]  # of the weights alone


def test_a_clean_pass_serves_all_saes_of_a_site(run: Run, inputs: Inputs, monkeypatch: pytest.MonkeyPatch):
    made: list[tuple[str, ...]] = []
    real = execute_module.TaskContext.clean.__globals__["CleanPass"]

    class Counted(real):  # type: ignore[misc,valid-type]
        def __init__(self, captured: Any, sites: tuple[str, ...], *rest: Any) -> None:
            made.append(sites)
            super().__init__(captured, sites, *rest)

    monkeypatch.setattr("saebench.passes.context.CleanPass", Counted)
    other = "blocks.0.hook_resid_post"
    run(inputs.topk(0), inputs.topk(1), "baseline:neurons", f"baseline:neurons?hook={other}")
    assert made == [(SITE,), (other,)]


def test_each_sae_is_loaded_once_and_let_go(run: Run, inputs: Inputs, monkeypatch: pytest.MonkeyPatch):
    loads: list[str] = []
    real = loading.load_sae
    monkeypatch.setattr(loading, "load_sae", lambda ref, ctx: (loads.append(str(ref)), real(ref, ctx))[1])
    saes = [inputs.topk(0), inputs.topk(1), "baseline:pca?k=3"]
    run(*saes)
    assert loads == saes
    loads.clear()
    run(*saes)
    assert loads == saes[:2]  # what is fitted is known by what it is fitted to


@pytest.mark.parametrize("change", [{"limit": 5}, {"seed": [3]}, {"hook": "blocks.0.hook_resid_post"}])
def test_what_decides_the_numbers_of_a_fitted_control_makes_another_record(run: Run, change: dict[str, Any]):
    first = run("baseline:pca?k=3").records[0]
    second = run("baseline:pca?k=3", **change)
    assert second.new == 1
    assert second.records[0].record_id != first.record_id


def test_what_does_not_decide_the_numbers_makes_no_other_record(run: Run, inputs: Inputs):
    first = run(inputs.topk(0), "baseline:random?d_sae=64&l0=8", batch_size=2)
    second = run(inputs.topk(0), "baseline:random?d_sae=64&l0=8", batch_size=3)
    assert (first.new, second.new) == (2, 0)


def test_the_records_say_what_was_measured(run: Run, inputs: Inputs, tmp_path: Path):
    summary = run(inputs.topk(0), "baseline:permuted-decoder(baseline:neurons)")
    record, control = summary.records
    assert record.status is control.status is Status.OK
    assert record.preset == "smoke"
    assert record.identity.model_fingerprint
    assert record.identity.sae_fingerprint
    assert record.identity.parameters == {
        "text": inputs.text,
        "context_length": 16,
        "sequences": 4,
        "bootstrap_replicates": 100,
    }
    assert (record.sae.hook, record.sae.d_in, record.sae.d_sae) == (SITE, WIDTH, 48)
    assert record.sae.l0 == next(m.value for m in record.measurements if m.metric == "l0")
    assert (record.sae.control, control.sae.control) == (False, True)
    assert record.sae.notes["model_name"] == "tiny"
    assert str(tmp_path / "results") not in record.provenance.model_dump_json()


def test_the_default_hook_is_the_middle_of_the_model(run: Run):
    assert run("baseline:neurons", hook=None).records[0].sae.hook == "blocks.1.hook_resid_post"


def test_running_out_of_memory_halves_the_batch(
    run: Run, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calm = run(inputs.topk(0), out=tmp_path / "calm")
    lm = execute_module.LanguageModel
    real = lm.suffix

    def tight(self: Any, tokens: torch.Tensor, *rest: Any) -> Any:
        if len(tokens) > 1:
            raise RuntimeError("CUDA out of memory.")
        return real(self, tokens, *rest)

    monkeypatch.setattr(lm, "suffix", tight)
    summary = run(inputs.topk(0))
    assert summary.records[0].status is Status.OK
    for new, old in zip(summary.records[0].measurements, calm.records[0].measurements, strict=True):
        assert new.value == (None if old.value is None else pytest.approx(old.value, rel=1e-4, abs=1e-6))
