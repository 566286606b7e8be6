"""References to language models: ``asset:NAME``, ``hf:ORG/NAME[@revision]``, or a local folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saebench.errors import UsageError


@dataclass(frozen=True)
class LMRef:
    """A reference to a language model."""

    text: str  # as the user wrote it
    scheme: str  # "asset" | "hf" | "path"
    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.text


def parse_lm_ref(text: str) -> LMRef:
    """Parse a reference to a language model without loading anything.

    Raises:
        UsageError: The reference names no model; the message says what to write.
    """
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
    folder = Path(text).expanduser()
    if (folder / "config.json").is_file():
        return LMRef(text, "path", str(folder))
    if folder.is_dir():
        raise UsageError(
            f"{text!r} is a folder without config.json; a local model must be a folder that transformers can load."
        )
    raise UsageError(f"{text!r} is neither asset:NAME, hf:ORG/NAME[@revision] nor an existing folder with a model.")
