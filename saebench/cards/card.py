"""Task cards: the published definitions of what tasks measure. Each is a YAML file, validated strictly.

The files are in ``tasks/`` of the repository; in the wheel they are in ``saebench/_cards/``. A card holds the version,
the parameters and presets, the metrics with direction, unit and bounds, the sources, and what the numbers cannot tell.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    create_model,
    model_validator,
)

from saebench.capabilities import Capability
from saebench.cards.rules import Ascending, Unique, explain
from saebench.cards.settings import Settings, Value
from saebench.errors import SaebenchError, UsageError, did_you_mean
from saebench.yaml_file import read_yaml

Preset = Literal["smoke", "quick", "standard", "paper"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
Scope = Literal["sae", "group", "both"]  # whether a task measures single SAEs, groups of SAEs, or both
Groups = Literal["seeds", "sizes", "sites"]  # in what the SAEs of a group differ: seed, size or hook point

Kind = Literal["language", "synthetic"]  # of the models that a task measures on

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
ArxivId = Annotated[str, StringConstraints(pattern=r"^\d{4}\.\d{4,5}$")]

_ITEMS: dict[str, type] = {"text": str, "whole numbers": int, "numbers": float}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Parameter(_Strict):
    """A setting that changes the numbers, and the rules for its value. Settings such as batch sizes do not belong here.

    The type of the value is that of ``default``. For a list, the bounds and ``choices`` hold for every item, and
    ``items`` says what the items are when the default is empty. ``minimum`` and ``maximum`` are allowed values,
    ``above`` and ``below`` are not.
    """

    default: Value
    description: Text
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    choices: list[str] | None = None
    items: Literal["text", "whole numbers", "numbers"] | None = None
    non_empty: bool = False
    ascending: bool = False
    unique: bool = False

    @model_validator(mode="after")
    def _applicable(self) -> Self:
        if not isinstance(self.default, list):
            if self.items or self.ascending or self.unique:
                raise ValueError("items, ascending and unique are for lists")
        elif (self.items is None) == (not self.default):
            raise ValueError("items says what an empty list holds; other lists show it by their default")
        kind = self._item_type()
        if self.choices is not None and kind is not str:
            raise ValueError("choices are for text")
        if kind not in (int, float) and any(bound is not None for bound in self._bounds().values()):
            raise ValueError("minimum, above, maximum and below are for numbers")
        return self

    def checked(self, value: Any) -> Value:
        """Return ``value`` as records keep it: a whole number becomes a float if the parameter is a float.

        Raises ValidationError for a value that breaks a rule.
        """
        return self._model.model_validate({"value": value}).model_dump(mode="json")["value"]

    def rules(self) -> dict[str, Any]:
        """Return the rules as JSON schema, to compare them with those of a settings class."""
        schema = self._model.model_json_schema()["properties"]["value"]
        return {key: value for key, value in schema.items() if key != "title"}

    def _item_type(self) -> type:
        if not isinstance(self.default, list):
            return type(self.default)
        return _ITEMS[self.items] if self.items else type(self.default[0])

    def _bounds(self) -> dict[str, float | None]:
        """The bounds by pydantic's names."""
        return {"ge": self.minimum, "gt": self.above, "le": self.maximum, "lt": self.below}

    @cached_property
    def _model(self) -> type[Settings]:
        """A model with one field, ``value``, of the type that this parameter describes."""
        kind = self._item_type()
        bounds: dict[str, Any] = {
            key: kind(bound) if kind is int and bound == int(bound) else bound
            for key, bound in self._bounds().items()
            if bound is not None
        }
        one: Any = Literal[tuple(self.choices)] if self.choices is not None else kind
        one = Annotated[one, Field(**bounds)] if bounds else one
        if isinstance(self.default, list):
            one = tuple[one, ...]
            for marker in [Ascending()] * self.ascending + [Unique()] * self.unique:
                one = Annotated[one, marker]
        required: Any = Field(min_length=1) if self.non_empty else ...
        return create_model("Parameter", __base__=Settings, value=(one, required))


class DataReference(_Strict):
    """A text or dataset that a task uses by default."""

    reference: Text
    revision: Text
    licence: Text
    note: str = ""


class MetricSpec(_Strict):
    """One metric: what it is and how to read it."""

    id: Name
    title: Text
    description: Text
    unit: Text  # the unit of the value, such as "nats per token", "share" or "ratio"
    higher_is_better: bool | None  # None: it describes the SAE, and neither direction is better
    bounds: Annotated[list[float | None], Field(min_length=2, max_length=2)]
    chance: float | None = None  # the score of a method that knows nothing
    primary: bool = False
    ranked: bool = True  # False: too unreliable to rank SAEs by; leaderboards show it and never rank by it
    interval: Text  # how its interval is made, and over which units
    reliability: str = ""  # what is known about noise, bias and blind spots


class TaskCard(_Strict):
    """The definition of one task."""

    name: Name
    version: Annotated[int, Field(ge=1)]
    title: Text
    description: Text
    measures: Text
    cannot_tell: Text
    scope: Scope
    groups: Groups = "seeds"  # which of the bundled groups it takes by default; it has no meaning for the scope "sae"
    model: Kind = "language"  # what the task measures on; a run takes by default the tasks that fit its model
    needs: list[Annotated[Capability, Field(strict=False)]]
    without_controls: list[Text] = []  # the default controls that would say nothing about this task
    cost: Text
    # Whether the task reads a sampled text as `core` does: a clean pass, two ablations, and a suffix pass for each SAE.
    # The command announces the number of these passes before a run.
    passes_counted: bool = False
    parameters: dict[Name, Parameter]
    presets: dict[Preset, dict[str, Value]]
    data: list[DataReference]
    metrics: Annotated[list[MetricSpec], Field(min_length=1)]
    table_columns: Annotated[list[str], Field(min_length=1)]
    citation: list[ArxivId]
    caveats: list[Text] = []
    ours: str = ""  # which parts of the definition are saebench's own choices

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
        """Return what the card says about a metric. Raises UsageError for an unknown metric."""
        for spec in self.metrics:
            if spec.id == id:
                return spec
        raise UsageError(f"Task {self.name!r} has no metric {id!r}.{did_you_mean(id, [m.id for m in self.metrics])}")

    def resolve(self, preset: str, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return all parameters: the defaults, replaced by those of ``preset``, and these by ``overrides``.

        Raises UsageError for an unknown preset or parameter and for a value that breaks a rule.
        """
        if preset not in PRESETS:
            known = ", ".join(PRESETS)
            raise UsageError(f"There is no preset {preset!r}; presets are {known}.{did_you_mean(preset, PRESETS)}")
        defaults = {key: parameter.default for key, parameter in self.parameters.items()}
        chosen = {**self.presets[preset], **(overrides or {})}
        return {**defaults, **{key: self._checked(key, value) for key, value in chosen.items()}}

    def _checked(self, key: str, value: Any) -> Any:
        """Return ``value`` as records keep it. Raises UsageError for an unknown parameter or a broken rule."""
        if key not in self.parameters:
            raise UsageError(f"Task {self.name!r} has no parameter {key!r}.{did_you_mean(key, self.parameters)}")
        try:
            return self.parameters[key].checked(value)
        except ValidationError as error:
            raise UsageError(explain(error, self.name, named=key)) from error


def cards_dir() -> Path:
    """Return the folder of the built-in cards: it is inside the installed package, or ``tasks/`` of a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_cards", package.parent / "tasks"):
        if (folder / "core.yaml").is_file():
            return folder
    raise SaebenchError(f"The task cards are missing from {package}; install saebench again.")


def load_card(path: Path | str) -> TaskCard:
    """Return the card in ``path``. Raises UsageError, naming the file and the key, for anything wrong in it."""
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
    """Return ``key.path: message`` for every problem, once per key; a union reports each of its members."""
    messages: dict[str, str] = {}
    for problem in error.errors():
        place = problem["loc"]
        cause = problem.get("ctx", {}).get("error")
        message = str(cause) if cause is not None else problem["msg"]
        if problem["type"] == "extra_forbidden":
            keys = [key for model in (TaskCard, Parameter, MetricSpec, DataReference) for key in model.model_fields]
            message = f"unknown key{did_you_mean(str(place[-1]), keys).replace(' Did', '; did').rstrip('?')}"
        messages.setdefault(".".join(map(str, place)), message)
    return "; ".join(f"{place}: {message}" if place else message for place, message in messages.items())
