"""Whether the latents of an SAE are the features that a synthetic model is made of."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from saebench.evaluation import Report, SAETask, TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE, Capability
from saebench.tasks.ground_truth.data import model_of, samples_of
from saebench.tasks.ground_truth.report import report_directions, report_samples
from saebench.tasks.ground_truth.scoring import chance, evaluate
from saebench.tasks.ground_truth.selection import align
from saebench.tasks.ground_truth.settings import GroundTruthSettings


class GroundTruthTask(SAETask[GroundTruthSettings]):
    """MCC with the true features, their detection by latents, and the error of the reconstruction."""

    name: ClassVar[str] = "ground_truth"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.LINEAR_DECODER, Capability.POSITION_WISE})
    settings = GroundTruthSettings

    @torch.no_grad()
    def run(self, sae: SAE, context: TaskContext, settings: GroundTruthSettings) -> TaskOutput:
        """Measure ``sae``. Raises NotApplicableError unless it was made for the synthetic model of the run."""
        model = model_of(context, sae)
        samples = samples_of(context, model, settings)
        alignment = align(sae.decoder_directions(), model.directions)
        scores = evaluate(sae, model, samples, alignment, context.lm.device)
        report = Report(self.card, context, settings.bootstrap_replicates)
        seen = np.bincount(samples.index[1].numpy(), minlength=model.n_features).astype(np.float64)
        random = chance(context, model, sae.d_sae, settings.chance_draws)
        report_directions(report, alignment, random, settings.recovered_cosine, seen)
        report_samples(report, scores)
        report.units("block", [model.content_hash, context.seed, settings.blocks])
        report.units("feature", model.content_hash)
        report.count("samples", len(samples))
        report.count("features", model.n_features)
        report.count("features_seen", int((seen > 0).sum()))
        return report.output()
