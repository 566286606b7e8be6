"""Searching the SAEs that can be named: those of the zoo, and those of the directory inside the installed SAELens."""

from __future__ import annotations

from collections.abc import Iterator

from saebench.sae.directory import Published, published
from saebench.sae.zoo import zoo_index


def search(text: str) -> list[Published]:
    """Return the SAEs that fit every word of a text, which is looked for in any case and anywhere.

    A word fits where it is part of the reference, the language model, the hook point or the width. Those of the zoo
    come first.
    """
    words = text.lower().split()
    return [sae for sae in _all() if all(word in _looked_at(sae) for word in words)]


def _all() -> Iterator[Published]:
    for name, card in zoo_index().items():
        yield Published(
            reference=f"zoo:{name}",
            model=str(card.get("model") or ""),
            hook=card.get("hook"),
            d_sae=card.get("d_sae"),
            l0=card.get("l0"),
        )
    yield from published()


def _looked_at(sae: Published) -> str:
    width = "" if sae.d_sae is None else f"{sae.d_sae}"
    return f"{sae.reference} {sae.model} {sae.hook or ''} {width}".lower()
