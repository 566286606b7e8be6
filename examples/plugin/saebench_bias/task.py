"""Whether an SAE shrinks its reconstructions: the relative reconstruction bias (2404.16014, equation 10)."""

from typing import ClassVar

import torch

from saebench.capabilities import Capability
from saebench.evaluation import Report, SAETask, TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench_bias.scoring import squares_and_products
from saebench_bias.settings import BiasSettings


class ReconstructionBiasTask(SAETask[BiasSettings]):
    """The relative reconstruction bias: 1 for an unbiased SAE, below 1 for one that shrinks its reconstructions."""

    name: ClassVar[str] = "reconstruction_bias"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.POSITION_WISE})
    settings = BiasSettings
    card_path: ClassVar[str] = "reconstruction_bias.yaml"  # beside this file

    def prepare(self, context: TaskContext, settings: BiasSettings) -> None:
        """Raise UsageError or DataError for a text that cannot be used, before any SAE is loaded."""
        context.batch(settings.text, settings.context_length, settings.sequences)

    @torch.no_grad()
    def run(self, sae: SAE, context: TaskContext, settings: BiasSettings) -> TaskOutput:
        """Measure ``sae`` on the sampled sequences of the text."""
        captured = context.captured(settings.text, settings.context_length, settings.sequences)
        report = Report(self.card, context, settings.bootstrap_replicates)
        why = "the reconstructions are orthogonal to the activations"
        report.ratio("gamma", squares_and_products(sae, captured), unit="sequence", why=why)
        report.units("sequence", captured.batch.content_hash)
        report.count("sequences", captured.n_sequences)
        report.count("tokens", int(captured.batch.evaluated.sum()))
        return report.output()
