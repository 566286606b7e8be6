"""One site of a language model: readouts of concepts, and what methods do to them and to general text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saebench.data.tokens import TokenBatch
from saebench.interventions.base import Intervention
from saebench.passes.context import TaskContext
from saebench.passes.scored import text_items
from saebench.tasks.concept_suppression.data import ConceptSplit, Split
from saebench.tasks.concept_suppression.outcome import Design, Outcome
from saebench.tasks.concept_suppression.passages import Passages
from saebench.tasks.concept_suppression.readout import ConceptReadout

SPLITS: tuple[Split, ...] = ("validation", "test")


@dataclass(frozen=True)
class Method:
    """One way to suppress concepts, in several strengths: numbers of latents, or strengths of an ablation."""

    name: str
    strengths: tuple[float, ...]
    changes: list[list[Intervention | None]]  # [strengths][concepts of all sets]; None changes nothing


class Bench:
    """What all SAEs at a site share: examples of several sets, a readout for each, and general text."""

    def __init__(
        self, splits: Sequence[ConceptSplit], context: TaskContext, parameters: dict[str, Any], site: str, reads: str
    ) -> None:
        self.splits = splits
        length = parameters["context_length"]
        self._passages = {
            name: [Passages(each.part(name).texts, context, length, site, reads) for each in splits] for name in SPLITS
        }
        fitted = [Passages(each.fit.texts, context, length, site, site) for each in splits]
        self._readouts = [
            ConceptReadout(passages.clean, each.fit.labels) for passages, each in zip(fitted, splits, strict=True)
        ]
        items = text_items(general_text(context, parameters), parameters["perplexity_predictions"])
        first = parameters["validation_sequences"]
        self._text = {
            "validation": context.scored(items[:first], site),
            "test": context.scored(items[first:], site),
        }

    def design(self, split: Split) -> Design:
        parts = [each.part(split) for each in self.splits]
        target, complement = (_blocks([getattr(p, side) for p in parts], False) for side in ("target", "complement"))
        return Design(target, complement, self._text[split].counts.numpy())

    def clean_accuracy(self, split: Split) -> np.ndarray:
        """Whether the readout of the unmodified model is right, ``[examples]`` of all sets."""
        right = []
        for each, passages, readout in zip(self.splits, self._passages[split], self._readouts, strict=True):
            right.append(readout(passages.clean).argmax(-1) == each.part(split).labels)
        return np.concatenate(right).astype(np.float64)

    def measure(self, methods: Sequence[Method], split: Split, description: str) -> dict[str, Outcome]:
        """Every strength of every method."""
        flat = [changes for method in methods for changes in method.changes]
        accuracy, confidence = self._concepts(flat, split, description)
        nats = self._general(flat, split, description)
        found, start = {}, 0
        for method in methods:
            rows = slice(start, start + len(method.strengths))
            start = rows.stop
            parts = (np.concatenate([np.zeros_like(each[:1]), each[rows]]) for each in (accuracy, confidence, nats))
            found[method.name] = Outcome((0.0, *method.strengths), *parts)
        return found

    # ------------------------------------------------------------------ inside

    def _concepts(
        self, flat: list[list[Intervention | None]], split: Split, description: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Drops of accuracy and confidence, ``[settings, concepts, examples]``, of all sets."""
        accuracy, confidence = [], []
        first = 0
        for each, passages, readout in zip(self.splits, self._passages[split], self._readouts, strict=True):
            part, n = each.part(split), len(each.concepts)
            clean = readout(passages.clean)
            wanted = part.target | part.complement
            kept = np.where(wanted[:, :, None], clean, np.nan)
            probabilities = np.broadcast_to(kept, (len(flat), *kept.shape)).copy()
            where, changes = [], []
            for setting, of_concepts in enumerate(flat):
                for concept, change in enumerate(of_concepts[first : first + n]):
                    if change is not None:
                        where.append((setting, concept))
                        changes.append((change, wanted[concept]))
            if changes:
                setting_of, concept_of = np.array(where).T
                probabilities[setting_of, concept_of] = passages.under(changes, readout, description)
            first += n
            every = np.arange(passages.n)
            right = (probabilities.argmax(-1) == part.labels).astype(np.float64)
            dropped = (clean.argmax(-1) == part.labels) - right
            accuracy.append(np.where(wanted, dropped, np.nan))
            confidence.append(clean[every, part.labels] - probabilities[..., every, part.labels])
        return _blocks(accuracy, np.nan), _blocks(confidence, np.nan)

    def _general(self, flat: list[list[Intervention | None]], split: Split, description: str) -> np.ndarray:
        """Rise of the cross-entropy, ``[settings, concepts, sequences]``."""
        text = self._text[split]
        out = np.zeros((len(flat), len(flat[0]) if flat else 0, text.n))
        where = [(s, c) for s, changes in enumerate(flat) for c, change in enumerate(changes) if change is not None]
        if where:
            changes = [change for each in flat for change in each if change is not None]
            rise = text.per_item(text.under(changes, f"{description}, general text") - text.clean)
            setting, concept = np.array(where).T
            out[setting, concept] = rise.numpy()
        return out


def general_text(context: TaskContext, parameters: dict[str, Any]) -> TokenBatch:
    """The sequences on which perplexity is measured: those for validation, then those for the test."""
    n = parameters["validation_sequences"] + parameters["test_sequences"]
    return context.batch(parameters["perplexity_text"], parameters["perplexity_context_length"], n)


def _blocks(parts: Sequence[np.ndarray], elsewhere: float | bool) -> np.ndarray:
    """``[..., concepts, examples]`` of single sets along the diagonal of one for all."""
    rows, columns = (sum(part.shape[axis] for part in parts) for axis in (-2, -1))
    out = np.full((*parts[0].shape[:-2], rows, columns), elsewhere)
    row = column = 0
    for part in parts:
        out[..., row : row + part.shape[-2], column : column + part.shape[-1]] = part
        row, column = row + part.shape[-2], column + part.shape[-1]
    return out
