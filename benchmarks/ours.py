"""One cold run of ``core`` by ``saebench.run``, which takes settings as JSON and prints one line of JSON.

It is a process of its own, so that nothing is kept of an earlier run, and the peak of memory is that of this run.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from benchmarks import memory

if TYPE_CHECKING:
    import pandas as pd

    from saebench.lm.model import LanguageModel

STARTED = time.monotonic()


@contextmanager
def cold() -> Iterator[None]:
    """Give a run an empty cache, so that it finds no activations of earlier runs. The cache is deleted afterwards."""
    with (
        TemporaryDirectory(prefix="saebench-cold-") as folder,
        patch("saebench.runner.execute.cache_folder", lambda: Path(folder)),
    ):
        yield


@contextmanager
def loading_with(load: Callable[..., LanguageModel]) -> Iterator[None]:
    """Let runs load their language model with ``load`` instead of ``saebench.lm.load.load_lm``."""
    with patch("saebench.runner.execute.load_lm", load):
        yield


def evaluate(settings: dict[str, Any], out: Path) -> pd.DataFrame:
    """Return the results of ``core`` for all SAEs of ``settings``. Raises RuntimeError if one is not evaluated."""
    import saebench
    from saebench.progress import NullProgress

    with cold():
        table = saebench.run(
            settings["saes"],
            tasks="core",
            model=settings["model"],
            text=settings["text"],
            limit=settings["sequences"],
            parameters={"core": {"context_length": settings["context_length"]}},
            dtype=settings["dtype"],
            device=settings["device"],
            out=str(out),
            progress=NullProgress(),
            **settings.get("options", {}),
        )
    ok = table[table["status"] == "ok"]
    if ok["sae"].nunique() != len(settings["saes"]):
        reasons = "; ".join(sorted({text for text in table["error"] if text}))
        raise RuntimeError(f"{ok['sae'].nunique()} of {len(settings['saes'])} SAEs were evaluated: {reasons}")
    return ok


def main() -> None:
    settings = json.loads(sys.argv[1])
    from saebench.lm import load
    from saebench.runner import execute  # noqa: F401  (a run imports it, and this is not timed as evaluation)

    imported = time.monotonic()
    loading: dict[str, Any] = {}

    def timed_load(*arguments: Any, **options: Any) -> LanguageModel:
        begun = time.monotonic()
        lm = load.load_lm(*arguments, **options)
        loading["seconds"] = time.monotonic() - begun
        memory.reset_peak()
        loading["resident"] = memory.resident_bytes()
        loading["dtype"] = str(lm.dtype).removeprefix("torch.")
        return lm

    begun = time.monotonic()
    with loading_with(timed_load):
        table = evaluate(settings, Path(settings["out"]))
    seconds = time.monotonic() - begun
    report = {
        "import_seconds": imported - STARTED,
        "load_seconds": loading["seconds"],
        "evaluation_seconds": seconds - loading["seconds"],
        "resident_after_load": loading["resident"],
        "peak": memory.peak_bytes(),
        "dtype": loading["dtype"],
        "metrics": {
            str(sae): dict(zip(rows["metric"], rows["value"].astype(float), strict=True))
            for sae, rows in table[table["value"].notna()].groupby("sae")
        },
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
