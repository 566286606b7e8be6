"""Measures what sweeps do to the readout of concepts and to general text, at one site of a language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saebench.evaluation import subset_name
from saebench.evaluation.changes import Setting
from saebench.interventions.base import Intervention
from saebench.passes.context import TaskContext
from saebench.passes.scored import text_items
from saebench.tasks.concept_suppression.data import SPLITS, DividedSet, SplitName, general_text
from saebench.tasks.concept_suppression.methods import ConceptChanges, ConceptSweep
from saebench.tasks.concept_suppression.scoring.outcome import Array, Design, Outcome
from saebench.tasks.concept_suppression.scoring.passages import Passages
from saebench.tasks.concept_suppression.scoring.readout import ConceptReadout
from saebench.tasks.concept_suppression.selection import best_setting
from saebench.tasks.concept_suppression.settings import ConceptSuppressionSettings


@dataclass(frozen=True, eq=False)
class MeasuredSweeps:
    """The outcomes of some sweeps by method, and the chosen settings. Interventions are not kept."""

    validation: dict[str, Outcome]
    test: dict[str, Outcome]
    best: Setting  # among all the sweeps
    best_of: dict[str, Setting]  # among the strengths of each method

    def tested(self, setting: Setting) -> Outcome:
        """The outcome of a setting on the test split."""
        return self.test[setting.method].at(setting.strength)


class SuppressionScorer:
    """What all SAEs at a site share: the examples of several sets, a readout for each set, and general text.

    The concepts and examples of all sets lie side by side in its arrays, in the order of the sets.
    """

    def __init__(
        self,
        sets: Sequence[DividedSet],
        context: TaskContext,
        settings: ConceptSuppressionSettings,
        *,
        site: str,
        reads: str,
    ) -> None:
        """Fit the readouts to the unmodified model.

        Args:
            sets: The labelled sets.
            context: The language model, and what SAEs share.
            settings: The settings of the task.
            site: The hook that is changed.
            reads: The hook that interventions look at; often the same.

        Raises:
            HookMismatchError: The language model has no such hook.
        """
        self.sets, self.settings = sets, settings
        self.concepts = [subset_name(s.name, concept) for s in sets for concept in s.concepts]
        length = settings.context_length
        self._passages = {
            split: [Passages(s.part(split).texts, context, length, site=site, reads=reads) for s in sets]
            for split in SPLITS
        }
        fitted = [Passages(s.fit.texts, context, length, site=site, reads=site) for s in sets]
        self._readouts = [ConceptReadout(p.clean, s.fit.labels) for p, s in zip(fitted, sets, strict=True)]
        items = text_items(general_text(context, settings), settings.perplexity_predictions)
        first = settings.validation_sequences
        self._text = {"validation": context.scored(items[:first], site), "test": context.scored(items[first:], site)}

    def design(self, split: SplitName) -> Design:
        """Which examples and sequences of ``split`` stand behind the outcomes."""
        parts = [labelled_set.part(split) for labelled_set in self.sets]
        target, complement = ([part.target for part in parts], [part.complement for part in parts])
        return Design(_diagonal(target, False), _diagonal(complement, False), self._text[split].counts.numpy())

    def clean_accuracy(self, split: SplitName) -> Array:
        """Whether the readout is right for the unmodified model, ``[examples]``: 1 or 0."""
        right = []
        for labelled_set, passages, readout in zip(self.sets, self._passages[split], self._readouts, strict=True):
            right.append(readout(passages.clean).argmax(-1) == labelled_set.part(split).labels)
        return np.concatenate(right).astype(np.float64)

    def measure(self, sweeps: Sequence[ConceptSweep], split: SplitName, description: str) -> dict[str, Outcome]:
        """Return the outcome of each sweep by its method; ``description`` is shown as progress."""
        changes = [change for sweep in sweeps for change in sweep.changes]
        accuracy, confidence = self._drops(changes, split, description)
        nats = self._rises(changes, split, description)
        outcomes, start = {}, 0
        for sweep in sweeps:
            rows = slice(start, start + len(sweep.changes))
            start = rows.stop
            values = (np.concatenate([np.zeros((1, *x.shape[1:])), x[rows]]) for x in (accuracy, confidence, nats))
            outcomes[sweep.method] = Outcome((0.0, *sweep.strengths), *values)
        return outcomes

    def measure_and_choose(self, sweeps: Sequence[ConceptSweep], description: str) -> MeasuredSweeps:
        """Measure sweeps on both splits, and choose settings by validation."""
        validation, test = (self.measure(sweeps, split, f"{description} on {split} examples") for split in SPLITS)
        design = self.design("validation")
        best_of = {name: best_setting({name: outcome}, design, self.settings) for name, outcome in validation.items()}
        return MeasuredSweeps(validation, test, best_setting(validation, design, self.settings), best_of)

    # ------------------------------------------------------------------ inside

    def _drops(self, changes: Sequence[ConceptChanges], split: SplitName, description: str) -> tuple[Array, Array]:
        """The drops of accuracy and of confidence, ``[changes, concepts, examples]``."""
        accuracy, confidence = [], []
        first = 0
        for labelled_set, passages, readout in zip(self.sets, self._passages[split], self._readouts, strict=True):
            part, last = labelled_set.part(split), first + len(labelled_set.concepts)
            clean = readout(passages.clean)
            wanted = part.target | part.complement
            kept = np.where(wanted[:, :, None], clean, np.nan)
            probabilities = np.broadcast_to(kept, (len(changes), *kept.shape)).copy()
            if places := _changed([change[first:last] for change in changes]):
                interventions = [(intervention, wanted[concept]) for _, concept, intervention in places]
                probabilities[_index(places)] = passages.under(interventions, readout, description)
            first = last
            every = np.arange(passages.n)
            right = (probabilities.argmax(-1) == part.labels).astype(np.float64)
            dropped = (clean.argmax(-1) == part.labels) - right
            accuracy.append(np.where(wanted, dropped, np.nan))
            confidence.append(clean[every, part.labels] - probabilities[..., every, part.labels])
        return _diagonal(accuracy, np.nan), _diagonal(confidence, np.nan)

    def _rises(self, changes: Sequence[ConceptChanges], split: SplitName, description: str) -> Array:
        """The rise of the cross-entropy, ``[changes, concepts, sequences]``, summed over predictions."""
        text = self._text[split]
        rises = np.zeros((len(changes), len(self.concepts), text.n))
        if places := _changed(changes):
            losses = text.under([intervention for *_, intervention in places], f"{description}, general text")
            rises[_index(places)] = text.per_item(losses - text.clean).numpy()
        return rises


def _changed(changes: Sequence[ConceptChanges]) -> list[tuple[int, int, Intervention]]:
    """The number of the change, the number of the concept, and the intervention, wherever there is one."""
    return [
        (number, concept, intervention)
        for number, change in enumerate(changes)
        for concept, intervention in enumerate(change)
        if intervention is not None
    ]


def _index(places: Sequence[tuple[int, int, Intervention]]) -> tuple[list[int], list[int]]:
    return [number for number, *_ in places], [concept for _, concept, _ in places]


def _diagonal(blocks: Sequence[np.ndarray], elsewhere: float | bool) -> np.ndarray:
    """Put the blocks ``[..., concepts, examples]`` of single sets along the diagonal of an array for all sets."""
    rows, columns = (sum(block.shape[axis] for block in blocks) for axis in (-2, -1))
    whole = np.full((*blocks[0].shape[:-2], rows, columns), elsewhere)
    row = column = 0
    for block in blocks:
        whole[..., row : row + block.shape[-2], column : column + block.shape[-1]] = block
        row, column = row + block.shape[-2], column + block.shape[-1]
    return whole
