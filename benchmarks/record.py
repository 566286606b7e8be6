"""The result file of a benchmark: what was measured, on which machine, and the ratios that follow."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from saebench.errors import UsageError
from saebench.results.provenance import device_name, harness_git, package_versions

RESULTS = Path(__file__).resolve().parent / "results"


class BenchmarkResult(BaseModel):
    """The result of a benchmark.

    ``measurements`` has an object for each timed piece of work, with seconds, bytes and counts. The ``ratios`` follow
    from them alone.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    created: datetime
    hardware: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    measurements: list[dict[str, Any]] = Field(min_length=1)
    ratios: dict[str, float]

    @field_validator("name")
    @classmethod
    def _file_name(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
            raise ValueError("must be lower-case letters, digits and hyphens, because it names the file")
        return name

    @classmethod
    def now(
        cls,
        name: str,
        settings: dict[str, Any],
        measurements: list[dict[str, Any]],
        ratios: dict[str, float],
        *,
        device: str = "cpu",
        versions: dict[str, str] | None = None,
    ) -> Self:
        """Return a result of this machine and this environment. ``versions`` adds those of other environments."""
        return cls(
            name=name,
            created=datetime.now(UTC).replace(microsecond=0),
            hardware=hardware(device),
            versions=own_versions() | (versions or {}),
            settings=settings,
            measurements=measurements,
            ratios=ratios,
        )

    def write(self, folder: Path = RESULTS) -> Path:
        """Write ``<folder>/<name>.json``, which replaces an older result, and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return path


def load_results(folder: Path = RESULTS) -> dict[str, BenchmarkResult]:
    """Return all results of a folder by their names. Raises UsageError if a file is not a result."""
    results = {}
    for path in sorted(folder.glob("*.json")):
        try:
            result = BenchmarkResult.model_validate_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UsageError(f"{path} is not a benchmark result; measure it again with make bench. {error}") from error
        results[result.name] = result
    return results


def hardware(device: str = "cpu") -> dict[str, Any]:
    """Return what the figures depend on: processor or GPU, cores, threads, memory and instructions."""
    import psutil
    import torch

    return {
        "device": device_name(device),
        "cpu": device_name("cpu"),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "platform": platform.platform(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def own_versions() -> dict[str, str]:
    """Return the versions of this environment, and the commit of saebench."""
    from saebench.version import __version__

    versions = {"saebench": __version__, "python": platform.python_version(), **package_versions()}
    if git := harness_git():
        versions["commit"] = git.commit + (" (changed)" if git.dirty else "")
    return versions
