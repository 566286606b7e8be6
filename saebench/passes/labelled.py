"""Labelled sets of texts: each is read once, for all SAEs and tasks that use it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from saebench.data.labelled import Labelled, load_labelled
from saebench.data.labelled_ref import short_name
from saebench.errors import UsageError
from saebench.passes.context import TaskContext


def labelled(context: TaskContext, ref: str) -> Labelled:
    """Return the labelled set that ``ref`` names.

    Raises:
        UsageError: The reference is wrong.
        AssetError: The asset that it names is missing or damaged.
        DataError: The set is unreadable or has fewer than two classes.
    """
    return context.shared(("labelled", ref), lambda: load_labelled(ref))


def labelled_sets(context: TaskContext, refs: Sequence[str]) -> list[tuple[str, Labelled]]:
    """Return labelled sets with the names that records give them, in the order of their content hashes.

    So the order in which the user lists them decides no number. Raises what `labelled` and `set_names` raise.
    """
    sets = [labelled(context, ref) for ref in refs]
    named = zip(set_names(refs, [data.content_hash for data in sets]), sets, strict=True)
    return sorted(named, key=lambda pair: pair[1].content_hash)


def set_names(refs: Sequence[str], hashes: Sequence[str]) -> list[str]:
    """Return how records name labelled sets: without folders, and with a part of the content hash if names are equal.

    Args:
        refs: The references of the sets.
        hashes: Their content hashes.

    Raises:
        UsageError: Two references name the same content, which can count only once.
    """
    first_of: dict[str, str] = {}
    for ref, content in zip(refs, hashes, strict=True):
        if (first := first_of.setdefault(content, ref)) is not ref:
            raise UsageError(
                f"The datasets {first!r} and {ref!r} hold the same examples, which can count only once; leave one out."
            )
    names = [short_name(ref) for ref in refs]
    shared = {name for name, count in Counter(names).items() if count > 1}
    return [f"{name}~{content[:8]}" if name in shared else name for name, content in zip(names, hashes, strict=True)]
