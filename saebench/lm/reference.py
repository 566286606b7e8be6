"""References to language models: ``asset:NAME``, ``hf:ORG/NAME[@revision]``, or a local folder.

A run may also take a synthetic model (`saebench.synthetic.reference`) in the place of a language model.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from saebench.errors import UsageError
from saebench.files import text_or_raise
from saebench.synthetic.reference import SCHEME, is_synthetic, parse_synthetic_ref


@dataclass(frozen=True)
class LMRef:
    """A reference to a language model."""

    text: str  # as the user wrote it
    scheme: str  # "asset" | "hf" | "path"; "synthetic" for a synthetic model
    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def synthetic(self) -> bool:
        """Whether it names a synthetic model, which has no tokens."""
        return self.scheme == SCHEME


def parse_model_ref(text: str) -> LMRef:
    """Parse a reference to the model of a run, a language model or a synthetic one, without loading anything.

    Raises:
        UsageError: The reference names no model; the message says what to write.
    """
    if is_synthetic(text):
        ref = parse_synthetic_ref(text)
        return LMRef(str(ref), SCHEME, ref.name)
    return parse_lm_ref(text)


def parse_lm_ref(text: str) -> LMRef:
    """Parse a reference to a language model without loading anything.

    Raises:
        UsageError: The reference names no model; the message says what to write.
    """
    text_or_raise(text, "model reference")
    if is_synthetic(text):
        raise UsageError(f"{text!r} is a synthetic model without tokens, and a language model is needed here.")
    scheme, colon, body = text.partition(":")
    if colon and scheme == "asset":
        from saebench.data import assets

        if body not in assets.manifest():
            assets.path(body)  # raises UsageError with a suggestion
        return LMRef(text, "asset", body)
    if colon and scheme == "hf":
        name, _, revision = body.partition("@")
        if name.count("/") != 1 or not all(name.split("/")):
            raise UsageError(f"{text!r} is not a Hugging Face model; write hf:ORG/NAME or hf:ORG/NAME@REVISION.")
        return LMRef(text, "hf", name, revision or None)
    # The functions of os.path, unlike the methods of Path, take any text, such as a name that no file can have.
    folder = os.path.expanduser(text)
    if os.path.isfile(os.path.join(folder, "config.json")):
        return LMRef(text, "path", str(Path(folder)))
    if os.path.isdir(folder):
        raise UsageError(
            f"{text!r} is a folder without config.json; a local model must be a folder that transformers can load."
        )
    if os.sep in text or text.startswith((".", "~")):
        raise UsageError(
            f"The model folder {text!r} does not exist; a model is asset:NAME, hf:ORG/NAME[@REVISION] or a folder."
        )
    raise UsageError(f"{text!r} is neither asset:NAME, hf:ORG/NAME[@revision] nor an existing folder with a model.")
