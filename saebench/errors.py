"""Errors that a user can act on: each of them says in one sentence what went wrong and how to fix it."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from typing import Any


class SaebenchError(Exception):
    """The base class of every error that saebench raises on purpose. Its text is meant for the user."""


class UsageError(SaebenchError):
    """The request itself is wrong: it has an unknown name or a bad option, for example.

    No work has been done, and the exit code is 2.
    """


class AssetError(SaebenchError):
    """A named asset is missing, damaged, or cannot be fetched."""


class DataError(SaebenchError):
    """A text or dataset cannot be used, because it is empty, too short or unreadable, for example."""


class ModelError(SaebenchError):
    """A language model cannot be loaded, or it lacks something that is needed, such as a chat template."""


class SAELoadError(SaebenchError):
    """An SAE cannot be loaded, or its weights are unusable: truncated, of the wrong shape, or NaN or Inf."""


class HookMismatchError(SaebenchError):
    """An SAE does not fit the language model: its hook point does not exist there, or the width differs."""


class NotApplicableError(SaebenchError):
    """A task needs a capability that the SAE lacks. The record gets the status ``not_applicable``."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?``, where x is the known name closest to ``name``, or "" if none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


class _Short(reprlib.Repr):
    """A ``repr`` that never takes long, whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 2, 100, 100

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write numbers of thousands of digits.
        return repr(x) if x.bit_length() <= 128 else f"a whole number of {x.bit_length()} bits"


_SHORT = _Short()


def shown(value: Any) -> str:
    """Return a foreign value as messages show it: like ``repr``, but never longer than a few hundred characters."""
    return _SHORT.repr(value)
