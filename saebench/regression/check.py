"""One check: run the suite on an SAE, compare with the baseline or write it, and say what came out."""

from __future__ import annotations

import json
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
from saebench.regression.verdicts import NEW_ONLY, UPDATE, Row, Tolerance, compare, named, unusable, written
from saebench.results.paired import Key, scores
from saebench.results.record import Arrays, Record
from saebench.results.store import ResultStore

Measured = list[tuple[Record, Arrays]]
# Options of `saebench run` that a check's command line repeats; parameters have none, and go into a config file.
_FLAGS = ("model", "hook", "preset", "text", "limit", "batch_size", "seed", "device", "dtype")


class Mode(StrEnum):
    COMPARE = "compare"
    UPDATE = "update"
    NEW_ONLY = "new-only"


@dataclass(frozen=True)
class Outcome:
    """What a check found. It passed when there are no problems and no row fails."""

    sae: str
    baseline: str  # the file, relative to the project's root
    rows: list[Row]
    command: str  # of `saebench run`, which makes the numbers again; empty where nothing could run
    problems: tuple[str, ...] = ()  # what is no matter of one metric, as sentences
    wrote: bool = False
    l0: tuple[float | None, float | None] = (None, None)  # of the baseline's SAE and of this one

    @property
    def passed(self) -> bool:
        return not self.problems and not any(row.verdict.fails for row in self.rows)


def reference(sae: str | Path) -> str:
    """The reference that ``sae`` means: a folder is one of SAELens.

    Raises UsageError for a path that does not exist.
    """
    if Path(sae).is_dir():
        return f"sae_lens:{sae}"
    if isinstance(sae, Path) or ":" not in sae:
        raise UsageError(
            f"There is no folder {str(sae)!r}; name a folder of SAELens, or a reference as `saebench run --sae` takes."
        )
    return sae


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
    """Run ``options`` (those of `saebench.run`, with one SAE and one seed) and compare with the baseline in ``path``.

    ``tolerance`` and ``metrics`` are as in `saebench.regression.verdicts`; without ``metrics`` those that the cards
    call primary and give a direction are checked. Paths are shown and stored relative to ``root``. Raises
    SaebenchError for what cannot be asked for, run, read or written.
    """
    sae, shown, command = str(options["sae"]), _shown(path, root), reproduce(options)
    known = None if mode is Mode.UPDATE else read_baseline(path)
    if known is None and mode is Mode.COMPARE:
        missing = f"There is no baseline {shown}: write it with {UPDATE} (or {NEW_ONLY}), look at it, and commit it."
        return Outcome(sae, shown, [], command, (missing,))
    measured, problems = _measure(options, progress)
    if problems:
        return Outcome(sae, shown, [], command, tuple(problems))
    before = known or Baseline(entries=[])
    keys = _selected(measured, metrics)
    if isinstance(tolerance, Mapping):
        named(tolerance, keys | before.keys, "tolerance")
    now = [found for record, arrays in measured if (found := entry(record, arrays, keys, root)).keys]
    added: set[Key] = set() if mode is Mode.COMPARE else keys - before.keys
    new = [one.only(added) for one in now]
    problems = _unwritable(new)
    rows = compare(before, [one.only(keys - added) for one in now], tolerance, direction)
    wrote = False
    if added and not problems:
        wrote = write_baseline(path, before.with_new(new))
        rows = sorted([*rows, *written(new, direction)], key=lambda row: row.key)
    return Outcome(sae, shown, rows, command, tuple(problems), wrote, (_l0(before.entries), _l0(now)))


def reproduce(options: Mapping[str, Any]) -> str:
    """The shell command that measures the same, with a line before it where parameters need a config file."""
    words = ["saebench", "run", "--sae", str(options["sae"]), "--suite", str(options.get("suite", "quick"))]
    if options.get("tasks"):
        tasks = options["tasks"]
        words += ["--tasks", tasks if isinstance(tasks, str) else ",".join(tasks)]
    for name in _FLAGS:
        if options.get(name) is not None:
            words += [f"--{name.replace('_', '-')}", str(options[name])]
    if not options.get("parameters"):
        return shlex.join(words)
    # JSON is YAML, too.
    content = shlex.quote(json.dumps({"parameters": options["parameters"]}))
    return f"echo {content} > parameters.yaml\n{shlex.join([*words, '--config', 'parameters.yaml'])}"


def _measure(options: Mapping[str, Any], progress: Progress | None) -> tuple[Measured, list[str]]:
    """Records that are ok with their arrays, and what failed. A task that does not apply gives neither."""
    with warnings.catch_warnings():
        # A project that turns warnings into errors means its own, not those of the libraries underneath.
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
    """The metrics to check. Raises UsageError where none of them has a direction: such a check could not fail."""
    known = {key: record for record, _ in measured for key in scores(record, {})}
    if patterns is not None:
        keys = named(patterns, known, "metrics")
    else:
        keys = {key for key, record in known.items() if not key[2] and _primary(record, key[1])}
    versions = {key: record.identity.task_version for key, record in known.items()}
    if all(direction(key[0], versions[key], key[1]) is None for key in keys):
        raise UsageError(
            "None of the metrics to check has a direction in which it is better, so that nothing could fail; name "
        )
    return keys


def _primary(record: Record, metric: str) -> bool:
    facts = registry().metric(record.identity.task, record.identity.task_version, metric)
    return facts is not None and facts.primary and facts.higher_is_better is not None


def direction(task: str, version: int, metric: str) -> bool | None:
    facts = registry().metric(task, version, metric)
    return facts.higher_is_better if facts else None


def _unwritable(entries: Sequence[Entry]) -> list[str]:
    """Why these cannot become a baseline: a number that can never be compared would fail ever after."""
    found = {key: scored for one in entries for key, scored in one.scores().items()}
    return [
        f"{'/'.join(part for part in key if part)} cannot become a baseline: {problem}; mend the SAE, or leave it out "
        "of metrics=."
        for key, scored in found.items()
        if (problem := unusable(scored))
    ]


def _l0(entries: Sequence[Entry]) -> float | None:
    return next((one.record.sae.l0 for one in entries if one.record.sae.l0 is not None), None)


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
