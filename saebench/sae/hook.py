"""Where in the language model an SAE reads and writes. It is a module of its own so that parsing needs no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from saebench.errors import NotApplicableError

_BETWEEN = "+"  # between hook points of different kinds
_LAYER = re.compile(r"(blocks)\.([0-9]{1,9})\.(.+)")
_LAYERS = re.compile(r"(blocks)\.([0-9]{1,9}(?:-[0-9]{1,9})?(?:,[0-9]{1,9}(?:-[0-9]{1,9})?)*)\.(.+)")
_MOST = 1000  # hook points of one SAE; a larger number is a mistake in a reference or a file


@dataclass(frozen=True, init=False)
class HookSite:
    """The hook points of an SAE, in TransformerLens names such as ``blocks.9.hook_resid_post``.

    Most SAEs read and write at one hook point, a transcoder reads at one and writes at another. Crosscoders and
    cross-layer transcoders have several, in a fixed order: their input ``x[..., d_in]`` is the concatenation of the
    activations at ``sites_in`` along the last dimension, and their reconstruction is that of ``sites_out``. Each hook
    point of a side takes an equal share of its width.

    Attributes:
        sites_in: Where it reads.
        sites_out: Where it writes; they differ from ``sites_in`` only for transcoders.
    """

    sites_in: tuple[str, ...]
    sites_out: tuple[str, ...]

    def __init__(self, site_in: str | Sequence[str], site_out: str | Sequence[str]) -> None:
        """Make a hook. A text is one hook point. Raises ValueError for a side without any, or with one twice."""
        for name, side in (("sites_in", site_in), ("sites_out", site_out)):
            sites = (side,) if isinstance(side, str) else tuple(side)
            if not sites:
                raise ValueError(f"{name} must name a hook point.")
            if len(set(sites)) < len(sites):
                raise ValueError(f"{name} names a hook point twice: {format_sites(sites)}.")
            object.__setattr__(self, name, sites)

    @classmethod
    def at(cls, site: str | Sequence[str]) -> HookSite:
        """The hook of an SAE that reads where it writes, at one hook point or several."""
        return cls(site, site)

    @property
    def several(self) -> bool:
        """Whether a side has more than one hook point."""
        return len(self.sites_in) > 1 or len(self.sites_out) > 1

    @property
    def crosses(self) -> bool:
        """Whether it writes elsewhere than it reads, as transcoders do."""
        return self.sites_in != self.sites_out

    @property
    def sites(self) -> tuple[str, ...]:
        """All hook points, each of them once."""
        return tuple(dict.fromkeys(self.sites_in + self.sites_out))

    @property
    def site_in(self) -> str:
        """The one hook point that is read. Raises NotApplicableError where there are several."""
        return self._only(self.sites_in, "reads")

    @property
    def site_out(self) -> str:
        """The one hook point that is written. Raises NotApplicableError where there are several."""
        return self._only(self.sites_out, "writes")

    def __str__(self) -> str:
        """The hook points as `format_sites` writes them; ``a->b`` for a transcoder."""
        sites_in = format_sites(self.sites_in)
        return f"{sites_in}->{format_sites(self.sites_out)}" if self.crosses else sites_in

    def _only(self, sites: tuple[str, ...], does: str) -> str:
        if len(sites) == 1:
            return sites[0]
        raise NotApplicableError(
            f"The SAE {does} at {len(sites)} hook points ({format_sites(sites)}), and this is defined for one only."
        )


def of_model(site: str, model: str) -> str:
    """Return the name of a hook point in one of several language models. No run can use it: a run has one model."""
    return f"{site}@{model}"


def format_sites(sites: Sequence[str]) -> str:
    """Return hook points as one text: layers in a row as a range, and the rest listed.

    >>> format_sites(["blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out", "blocks.4.hook_mlp_out"])
    'blocks.0-1,4.hook_mlp_out'
    >>> format_sites(["blocks.3.hook_mlp_out", "blocks.3.hook_attn_out"])
    'blocks.3.hook_mlp_out+blocks.3.hook_attn_out'
    """
    parts = []
    for kind, group in groupby(sites, key=_kind):
        names = list(group)
        parts += names if kind is None else [f"blocks.{_ranges(map(_layer, names))}.{kind}"]
    return _BETWEEN.join(parts)


def parse_sites(text: str) -> tuple[str, ...]:
    """Return the hook points that a text of `format_sites` names. Raises ValueError for none, or for too many.

    >>> parse_sites("blocks.0-1,4.hook_mlp_out")
    ('blocks.0.hook_mlp_out', 'blocks.1.hook_mlp_out', 'blocks.4.hook_mlp_out')
    """
    sites: list[str] = []
    for part in text.split(_BETWEEN):
        if not part.strip():
            raise ValueError("a hook point is missing")
        match = _LAYERS.fullmatch(part)
        if match is None:
            sites.append(part)
            continue
        for piece in match[2].split(","):
            first, _, last = piece.partition("-")
            # A layer that stands alone keeps its spelling, so that one hook point stays as it is written.
            layers = range(int(first), int(last) + 1) if last else [first]
            if len(sites) + len(layers) > _MOST or not layers:
                raise ValueError(f"{piece} are no layers from the first to the last, or more than {_MOST}")
            sites += [f"{match[1]}.{layer}.{match[3]}" for layer in layers]
    return tuple(sites)


def _kind(site: str) -> str | None:
    match = _LAYER.fullmatch(site)
    return match[3] if match and str(int(match[2])) == match[2] else None


def _layer(site: str) -> int:
    return int(site.split(".")[1])


def _ranges(layers: Sequence[int] | map[int]) -> str:
    """Return ``0-3,6`` for the layers 0, 1, 2, 3 and 6; they keep their order."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
