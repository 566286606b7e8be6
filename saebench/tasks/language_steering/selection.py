"""Which latents belong to a language, and which strength of a method is chosen on the validation split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from saebench.evaluation.changes import C, Sweep
from saebench.passes.activity import activity
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench.stats.rng import NO_CONTENT
from saebench.stats.selection import frequency_matched
from saebench.tasks.language_steering.data import training_texts
from saebench.tasks.language_steering.scoring.continuations import (
    LanguageChange,
    ScoresByLanguage,
    SteeredContinuations,
)
from saebench.tasks.language_steering.settings import LanguageSteeringSettings

LatentIndices = NDArray[np.int64]  # the numbers of some latents, the best first
LatentsByLanguage = Mapping[str, LatentIndices]

# As published (2507.11230): a latent counts where it fires in 98 % of a language's sentences and on 10 % of its tokens;
# it belongs to every language in which its rate is at least half of its highest.
_LAPE_SENTENCES, _LAPE_TOKENS, _LAPE_SHARE = 0.98, 0.10, 0.5


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class LatentRates:
    """How often and how strongly each latent fires in each language, and how often on random tokens."""

    languages: tuple[str, ...]
    sentence: Float[np.ndarray, "languages d_sae"]  # share of sentences in which it fires
    token: Float[np.ndarray, "languages d_sae"]  # share of tokens on which it fires
    mean: Float[np.ndarray, "languages d_sae"]  # mean over tokens
    when_firing: Float[np.ndarray, "languages d_sae"]  # mean over the tokens on which it fires; 0 where it never does
    random: Float[np.ndarray, " d_sae"]  # share of random texts in which it fires

    def row(self, language: str) -> int:
        """The row of ``language`` in the arrays."""
        return self.languages.index(language)


def latent_rates(sae: SAE, context: TaskContext, settings: LanguageSteeringSettings) -> LatentRates:
    """Encode the training texts. Raises what `saebench.passes.activity.activity` raises."""
    texts = training_texts(context, settings)
    read = [activity(sae, context, sentences, settings.context_length) for sentences in texts.by_language.values()]
    return LatentRates(
        languages=tuple(texts.by_language),
        sentence=np.stack([language.text_rate() for language in read]),
        token=np.stack([language.token_rate() for language in read]),
        mean=np.stack([language.mean() for language in read]),
        when_firing=np.stack([language.mean_when_firing() for language in read]),
        random=activity(sae, context, texts.random, settings.context_length).text_rate(),
    )


def langfir(rates: LatentRates, language: str, consistency: float, random_rate: float) -> LatentIndices:
    """Return the latents that fire in nearly all sentences of a language and in nearly no random text (2604.03532).

    Args:
        rates: The rates of all latents.
        language: One of the languages of ``rates``.
        consistency: The least share of sentences; saebench's choice, as the paper's is not public.
        random_rate: The largest share of random texts; saebench's choice, too.

    Returns:
        The latents, the one with the highest mean activation first.
    """
    row = rates.row(language)
    specific = np.flatnonzero((rates.sentence[row] >= consistency) & (rates.random <= random_rate))
    return specific[np.argsort(-rates.mean[row, specific], kind="stable")]


def monolingual(rates: LatentRates, language: str, n: int) -> LatentIndices:
    """Return the ``n`` latents with the highest monolinguality nu, fewer where fewer have a nu above 0 (2505.05111).

    nu is a latent's mean activation in the language minus the mean over the other languages.
    """
    row = rates.row(language)
    nu = rates.mean[row] - np.delete(rates.mean, row, axis=0).mean(0)
    best = np.argsort(-nu, kind="stable")[:n]
    return best[nu[best] > 0]


def lape(rates: LatentRates) -> dict[str, LatentIndices]:
    """Return for each language the latents that belong to it alone, the one of lowest entropy first (2507.11230).

    The entropy is that of a latent's token rates after division by their sum over languages.
    """
    eligible = ((rates.sentence >= _LAPE_SENTENCES) & (rates.token > _LAPE_TOKENS)).any(0)
    belongs = (rates.token >= _LAPE_SHARE * rates.token.max(0)) & eligible
    share = rates.token / np.maximum(rates.token.sum(0), np.finfo(float).tiny)
    entropy = -(share * np.log(np.maximum(share, np.finfo(float).tiny))).sum(0)
    specific = map(np.flatnonzero, belongs & (belongs.sum(0) == 1))
    return {
        language: latents[np.lexsort((-rates.mean[rates.row(language), latents], entropy[latents]))]
        for language, latents in zip(rates.languages, specific, strict=True)
    }


def latents_by_method(rates: LatentRates, settings: LanguageSteeringSettings) -> dict[str, LatentsByLanguage]:
    """Return the latents of every language by all three methods, also by those that the settings do not steer with."""
    thresholds = settings.consistency, settings.random_rate
    return {
        "langfir": {language: langfir(rates, language, *thresholds) for language in rates.languages},
        "nu": {language: monolingual(rates, language, settings.nu_latents) for language in rates.languages},
        "lape": lape(rates),
    }


def used_latents(
    latents: Mapping[str, LatentsByLanguage], settings: LanguageSteeringSettings
) -> dict[str, LatentsByLanguage]:
    """Return the latents to ablate and steer with: the best of each language, by the methods of the settings."""
    most = settings.most_latents
    return {
        method: {language: indices[:most] for language, indices in latents[method].items()}
        for method in settings.methods
    }


def random_latents(
    context: TaskContext, rates: LatentRates, chosen: LatentsByLanguage, draw: int
) -> dict[str, LatentIndices]:
    """Draw for each language as many other latents as were chosen, which fire about as often there.

    Each ``draw`` has its own generator. Raises DataError when there are not as many other latents.
    """
    drawn = {}
    for language, latents in chosen.items():
        rng = context.rng(f"language_steering:random latents:{language}", NO_CONTENT, draw)
        row = rates.row(language)
        drawn[language] = frequency_matched(rates.token[row], latents, rng, ties=rates.mean[row])
    return drawn


@dataclass(frozen=True, eq=False)
class Validated(Generic[C]):
    """A sweep, and what each of its strengths does on the validation split.

    The strength with the highest ACC x chrF is chosen; of equal ones it is the first.
    """

    sweep: Sweep[C]
    table: Float[np.ndarray, "strengths 4"]  # accuracy, chrF, ACC x chrF and degenerate share, averaged over languages

    @classmethod
    def of(cls, sweep: Sweep[C], scores: Sequence[ScoresByLanguage]) -> Validated[C]:
        """Average the scores at each strength over languages."""
        rows = [
            np.mean(
                [[s.hit.mean(), s.chrf.mean(), s.hit_chrf.mean(), s.degenerate.mean()] for s in languages.values()], 0
            )
            for languages in scores
        ]
        return cls(sweep, np.array(rows))

    @property
    def best(self) -> float:
        """The highest ACC x chrF."""
        return float(self.table[:, 2].max())

    @property
    def strength(self) -> float:
        """The chosen strength."""
        return self.sweep.strengths[self._place]

    @property
    def change(self) -> C:
        """The change at the chosen strength."""
        return self.sweep.changes[self._place]

    @property
    def _place(self) -> int:
        return int(self.table[:, 2].argmax())


def validate(
    validation: SteeredContinuations, sweeps: Sequence[Sweep[LanguageChange]]
) -> dict[str, Validated[LanguageChange]]:
    """Try all strengths of all sweeps on the validation split, in common batches. Returns them by method."""
    scores = iter(validation.under([change for sweep in sweeps for change in sweep.changes]))
    return {sweep.method: Validated.of(sweep, list(islice(scores, len(sweep.changes)))) for sweep in sweeps}


def best_method(validated: Mapping[str, Validated[LanguageChange]]) -> str:
    """Return the method with the highest ACC x chrF on the validation split; the first of equal ones."""
    return max(validated, key=lambda method: validated[method].best)
