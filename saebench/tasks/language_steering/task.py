"""Which latents belong to a language, what ablating them costs, and whether adding them makes the model speak it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch

from saebench.errors import UsageError, did_you_mean
from saebench.evaluation.task import SAETask, TaskOutput
from saebench.interventions.latents import Latents as SAELatents
from saebench.interventions.noise import EqualNormNoise
from saebench.interventions.vectors import AddVector, DirectionalAblation
from saebench.passes.activity import activity
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE, Capability
from saebench.stats.selection import frequency_matched
from saebench.tasks.language_steering.directions import Vectors, latent_vector, of_norm
from saebench.tasks.language_steering.figures import Figures
from saebench.tasks.language_steering.identify import Latents, Rates, langfir, lape, monolingual
from saebench.tasks.language_steering.sentences import sentences
from saebench.tasks.language_steering.settings import LanguageSteeringSettings
from saebench.tasks.language_steering.setup import (
    CENTRES,
    DIFFMEAN,
    RECOVER,
    Baselines,
    Setup,
    ablation,
    baselines,
    centre,
    setup,
)
from saebench.tasks.language_steering.steering import ByLanguage, Setting
from saebench.tasks.language_steering.sweep import Sweep, setting, sweeps

LANGFIR, NU, LAPE = "langfir", "nu", "lape"
METHODS = (LANGFIR, NU, LAPE)
RANDOM, NOISE = "random", "noise"

# Thresholds of LangFIR for which the number of latents is kept in the arrays.
CONSISTENCIES = (0.5, 0.8, 0.9, 0.95, 1.0)
RANDOM_RATES = (0.0, 0.01, 0.05, 0.1, 0.2)

Chosen = Mapping[str, Latents]  # by language


class LanguageSteeringTask(SAETask[LanguageSteeringSettings]):
    """Language-specific latents: identification, ablation, steering."""

    name: ClassVar[str] = "language_steering"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.LINEAR_DECODER, Capability.POSITION_WISE})
    settings = LanguageSteeringSettings

    def prepare(self, context: TaskContext, settings: LanguageSteeringSettings) -> None:
        """Raise UsageError or DataError for settings and sentences that cannot be used, before any SAE is loaded."""
        parameters = settings.parameters()
        for method in parameters["methods"]:
            if method not in METHODS:
                raise UsageError(
                    f"There is no method {method!r}; known: {', '.join(METHODS)}.{did_you_mean(method, METHODS)}"
                )
        if (given := parameters["ablation_centre"]) not in CENTRES:
            raise UsageError(f"ablation_centre must be {' or '.join(CENTRES)}, not {given!r}.")
        for name in ("methods", "strengths", "diffmean_strengths"):
            if not parameters[name]:
                raise UsageError(f"Parameter {name!r} of task {self.name!r} is empty; give one at least.")
        for name in ("strengths", "diffmean_strengths", "recover_strengths"):
            if any(a >= b for a, b in pairwise([0.0, *parameters[name]])):
                raise UsageError(f"Parameter {name!r} of task {self.name!r} must ascend from above 0.")
        setup(context, parameters)

    def data(self, context: TaskContext, settings: LanguageSteeringSettings) -> dict[str, str]:
        """Content hash of the parallel set."""
        parameters = settings.parameters()
        return {parameters["parallel"]: sentences(context, parameters).parallel.content_hash}

    @torch.no_grad()
    def run(self, sae: SAE, context: TaskContext, settings: LanguageSteeringSettings) -> TaskOutput:
        """Measure ``sae``."""
        parameters = settings.parameters()
        given, site = setup(context, parameters), sae.hook.site_out
        without = baselines(context, parameters, site)
        rates = _rates(sae, context, given, parameters)
        found = _identified(rates, given, parameters)
        used = {method: _capped(found[method], parameters["most_latents"]) for method in parameters["methods"]}
        vectors = {method: _vectors(sae, rates, given, chosen) for method, chosen in used.items()}
        swept = sweeps(given.validation, site, vectors, parameters["strengths"])
        best = max(swept, key=lambda method: swept[method].value)  # the first of equal ones
        random = _random(context, rates, given, used[best])
        tested = {method: setting(site, each, swept[method].best) for method, each in vectors.items()}
        tested |= _controls(sae, rates, given, random, vectors[best], swept[best].best, context.seed)
        scores = dict(zip(tested, given.test.under(list(tested.values())), strict=True))
        figures = Figures(context, given.sentences, parameters["bootstrap_replicates"])
        _steering(figures, {"": scores[best], **scores}, without, list(vectors))
        costs = _ablated(sae, context, parameters, given, {**used, RANDOM: random})
        for name, each in {"": costs[best], **costs, DIFFMEAN: without.costs}.items():
            figures.ablation(name, each)
        _counted(figures, found)
        out = figures.out
        out.arrays |= _arrays(rates, {**without.sweeps, **swept}, {**costs, DIFFMEAN: without.costs})
        out.counts |= _counts(given, parameters, found, scores[best])
        out.counts["not_scored"] = sum(m.value is None for m in out.measurements)
        out.notes = {
            "method": best,
            "strengths": {method: sweep.best for method, sweep in {**without.sweeps, **swept}.items()},
            "latents": {
                m: {each: chosen[each].tolist() for each in chosen} for m, chosen in {**used, RANDOM: random}.items()
            },
            "identifier": given.identifier,
            "continuations": {language: each.texts[0] for language, each in scores[best].items()},
        }
        return out


def _rates(sae: SAE, context: TaskContext, given: Setup, parameters: dict[str, Any]) -> Rates:
    length = parameters["context_length"]
    read = [activity(sae, context, texts, length) for texts in given.train.values()]
    return Rates.of(read, activity(sae, context, given.random, length))


def _identified(rates: Rates, given: Setup, parameters: dict[str, Any]) -> dict[str, dict[str, Latents]]:
    """The latents of every language by every method, also those that are not steered with."""
    languages = list(enumerate(given.sentences.languages))
    thresholds = parameters["consistency"], parameters["random_rate"]
    return {
        LANGFIR: {language: langfir(rates, number, *thresholds) for number, language in languages},
        NU: {language: monolingual(rates, number, parameters["nu_latents"]) for number, language in languages},
        LAPE: dict(zip(given.sentences.languages, lape(rates), strict=True)),
    }


def _capped(chosen: Chosen, most: int) -> dict[str, Latents]:
    return {language: latents[:most] for language, latents in chosen.items()}


def _vectors(sae: SAE, rates: Rates, given: Setup, chosen: Chosen) -> Vectors:
    number = {language: place for place, language in enumerate(given.sentences.languages)}
    return {each: latent_vector(sae, rates, number[each], chosen[each]) for each in given.sentences.targets}


def _random(context: TaskContext, rates: Rates, given: Setup, chosen: Chosen) -> dict[str, Latents]:
    """As many other latents for each language, which fire about as often there."""
    return {
        language: frequency_matched(
            rates.token[number], chosen[language], context.rng(f"language_steering:random latents:{language}")
        )
        for number, language in enumerate(given.sentences.languages)
    }


def _controls(
    sae: SAE, rates: Rates, given: Setup, random: Chosen, vectors: Vectors, strength: float, seed: int
) -> dict[str, Setting]:
    """Changes as large as those of the best method: along other latents, and in no direction."""
    site = sae.hook.site_out
    others = _vectors(sae, rates, given, random)
    stretched = {
        each: v if (v := vectors[each]) is None else of_norm(others[each], float(v.norm())) for each in vectors
    }
    noise = {
        each: None if v is None else EqualNormNoise(AddVector(site, v, strength), seed) for each, v in vectors.items()
    }
    return {RANDOM: setting(site, stretched, strength), NOISE: noise}


def _ablated(
    sae: SAE, context: TaskContext, parameters: dict[str, Any], given: Setup, methods: Mapping[str, Chosen]
) -> dict[str, np.ndarray]:
    """Cost of ablating the latents of each target ``[targets, languages, rows]``; equal latents are ablated once."""
    wanted = [tuple(sorted(chosen[each].tolist())) for chosen in methods.values() for each in given.sentences.targets]
    distinct = list(dict.fromkeys(wanted))
    middle = centre(context, parameters, sae.hook.site_out)
    interventions = [
        DirectionalAblation.of_latents(SAELatents(sae, latents, error="kept"), centre=middle) if latents else None
        for latents in distinct
    ]
    costs = ablation(context, parameters, sae.hook.site_out).costs(interventions, f"ablation of latents of {sae.name}")
    place = {latents: number for number, latents in enumerate(distinct)}
    n = len(given.sentences.targets)
    return {
        method: costs[[place[latents] for latents in wanted[number * n : (number + 1) * n]]]
        for number, method in enumerate(methods)
    }


def _steering(figures: Figures, scores: Mapping[str, ByLanguage], without: Baselines, methods: list[str]) -> None:
    for name, each in {**scores, **without.scores}.items():
        figures.steering(name, each)
    for name in ("", *methods):
        figures.over("accuracy_over_diffmean", name, scores[name], without.scores[DIFFMEAN])
    figures.over("accuracy_over_random", "", scores[""], scores[RANDOM])
    if RECOVER in without.scores:
        figures.over("accuracy_over_recover", "", scores[""], without.scores[RECOVER])


def _counted(figures: Figures, found: Mapping[str, Chosen]) -> None:
    for name, method in {"": LANGFIR, LANGFIR: LANGFIR, NU: NU, LAPE: LAPE}.items():
        figures.latents(name, {language: len(latents) for language, latents in found[method].items()})
    every = np.concatenate(list(found[LANGFIR].values()))
    _, languages = np.unique(every, return_counts=True)
    alone = int((languages == 1).sum())
    figures.share("langfir_specific_share", alone, len(every), "LangFIR finds no latent for any language")


def _arrays(rates: Rates, swept: Mapping[str, Sweep], costs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every setting that was tried."""
    counts = [
        [[len(langfir(rates, number, c, r)) for number in range(len(rates.mean))] for r in RANDOM_RATES]
        for c in CONSISTENCIES
    ]
    return {
        "langfir_counts": np.array(counts, dtype=np.int32),
        **{f"sweep/{method}": sweep.table.astype(np.float32) for method, sweep in swept.items()},
        **{f"ablation/{method}": each.mean(-1).astype(np.float32) for method, each in costs.items()},
    }


def _counts(
    given: Setup, parameters: dict[str, Any], found: Mapping[str, Chosen], headline: ByLanguage
) -> dict[str, int]:
    splits = {split: len(order) for split, order in given.sentences.order.items()}
    asked = {
        "train": parameters["train_sentences"],
        "validation": parameters["validation_prompts"],
        "test": parameters["test_prompts"],
    }
    return {
        "languages": len(given.sentences.languages),
        **{f"{split}_sentences": min(n, splits[split]) for split, n in asked.items()},
        **{f"{split}_sentences_missing": max(0, n - splits[split]) for split, n in asked.items()},
        "empty_continuations": sum(not text for each in headline.values() for text in each.texts),
        **{f"selected_latents/{m}": sum(map(len, chosen.values())) for m, chosen in found.items()},
        **{f"languages_without/{m}": sum(not len(each) for each in chosen.values()) for m, chosen in found.items()},
    }
