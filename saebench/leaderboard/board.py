"""Definitions of boards: which results a leaderboard shows and ranks. Each is a YAML file, validated strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from saebench.cards.audits import grade_of
from saebench.cards.card import MetricSpec
from saebench.cards.registry import registry
from saebench.errors import UsageError, did_you_mean
from saebench.yaml_file import read_yaml

Stratum = Literal["model", "hook", "width"]
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Filter(_Strict):
    """Which records count. An empty list includes all of them."""

    models: list[Text] = []
    hooks: list[Text] = []
    presets: list[Text] = []


class BoardTask(_Strict):
    """Which metrics of a task are shown, and which of them decide ranks."""

    columns: Annotated[list[str], Field(min_length=1)] | None = None  # None: the columns of the card's table
    # None: the primary metrics with a direction that the card allows to rank by, if their grade is A or B.
    ranked: list[str] | None = None


class Board(_Strict):
    """One leaderboard."""

    name: Name
    title: Text
    description: Text
    filter: Filter = Filter()
    strata: list[Stratum] = ["model", "hook", "width"]  # a row is ranked among the rows that share all of these
    tasks: Annotated[dict[str, BoardTask], Field(min_length=1)]
    rank_rule: Literal["mean rank"] = "mean rank"

    @field_validator("tasks", mode="before")
    @classmethod
    def _bare_names(cls, tasks: object) -> object:
        """Let ``core:`` without anything below it mean the card's own columns and ranked metrics."""
        return {name: task or {} for name, task in tasks.items()} if isinstance(tasks, dict) else tasks

    @field_validator("strata")
    @classmethod
    def _comparable(cls, strata: list[Stratum]) -> list[Stratum]:
        if missing := {"model", "hook"} - set(strata):
            name = sorted(missing)[0]
            raise ValueError(f"{name!r} is missing, but numbers of several {name}s cannot be ranked together")
        return strata

    def columns(self, task: str) -> list[MetricSpec]:
        """Return the metrics of ``task`` that the board shows, including those that decide ranks.

        Raises UsageError for a task or metric that does not exist.
        """
        card = registry().card(task)
        names = [*(self.tasks[task].columns or card.table_columns), *(spec.id for spec in self.ranked(task))]
        return [card.metric(name) for name in dict.fromkeys(names)]

    def ranked(self, task: str) -> list[MetricSpec]:
        """Return the metrics of ``task`` that decide ranks; none for a task that only describes SAEs.

        Raises UsageError for a task or metric that does not exist.
        """
        card, chosen = registry().card(task), self.tasks[task].ranked
        if chosen is None:
            able = (spec for spec in card.metrics if spec.primary and spec.ranked and spec.higher_is_better is not None)
            return [spec for spec in able if (grade := grade_of(task, card.version, spec.id)) and grade.ranks]
        return [card.metric(name) for name in dict.fromkeys(chosen)]

    def check(self) -> None:
        """Compare the board with the installed cards.

        Raises UsageError for tasks and metrics that do not exist, and for metrics that must not decide ranks.
        """
        where = f"The board {self.name!r} is wrong:"
        for task in self.tasks:
            try:
                self.columns(task)
            except UsageError as error:
                raise UsageError(f"{where} tasks.{task}: {error}") from error
            for spec in self.ranked(task):
                if spec.higher_is_better is None:
                    raise UsageError(
                        f"{where} tasks.{task}.ranked: {spec.id!r} has no direction, so no SAE is better than another."
                    )
                if not spec.ranked:
                    raise UsageError(
                        f"{where} tasks.{task}.ranked: the task's card marks {spec.id!r} as too unreliable to rank by; "
                        "name it under columns instead."
                    )
                grade = grade_of(task, registry().card(task).version, spec.id)
                if grade and not grade.ranks:
                    raise UsageError(
                        f"{where} tasks.{task}.ranked: the audit gives {spec.id!r} the grade {grade.letter}, by which "
                        f"no SAE is ranked ({grade.reason.rstrip('.')}); name it under columns instead."
                    )


def load_board(path: Path | str) -> Board:
    """Return the board in ``path``. Raises UsageError, naming the file and the key, for anything wrong in it."""
    path = Path(path)
    content = read_yaml(path, "board")
    if not isinstance(content, dict):
        raise UsageError(f"The board {path} must hold keys such as `name` and `tasks`, not a {type(content).__name__}.")
    try:
        board = Board.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"The board {path} is wrong: {_explain(error)}") from error
    if board.name != path.stem:
        raise UsageError(f"The board {path} is wrong: its name is {board.name!r} but the file is called {path.name!r}.")
    return board


def find_board(name: str, folder: Path) -> Board:
    """Return the board in the file ``name`` (if it ends in .yaml), or the board called ``name`` in ``folder``.

    Raises UsageError when there is no such board.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        return load_board(name)
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        boards = f"the boards in {folder} are {', '.join(known)}" if known else f"there are no boards in {folder}"
        raise UsageError(
            f"There is no board {name!r}; {boards}. The name of a file must end in .yaml.{did_you_mean(name, known)}"
        )
    return load_board(folder / f"{name}.yaml")


def _explain(error: ValidationError) -> str:
    """Return one sentence on the first problem. Unknown keys come first, because a misspelt key also seems missing."""
    first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    place, key = ".".join(map(str, first["loc"])), str(first["loc"][-1]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        known = {1: Board.model_fields, 2: Filter.model_fields, 3: BoardTask.model_fields}[len(first["loc"])]
        return f"{place}: unknown key.{did_you_mean(key, known)}"
    cause = first.get("ctx", {}).get("error")
    return f"{place}: {cause if cause is not None else first['msg']}."
