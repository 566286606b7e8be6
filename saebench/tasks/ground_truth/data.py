"""The samples of the synthetic model that are evaluated, the same for every SAE."""

from __future__ import annotations

from saebench.errors import NotApplicableError
from saebench.lm.synthetic import SyntheticLM
from saebench.passes.context import TaskContext
from saebench.sae.hook import HookSite
from saebench.sae.protocol import SAE
from saebench.synthetic.model import Samples, SyntheticModel
from saebench.synthetic.reference import HOOK
from saebench.tasks.ground_truth.settings import GroundTruthSettings

BLOCK = 256  # samples; the block is the unit of the intervals


def model_of(context: TaskContext, sae: SAE) -> SyntheticModel:
    """Return the synthetic model of the run. Raises NotApplicableError unless ``sae`` reads its activations."""
    lm = context.lm
    if not isinstance(lm, SyntheticLM):
        raise NotApplicableError(
            f"{lm.name} is a language model, whose true features nobody knows; name a synthetic model with --model."
        )
    if sae.hook != HookSite.at(HOOK) or sae.d_in != lm.synthetic.d:
        raise NotApplicableError(
            f"{sae.name} was not made for {lm.name}: it reads {sae.d_in} dimensions at {sae.hook}, and the synthetic "
            f"model has {lm.synthetic.d} at {HOOK}."
        )
    return lm.synthetic


def samples_of(context: TaskContext, model: SyntheticModel, settings: GroundTruthSettings) -> Samples:
    """Return ``blocks`` blocks of samples."""

    def draw() -> Samples:
        return model.sample(settings.blocks * BLOCK, context.rng("ground_truth:samples", model.content_hash))

    return context.shared(("ground_truth", "samples", settings.blocks), draw)
