"""What a dry run says of inputs that cannot be used, without a language model and without the network."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saebench.errors import DataError
from saebench.passes import context as context_module
from saebench.runner import execute as execute_module
from saebench.runner.inputs import check_inputs
from saebench.runner.plan import Plan, make_plan
from saebench.runner.request import make_request
from tests.group_tasks import Either
from tests.runner.conftest import Inputs

Table = Callable[[int], str]


@pytest.fixture(autouse=True)
def _no_model_and_no_assets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("a dry run loads no language model")

    monkeypatch.setattr(execute_module, "load_lm", load)
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path / "home"))


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """``table(n)``: the reference of a file with ``n`` examples of each of two classes."""

    def write(n: int) -> str:
        path = tmp_path / f"{n}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = [(f"{word} {i}", word) for i in range(n) for word in ("yes", "no")]
            csv.writer(file).writerows([("prompt", "target"), *rows])
        return f"csv:{path}"

    return write


def plan(inputs: Inputs, parameters: dict[str, dict[str, Any]], *, with_core: bool = True, **options: Any) -> Plan:
    """A plan of the tasks that ``parameters`` names, and of ``core`` on a text that can be used."""
    parameters = {**({"core": {"text": inputs.text}} if with_core else {}), **parameters}
    asked = {"sae": ["baseline:neurons"], "preset": "standard", "tasks": list(parameters), "parameters": parameters}
    return make_plan(make_request({"model": inputs.model, **asked, **options}))


@pytest.mark.parametrize("task", ["concept_separability", "concept_suppression", "sparse_probing"])
def test_a_dataset_that_is_too_small_is_said(inputs: Inputs, table: Table, task: str):
    more: dict[str, dict[str, Any]] = {
        "concept_suppression": {"perplexity_text": inputs.text},
        "sparse_probing": {"regimes": []},  # one of them reads datasets of the asset
    }
    own = more.get(task, {})
    assert check_inputs(plan(inputs, {task: {"datasets": [table(900)], **own}})) == []
    [problem] = check_inputs(plan(inputs, {task: {"datasets": [table(900), table(15)], **own}}))
    assert problem.startswith(f"{task} is left out, because its inputs cannot be used: ")
    assert "15.csv" in problem


def test_texts_questions_and_languages_are_looked_at(inputs: Inputs, table: Table, tmp_path: Path):
    (tmp_path / "one.jsonl").write_text('{"text": "alone"}\n')
    (tmp_path / "other.jsonl").write_text('{"text": "two"}\n{"text": "texts"}\n')
    (tmp_path / "asked.jsonl").write_text('{"question": "a", "choices": ["b", "c"], "answer": 0}\n')
    asked = dict.fromkeys(("forget_questions", "retain_questions"), f"jsonl:{tmp_path / 'asked.jsonl'}")
    (tmp_path / "two.jsonl").write_text('{"en": "a", "fr": "b", "split": "train"}\n')
    problems = check_inputs(
        plan(
            inputs,
            {
                "dark_matter": {"text": f"jsonl:{tmp_path / 'one.jsonl'}"},
                "language_steering": {"parallel": f"jsonl:{tmp_path / 'two.jsonl'}"},
                "detox": {"toxic": [f"{table(2)}=yes"], "neutral": [f"{table(2)}=no"], "text": inputs.text},
                "unlearning": {
                    "forget_text": inputs.text,
                    "retain_texts": [f"jsonl:{tmp_path / 'other.jsonl'}"],
                    **asked,
                },
            },
        )
    )
    assert [problem.partition(" ")[0] for problem in problems] == [
        "dark_matter", "language_steering", "detox", "unlearning"
    ]  # fmt: skip
    assert all(" is left out, because its inputs cannot be used: " in problem for problem in problems)


def test_what_is_not_on_this_disk_is_not_fetched_and_not_called_unusable(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
):
    def read(ref: str) -> None:
        assert not ref.startswith("hf:"), "a dry run reads nothing from the hub"

    monkeypatch.setattr(context_module, "load_documents", read)
    hub, missing = check_inputs(plan(inputs, {"core": {"text": "hf:some/text"}, "sparse_probing": {}}))
    assert hub == "core: its inputs are checked when the run reads them from the hub"
    assert missing.startswith("sparse_probing: its inputs are checked when the run has fetched them (")
    assert "sae-probes" in missing


def test_a_plan_without_a_task_that_can_run_is_refused_as_the_run_would_refuse_it(inputs: Inputs, table: Table):
    own = {"datasets": [table(15)], "regimes": []}
    with pytest.raises(DataError, match=r"15\.csv"):
        check_inputs(plan(inputs, {"sparse_probing": own}, with_core=False))


def test_a_task_of_others_that_fails_is_left_out(inputs: Inputs, plug_in: None, monkeypatch: pytest.MonkeyPatch):
    def prepare(*_: Any) -> None:
        raise ZeroDivisionError("of their own")

    monkeypatch.setattr(Either, "prepare", prepare)
    [problem] = check_inputs(plan(inputs, {"either": {}}))
    assert problem == "either is left out, because its inputs cannot be used: ZeroDivisionError: of their own"
