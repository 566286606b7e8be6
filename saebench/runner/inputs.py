"""What a dry run can say of the inputs of tasks: they are read and divided as in the run, without a language model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NoReturn, cast

from saebench.errors import AssetError, SaebenchError
from saebench.lm.model import LanguageModel
from saebench.passes.context import TaskContext
from saebench.runner.info import sentence
from saebench.runner.loading import not_ending
from saebench.runner.plan import Plan, TaskPlan
from saebench.tasks.factory import create


def check_inputs(plan: Plan) -> list[str]:
    """Return a line for each task whose inputs cannot be used, or cannot be checked on this disk.

    Every task prepares until it asks for the language model. So what only a tokenizer can tell, such as the number of
    tokens of a text, is not known. Nothing is fetched.

    Raises:
        SaebenchError: No task can use its inputs, which stops the run, too.
    """
    errors: dict[str, SaebenchError] = {}
    lines = []
    for planned in plan.tasks:
        if any("hf:" in text for text in texts_of(planned.parameters)):
            lines.append(f"{planned.name}: its inputs are checked when the run reads them from the hub")
            continue
        try:
            prepare_inputs(planned, plan.request.seed[0])
        except AssetError as error:
            lines.append(f"{planned.name}: its inputs are checked when the run has fetched them ({sentence(error)})")
        except Exception as error:  # a task may be somebody else's code
            known = error if isinstance(error, SaebenchError) else SaebenchError(f"{planned.name}: {sentence(error)}")
            errors[planned.name] = known
            lines.append(f"{planned.name} is left out, because its inputs cannot be used: {sentence(error)}")
    if len(errors) == len(plan.tasks):
        raise next(iter(errors.values()))
    return lines


class _AskedForModelError(Exception):
    """A task asked for the language model."""


class _NoModel:
    """Stands in for the language model, and ends the work that first asks for it."""

    def __getattr__(self, name: str) -> NoReturn:
        raise _AskedForModelError(name)


def prepare_inputs(planned: TaskPlan, seed: int) -> None:
    """Let a task read its inputs until it asks for the language model. Raises whatever the task raises."""
    task, context = create(planned.name), TaskContext(cast(LanguageModel, _NoModel()), seed)
    for step in (task.data, task.prepare):
        with suppress(_AskedForModelError), not_ending(planned.name):
            step(context, planned.settings)


def texts_of(value: Any) -> Iterator[str]:
    """Yield the texts among the values of parameters."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_of(item)
