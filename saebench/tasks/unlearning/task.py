"""Unlearning with an SAE: what is forgotten, at which cost, beside methods without an SAE and controls."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from saebench.evaluation.task import SAETask, TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE, Capability
from saebench.tasks.unlearning import trained
from saebench.tasks.unlearning.controls import control_results
from saebench.tasks.unlearning.curves import Resamples
from saebench.tasks.unlearning.evaluate import Evaluation, Result
from saebench.tasks.unlearning.methods import Sweep, check, clamp_sweeps, direction_sweeps, dsg_sweeps
from saebench.tasks.unlearning.questions import SIDES, content_hash, question_set, questions_of
from saebench.tasks.unlearning.report import CLEAN, Report, trade_off
from saebench.tasks.unlearning.selection import Statistics, firing_shares
from saebench.tasks.unlearning.settings import UnlearningSettings
from saebench.tasks.unlearning.texts import PARTS, part_items, parts


class UnlearningTask(SAETask[UnlearningSettings]):
    """Clamps, the dynamic guardrail and SSPU with the latents of one SAE, beside RMU and difference in means."""

    name: ClassVar[str] = "unlearning"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.POSITION_WISE, Capability.NON_NEGATIVE})
    settings = UnlearningSettings

    def prepare(self, context: TaskContext, settings: UnlearningSettings) -> None:
        """Raise UsageError, DataError or AssetError for settings and data that cannot be used."""
        parameters = settings.parameters()
        check(parameters)
        for part in PARTS:
            part_items(context, parts(context, parameters)[part], parameters)
        question_set(context, parameters)

    def data(self, context: TaskContext, settings: UnlearningSettings) -> dict[str, str]:
        """Content hashes of texts and question sets."""
        parameters = settings.parameters()
        texts = [parameters["forget_text"], *parameters["retain_texts"]]
        asked = [parameters[f"{side}_questions"] for side in SIDES]
        return {ref: context.text(ref).content_hash for ref in texts} | {
            f"questions:{ref}": content_hash(questions_of(context, ref)) for ref in asked
        }

    @torch.no_grad()
    def run(self, sae: SAE, context: TaskContext, settings: UnlearningSettings) -> TaskOutput:
        """Measure ``sae``. When no latent passes the selection, its methods change nothing and have effect 0."""
        parameters = settings.parameters()
        evaluation = Evaluation(context, sae.hook.site_out, parameters)
        fit, length = evaluation.parts["fit"], parameters["context_length"]
        statistics = Statistics.of(sae, context, fit, length)
        sweeps = self._sweeps(sae, context, statistics, evaluation, parameters)
        flat = [sweep for each in sweeps.values() for sweep in each]
        measured = iter(evaluation.curves(flat))  # all at once: edits of the same latents encode once
        curves = {method: [next(measured) for _ in each] for method, each in sweeps.items()}
        results = {method: evaluation.result(curves[method]) for method in sweeps if method in parameters["methods"]}
        headline = max(results, key=lambda method: results[method].promise)
        results |= control_results(evaluation, sae, statistics, curves["clamp"], parameters)
        results |= self._without_latents(evaluation, parameters)
        trains = "sspu" in parameters["methods"] and parameters["fine_tune_steps"] > 0
        if trains and trained.can_guide(sae, context):
            results["sspu"] = trained.sspu(evaluation, sae, statistics, parameters)
        settings = [each for sweep in sweeps["clamp"] for each in sweep.interventions]
        scored = evaluation.answers(settings) if parameters["saebench_score"] else None
        report = self._report(evaluation, results, headline)
        if scored is not None:
            report.saebench_score(scored)
        if "dsg" in sweeps:
            self._gate(report, sae, evaluation, results["dsg"])
        if not any(sweep.latents for sweep in flat):
            report.out.notes["reason"] = "no latent passed the selection, so nothing was changed"
        report.out.counts = self._counts(evaluation, results[headline])
        report.out.counts["not_scored"] = sum(m.value is None for m in report.out.measurements)
        return report.out

    def _sweeps(
        self, sae: SAE, context: TaskContext, statistics: Statistics, evaluation: Evaluation, parameters: dict[str, Any]
    ) -> dict[str, list[Sweep]]:
        """Of the SAE's methods. The clamp's are always there: controls and the score of SAEBench need them."""
        sweeps = clamp_sweeps(sae, context, statistics, parameters)
        if "dsg" in parameters["methods"]:
            sweeps["dsg"] = dsg_sweeps(sae, context, statistics, evaluation.parts["fit"], parameters)
        return {method: each for method, each in sweeps.items() if method in ("clamp", *parameters["methods"])}

    def _without_latents(self, evaluation: Evaluation, parameters: dict[str, Any]) -> dict[str, Result]:
        """Directions and RMU, once for all SAEs at a site."""

        def directions() -> dict[str, Result]:
            fit = evaluation.parts["fit"]
            found = direction_sweeps(evaluation.context, fit, evaluation.site, parameters)
            return {method: evaluation.result(evaluation.curves(sweeps)) for method, sweeps in found.items()}

        key = (self.name, "directions", evaluation.site, repr(sorted(parameters.items())))
        results = dict(evaluation.context.shared(key, directions))
        if "rmu" in parameters["methods"] and parameters["fine_tune_steps"]:
            results["rmu"] = trained.rmu(evaluation, parameters)
        return results

    def _report(self, evaluation: Evaluation, results: dict[str, Result], headline: str) -> Report:
        parameters = evaluation.parameters
        resamples = Resamples(evaluation.context, parameters["bootstrap_replicates"])
        report = Report(resamples, evaluation.questions, evaluation.clean, parameters)
        report.answers([CLEAN], evaluation.clean)
        report.repetition([CLEAN], evaluation.written)
        for method, result in results.items():
            subsets = ["", method] if method == headline else [method]
            report.documents(subsets, result)
            report.answers(subsets, result.answers)
            report.repetition(subsets, result.written)
        for control, name in (("random_latents", "random"), ("diffmean", "diffmean")):
            if control in results:
                report.difference(f"at_budget_over_{name}", results[headline], results[control])
        report.out.arrays |= trade_off(results)
        report.out.notes = {
            "headline": headline,
            "settings": {method: result.setting for method, result in results.items()},
            "sweeps": {method: [curve.sweep.name for curve in each.tried] for method, each in results.items()},
        }
        return report

    def _gate(self, report: Report, sae: SAE, evaluation: Evaluation, result: Result) -> None:
        test, curve = evaluation.parts["test"], result.curve
        opened = np.zeros(len(test.texts), bool)
        if curve is not None and curve.sweep.gate is not None:
            length, latents = evaluation.parameters["context_length"], np.array(curve.sweep.latents, np.int64)
            opened = firing_shares(sae, evaluation.context, test.texts, length, latents) > curve.sweep.gate
        report.gate(opened, test.is_forget)

    def _counts(self, evaluation: Evaluation, headline: Result) -> dict[str, int]:
        questions = evaluation.questions
        return {
            "selected_latents": 0 if headline.curve is None else len(headline.curve.sweep.latents),
            **{
                f"{part}_{side}_documents": len(getattr(each, side))
                for part, each in evaluation.parts.items()
                for side in SIDES
            },
            "forget_questions": questions.n_forget,
            "retain_questions": len(questions.questions) - questions.n_forget,
        }
