"""Covariate shift (2502.16681): train on a dataset, test on a shifted version of it (other names, another language)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from saebench.data.labelled import load_labelled, load_shifted
from saebench.data.probes import dataset_names, shifted_version
from saebench.passes.context import TaskContext
from saebench.tasks.sparse_probing.data import Dataset, load_datasets
from saebench.tasks.sparse_probing.problem import ProbeData

_SUFFIX = "_OOD"


def shifted_names() -> list[str]:
    """The datasets of the asset that have a shifted version, by number."""
    return [name for name in dataset_names() if shifted_version(name)]


def shifted_pairs(context: TaskContext, parameters: dict[str, Any]) -> list[tuple[Dataset, Dataset]]:
    """Each such dataset, divided as in the standard regime, and its shifted version, which is all to test on.

    Raises AssetError and DataError.
    """

    def load() -> list[tuple[Dataset, Dataset]]:
        originals = load_datasets(context, {**parameters, "datasets": shifted_names()})
        return [(original, _shifted(original)) for original in originals]

    key = ("sparse_probing", "shifted", parameters["train_examples"], parameters["test_examples"])
    return context.shared(key, load)


def shifted(original: ProbeData, shifted: ProbeData) -> ProbeData:
    """The training examples of ``original``, to be tested on ``shifted``."""
    return replace(original, x_test=shifted.x_test, y_test=shifted.y_test)


def _shifted(original: Dataset) -> Dataset:
    found = load_shifted(load_labelled(original.ref))
    assert found is not None
    texts, labels = tuple(found.texts), found.labels == 1
    return Dataset(f"{original.name}{_SUFFIX}", found.ref, texts, labels, 0, found.content_hash)
