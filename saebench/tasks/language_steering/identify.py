"""Which latents belong to a language: LangFIR, monolinguality, and SAE-LAPE, from rates and means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from saebench.passes.activity import Activity

Latents = NDArray[np.int64]

# As published (2507.11230): a latent counts where it fires in 98 % of a language's sentences and on 10 % of its tokens;
# it belongs to every language whose rate is half of its highest, at least.
_LAPE_SENTENCES, _LAPE_TOKENS, _LAPE_SHARE = 0.98, 0.10, 0.5


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Rates:
    """What each latent does on each language, and on random tokens."""

    sentence: Float[np.ndarray, "languages d_sae"]  # share of sentences in which it fires
    token: Float[np.ndarray, "languages d_sae"]  # share of tokens on which it fires
    mean: Float[np.ndarray, "languages d_sae"]  # mean over tokens
    when_firing: Float[np.ndarray, "languages d_sae"]  # mean over the tokens on which it fires; 0 where it never does
    random: Float[np.ndarray, " d_sae"]  # share of random sequences in which it fires

    @classmethod
    def of(cls, languages: Sequence[Activity], random: Activity) -> Rates:
        return cls(
            sentence=np.stack([each.text_rate() for each in languages]),
            token=np.stack([each.token_rate() for each in languages]),
            mean=np.stack([each.mean() for each in languages]),
            when_firing=np.stack([each.mean_when_firing() for each in languages]),
            random=random.text_rate(),
        )


def langfir(rates: Rates, language: int, consistency: float, random_rate: float) -> Latents:
    """Latents that fire in nearly all sentences of a language, and in nearly no random sequence (2604.03532).

    Those with the highest mean activation come first. The thresholds are saebench's: the paper's are not public.
    """
    found = np.flatnonzero((rates.sentence[language] >= consistency) & (rates.random <= random_rate))
    return found[np.argsort(-rates.mean[language, found], kind="stable")]


def monolingual(rates: Rates, language: int, n: int) -> Latents:
    """The ``n`` latents with the highest nu, as far as it is above 0 (2505.05111).

    nu is a latent's mean activation in the language minus its mean over the other languages.
    """
    others = np.delete(rates.mean, language, axis=0).mean(0)
    nu = rates.mean[language] - others
    best = np.argsort(-nu, kind="stable")[:n]
    return best[nu[best] > 0]


def lape(rates: Rates) -> list[Latents]:
    """For each language the latents that belong to it alone, by the entropy of their rates (2507.11230).

    Those with the lowest entropy come first.
    """
    eligible = ((rates.sentence >= _LAPE_SENTENCES) & (rates.token > _LAPE_TOKENS)).any(0)
    belongs = (rates.token >= _LAPE_SHARE * rates.token.max(0)) & eligible
    share = rates.token / np.maximum(rates.token.sum(0), np.finfo(float).tiny)
    entropy = -(share * np.log(np.maximum(share, np.finfo(float).tiny))).sum(0)
    specific = belongs & (belongs.sum(0) == 1)
    return [row[np.argsort(entropy[row], kind="stable")] for row in map(np.flatnonzero, specific)]
