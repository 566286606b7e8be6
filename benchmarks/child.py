"""Work in a process of its own, which takes settings and returns a report. The whole time is measured from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def run_child(
    module: str,
    settings: dict[str, Any],
    *,
    python: str | Path = sys.executable,
    environment: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Run ``python -m module SETTINGS``.

    Args:
        module: The module to run.
        settings: Its settings, which it gets as JSON.
        python: The Python to run it with.
        environment: Variables to add to the environment.

    Returns:
        The JSON object on the last line that it printed, with ``whole_seconds`` from its start to its end.

    Raises:
        RuntimeError: The process fails; the message holds the end of its output.
    """
    begun = time.monotonic()
    done = subprocess.run(
        [str(python), "-m", module, json.dumps(settings)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), **(environment or {})},
        cwd=ROOT,
    )
    whole = time.monotonic() - begun
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"{module} failed (exit status {done.returncode}): {(done.stderr + done.stdout)[-2000:]}")
    report: dict[str, Any] = json.loads(lines[-1])
    return report | {"whole_seconds": whole}
