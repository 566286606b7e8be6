"""Rules for the values of settings: markers for types, and the sentences about values that break a rule.

pydantic checks a rule wherever it is written, on a card or in a settings class, so both refuse a value in the same
words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from saebench.errors import did_you_mean, shown


@dataclass(frozen=True)
class Ascending:
    """Marks a list whose values rise, so that none is repeated."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(_ascending, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "ascending": True}


@dataclass(frozen=True)
class Unique:
    """Marks a list in which no value is repeated."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(_unique, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "uniqueItems": True}


def _ascending(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if any(after <= before for before, after in pairwise(values)):
        raise PydanticCustomError("rule", "must list rising values")
    return values


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("rule", "must name each value once")
    return values


# The type of a pydantic error -> what the value should be. The context of the error fills the braces.
_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "finite_number": "a finite number",
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "above {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "below {lt:g}",
}


def explain(error: ValidationError, task: str, named: str = "", known: Iterable[str] = ()) -> str:
    """Return the first problem of ``error`` as one sentence that names the setting, the task, the rule and the value.

    Args:
        error: What pydantic raised for a settings class or for the parameter of a card.
        task: The name of the task.
        named: The name of the setting, where the error does not know it.
        known: The settings that exist, to suggest one for a misspelt name.
    """
    problem = error.errors()[0]
    kind, value, context = problem["type"], problem["input"], problem.get("ctx", {})
    if not problem["loc"]:  # a rule between several settings, whose message is a whole sentence
        return f"Task {task!r}: {context.get('error', problem['msg'])}"
    setting = named or str(problem["loc"][0])
    if kind == "extra_forbidden":
        return f"Task {task!r} has no parameter {setting!r}.{did_you_mean(setting, known)}"
    name = f"Parameter {setting!r} of task {task!r}"
    # An item of a list is named by its place, counted from 1.
    item = next((part for part in problem["loc"][1:] if isinstance(part, int)), None)
    where = name if item is None else f"{name} (value {item + 1} of the list)"
    if kind == "rule":
        return f"{name} {problem['msg']}, not {_shown(value)}."
    if kind in ("too_short", "string_too_short"):
        return f"{name} is empty; give at least one value."
    if kind == "literal_error":
        return f"{where} must be one of {_choices(context)}, not {_shown(value)}.{_meant(value, context)}"
    if kind in _EXPECTED:
        return f"{where} must be {_EXPECTED[kind].format(**context)}, not {_shown(value)}."
    if kind == "missing":
        return f"{name} is missing."
    return f"{where}: {context.get('error', problem['msg'])} (got {_shown(value)})."


def _shown(value: Any) -> str:
    return shown(list(value) if isinstance(value, tuple) else value)


def _choices(context: Mapping[str, Any]) -> str:
    return str(context["expected"]).replace("'", "").replace(" or ", ", ")


def _meant(value: Any, context: Mapping[str, Any]) -> str:
    return did_you_mean(value, _choices(context).split(", ")) if isinstance(value, str) else ""
