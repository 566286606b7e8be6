"""How probable held-out toxic and neutral texts are under interventions; nothing is generated, no word is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from saebench.evaluation.changes import Sweep
from saebench.evaluation.report import Ratio
from saebench.interventions.base import Intervention
from saebench.passes.context import TaskContext
from saebench.passes.examples import tokenize_examples
from saebench.passes.items import Item, evenly_spaced
from saebench.passes.scored import ScoredItems
from saebench.stats.frontier import best_within
from saebench.tasks.detox.data import splits
from saebench.tasks.detox.settings import DetoxSettings


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class LossRises:
    """By how much an intervention raises the loss of the toxic and of the neutral text of each pair, ``[pairs]``.

    The loss of a text is the mean cross-entropy of its scored tokens, in nats per token.
    """

    toxic: NDArray[np.float64]
    neutral: NDArray[np.float64]

    @property
    def gap(self) -> float:
        """The mean rise on toxic texts minus that on neutral texts; NaN where a loss is not finite."""
        return float((self.toxic - self.neutral).mean())

    @property
    def side_effect(self) -> float:
        """The mean rise on neutral texts."""
        return float(self.neutral.mean())

    def gap_at(self, limit: float) -> Ratio:
        """The gap of each pair, scaled down to a side effect of at most ``limit``, and ones.

        A change that raises the loss of neutral text by more than ``limit`` counts as the part of it that raises the
        loss by just that much, if rises grow in proportion. A change that breaks the model raises the loss of all texts
        by many nats, of which hardly anything is left.
        """
        share = min(1.0, limit / self.side_effect) if self.side_effect > 0 else 1.0
        return share * (self.toxic - self.neutral), np.ones_like(self.toxic)


@dataclass(frozen=True, eq=False)
class TextPairs:
    """The toxic and the neutral texts of one split, which stand in pairs."""

    items: ScoredItems
    toxic: NDArray[np.bool_]  # [texts]

    def under(self, changes: Sequence[Intervention | None], description: str) -> list[LossRises]:
        """Score the texts under each intervention, where None changes nothing."""
        distinct = {id(change): change for change in changes if change is not None}
        rises = {id(None): np.zeros(len(self.toxic))}
        if distinct:
            losses = self.items.under(list(distinct.values()), description)
            by_text = self.items.per_item(losses - self.items.clean) / self.items.counts
            rises |= dict(zip(distinct, by_text.numpy(), strict=True))
        of_each = [rises[id(change)] for change in changes]
        return [LossRises(rise[self.toxic], rise[~self.toxic]) for rise in of_each]

    def by_subset(
        self, changes: Mapping[str, Sequence[Intervention | None]], description: str
    ) -> dict[str, list[LossRises]]:
        """Score the texts under the interventions of each subset."""
        rises = iter(self.under([change for of_subset in changes.values() for change in of_subset], description))
        return {subset: list(islice(rises, len(of_subset))) for subset, of_subset in changes.items()}

    def tried(self, sweeps: Sequence[Sweep[Intervention]], description: str) -> list[Tried]:
        """Try every strength of every sweep; all of them share the passes up to the hook point."""
        rises = iter(self.under([change for sweep in sweeps for change in sweep.changes], description))
        return [Tried(sweep, list(islice(rises, len(sweep.changes)))) for sweep in sweeps]


@dataclass(frozen=True, eq=False)
class Tried:
    """What one sweep does to the loss of the texts of one split, at each of its strengths."""

    sweep: Sweep[Intervention]
    rises: list[LossRises]

    @cached_property
    def gaps(self) -> NDArray[np.float64]:
        """The gap at each strength, ``[changes]``."""
        return np.array([rise.gap for rise in self.rises])

    @cached_property
    def side_effects(self) -> NDArray[np.float64]:
        """The rise of the loss of neutral texts at each strength, ``[changes]``."""
        return np.array([rise.side_effect for rise in self.rises])

    def best(self, limit: float) -> tuple[float, float]:
        """Find the strength with the largest gap at a side effect of at most ``limit``, linear between neighbours.

        Strength 0, which does nothing, is included. A strength whose losses are not finite counts as not tried.

        Returns:
            The strength and its gap; both are 0 where no strength has a gap above 0.
        """
        finite = np.isfinite(self.gaps) & np.isfinite(self.side_effects)
        return best_within(np.array(self.sweep.strengths)[finite], self.gaps[finite], self.side_effects[finite], limit)


def text_pairs(
    context: TaskContext, settings: DetoxSettings, split: Literal["validation", "test"], site: str
) -> TextPairs:
    """Return the texts of a split, to be scored under interventions at ``site``; all SAEs there share them.

    Of each text, ``text_predictions`` evenly spaced tokens are scored, or all of them where that is 0.
    """
    return context.shared(
        ("detox", "pairs", split, site, settings), lambda: _text_pairs(context, settings, split, site)
    )


def _text_pairs(context: TaskContext, settings: DetoxSettings, split: str, site: str) -> TextPairs:
    texts = splits(context, settings)[split]
    rows = tokenize_examples(texts.texts, context.lm.tokenizer, settings.context_length)
    items = []
    for tokens, evaluated in zip(
        np.split(rows.tokens, rows.starts[1:]), np.split(rows.evaluated, rows.starts[1:]), strict=True
    ):
        places = np.flatnonzero(evaluated[1:]) + 1
        if settings.text_predictions:
            places = evenly_spaced(places, settings.text_predictions)
        items.append(Item(tuple(tokens.tolist()), tuple(places.tolist())))
    return TextPairs(context.scored(items, site), texts.toxic)
