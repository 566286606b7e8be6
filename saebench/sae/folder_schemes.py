"""The schemes ``itda:``, ``temporal:`` and ``polysae:``, for SAEs in folders that no map can describe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saebench.sae.hook import HookSite
from saebench.sae.map_scheme import existing
from saebench.sae.options import POSITIVE_INT, SITE, Option, named_hook, read_options
from saebench.sae.scheme import Form, Scheme

if TYPE_CHECKING:
    from saebench.sae.base import LoadContext
    from saebench.sae.protocol import SAE
    from saebench.sae.ref import Reference


class _FolderScheme(Scheme):
    """``NAME:PATH`` for a folder."""

    reads_files = True
    title: str
    options: dict[str, Option]

    def __init__(self) -> None:
        self.forms = (Form("PATH", self.title, self.options),)

    def validate(self, ref: Reference) -> None:
        read_options(ref, self.options)
        existing(ref)

    def site(self, ref: Reference, default: str | None) -> HookSite | None:
        return named_hook(dict(ref.options))


class ItdaScheme(_FolderScheme):
    """``itda:PATH`` for a dictionary of activations that matching pursuit reads."""

    name = "itda"
    title = "a folder of ITDA (atoms.pt and metadata.yaml), which is read by matching pursuit"
    options = {"hook": SITE, "k": POSITIVE_INT}  # noqa: RUF012 (never changed)

    def load(self, ref: Reference, context: LoadContext) -> SAE:
        from saebench.sae.itda import read_itda

        options = read_options(ref, self.options)
        return read_itda(existing(ref), str(ref), default_hook=context.named_hook, **options)


class TemporalScheme(_FolderScheme):
    """``temporal:PATH`` for a Temporal SAE as its authors saved it; SAELens' own folders are ``sae_lens:``."""

    name = "temporal"
    title = "a folder of a Temporal SAE (conf.yaml and latest_ckpt.safetensors), which reads whole sequences"
    options = {"hook": SITE}  # noqa: RUF012 (never changed)

    def load(self, ref: Reference, context: LoadContext) -> SAE:
        from saebench.sae.temporal import read_temporal

        options = read_options(ref, self.options)
        return read_temporal(existing(ref), str(ref), default_hook=context.named_hook, **options)


class PolySAEScheme(_FolderScheme):
    """``polysae:PATH`` for an SAE with a polynomial decoder."""

    name = "polysae"
    title = "a folder of a PolySAE (cfg.json and sae_weights.safetensors), whose decoder is a polynomial"
    options = {"hook": SITE}  # noqa: RUF012 (never changed)

    def load(self, ref: Reference, context: LoadContext) -> SAE:
        from saebench.sae.centred import centred_where_trained_so
        from saebench.sae.polysae import read_polysae

        options = read_options(ref, self.options)
        sae = read_polysae(existing(ref), str(ref), default_hook=context.named_hook, **options)
        return centred_where_trained_so(sae, context)


def folder_schemes() -> tuple[Scheme, ...]:
    """Return the schemes of this module."""
    return (ItdaScheme(), TemporalScheme(), PolySAEScheme())
