"""How messages speak of what other people wrote: the errors of their code, names in their files, their pickles."""

from __future__ import annotations

from saebench.errors import shown
from saebench.safe_text import short

_LONGEST = 300  # characters of an error's text
CONVERT = (
    "load it yourself where you trust it, with torch.load(FILE, weights_only=True), and save the tensors with "
    "safetensors.torch.save_file"
)


def one_line(error: BaseException) -> str:
    """Return the kind and the text of an error of other code, on one line, shortened."""
    try:
        return f"{type(error).__name__}: {short(error, _LONGEST)}"
    except Exception:  # its text cannot be made
        return f"{type(error).__name__}: (its text cannot be shown)"


def shown_name(key: str) -> str:
    """Return the name of a tensor or of a setting for messages: plain names as they are, others in quotes, short."""
    return key if key.isascii() and key.replace(".", "_").isidentifier() and len(key) <= 80 else shown(key)
