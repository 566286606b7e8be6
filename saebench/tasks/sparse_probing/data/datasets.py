"""The labelled datasets of a run, divided into training and test examples, and their shifted versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from saebench.data.labelled import Labelled, load_labelled, load_shifted, split_labelled
from saebench.data.probes import ASSET, binary_dataset_names, dataset_names, shifted_version
from saebench.errors import DataError, UsageError
from saebench.passes.context import TaskContext
from saebench.passes.labelled import set_names
from saebench.results.units import units_hash
from saebench.tasks.sparse_probing.settings import SparseProbingSettings

ALL = "all"
_MIN_EXAMPLES = 20  # for training, and for the test
_MIN_TEST_OF_SMALL = 100  # test examples that training leaves of a small dataset (2502.16681)


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Dataset:
    """Prompts of two classes, of which probes train on the first ``n_train`` and are tested on the others."""

    name: str  # as tables show it
    ref: str
    texts: tuple[str, ...]
    y: NDArray[np.bool_]  # [prompts], True for class 1
    n_train: int
    content_hash: str

    @cached_property
    def drawn(self) -> str:
        """The hash of the drawn examples, their labels, and which of them are for training."""
        return units_hash([self.texts, self.y.tolist(), self.n_train])


def dataset_refs(names: Sequence[str]) -> list[str]:
    """Return the references of datasets that are given by name or reference.

    The name ``all`` stands for the 113 binary tasks of 2502.16681. Raises UsageError for a dataset that is named twice,
    such as one that is named beside ``all``.
    """
    expanded = [name for named in names for name in (binary_dataset_names() if named == ALL else [named])]
    refs = [name if ":" in name else f"asset:{ASSET}/{name}" for name in expanded]
    if repeated := next((ref for ref in refs if refs.count(ref) > 1), None):
        raise UsageError(f"Dataset {repeated!r} is named twice, but it can count only once; name it once.")
    return refs


def load_datasets(context: TaskContext, names: Sequence[str], settings: SparseProbingSettings) -> list[Dataset]:
    """Read and divide datasets, in the order of their content hashes; for equal names and sizes this is done once.

    So the order in which the user lists them decides no number.

    Args:
        context: Keeps the datasets, and gives the generator that draws the examples.
        names: Names or references, as `dataset_refs` takes them.
        settings: Says how many training and test examples are wanted.

    Raises:
        UsageError: A name is unknown, or a dataset is given twice.
        AssetError: The asset sae-probes is missing or damaged.
        DataError: A dataset is unreadable, too small, or has more than two classes.
    """
    refs = dataset_refs(names)
    train, test = settings.train_examples, settings.test_examples

    def load() -> list[Dataset]:
        datasets = [_divide(load_labelled(ref), context, train, test) for ref in refs]
        names = set_names(refs, [dataset.content_hash for dataset in datasets])
        named = [replace(dataset, name=name) for dataset, name in zip(datasets, names, strict=True)]
        return sorted(named, key=lambda dataset: dataset.content_hash)

    return context.shared(("sparse_probing", "datasets", tuple(refs), train, test), load)


def shifted_names() -> list[str]:
    """The datasets of the asset that have a shifted version, by number."""
    return [name for name in dataset_names() if shifted_version(name)]


def shifted_pairs(context: TaskContext, settings: SparseProbingSettings) -> list[tuple[Dataset, Dataset]]:
    """Return each dataset that has a shifted version (other names, another language) together with that version.

    The dataset is divided as in the standard regime; all examples of the shifted version are for the test.
    Raises as `load_datasets` does.
    """

    def load() -> list[tuple[Dataset, Dataset]]:
        return [(original, _shifted(original)) for original in load_datasets(context, shifted_names(), settings)]

    return context.shared(("sparse_probing", "shifted", settings.train_examples, settings.test_examples), load)


def all_datasets(context: TaskContext, settings: SparseProbingSettings) -> list[Dataset]:
    """Every dataset that a run reads, those of the regime ``ood`` included. Raises as `load_datasets` does."""
    datasets = load_datasets(context, settings.datasets, settings)
    pairs = shifted_pairs(context, settings) if "ood" in settings.regimes else []
    return [*datasets, *(dataset for pair in pairs for dataset in pair)]


def _divide(data: Labelled, context: TaskContext, train: int, test: int) -> Dataset:
    """Draw balanced sets of these sizes; of a small dataset the test set shrinks first, to 100 or a third."""
    if len(data.classes) != 2:
        raise DataError(
            f"{data.ref!r} has {len(data.classes)} classes, but a probe tells two apart; name a binary dataset."
        )
    available = 2 * int(data.counts.min())
    train = min(train, available - min(test, _MIN_TEST_OF_SMALL, available // 3))
    test = min(test, available - train)
    if min(train, test) < _MIN_EXAMPLES:
        raise DataError(
            f"{data.ref!r} has {int(data.counts.min())} examples in its smaller class, too few for {_MIN_EXAMPLES} to "
            "test on and twice as many to train on; give a larger dataset."
        )
    rng = context.rng("sparse_probing", data.content_hash)
    rows = np.concatenate(split_labelled(data, rng, train=train, test=test))
    texts = tuple(data.texts[row] for row in rows)
    return Dataset(data.ref, data.ref, texts, data.labels[rows] == 1, train, data.content_hash)


def _shifted(original: Dataset) -> Dataset:
    version = load_shifted(load_labelled(original.ref))
    assert version is not None
    return Dataset(
        f"{original.name}_OOD", version.ref, tuple(version.texts), version.labels == 1, 0, version.content_hash
    )
