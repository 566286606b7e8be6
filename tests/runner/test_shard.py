"""Shards: together they are the whole plan, each job in one of them, with the numbers of the whole run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.errors import UsageError
from saebench.runner.plan import Plan, make_plan
from saebench.runner.request import make_request
from saebench.runner.shard import Shard, jobs_of, parse_shard
from tests.runner.conftest import Inputs, Run, numbers


def plan(saes: int, seeds: int, groups: int = 0, **options: object) -> Plan:
    names = [f"baseline:random?d_sae={64 + i}&l0=4&hook=blocks.1.hook_resid_post" for i in range(saes)]
    some = [f"group-{i}={names[i % saes]},{names[(i + 1) % saes]}" for i in range(groups)]
    return make_plan(
        make_request(
            {
                "tasks": ["core", "concept_separability", *(["seed_stability"] if groups else [])],
                "sae": names,
                "sae_group": some or None,
                "seed": list(range(seeds)),
                **options,
            }
        )
    )


@given(st.integers(2, 9), st.integers(1, 3), st.integers(0, 3), st.integers(1, 12))
def test_shards_together_are_the_plan(saes: int, seeds: int, groups: int, count: int) -> None:
    whole = plan(saes, seeds, groups).jobs
    parts = [jobs_of(Shard(index, count), whole) for index in range(count)]
    assert tuple(job for part in parts for job in part) == whole
    homes: dict[object, set[int]] = {}
    for index, part in enumerate(parts):
        for job in part:
            homes.setdefault((job.seed, job.subject), set()).add(index)
    assert all(len(home) == 1 for home in homes.values())  # an SAE is loaded once


@pytest.mark.parametrize("count", [2, 3, 7])
def test_shards_are_about_equally_large(count: int) -> None:
    whole = plan(21, 2).jobs
    sizes = [len(jobs_of(Shard(index, count), whole)) for index in range(count)]
    assert max(sizes) - min(sizes) <= 2  # the two tasks of one SAE


def test_a_request_takes_its_part_and_says_so() -> None:
    whole, part = plan(4, 1), plan(4, 1, shard="1/4")
    assert part.jobs == whole.jobs[2:4]
    assert part.saes == whole.saes  # on which the hook point of controls depends
    assert "shard 1/4: 2 of 8 jobs" in part.notes


@pytest.mark.parametrize(
    ("text", "says"),
    [("3", "I/N"), ("-1/3", "I/N"), ("a/b", "I/N"), ("", "I/N"), ("3/3", "2/3"), ("0/0", "0/0"), ("²/3", "I/N")],
)
def test_what_is_no_shard_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_shard(text)


def test_shards_give_the_records_of_the_whole_run(run: Run, inputs: Inputs, tmp_path: Path) -> None:
    saes = (inputs.topk(0), inputs.topk(1), "baseline:neurons", "baseline:pca?k=3")
    whole = run(*saes, out=tmp_path / "whole")
    parts = [run(*saes, out=tmp_path / "shared", shard=f"{index}/3") for index in (2, 0, 1)]
    assert sum(part.new for part in parts) == len(whole.records)
    assert numbers([record for part in parts for record in part.records]) == numbers(whole.records)
    again = run(*saes, out=tmp_path / "shared")  # what the shards wrote is the run's
    assert (again.new, numbers(again.records)) == (0, numbers(whole.records))


def test_a_shard_without_work_loads_nothing(run: Run, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saebench.runner.execute.load_lm", None)
    summary = run(inputs.topk(0), shard="0/5")
    assert (summary.records, summary.new, summary.interrupted) == ([], 0, False)
