"""The labelled datasets of the sae-probes asset ("Are Sparse Autoencoders Useful?", arXiv 2502.16681)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from saebench.data import assets
from saebench.data.source import read_content
from saebench.data.tables import FORMATS, suggestion
from saebench.errors import DataError, UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

ASSET = "sae-probes"
SUFFIX = ".csv.zst"
MASTER = f"probing_datasets_MASTER{SUFFIX}"
NOT_DATASETS = frozenset({MASTER, f"66_living-room_translations{SUFFIX}"})  # an index and a word list


# Its label is whether a sentence answers a question, but the question is missing, so no probe can know it.
UNANSWERABLE = frozenset({"90_glue_qnli_OOD"})


@cache
def dataset_files() -> dict[str, str]:
    """Return each dataset's path in the asset by its name, in the order of their numbers.

    Names are like "97_news_class", or "87_glue_cola_OOD" for an out-of-distribution version. They are taken from the
    manifest, so the asset need not be present.
    """
    paths = [PurePosixPath(file.name) for file in assets.manifest()[ASSET].files]
    files = {path.name.removesuffix(SUFFIX): str(path) for path in paths if path.name not in NOT_DATASETS}
    return dict(sorted(files.items(), key=lambda item: (int(item[0].split("_")[0]), item[0])))


def dataset_names() -> list[str]:
    """Return the names of all datasets, in the order of their numbers."""
    return list(dataset_files())


def check_dataset_name(name: str) -> None:
    """Raise UsageError, with a suggestion, unless ``name`` is one of the asset's datasets."""
    if name not in dataset_files():
        hint = suggestion(name, FORMATS) or did_you_mean(name, dataset_files())
        raise UsageError(
            f"Unknown dataset {name!r} of the asset {ASSET!r}.{hint} "
            f"It has {len(dataset_files())} datasets, for example '97_news_class'."
        )


def read_dataset(name: str) -> pd.DataFrame:
    """Return a dataset, in the order of its file, with at least the columns ``prompt`` (str) and ``target``.

    Targets are numbers or texts.

    Raises:
        UsageError: There is no such dataset.
        AssetError: The asset is missing or damaged.
        DataError: The file is not as it should be.
    """
    check_dataset_name(name)
    return _read_csv(dataset_files()[name], required=("prompt", "target"))


@dataclass(frozen=True)
class BinaryTask:
    """A binary task as the asset's index describes it. What the index does not say is empty."""

    tag: str  # such as "news_class_Politics"
    name: str  # the name of its dataset, such as "139_news_class_Politics"
    family: str  # the data from which it and similar tasks were made, such as "news_class"
    concept: str  # what a probe must tell from the prompt, such as "is_trump"
    link: str  # where the data come from
    shifted: str | None  # the name of the dataset with other prompts for the same task, if there is one


def binary_tasks() -> dict[str, BinaryTask]:
    """Return the 113 binary tasks by their tags, in the order of the index.

    Raises:
        AssetError: The asset is missing.
        DataError: The index is damaged.
    """
    columns = ("Data type", "Dataset save name", "Dataset Tag", "Dataset name", "Probe to", "Link")
    index = _read_csv(MASTER, required=columns)
    tasks: dict[str, BinaryTask] = {}
    family = concept = link = ""
    for kind, saved, tag, family_cell, concept_cell, link_cell in index[list(columns)].astype(str).to_numpy():
        # The index is written for readers: an empty family means the one above, with its link, and so does "^".
        link = link if link_cell == "^" or not (link_cell or family_cell) else link_cell
        concept = concept if concept_cell == "^" else concept_cell
        family = family_cell or family
        if kind == "Binary Classification":
            name = PurePosixPath(saved).name.removesuffix(".csv")
            tasks[tag] = BinaryTask(tag, name, family.strip(), concept.strip(), link, shifted_version(name))
    return tasks


def binary_dataset_names() -> list[str]:
    """Return the names of the datasets of `binary_tasks`."""
    return [task.name for task in binary_tasks().values()]


def shifted_version(name: str) -> str | None:
    """Return the out-of-distribution dataset of the task ("87_glue_cola_OOD" for "87_glue_cola"), or None."""
    shifted = f"{name}_OOD"
    return shifted if shifted in dataset_files() and shifted not in UNANSWERABLE else None


def _read_csv(file_name: str, required: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    path = assets.file(ASSET, file_name)
    content = read_content(path)
    try:
        # keep_default_na=False, because "NA" and "null" are words of a text here, not missing values.
        frame = pd.read_csv(io.BytesIO(content), dtype={"prompt": str}, keep_default_na=False)
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise DataError(f"Cannot read {path} ({error}); run `saebench assets verify {ASSET}`.") from error
    if missing := [column for column in required if column not in frame.columns]:
        raise DataError(f"{path} has no column {missing[0]!r}; run `saebench assets verify {ASSET}`.")
    return frame
