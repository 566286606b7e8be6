"""Where in the language model an SAE reads and writes. It is a module of its own so that parsing needs no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HookSite:
    """The hook points of an SAE, in TransformerLens names such as ``blocks.9.hook_resid_post``.

    ``site_out`` differs from ``site_in`` only for transcoders.
    """

    site_in: str
    site_out: str

    @classmethod
    def at(cls, site: str) -> HookSite:
        """The hook of an SAE that reads and writes at one hook point."""
        return cls(site, site)

    def __str__(self) -> str:
        return self.site_in if self.site_in == self.site_out else f"{self.site_in}->{self.site_out}"
