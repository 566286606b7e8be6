"""Task cards: the published definition of what a task measures, one YAML file each, validated strictly.

The files live in ``tasks/`` of the repository and travel in the wheel as ``saebench/_cards/``. They are data:
version, presets, metrics with direction, unit and bounds, sources, and what the numbers cannot tell.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

import saebench
from saebench.errors import SaebenchError, UsageError, did_you_mean

Preset = Literal["smoke", "quick", "standard", "paper"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
Scope = Literal["sae", "group", "both"]  # what a task measures: single SAEs, groups of SAEs, or either
Groups = Literal["seeds", "sizes"]  # in what the SAEs of a group differ

# The values of saebench.sae.protocol.Capability, which is not imported here because it needs torch.
CapabilityName = Literal[
    "linear_decoder", "encoder_directions", "non_negative", "position_wise", "sparse_encode", "transcoder"
]
Value = bool | int | float | str | list[int] | list[float] | list[str]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
ArxivId = Annotated[str, StringConstraints(pattern=r"^\d{4}\.\d{4,5}$")]

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Parameter(_Strict):
    """A setting that changes the numbers (batch sizes and the like do not belong here)."""

    default: Value  # its type is the type of every value
    description: Text
    minimum: float | None = None


class DataReference(_Strict):
    """Text or a dataset that a task uses unless told otherwise."""

    reference: Text
    revision: Text
    licence: Text
    note: str = ""


class MetricSpec(_Strict):
    """One metric id of the table: what it is and how to read it."""

    id: Name
    title: Text
    description: Text
    unit: Text  # of the value, e.g. "nats per token", "share", "ratio"
    higher_is_better: bool | None  # None: a description of the SAE, not a merit
    bounds: Annotated[list[float | None], Field(min_length=2, max_length=2)]
    chance: float | None = None  # what a method that knows nothing scores
    primary: bool = False
    ranked: bool = True  # False: too unreliable to rank SAEs by; leaderboards show it and never rank by it
    interval: Text  # how its interval is made, and over which units
    reliability: str = ""  # what is known of noise, bias and blind spots


class TaskCard(_Strict):
    """One task. ``ours`` says which part of the definition is saebench's operationalisation ("" = none)."""

    name: Name
    version: Annotated[int, Field(ge=1)]
    title: Text
    description: Text
    measures: Text
    cannot_tell: Text
    scope: Scope
    groups: Groups = "seeds"  # which of the groups that come along it takes by default; of no meaning for scope "sae"
    needs: list[CapabilityName]
    without_controls: list[Text] = []  # baselines of the default that would say nothing here
    cost: Text
    # Whether it reads a sampled text as `core` does: a clean pass, two ablations, a suffix pass for each SAE. Such
    # passes are counted before a run.
    passes_counted: bool = False
    parameters: dict[Name, Parameter]
    presets: dict[Preset, dict[str, Value]]
    data: list[DataReference]
    metrics: Annotated[list[MetricSpec], Field(min_length=1)]
    table_columns: Annotated[list[str], Field(min_length=1)]
    citation: list[ArxivId]
    caveats: list[Text] = []
    ours: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        twice = [name for name, count in Counter(m.id for m in self.metrics).items() if count > 1]
        if twice:
            raise ValueError(f"metrics: {twice[0]!r} is defined twice")
        if not any(m.primary for m in self.metrics):
            raise ValueError("metrics: none is primary")
        ids = [m.id for m in self.metrics]
        for column in self.table_columns:
            if column not in ids:
                raise ValueError(f"table_columns: no metric is called {column!r}.{did_you_mean(column, ids)}")
        if missing := [preset for preset in PRESETS if preset not in self.presets]:
            raise ValueError(f"presets: {missing[0]!r} is missing (it may be empty: {{}})")
        values = [(f"parameters.{key}.default", key, parameter.default) for key, parameter in self.parameters.items()]
        for preset, overrides in self.presets.items():
            values += [(f"presets.{preset}.{key}", key, value) for key, value in overrides.items()]
        for place, key, value in values:
            try:
                self._checked(key, value)
            except UsageError as error:
                raise ValueError(f"{place}: {error}") from error
        return self

    def metric(self, id: str) -> MetricSpec:
        """Raises UsageError for an unknown metric."""
        for spec in self.metrics:
            if spec.id == id:
                return spec
        raise UsageError(f"Task {self.name!r} has no metric {id!r}.{did_you_mean(id, [m.id for m in self.metrics])}")

    def resolve(self, preset: str, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
        """All parameters: defaults, then those of ``preset``, then ``overrides``.

        Raises UsageError for an unknown preset or parameter and for a value of the wrong type.
        """
        if preset not in PRESETS:
            known = ", ".join(PRESETS)
            raise UsageError(f"There is no preset {preset!r}; presets are {known}.{did_you_mean(preset, PRESETS)}")
        defaults = {key: parameter.default for key, parameter in self.parameters.items()}
        given = {**self.presets[preset], **(overrides or {})}
        return {**defaults, **{key: self._checked(key, value) for key, value in given.items()}}

    def _checked(self, key: str, value: Any) -> Any:
        """``value`` if it fits parameter ``key``; whole numbers become floats where the default is a float."""
        if key not in self.parameters:
            raise UsageError(f"Task {self.name!r} has no parameter {key!r}.{did_you_mean(key, self.parameters)}")
        parameter = self.parameters[key]
        kind = type(parameter.default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise UsageError(f"Parameter {key!r} of task {self.name!r} must be {_KINDS[kind]}, not {value!r}.")
        if parameter.minimum is not None and isinstance(value, int | float) and value < parameter.minimum:
            raise UsageError(
                f"Parameter {key!r} of task {self.name!r} must be at least {parameter.minimum:g}, not {value!r}."
            )
        return value


def cards_dir() -> Path:
    """The folder of the built-in cards: inside the installed package, or ``tasks/`` of a checkout."""
    package = Path(saebench.__file__).parent
    for folder in (package / "_cards", package.parent / "tasks"):
        if (folder / "core.yaml").is_file():
            return folder
    raise SaebenchError(f"The task cards of saebench are missing beside {package}; install saebench again.")


def read_yaml(path: Path, what: str) -> Any:
    """The content of ``path``. Raises UsageError, calling it ``what``, when it cannot be read or is not YAML."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"Cannot read the {what} {path} ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"The {what} {path} is not valid YAML: {' '.join(str(error).split())}.") from error


def load_card(path: Path | str) -> TaskCard:
    """The card in ``path``. Raises UsageError naming the file and the path of the key for whatever is wrong in it."""
    path = Path(path)
    content = read_yaml(path, "task card")
    try:
        card = TaskCard.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"The task card {path} is wrong: {_explain(error)}.") from error
    if card.name != path.stem:
        raise UsageError(f"The task card {path} is wrong: name: is {card.name!r} but the file is called {path.name!r}.")
    return card


def _explain(error: ValidationError) -> str:
    """``key.path: message`` of every problem, once per key (a union reports each of its members)."""
    messages: dict[str, str] = {}
    for problem in error.errors():
        place = problem["loc"]
        cause = problem.get("ctx", {}).get("error")
        message = str(cause) if cause is not None else problem["msg"]
        if problem["type"] == "extra_forbidden":
            message = "unknown key"
        messages.setdefault(".".join(map(str, place)), message)
    return "; ".join(f"{place}: {message}" if place else message for place, message in messages.items())
