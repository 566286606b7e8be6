"""Continuations of prompts in the source language under interventions, and whether they are in the target language."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.interventions.base import Intervention
from saebench.interventions.rows import Rows
from saebench.lm.generate import generate_rows
from saebench.lm.intervene import intervening
from saebench.passes.context import TaskContext
from saebench.scorers import (
    LanguageIdentifier,
    bleu_statistics,
    bleu_tokenizer,
    chrf_from,
    chrf_statistics,
    degenerate,
    language_identifier,
)
from saebench.tasks.language_steering.data import parallel_sentences, token_ids
from saebench.tasks.language_steering.frames import FRAMES
from saebench.tasks.language_steering.settings import LanguageSteeringSettings

_BATCH = {"cpu": 64, "cuda": 256}

# What is done to the model so that it speaks each target language; None leaves it alone.
LanguageChange = Mapping[str, Intervention | None]
# A change that acts at several sites at once, with an intervention for each site.
ManySitesChange = Mapping[str, Sequence[Intervention]]

_Tokens = dict[tuple[str, int], list[int]]  # the continuation for a language at a place


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class ContinuationScores:
    """The continuations that should be in one language, and a score of each."""

    places: Int[np.ndarray, " n"]  # in the order of the split's rows
    texts: list[str]  # the answers
    hit: Float[np.ndarray, " n"]  # 1 where the answer is in the language, else 0
    chrf: Float[np.ndarray, " n"]  # 0 to 100
    bleu: Int[np.ndarray, "n 10"]  # the counts that BLEU is made of
    degenerate: Bool[np.ndarray, " n"]

    @property
    def hit_chrf(self) -> Float[np.ndarray, " n"]:
        """The chrF of answers in the language, and 0 for other answers."""
        return self.hit * self.chrf


ScoresByLanguage = Mapping[str, ContinuationScores]


def joined(draws: Sequence[ScoresByLanguage]) -> ScoresByLanguage:
    """Return the scores of several changes of the same prompts, such as the draws of a control, as one.

    The continuations of the first change come first. Every place occurs as often as there are changes.
    """
    return {
        language: ContinuationScores(
            places=np.concatenate([draw[language].places for draw in draws]),
            texts=[text for draw in draws for text in draw[language].texts],
            hit=np.concatenate([draw[language].hit for draw in draws]),
            chrf=np.concatenate([draw[language].chrf for draw in draws]),
            bleu=np.concatenate([draw[language].bleu for draw in draws]),
            degenerate=np.concatenate([draw[language].degenerate for draw in draws]),
        )
        for language in draws[0]
    }


class SteeredContinuations:
    """Scored greedy continuations of the prompts of one split; `Sentences.places` divides them among the targets."""

    def __init__(
        self, context: TaskContext, settings: LanguageSteeringSettings, split: Literal["validation", "test"]
    ) -> None:
        """Raises UsageError for a language that the identifier does not know, and what `token_ids` raises."""
        sentences = parallel_sentences(context, settings)
        self._lm, self._progress = context.lm, context.progress
        self._identifier = identifier(context, settings)
        self._frame = FRAMES[settings.frame]
        self._new_tokens = settings.max_new_tokens
        self._batch_size = context.batch_size or _BATCH.get(context.lm.device.type, _BATCH["cpu"])
        prompts = settings.validation_prompts if split == "validation" else settings.test_prompts
        self.places = sentences.places(split, prompts)
        used = np.unique(np.concatenate(list(self.places.values())))
        shots = sentences.shots(settings.shots)
        texts = [
            self._frame.prompt(text, sentences.source, shots, place)
            for place, text in zip(used.tolist(), sentences.at(split, sentences.source, used), strict=True)
        ]
        self._prompts = dict(zip(used.tolist(), token_ids(context, texts), strict=True))
        self._references = {
            language: self._shortened(token_ids(context, sentences.at(split, language, places)))
            for language, places in self.places.items()
        }

    @cached_property
    def clean(self) -> ScoresByLanguage:
        """The scores of the unchanged model."""
        return self._scores(self._clean)

    def under(self, changes: Sequence[LanguageChange]) -> list[ScoresByLanguage]:
        """Return the scores under each of ``changes``, which share batches.

        Where a change is None for a language, the clean continuations are used again.
        """
        rows = [
            _Row(number, language, place, intervention)
            for number, change in enumerate(changes)
            for language, places in self.places.items()
            if (intervention := change[language]) is not None
            for place in places.tolist()
        ]
        new = self._continued(
            [row.place for row in rows], lambda batch: Rows([rows[number].intervention for number in batch])
        )
        tokens: list[_Tokens] = [dict(self._clean) for _ in changes]
        for row, continuation in zip(rows, new, strict=True):
            tokens[row.change][row.language, row.place] = continuation
        return [self._scores(continuations) for continuations in tokens]

    def under_at_many_sites(self, change: ManySitesChange) -> ScoresByLanguage:
        """Return the scores under a change that acts at several sites at once, the same sites for all languages.

        All languages share batches: at every site, each row of a batch has the intervention of its language.
        """
        rows = [(language, place) for language, places in self.places.items() for place in places.tolist()]
        sites = [_AtSite(intervention.site) for intervention in next(iter(change.values()))]

        def begin(batch: list[int]) -> None:
            for number, site in enumerate(sites):
                site.rows = Rows([change[rows[row][0]][number] for row in batch])

        with ExitStack() as stack:
            for site in sites:
                stack.enter_context(intervening(self._lm, site))
            new = self._continued([place for _, place in rows], begin)
        return self._scores(dict(zip(rows, new, strict=True)))

    @cached_property
    def _clean(self) -> _Tokens:
        new = self._continued(list(self._prompts), lambda _: None)
        by_place = dict(zip(self._prompts, new, strict=True))
        return {
            (language, place): by_place[place] for language, places in self.places.items() for place in places.tolist()
        }

    def _continued(
        self, places: Sequence[int], intervention: Callable[[list[int]], Intervention | None]
    ) -> list[list[int]]:
        """Continue the prompt at each place greedily; ``intervention`` makes the intervention of a batch of rows."""
        with self._progress.task("language steering: generation", len(places), "texts") as ticker:
            new = generate_rows(
                self._lm,
                [self._prompts[place] for place in places],
                max_new_tokens=self._new_tokens,
                intervention=intervention,
                samplings=[None],
                batch_size=self._batch_size,
                done=ticker.advance,
            )
        return [greedy for [greedy] in new]

    def _scores(self, tokens: _Tokens) -> ScoresByLanguage:
        scores: dict[str, ContinuationScores] = {}
        for language, places in self.places.items():
            new = [tokens[language, place] for place in places.tolist()]
            texts = [self._frame.answer(text) for text in self._decoded(new)]
            references = self._references[language]
            scores[language] = ContinuationScores(
                places=places,
                texts=texts,
                hit=np.array([answer == language for answer in self._identifier(texts)], dtype=np.float64),
                chrf=np.array([chrf_from(counts) for counts in chrf_statistics(texts, references)]),
                bleu=bleu_statistics(texts, references, bleu_tokenizer(language)),
                degenerate=degenerate(new),
            )
        return scores

    def _shortened(self, sentences: Sequence[Sequence[int]]) -> list[str]:
        """Return each sentence without BOS, cut to the tokens that a continuation may have.

        A longer reference would punish every continuation for being short.
        """
        return self._decoded([tokens[1 : 1 + self._new_tokens] for tokens in sentences])

    def _decoded(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        texts: list[str] = self._lm.tokenizer.batch_decode([list(text) for text in tokens], skip_special_tokens=True)
        return texts


def continuations(
    context: TaskContext, settings: LanguageSteeringSettings, split: Literal["validation", "test"]
) -> SteeredContinuations:
    """Return the prompts of a split, made once per context. Raises what `SteeredContinuations` raises."""
    return context.shared(
        ("language_steering", split, settings), lambda: SteeredContinuations(context, settings, split)
    )


def identifier(context: TaskContext, settings: LanguageSteeringSettings) -> LanguageIdentifier:
    """Return the language identifier, which chooses among the languages of the run.

    Raises UsageError for an identifier that is not installed, or that does not know one of the languages.
    """
    languages = parallel_sentences(context, settings).languages
    return context.shared(
        ("language_steering", "identifier", settings), lambda: language_identifier(settings.identifier, languages)
    )


class _Row(NamedTuple):
    """One continuation to generate."""

    change: int  # the number of the change
    language: str
    place: int
    intervention: Intervention


@dataclass
class _AtSite:
    """An intervention at one site that hands each batch to the `Rows` that were set for it."""

    site: str
    rows: Rows | None = None

    @property
    def reads(self) -> str:
        return self.site

    def __call__(self, x: Tensor, mask: Tensor, source: Tensor | None = None) -> Tensor:
        assert self.rows is not None  # set before the batch begins
        return self.rows(x, mask, source)

    def reset(self) -> None:
        if self.rows is not None:
            self.rows.reset()
