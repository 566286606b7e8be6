"""Vectors to steer by: of latents, of differences in means, and of every layer's means (ReCoVeR)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.interventions.vectors import AddVector
from saebench.passes.activity import mean_activations
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench.tasks.language_steering.identify import Latents, Rates
from saebench.tasks.language_steering.sentences import token_ids

Vectors = Mapping[str, Float[Tensor, " d"] | None]  # by target language; None where nothing was found


def latent_vector(sae: SAE, rates: Rates, language: int, latents: Latents) -> Float[Tensor, " d"] | None:
    """Sum of the latents' decoder rows, each times its mean activation where it fires in the language.

    None without latents. On the CPU in float32.
    """
    if not len(latents):
        return None
    rows = sae.decoder_directions().detach().float().cpu()[torch.from_numpy(latents)]
    return torch.from_numpy(rates.when_firing[language, latents]).float() @ rows


def of_norm(vector: Float[Tensor, " d"] | None, norm: float) -> Float[Tensor, " d"] | None:
    """``vector`` stretched to a norm; None and zero vectors stay."""
    if vector is None or not bool(vector.any()):
        return vector
    return vector * (norm / vector.norm())


def difference_in_means(
    context: TaskContext, texts: Mapping[str, Sequence[str]], context_length: int, site: str
) -> dict[str, Float[Tensor, " d"]]:
    """For each language its mean activation minus the mean of the other languages' (each over its sentences)."""
    means = _means(context, texts, context_length, site)
    everything = torch.stack(list(means.values())).sum(0)
    return {language: (mean - (everything - mean) / (len(means) - 1)).float() for language, mean in means.items()}


def overall_mean(
    context: TaskContext, texts: Mapping[str, Sequence[str]], context_length: int, site: str
) -> Float[Tensor, " d"]:
    """The mean activation of all languages' sentences, each language counting the same."""
    return torch.stack(list(_means(context, texts, context_length, site).values())).mean(0).float()


def _means(
    context: TaskContext, texts: Mapping[str, Sequence[str]], context_length: int, site: str
) -> dict[str, Float[Tensor, " d"]]:
    """Each language's mean activation over its sentences, in float64."""
    return {
        language: mean_activations(context, some, context_length, site).double().mean(0)
        for language, some in texts.items()
    }


@torch.no_grad()
def layer_means(
    context: TaskContext, texts: Mapping[str, Sequence[str]], context_length: int
) -> dict[str, Float[Tensor, "layers d"]]:
    """Mean activation of each language's sentences after every block, over tokens that are not special, then texts."""
    lm = context.lm
    sites = [f"blocks.{layer}.hook_resid_post" for layer in range(lm.n_layers)]
    special = torch.tensor(lm.tokenizer.all_special_ids)
    found: dict[str, Tensor] = {}
    for language, some in texts.items():
        sums = torch.zeros(len(sites), lm.d_model, dtype=torch.float64)
        ids = sorted((tokens[:context_length] for tokens in token_ids(context, some)), key=len)
        for start in range(0, len(ids), 16):
            batch = torch.nn.utils.rnn.pad_sequence(
                [torch.tensor(tokens) for tokens in ids[start : start + 16]], batch_first=True, padding_value=ids[0][0]
            )  # padding, like BOS, is left out of the means
            weights = (~torch.isin(batch, special)).double()
            weights /= weights.sum(1, keepdim=True).clamp(min=1)
            read = lm.prefix(batch.to(lm.device), sites)
            for layer, site in enumerate(sites):
                sums[layer] += torch.einsum("bp,bpd->d", weights, read[site].cpu().double())
        found[language] = (sums / len(ids)).float()
    return found


def recover(
    means: Mapping[str, Float[Tensor, "layers d"]], target: str, source: str, strength: float
) -> list[AddVector]:
    """ReCoVeR (2509.14814): at every layer the target's mean minus the source's is added, and the norm restored."""
    return [
        AddVector(f"blocks.{layer}.hook_resid_post", vector, strength, restore_norm=True)
        for layer, vector in enumerate(means[target] - means[source])
    ]
