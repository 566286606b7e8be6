"""The same input gives the same numbers and the same record, however a user writes where its files lie."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saebench.cards.registry import registry
from saebench.results.identity import record_id
from saebench.results.paired import mismatches
from saebench.results.record import Arrays, Record, Status
from saebench.results.store import ResultStore
from saebench.runner import execute as execute_module
from saebench.runner.execute import execute
from saebench.runner.plan import make_plan
from saebench.runner.request import make_request
from tests.runner.spellings import CONTROL, SAES, Spelling, make_project, options, parameters, spellings

TASKS = tuple(name for name in registry().names() if registry().card(name).model == "language")
OTHER_SITE = "blocks.0.hook_resid_post"
Measured = dict[tuple[str, str], tuple[Record, Arrays]]  # by task and kind of SAE
Measure = Callable[..., Measured]


@pytest.fixture(scope="module")
def ways(tiny_gpt2_dir: Path, tiny_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Spelling]:
    folder = tmp_path_factory.mktemp("same")
    project = make_project(folder / "project", tiny_gpt2_dir, tiny_llama_dir)
    copy, link = folder / "elsewhere" / "copied", folder / "link"
    shutil.copytree(project, copy)
    link.symlink_to(project)
    return spellings(project, copy, link)


@pytest.fixture(scope="module")
def measure(ways: dict[str, Spelling], tmp_path_factory: pytest.TempPathFactory) -> Measure:
    """``measure("relative")``: every task on files that are spelt so, once for each set of arguments."""
    known: dict[str, Measured] = {}
    real = execute_module.load_lm
    loaded: dict[str, Any] = {}

    def load(ref: Any, **more: Any) -> Any:
        """Loading takes most of a tiny run; the name of the model stays that of the request."""
        lm = loaded.setdefault("lm", real(ref, **more))
        lm.name = str(ref)
        return lm

    def run(
        way: str,
        tasks: tuple[str, ...] = TASKS,
        *,
        backwards: bool = False,
        control: bool = True,
        group: str = "trio",
        changed: dict[str, Any] | None = None,
    ) -> Measured:
        key = repr((way, tasks, backwards, control, group, changed))
        if key not in known:
            spelling, out = ways[way], tmp_path_factory.mktemp("out")
            refs = [f"sae_lens:{spelling.write(Path('saes') / name)}" for name in SAES]
            each = parameters(spelling.write) | (changed or {})
            step = -1 if backwards else 1
            layers = "joint_splice" in tasks
            if backwards:  # its SAEs belong to the members in the order of the list
                each["seed_stability"] = each["seed_stability"] | {"at_init": each["seed_stability"]["at_init"][::-1]}
            request: dict[str, Any] = {
                **options(spelling.write),
                "tasks": list(tasks),
                "parameters": {task: each[task] for task in tasks},
                "sae": [refs[0], CONTROL][::step] if control else refs[:1],
                "sae_group": [
                    f"{group}={','.join(refs[::step])}",
                    *([f"layers={','.join([f'{refs[0]}?hook={OTHER_SITE}', refs[1]][::step])}"] if layers else []),
                ],
                "out": out,
            }
            before = Path.cwd()
            os.chdir(spelling.start)
            execute_module.load_lm = load
            try:
                summary = execute(make_plan(make_request(request)))
            finally:
                execute_module.load_lm = real
                os.chdir(before)
            assert not [(r.identity.task, r.error) for r in summary.records if r.status is Status.FAILED]
            store = ResultStore(out)
            known[key] = {
                (record.identity.task, _kind(record)): (record, store.arrays(record))
                for record in summary.records
                # One group is for the task that takes SAEs of several hook points, and the other for all others.
                if not layers
                or (record.sae.name == "group:layers") == (record.identity.task == "joint_splice")
                or not record.sae.name.startswith("group:")
            }
        return known[key]

    return run


def _kind(record: Record) -> str:
    if record.sae.name.startswith("group:"):
        return "group"
    return "control" if record.sae.control else "sae"


def contents(measured: tuple[Record, Arrays]) -> dict[str, Any]:
    """Everything that was measured, with names in place of the references of SAEs and models."""
    record, arrays = measured

    def plain(text: str) -> str:
        return re.sub(r'(?<=")[^"]*fluency(?=")', "fluency", re.sub(r'sae_lens:(?:[^ ~>,"]*/)?saes/', "", text))

    rows = {(m.metric, plain(m.subset)): plain(m.model_dump_json()) for m in record.measurements}
    kept = {plain(name): values for name, values in arrays.items()}
    assert (len(rows), len(kept)) == (len(record.measurements), len(arrays))
    return {"rows": rows, "arrays": kept, "counts": record.counts, "notes": plain(json.dumps(record.notes))}


def assert_same(one: tuple[Record, Arrays], other: tuple[Record, Arrays]) -> None:
    """Assert that two records hold the same numbers, bit for bit, and the same arrays."""
    assert one[0].status is other[0].status
    a, b = contents(one), contents(other)
    assert a["rows"] == b["rows"]
    assert a["counts"] == b["counts"]
    assert a["notes"] == b["notes"]
    assert a["arrays"].keys() == b["arrays"].keys()
    for name, values in a["arrays"].items():
        np.testing.assert_array_equal(values, b["arrays"][name], err_msg=name)


def test_the_runs_measure_something(measure: Measure):
    """Otherwise the comparisons below would say nothing."""
    measured = measure("absolute")
    assert {task for task, _ in measured} == set(TASKS)
    for task in TASKS:
        values = [m.value for (name, _), (record, _) in measured.items() if name == task for m in record.measurements]
        assert len({value for value in values if value is not None}) > 5, task
        assert any(record.status is Status.OK for (name, _), (record, _) in measured.items() if name == task), task


@pytest.mark.parametrize("way", ["relative", "dotted", "around", "symlink", "copy"])
@pytest.mark.parametrize("task", TASKS)
def test_every_spelling_gives_the_same_numbers_and_ids(measure: Measure, task: str, way: str):
    reference, spelt = measure("absolute"), measure(way)
    assert reference.keys() == spelt.keys()
    for key in (key for key in reference if key[0] == task):
        assert_same(reference[key], spelt[key])
        one, other = reference[key][0].identity, spelt[key][0].identity
        # The names under which the model and the SAE are listed are part of the id.
        names = {"model": one.model, "sae": one.sae}
        assert record_id(other.model_copy(update=names)) == reference[key][0].record_id
        assert one.parameters != other.parameters or way == "absolute"
        assert mismatches(reference[key][0], spelt[key][0]) == []


@pytest.mark.parametrize("task", TASKS)
def test_the_order_of_saes_and_of_group_members_does_not_matter(measure: Measure, task: str):
    forward, backward = measure("absolute"), measure("absolute", backwards=True)
    for key in (key for key in forward if key[0] == task):
        assert_same(forward[key], backward[key])


@pytest.mark.parametrize("task", TASKS)
def test_other_tasks_in_the_run_do_not_matter(measure: Measure, task: str):
    together, alone = measure("absolute"), measure("absolute", tasks=(task,))
    assert alone.keys() == {key for key in together if key[0] == task}
    for key in alone:
        assert_same(together[key], alone[key])
        assert together[key][0].record_id == alone[key][0].record_id


@pytest.mark.parametrize("task", TASKS)
def test_other_saes_in_the_run_do_not_matter(measure: Measure, task: str):
    with_control, without = measure("absolute"), measure("absolute", control=False)
    for key in (key for key in without if key[0] == task):
        assert_same(with_control[key], without[key])


def test_the_name_of_a_group_does_not_matter(measure: Measure):
    one, other = measure("absolute"), measure("absolute", tasks=("dark_matter", "seed_stability"), group="another")
    for key in (key for key in other if key[1] == "group"):
        assert_same(one[key], other[key])
        assert one[key][0].identity.sae_fingerprint == other[key][0].identity.sae_fingerprint


LISTS = {
    "sparse_probing": ("datasets",),
    "concept_separability": ("datasets",),
    "concept_suppression": ("datasets",),
    "unlearning": ("retain_texts",),
    "detox": ("toxic", "neutral"),
    "language_steering": ("languages",),
}


@pytest.mark.parametrize("task", LISTS)
def test_the_order_of_a_list_does_not_matter(measure: Measure, ways: dict[str, Spelling], task: str):
    settings = parameters(ways["absolute"].write)[task]
    one = measure("absolute", tasks=(task,), control=False, changed={task: settings})
    turned = {name: settings[name][::-1] for name in LISTS[task]}
    other = measure("absolute", tasks=(task,), control=False, changed={task: settings | turned})
    for key in one:
        assert_same(one[key], other[key])


@pytest.mark.parametrize("task", ["sparse_probing", "concept_separability"])
def test_the_numbers_of_a_dataset_do_not_depend_on_the_others(measure: Measure, ways: dict[str, Spelling], task: str):
    settings = parameters(ways["absolute"].write)[task]
    alone = settings | {"datasets": settings["datasets"][:1]}
    together = measure("absolute")[task, "sae"][0]
    single = measure("absolute", tasks=(task,), control=False, changed={task: alone})[task, "sae"][0]

    def of_letters(record: Record) -> dict[tuple[str, str], Any]:
        return {
            (m.metric, m.subset): m.model_dump() for m in record.measurements if m.subset.split("/")[0] == "letters"
        }

    assert of_letters(single)
    assert of_letters(single) == of_letters(together)


def test_a_source_that_is_named_in_two_ways_is_one_source(measure: Measure, ways: dict[str, Spelling]):
    absolute, dotted = (parameters(ways[way].write)["detox"] for way in ("absolute", "dotted"))
    mixed = absolute | {"neutral": [*absolute["neutral"][:2], dotted["neutral"][2]]}
    one = measure("absolute", tasks=("detox",), control=False)
    other = measure("absolute", tasks=("detox",), control=False, changed={"detox": mixed})
    assert_same(one["detox", "sae"], other["detox", "sae"])
    assert one["detox", "sae"][0].record_id == other["detox", "sae"][0].record_id
