"""The schemes of formats that maps describe: ``file:`` with a map of the user's, and one for each built-in map.

Reading the maps takes milliseconds; torch is imported when an SAE is loaded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from saebench.errors import UsageError, did_you_mean
from saebench.files import existing_path
from saebench.sae.hook import HookSite
from saebench.sae.options import LAYER, MAP, POSITIVE, POSITIVE_INT, SITE, Option, named_hook, read_options
from saebench.sae.scheme import Form, Scheme

if TYPE_CHECKING:
    from saebench.sae.affine.map import Format
    from saebench.sae.base import LoadContext
    from saebench.sae.protocol import SAE
    from saebench.sae.ref import Reference


def _activation(text: str) -> str:
    from saebench.sae.affine.map import ActivationKind

    if text not in get_args(ActivationKind):
        raise ValueError
    return text


_OPTIONS = {
    "hook": SITE,
    "hook_out": SITE,
    "layer": LAYER,
    "k": POSITIVE_INT,
    "activation": Option("an activation function such as relu, topk or batchtopk", _activation),
    "threshold": POSITIVE,
    "norm_scaling_factor": POSITIVE,
}


class MapScheme(Scheme):
    """``NAME:PATH`` for the format that the map NAME describes."""

    reads_files = True

    def __init__(self, variants: Format) -> None:
        self.map = variants
        self.name = variants[0].name
        self.forms = (Form("PATH", variants[0].title, _OPTIONS),)

    def validate(self, ref: Reference) -> None:
        read_options(ref, _OPTIONS)
        existing(ref)

    def load(self, ref: Reference, context: LoadContext) -> SAE:
        return _load(ref, self.map, read_options(ref, _OPTIONS), context)

    def site(self, ref: Reference, default: str | None) -> HookSite | None:
        return named_hook(dict(ref.options))


class FileScheme(Scheme):
    """``file:PATH?map=MAP``, where MAP is a YAML file or the name of a built-in map."""

    name = "file"
    reads_files = True
    _options: dict[str, Option] = {"map": MAP, **_OPTIONS}  # noqa: RUF012 (never changed)
    forms = (Form("PATH", "weights in a format that a map describes (?map=FILE.yaml)", _options),)

    def validate(self, ref: Reference) -> None:
        existing(ref)
        self._map(ref)

    def load(self, ref: Reference, context: LoadContext) -> SAE:
        options = read_options(ref, self._options)
        return _load(ref, self._map(ref), options, context)

    def site(self, ref: Reference, default: str | None) -> HookSite | None:
        return named_hook(dict(ref.options))

    def _map(self, ref: Reference) -> Format:
        from saebench.sae.affine.map import built_in_maps, read_map

        named = read_options(ref, self._options).get("map")
        known = built_in_maps()
        if named is None:
            raise UsageError(
                f"{ref} does not say which format it has; add ?map=FILE.yaml, or use one of the formats "
                f"{', '.join(known)} in place of `file`."
            )
        if named in known:
            return known[named]
        if not os.path.isfile(named):  # unlike Path.is_file, also False for names that no file can have
            raise UsageError(f"{ref}: there is no map {named}.{did_you_mean(named, known)}")
        return read_map(Path(named))


def map_schemes() -> tuple[Scheme, ...]:
    """Return ``file:`` and the schemes of all built-in maps."""
    from saebench.sae.affine.map import built_in_maps

    return (FileScheme(), *(MapScheme(variants) for variants in built_in_maps().values()))


def existing(ref: Reference) -> Path:
    """Return the path that a reference names. Raises UsageError where nothing lies there."""
    if (path := existing_path(ref.body)) is None:
        raise UsageError(f"{ref}: there is no file or folder {ref.body}.")
    return path


def _load(ref: Reference, variants: Format, options: dict[str, Any], context: LoadContext) -> SAE:
    from saebench.sae.affine.read import read_affine

    return read_affine(existing(ref), variants, str(ref), {"default_hook": context.named_hook, **options})
