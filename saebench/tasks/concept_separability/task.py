"""Concept separability (2508.15094, our reading): one pass over the codes of each labelled set."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from saebench.errors import UsageError, did_you_mean
from saebench.evaluation.measure import add
from saebench.evaluation.task import SAETask, TaskOutput
from saebench.passes.context import TaskContext
from saebench.passes.examples import Examples
from saebench.sae.baselines import NeuronBaseline
from saebench.sae.protocol import SAE, Capability, HookSite
from saebench.stats.histogram import Activations
from saebench.stats.intervals import Estimate
from saebench.tasks.concept_separability.datasets import ConceptSet, concept_set, labelled
from saebench.tasks.concept_separability.distance import Share, difference, distance
from saebench.tasks.concept_separability.estimators import ESTIMATORS, Estimator
from saebench.tasks.concept_separability.pooling import POOLINGS, pooled
from saebench.tasks.concept_separability.scores import BY_CONCEPT, KEYS, SetScores, set_scores
from saebench.tasks.concept_separability.settings import ConceptSeparabilitySettings

_NO_LATENT = "no latent is active on any example"


class _Set(NamedTuple):
    concepts: ConceptSet
    examples: Examples


class ConceptSeparabilityTask(SAETask[ConceptSeparabilitySettings]):
    """How far single latents tell concepts apart, beside the neurons at the same site."""

    name: ClassVar[str] = "concept_separability"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.POSITION_WISE})
    settings = ConceptSeparabilitySettings

    def prepare(self, context: TaskContext, settings: ConceptSeparabilitySettings) -> None:
        """Raise UsageError or DataError for settings and datasets that cannot be used, before any SAE is loaded."""
        parameters = settings.parameters()
        for key, known in (("estimator", tuple(ESTIMATORS)), ("pooling", POOLINGS)):
            if (value := parameters[key]) not in known:
                raise UsageError(
                    f"Parameter {key!r} of task {self.name!r} must be one of {', '.join(known)}, not {value!r}."
                    f"{did_you_mean(value, known)}"
                )
        refs = parameters["datasets"]
        if not refs:
            raise UsageError(f"Task {self.name!r} needs one dataset at least; name it in 'datasets'.")
        if twice := [ref for ref in refs if refs.count(ref) > 1]:
            raise UsageError(f"Dataset {twice[0]!r} is named twice; name each once.")
        _sets(context, parameters)

    def data(self, context: TaskContext, settings: ConceptSeparabilitySettings) -> dict[str, str]:
        """Content hash of each dataset."""
        parameters = settings.parameters()
        return {ref: labelled(ref, context).content_hash for ref in parameters["datasets"]}

    def run(self, sae: SAE, context: TaskContext, settings: ConceptSeparabilitySettings) -> TaskOutput:
        """Measure ``sae`` on the datasets in ``parameters``, and the neurons that it reads, once for each site."""
        parameters = settings.parameters()
        sets = _sets(context, parameters)
        site = sae.hook.site_in
        settings = repr(sorted(parameters.items()))
        theirs = context.shared(
            (self.name, "neurons", site, settings), lambda: _neurons(sae.d_in, site, sets, context, parameters)
        )
        own = type(sae) is not NeuronBaseline
        ours = [_score(sae, each, context, parameters) for each in sets] if own else theirs
        output = TaskOutput(measurements=[])
        names = [each.concepts.name for each in sets]
        sizes = [each.examples.n for each in sets]
        headline = [number for number, each in enumerate(sets) if not each.concepts.word_level] or range(len(sets))
        ours_there, theirs_there = ([scores[number] for number in headline] for scores in (ours, theirs))
        _measure(output, "", ours_there, theirs_there, sum(sizes[number] for number in headline))
        for number, name in enumerate(names):
            one = slice(number, number + 1)
            _measure(output, name, ours[one], theirs[one], sizes[number])
            for key in BY_CONCEPT:
                for concept in sets[number].concepts.concepts:
                    estimate, parts = distance(_share(ours[one], f"{key}/{concept}"), sizes[number])
                    _add(output, f"separability_{key}", f"{name}/{concept}", estimate, parts)
        for name, size, scores in zip(names, sizes, ours, strict=True):
            output.arrays |= {f"joint_share/{name}": scores.joint, f"p_value/{name}": scores.p_values}
            output.counts |= {
                f"examples/{name}": size,
                f"alive/{name}": scores.n_alive,
                f"rare/{name}": scores.n_rare,
                f"significant/{name}": scores.n_significant,
            }
        output.counts["not_scored"] = sum(m.value is None for m in output.measurements)
        return output


def _sets(context: TaskContext, parameters: dict[str, Any]) -> list[_Set]:
    """The concept sets of a run, with the activations of their examples. Made once for all SAEs."""

    def one(ref: str) -> _Set:
        concepts = concept_set(ref, context, parameters["examples"], parameters["permutations"])
        return _Set(concepts.to(context.lm.device), context.examples(concepts.texts, parameters["context_length"]))

    key = tuple(parameters[name] for name in ("examples", "permutations", "context_length"))
    refs = parameters["datasets"]
    return [context.shared(("concept_separability", "set", ref, *key), partial(one, ref)) for ref in refs]


def _score(sae: SAE, given: _Set, context: TaskContext, parameters: dict[str, Any]) -> SetScores:
    pooling = "last" if given.concepts.word_level else parameters["pooling"]  # the word is the last token
    activations = pooled(sae, given.examples, pooling, context.budget.encoder)
    kind, bins = ESTIMATORS[parameters["estimator"]], parameters["bins"]

    def make(block: Activations) -> Estimator:
        return kind(block, given.concepts, bins)

    latent = kind.latent_bytes(len(given.concepts.concepts), bins)
    return set_scores(activations, given.concepts, make, max(1, context.budget.encoder // latent))


def _neurons(
    d_in: int, site: str, sets: Sequence[_Set], context: TaskContext, parameters: dict[str, Any]
) -> list[SetScores]:
    neurons = NeuronBaseline(d_in, name="neurons", hook=HookSite.at(site)).to(context.lm.device)
    return [_score(neurons, each, context, parameters) for each in sets]


def _measure(output: TaskOutput, subset: str, ours: Sequence[SetScores], theirs: Sequence[SetScores], n: int) -> None:
    """All averages over ``ours`` and the neurons' (one for each set), and shares of latents."""
    for key in KEYS:
        metric = f"separability_{key}"
        own, neurons = _share(ours, key), _share(theirs, key)
        _add(output, metric, subset, *distance(own, n))
        _add(output, f"neurons_{key}", subset, *distance(neurons, n))
        _add(output, f"{metric}_over_neurons", subset, *difference(own, neurons, n))
    for metric, scores in (("significant_share", ours), ("neurons_significant_share", theirs)):
        shares = [each.n_significant / each.n_alive if each.n_alive else np.nan for each in scores]
        _add_share(output, metric, subset, shares, sum(each.n_alive for each in scores))
    _add_share(output, "alive_share", subset, [each.n_alive / len(each.joint) for each in ours], len(ours[0].joint))
    rare = [each.n_rare / each.n_alive if each.n_alive else np.nan for each in ours]
    _add_share(output, "rare_share", subset, rare, sum(each.n_alive for each in ours))


def _share(scores: Sequence[SetScores], key: str) -> Share:
    return Share(np.array([each.value[key] for each in scores]), [each.left_out[key] for each in scores])


def _add(output: TaskOutput, metric: str, subset: str, estimate: Estimate, parts: np.ndarray) -> None:
    scored = np.isfinite(estimate.value)
    contributions = (parts, np.ones_like(parts)) if scored else None
    add(output, metric, estimate, "example", _NO_LATENT, subset, contributions)


def _add_share(output: TaskOutput, metric: str, subset: str, shares: Sequence[float], n: int) -> None:
    """A description of this SAE on these examples: no interval."""
    estimate = Estimate(float(np.mean(shares)), np.nan, np.nan, np.nan, n, "none")
    add(output, metric, estimate, "latent", _NO_LATENT, subset)
