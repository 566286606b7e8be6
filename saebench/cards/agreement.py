"""Whether a settings class says what the card of its task says."""

from __future__ import annotations

from typing import Any

from saebench.cards.card import TaskCard
from saebench.cards.settings import Settings

_PROSE = ("title", "default", "description")  # keys of a JSON schema that are no rules


def disagreements(settings: type[Settings], card: TaskCard) -> list[str]:
    """Return how a settings class and its card differ in names, defaults and rules; empty when they agree."""
    schemas = settings.model_json_schema()
    fields = settings.model_fields
    phrases = []
    if missing := [name for name in card.parameters if name not in fields]:
        phrases.append(f"{settings.__name__} lacks {', '.join(missing)}")
    if unknown := [name for name in fields if name not in card.parameters]:
        phrases.append(f"the card lacks {', '.join(unknown)}")
    for name, parameter in card.parameters.items():
        if name not in fields:
            continue
        default = fields[name].get_default()
        if parameter.default != (list(default) if isinstance(default, tuple) else default):
            phrases.append(f"{name}: the default is {default!r}, but {parameter.default!r} on the card")
        rules = {key: value for key, value in schemas["properties"][name].items() if key not in _PROSE}
        if rules != (published := parameter.rules()):
            phrases.append(f"{name}: the rules are {rules}, but {published} on the card{_hint(rules, published)}")
    return phrases


def _hint(rules: dict[str, Any], published: dict[str, Any]) -> str:
    """Return advice for the case that one side takes numbers and the other whole numbers."""
    types = {side.get("items", side).get("type") for side in (rules, published)}
    return " (a default of 0.0 makes a number, 0 a whole number)" if types == {"integer", "number"} else ""
