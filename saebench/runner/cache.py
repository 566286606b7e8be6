"""The folder in which runs keep what they share."""

from __future__ import annotations

from pathlib import Path

from saebench.data import assets


def cache_folder() -> Path:
    """The folder of activations and losses that all runs on this machine share. It may not exist yet."""
    return assets.home() / "activations"
