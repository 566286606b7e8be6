"""How the model is changed: by latents' vectors, differences in means, ReCoVeR, and the controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.evaluation.changes import NOISE, Sweep
from saebench.interventions.noise import EqualNormNoise
from saebench.interventions.vectors import AddVector
from saebench.passes.activity import mean_activations
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench.stats.means import DifferenceInMeans
from saebench.tasks.language_steering.data import parallel_sentences, token_ids, training_texts
from saebench.tasks.language_steering.scoring.continuations import LanguageChange, ManySitesChange
from saebench.tasks.language_steering.selection import LatentIndices, LatentRates, LatentsByLanguage
from saebench.tasks.language_steering.settings import LanguageSteeringSettings

RECOVER = "recover"
RANDOM = "random"  # the control with other latents, under the name by which the card publishes it

Vectors = Mapping[str, Float[Tensor, " d"] | None]  # by target language; None where it has no latents

_READ_AT_ONCE = 16  # sentences per batch of `layer_means`


def latent_vector(sae: SAE, rates: LatentRates, language: str, latents: LatentIndices) -> Float[Tensor, " d"] | None:
    """Return the sum of the latents' decoder directions, each times its mean activation where it fires in the language.

    It is in float32 on the CPU, and None without latents.
    """
    if not len(latents):
        return None
    decoder = sae.decoder_directions().detach()
    directions = decoder[torch.from_numpy(latents).to(decoder.device)].float().cpu()
    return torch.from_numpy(rates.when_firing[rates.row(language), latents]).float() @ directions


def latent_vectors(sae: SAE, rates: LatentRates, latents: LatentsByLanguage, targets: Sequence[str]) -> Vectors:
    """Return the `latent_vector` of every target language."""
    return {target: latent_vector(sae, rates, target, latents[target]) for target in targets}


def of_norm(vector: Float[Tensor, " d"] | None, norm: float) -> Float[Tensor, " d"] | None:
    """Return ``vector`` rescaled to ``norm``; None and zero vectors stay as they are."""
    if vector is None or not bool(vector.any()):
        return vector
    return vector * (norm / vector.norm())


def steering(site: str, vectors: Vectors, strength: float) -> LanguageChange:
    """Return the change x' = x + strength v at ``site``, with the vector v of each language."""
    return {
        language: None if vector is None else AddVector(site, vector, strength) for language, vector in vectors.items()
    }


def steering_sweep(method: str, site: str, vectors: Vectors, strengths: tuple[float, ...]) -> Sweep[LanguageChange]:
    """Return steering by ``vectors`` at every strength."""
    return Sweep(method, strengths, tuple(steering(site, vectors, strength) for strength in strengths))


def controls(
    site: str, vectors: Vectors, others: Sequence[Vectors], strength: float, seeds: Sequence[int]
) -> dict[str, list[LanguageChange]]:
    """Return changes as large as those of the best method: along other latents, and along random directions.

    Each control has a change for each draw. They have the length of the best method's change and not a strength of
    their own, because they say what a change of that size does.

    Args:
        site: The site that is steered.
        vectors: The vectors of the best method.
        others: The vectors of latents drawn at random, for each draw.
        strength: The strength that was chosen for the best method.
        seeds: The seed of the random directions of each draw.
    """

    def along(other: Vectors) -> LanguageChange:
        stretched = {
            language: None if vector is None else of_norm(other[language], float(vector.norm()))
            for language, vector in vectors.items()
        }
        return steering(site, stretched, strength)

    def noise(seed: int) -> LanguageChange:
        # Built anew: interventions that share a batch must not share parts.
        again = steering(site, vectors, strength)
        return {
            language: None if change is None else EqualNormNoise(change, seed) for language, change in again.items()
        }

    return {RANDOM: [along(other) for other in others], NOISE: [noise(seed) for seed in seeds]}


def difference_in_means(
    context: TaskContext, settings: LanguageSteeringSettings, site: str
) -> dict[str, Float[Tensor, " d"]]:
    """Return the mean activation of each target language minus the mean over the other languages, in float32.

    Every sentence counts the same in the mean of its language, and every other language in the mean of the others.
    """
    means = _language_means(context, settings, site)  # a group of one row for each language
    return {
        target: DifferenceInMeans.between(
            means[target][None], *(mean[None] for language, mean in means.items() if language != target)
        ).direction.float()
        for target in parallel_sentences(context, settings).targets
    }


def ablation_centre(context: TaskContext, settings: LanguageSteeringSettings, site: str) -> Float[Tensor, " d"] | None:
    """Return the activation at which ablation changes nothing: the mean of all languages, or None for 0.

    The mean is over the languages' own means of their training sentences. It is made once per context.
    """
    if settings.ablation_centre == "zero":
        return None

    def centre() -> Tensor:
        return torch.stack(list(_language_means(context, settings, site).values())).mean(0).float()

    return context.shared(("language_steering", "centre", site, settings), centre)


def _language_means(
    context: TaskContext, settings: LanguageSteeringSettings, site: str
) -> dict[str, Float[Tensor, " d"]]:
    """Return the mean activation of each language over its training sentences, in float64."""
    return {
        language: mean_activations(context, sentences, settings.context_length, site).double().mean(0)
        for language, sentences in training_texts(context, settings).by_language.items()
    }


@torch.no_grad()
def layer_means(context: TaskContext, settings: LanguageSteeringSettings) -> dict[str, Float[Tensor, "layers d"]]:
    """Return the mean activation of each language after every block, over the tokens of a sentence, then sentences.

    The first ``recover_sentences`` training sentences are read. Special tokens are left out.
    """
    lm = context.lm
    sites = [f"blocks.{layer}.hook_resid_post" for layer in range(lm.n_layers)]
    special = torch.tensor(lm.tokenizer.all_special_ids)
    means: dict[str, Tensor] = {}
    for language, sentences in training_texts(context, settings).by_language.items():
        sums = torch.zeros(len(sites), lm.d_model, dtype=torch.float64)
        read = token_ids(context, sentences[: settings.recover_sentences])
        ids = sorted((tokens[: settings.context_length] for tokens in read), key=len)
        for start in range(0, len(ids), _READ_AT_ONCE):
            # Padded with the first token, BOS or EOS: as a special token it has no weight in the means.
            batch = torch.nn.utils.rnn.pad_sequence(
                [torch.tensor(tokens) for tokens in ids[start : start + _READ_AT_ONCE]],
                batch_first=True,
                padding_value=ids[0][0],
            )
            weights = (~torch.isin(batch, special)).double()
            weights /= weights.sum(1, keepdim=True).clamp(min=1)
            activations = lm.prefix(batch.to(lm.device), sites)
            for layer, site in enumerate(sites):
                sums[layer] += torch.einsum("bp,bpd->d", weights, activations[site].cpu().double())
        means[language] = (sums / len(ids)).float()
    return means


def recover_sweep(context: TaskContext, settings: LanguageSteeringSettings) -> Sweep[ManySitesChange]:
    """Return ReCoVeR at every strength of the settings (2509.14814)."""
    sentences, means = parallel_sentences(context, settings), layer_means(context, settings)
    return Sweep(
        RECOVER,
        settings.recover_strengths,
        tuple(
            {target: recover(means, target, sentences.source, strength) for target in sentences.targets}
            for strength in settings.recover_strengths
        ),
    )


def recover(
    means: Mapping[str, Float[Tensor, "layers d"]], target: str, source: str, strength: float
) -> list[AddVector]:
    """Return ReCoVeR's change: at every layer the target's mean minus the source's is added, and the norm restored."""
    return [
        AddVector(f"blocks.{layer}.hook_resid_post", vector, strength, restore_norm=True)
        for layer, vector in enumerate(means[target] - means[source])
    ]
