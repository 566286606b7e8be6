"""The scheme ``zoo:``, whose SAEs ship with saebench as folders of ``zoo_data/``, listed by ``zoo.json``.

``zoo.json`` maps each name to its card: ``{"topk-k32-s0": {"group": ..., "fvu": ..., "l0": ..., ...}, ...}``.
The folder of that name holds the SAE in SAELens' format.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saebench.errors import SAELoadError, UsageError, did_you_mean
from saebench.sae.hook import HookSite
from saebench.sae.options import read_options
from saebench.sae.sae_lens_scheme import width_of_folder
from saebench.sae.scheme import Form, Scheme

if TYPE_CHECKING:
    from saebench.sae.base import LoadContext
    from saebench.sae.protocol import SAE
    from saebench.sae.ref import Reference

ZOO_DIR = Path(__file__).resolve().parent.parent / "zoo_data"


class ZooScheme(Scheme):
    """``zoo:NAME``. A card with ``"control": true`` is that of a baseline: its decoder was never trained."""

    name = "zoo"
    forms = (Form("NAME", "an SAE that ships with saebench"),)

    def validate(self, ref: Reference) -> None:
        zoo_card(ref.body)
        read_options(ref, {})

    def load(self, ref: Reference, context: LoadContext) -> SAE:
        from saebench.sae.sae_lens_adapter import SAELensAdapter

        adapter = SAELensAdapter.from_disk(zoo_folder(ref.body), name=str(ref))
        adapter.control = self.control(ref) is not None
        return adapter

    def site(self, ref: Reference, default: str | None) -> HookSite | None:
        hook = self.hook_for_controls(ref)
        return HookSite.at(hook) if hook else None

    def width(self, ref: Reference) -> int | None:
        return width_of_folder(zoo_folder(ref.body))

    def control(self, ref: Reference) -> str | None:
        return "frozen-decoder" if zoo_card(ref.body).get("control") else None

    def hook_for_controls(self, ref: Reference) -> str | None:
        hook = zoo_card(ref.body).get("hook")
        return str(hook) if hook else None


def zoo_index() -> dict[str, dict[str, Any]]:
    """The cards of all SAEs of the zoo by name, in the order of ``zoo.json``; empty if none ship."""
    file = ZOO_DIR / "zoo.json"
    if not file.is_file():
        return {}
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SAELoadError(f"{file} is damaged ({error}); reinstall saebench.") from error
    return dict(index)


def zoo_names() -> list[str]:
    """The names of all SAEs of the zoo."""
    return list(zoo_index())


def zoo_groups() -> dict[str, tuple[str, ...]]:
    """The SAEs that differ only in their seed, by the name of their group: the ``group`` of two cards or more."""
    groups: dict[str, tuple[str, ...]] = {}
    for name, card in zoo_index().items():
        if group := card.get("group"):
            groups[group] = (*groups.get(group, ()), name)
    return {group: names for group, names in groups.items() if len(names) > 1}


def zoo_card(name: str) -> dict[str, Any]:
    """The card of one SAE. Raises UsageError, naming the closest name, for an unknown one."""
    index = zoo_index()
    if name not in index:
        known = f"It holds {', '.join(index)}." if index else "It is empty in this installation."
        raise UsageError(f"The zoo has no SAE {name!r}.{did_you_mean(name, index)} {known}")
    return index[name]


def zoo_folder(name: str) -> Path:
    """The folder that holds the weights of ``name``. Raises UsageError for an unknown name."""
    zoo_card(name)
    return ZOO_DIR / name
