"""References to texts, which are parsed and checked before anything is loaded."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from saebench.data import assets, probes
from saebench.errors import UsageError, did_you_mean

FORMS = "'asset:sae-probes/NAME', 'jsonl:PATH[:FIELD]' or 'hf:DATASET[@REVISION][:CONFIG][:SPLIT][:FIELD]'"


@dataclass(frozen=True)
class AssetText:
    """The prompts of one dataset of the sae-probes asset."""

    name: str


@dataclass(frozen=True)
class JsonlText:
    """One field of every line of a JSON Lines file."""

    path: Path
    field: str = "text"


@dataclass(frozen=True)
class HubText:
    """A column of a dataset on the Hugging Face hub."""

    dataset: str
    revision: str | None = None
    config: str | None = None
    split: str = "train"  # may be a slice such as train[:1000]
    field: str = "text"  # the name of the column


TextRef = AssetText | JsonlText | HubText


def parse_text_ref(ref: str) -> TextRef:
    """Parse a reference to a text without loading anything. Raises UsageError if it is wrong."""
    scheme, separator, rest = ref.partition(":")
    parsers = {"asset": _asset, "jsonl": _jsonl, "hf": _hub}
    if not separator or scheme not in parsers:
        raise UsageError(f"Unknown text reference {ref!r}.{did_you_mean(scheme, parsers)} Give {FORMS}.")
    if not rest:
        raise UsageError(f"The text reference {ref!r} names nothing. Give {FORMS}.")
    return parsers[scheme](rest)


def _asset(rest: str) -> TextRef:
    asset_name, _, dataset = rest.partition("/")
    assets.asset(asset_name)  # raises UsageError for an unknown asset
    if asset_name != probes.ASSET:
        raise UsageError(
            f"The asset {asset_name!r} holds no text; give 'asset:{probes.ASSET}/97_news_class', for example."
        )
    probes.check_dataset_name(dataset)
    return AssetText(dataset)


def _jsonl(rest: str) -> TextRef:
    path, separator, field = rest.rpartition(":")
    parsed = JsonlText(Path(path), field) if separator and path and field.isidentifier() else JsonlText(Path(rest))
    if not os.path.isfile(parsed.path):  # unlike Path.is_file, also False for names that no file can have
        raise UsageError(f"The text file {str(parsed.path)!r} does not exist or is not a file.")
    return parsed


def _hub(rest: str) -> TextRef:
    # A colon inside brackets belongs to a slice of a split, such as train[:1000].
    dataset, *options = re.split(r":(?![^\[]*\])", rest)
    name, _, revision = dataset.partition("@")
    if len(options) > 3 or not name:
        raise UsageError(f"Cannot read the text reference 'hf:{rest}'. Give {FORMS}.")
    config, split, field = [*options, "", "", ""][:3]
    return HubText(name, revision or None, config or None, split or "train", field or "text")
