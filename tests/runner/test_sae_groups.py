"""Runs on groups of SAEs: every group ends as a record, and what cannot be compared says why."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import saebench
from saebench.cards.registry import registry
from saebench.errors import DataError, NotApplicableError, UsageError
from saebench.progress import NullProgress
from saebench.results.record import Record, Status
from saebench.results.store import ResultStore
from saebench.results.table import from_records, to_wide
from saebench.runner import loading, plan
from saebench.runner.execute import RunSummary
from saebench.runner.loading import check_group
from saebench.sae.group_ref import parse_sae_group
from saebench.sae.hook import HookSite
from tests.conftest import WIDTH
from tests.group_tasks import Either
from tests.runner.conftest import SITE, Inputs, Run, numbers, save_topk

pytestmark = pytest.mark.usefixtures("plug_in")
ALONE: dict[str, Any] = {"tasks": ["widths"], "parameters": {}}
RANDOM = "random=baseline:random?d_sae=64&l0=8&seed=0,baseline:random?d_sae=64&l0=8&seed=1"


def pair(name: str, *refs: str) -> str:
    return f"{name}={','.join(refs)}"


def values(record: Record) -> dict[str, float | None]:
    return {number.metric: number.value for number in record.measurements}


def of_groups(summary: RunSummary) -> dict[str, Record]:
    return {r.sae.name: r for r in summary.records if r.sae.name.startswith("group:")}


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """SAEs in the order in which they are loaded."""
    seen: list[str] = []
    real = loading.load_sae
    monkeypatch.setattr(loading, "load_sae", lambda ref, context: (seen.append(str(ref)), real(ref, context))[1])
    return seen


def test_the_record_of_a_group(run: Run, inputs: Inputs):
    group = pair("mine", inputs.topk(0), inputs.topk(1), "baseline:neurons")
    [record] = run(sae_group=[group], **ALONE).records
    assert (record.status, record.error) == (Status.OK, "")
    assert values(record) == {"latents": 48 + 48 + WIDTH, "members": 3}
    assert record.identity.sae == group
    members = [r.identity.sae_fingerprint for r in run(inputs.topk(0), inputs.topk(1), "baseline:neurons").records]
    assert record.identity.sae_fingerprint == hashlib.sha256("|".join(sorted(members)).encode()).hexdigest()
    info = record.sae.model_dump()
    notes = info.pop("notes")
    assert sorted(notes["members"]) == sorted([inputs.topk(0), inputs.topk(1), "baseline:neurons"])
    assert info == {
        "name": "group:mine",
        "architecture": "mixed",
        "hook": SITE,
        "d_in": WIDTH,
        "d_sae": 48,
        "l0": None,
        "control": False,
    }


def test_a_group_of_controls_is_one(run: Run):
    [record] = run(sae_group=[RANDOM], **ALONE).records
    assert (record.sae.architecture, record.sae.d_sae, record.sae.control) == ("random", 64, True)


def test_the_order_of_members_makes_another_record(run: Run, inputs: Inputs):
    ids = {
        run(sae_group=[pair("g", *refs)], **ALONE).records[0].record_id
        for refs in ((inputs.topk(0), inputs.topk(1)), (inputs.topk(1), inputs.topk(0)))
    }
    assert len(ids) == 2


def test_what_cannot_be_compared_says_why_and_the_others_run_on(run: Run, inputs: Inputs, tmp_path: Path):
    twin = f"sae_lens:{shutil.copytree(inputs.topk(0).removeprefix('sae_lens:'), tmp_path / 'twin')}"
    cut = save_topk(tmp_path / "cut") / "sae_weights.safetensors"
    cut.write_bytes(cut.read_bytes()[:-100])
    elsewhere = "baseline:neurons?hook=blocks.0.hook_resid_post"
    groups = {
        "twins": pair("twins", inputs.topk(0), twin),
        "hooks": pair("hooks", inputs.topk(0), elsewhere),
        "needs": pair("needs", inputs.topk(0), inputs.factory("tiny")),
        "broken": pair("broken", inputs.topk(0), f"sae_lens:{cut.parent}"),
        "stranger": pair("stranger", inputs.factory("broken"), inputs.topk(0)),
        "good": pair("good", inputs.topk(0), inputs.topk(1)),
    }
    summary = run(sae_group=list(groups.values()), **ALONE)
    found = {name.removeprefix("group:"): record for name, record in of_groups(summary).items()}
    expected = {
        "twins": (Status.NOT_APPLICABLE, f"Group twins holds one SAE twice: {inputs.topk(0)} and {twin} have the same"),
        "hooks": (Status.NOT_APPLICABLE, f"{inputs.topk(0)} takes {WIDTH} dimensions at {SITE}, {elsewhere} {WIDTH}"),
        "needs": (Status.NOT_APPLICABLE, f"widths needs linear_decoder, which {inputs.factory('tiny')} does not have."),
        "broken": (Status.FAILED, f"sae_lens:{cut.parent}, a member of group broken, cannot be loaded: "),
        "stranger": (Status.FAILED, "a member of group stranger, cannot be loaded: "),
        "good": (Status.OK, ""),
    }
    for name, (status, message) in expected.items():
        assert found[name].status is status, (name, found[name].error)
        assert message in found[name].error
        assert "\n" not in found[name].error
    assert "ValueError: no such checkpoint" in found["stranger"].error
    assert found["hooks"].sae.hook == f"{SITE}+blocks.0.hook_resid_post"
    assert found["twins"].sae.hook == SITE
    assert (found["broken"].identity.sae_fingerprint, found["broken"].sae.architecture) == ("", "")
    again = run(sae_group=list(groups.values()), **ALONE)
    assert again.new == 0
    assert numbers(again.records) == numbers(summary.records)

    save_topk(cut.parent, seed=5)
    mended = of_groups(run(sae_group=list(groups.values()), **ALONE))["group:broken"]
    assert mended.status is Status.OK
    assert [r.status for r in ResultStore(summary.out) if r.sae.name == "group:broken"] == [Status.OK]


def test_members_of_different_widths():
    group = parse_sae_group("g=baseline:pca,baseline:neurons")
    made: Any = [SimpleNamespace(hook=HookSite.at(SITE), d_in=width, fingerprint=lambda: "f") for width in (16, 32)]
    with pytest.raises(NotApplicableError, match=r"baseline:pca takes 16 dimensions at .*, baseline:neurons 32 at"):
        check_group(group, tuple(made))


def test_a_task_of_both_kinds(run: Run, inputs: Inputs):
    group = pair("sizes", "baseline:neurons", inputs.topk(0))
    summary = run(inputs.topk(1), "baseline:neurons", sae_group=[group], tasks=["either", "core"])
    assert [(r.identity.task, r.sae.name) for r in summary.records] == [
        ("either", inputs.topk(1)),
        ("core", inputs.topk(1)),
        ("either", "baseline:neurons"),
        ("core", "baseline:neurons"),
        ("either", "group:sizes"),
    ]
    assert summary.count(Status.OK) == 5
    assert values(summary.records[4]) == {"ratio": 48 / WIDTH}
    tables = to_wide(from_records(summary.records), registry().table_columns())
    shown = [(list(table.cells.columns), list(table.cells["SAE"])) for table in tables]
    assert shown[1:] == [
        (["SAE", "width"], [inputs.topk(1), "baseline:neurons (control)"]),
        (["SAE", "ratio"], ["group:sizes"]),
    ]


def test_each_sae_is_loaded_once_and_few_are_held(
    run: Run, inputs: Inputs, loads: list[str], monkeypatch: pytest.MonkeyPatch
):
    held: list[int] = []
    keep = loading.Loader.keep
    monkeypatch.setattr(
        loading.Loader, "keep", lambda self, keys: (keep(self, keys), held.append(len(self._loaded)))[0]
    )
    saes = [inputs.topk(seed) for seed in range(5)]
    groups = [pair("ends", saes[0], saes[4]), pair("middle", saes[1], saes[2])]
    summary = run(*saes, sae_group=groups, tasks=["either"], parameters={})
    ends, middle = [saes[0], saes[4], groups[0]], [saes[1], saes[2], groups[1]]
    assert [r.identity.sae for r in summary.records] == [*ends, *middle, saes[3]]
    assert loads == [saes[0], saes[4], saes[1], saes[2], saes[3]]
    assert held == [0, 1, 2, 0, 1, 2, 0]


def test_an_sae_is_the_same_for_every_text(run: Run, inputs: Inputs, loads: list[str], monkeypatch: pytest.MonkeyPatch):
    real, real_plan = loading.Loader._load, plan._task_plan
    texts: list[str] = []
    monkeypatch.setattr(loading.Loader, "_load", lambda self, key: (texts.append(key.text), real(self, key))[1])
    monkeypatch.setattr(
        plan,
        "_task_plan",
        lambda request, name, *rest: replace(
            real_plan(request, name, *rest), calibration_text=inputs.text if name == "core" else f"{inputs.text}:text"
        ),
    )
    run(inputs.topk(0), "baseline:pca?k=3", sae_group=[RANDOM], tasks=["core", "either"])
    assert loads[:3] == [inputs.topk(0), "baseline:pca?k=3", "baseline:pca?k=3"]
    assert texts == ["", inputs.text, *[f"{inputs.text}:text"] * 3]


def test_a_second_run_computes_nothing_and_fits_nothing(run: Run, inputs: Inputs, loads: list[str]):
    groups = [pair("good", inputs.topk(0), inputs.topk(1)), RANDOM]
    first = run(sae_group=groups, **ALONE)
    loads.clear()
    second = run(sae_group=groups, **ALONE)
    assert (first.new, second.new) == (2, 0)
    assert numbers(first.records) == numbers(second.records)
    assert loads == [inputs.topk(0), inputs.topk(1)]  # for their fingerprints
    assert run(sae_group=groups, overwrite="always", **ALONE).new == 2
    assert run(sae_group=groups, **{**ALONE, "seed": [1]}).new == 2


def test_what_is_left_out_is_told(run: Run, inputs: Inputs, tmp_path: Path):
    lines: list[str] = []
    progress = NullProgress()
    progress.log = lines.append  # type: ignore[method-assign]
    summary = run("baseline:neurons", sae_group=[RANDOM], progress=progress)
    assert summary.count(Status.OK) == 1
    assert lines[0] == "--sae-group is ignored: no task of this run compares SAEs with each other"


# --- what a task reads


def test_datasets_are_part_of_the_identity(run: Run, inputs: Inputs, monkeypatch: pytest.MonkeyPatch):
    first = run("baseline:neurons", tasks=["either", "core"])
    either, core = first.records
    assert either.identity.data == {"csv:labels.csv": Either.content}
    assert list(core.identity.data) == [inputs.text]
    monkeypatch.setattr(Either, "content", "22" * 32)
    second = run("baseline:neurons", tasks=["either", "core"])
    assert second.new == 1
    assert second.records[0].record_id != either.record_id


def test_bad_inputs_of_every_task_stop_the_run_before_any_sae_is_loaded(
    run: Run, inputs: Inputs, loads: list[str], monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(UsageError, match="times=13 cannot"):
        run(inputs.topk(0), tasks=["either"], parameters={"either": {"times": 13}})
    monkeypatch.setattr(Either, "data", unreadable)
    with pytest.raises(DataError, match="is empty"):
        run(inputs.topk(0), tasks=["either"], parameters={})
    assert loads == []


def test_a_task_with_bad_inputs_does_not_stop_the_others(run: Run, inputs: Inputs, monkeypatch: pytest.MonkeyPatch):
    """Its jobs become failed records with the reason, and ok ones take their place once the inputs are fixed."""
    with monkeypatch.context() as patch:
        patch.setattr(Either, "data", unreadable)
        first = run(inputs.topk(0), tasks=["core", "either"])
    core, either = first.records
    assert (core.status, either.status) == (Status.OK, Status.FAILED)
    assert (either.error, either.identity.data) == ("labels.csv is empty.", {})
    second = run(inputs.topk(0), tasks=["core", "either"])
    assert (second.new, [record.status for record in second.records]) == (1, [Status.OK, Status.OK])
    assert {record.status for record in ResultStore(second.out)} == {Status.OK}


def unreadable(*_: Any) -> Any:
    raise DataError("labels.csv is empty.")


def test_from_python(run: Run, inputs: Inputs, tmp_path: Path):
    options = {**inputs.options, **ALONE, "out": tmp_path / "results", "progress": NullProgress()}
    frame = saebench.run(sae_group=RANDOM, **options)
    assert list(frame["sae"]) == ["group:random"] * 2
    assert list(frame["metric"]) == ["latents", "members"]
    assert frame["l0"].isna().all()
