"""The settings of a task as a type: what strict mypy checks wherever the science reads a parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from saebench.cards.rules import explain
from saebench.errors import UsageError

if TYPE_CHECKING:
    from saebench.cards.card import TaskCard

Value = bool | int | float | str | list[int] | list[float] | list[str]


class Settings(BaseModel):
    """Everything that a user may choose about a task, with the defaults and the rules of its card.

    A subclass declares one field for each parameter of the card,: lists as tuples, texts with few
    values as ``Literal``, bounds as ``Field(ge=...)``, and `saebench.cards.rules.Ascending` or `Unique` where the card
    says so. Rules between two settings are a ``model_validator(mode="after")`` that raises ValueError with a sentence.
    Settings are frozen and hashable: they serve as a cache key as they are.

    >>> class Counting(Settings):
    ...     texts: int = 8
    >>> Counting.parse({"texts": 4}, task="counting")
    Counting(texts=4)
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _lists_as_tuples(cls, values: Any) -> Any:
        """Cards, config files and records hold lists; a frozen type wants tuples."""
        if isinstance(values, Mapping):
            return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return values

    @classmethod
    def parse(cls, values: Mapping[str, Any], task: str) -> Self:
        """Settings from plain values. Raises UsageError that names the setting, the rule, and ``task``."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise UsageError(explain(error, task)) from error

    def parameters(self) -> dict[str, Value]:
        """The settings as plain JSON values: what a record keeps, and what its identity is made of."""
        return self.model_dump(mode="json")


class TextSettings(Settings):
    """Settings of a task that reads one text: ``--text`` replaces it, and its controls are fitted to it."""

    text: str


class SampledSettings(TextSettings):
    """Settings of a task that reads sampled sequences of a text: ``--limit`` sets how many."""

    context_length: int
    sequences: int


def disagreements(settings: type[Settings], card: TaskCard) -> list[str]:
    """Where a settings class and its card differ, one phrase for each parameter; empty when they agree.

    Compared are the names, the defaults, and every rule.
    """
    schemas = settings.model_json_schema()
    fields = settings.model_fields
    found = []
    if missing := [name for name in card.parameters if name not in fields]:
        found.append(f"{settings.__name__} lacks {', '.join(missing)}")
    if unknown := [name for name in fields if name not in card.parameters]:
        found.append(f"the card lacks {', '.join(unknown)}")
    for name, parameter in card.parameters.items():
        if name not in fields:
            continue
        default = fields[name].get_default()
        if parameter.default != (list(default) if isinstance(default, tuple) else default):
            found.append(f"{name}: the default is {default!r}, on the card {parameter.default!r}")
        rules = {key: value for key, value in schemas["properties"][name].items() if key not in _PROSE}
        if rules != (published := parameter.rules()):
            found.append(f"{name}: the rules are {rules}, on the card {published}")
    return found


_PROSE = ("title", "default", "description")
