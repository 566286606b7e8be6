"""The download of wheels with the user's own pip, so that its mirrors, proxies and certificates apply."""

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
    """Download the asset's wheels, without their dependencies.

    Args:
        asset: The asset.
        folder: The folder to put them into.
        progress: Receives the progress.

    Raises:
        AssetError: pip is missing or fails; the message gives pip's own reason.
    """
    if importlib.util.find_spec("pip") is None:
        raise AssetError(
            f"Cannot download the asset {asset.name!r}, because pip is not installed for {sys.executable}; "
            "install it with `python -m ensurepip`."
        )
    # pip downloads into its temporary folder first. It is put inside `folder`, to be watched and cleaned up with it.
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
            f"Cannot download the asset {asset.name!r}: {_reason(output)}. Check the network and pip's settings "
            f"(`pip config list`), then run `saebench assets pull {asset.name}`."
        )


def run_watched(command: Sequence[str], environment: Mapping[str, str], watch: Callable[[], None]) -> tuple[int, str]:
    """Run a program, and end it if this process is interrupted.

    Args:
        command: The program and its arguments.
        environment: Variables to add to the environment.
        watch: Is called several times a second.

    Returns:
        The program's exit code, and what it wrote to stdout and stderr together.
    """
    import tempfile

    with tempfile.TemporaryFile() as log:  # a file rather than a pipe, which could fill up and block the program
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
    """Return the bytes downloaded so far. A wheel that is both in pip's scratch folder and at its place counts once."""
    sizes: dict[str, int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                size = os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:  # pip has just moved the file
                continue
            sizes[name] = max(size, sizes.get(name, 0))
    return sum(sizes.values())


def _reason(output: str) -> str:
    """Return the last error line of pip's output, which names the cause."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip failed without a message"])[-1].rstrip(".")
