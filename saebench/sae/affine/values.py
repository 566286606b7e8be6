"""The values that a map names: numbers and texts from a config file, from a tensor, or from the path of the weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor

from saebench.errors import SAELoadError
from saebench.sae.affine.map import Source, When

_FIELD = re.compile(r"\{([^}]*)\}")


@dataclass(frozen=True)
class Values:
    """What the sources of a map are looked up in.

    Attributes:
        config: The content of the config file; empty where there is none.
        tensors: The content of the file of weights.
        path: The path of the weights with forward slashes.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Any]
    path: str

    def get(self, source: object, what: str) -> Any:
        """Return the value of ``source``; a value that is no `Source` stands for itself.

        Args:
            source: The source, or a constant.
            what: What the value is, for error messages.

        Raises:
            SAELoadError: ``source`` translates names, and this one is unknown.
        """
        if not isinstance(source, Source):
            return source
        candidates = (
            *(self._in_config(key) for key in _keys(source.config)),
            self._in_tensors(source.tensor),
            None if source.has is None else self._has(source.has),
            self._in_path(source.path),
        )
        for value in candidates:
            value = _part(value, source)
            if value is None:
                continue
            if source.names is None:
                return value
            for key in (_text(value), _text(value).lower()):
                if key in source.names:
                    return source.names[key]
            raise SAELoadError(f"its {what} is {str(value)[:60]!r}, and only {', '.join(source.names)} are known")
        return source.default

    def number(self, source: object, what: str) -> float | None:
        """Return a finite number, or None where there is none. Raises SAELoadError for anything else."""
        value = self.get(source, what)
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise SAELoadError(f"its {what} must be a number, not {str(value)[:60]!r}") from error
        if isinstance(value, bool) or not math.isfinite(number):
            raise SAELoadError(f"its {what} must be a number, not {value!r}")
        return number

    def count(self, source: object, what: str) -> int | None:
        """Return a whole number above 0, or None where there is none. Raises SAELoadError for anything else."""
        number = self.number(source, what)
        if number is None:
            return None
        if number < 1 or number != int(number):
            raise SAELoadError(f"its {what} must be a whole number above 0, not {number:g}")
        return int(number)

    def text(self, source: object, what: str) -> str | None:
        """Return a text, or None where there is none. Raises SAELoadError for anything else."""
        value = self.get(source, what)
        if value is not None and not isinstance(value, str | int):
            raise SAELoadError(f"its {what} must be a text, not {str(value)[:60]!r}")
        return None if value is None else str(value)

    def holds(self, when: When | None) -> bool:
        """Return whether a condition holds; none always does."""
        if when is None:
            return True
        if when.config is not None or when.tensor is not None:
            values = [*(self._in_config(key) for key in _keys(when.config)), self._in_tensors(when.tensor)]
            value = next((value for value in values if value is not None), None)
            if not (when.absent if value is None else _text(value) in when.values):
                return False
        if when.has is not None and not self._has(when.has):
            return False
        return when.path is None or re.search(when.path, self.path) is not None

    def fill(self, template: str, known: Mapping[str, str]) -> str | None:
        """Return ``template`` with every ``{KEY}`` replaced by a known value or one of the config file.

        It is None where one of them has no value.
        """
        missing = False

        def value(match: re.Match[str]) -> str:
            nonlocal missing
            text = known.get(match[1], self._in_config(match[1]))
            missing = missing or not isinstance(text, str | int)
            return str(text)

        filled = _FIELD.sub(value, template)
        return None if missing else filled

    def _in_config(self, key: str | None) -> Any:
        value: Any = self.config if key else None
        for part in key.split(".") if key else ():
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def _has(self, pattern: str) -> bool:
        return pattern in self.tensors or any(fnmatchcase(key, pattern) for key in self.tensors)

    def _in_tensors(self, key: str | None) -> Any:
        name = self.fill(key, {}) if key else None
        value = _member(self.tensors, name) if name else None
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise SAELoadError(f"the tensor {key} must hold one number, not {list(value.shape)}")
            return value.item()
        return value

    def _in_path(self, pattern: str | None) -> str | None:
        match = re.search(pattern, self.path) if pattern else None
        return match[1] if match else None


def _keys(keys: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (keys,) if isinstance(keys, str) else keys or ()


def _member(content: Any, name: str) -> Any:
    """Return the value with this name; a dot in it may also go into a dict."""
    if not isinstance(content, Mapping) or name in content:
        return content.get(name) if isinstance(content, Mapping) else None
    outer, dot, inner = name.partition(".")
    return _member(content.get(outer), inner) if dot else None


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _part(value: Any, source: Source) -> Any:
    """Return the part of a value that a source means, or None where there is none."""
    if source.search is not None and value is not None:
        match = re.search(source.search, str(value))
        value = match[1] if match else None
    if value is None or not (source.prefix or source.suffix):
        return value
    return f"{source.prefix}{value}{source.suffix}"
