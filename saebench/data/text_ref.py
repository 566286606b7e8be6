"""References to texts: parsed and checked before anything is loaded."""

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
    """A field of every line of a JSON Lines file."""

    path: Path
    field: str = "text"


@dataclass(frozen=True)
class HubText:
    """A column of a dataset on the Hugging Face hub. ``split`` may be a slice such as ``train[:1000]``."""

    dataset: str
    revision: str | None = None
    config: str | None = None
    split: str = "train"
    field: str = "text"


TextRef = AssetText | JsonlText | HubText


def parse_text_ref(ref: str) -> TextRef:
    """Parse a text reference without loading anything. Raises UsageError."""
    scheme, separator, rest = ref.partition(":")
    parsers = {"asset": _asset, "jsonl": _jsonl, "hf": _hub}
    if not separator or scheme not in parsers:
        raise UsageError(f"Unknown text reference {ref!r}.{did_you_mean(scheme, parsers)} Give {FORMS}.")
    if not rest:
        raise UsageError(f"Text reference {ref!r} names nothing. Give {FORMS}.")
    return parsers[scheme](rest)


def _asset(rest: str) -> TextRef:
    asset_name, _, dataset = rest.partition("/")
    assets.asset(asset_name)  # "did you mean" for an unknown asset
    if asset_name != probes.ASSET:
        raise UsageError(f"Asset {asset_name!r} holds no text; give 'asset:{probes.ASSET}/97_news_class', for example.")
    probes.check_dataset_name(dataset)
    return AssetText(dataset)


def _jsonl(rest: str) -> TextRef:
    path, separator, field = rest.rpartition(":")
    parsed = JsonlText(Path(path), field) if separator and path and field.isidentifier() else JsonlText(Path(rest))
    if not os.path.isfile(parsed.path):  # unlike Path.is_file, False also for names that no file can have
        raise UsageError(f"Text file {str(parsed.path)!r} does not exist or is not a file.")
    return parsed


def _hub(rest: str) -> TextRef:
    # A colon inside brackets belongs to a split slice, train[:1000].
    dataset, *options = re.split(r":(?![^\[]*\])", rest)
    name, _, revision = dataset.partition("@")
    if len(options) > 3 or not name:
        raise UsageError(f"Cannot read text reference 'hf:{rest}'. Give {FORMS}.")
    config, split, field = [*options, "", "", ""][:3]
    return HubText(name, revision or None, config or None, split or "train", field or "text")
