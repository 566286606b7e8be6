"""The losses of documents under changes, and how much of what the model knew of them is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from saebench.tasks.unlearning.data.documents import Side

TOPICAL, COMMON = 0, 1  # the rows of tables that keep words of the topic and common tokens apart

Part = Literal["topic", "fluency", "retain"]
PARTS: tuple[Part, ...] = ("topic", "fluency", "retain")
Pairs = tuple[Float[np.ndarray, "settings n"], Float[np.ndarray, " n"]]  # sums over a document, and what they are of


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Known:
    """What the unchanged model knows of the documents of one split; the same for all methods and SAEs.

    Losses are sums over a document's predictions, in nats, also those of each group of tokens (`TOPICAL`, `COMMON`).
    """

    clean: Float[np.ndarray, " documents"]
    predictions: Float[np.ndarray, " documents"]
    clean_groups: Float[np.ndarray, "2 documents"]
    ignorant_groups: Float[np.ndarray, "2 documents"]  # without the document: at least clean, at most a uniform guess
    ignorant: Float[np.ndarray, " documents"]  # the same over all tokens
    uniform: Float[np.ndarray, " documents"]  # of a uniform guess
    is_forget: Bool[np.ndarray, " documents"]

    @classmethod
    def of(
        cls,
        clean: Float[np.ndarray, "3 documents"],
        without: Float[np.ndarray, "3 documents"],
        predictions: Float[np.ndarray, "3 documents"],
        is_forget: Bool[np.ndarray, " documents"],
        vocabulary: int,
    ) -> Known:
        """What is known by the losses of the unchanged model and of one that sees nothing of a document.

        Args:
            clean: The losses of the unchanged model over words of the topic, common tokens, and all tokens.
            without: Those of the model whose activations are replaced by their mean.
            predictions: How many tokens these are.
            is_forget: Which documents belong to the forget side.
            vocabulary: The number of tokens of the vocabulary.
        """
        uniform = predictions * np.log(vocabulary)
        ignorant = np.maximum(np.minimum(without, uniform), clean)
        return cls(clean[2], predictions[2], clean[:2], ignorant[:2], ignorant[2], uniform[2], is_forget)

    def side(self, side: Side) -> Bool[np.ndarray, " documents"]:
        """Which documents belong to a side."""
        return self.is_forget if side == "forget" else ~self.is_forget


@dataclass(frozen=True, eq=False)
class Losses:
    """The losses of the documents of one split at one setting or several, in nats, summed over predictions."""

    known: Known
    total: Float[np.ndarray, "settings documents"]
    groups: Float[np.ndarray, "settings 2 documents"]

    def rise(self, side: Side) -> Pairs:
        """By how much the loss of each document of a side rises, and how many predictions it has."""
        rows = self.known.side(side)
        return (self.total - self.known.clean)[:, rows], self.known.predictions[rows]

    def broken(self, side: Side) -> Pairs:
        """1 for each document of a side whose loss lies above that of a uniform guess, out of 1."""
        rows = self.known.side(side)
        return (self.total > self.known.uniform)[:, rows].astype(float), np.ones(int(rows.sum()))

    def lost(self, part: Part) -> Pairs:
        """What is lost of each document, and what was known of it, in nats.

        The parts are the words of the topic in forget documents, the common tokens there, and all tokens of retained
        documents. What is known of a document is by how much its loss is below that of a model that sees nothing of
        it, and no more than that can be lost: a model that is broken has not forgotten more than an ignorant one.
        """
        known = self.known
        rows = known.side("retain" if part == "retain" else "forget")
        if part == "retain":
            losses, clean, ignorant = self.total, known.clean, known.ignorant
        else:
            group = TOPICAL if part == "topic" else COMMON
            losses, clean, ignorant = self.groups[:, group], known.clean_groups[group], known.ignorant_groups[group]
        return (np.minimum(losses, ignorant) - clean)[:, rows], (ignorant - clean)[rows]


Weights = dict[Side, Float[np.ndarray, "replicates n"]]


def shares(losses: Losses, weights: Weights | None = None) -> dict[Part, Float[np.ndarray, "... settings"]]:
    """Which share of what was known is lost of each part, at every setting; NaN where nothing was known.

    Args:
        losses: The losses.
        weights: How often each document of each side counts, ``[replicates, n]``; by default once, without replicates.
    """
    found: dict[Part, Float[np.ndarray, "... settings"]] = {}
    for part in PARTS:
        lost, known = losses.lost(part)
        side: Side = "retain" if part == "retain" else "forget"
        drawn = np.ones(len(known)) if weights is None else weights[side]
        total = np.asarray(drawn @ known)
        found[part] = np.asarray(drawn @ lost.T) / np.where(total > 0, total, np.nan)[..., None]
    return found


def selective(losses: Losses, weights: Weights | None = None) -> Float[np.ndarray, "... settings"]:
    """The share of the topic that is lost, minus the shares of fluency and of retained documents that are lost."""
    lost = shares(losses, weights)
    value: Float[np.ndarray, "... settings"] = lost["topic"] - lost["fluency"] - lost["retain"]
    return value


def stacked(losses: Sequence[Losses]) -> Losses:
    """The settings of several losses of the same documents, one after the other."""
    total, groups = (np.concatenate([getattr(each, name) for each in losses]) for name in ("total", "groups"))
    return Losses(losses[0].known, total, groups)
