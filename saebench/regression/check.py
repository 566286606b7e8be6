"""One check: run the suite on an SAE, compare the numbers with the baseline or write it, and report the outcome."""

from __future__ import annotations

import json
import os
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from saebench.api import run
from saebench.cards.registry import registry
from saebench.errors import SaebenchError, UsageError
from saebench.progress import Progress
from saebench.regression.baseline import Baseline, Entry, entry, read_baseline, write_baseline
from saebench.regression.verdicts import NEW_ONLY, UPDATE, Row, Tolerance, compare, direction, named, unusable, written
from saebench.results.paired import Key, scores
from saebench.results.record import Arrays, Record
from saebench.results.store import ResultStore
from saebench.sae.objects import Objects
from saebench.sae.recognise import recognise

Measured = list[tuple[Record, Arrays]]
_UNSTEADY = "has contributions that give no difference an interval, such as those of a single unit"
# The options of `saebench run` that the command of a check repeats. Parameters have no option and need a config file.
_FLAGS = ("model", "hook", "preset", "text", "limit", "batch_size", "seed", "device", "dtype")


class Mode(StrEnum):
    """Whether a check compares with the baseline, writes it again, or writes only the metrics that it lacks."""

    COMPARE = "compare"
    UPDATE = "update"
    NEW_ONLY = "new-only"


@dataclass(frozen=True)
class Outcome:
    """What a check found. It passes when there are no problems and no row fails."""

    sae: str
    baseline: str  # the file, relative to the project's root
    rows: list[Row]
    command: str  # the `saebench run` that measures the numbers again; empty where nothing could run
    problems: tuple[str, ...] = ()  # sentences about problems that do not belong to one metric
    wrote: bool = False  # whether the baseline was written
    l0: tuple[float | None, float | None] = (None, None)  # the L0 of the baseline's SAE and of this one

    @property
    def passed(self) -> bool:
        return not self.problems and not any(row.verdict.fails for row in self.rows)


def subject(sae: object) -> Any:
    """Return what `saebench.run` takes for ``sae``: a reference, or an object. The files of a folder tell its format.

    Raises UsageError for a path that does not exist.
    """
    if not isinstance(sae, str | Path):
        return sae
    if os.path.isdir(sae):  # unlike Path.is_dir, also False for names that no folder can have
        formats = recognise(Path(sae))
        return f"{formats[0] if len(formats) == 1 else 'sae_lens'}:{sae}"
    if isinstance(sae, Path) or ":" not in sae:
        raise UsageError(
            f"There is no folder {str(sae)!r}; name a folder of SAELens, or a reference as `saebench run --sae` takes."
        )
    return sae


def label(sae: object) -> str:
    """Return what reports call ``sae``: its reference, which is ``object:NAME`` for an object."""
    if isinstance(sae, str | Path):
        return str(sae)
    try:
        return ", ".join(Objects().references(sae))
    except UsageError:  # it is no SAE, which the run reports
        return f"an object of type {type(sae).__name__}"


def check(
    options: Mapping[str, Any],
    path: Path,
    *,
    root: Path,
    mode: Mode = Mode.COMPARE,
    tolerance: Tolerance,
    metrics: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Run the suite and compare its numbers with the baseline in ``path``.

    Args:
        options: The options of `saebench.run`, with one SAE and one seed.
        path: The file of the baseline.
        root: The project's root. Paths are shown and stored relative to it.
        mode: Whether to compare, or what to write.
        tolerance: How much worse a metric may become; see `saebench.regression.verdicts.tolerance_of`.
        metrics: Patterns of the metrics to check; see `saebench.regression.verdicts.matches`. By default those
            that their cards call primary and give a direction.
        progress: What reports progress.

    Raises:
        SaebenchError: The options are wrong, nothing can run, or a file cannot be read or written.
    """
    sae, shown, command = label(options["sae"]), _shown(path, root), reproduce(options)
    known = None if mode is Mode.UPDATE else read_baseline(path)
    if known is None and mode is Mode.COMPARE:
        missing = f"There is no baseline {shown}: write it with {UPDATE} (or {NEW_ONLY}), review it, and commit it."
        return Outcome(sae, shown, [], command, (missing,))
    measured, problems = _measure(options, progress)
    if problems:
        return Outcome(sae, shown, [], command, tuple(problems))
    before = known or Baseline(entries=[])
    keys = _selected(measured, metrics)
    if isinstance(tolerance, Mapping):
        named(tolerance, keys | before.keys, "tolerance")
    now = [kept for record, arrays in measured if (kept := entry(record, arrays, keys, root)).keys]
    added: set[Key] = set() if mode is Mode.COMPARE else keys - before.keys
    new = [kept.only(added) for kept in now]
    problems = _unwritable(new, tolerance)
    rows = compare(before, [kept.only(keys - added) for kept in now], tolerance)
    wrote = False
    if added and not problems:
        wrote = write_baseline(path, before.with_new(new))
        rows = sorted([*rows, *written(new)], key=lambda row: row.key)
    return Outcome(sae, shown, rows, command, tuple(problems), wrote, (_l0(before.entries), _l0(now)))


def reproduce(options: Mapping[str, Any]) -> str:
    """Return the shell command that measures the same, after a line that writes a config file if it needs one."""
    if not isinstance(options["sae"], str):
        return f"# {label(options['sae'])} is an object that only the test holds, so the test measures it again"
    words = ["saebench", "run", "--sae", str(options["sae"]), "--suite", str(options.get("suite", "quick"))]
    if options.get("tasks"):
        tasks = options["tasks"]
        words += ["--tasks", tasks if isinstance(tasks, str) else ",".join(tasks)]
    for name in _FLAGS:
        if options.get(name) is not None:
            words += [f"--{name.replace('_', '-')}", str(options[name])]
    if not options.get("parameters"):
        return shlex.join(words)
    # JSON is valid YAML, too.
    content = shlex.quote(json.dumps({"parameters": options["parameters"]}))
    return f"echo {content} > parameters.yaml\n{shlex.join([*words, '--config', 'parameters.yaml'])}"


def _measure(options: Mapping[str, Any], progress: Progress | None) -> tuple[Measured, list[str]]:
    """Return the records that are ok, with their arrays, and what failed. A task that does not apply gives neither.

    The run measures again what is damaged in the folder of records. Raises DamagedRecordError for a record that is
    damaged all the same, because the disk fails, for example.
    """
    with warnings.catch_warnings():
        # A project that turns warnings into errors means its own warnings, not those of the libraries underneath.
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", module=r"saebench\.")
        frame = run(progress=progress, **{**options, "overwrite": "failed"})
    store = ResultStore(options["out"])
    measured, problems = [], []
    for row in frame.drop_duplicates("record_id").itertuples():
        if row.status == "failed":
            problems.append(f"The task {row.task} failed: {row.error}")
        elif row.status == "ok":
            record = store.read(str(row.record_id))
            if record is None:
                raise SaebenchError(f"The record {row.record_id} is gone from {options['out']}; run the test again.")
            measured.append((record, store.arrays(record)))
    return measured, problems


def _selected(measured: Measured, patterns: Sequence[str] | None) -> set[Key]:
    """Return the metrics to check.

    Raises UsageError where none of them has a direction, because such a check could not fail, and where two records
    have the same metric.
    """
    known = {key: record for record, _ in measured for key in scores(record, {})}
    if patterns is not None:
        keys = named(patterns, known, "metrics")
    else:
        keys = {key for key, record in known.items() if not key[2] and _primary(record, key[1])}
    for record, _ in measured:
        for key in sorted(keys & scores(record, {}).keys()):
            if (other := known[key]) is not record:
                raise UsageError(
                    f"{_name(key)} was measured twice, on {record.identity.sae} and on {other.identity.sae}; check one "
                    "SAE or group with one seed in each check."
                )
    versions = {key: record.identity.task_version for key, record in known.items()}
    if all(direction(key, versions[key]) is None for key in keys):
        raise UsageError(
            "None of the metrics to check has a direction in which it is better, so the check could never fail; name "
            "other metrics in metrics=."
        )
    return keys


def _primary(record: Record, metric: str) -> bool:
    spec = registry().metric(record.identity.task, record.identity.task_version, metric)
    return spec is not None and spec.primary and spec.higher_is_better is not None


def _unwritable(entries: Sequence[Entry], tolerance: Tolerance) -> list[str]:
    """Say why numbers cannot become a baseline: the next check would fail, although it measures the same.

    Raises UsageError for a tolerance that no check takes.
    """
    return [
        f"{_name(row.key)} cannot become a baseline: it {unusable(row.now) or _UNSTEADY}; fix the SAE, use a larger "
        "suite, or leave the metric out of metrics=."
        for row in compare(Baseline(entries=list(entries)), entries, tolerance)
        if row.now and row.verdict.fails
    ]


def _name(key: Key) -> str:
    return "/".join(part for part in key if part)


def _l0(entries: Sequence[Entry]) -> float | None:
    return next((entry.record.sae.l0 for entry in entries if entry.record.sae.l0 is not None), None)


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
