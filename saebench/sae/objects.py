"""Objects of a Python program as SAEs, and the names under which a run knows them.

``saebench.run(sae=my_module, hook=...)`` gives every object a name and a reference, ``object:NAME``. Such a reference
means something only while that call lasts and only in the thread that made it, so it can stand wherever references
stand (in groups, and inside of controls), but not in a shell.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from saebench.errors import UsageError, did_you_mean, shown
from saebench.files import is_text
from saebench.sae.hook import HookSite, parse_sites

if TYPE_CHECKING:
    from saebench.sae.ref import Reference

_SAFE = "/:@+~-"  # beside letters, digits, '.', '_' and '~'
_LONGEST = 200  # characters of a name
_WRAP = "saebench.wrap(encode, decode, hook=..., d_in=...) makes an SAE of two functions"
_HELD: ContextVar[Mapping[str, Any]] = ContextVar("saebench objects", default=MappingProxyType({}))


class Objects:
    """The objects of one call, by name.

    Attributes:
        held: The objects by the bodies of their references.
    """

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}

    def references(self, saes: object, option: str = "sae") -> list[str]:
        """Return a reference for each SAE, and hold those that are objects.

        Args:
            saes: A reference, an object with ``encode`` and ``decode``, a dict of objects by name, or several of these.
            option: What the user called them, for error messages.

        Raises:
            UsageError: Something is neither a reference nor such an object, or a name cannot be one.
        """
        named = list(_flat(saes, option))
        held = {id(value) for value in self.held.values()}
        new = {id(value): name for name, value in named if not isinstance(value, str) and id(value) not in held}
        counts = Counter(new.values())
        return list(dict.fromkeys(self._reference(name, value, counts) for name, value in named))

    def without_hook(self) -> list[str]:
        """The references of objects that name no hook."""
        return [f"object:{body}" for body, held in self.held.items() if own_hook(held, f"object:{body}") is None]

    def _reference(self, name: str, value: Any, counts: Mapping[str, int]) -> str:
        if isinstance(value, str):
            return value
        for body, held in self.held.items():
            if held is value:
                return f"object:{body}"
        names = itertools.chain([name] if counts[name] < 2 else [], (f"{name}-{n}" for n in itertools.count(1)))
        body = next(quoted for quoted in (quote(text, safe=_SAFE) for text in names) if quoted not in self.held)
        self.held[body] = value
        return f"object:{body}"


@contextmanager
def holding(objects: Objects) -> Iterator[None]:
    """Let references name these objects while the block runs."""
    token = _HELD.set({**_HELD.get(), **objects.held})
    try:
        yield
    finally:
        _HELD.reset(token)


def is_object(value: object) -> bool:
    """Whether a value is an object with ``encode`` and ``decode``. Text has an ``encode`` of its own, but no decode."""
    methods = (getattr(value, name, None) for name in ("encode", "decode"))
    return not isinstance(value, str | bytes | type) and all(map(callable, methods))


def own_hook(found: object, name: str) -> HookSite | None:
    """Return the hook that an object names: its ``hook``, or that of the metadata of SAELens. None if it names none.

    Raises UsageError for a text that is no hook.
    """
    metadata = getattr(getattr(found, "cfg", None), "metadata", None)
    named = (getattr(found, "hook", None), getattr(metadata, "hook_name", None))
    hook = next((hook for hook in named if isinstance(hook, str | HookSite)), None)
    return None if hook is None else hook_of(hook, name)


def hook_of(hook: object, name: str) -> HookSite:
    """Return a hook that is given as one, or as text. Raises UsageError for anything else."""
    if isinstance(hook, HookSite):
        return hook
    if isinstance(hook, str) and is_text(hook):
        sides = [part.strip() for part in hook.split("->")]
        with suppress(ValueError):  # a hook point is missing, or there are too many
            if len(sides) < 3:
                return HookSite(parse_sites(sides[0]), parse_sites(sides[-1]))
    raise UsageError(
        f"{name}: its hook must be the name of a hook point, such as 'blocks.9.hook_resid_post' ('SITE->SITE' for a "
        f"transcoder), not {shown(hook)}."
    )


def own_number(found: object, name: str) -> int | None:
    """Return a width that an object has as an attribute, or in its ``cfg``; None if it has none."""
    for holder in (found, getattr(found, "cfg", None)):
        number = getattr(holder, name, None)
        if type(number) is int and number > 0:
            return number
    return None


def held_object(ref: Reference) -> Any:
    """Return the object that a reference names. Raises UsageError where this call was given no such object."""
    held = _HELD.get()
    if ref.body not in held:
        if held:
            known = ", ".join(f"object:{body}" for body in held)
            raise UsageError(f"{ref}: this run was given no such object.{did_you_mean(ref.body, held)} It has {known}.")
        raise UsageError(
            f"{ref} was an object in a Python program and cannot be named here; give it to saebench.run(sae=...) in "
            "Python, or write a function that returns it and name that: python:my_file.py:my_function."
        )
    return held[ref.body]


def _flat(saes: object, option: str) -> Iterator[tuple[str, Any]]:
    """Yield names and objects; a reference comes with an empty name."""
    if isinstance(saes, str):
        yield "", saes
    elif is_object(saes):
        yield _own_name(saes), saes
    elif isinstance(saes, Mapping):
        for name, value in saes.items():
            yield _checked_name(name, option), _checked_object(name, value, option)
    elif isinstance(saes, Iterable) and not isinstance(saes, bytes | type):
        for item in saes:
            if isinstance(item, Iterable) and not isinstance(item, str | Mapping) and not is_object(item):
                raise UsageError(_no_sae(item, option))
            yield from _flat(item, option)
    else:
        raise UsageError(_no_sae(saes, option))


def _own_name(found: object) -> str:
    """The name of an object that the user gave none: its ``name``, else that of its class."""
    name = getattr(found, "name", None)
    if isinstance(name, str) and name.strip() and is_text(name) and len(name) <= _LONGEST:
        return name.removeprefix("object:")
    return type(found).__name__


def _checked_name(name: object, option: str) -> str:
    if not isinstance(name, str) or not name.strip() or not is_text(name) or len(name) > _LONGEST:
        raise UsageError(
            f"Option {option!r}: the keys of a dict are the names of its objects, and {shown(name)} is no name; give "
            f"a text of 1 to {_LONGEST} characters."
        )
    return name


def _checked_object(name: object, value: object, option: str) -> object:
    if isinstance(value, str):
        raise UsageError(
            f"Option {option!r}: {shown(name)} is a reference, and references keep their own names; give it in a "
            f"list, as {option}=[{{...}}, {shown(value)}]."
        )
    if not is_object(value):
        raise UsageError(_no_sae(value, option, f" ({shown(name)})"))
    return value


def _no_sae(value: object, option: str, which: str = "") -> str:
    if isinstance(value, type):
        return f"Option {option!r}{which}: {value.__name__} is a class; give an instance of it."
    missing = [method for method in ("encode", "decode") if not callable(getattr(value, method, None))]
    return (
        f"Option {option!r}{which}: an SAE is a reference or an object with encode and decode, and one of type "
        f"{type(value).__name__} has no {' and no '.join(missing) or 'such methods'}; {_WRAP}."
    )
