"""The settings of a task as a type, so that mypy checks every place where a task reads a setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from saebench.cards.rules import explain
from saebench.errors import UsageError

Value = bool | int | float | str | list[int] | list[float] | list[str]


class Settings(BaseModel):
    """Everything that a user may choose about a task, with the defaults and the rules of its card.

    A subclass declares one field for each parameter of the card: lists as tuples, texts with few values as ``Literal``,
    bounds as ``Field(ge=...)``, and `saebench.cards.rules.Ascending` or `Unique` where the card says so. A rule between
    two settings is a ``model_validator(mode="after")`` that raises ValueError with one sentence. Settings are frozen
    and hashable, so they can be part of cache keys.

    >>> class Counting(Settings):
    ...     texts: int = 8
    >>> Counting.parse({"texts": 4}, task="counting")
    Counting(texts=4)
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _lists_as_tuples(cls, values: Any) -> Any:
        """Turn lists, which cards, config files and records hold, into tuples, which a frozen type needs."""
        if isinstance(values, Mapping):
            return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return values

    @classmethod
    def parse(cls, values: Mapping[str, Any], task: str) -> Self:
        """Return settings from plain values.

        Raises UsageError, which names ``task``, the setting and the rule, for a value that breaks a rule.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise UsageError(explain(error, task, known=cls.model_fields)) from error

    def parameters(self) -> dict[str, Value]:
        """Return the settings as plain JSON values, which are a part of the identity of records."""
        return self.model_dump(mode="json")


class TextSettings(Settings):
    """Settings of a task that reads one text: ``--text`` replaces it, and the controls are fitted to it."""

    text: str


class SampledSettings(TextSettings):
    """Settings of a task that reads sampled sequences of a text: ``--limit`` sets how many it reads."""

    context_length: int
    sequences: int
