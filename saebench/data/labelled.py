"""Labelled data: distinct prompts, each with a class, and their division into training and test rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from saebench.data.documents import Documents
from saebench.data.heldout import is_zoo_text
from saebench.data.labelled_files import Row, class_name, read_labelled
from saebench.data.labelled_ref import AssetLabels, FileLabels, WordLabels, parse_labelled_ref
from saebench.data.probes import ASSET, read_dataset, shifted_version
from saebench.errors import DataError, UsageError

__all__ = ["Labelled", "load_labelled", "load_shifted", "parse_labelled_ref", "split_labelled"]


@dataclass(frozen=True, eq=False)  # eq=False, because comparing arrays does not give one bool
class Labelled:
    """Distinct prompts, each with a class, in the order of their source, and how many rows were dropped.

    Prompts that differ only in white space are the same prompt. Its first row is kept, or none if its rows name several
    classes. So no prompt can be on both sides of a split.
    """

    ref: str
    texts: list[str]
    labels: NDArray[np.int64]  # [n], the number of each prompt's class
    classes: tuple[str, ...]  # the names of the classes, sorted; numbers are sorted by value
    n_empty: int = 0  # dropped rows that are empty or hold only white space
    n_duplicates: int = 0  # dropped rows that repeat a row
    n_conflicting: int = 0  # dropped rows of prompts that have several classes
    n_zoo: int = 0  # dropped rows in the zoo's training share, see heldout.py

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """The number of examples of each class, ``[classes]``."""
        return np.bincount(self.labels, minlength=len(self.classes))

    @cached_property
    def content_hash(self) -> str:
        """The sha256 of the texts and the names of their classes, in order."""
        names = (self.classes[label] for label in self.labels)
        pairs = [part for pair in zip(self.texts, names, strict=True) for part in pair]
        return hashlib.sha256(Documents("", pairs).content_hash.encode()).hexdigest()


def load_labelled(ref: str) -> Labelled:
    """Load the labelled data that ``ref`` names.

    Args:
        ref: ``asset:sae-probes/NAME``; ``jsonl:PATH``, ``csv:PATH`` or ``parquet:PATH``, a file with the columns
            ``prompt`` and ``target``; or ``words:TEXT``, which makes a set from a text (see `saebench.data.words`).

    Raises:
        UsageError: The reference is wrong.
        AssetError: The asset is missing.
        DataError: The data cannot be read, or have fewer than two classes.
    """
    parsed = parse_labelled_ref(ref)
    rows: Iterable[Row]
    if isinstance(parsed, WordLabels):
        from saebench.data.words import word_rows

        rows, n_zoo = word_rows(parsed)
    else:
        rows, n_zoo = _read(parsed), 0
    groups: dict[str, list[Row]] = {}  # a dict keeps the order
    for row in rows:
        groups.setdefault(_key(row[0]), []).append(row)
    n_empty = len(groups.pop("", []))
    clear = [group for group in groups.values() if len({name for _, name in group}) == 1]
    n_clear = sum(map(len, clear))
    n_conflicting = sum(map(len, groups.values())) - n_clear
    n_duplicates = n_clear - len(clear)
    used = [group[0] for group in clear]
    if isinstance(parsed, AssetLabels):
        unseen = [row for row in used if not is_zoo_text(row[0], parsed.name)]
        n_zoo, used = len(used) - len(unseen), unseen
    classes = _in_order({name for _, name in used})
    if len(classes) < 2:
        raise DataError(
            f"{ref!r} has {'one class' if classes else 'no usable example'} ({len(used)} examples; dropped: {n_empty} "
            f"empty, {n_duplicates} repeated, {n_conflicting} with several classes, {n_zoo} in the zoo's training "
            "share); labelled data must have at least two classes."
        )
    index = {name: number for number, name in enumerate(classes)}
    labels = np.array([index[name] for _, name in used], dtype=np.int64)
    return Labelled(ref, [text for text, _ in used], labels, classes, n_empty, n_duplicates, n_conflicting, n_zoo)


def load_shifted(data: Labelled) -> Labelled | None:
    """Load the out-of-distribution version of a dataset of the asset, without the prompts of ``data``.

    Returns:
        The version, or None if there is none.

    Raises:
        AssetError: The asset is missing.
        DataError: The classes are not those of ``data``.
    """
    parsed = parse_labelled_ref(data.ref)
    name = shifted_version(parsed.name) if isinstance(parsed, AssetLabels) else None
    if name is None:
        return None
    shifted = load_labelled(f"asset:{ASSET}/{name}")
    if shifted.classes != data.classes:
        raise DataError(
            f"{shifted.ref!r} has the classes {shifted.classes}, but {data.ref!r} has {data.classes}; run `saebench "
            f"assets verify {ASSET}`."
        )
    known = set(map(_key, data.texts))
    new = [row for row, text in enumerate(shifted.texts) if _key(text) not in known]
    return replace(
        shifted,
        texts=[shifted.texts[row] for row in new],
        labels=shifted.labels[new],
        n_duplicates=shifted.n_duplicates + len(shifted.texts) - len(new),
    )


def split_labelled(
    data: Labelled, rng: np.random.Generator, *, train: int, test: int, balanced: bool = True
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw rows to train on and rows to test on, without overlap and in random order.

    Args:
        data: The labelled data.
        rng: The random generator.
        train: The number of training rows.
        test: The number of test rows.
        balanced: Whether all classes have the same number of rows (up to one row) on each side. Otherwise they have
            numbers in proportion to their sizes. Every class has at least one row on each side.

    Returns:
        The numbers of the training rows and of the test rows.

    Raises:
        UsageError: A side has fewer rows than there are classes.
        DataError: A class has too few examples.
    """
    n_classes = len(data.classes)
    if min(train, test) < n_classes:
        raise UsageError(
            f"{data.ref!r} has {n_classes} classes, so it needs at least {n_classes} training and {n_classes} test "
            f"examples, not {train} and {test}."
        )
    weights = np.ones(n_classes) if balanced else data.counts
    wanted = _shares(weights, train + test, least=2)
    if (wanted > data.counts).any():
        scarce = int(np.argmax(wanted - data.counts))
        raise DataError(
            f"{data.ref!r} has {data.counts[scarce]} examples of class {data.classes[scarce]!r}, but {train} for "
            f"training and {test} for testing need {wanted[scarce]} of it; ask for fewer."
        )
    trained = 1 + _shares(wanted - 2, train - n_classes)
    sides: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
    for label in range(n_classes):
        rows = rng.permutation(np.flatnonzero(data.labels == label))
        sides[0].append(rows[: trained[label]])
        sides[1].append(rows[trained[label] : wanted[label]])
    return rng.permutation(np.concatenate(sides[0])), rng.permutation(np.concatenate(sides[1]))


def _key(prompt: str) -> str:
    """Return the prompt with its white space normalised; prompts are equal if these keys are."""
    return " ".join(prompt.split())


def _shares(weights: NDArray[np.number], total: int, least: int = 0) -> NDArray[np.int64]:
    """Divide ``total`` in proportion to ``weights`` by largest remainders, with at least ``least`` for each of them."""
    exact = total * weights / max(weights.sum(), 1)
    shares = np.floor(exact).astype(np.int64)
    missing = total - int(shares.sum())
    shares[np.argsort(shares - exact, kind="stable")[:missing]] += 1
    while shares.min() < least:
        shares[shares.argmax()] -= 1
        shares[shares.argmin()] += 1
    return shares


def _in_order(names: set[str]) -> tuple[str, ...]:
    """Return the names sorted, by value if all of them are numbers."""
    try:
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    except ValueError:
        return tuple(sorted(names))


def _read(ref: AssetLabels | FileLabels) -> Iterable[Row]:
    if isinstance(ref, FileLabels):
        return read_labelled(ref.path, ref.format)
    frame = read_dataset(ref.name)
    names = (class_name(target, f"asset:{ASSET}/{ref.name}") for target in frame["target"].tolist())
    return zip(frame["prompt"].tolist(), names, strict=True)
