"""A part of a plan, for one of several machines that share the work."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from saebench.errors import UsageError, shown

if TYPE_CHECKING:
    from saebench.runner.plan import Job

_WRITTEN = re.compile(r"([0-9]{1,6})/([0-9]{1,6})", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts of a plan; ``index`` counts from 0."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_shard(text: str) -> Shard:
    """Return the shard that a text such as ``2/8`` names. Raises UsageError for another text."""
    found = _WRITTEN.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"--shard {shown(text)} is not I/N; the parts of a run on 8 machines are 0/8 to 7/8, as in "
            '--shard "$SLURM_ARRAY_TASK_ID/8".'
        )
    index, count = map(int, found.groups())
    if not index < count:
        last = f"; the last of {count} is {count - 1}/{count}" if count else ""
        raise UsageError(f"There is no shard {index}/{count}: they count from 0{last}.")
    return Shard(index, count)


def jobs_of(shard: Shard, jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Return the jobs of a shard, in their order. Every job belongs to exactly one of the shards.

    All tasks of one SAE (or group) and seed stay together, so that it is loaded once. A shard is a run of neighbours in
    the order of the plan, because neighbours share most: a seed and its clean passes, a site, the members of a group. A
    job counts as many times as it has SAEs. Where there are more shards than SAEs, some have nothing to do.
    """
    units = [list(unit) for _, unit in groupby(jobs, key=lambda job: (job.seed, job.subject))]
    weights = [sum(len(job.members) for job in unit) for unit in units]
    total, before = sum(weights), 0
    chosen: list[Job] = []
    for unit, weight in zip(units, weights, strict=True):
        # By its middle, so that rounding never gives a unit to two shards or to none.
        if (2 * before + weight) * shard.count // (2 * total) == shard.index:
            chosen += unit
        before += weight
    return tuple(chosen)
