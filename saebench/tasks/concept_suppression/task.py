"""Suppress one concept at a time by latents, neurons and directions, and measure what else goes (2508.15094)."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np

from saebench.errors import DataError, UsageError, did_you_mean
from saebench.evaluation.task import SAETask, TaskOutput
from saebench.interventions.base import Intervention
from saebench.interventions.noise import EqualNormNoise
from saebench.passes.context import TaskContext
from saebench.sae.baselines import NeuronBaseline
from saebench.sae.protocol import SAE, Capability, HookSite
from saebench.stats.intervals import resampling_weights
from saebench.tasks.concept_separability.datasets import labelled
from saebench.tasks.concept_suppression.bases import Basis, difference_in_means
from saebench.tasks.concept_suppression.bench import SPLITS, Bench, Method, general_text
from saebench.tasks.concept_suppression.choice import SELECTIONS
from saebench.tasks.concept_suppression.data import ConceptSplit, concept_split
from saebench.tasks.concept_suppression.figures import Figures, sweep_arrays
from saebench.tasks.concept_suppression.methods import METHODS
from saebench.tasks.concept_suppression.outcome import Array, Outcome, Setting, choose
from saebench.tasks.concept_suppression.settings import ConceptSuppressionSettings

Parameters = dict[str, Any]

_NOTED = 10  # latents of each concept that the notes of a record name


class _Swept(NamedTuple):
    """Methods on both splits, and the one chosen on the first."""

    validation: dict[str, Outcome]
    test: dict[str, Outcome]
    best: Setting

    def chosen(self, setting: Setting) -> Outcome:
        return self.test[setting.method].at(setting.place)


class ConceptSuppressionTask(SAETask[ConceptSuppressionSettings]):
    """Full mask, range mask, partial suppression and APP on the latents of an SAE, beside neurons and controls."""

    name: ClassVar[str] = "concept_suppression"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.POSITION_WISE})
    settings = ConceptSuppressionSettings

    def prepare(self, context: TaskContext, settings: ConceptSuppressionSettings) -> None:
        """Raise UsageError or DataError for settings and data that cannot be used, before any SAE is loaded."""
        parameters = settings.parameters()
        for key, known in (("methods", METHODS), ("selection", SELECTIONS)):
            given = parameters[key] if isinstance(parameters[key], list) else [parameters[key]]
            for value in given or [""]:
                if value not in known:
                    raise UsageError(
                        f"Parameter {key!r} of task {self.name!r} knows {', '.join(known)}, not {value!r}."
                        f"{did_you_mean(str(value), known)}"
                    )
        for key, kinds in (("latents", (int,)), ("ablation_strengths", (int, float))):
            values = parameters[key]
            numbers = bool(values) and all(type(value) in kinds for value in values)
            if not numbers or min(values) <= 0 or sorted(set(values)) != values:
                what = "rising numbers" if float in kinds else "rising whole numbers"
                raise UsageError(f"Parameter {key!r} of task {self.name!r} must list {what} above 0, not {values}.")
        if not 0 < parameters["complement_share"] <= 1:
            raise UsageError(f"complement_share is a share above 0, at most 1, not {parameters['complement_share']}.")
        refs = parameters["datasets"]
        if not refs or len(set(refs)) < len(refs):
            raise UsageError(f"Task {self.name!r} needs datasets, each named once, not {refs}.")
        for split in _splits(context, parameters):
            for part in (split.fit, split.validation, split.test):
                context.examples(part.texts, parameters["context_length"])
        if missing := general_text(context, parameters).n_missing:
            raise DataError(
                f"The text {parameters['perplexity_text']!r} is {missing} sequences too short for the perplexity; ask "
                "for fewer (validation_sequences, test_sequences), or name a longer one."
            )

    def data(self, context: TaskContext, settings: ConceptSuppressionSettings) -> dict[str, str]:
        """Content hash of each dataset, and of the text for perplexity."""
        parameters = settings.parameters()
        ref = parameters["perplexity_text"]
        hashes = {ref: labelled(ref, context).content_hash for ref in parameters["datasets"]}
        return {**hashes, f"text {ref}": context.text(ref).content_hash}

    def run(self, sae: SAE, context: TaskContext, settings: ConceptSuppressionSettings) -> TaskOutput:
        """Measure ``sae``, and once for each site neurons and difference in means."""
        parameters = settings.parameters()
        site, reads = sae.hook.site_out, sae.hook.site_in
        splits = _splits(context, parameters)
        names, counts = parameters["methods"], parameters["latents"]
        key = (self.name, site, reads, repr(sorted(parameters.items())))
        bench = context.shared((*key, "bench"), lambda: Bench(splits, context, parameters, site, reads))

        def sweep(methods: list[Method], what: str) -> _Swept:
            outcomes = [bench.measure(methods, split, f"{what} on {split} examples") for split in SPLITS]
            return _Swept(outcomes[0], outcomes[1], _best(outcomes[0], bench, parameters))

        def of_neurons() -> _Swept:
            neurons = NeuronBaseline(sae.d_out, name="neurons", hook=HookSite.at(site)).to(context.lm.device)
            basis = Basis.of(neurons, splits, context, parameters)
            return sweep(basis.methods(names, counts, "neurons/"), "neurons")

        def of_directions() -> _Swept:
            return sweep([difference_in_means(splits, context, parameters, site)], "difference in means")

        directions = context.shared((*key, "diffmean"), of_directions)
        neurons = context.shared((*key, "neurons"), of_neurons)
        basis = Basis.of(sae, splits, context, parameters)
        methods = basis.methods(names, counts)
        ours = sweep(methods, sae.name)
        controls = bench.measure(_controls(basis, methods, ours.best, context.seed), "test", "controls")

        output = TaskOutput(measurements=[])
        figures = Figures(output, bench.design("test"), *_draws(bench, context, parameters["bootstrap_replicates"]))
        headline = ours.chosen(ours.best)
        figures.chosen("", headline)
        references = {"neurons": neurons.chosen(neurons.best), "diffmean": directions.chosen(directions.best)}
        references |= {name: outcome.at(1) for name, outcome in controls.items()}
        for name, outcome in references.items():
            figures.chosen(name, outcome)
            figures.over(name, headline, outcome)
        concepts = [f"{split.name}/{concept}" for split in splits for concept in split.concepts]
        for number, concept in enumerate(concepts):
            figures.of_concept(concept, number, headline)
        figures.readout(bench.clean_accuracy("test"))
        settings = {"": ours.best, "neurons": neurons.best}
        level = parameters["equal_drop"]
        for subset, swept in (("", ours), ("neurons", neurons)):
            figures.trade_off(subset, swept.test[swept.best.method], level)
        for swept in (ours, neurons, directions):
            for method, outcome in swept.test.items():
                settings[method] = _best({method: swept.validation[method]}, bench, parameters)
                if method not in references:
                    figures.chosen(method, swept.chosen(settings[method]))
                figures.trade_off(method, outcome, level)
            for split, outcomes in zip(SPLITS, (swept.validation, swept.test), strict=True):
                output.arrays |= sweep_arrays(split, outcomes, bench.design(split))
        _describe(output, bench, basis, settings, {**ours.test, **neurons.test, **directions.test}, concepts)
        return output


def _splits(context: TaskContext, parameters: Parameters) -> list[ConceptSplit]:
    names = ("fit_examples", "validation_examples", "test_examples", "complement_share")
    key = tuple(parameters[name] for name in names)

    def one(ref: str) -> ConceptSplit:
        return context.shared(
            ("concept_suppression", "split", ref, *key), lambda: concept_split(ref, context, parameters)
        )

    return [one(ref) for ref in parameters["datasets"]]


def _best(outcomes: dict[str, Outcome], bench: Bench, parameters: Parameters) -> Setting:
    """By the examples to validate on."""
    return choose(
        outcomes,
        bench.design("validation"),
        max_complement=parameters["max_complement_drop"],
        max_ratio=parameters["max_perplexity_ratio"],
    )


def _controls(basis: Basis, methods: list[Method], best: Setting, seed: int) -> list[Method]:
    """Other latents in place of those chosen, and noise as large as what the chosen setting does."""
    method = next(each for each in methods if each.name == best.method)
    if not best.place:
        nothing: list[Intervention | None] = [None] * len(method.changes[0])
        return [Method(name, (0.0,), [nothing]) for name in ("random", "noise")]
    strength, changes = method.strengths[best.place - 1], method.changes[best.place - 1]
    noise: list[Intervention | None] = [None if change is None else EqualNormNoise(change, seed) for change in changes]
    random = basis.matched(method.name, int(strength))
    return [Method("random", (strength,), random.changes), Method("noise", (strength,), [noise])]


def _draws(bench: Bench, context: TaskContext, replicates: int) -> tuple[Array, Array]:
    """Bootstrap draws of examples, each concept's own number in every draw, and of sequences of general text."""
    design = bench.design("test")
    sizes = design.target.sum(1).tolist()

    def make() -> Array:
        rng = context.rng("concept_suppression:bootstrap")
        return np.concatenate([resampling_weights(int(size), replicates, rng) for size in sizes], axis=1)

    examples = context.shared(("concept_suppression", "bootstrap", tuple(sizes), replicates), make)
    return examples, context.bootstrap_weights(len(design.predictions), replicates)


def _describe(
    output: TaskOutput,
    bench: Bench,
    basis: Basis,
    settings: dict[str, Setting],
    outcomes: dict[str, Outcome],
    concepts: list[str],
) -> None:
    """Notes and counts."""
    best = settings[""]
    strengths = {subset: outcomes[setting.method].strengths[setting.place] for subset, setting in settings.items()}
    latents = [ranked[:_NOTED].tolist() for of_set in basis.ranked for ranked in of_set]
    output.notes = {
        "method": best.method if best.place else "none: no setting suppresses within the limits",
        "neurons_method": settings["neurons"].method,
        "strengths": strengths,
        "latents": dict(zip(concepts, latents, strict=True)),
    }
    design = bench.design("test")
    output.counts = {
        "concepts": len(concepts),
        "examples": design.target.shape[1],
        "validation_examples": bench.design("validation").target.shape[1],
        "sequences": len(design.predictions),
        "predictions": int(design.predictions.sum()),
        "selected_latents": basis.count(int(strengths[""])),
        "concepts_without_latents": sum(not len(each) for of_set in basis.ranked for each in of_set),
        "not_scored": sum(m.value is None for m in output.measurements),
    }
