"""Where runs keep what they share."""

from __future__ import annotations

from pathlib import Path

from saebench.data import assets


def cache_folder() -> Path:
    """Activations and losses of language models, shared by all runs of this machine. It may not exist yet."""
    return assets.home() / "activations"
