"""References to labelled data, which are parsed and checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saebench.data import assets, probes
from saebench.data.tables import FORMATS, existing_file, stem, suggestion
from saebench.data.text_ref import parse_text_ref, short_text_name
from saebench.errors import UsageError, did_you_mean
from saebench.files import text_or_raise

FORMS = "'asset:sae-probes/NAME', 'jsonl:PATH', 'csv:PATH', 'parquet:PATH' or 'words:TEXT[?words=A,B,...]'"


@dataclass(frozen=True)
class AssetLabels:
    """One dataset of the sae-probes asset."""

    name: str


@dataclass(frozen=True)
class FileLabels:
    """A file with a prompt and a target in every row."""

    path: Path
    format: str  # one of `saebench.data.tables.FORMATS`


@dataclass(frozen=True)
class WordLabels:
    """Words of a text as classes."""

    text: str  # the reference of the text
    words: tuple[str, ...] = ()  # if there are none, frequent words are chosen


LabelledRef = AssetLabels | FileLabels | WordLabels


def parse_labelled_ref(ref: str) -> LabelledRef:
    """Parse a reference to labelled data without loading anything. Raises UsageError if it is wrong."""
    text_or_raise(ref, "reference to labelled data")
    scheme, separator, rest = ref.partition(":")
    schemes = ("asset", *FORMATS, "words")
    if not separator or scheme not in schemes:
        hint = suggestion(ref, schemes) or did_you_mean(scheme, schemes)
        raise UsageError(f"Unknown reference to labelled data {ref!r}.{hint} Give {FORMS}.")
    if not rest:
        raise UsageError(f"The reference {ref!r} names nothing. Give {FORMS}.")
    if scheme == "asset":
        return _asset(rest)
    if scheme == "words":
        return _words(rest)
    return FileLabels(existing_file(rest, "file with labelled data"), scheme)


def short_name(ref: str) -> str:
    """Return how records name labelled data: a dataset of the asset, or the name of a file without folder and ending.

    Raises UsageError for a reference that is wrong.
    """
    if ref.startswith(prefix := f"asset:{probes.ASSET}/"):
        return ref.removeprefix(prefix)
    match parse_labelled_ref(ref):
        case AssetLabels(name):
            return name
        case FileLabels(path, _):
            return stem(path)
        case WordLabels(text, words):
            return f"words:{short_text_name(text)}" + (f"?words={','.join(words)}" if words else "")


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
