"""Where and how a record was made: versions, commit of the harness, machine, time, memory."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from saebench.results.record import Provenance
from saebench.version import __version__

PACKAGES = ("torch", "transformers", "transformer-lens", "sae-lens", "numpy", "scipy", "scikit-learn", "pandas")
_CPUINFO = Path("/proc/cpuinfo")


class GitState(NamedTuple):
    commit: str
    dirty: bool


def collect(
    *,
    device: str,
    wall_seconds: float,
    arguments: Mapping[str, Any] | None = None,
    commits: Mapping[str, str] | None = None,
) -> Provenance:
    """Return the provenance of work that has just ended.

    Args:
        device: The device that did the work, such as "cpu" or "cuda:0".
        wall_seconds: How long the work took.
        arguments: The settings as the user gave them.
        commits: The commits of what came from the hub, by references.
    """
    git = harness_git()
    return Provenance(
        created=datetime.now(UTC),
        saebench_version=__version__,
        git_commit=git.commit if git else None,
        git_dirty=git.dirty if git else None,
        python=platform.python_version(),
        platform=platform.platform(),
        packages=package_versions(),
        device=device_name(device),
        cpu_count=os.cpu_count(),
        wall_seconds=wall_seconds,
        peak_memory_mb=peak_memory_mb(),
        arguments=dict(arguments or {}),
        commits=dict(commits or {}),
    )


@functools.cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def package_versions() -> dict[str, str]:
    """Return the versions of those `PACKAGES` that are installed."""
    return {name: version for name in PACKAGES if (version := _version(name)) is not None}


_PACKAGE = Path(__file__).resolve().parent.parent


@functools.cache
def harness_git(package: Path = _PACKAGE) -> GitState | None:
    """Return the commit of the checkout that ``package`` is part of; None when it is not under version control.

    A package that is installed inside another project's checkout (in a virtual environment there) is not tracked by
    it: that repository's commit would say nothing about the harness. Only changes to code and cards make a checkout
    dirty; results written into it do not.
    """
    top = _git(package, "rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != package.resolve().parent:
        return None
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(package, "rev-parse", "--verify", "HEAD")
    changes = _git(package, "status", "--porcelain", "--", ".", "../tasks")
    return None if commit is None or changes is None else GitState(commit, bool(changes))


def _git(folder: Path, *arguments: str) -> str | None:
    """Return the output of git in ``folder``; None when git fails or is not installed."""
    # Inside a git hook GIT_DIR and friends point at the user's repository.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@functools.cache
def device_name(device: str) -> str:
    """Return ``device`` with the hardware's name where it is known: ``"cuda:0 (NVIDIA A100-SXM4-80GB)"``."""
    if device.startswith("cuda"):
        import torch

        name = torch.cuda.get_device_name(device)
    else:
        name = _cpu_name()
    return f"{device} ({name})" if name else device


def _cpu_name() -> str:
    if _CPUINFO.exists():  # on Linux, platform.processor() is empty or names only the architecture
        for line in _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def peak_memory_mb() -> float | None:
    """Return the largest resident set of this process so far, in MB (10^6 bytes); None where the system hides it."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6  # bytes on macOS, KiB elsewhere
