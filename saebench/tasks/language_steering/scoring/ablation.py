"""What ablating directions costs in each language: the rise of the cross-entropy on a few tokens of test sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from saebench.interventions.base import Intervention
from saebench.interventions.latents import Latents
from saebench.interventions.vectors import DirectionalAblation
from saebench.passes.context import TaskContext
from saebench.passes.scored import Item
from saebench.sae.protocol import SAE
from saebench.tasks.language_steering.data import parallel_sentences, token_ids
from saebench.tasks.language_steering.methods import ablation_centre
from saebench.tasks.language_steering.selection import LatentsByLanguage
from saebench.tasks.language_steering.settings import LanguageSteeringSettings


def ablation_costs(
    context: TaskContext,
    settings: LanguageSteeringSettings,
    site: str,
    interventions: Sequence[Intervention | None],
    description: str,
) -> Float[np.ndarray, "interventions languages sentences"]:
    """Score the first ``ablation_sentences`` test sentences of every language under each intervention.

    Args:
        context: The language model.
        settings: How many sentences are scored, and how many tokens of each.
        site: The site of all interventions.
        interventions: None changes nothing and costs nothing.
        description: What the progress bar says.

    Returns:
        The mean rise of the cross-entropy of each sentence, in nats per token.
    """
    texts = parallel_sentences(context, settings).first("test", settings.ablation_sentences)
    items = [
        _item(tokens[: settings.context_length], settings.ablation_predictions)
        for sentences in texts.values()
        for tokens in token_ids(context, sentences)
    ]
    costs = np.zeros((len(interventions), len(items)))
    changing = {number: change for number, change in enumerate(interventions) if change is not None}
    if changing:
        scored = context.scored(items, site)
        rise = scored.under(list(changing.values()), description) - scored.clean
        costs[list(changing)] = (scored.per_item(rise) / scored.counts).numpy()
    return costs.reshape(len(interventions), len(texts), -1)


def latent_ablation_costs(
    sae: SAE, context: TaskContext, settings: LanguageSteeringSettings, latents: Mapping[str, LatentsByLanguage]
) -> dict[str, Float[np.ndarray, "targets languages sentences"]]:
    """Return the cost of ablating the latents of each target, by the method that found them.

    Latents that several methods or targets have in common are ablated once.
    """
    site, centre = sae.hook.site_out, ablation_centre(context, settings, sae.hook.site_out)
    targets = parallel_sentences(context, settings).targets
    wanted = {
        method: [tuple(sorted(by_language[target].tolist())) for target in targets]
        for method, by_language in latents.items()
    }
    distinct = list(dict.fromkeys(indices for of_targets in wanted.values() for indices in of_targets))
    interventions = [
        DirectionalAblation.of_latents(Latents(sae, indices, error="kept"), centre=centre) if indices else None
        for indices in distinct
    ]
    costs = ablation_costs(context, settings, site, interventions, f"ablation of latents of {sae.name}")
    of_indices: dict[tuple[int, ...], NDArray[np.float64]] = dict(zip(distinct, costs, strict=True))
    return {method: np.stack([of_indices[indices] for indices in of_targets]) for method, of_targets in wanted.items()}


def _item(tokens: Sequence[int], predictions: int) -> Item:
    """Return the tokens with evenly spaced places to predict.

    The first token after BOS is not among them: it is predicted from BOS alone, which no intervention changes.
    """
    places = np.arange(min(2, len(tokens) - 1), len(tokens))
    if predictions < len(places):
        places = places[(2 * np.arange(predictions) + 1) * len(places) // (2 * predictions)]
    return Item(tuple(tokens), tuple(places.tolist()))
