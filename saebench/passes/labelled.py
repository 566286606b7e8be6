"""Labelled sets of texts: each is read once, for all SAEs and tasks that use it."""

from __future__ import annotations

from saebench.data.labelled import Labelled, load_labelled
from saebench.data.probes import ASSET
from saebench.passes.context import TaskContext


def labelled(context: TaskContext, ref: str) -> Labelled:
    """Return the labelled set that ``ref`` names.

    Raises:
        UsageError: The reference is wrong.
        AssetError: The asset that it names is missing or damaged.
        DataError: The set is unreadable or has fewer than two classes.
    """
    return context.shared(("labelled", ref), lambda: load_labelled(ref))


def set_name(ref: str) -> str:
    """Return how records name a labelled set: by its reference, without ``asset:sae-probes/``."""
    return ref.replace(f"asset:{ASSET}/", "")
