"""References to texts, which are parsed and checked before anything is loaded."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from saebench.data import assets, probes
from saebench.data.tables import FORMATS, existing_file, stem, suggestion
from saebench.errors import UsageError, did_you_mean
from saebench.files import text_or_raise

FORMS = (
    "'asset:sae-probes/NAME', 'jsonl:PATH[:FIELD]', 'csv:PATH[:FIELD]', 'parquet:PATH[:FIELD]', 'txt:PATH' or "
    "'hf:DATASET[@REVISION][:CONFIG][:SPLIT][:FIELD]'"
)


@dataclass(frozen=True)
class AssetText:
    """The prompts of one dataset of the sae-probes asset."""

    name: str


@dataclass(frozen=True)
class FileText:
    """One field of every row of a file."""

    path: Path
    field: str = "text"
    format: str = "jsonl"  # one of `saebench.data.tables.FORMATS`


@dataclass(frozen=True)
class PlainText:
    """A file of plain text, whose documents are separated by empty lines."""

    path: Path


@dataclass(frozen=True)
class HubText:
    """A column of a dataset on the Hugging Face hub."""

    dataset: str
    revision: str | None = None
    config: str | None = None
    split: str = "train"  # may be a slice such as train[:1000]
    field: str = "text"  # the name of the column


TextRef = AssetText | FileText | PlainText | HubText


def parse_text_ref(ref: str) -> TextRef:
    """Parse a reference to a text without loading anything. Raises UsageError if it is wrong."""
    text_or_raise(ref, "text reference")
    scheme, separator, rest = ref.partition(":")
    schemes = ("asset", *FORMATS, "txt", "hf")
    if not separator or scheme not in schemes:
        hint = suggestion(ref, schemes) or did_you_mean(scheme, schemes)
        raise UsageError(f"Unknown text reference {ref!r}.{hint} Give {FORMS}.")
    if not rest:
        raise UsageError(f"The text reference {ref!r} names nothing. Give {FORMS}.")
    match scheme:
        case "asset":
            return _asset(rest)
        case "txt":
            return PlainText(existing_file(rest, "text file"))
        case "hf":
            return _hub(rest)
        case _:
            return _file(rest, scheme)


def short_text_name(ref: str) -> str:
    """Return how records name a text: a dataset of the asset, or the name of a file without folder and ending.

    Raises UsageError for a reference that is wrong.
    """
    match parse_text_ref(ref):
        case AssetText(name):
            return name
        case FileText(path, field):
            return stem(path) if field == "text" else f"{stem(path)}:{field}"
        case PlainText(path):
            return stem(path)
        case HubText():
            return ref


def _asset(rest: str) -> TextRef:
    asset_name, _, dataset = rest.partition("/")
    assets.asset(asset_name)  # raises UsageError for an unknown asset
    if asset_name != probes.ASSET:
        raise UsageError(
            f"The asset {asset_name!r} holds no text; give 'asset:{probes.ASSET}/97_news_class', for example."
        )
    probes.check_dataset_name(dataset)
    return AssetText(dataset)


def _file(rest: str, format: str) -> TextRef:
    path, separator, field = rest.rpartition(":")
    whole = os.path.isfile(os.path.expanduser(rest)) and not os.path.isfile(os.path.expanduser(path))
    if separator and path and not whole and all(part.isidentifier() for part in field.split(".")):
        return FileText(existing_file(path, "text file"), field, format)
    return FileText(existing_file(rest, "text file"), format=format)


def _hub(rest: str) -> TextRef:
    # A colon inside brackets belongs to a slice of a split, such as train[:1000].
    dataset, *options = re.split(r":(?![^\[]*\])", rest)
    name, _, revision = dataset.partition("@")
    if len(options) > 3 or not name:
        raise UsageError(f"Cannot read the text reference 'hf:{rest}'. Give {FORMS}.")
    config, split, field = [*options, "", "", ""][:3]
    return HubText(name, revision or None, config or None, split or "train", field or "text")
