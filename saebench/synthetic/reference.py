"""References to synthetic models: ``synthetic:NAME``, ``synthetic:NAME?seed=N``, or ``synthetic:FOLDER``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from saebench.errors import UsageError, did_you_mean
from saebench.files import text_or_raise
from saebench.synthetic.recipes import RECIPES

SCHEME = "synthetic"
HOOK = "synthetic"  # the only hook point of a synthetic model
CONFIG = "synthetic_model_config.json"  # what SAELens calls the config in the folder of a synthetic model
_SEED = re.compile(r"seed=([0-9]{1,9})")


@dataclass(frozen=True)
class SyntheticRef:
    """A parsed reference. ``str()`` gives its canonical form.

    Attributes:
        name: The name of a recipe, or a folder that SAELens wrote.
        seed: The seed that a recipe is made with; 0 for a folder.
        folder: Whether ``name`` is a folder.
    """

    name: str
    seed: int = 0
    folder: bool = False

    def __str__(self) -> str:
        return f"{SCHEME}:{self.name}" + (f"?seed={self.seed}" if self.seed else "")


def is_synthetic(text: str) -> bool:
    """Whether a reference to a model names a synthetic one."""
    return text.partition(":")[0] == SCHEME and ":" in text


def parse_synthetic_ref(text: str) -> SyntheticRef:
    """Parse a reference to a synthetic model without making or loading it.

    Raises:
        UsageError: The reference names no synthetic model; the message says what to write.
    """
    text_or_raise(text, "model reference")
    body = text.partition(":")[2]
    if os.path.isfile(os.path.join(folder := os.path.expanduser(body), CONFIG)):
        return SyntheticRef(folder, folder=True)
    name, mark, query = body.partition("?")
    if name in RECIPES:
        if not mark:
            return SyntheticRef(name)
        if match := _SEED.fullmatch(query):
            return SyntheticRef(name, int(match[1]))
        raise UsageError(f"{text!r}: the only option of a synthetic model is seed=N, a whole number of up to 9 digits.")
    if os.sep in name or name.startswith((".", "~")):
        raise UsageError(f"{text!r}: there is no folder {name!r} with the file {CONFIG}, as SAELens writes it.")
    raise UsageError(
        f"There is no synthetic model {name!r}.{did_you_mean(name, RECIPES)} Known are {', '.join(RECIPES)}, and "
        "folders that SAELens wrote."
    )
