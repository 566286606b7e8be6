"""Interventions in text form, for command lines, such as ``clamp:latents=1,2;value=-5;error=kept``.

The form is ``KIND:KEY=VALUE;KEY=VALUE``, and the keys are the arguments of the kind's class. Items of lists are
separated by commas or slashes, because lm-eval divides its model arguments at commas. ``|`` separates interventions
that are applied one after the other. ``none`` changes nothing, and ``splice`` replaces the activation by the
reconstruction; neither has settings.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from saebench.errors import UsageError, did_you_mean
from saebench.interventions.base import Intervention
from saebench.interventions.clamp import Clamp, RefusalClamp, zero
from saebench.interventions.compose import Composed
from saebench.interventions.guardrail import DynamicGuardrail
from saebench.interventions.latents import Latents
from saebench.interventions.splice import Splice
from saebench.interventions.steer import Steer
from saebench.interventions.suppress import RangeMask, Scale
from saebench.interventions.vectors import DirectionalAblation
from saebench.sae.protocol import SAE

_EXAMPLE = "clamp:latents=1,2;value=-5;error=kept"


def parse_intervention(spec: str, sae: SAE) -> Intervention:
    """Return the intervention that ``spec`` names, on latents of ``sae``. By default, the SAE's error is kept.

    Raises:
        UsageError: The text cannot be read.
        NotApplicableError: The intervention is not possible with this SAE.
    """
    parts = [_one(text.strip(), sae) for text in spec.split("|")]
    return parts[0] if len(parts) == 1 else Composed(parts)


def _one(text: str, sae: SAE) -> Intervention:
    if text in _BARE:
        return _BARE[text](sae)
    kind, _, settings = text.partition(":")
    if kind not in _BUILDERS:
        fitted = " It is fitted to labelled examples, so it has no text form." if kind == "attenuate" else ""
        known = [*_BARE, *_BUILDERS]
        raise UsageError(
            f"{text!r} does not name an intervention, as {_EXAMPLE!r} does. The known kinds are {', '.join(known)}."
            f"{fitted}{did_you_mean(kind, known)}"
        )
    build = _BUILDERS[kind]
    parameters = {
        name: parameter for name, parameter in inspect.signature(build).parameters.items() if name != "latents"
    }
    texts = _settings(text, settings, ["latents", "error", *parameters])
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    if missing := [name for name in ["latents", *required] if name not in texts]:
        raise UsageError(f"{text!r} lacks {' and '.join(missing)}; write {_EXAMPLE!r}, for example.")
    values = {
        name: _READERS.get(str(parameters[name].annotation), _text)(text, name, value)
        for name, value in texts.items()
        if name in parameters
    }
    indices = [_integer(text, "latents", item) for item in _items(texts["latents"])]
    latents = Latents(sae, indices, error=texts.get("error", "kept"))  # type: ignore[arg-type]
    return build(latents, **values)


def _settings(text: str, settings: str, known: Sequence[str]) -> dict[str, str]:
    """Return the text of each setting by its key."""
    values: dict[str, str] = {}
    for setting in filter(None, (part.strip() for part in settings.split(";"))):
        name, equals, value = (part.strip() for part in setting.partition("="))
        if not equals or name in values:
            why = f"sets {name} twice" if equals else f"has {setting!r} instead of KEY=VALUE"
            raise UsageError(f"{text!r} {why}; write {_EXAMPLE!r}, for example.")
        if name not in known:
            raise UsageError(
                f"{text!r} has the unknown key {name!r}. The known keys are {', '.join(known)}."
                f"{did_you_mean(name, known)}"
            )
        values[name] = value
    return values


def _clamp(
    latents: Latents,
    *,
    value: float | Sequence[float] | None = None,
    multiple: float | None = None,
    reference: float | Sequence[float] | None = None,
    threshold: float | None = 0.0,
) -> Clamp:
    if value is not None and multiple is None and reference is None:
        return Clamp(latents, value, threshold=threshold)
    if value is None and multiple is not None and reference is not None:
        return Clamp.multiple(latents, multiple, reference, threshold=threshold)
    raise UsageError("A clamp needs either a value, or a multiple and the reference that it multiplies.")


def _items(value: str) -> list[str]:
    return [item.strip() for item in re.split("[,/]", value)] if value else []


def _integer(text: str, name: str, value: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", value):
        raise UsageError(f"{name} must be a whole number, not {value!r} as in {text!r}.")
    return int(value)


def _number(text: str, name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise UsageError(f"{name} must be a number, not {value!r} as in {text!r}.")
    return number


def _numbers(text: str, name: str, value: str) -> float | list[float]:
    numbers = [_number(text, name, item) for item in _items(value)]
    return numbers[0] if len(numbers) == 1 else numbers


def _number_or_none(text: str, name: str, value: str) -> float | None:
    return None if value == "none" else _number(text, name, value)


def _text(text: str, name: str, value: str) -> str:
    return value


_BARE: dict[str, Callable[[SAE], Intervention]] = {
    "none": lambda sae: Composed([], site=sae.hook.site_out),
    "splice": Splice,
}
_BUILDERS: dict[str, Callable[..., Intervention]] = {
    "zero": zero,
    "clamp": _clamp,
    "refusal": RefusalClamp,
    "scale": Scale,
    "range": RangeMask,
    "steer": Steer,
    "ablate": DirectionalAblation.of_latents,
    "dsg": DynamicGuardrail,
}
# How the text of a setting is read, by the annotation of the argument.
_READERS: dict[str, Callable[[str, str, str], Any]] = {
    "int": _integer,
    "float": _number,
    "float | None": _number_or_none,
    "float | Sequence[float]": _numbers,
    "float | Sequence[float] | None": _numbers,
}
