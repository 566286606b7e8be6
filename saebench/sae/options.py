"""The options of a reference: what each value must be, and how its text is read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from saebench.errors import UsageError, did_you_mean
from saebench.sae.hook import HookSite

if TYPE_CHECKING:
    from saebench.sae.ref import Reference


@dataclass(frozen=True)
class Option:
    """One kind of value.

    Attributes:
        expects: What the value must be, as error messages and listings say it, such as "a whole number above 0".
        read: Turns the text into a value. It raises ValueError for a text that is not of this kind.
    """

    expects: str
    read: Callable[[str], Any]


def read_options(ref: Reference, known: Mapping[str, Option]) -> dict[str, Any]:
    """Return the values of the options of ``ref``. Raises UsageError for an unknown option or a bad value."""
    values = {}
    for key, text in ref.options:
        if key not in known:
            takes = f"It takes {', '.join(known)}." if known else "It takes no options."
            raise UsageError(f"{ref.scheme}:{ref.body} has no option {key!r}.{did_you_mean(key, known)} {takes}")
        try:
            values[key] = known[key].read(text)
        except ValueError:
            raise UsageError(f"{ref}: {key} must be {known[key].expects}, not {text!r}.") from None
    return values


def named_hook(options: Mapping[str, str]) -> HookSite | None:
    """Return the hook that ``?hook=`` names, with ``?hook_out=`` for a transcoder; None where no hook is named."""
    site = options.get("hook")
    return None if site is None else HookSite(site, options.get("hook_out", site))


def _count(text: str) -> int:
    # int() would also read 1_000, digits of other scripts and numbers of thousands of digits.
    if not re.fullmatch(r"\+?[0-9]{1,18}", text):
        raise ValueError
    return int(text)


def _positive_int(text: str) -> int:
    if (value := _count(text)) < 1:
        raise ValueError
    return value


def _positive_float(text: str) -> float:
    if not (text.isascii() and (value := float(text)) > 0) or math.isinf(value):
        raise ValueError
    return value


def _site(text: str) -> str:
    if not text.strip():
        raise ValueError
    return text


POSITIVE_INT = Option("a whole number above 0", _positive_int)
COUNT = Option("a whole number, 0 or more", _count)
POSITIVE = Option("a number above 0", _positive_float)
SITE = Option("a site such as blocks.9.hook_resid_post", _site)
LAYER = Option("the number of a layer", _count)
MAP = Option("a YAML file, or the name of a format", _site)
