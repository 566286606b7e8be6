"""What the value of a setting must fulfil: the markers that types carry, and the sentences for values that fail.

A rule is checked by pydantic wherever it is written, on a card or in a settings class, so that both refuse a value in
the same words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from saebench.errors import did_you_mean


@dataclass(frozen=True)
class Ascending:
    """The values of a list rise, so no value stands there twice."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(_ascending, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "ascending": True}


@dataclass(frozen=True)
class Unique:
    """No value stands in a list twice."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(_unique, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "uniqueItems": True}


def _ascending(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if any(after <= before for before, after in pairwise(values)):
        raise PydanticCustomError("rule", "must list rising values")
    return values


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for number, value in enumerate(values):
        if value in values[:number]:
            raise PydanticCustomError("rule", "must name each value once; {value} stands there twice", {"value": value})
    return values


# The type of a pydantic error -> what the value should have been; the braces are filled from the error's context.
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


def explain(error: ValidationError, task: str, named: str = "") -> str:
    """The first problem of ``error`` as one sentence that names the setting, the task, the rule and the value.

    ``named`` is the name of the setting where the error does not know it.
    """
    problem = error.errors()[0]
    kind, given, context = problem["type"], problem["input"], problem.get("ctx", {})
    if not problem["loc"]:  # a rule between several settings, whose text is a sentence of its own
        return f"Task {task!r}: {context.get('error', problem['msg'])}"
    name = f"Parameter {(named or problem['loc'][0])!r} of task {task!r}"
    # An item of a list is named by its place, from 1.
    item = next((part for part in problem["loc"][1:] if isinstance(part, int)), None)
    where = name if item is None else f"{name} (value {item + 1} of the list)"
    if kind == "rule":
        return f"{name} {problem['msg']}, not {_shown(given)}."
    if kind in ("too_short", "string_too_short"):
        return f"{name} is empty; give one value at least."
    if kind == "literal_error":
        return f"{where} must be one of {_choices(context)}, not {given!r}.{_meant(given, context)}"
    if kind in _EXPECTED:
        return f"{where} must be {_EXPECTED[kind].format(**context)}, not {_shown(given)}."
    if kind == "missing":
        return f"{name} is missing."
    return f"{where}: {context.get('error', problem['msg'])} (got {_shown(given)})."


def _shown(value: Any) -> str:
    return repr(list(value) if isinstance(value, tuple) else value)


def _choices(context: Mapping[str, Any]) -> str:
    return str(context["expected"]).replace("'", "").replace(" or ", ", ")


def _meant(given: Any, context: Mapping[str, Any]) -> str:
    return did_you_mean(given, _choices(context).split(", ")) if isinstance(given, str) else ""
