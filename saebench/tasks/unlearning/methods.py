"""The methods that act at a hook: each is some sweeps, and a sweep is one intervention at rising strengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from saebench.errors import DataError, UsageError, did_you_mean
from saebench.interventions.base import Intervention
from saebench.interventions.clamp import Clamp
from saebench.interventions.guardrail import DynamicGuardrail
from saebench.interventions.latents import Latents
from saebench.interventions.vectors import AddVector, DirectionalAblation
from saebench.passes.activity import mean_activations
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench.stats.selection import frequency_matched
from saebench.tasks.unlearning.selection import SELECTIONS, Statistics, firing_shares
from saebench.tasks.unlearning.texts import Part

SAE_METHODS = ("clamp", "conditional", "dsg")
DIRECTIONS = ("diffmean", "ablation")
WEIGHTS = ("rmu", "sspu")
METHODS = (*SAE_METHODS, *DIRECTIONS, *WEIGHTS)
CONTROLS = ("random_latents", "noise")
UNITS = ("mean", "absolute")


@dataclass(frozen=True)
class Sweep:
    """One intervention at every strength; without interventions it changes nothing."""

    name: str
    strengths: tuple[float, ...]
    interventions: tuple[Intervention, ...]  # one for each strength, or none
    latents: tuple[int, ...] = ()
    gate: float | None = None  # DSG's tau


def check(parameters: dict[str, Any]) -> None:
    """Raise UsageError for settings that make no sense, before anything is loaded."""
    choices: list[tuple[str, Sequence[str], Sequence[str]]] = [
        ("methods", parameters["methods"], METHODS),
        ("clamp_selections", parameters["clamp_selections"], SELECTIONS),
        ("dsg_selections", parameters["dsg_selections"], SELECTIONS),
        ("strength_unit", [parameters["strength_unit"]], UNITS),
    ]
    for name, values, known in choices:
        for value in values:
            if value not in known:
                raise UsageError(
                    f"Parameter {name!r} of task 'unlearning' knows {', '.join(known)}, not {value!r}."
                    f"{did_you_mean(value, known)}"
                )
    if not set(parameters["methods"]) & set(SAE_METHODS):
        raise UsageError(f"Parameter 'methods' of task 'unlearning' names none of {', '.join(SAE_METHODS)}.")
    for name in ("strengths", "direction_strengths", "ablation_strengths", "weight_strengths"):
        values = parameters[name]
        if not values or min(values) <= 0 or sorted(set(values)) != list(values):
            raise UsageError(f"Parameter {name!r} of task 'unlearning' must hold rising numbers above 0, not {values}.")
    for name in ("clamp_selections", "dsg_selections", "latents"):
        if not parameters[name]:
            raise UsageError(f"Parameter {name!r} of task 'unlearning' is empty; give one at least.")
    if min(parameters["latents"]) < 1:
        raise UsageError(
            f"Parameter 'latents' of task 'unlearning' must hold numbers from 1 up: {parameters['latents']}."
        )


def clamp_sweeps(
    sae: SAE, context: TaskContext, statistics: Statistics, parameters: dict[str, Any]
) -> dict[str, list[Sweep]]:
    """Static and conditional clamps of the latents that each selection finds. Edits of the same latents encode once."""
    found: dict[str, list[Sweep]] = {"clamp": [], "conditional": []}
    for selection, n, chosen in _selected(statistics, parameters, "clamp_selections"):
        latents, sizes = (
            Latents(sae, chosen.tolist(), error="kept", budget=context.budget.encoder),
            statistics.size[chosen],
        )
        threshold = parameters["condition"] * float(sizes.mean()) if len(chosen) else 0.0
        for method, least in (("clamp", 0.0), ("conditional", threshold)):
            found[method].append(_clamps(f"{selection}, {n} latents", latents, sizes, least, parameters))
    return found


def dsg_sweeps(
    sae: SAE, context: TaskContext, statistics: Statistics, part: Part, parameters: dict[str, Any]
) -> list[Sweep]:
    """The dynamic guardrail, its gate set on the retained documents of ``part``."""
    found = []
    for selection, n, chosen in _selected(statistics, parameters, "dsg_selections"):
        latents = Latents(sae, chosen.tolist(), error="kept", budget=context.budget.encoder)
        name, strengths = f"{selection}, {n} latents", tuple(parameters["strengths"])
        if not len(chosen):
            found.append(Sweep(name, strengths, ()))
            continue
        rho = firing_shares(sae, context, part.retain, parameters["context_length"], chosen)
        tau = float(np.percentile(rho, parameters["gate_percentile"]))
        unit = _unit(statistics.size[chosen], parameters).mean()
        edits = [DynamicGuardrail(latents, tau=tau, value=-s * unit, scope="whole") for s in strengths]
        found.append(Sweep(name, strengths, tuple(edits), tuple(latents.indices), tau))
    return found


def random_sweep(
    sae: SAE, context: TaskContext, statistics: Statistics, like: Sweep, parameters: dict[str, Any]
) -> Sweep:
    """The clamp of as many latents drawn at random, each about as frequent as one of ``like``."""
    if not like.latents:
        return Sweep(f"random, as {like.name}", like.strengths, ())
    rng = context.rng(f"unlearning:random_latents:{len(like.latents)}")
    try:
        chosen = frequency_matched(statistics.rate, np.array(like.latents, np.int64), rng)
    except DataError:
        raise DataError(
            f"{sae.name} has {sae.d_sae} latents, too few to draw {len(like.latents)} random ones beside those "
            "that were selected; use fewer latents."
        ) from None
    # Those that never fire on the forget text have no size of their own there.
    sizes = statistics.size[chosen]
    sizes = np.where(sizes > 0, sizes, statistics.size[list(like.latents)].mean())
    latents = Latents(sae, chosen.tolist(), error="kept", budget=context.budget.encoder)
    return _clamps(f"random, as {like.name}", latents, sizes, 0.0, parameters)


def direction_sweeps(context: TaskContext, part: Part, site: str, parameters: dict[str, Any]) -> dict[str, list[Sweep]]:
    """Subtracting the difference in means of both sides, and ablating its direction about the retained texts' mean.

    The same for all SAEs.
    """
    forget, retain = means(context, part, site, parameters["context_length"])
    vector = forget - retain
    makers: dict[str, tuple[str, Callable[[float], Intervention]]] = {
        "diffmean": ("direction_strengths", lambda s: AddVector(site, vector, -s)),
        "ablation": (
            "ablation_strengths",
            lambda s: DirectionalAblation(site, vector[None], strength=s, centre=retain),
        ),
    }
    found = {}
    for method, (name, make) in makers.items():
        if method in parameters["methods"]:
            strengths = tuple(parameters[name])
            found[method] = [Sweep("difference in means", strengths, tuple(make(s) for s in strengths))]
    return found


def means(context: TaskContext, part: Part, site: str, length: int) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Mean activations of the forget documents and of the retained ones, each document with the same weight."""
    forget, retain = (
        mean_activations(context, texts, length, site).double().mean(0).float() for texts in (part.forget, part.retain)
    )
    return forget, retain


def _selected(
    statistics: Statistics, parameters: dict[str, Any], name: str
) -> list[tuple[str, int, NDArray[np.int64]]]:
    numbers = sorted(set(parameters["latents"]))
    return [(each, n, statistics.select(each, n, parameters)) for each in parameters[name] for n in numbers]


def _unit(sizes: NDArray[np.float64], parameters: dict[str, Any]) -> NDArray[np.float64]:
    """What a strength of 1 is, for each latent."""
    return sizes if parameters["strength_unit"] == "mean" else np.ones_like(sizes)


def _clamps(
    name: str, latents: Latents, sizes: NDArray[np.float64], threshold: float, parameters: dict[str, Any]
) -> Sweep:
    strengths, unit = tuple(parameters["strengths"]), _unit(sizes, parameters).tolist()
    if not len(latents):
        return Sweep(name, strengths, ())
    edits = [Clamp.multiple(latents, -s, unit, threshold=threshold) for s in strengths]
    return Sweep(name, strengths, tuple(edits), tuple(latents.indices))
