"""The text that is evaluated: sampled sequences, the same for every group."""

from __future__ import annotations

from saebench.data.tokens import TokenBatch
from saebench.passes.clean import CleanPass
from saebench.passes.context import TaskContext
from saebench.tasks.joint_splice.settings import JointSpliceSettings


def sequences(context: TaskContext, settings: JointSpliceSettings) -> TokenBatch:
    """The sampled sequences. Raises UsageError and DataError for a text that cannot be used."""
    return context.batch(settings.text, settings.context_length, settings.sequences)


def clean_pass(context: TaskContext, settings: JointSpliceSettings, *sites: str) -> CleanPass:
    """What the unmodified language model does on the sequences, and its ablations at ``sites``."""
    return context.clean(settings.text, settings.context_length, settings.sequences, *sites)
