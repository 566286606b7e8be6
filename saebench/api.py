"""``saebench.run``: what the command ``saebench run`` does, from Python, also on SAEs that are objects."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saebench.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from saebench.progress import Progress
    from saebench.sae.objects import Objects


def run(
    sae: object = None,
    *,
    sae_group: str | Sequence[str] | Mapping[str, object] | None = None,
    tasks: str | Sequence[str] | None = None,
    config: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Evaluate SAEs and return the table of their numbers.

    Without arguments the bundled default runs. Records that are in ``out`` already are not computed again. A job that
    fails while others succeed does not raise: it becomes a row with the status ``failed``.

    Args:
        sae: The SAEs: references such as ``"zoo:topk-k32-s0"``, and objects with ``encode`` and ``decode``, such as a
            torch module; one of them, a list, or a dict of objects by name. An object is called ``object:NAME`` in the
            table, where NAME is the key of the dict, the object's ``name``, or its class. It is evaluated in this
            process and not changed.
        sae_group: SAEs to compare with each other, as ``"NAME=REF,REF"``, or as a dict of lists of SAEs by name. Their
            rows are called ``group:NAME``.
        tasks: Names of the tasks; by default all that apply to the SAEs and groups.
        config: A YAML file of options. Options that are given here win over it.
        progress: What reports progress; by default lines on stderr.
        **options: The other options of ``saebench run``: suite, model, hook, preset, text, out, seed, device, dtype,
            limit, batch_size, memory_budget and cache_budget (bytes, or text such as "1.5GB"), overwrite, shard,
            parameters, trust_remote_code, allow_python.

    Returns:
        A table with one row per number; `saebench.results.table.COLUMNS` names its columns.

    Raises:
        UsageError: What was asked for is not possible.
        SaebenchError: Something else stops every job; see `saebench.errors` for the classes.
        KeyboardInterrupt: The run was interrupted. The records that were finished are kept.
    """
    from saebench.progress import ConsoleProgress
    from saebench.results.table import from_records
    from saebench.runner.execute import execute
    from saebench.runner.plan import make_plan
    from saebench.runner.request import make_request
    from saebench.sae.objects import Objects, holding

    objects = Objects()
    if sae is not None:
        options["sae"] = objects.references(sae)
    if sae_group is not None:
        options["sae_group"] = _groups(objects, sae_group)
    if tasks is not None:
        options["tasks"] = [tasks] if isinstance(tasks, str) else list(tasks)
    if isinstance(options.get("seed"), int):
        options["seed"] = [options["seed"]]
    with holding(objects):
        request = make_request(options, Path(config) if config else None)
        if request.hook is None:
            _check_hooks(objects)
        summary = execute(make_plan(request), progress or ConsoleProgress())
    if summary.interrupted:
        raise KeyboardInterrupt
    if summary.lost:
        warnings.warn(
            f"{len(summary.lost)} records are not in {summary.out} any more: somebody removed them during the run.",
            stacklevel=2,
        )
    return from_records(summary.records)


def _groups(objects: Objects, groups: str | Sequence[str] | Mapping[str, object]) -> list[str]:
    """Return groups as text. Raises UsageError for members that are no SAEs."""
    from saebench.sae.group_ref import written_in_group

    if isinstance(groups, str):
        return [groups]
    if not isinstance(groups, Mapping):
        return list(groups)
    members = {name: objects.references(saes, "sae_group") for name, saes in groups.items()}
    return [f"{name}={','.join(map(written_in_group, references))}" for name, references in members.items()]


def _check_hooks(objects: Objects) -> None:
    """Raise UsageError when an object names no hook point; no run chooses one for it."""
    if nameless := objects.without_hook():
        raise UsageError(
            f"{', '.join(nameless)} names no hook point, where it reads the language model; give it as "
            "saebench.run(..., hook='blocks.9.hook_resid_post')."
        )
