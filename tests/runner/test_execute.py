"""Every job ends as a record, and no job ends another."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from saebench.cards.registry import registry
from saebench.errors import DataError, ModelError, SaebenchError, UsageError
from saebench.evaluation import SAETask, Settings, TaskOutput
from saebench.passes.context import TaskContext
from saebench.progress import NullProgress
from saebench.results.record import Measurement, Status
from saebench.results.store import ResultStore
from saebench.runner import execute as execute_module
from saebench.runner import loading, plan
from saebench.sae.protocol import SAE, Capability
from saebench.sae.registry import scheme_registry
from saebench.tasks.core.settings import CoreSettings
from saebench.tasks.core.task import CoreTask
from tests.conftest import WIDTH
from tests.group_tasks import card, register_tasks
from tests.runner.conftest import SITE, Inputs, Run, numbers, save_topk, write_text


class Log(NullProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("this must not be called")


# --- failures


def _truncated(folder: Path) -> str:
    file = save_topk(folder) / "sae_weights.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    return f"sae_lens:{folder}"


Bad = Callable[[Inputs, Path], str]
BAD: dict[str, tuple[Bad, str, str]] = {
    "NaN weights": (lambda i, p: f"sae_lens:{save_topk(p / 'nan', nan=True)}", "SAELoadError", "NaN or Inf"),
    "truncated": (lambda i, p: _truncated(p / "cut"), "SAELoadError", "is truncated"),
    "d_in": (
        lambda i, p: f"sae_lens:{save_topk(p / 'narrow', d_in=16)}",
        "HookMismatchError",
        f"expects 16 dimensions at {SITE}, but the language model has {WIDTH}",
    ),
    "hook's layer": (
        lambda i, p: f"sae_lens:{save_topk(p / 'high', site='blocks.9.hook_resid_post')}",
        "HookMismatchError",
        "has 3 blocks, 0 to 2",
    ),
    "hook's name": (
        lambda i, p: i.factory("tiny", hook="blocks.1.hook_resid_pos"),
        "HookMismatchError",
        "Did you mean",
    ),
    "factory raises": (lambda i, p: i.factory("broken"), "SAELoadError", "ValueError: no such checkpoint"),
    "factory exits": (lambda i, p: i.factory("leaves"), "SAELoadError", "ended the program (exit status 3)"),
    "factory missing": (lambda i, p: i.factory("nothing"), "SAELoadError", "nothing"),
    "factory's options": (lambda i, p: i.factory("tiny", depth=3), "SAELoadError", "depth"),
    "no SAE": (lambda i, p: i.factory("no_sae"), "SAELoadError", "gave an object of type object, which lacks"),
    "no fingerprint": (lambda i, p: i.factory("nameless"), "SAELoadError", "fingerprint() must give a text"),
    "no description": (lambda i, p: i.factory("unspeakable"), "ValidationError", "architecture"),
    "NaN at run time": (lambda i, p: i.factory("tiny", does="nans"), "SaebenchError", "latents hold NaN or Inf"),
    "encode raises": (
        lambda i, p: i.factory("tiny", does="raise"),
        "SaebenchError",
        "RuntimeError: the sky is falling",
    ),
    "out of memory": (lambda i, p: i.factory("tiny", does="memory"), "SaebenchError", "Out of memory"),
    "components": (lambda i, p: "baseline:pca?k=1000", "SAELoadError", "choose fewer"),
}


def test_a_bad_sae_becomes_a_failed_record_and_the_others_run_on(run: Run, inputs: Inputs, tmp_path: Path):
    refs = {name: make(inputs, tmp_path) for name, (make, _, _) in BAD.items()}
    order = [*refs.values(), inputs.topk(0)]
    summary = run(*order)
    assert [r.identity.sae for r in summary.records] == order
    by_ref = dict(zip(order, summary.records, strict=True))
    for name, (_, kind, message) in BAD.items():
        record = by_ref[refs[name]]
        assert (record.status, record.error_type) == (Status.FAILED, kind), (name, record.error)
        assert message in record.error, (name, record.error)
        assert "\n" not in record.error
        assert record.measurements == []
    assert by_ref[inputs.topk(0)].status is Status.OK
    assert (summary.count(Status.FAILED), summary.count(Status.OK), summary.new) == (len(BAD), 1, len(BAD) + 1)
    stored = list(ResultStore(summary.out))
    assert numbers(stored) == numbers(summary.records)
    assert not [path for path in summary.out.rglob("*") if path.name.startswith(".tmp")]

    again = run(*order)  # what could not be loaded is tried again; nothing is new
    assert again.new == 0
    assert numbers(again.records) == numbers(summary.records)
    assert [r.provenance for r in again.records] == [r.provenance for r in summary.records]


def test_what_ended_a_job_is_told_while_the_others_run(run: Run, inputs: Inputs):
    log = Log()
    run(inputs.factory("broken"), inputs.topk(0), progress=log)
    assert any(line.startswith("[1/2] core python:") and "no such checkpoint" in line for line in log.lines)
    assert any(line.startswith("[2/2] core sae_lens:") for line in log.lines)


def test_a_mended_sae_replaces_its_failure(run: Run, tmp_path: Path):
    folder = tmp_path / "sae"
    ref = _truncated(folder)
    assert run(ref).records[0].status is Status.FAILED
    save_topk(folder)
    summary = run(ref)
    assert (summary.records[0].status, summary.new) == (Status.OK, 1)
    assert [r.status for r in ResultStore(summary.out)] == [Status.OK]


def test_an_sae_whose_weights_changed_is_another(run: Run, tmp_path: Path):
    folder = tmp_path / "sae"
    save_topk(folder, seed=0)
    first = run(f"sae_lens:{folder}")
    save_topk(folder, seed=1)
    second = run(f"sae_lens:{folder}")
    assert second.new == 1
    assert first.records[0].record_id != second.records[0].record_id
    assert len(list(ResultStore(second.out))) == 2


def test_saes_of_another_package(run: Run, inputs: Inputs, monkeypatch: pytest.MonkeyPatch):
    points = [EntryPoint("mine", "tests.sae.test_registry:MINE", "saebench.saes")]
    with monkeypatch.context() as patch:
        patch.setattr("saebench.sae.registry.entry_points", lambda group: points)
        scheme_registry.cache_clear()
        summary = run(
            f"mine:first?width={WIDTH}", f"mine:nothing?width={WIDTH}", "mine:nothing?width=5", inputs.topk(0)
        )
    scheme_registry.cache_clear()
    assert [r.status for r in summary.records] == [Status.OK, Status.OK, Status.FAILED, Status.OK]
    assert [r.sae.control for r in summary.records] == [False, True, True, False]
    assert [r.sae.hook for r in summary.records] == [SITE, SITE, "", SITE]
    assert "expects 5 dimensions" in summary.records[2].error


# --- a task of a stranger


class Stranger(SAETask[Settings]):
    """Needs what a tiny SAE lacks, or misbehaves."""

    name: ClassVar[str] = "stranger"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.LINEAR_DECODER})
    settings = Settings
    card_path: ClassVar[str] = ""
    output: ClassVar[Callable[[], Any]] = lambda: TaskOutput([Measurement(metric="fvu", value=1.0)])

    def run(self, sae: SAE, context: TaskContext, settings: Settings) -> TaskOutput:
        return type(self).output()


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Stranger]]:
    with monkeypatch.context() as patch:
        register_tasks(patch, tmp_path, {Stranger: card("stranger", "sae", ["fvu"], needs=("linear_decoder",))})
        yield Stranger
    registry.cache_clear()


def test_an_sae_without_the_capability_is_not_applicable(run: Run, inputs: Inputs, stranger: type[Stranger]):
    saes = (inputs.factory("tiny"), inputs.topk(0))
    options: dict[str, Any] = {"tasks": ["stranger", "core"]}
    summary = run(*saes, **options)
    status = {(r.identity.sae, r.identity.task): r.status for r in summary.records}
    assert status == {
        (saes[0], "stranger"): Status.NOT_APPLICABLE,
        (saes[0], "core"): Status.OK,
        (saes[1], "stranger"): Status.OK,
        (saes[1], "core"): Status.OK,
    }
    refused = summary.records[0]
    assert "stranger needs linear_decoder, which python:" in refused.error
    assert (refused.sae.architecture, refused.sae.d_sae, refused.sae.hook) == ("tiny", WIDTH, SITE)
    # An answer, not a failure: asked again by `always` only.
    assert run(*saes, **options, overwrite="failed").new == 0
    assert run(*saes, **options, overwrite="always").new == 4


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            lambda: TaskOutput([Measurement(metric="fvu", value=1.0, contributions="fvu")]),
            "but no lists of numbers 'fvu.num' and 'fvu.den'",
        ),
        (lambda: TaskOutput([], arrays={"x": np.array([object()])}), "Python objects"),
        (lambda: TaskOutput([], counts={"tokens": "many"}), "counts"),  # type: ignore[dict-item]
        (lambda: None, "NoneType"),
        (lambda: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_task_that_misbehaves_fails_alone(
    run: Run,
    inputs: Inputs,
    stranger: type[Stranger],
    monkeypatch: pytest.MonkeyPatch,
    output: Callable[[], Any],
    message: str,
):
    monkeypatch.setattr(Stranger, "output", output)
    summary = run(inputs.topk(0), tasks=["stranger", "core"])
    assert [r.status for r in summary.records] == [Status.FAILED, Status.OK]
    assert message in summary.records[0].error
    assert len(list(ResultStore(summary.out))) == 2


def test_a_fitted_control_is_fitted_to_the_text_of_each_task(
    run: Run, inputs: Inputs, stranger: type[Stranger], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """`stranger` has no text of its own and takes the default; `core` was told another."""
    other = write_text(tmp_path / "other.jsonl", seed=9)
    real = plan._task_plan

    def elsewhere(request: Any, name: str, *rest: Any) -> Any:
        planned = real(request, name, *rest)
        return replace(planned, calibration_text=other) if name == "stranger" else planned

    monkeypatch.setattr(plan, "_task_plan", elsewhere)
    read: list[str] = []
    calibration = TaskContext.calibration
    monkeypatch.setattr(
        TaskContext, "calibration", lambda self, ref, site: (read.append(ref), calibration(self, ref, site))[1]
    )
    summary = run("baseline:pca?k=4", tasks=["stranger", "core"])
    assert [r.status for r in summary.records] == [Status.OK, Status.OK]
    assert read == [other, inputs.text]


# --- what stops every job is said once, before any SAE is loaded


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "no usable document"),
        ('{"text": "  "}\n{"text": ""}', "no usable document"),
        ('{"text": "' + "abc " * 500 + '"}', "has one document"),
        ('{"text": "abc"}\n{"text": "abd"}\n{"text": "abe"}', "too few for two sequences of 16"),
        ('{"text": "' + "é" * 300 + '"}\n{"text": "' + "ü" * 310 + '"}', "special tokens only"),
    ],
)
def test_a_text_that_cannot_be_used(
    run: Run, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, message: str
):
    monkeypatch.setattr(loading, "load_sae", never)
    (tmp_path / "text.jsonl").write_text(lines, "utf-8")
    with pytest.raises(DataError, match=message):
        run(inputs.topk(0), "baseline:pca", text=f"jsonl:{tmp_path / 'text.jsonl'}")
    assert list(ResultStore(tmp_path / "results")) == []


def test_a_text_too_short_for_calibration_fails_only_what_is_fitted(run: Run, inputs: Inputs, tmp_path: Path):
    text = write_text(tmp_path / "short.jsonl", n=5, length=60)
    summary = run("baseline:pca?k=2", inputs.topk(0), "baseline:neurons", text=text)
    assert [r.status for r in summary.records] == [Status.FAILED, Status.OK, Status.OK]
    assert "for their calibration" in summary.records[0].error


def test_a_context_longer_than_the_model(run: Run, inputs: Inputs, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loading, "load_sae", never)
    with pytest.raises(UsageError, match="64 positions; context_length=65"):
        run(inputs.topk(0), parameters={"core": {"context_length": 65}})


def test_a_folder_that_cannot_be_written_is_said_before_the_model_loads(
    run: Run, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(execute_module, "load_lm", never)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="Cannot write results into"):
        run(inputs.topk(0), out=tmp_path / "file" / "results")


@pytest.mark.parametrize(
    ("option", "value"), [("device", "cuda:99"), ("device", "gpu"), ("dtype", "float16"), ("dtype", "flaot32")]
)
def test_a_device_or_dtype_that_is_not_there(
    run: Run, inputs: Inputs, monkeypatch: pytest.MonkeyPatch, option: str, value: str
):
    monkeypatch.setattr(execute_module, "load_lm", never)
    with pytest.raises(UsageError, match=value):
        run(inputs.topk(0), **{option: value})


def test_a_folder_that_is_no_model(run: Run, inputs: Inputs, tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="has no weights"):
        run(inputs.topk(0), model=str(tmp_path))


def test_a_full_disk_ends_the_run_and_leaves_no_half_record(
    run: Run, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(1)
        if len(calls) > 4:  # arrays, folder, JSON and folder of the first record
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr("saebench.atomic.os.fsync", full)
    with pytest.raises(SaebenchError, match=r"No space left on device.*run the same command again"):
        run(inputs.topk(0), inputs.topk(1), inputs.topk(2))
    out = tmp_path / "results"
    assert [r.identity.sae for r in ResultStore(out)] == [inputs.topk(0)]
    assert sorted(path.suffix for path in out.rglob("*") if path.is_file()) == [".json", ".npz"]
    monkeypatch.undo()


# --- overwrite


def test_overwrite(run: Run, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saes = (inputs.topk(0), inputs.topk(1), "baseline:neurons")
    real, broken = CoreTask.run, [saes[1]]

    def flaky(self: CoreTask, sae: SAE, context: TaskContext, settings: CoreSettings) -> TaskOutput:
        if sae.name in broken:
            raise RuntimeError("bad luck")
        return real(self, sae, context, settings)

    monkeypatch.setattr(CoreTask, "run", flaky)
    first = run(*saes)
    assert [r.status for r in first.records] == [Status.OK, Status.FAILED, Status.OK]
    missing = run(*saes)
    assert (missing.new, missing.count(Status.FAILED)) == (0, 1)
    broken.clear()
    failed = run(*saes, overwrite="failed")
    assert [r.status for r in failed.records] == [Status.OK] * 3
    assert failed.new == 1
    assert len(list(ResultStore(failed.out))) == 3
    always = run(*saes, overwrite="always")
    assert always.new == 3
    assert numbers(always.records) == numbers(failed.records)
    assert all(
        new.provenance.created > old.provenance.created for new, old in zip(always.records, failed.records, strict=True)
    )


@pytest.mark.parametrize("failure", [RuntimeError("bad luck"), "not applicable"])
def test_a_failure_never_takes_the_place_of_numbers(
    run: Run, inputs: Inputs, monkeypatch: pytest.MonkeyPatch, failure: Any
):
    first = run(inputs.topk(0))
    files = {path: path.read_bytes() for path in first.out.rglob("*") if path.is_file()}

    def fail(self: Any, *_: Any) -> Any:
        raise execute_module.NotApplicableError("no") if failure == "not applicable" else failure

    monkeypatch.setattr(CoreTask, "run", fail)
    log = Log()
    second = run(inputs.topk(0), overwrite="always", progress=log)
    [told] = second.records
    assert told.status is (Status.NOT_APPLICABLE if failure == "not applicable" else Status.FAILED)
    assert "The ok record of an earlier run is kept." in told.error
    assert second.new == 1  # work was done: the summary must not say "nothing to do"
    assert {path: path.read_bytes() for path in first.out.rglob("*") if path.is_file()} == files
    monkeypatch.undo()
    [kept] = ResultStore(first.out)
    assert numbers([kept]) == numbers(first.records)
    assert "fvu.num" in ResultStore(first.out).arrays(kept)
