"""Errors that a user can act on: each says in one sentence what went wrong and how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SaebenchError(Exception):
    """Base of every error that saebench raises on purpose; its text is meant for the user."""


class UsageError(SaebenchError):
    """The request itself is wrong, such as an unknown name or a bad option. No work was done; the exit code is 2."""


class AssetError(SaebenchError):
    """A named asset is missing, damaged, or cannot be fetched."""


class DataError(SaebenchError):
    """A text or dataset cannot be used as asked (empty, too short, unreadable)."""


class ModelError(SaebenchError):
    """A language model cannot be loaded or lacks what was asked of it."""


class SAELoadError(SaebenchError):
    """An SAE cannot be loaded, or its weights are not usable (NaN/Inf, truncated, wrong shape)."""


class HookMismatchError(SaebenchError):
    """An SAE does not fit the language model: the hook does not exist or the width differs."""


class NotApplicableError(SaebenchError):
    """A task needs a capability that the SAE does not have. The record gets the status ``not_applicable``."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the closest known name, or the empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
