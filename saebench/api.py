"""``saebench.run``: what the command ``saebench run`` does, from Python."""

from __future__ import annotations

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
    """Evaluate SAEs and return the table, one row per number (see ``saebench.results.table.load``).

    ``sae_group`` names SAEs to compare with each other, ``"NAME=REF,REF"``; their rows are called ``group:NAME``.
    ``options`` are those of ``saebench run``: suite, model, hook, preset, text, out, seed, device, dtype, limit,
    batch_size, memory_budget and cache_budget (bytes, or text such as "1.5GB"), overwrite, parameters. Without
    arguments the embedded default runs. What is in ``out`` already is not computed again. Raises UsageError and the
    other classes of ``saebench.errors`` for what stops every job; a job that fails alone becomes a row with status
    ``failed``.
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
    return from_records(summary.records)
