"""What all SAEs share: sentences, prompts, the clean model, and methods without an SAE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from saebench.errors import UsageError, did_you_mean
from saebench.interventions.vectors import DirectionalAblation
from saebench.passes.context import TaskContext
from saebench.scorers import language_identifier
from saebench.tasks.language_steering.ablation import Ablation
from saebench.tasks.language_steering.directions import difference_in_means, layer_means, overall_mean, recover
from saebench.tasks.language_steering.frames import FRAMES
from saebench.tasks.language_steering.sentences import Parameters, Sentences, random_texts, sentences
from saebench.tasks.language_steering.steering import ByLanguage, Steering
from saebench.tasks.language_steering.sweep import Sweep, setting, sweeps

CLEAN, DIFFMEAN, RECOVER = "clean", "diffmean", "recover"
CENTRES = ("mean", "zero")


@dataclass(frozen=True, eq=False)
class Setup:
    """What is read and what is continued."""

    sentences: Sentences
    train: Mapping[str, list[str]]
    random: list[str]
    validation: Steering
    test: Steering
    identifier: str  # package and version


@dataclass(frozen=True, eq=False)
class Baselines:
    """Methods without an SAE, at one site: what each does on the test split, and its sweep on validation."""

    scores: Mapping[str, ByLanguage]
    sweeps: Mapping[str, Sweep]
    costs: Float[np.ndarray, "targets languages rows"]  # of ablating the difference in means


def setup(context: TaskContext, parameters: Parameters) -> Setup:
    """Made once. Raises UsageError, DataError for settings and sentences that cannot be used."""
    return context.shared(
        ("language_steering", "setup", repr(sorted(parameters.items()))), lambda: _setup(context, parameters)
    )


def baselines(context: TaskContext, parameters: Parameters, site: str) -> Baselines:
    """Made once for each site."""
    key = ("language_steering", "baselines", site, repr(sorted(parameters.items())))
    return context.shared(key, lambda: _baselines(context, parameters, site))


def ablation(context: TaskContext, parameters: Parameters, site: str) -> Ablation:
    """The test sentences that ablations are scored on."""
    n, predictions = parameters["ablation_sentences"], parameters["ablation_predictions"]
    return Ablation(context, sentences(context, parameters), n, predictions, parameters["context_length"], site)


def centre(context: TaskContext, parameters: Parameters, site: str) -> Float[Tensor, " d"] | None:
    """What ablation leaves as it is: the mean over all languages' training sentences, or None for 0."""
    if parameters["ablation_centre"] == CENTRES[1]:
        return None
    key = ("language_steering", "centre", site, repr(sorted(parameters.items())))
    train = setup(context, parameters).train
    return context.shared(key, lambda: overall_mean(context, train, parameters["context_length"], site))


def _setup(context: TaskContext, parameters: Parameters) -> Setup:
    known = FRAMES
    if (frame := parameters["frame"]) not in known:
        raise UsageError(f"There is no frame {frame!r}; known: {', '.join(known)}.{did_you_mean(frame, known)}")
    found = sentences(context, parameters)
    identifier = language_identifier(parameters["identifier"], found.languages)
    train = found.first("train", parameters["train_sentences"])
    every = [text for texts in train.values() for text in texts]

    def steering(split: str, n: int) -> Steering:
        return Steering(
            context,
            found,
            split,
            n,
            frame=known[frame],
            shots=parameters["shots"],
            max_new_tokens=parameters["max_new_tokens"],
            identifier=identifier,
        )

    return Setup(
        found,
        train,
        random_texts(context, every, parameters["random_sequences"]),
        steering("validation", parameters["validation_prompts"]),
        steering("test", parameters["test_prompts"]),
        identifier.version,
    )


def _baselines(context: TaskContext, parameters: Parameters, site: str) -> Baselines:
    given = setup(context, parameters)
    targets, source = given.sentences.targets, given.sentences.source
    differences = difference_in_means(context, given.train, parameters["context_length"], site)
    vectors = {target: differences[target] for target in targets}
    swept = sweeps(given.validation, site, {DIFFMEAN: vectors}, parameters["diffmean_strengths"])
    (steered,) = given.test.under([setting(site, vectors, swept[DIFFMEAN].best)])
    scores = {CLEAN: given.test.clean, DIFFMEAN: steered}
    if tried := parameters["recover_strengths"]:
        some = {language: texts[: parameters["recover_sentences"]] for language, texts in given.train.items()}
        means = layer_means(context, some, parameters["context_length"])

        def everywhere(steering: Steering, strength: float) -> ByLanguage:
            return steering.at_all_sites({each: recover(means, each, source, strength) for each in targets})

        best = tried[0]
        if len(tried) > 1:
            swept[RECOVER] = Sweep.of(tried, [everywhere(given.validation, strength) for strength in tried])
            best = swept[RECOVER].best
        scores[RECOVER] = everywhere(given.test, best)
    middle = centre(context, parameters, site)
    costs = ablation(context, parameters, site).costs(
        [DirectionalAblation(site, vectors[target][None], centre=middle) for target in targets],
        "ablation of differences in means",
    )
    return Baselines(scores, swept, costs)
