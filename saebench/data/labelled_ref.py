"""References to labelled data, which are parsed and checked before anything is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from saebench.data import assets, probes
from saebench.data.text_ref import parse_text_ref
from saebench.errors import UsageError, did_you_mean

FORMS = "'asset:sae-probes/NAME', 'jsonl:PATH', 'csv:PATH' or 'words:TEXT[?words=A,B,...]'"


@dataclass(frozen=True)
class AssetLabels:
    """One dataset of the sae-probes asset."""

    name: str


@dataclass(frozen=True)
class FileLabels:
    """A file with a prompt and a target in every row."""

    path: Path
    format: str  # "jsonl" or "csv"


@dataclass(frozen=True)
class WordLabels:
    """Words of a text as classes."""

    text: str  # the reference of the text
    words: tuple[str, ...] = ()  # if there are none, frequent words are chosen


LabelledRef = AssetLabels | FileLabels | WordLabels


def parse_labelled_ref(ref: str) -> LabelledRef:
    """Parse a reference to labelled data without loading anything. Raises UsageError if it is wrong."""
    scheme, separator, rest = ref.partition(":")
    schemes = ("asset", "jsonl", "csv", "words")
    if not separator or scheme not in schemes:
        raise UsageError(f"Unknown reference to labelled data {ref!r}.{did_you_mean(scheme, schemes)} Give {FORMS}.")
    if not rest:
        raise UsageError(f"The reference {ref!r} names nothing. Give {FORMS}.")
    if scheme == "asset":
        return _asset(rest)
    if scheme == "words":
        return _words(rest)
    if not os.path.isfile(rest):  # unlike Path.is_file, also False for names that no file can have
        raise UsageError(f"The file {rest!r} with labelled data does not exist or is not a file.")
    return FileLabels(Path(rest), scheme)


def _asset(rest: str) -> AssetLabels:
    asset_name, _, dataset = rest.partition("/")
    assets.asset(asset_name)  # raises UsageError for an unknown asset
    if asset_name != probes.ASSET:
        raise UsageError(
            f"The asset {asset_name!r} holds no labels; give 'asset:{probes.ASSET}/97_news_class', for example."
        )
    probes.check_dataset_name(dataset)
    return AssetLabels(dataset)


def _words(rest: str) -> WordLabels:
    text, separator, listed = rest.rpartition("?words=")
    words: tuple[str, ...] = ()
    if not separator:
        text = rest
    else:
        words = tuple(listed.split(","))
        if len(words) < 2 or len(set(words)) < len(words) or not all(word.isalpha() for word in words):
            raise UsageError(f"'?words={listed}' must list two or more different words, such as '?words=time,money'.")
    parse_text_ref(text)
    return WordLabels(text, words)
