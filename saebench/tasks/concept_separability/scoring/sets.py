"""The scores of an SAE, and of the neurons that it reads, on several concept sets."""

from __future__ import annotations

from collections.abc import Sequence

from saebench.passes.context import TaskContext
from saebench.sae.baselines import NeuronBaseline
from saebench.sae.protocol import SAE, HookSite
from saebench.stats.histogram import Activations
from saebench.tasks.concept_separability.data import ReadConceptSet
from saebench.tasks.concept_separability.scoring.averages import SetScores, set_scores
from saebench.tasks.concept_separability.scoring.estimators import ESTIMATORS, Estimator
from saebench.tasks.concept_separability.scoring.pooling import pooled
from saebench.tasks.concept_separability.settings import ConceptSeparabilitySettings


def sae_scores(
    sae: SAE, sets: Sequence[ReadConceptSet], context: TaskContext, settings: ConceptSeparabilitySettings
) -> list[SetScores]:
    """Return the scores of the latents of ``sae`` on each set. Raises SaebenchError when the SAE gives NaN or Inf."""
    return [_scores(sae, concept_set, context, settings) for concept_set in sets]


def neuron_scores(
    site: str, sets: Sequence[ReadConceptSet], context: TaskContext, settings: ConceptSeparabilitySettings
) -> list[SetScores]:
    """Return the scores of the coordinates of the activation at ``site`` on each set; all SAEs there share them."""

    def score() -> list[SetScores]:
        width, device = context.lm.d_at(site), context.lm.device
        neurons = NeuronBaseline(width, name="neurons", hook=HookSite.at(site)).to(device)
        return sae_scores(neurons, sets, context, settings)

    return context.shared(("concept_separability", "neurons", site, settings), score)


def _scores(
    sae: SAE, concept_set: ReadConceptSet, context: TaskContext, settings: ConceptSeparabilitySettings
) -> SetScores:
    concepts, examples = concept_set
    pooling = "last" if concepts.word_level else settings.pooling  # the word is the last token
    activations = pooled(sae, examples, pooling, context.budget.encoder)
    kind = ESTIMATORS[settings.estimator]

    def make(block: Activations) -> Estimator:
        return kind(block, concepts, settings.bins)

    bytes_per_latent = kind.latent_bytes(len(concepts.concepts), settings.bins)
    return set_scores(activations, concepts, make, max(1, context.budget.encoder // bytes_per_latent))
