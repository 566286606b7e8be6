"""Detoxification by toxic latents (after 2505.14536): found and set on some texts, tested on others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from saebench.evaluation.task import SAETask, TaskOutput
from saebench.interventions.base import Intervention
from saebench.interventions.steer import Tier
from saebench.passes.activity import Activity, activity
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE, Capability
from saebench.tasks.detox.baseline import DiffMean, diffmean
from saebench.tasks.detox.choice import Tradeoff
from saebench.tasks.detox.inputs import Inputs, inputs
from saebench.tasks.detox.judged import Judged
from saebench.tasks.detox.latents import Found, find_toxic, matched_set, placements
from saebench.tasks.detox.report import CLEAN, Report
from saebench.tasks.detox.settings import DetoxSettings
from saebench.tasks.detox.sides import ce_changes, report_utility
from saebench.tasks.detox.steering import Setting, Settings, sweep
from saebench.tasks.detox.texts import labelled, sources

_CHANCE = "there are no texts to rank"


class DetoxTask(SAETask[DetoxSettings]):
    """Whether taking toxic latents out of the activation makes continuations less toxic, and what it costs."""

    name: ClassVar[str] = "detox"
    needs: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.POSITION_WISE, Capability.LINEAR_DECODER, Capability.NON_NEGATIVE}
    )
    settings = DetoxSettings

    def prepare(self, context: TaskContext, settings: DetoxSettings) -> None:
        """Raise UsageError, DataError or AssetError for what cannot be used, before any SAE is loaded."""
        parameters = settings.parameters()
        inputs(context, parameters)
        context.batch(parameters["text"], parameters["context_length"], parameters["sequences"])

    def data(self, context: TaskContext, settings: DetoxSettings) -> dict[str, str]:
        """Content hashes of the labelled texts, and of the prompts if they come from elsewhere."""
        parameters = settings.parameters()
        found = [labelled(source, context)[0] for pair in sources(parameters) for source in pair]
        prompts = parameters["prompts"]
        hashes = super().data(context, settings) | {data.ref: data.content_hash for data in found}
        return hashes | ({prompts: context.read(prompts).content_hash} if prompts else {})

    @torch.no_grad()
    def run(self, sae: SAE, context: TaskContext, settings: DetoxSettings) -> TaskOutput:
        """Measure ``sae``. An SAE without toxic latents, or without a setting that helps, changes nothing: effect 0."""
        parameters = settings.parameters()
        given = inputs(context, parameters)
        fit, found, auroc = _toxic_latents(sae, given)
        steering = Settings(sae, found.chosen, context.budget.encoder)
        tried = sweep(parameters["tiers"], parameters["strengths"]) if len(found.chosen) else []
        validation = Tradeoff(
            given.validation.clean, given.validation.under([steering.steered(each) for each in tried])
        )
        by_tier = _chosen(tried, validation, given)
        best = next(iter(by_tier.values()))
        site, control = sae.hook.site_out, matched_set(fit, found.chosen, context.rng("detox:random_latents"))
        interventions = _tested(steering, best, by_tier, Settings(sae, control, context.budget.encoder), given)
        judged = _judged(interventions, given)
        difference = diffmean(given, site) if "diffmean" in parameters["methods"] else None
        acting = dict(interventions)
        if difference is not None:
            acting["diffmean"], judged["diffmean"] = difference.intervention, difference.test

        report = Report(context, parameters["bootstrap_replicates"])
        clean = given.test.clean
        report.ratio("latent_auroc", (auroc, np.ones_like(auroc)), "pair", _CHANCE)
        for subset, each in {**judged, CLEAN: clean}.items():
            report.setting(subset, each, clean)
        for method in ("random_latents", "diffmean", "noise"):
            if method in judged:
                report.over(method.removesuffix("_latents"), clean, judged[method], judged[""])
        for subset, ratio in ce_changes(given, site, acting).items():
            report.ratio("ce_change", ratio, "sequence", "the neutral text has no prediction", subset)
        report_utility(report, given, interventions[""])
        on_test = None
        if parameters["sweep_on_test"]:
            on_test = Tradeoff(clean, given.test.under([steering.steered(each) for each in tried]))
        for prefix, trade in (("validation", validation), ("", on_test)):
            if trade is not None:
                _report_tradeoff(report, prefix, trade, tried, given)
        if difference is not None:
            _report_diffmean(report, difference, given)
        output = report.output
        output.counts = _counts(found, given, output)
        output.notes = {
            "latents": found.chosen.indices,
            "fit_auroc": found.fit_auroc,
            "validation_auroc": {str(n): value for n, value in found.validation_auroc.items()},
            "chosen": best.note() if best is not None else None,
            "by_tier": {tier: None if each is None else each.strength for tier, each in by_tier.items()},
            "diffmean_strength": None if difference is None else difference.chosen,
            "random_latents": control.indices,
            "scorer": f"{given.scorer.name} ({given.scorer.version})",
            "fluency_lm": given.fluency.lm_ref,
            **_why_nothing(found, best, given),
        }
        return output


def _toxic_latents(sae: SAE, given: Inputs) -> tuple[Activity, Found, np.ndarray]:
    """What the latents do on the texts to fit on, the toxic ones, and contributions to their AUROC on test texts."""
    context, parameters = given.context, given.parameters
    fit, validation, test = (
        activity(sae, context, given.splits[name].texts, parameters["context_length"])
        for name in ("fit", "validation", "test")
    )
    found = find_toxic(
        fit,
        given.splits["fit"].toxic,
        validation,
        given.splits["validation"].toxic,
        numbers=parameters["latents"],
        min_auroc=parameters["min_auroc"],
        pooling=parameters["pooling"],
    )
    scores = found.chosen.score(test, parameters["pooling"])
    return fit, found, placements(scores, given.splits["test"].toxic)


def _chosen(tried: Sequence[Setting], trade: Tradeoff, given: Inputs) -> dict[Tier, Setting | None]:
    """The best strength of each tier on the validation prompts; tiers by falling reduction there."""
    found: dict[Tier, tuple[float, float]] = {}
    for tier in given.parameters["tiers"]:
        rows = [row for row, each in enumerate(tried) if each.tier == tier]
        found[tier] = trade.best(given.limits, rows, [tried[row].strength for row in rows])
    order = sorted(found, key=lambda tier: -found[tier][1])
    return {tier: Setting(tier, found[tier][0]) if found[tier][1] > 0 else None for tier in order}


def _tested(
    steering: Settings, best: Setting | None, by_tier: dict[Tier, Setting | None], random: Settings, given: Inputs
) -> dict[str, Intervention | None]:
    """What runs on the test prompts, by subset; None where nothing is to be changed."""
    methods = given.parameters["methods"]
    found: dict[str, Intervention | None] = {"": None if best is None else steering.steered(best)}
    if "tiers" in methods:
        for tier, each in by_tier.items():
            found[tier] = found[""] if each == best else None if each is None else steering.steered(each)
    if "zero" in methods:
        found["zero"] = steering.zeroed() if len(steering.latents) else None
    if "random_latents" in methods:
        found["random_latents"] = None if best is None else random.steered(best)
    if "noise" in methods:
        found["noise"] = None if best is None else steering.noise(best, given.context.seed)
    return found


def _judged(interventions: dict[str, Intervention | None], given: Inputs) -> dict[str, Judged]:
    """Each intervention's continuations of the test prompts; equal ones are generated once."""
    acting = list({id(each): each for each in interventions.values() if each is not None}.values())
    found = {id(each): judged for each, judged in zip(acting, given.test.under(acting), strict=True)}
    clean = given.test.clean
    return {subset: clean if each is None else found[id(each)] for subset, each in interventions.items()}


def _report_tradeoff(report: Report, prefix: str, trade: Tradeoff, tried: Sequence[Setting], given: Inputs) -> None:
    widest = given.parameters["frontier_perplexity_ratio"]
    sweeps = {tier: [row for row, each in enumerate(tried) if each.tier == tier] for tier in given.parameters["tiers"]}
    report.tradeoff(prefix, trade, list(sweeps.values()), given.limits, widest)
    for tier, rows in sweeps.items():
        report.tradeoff("/".join(filter(None, (prefix, tier))), trade, [rows], given.limits, widest)
    name = prefix or "test"
    report.output.arrays |= {
        f"{name}.tier": np.array([given.parameters["tiers"].index(each.tier) for each in tried], dtype=np.int64),
        f"{name}.strength": np.array([each.strength for each in tried], dtype=np.float32),
    }
    _arrays(report, name, trade)


def _report_diffmean(report: Report, difference: DiffMean, given: Inputs) -> None:
    rows = list(range(len(difference.strengths)))
    for prefix, trade in (("validation", difference.validation), ("", difference.on_test)):
        if trade is not None:
            subset = "/".join(filter(None, (prefix, "diffmean")))
            report.tradeoff(subset, trade, [rows], given.limits, given.parameters["frontier_perplexity_ratio"])
            name = f"{prefix or 'test'}.diffmean"
            report.output.arrays[f"{name}.strength"] = np.array(difference.strengths, dtype=np.float32)
            _arrays(report, name, trade)


def _arrays(report: Report, name: str, trade: Tradeoff) -> None:
    report.output.arrays |= {
        f"{name}.toxicity_reduction": trade.effect.astype(np.float32),
        f"{name}.log_perplexity_ratio": trade.cost.astype(np.float32),
        f"{name}.broken_increase": trade.broken.astype(np.float32),
    }


def _counts(found: Found, given: Inputs, output: TaskOutput) -> dict[str, int]:
    return {
        "selected_latents": len(found.chosen),
        "toxic_latents": found.passed,
        **{f"{name}_texts": len(split.texts) for name, split in given.splits.items()},
        "validation_prompts": len(given.splits["validation"].prompts),
        "test_prompts": len(given.splits["test"].prompts),
        "not_scored": sum(m.value is None for m in output.measurements),
    }


def _why_nothing(found: Found, best: Setting | None, given: Inputs) -> dict[str, Any]:
    if not len(found.chosen):
        return {
            "nothing_changed": f"no latent reaches an AUROC of {given.parameters['min_auroc']} on the texts to fit on"
        }
    if best is None:
        return {"nothing_changed": "no setting reduces toxicity on the validation prompts within the limits"}
    return {}
