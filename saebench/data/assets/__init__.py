"""Named assets, which are language models and texts from the package registry, and their cache on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from saebench.data.assets.cache import AssetCache, AssetStatus, State
from saebench.data.assets.manifest import Asset, manifest
from saebench.progress import NullProgress, Progress

__all__ = [
    "Asset",
    "AssetStatus",
    "State",
    "asset",
    "file",
    "home",
    "manifest",
    "path",
    "pull",
    "status",
    "verify",
]


def home() -> Path:
    """Return the cache folder: ``SAEBENCH_HOME`` if it is set, or else the platform's cache folder for saebench."""
    if chosen := os.environ.get("SAEBENCH_HOME"):
        return Path(os.path.expanduser(chosen)).absolute()  # unlike Path.expanduser, leaves an unknown ~USER as it is
    from platformdirs import user_cache_path

    return user_cache_path("saebench", appauthor=False)


def _cache() -> AssetCache:
    return AssetCache(home() / "assets", manifest())


def asset(name: str) -> Asset:
    """Return the manifest's entry of an asset. Raises UsageError, with a suggestion, if the name is unknown."""
    return _cache().asset(name)


def path(name: str, progress: Progress | None = None) -> Path:
    """Return the folder of a complete asset, after a check that its files are as they were recorded.

    A check that was made before costs little. Without ``progress``, a message about a long check is logged.

    Raises:
        UsageError: There is no such asset.
        AssetError: It is missing or damaged; the message names the command that fetches it.
    """
    return _cache().path(name, progress)


def file(name: str, file_name: str, progress: Progress | None = None) -> Path:
    """Return one file of a complete asset, after a check that it is as it was recorded. Raises what `path` raises."""
    return _cache().file(name, file_name, progress)


def pull(name: str, progress: Progress | None = None, force: bool = False) -> Path:
    """Fetch an asset and return its folder. Several processes may do this at once.

    Args:
        name: The name of the asset.
        progress: Receives the progress.
        force: Whether to fetch the asset even if it is complete.

    Raises:
        UsageError: There is no such asset.
        AssetError: The asset cannot be downloaded, unpacked or written.
    """
    return _cache().pull(name, progress or NullProgress(), force)


def verify(name: str, progress: Progress | None = None) -> list[str]:
    """Return the problems of a complete asset, with a short text for each file that is not as it was recorded."""
    return _cache().verify(name, progress)


def status(name: str) -> AssetStatus:
    """Return whether an asset is complete, where it is, and its size."""
    return _cache().status(name)
