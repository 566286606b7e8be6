"""``saebench doctor``."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saebench.cli.output import echo
from saebench.version import __version__

if TYPE_CHECKING:
    from saebench.data.assets import Asset

CANNOT_START = 1


@click.command(short_help="Show what is installed, what is missing, and how to fix it.")
def doctor() -> None:
    """Show versions, devices, the cache, and what is missing for `saebench run`, with the command that fixes it.

    Exit codes: 0 the default run can start (it fetches missing assets), 1 it cannot.
    """
    for title, lines in (("Versions", _versions()), ("Devices", _devices()), ("Cache", _cache())):
        echo(title)
        for line in lines:
            echo(f"  {line}")
        echo()
    problems = list(_problems())
    for problem in problems:
        echo(f"problem: {problem}")
    if not problems:
        echo("`saebench run` can start.")
    click.get_current_context().exit(CANNOT_START if problems else 0)


def _versions() -> Iterator[str]:
    from saebench.results.provenance import PACKAGES, package_versions

    versions = package_versions()
    yield f"saebench {__version__}, in {Path(__file__).resolve().parent.parent}"
    yield f"python {platform.python_version()}, {sys.executable}"
    yield f"system {platform.platform()}"
    yield ", ".join(f"{name} {versions.get(name, 'is missing')}" for name in PACKAGES)


def _devices() -> Iterator[str]:
    import psutil
    import torch

    from saebench.lm.load import resolve_device, resolve_dtype
    from saebench.results.provenance import device_name

    memory = psutil.virtual_memory()
    native = resolve_dtype("auto", torch.device("cpu")) is torch.bfloat16
    yield f"{device_name('cpu')}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used"
    yield f"memory {memory.total / 1e9:.1f} GB, {memory.available / 1e9:.1f} GB free"
    yield f"native bfloat16 on the CPU: {'yes' if native else 'no'}"
    for index in range(torch.cuda.device_count()):
        size = torch.cuda.get_device_properties(index).total_memory / 1e9
        yield f"{device_name(f'cuda:{index}')}, {size:.0f} GB"
    if not torch.cuda.device_count():
        yield "no CUDA device"
    device = resolve_device("auto")
    yield f"--device auto is {device}, --dtype auto is {str(resolve_dtype('auto', device)).removeprefix('torch.')}"


def _cache() -> Iterator[str]:
    from saebench.budget import format_bytes
    from saebench.cache.tensors import usage
    from saebench.data import assets
    from saebench.data.assets import State
    from saebench.errors import AssetError
    from saebench.progress import ConsoleProgress
    from saebench.runner.cache import cache_folder

    home = assets.home()
    yield f"{home} ({shutil.disk_usage(_existing(home)).free / 1e9:.1f} GB free)"
    for asset in assets.manifest().values():
        size = asset.download_size / 1e6
        try:
            status = assets.status(asset.name)
            if status.state is State.COMPLETE:
                assets.path(asset.name, ConsoleProgress())
                yield f"{asset.name}: complete, {status.size / 1e6:,.0f} MB"
            else:
                yield f"{asset.name}: {status.state.value}; `saebench assets pull {asset.name}` fetches {size:,.0f} MB"
        except AssetError as error:
            yield f"{asset.name}: damaged. {error}"
    try:
        n_series, shared = usage(cache_folder())
    except OSError as error:
        yield f"activations that runs share: {cache_folder()} cannot be used ({error.strerror or error})"
        return
    yield f"activations that runs share: {n_series} series, {format_bytes(shared)}; `saebench cache clear` removes them"


def _problems() -> Iterator[str]:
    """Yield what prevents ``saebench run`` from starting."""
    from saebench.data import assets
    from saebench.errors import SaebenchError
    from saebench.results.provenance import PACKAGES, package_versions
    from saebench.runner.assets import missing_assets, needed_assets
    from saebench.runner.plan import make_plan
    from saebench.runner.request import make_request

    if absent := [name for name in PACKAGES if name not in package_versions()]:
        yield f"Packages are missing: {', '.join(absent)}; run `{sys.executable} -m pip install {' '.join(absent)}`."
    if not os.access(Path.cwd(), os.W_OK):
        yield f"The current folder {Path.cwd()} is not writable; change to another folder, or give --out."
    try:
        plan = make_plan(make_request({}))
        missing = missing_assets(plan)
        for name in needed_assets(plan):
            if name not in {asset.name for asset in missing}:
                assets.path(name)
    except SaebenchError as error:
        yield str(error)
        return
    if missing:
        yield from _cannot_fetch(missing)


def _cannot_fetch(missing: list[Asset]) -> Iterator[str]:
    from saebench.data import assets

    names = ", ".join(asset.name for asset in missing)
    command = [sys.executable, "-P", "-m", "pip", "--version"]  # not a pip.py of the current folder
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        yield f"{names} must be fetched, but pip does not work here; run `{sys.executable} -m ensurepip`."
    folder = _existing(assets.home())
    if not os.access(folder, os.W_OK):
        yield f"{names} must be fetched, but {folder} is not writable; set SAEBENCH_HOME to another folder."
    wanted = sum(asset.finished_size for asset in missing[:-1]) + missing[-1].disk_needed
    if (free := shutil.disk_usage(folder).free) < wanted:
        yield (
            f"{names} need {wanted / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB free; free some space, or set "
            "SAEBENCH_HOME to a folder on another disk."
        )


def _existing(folder: Path) -> Path:
    """Return ``folder``, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.parents) if os.path.exists(path))
