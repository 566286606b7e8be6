"""Fetching everything that a plan needs from the network, so that it runs without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from saebench.data import assets
from saebench.errors import SaebenchError
from saebench.hub.client import HubError, fetch, list_files
from saebench.hub.place import Place
from saebench.lm.reference import LMRef, parse_lm_ref
from saebench.progress import Progress
from saebench.runner.assets import needed_assets
from saebench.runner.inputs import prepare_inputs, texts_of
from saebench.runner.plan import Plan, TaskPlan

# What transformers reads: settings, the tokenizer in its several forms, and weights; pickled ones only if need be.
_SMALL = (".json", ".txt", ".model", ".jinja", ".tiktoken")
_WEIGHTS = (".safetensors", ".bin")
_FURTHER_MODEL = "_lm"  # the names of parameters that name language models end so


@dataclass(frozen=True)
class Fetched:
    """One thing that a plan needs.

    Attributes:
        name: Its reference.
        what: What it is, such as a commit; empty if there is nothing to say.
        error: Why it cannot be had; empty if it is there.
    """

    name: str
    what: str = ""
    error: str = ""


def prefetch(plan: Plan, progress: Progress) -> Iterator[Fetched]:
    """Fetch the assets, language models, SAEs and texts of a plan, and yield what became of each.

    Something that cannot be had does not keep the rest from being fetched. Code that comes with a language model is
    not fetched.
    """
    for name, get in _needs(plan, progress):
        progress.log(f"fetching {name}")
        try:
            yield Fetched(name, get())
        except SaebenchError as error:
            yield Fetched(name, error=str(error))


def fetch_model(model: LMRef) -> str:
    """Fetch the files of a language model of the hub and return their commit. Raises HubError."""
    place = Place(model.name, model.revision)
    listing = list_files(place)
    top = [file for file in listing.files if "/" not in file]
    weights = [file for file in top if file.endswith(_WEIGHTS[0])] or [file for file in top if file.endswith(_WEIGHTS)]
    if not weights:
        raise HubError(f"{model} holds no weights that transformers could load.")
    return fetch(place, [file for file in top if file.endswith(_SMALL)] + weights, listing).name


def _needs(plan: Plan, progress: Progress) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield the references of what the plan needs, and the functions that fetch it."""
    for name in needed_assets(plan):
        yield f"asset:{name}", partial(_asset, name, progress)
    further = (value for task in plan.tasks for value in _named_models(task))
    for model in dict.fromkeys([plan.model, *map(parse_lm_ref, further)]):
        if model.scheme == "hf":
            yield str(model), partial(_model, model)
    for ref in dict.fromkeys(plan.refs):
        if ref.remote:
            yield str(ref), ref.prefetch
    for task in plan.tasks:
        texts = [text for key, value in task.parameters.items() if not _names_model(key) for text in texts_of(value)]
        if any("hf:" in text for text in texts):
            yield f"the texts of {task.name}", partial(_texts, task, plan.request.seed[0])


def _names_model(parameter: str) -> bool:
    return parameter.endswith(_FURTHER_MODEL)


def _named_models(task: TaskPlan) -> Iterator[str]:
    return (value for key, value in task.parameters.items() if _names_model(key) and isinstance(value, str) and value)


def _asset(name: str, progress: Progress) -> str:
    assets.pull(name, progress)
    return ""


def _model(model: LMRef) -> str:
    return f"commit {fetch_model(model)}"


def _texts(task: TaskPlan, seed: int) -> str:
    prepare_inputs(task, seed)
    return ""
