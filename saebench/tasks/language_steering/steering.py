"""Continuations of prompts in the source language under interventions, and whether they are in the target language."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

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
)
from saebench.tasks.language_steering.frames import Frame
from saebench.tasks.language_steering.sentences import Sentences, token_ids

_BATCH = {"cpu": 64, "cuda": 256}

Setting = Mapping[str, Intervention | None]  # by target language; None leaves the model alone


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Scores:
    """Continuations towards one language, one by one."""

    places: Int[np.ndarray, " n"]  # of the split's rows
    texts: list[str]
    hit: Float[np.ndarray, " n"]  # 1 where the answer is in the language
    chrf: Float[np.ndarray, " n"]  # 0 to 100
    bleu: Int[np.ndarray, "n 10"]  # counts
    degenerate: Bool[np.ndarray, " n"]

    @property
    def hit_chrf(self) -> Float[np.ndarray, " n"]:
        """chrF of answers in the language, and 0 for others."""
        return self.hit * self.chrf


ByLanguage = Mapping[str, Scores]


def mean_hit_chrf(scores: ByLanguage) -> float:
    """What settings are chosen by: averaged over languages."""
    return float(np.mean([each.hit_chrf.mean() for each in scores.values()]))


class _Job(NamedTuple):
    setting: int
    language: str
    place: int
    intervention: Intervention


@dataclass
class _AtSite:
    """What the rows of the present batch have at one site."""

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


class Steering:
    """The prompts of one split. Each target language has ``n`` of them (see `Sentences.rows`)."""

    def __init__(
        self,
        context: TaskContext,
        sentences: Sentences,
        split: str,
        n: int,
        *,
        frame: Frame,
        shots: int,
        max_new_tokens: int,
        identifier: LanguageIdentifier,
    ) -> None:
        """Raises DataError for a tokenizer with neither BOS nor EOS."""
        self.lm, self._frame, self._identifier, self._new = context.lm, frame, identifier, max_new_tokens
        self._progress = context.progress
        self._batch = context.batch_size or _BATCH.get(context.lm.device.type, _BATCH["cpu"])
        self.places = sentences.rows(split, n)
        used = np.unique(np.concatenate(list(self.places.values())))
        examples = sentences.shots(shots)
        texts = [
            frame.prompt(text, sentences.source, examples, turn)
            for turn, text in zip(used.tolist(), sentences.at(split, sentences.source, used), strict=True)
        ]
        self._prompts = dict(zip(used.tolist(), token_ids(context, texts), strict=True))
        self._references = {
            language: self._cut(token_ids(context, sentences.at(split, language, places)))
            for language, places in self.places.items()
        }

    @cached_property
    def clean(self) -> ByLanguage:
        """What the unchanged model says."""
        return self._scores(self._clean)

    def under(self, settings: Sequence[Setting]) -> list[ByLanguage]:
        """The scores of each of ``settings``. All of them share batches; what is None costs nothing."""
        jobs = [
            _Job(number, language, place, intervention)
            for number, setting in enumerate(settings)
            for language, places in self.places.items()
            if (intervention := setting[language]) is not None
            for place in places.tolist()
        ]
        new = self._generated([job.place for job in jobs], lambda rows: Rows([jobs[row].intervention for row in rows]))
        return [
            self._scores(
                {**self._clean, **{job[1:3]: each for job, each in zip(jobs, new, strict=True) if job[0] == number}}
            )
            for number in range(len(settings))
        ]

    def at_all_sites(self, interventions: Mapping[str, Sequence[Intervention]]) -> ByLanguage:
        """The scores under several interventions at once, each at a site of its own, by target language.

        All languages share batches: at every site each row has the intervention of its language.
        """
        jobs = [(language, place) for language, places in self.places.items() for place in places.tolist()]
        sites = [_AtSite(each.site) for each in next(iter(interventions.values()))]

        def begin(rows: list[int]) -> None:
            for number, site in enumerate(sites):
                site.rows = Rows([interventions[jobs[row][0]][number] for row in rows])

        with ExitStack() as stack:
            for site in sites:
                stack.enter_context(intervening(self.lm, site))
            new = self._generated([place for _, place in jobs], begin)
        return self._scores(dict(zip(jobs, new, strict=True)))

    @cached_property
    def _clean(self) -> dict[tuple[str, int], list[int]]:
        by_place = dict(zip(self._prompts, self._generated(list(self._prompts), lambda _: None), strict=True))
        return {
            (language, place): by_place[place] for language in self.places for place in self.places[language].tolist()
        }

    def _generated(
        self, places: Sequence[int], intervention: Callable[[list[int]], Intervention | None]
    ) -> list[list[int]]:
        """Greedy continuations of the prompts at ``places``, with an intervention for each batch of rows."""
        with self._progress.task("language steering: generation", len(places), "texts") as ticker:
            new = generate_rows(
                self.lm,
                [self._prompts[place] for place in places],
                max_new_tokens=self._new,
                intervention=intervention,
                samplings=[None],
                batch_size=self._batch,
                done=ticker.advance,
            )
        return [greedy for [greedy] in new]

    def _scores(self, tokens: Mapping[tuple[str, int], list[int]]) -> ByLanguage:
        found: dict[str, Scores] = {}
        for language, places in self.places.items():
            new = [tokens[language, place] for place in places.tolist()]
            texts = [self._frame.answer(text) for text in self._decoded(new)]
            references = self._references[language]
            found[language] = Scores(
                places=places,
                texts=texts,
                hit=np.array([each == language for each in self._identifier(texts)], dtype=np.float64),
                chrf=np.array([chrf_from(counts) for counts in chrf_statistics(texts, references)]),
                bleu=bleu_statistics(texts, references, bleu_tokenizer(language)),
                degenerate=degenerate(new),
            )
        return found

    def _cut(self, sentences: Sequence[Sequence[int]]) -> list[str]:
        """As many tokens of each as a continuation has at most, BOS left out: else a long reference costs brevity."""
        return self._decoded([tokens[1 : 1 + self._new] for tokens in sentences])

    def _decoded(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        texts: list[str] = self.lm.tokenizer.batch_decode([list(each) for each in tokens], skip_special_tokens=True)
        return texts
