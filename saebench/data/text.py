"""Texts to evaluate on. A reference names a text, which is loaded as a list of distinct, non-empty documents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from saebench.data.documents import Documents
from saebench.data.heldout import evaluation_documents
from saebench.data.hub import load_table
from saebench.data.plain_text import read_plain_text
from saebench.data.probes import read_dataset
from saebench.data.tables import read_rows
from saebench.data.text_ref import AssetText, FileText, HubText, PlainText, TextRef, parse_text_ref
from saebench.data.tokens import TokenBatch, tokenize
from saebench.errors import DataError, UsageError

__all__ = ["Documents", "TokenBatch", "load_documents", "parse_text_ref", "tokenize"]


def load_documents(ref: str, field: str | None = None, *, exclude_zoo_text: bool = True) -> Documents:
    """Load the documents of a text.

    Args:
        ref: The reference of the text; see `saebench.data.text_ref`.
        field: The field or column that holds the documents, instead of the reference's.
        exclude_zoo_text: Whether to leave out the documents that the zoo was trained on, which `zoo_documents` returns.

    Raises:
        UsageError: The reference is wrong.
        AssetError: The asset is missing.
        DataError: The text cannot be read, or has no usable document.
    """
    documents = _distinct(ref, _read(parse_text_ref(ref), field))
    if exclude_zoo_text:
        documents = evaluation_documents(documents)
    if not documents.texts:
        raise DataError(
            f"The text {ref!r} has no usable document ({documents.n_empty} empty, {documents.n_zoo} in the zoo's "
            "training share); use another text."
        )
    return documents


def _distinct(ref: str, texts: Iterable[str]) -> Documents:
    kept: dict[str, None] = {}  # a dict keeps the order
    n_empty = n_duplicates = 0
    for text in texts:
        if not text.strip():
            n_empty += 1
        elif text in kept:
            n_duplicates += 1
        else:
            kept[text] = None
    return Documents(ref, list(kept), n_duplicates=n_duplicates, n_empty=n_empty)


def _read(ref: TextRef, field: str | None) -> Iterable[str]:
    match ref:
        case AssetText(name):
            if field not in (None, "prompt"):
                raise UsageError(f"The texts of asset:sae-probes are in the field 'prompt', and there is no {field!r}.")
            texts: list[str] = read_dataset(name)["prompt"].tolist()
            return texts
        case FileText(path, default, format):
            name = field or default
            hint = f"Name another one as '{format}:PATH:FIELD'."
            return (row.text(name, hint) for row in read_rows(path, format, [name]))
        case PlainText(path):
            if field is not None:
                raise UsageError(f"Plain text has no fields, and so no {field!r}.")
            return read_plain_text(path)
        case HubText():
            return _read_hub(ref if field is None else replace(ref, field=field))


def _read_hub(ref: HubText) -> Iterable[str]:
    table = load_table("Texts", ref.dataset, ref.config, ref.split, ref.revision)
    if "." in ref.field:  # a field of a column of structs, such as prompt.text
        table = table.flatten()
    if ref.field not in table.column_names:
        known = ", ".join(table.column_names)
        raise DataError(f"The dataset {ref.dataset!r} has no column {ref.field!r}; its columns are {known}.")
    return (text for text in table[ref.field])
