"""``saebench.run``: what the command ``saebench run`` does, from Python."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from saebench.progress import Progress


def run(
    sae: str | Sequence[str] | None = None,
    *,
    sae_group: str | Sequence[str] | None = None,
    tasks: str | Sequence[str] | None = None,
    config: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Evaluate SAEs and return the table of their numbers.

    Without arguments the bundled default runs. Records that are in ``out`` already are not computed again. A job that
    fails while others succeed does not raise: it becomes a row with the status ``failed``.

    Args:
        sae: References of the SAEs, such as ``"zoo:topk-k32-s0"``.
        sae_group: SAEs to compare with each other, as ``"NAME=REF,REF"``. Their rows are called ``group:NAME``.
        tasks: Names of the tasks; by default all that apply to the SAEs and groups.
        config: A YAML file of options. Options that are given here win over it.
        progress: What reports progress; by default lines on stderr.
        **options: The other options of ``saebench run``: suite, model, hook, preset, text, out, seed, device, dtype,
            limit, batch_size, memory_budget and cache_budget (bytes, or text such as "1.5GB"), overwrite, parameters,
            trust_remote_code, allow_python.

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

    for key, value in (("sae", sae), ("sae_group", sae_group), ("tasks", tasks)):
        if value is not None:
            options[key] = [value] if isinstance(value, str) else list(value)
    if isinstance(options.get("seed"), int):
        options["seed"] = [options["seed"]]
    plan = make_plan(make_request(options, Path(config) if config else None))
    summary = execute(plan, progress or ConsoleProgress())
    if summary.interrupted:
        raise KeyboardInterrupt
    if summary.lost:
        warnings.warn(
            f"{len(summary.lost)} records are not in {summary.out} any more: somebody removed them during the run.",
            stacklevel=2,
        )
    return from_records(summary.records)
