"""Datasets on the Hugging Face hub, of which only data are read and no code is run."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from saebench.errors import DataError


def load_table(what: str, dataset: str, config: str | None, split: str, revision: str | None) -> Any:
    """Return one split of a dataset.

    Args:
        what: What messages call the data, such as "Texts".
        dataset: The name of the dataset.
        config: Its configuration; None for the default one.
        split: The split, or a part of it such as ``train[:1000]``.
        revision: The revision; None for the newest one.

    Raises:
        DataError: The extra ``hub`` is not installed, or the dataset cannot be loaded.
    """
    datasets = _library(what)
    try:
        return datasets.load_dataset(dataset, config, split=split, revision=revision, **_without_code())
    except Exception as error:  # datasets, the hub client and the network each raise their own kinds
        raise _cannot_load(dataset, error) from error


def config_names(what: str, dataset: str, revision: str | None) -> Sequence[str]:
    """Return the names of the configurations of a dataset. Raises DataError as `load_table` does."""
    datasets = _library(what)
    try:
        return datasets.get_dataset_config_names(dataset, revision=revision, **_without_code())
    except Exception as error:  # as above
        raise _cannot_load(dataset, error) from error


def _library(what: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"{what} from the hub need the extra 'hub': pip install 'saebench[hub]'.") from error
    return datasets


def _without_code() -> dict[str, bool]:
    """Return the argument that keeps datasets from running code.

    Up to version 3, some datasets were programs, and the user was asked on the terminal whether to run them.
    """
    return {"trust_remote_code": False} if int(version("datasets").split(".")[0]) < 4 else {}


def _cannot_load(dataset: str, error: Exception) -> DataError:
    return DataError(f"Cannot load the dataset {dataset!r} from the hub: {error}")
