"""What several SAEs of one language model, one at each of several hook points, cost it together."""

from __future__ import annotations

from typing import ClassVar

import torch

from saebench.evaluation import GroupTask, Report, SAEGroup, TaskOutput
from saebench.passes.context import TaskContext
from saebench.tasks.joint_splice.data import sequences
from saebench.tasks.joint_splice.report import report_joint, report_members
from saebench.tasks.joint_splice.scoring import evaluate
from saebench.tasks.joint_splice.selection import in_order
from saebench.tasks.joint_splice.settings import JointSpliceSettings


class JointSpliceTask(GroupTask[JointSpliceSettings]):
    """CE and KL of the language model with all SAEs of a group in place, beside those with each SAE alone."""

    name: ClassVar[str] = "joint_splice"
    settings = JointSpliceSettings

    def prepare(self, context: TaskContext, settings: JointSpliceSettings) -> None:
        """Raise UsageError or DataError for a text that cannot be used, before any SAE is loaded."""
        sequences(context, settings)

    @torch.no_grad()
    def run_group(self, group: SAEGroup, context: TaskContext, settings: JointSpliceSettings) -> TaskOutput:
        """Measure ``group``. Raises NotApplicableError where two of its SAEs write at one hook point."""
        saes = in_order(group)
        scores = evaluate(saes, context, settings)
        report = Report(self.card, context, settings.bootstrap_replicates)
        report_joint(report, scores)
        report_members(report, saes, scores)
        batch = sequences(context, settings)
        report.units("sequence", batch.content_hash)
        report.count("sequences", scores.clean.n_sequences)
        report.count("sequences_missing", batch.n_missing)
        report.count("tokens", int(scores.clean.evaluated.sum()))
        report.count("predictions", int(scores.clean.predictions.sum()))
        report.note("members", [sae.name for sae in saes])  # in the order of the forward pass
        return report.output()
