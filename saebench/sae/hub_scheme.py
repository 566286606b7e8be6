"""The scheme ``hf:``, for SAEs of any format in repositories of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from saebench.errors import SaebenchError, SAELoadError, UsageError, did_you_mean
from saebench.hub.client import HubError, Listing, cached_files, fetch, list_files
from saebench.hub.place import Place, parse_place
from saebench.sae.hook import HookSite
from saebench.sae.options import Option
from saebench.sae.scheme import Form, Scheme, Schemes

if TYPE_CHECKING:
    from saebench.sae.base import LoadContext
    from saebench.sae.protocol import SAE
    from saebench.sae.ref import Reference

_SETTINGS = (".json", ".yaml", ".yml")
_WEIGHTS = (".safetensors", ".npz", ".pt", ".pth", ".bin")
_NESTED = ("checkpoints",)  # a folder of weights that belongs to the folder above it
_MOST = 400  # files of one SAE; the largest sets of cross-layer transcoders have two for each layer
_SHOWN = 5


class HubScheme(Scheme):
    """``hf:ORG/REPO[@REVISION]/PATH``, a folder or a file in a repository."""

    name = "hf"
    forms = (
        Form(
            "ORG/REPO[@REVISION]/PATH",
            "a folder or file of any of these formats on the Hugging Face hub",
            {"format": Option("the name of a format, such as gemma_scope", str)},
        ),
    )

    def __init__(self, registry: Callable[[], Schemes]) -> None:
        """Make the scheme. ``registry`` returns the schemes, of which those that read files are the formats."""
        self._registry = registry

    def validate(self, ref: Reference) -> None:
        if parse_place(ref.body) is None:
            raise UsageError(f"{ref} names no place on the hub; write hf:ORG/REPO/PATH or hf:ORG/REPO@REVISION/PATH.")
        registry, format = self._registry(), dict(ref.options).get("format")
        if format is not None and not (format in registry.names() and registry.get(format).reads_files):
            raise UsageError(f"{ref}: there is no format {format!r}.{did_you_mean(format, registry.file_formats())}")

    def load(self, ref: Reference, context: LoadContext) -> SAE:
        from saebench.sae.base import BaseAdapter

        path, commit = _fetch(ref)
        inner = self._inner(ref, path)
        try:
            sae = inner.load(context)
        except SaebenchError as error:
            raise type(error)(str(error).replace(str(inner), str(ref))) from error
        assert isinstance(sae, BaseAdapter), "formats of saebench are read by its own adapters"
        sae.name = str(ref)
        sae.commit = commit
        return sae

    def site(self, ref: Reference, default: str | None) -> HookSite | None:
        """Return the hook if the files are in the cache already; nothing is fetched for it."""
        place = _place(ref)
        try:
            if (listing := cached_files(place)) is None:
                return None
            return self._inner(ref, fetch(place, _wanted(place, listing, ref), listing) / place.path).site(default)
        except SaebenchError:  # loading the SAE reports it
            return None

    def remote(self, ref: Reference) -> bool:
        return True

    def prefetch(self, ref: Reference) -> str:
        return f"commit {_fetch(ref)[1]}"

    def _inner(self, ref: Reference, path: Path) -> Reference:
        """Return the reference to the files in the cache. Raises SAELoadError where their format is not known."""
        options = dict(ref.options)
        format = options.pop("format", None)
        if format is None:
            from saebench.sae.recognise import recognise

            candidates = recognise(path)
            if len(candidates) != 1:
                known = ", ".join(candidates or self._registry().file_formats())
                why = "may be of several formats" if candidates else "is of no format that its files tell"
                raise SAELoadError(f"{ref} {why}; add ?format=NAME, where NAME is one of {known}.")
            format = candidates[0]
        inner = replace(ref, scheme=format, body=str(path), options=tuple(sorted(options.items())))
        self._registry().get(format).validate(inner)
        return inner


def _fetch(ref: Reference) -> tuple[Path, str]:
    """Return where the files of an SAE lie after they were fetched, and their commit. Raises SAELoadError."""
    place = _place(ref)
    try:
        listing = list_files(place)
        root = fetch(place, _wanted(place, listing, ref), listing)
    except HubError as error:
        raise SAELoadError(f"{ref}: {error}") from error
    return root / place.path, root.name


def _place(ref: Reference) -> Place:
    place = parse_place(ref.body)
    assert place is not None, "a validated reference names a place"
    return place


def _wanted(place: Place, listing: Listing, ref: Reference) -> list[str]:
    """Return the files of the repository that an SAE may need. Raises SAELoadError where there is none.

    These are a named file or all files of a folder, and the settings beside and above them.
    """
    files = [PurePosixPath(file) for file in listing.files]
    path = PurePosixPath(place.path)
    if path in files:
        chosen = [path, *(file for file in files if file.parent == path.parent and file.suffix in _SETTINGS)]
        folder = path.parent
    else:
        folder = path
        nested = {folder, *(folder / name for name in _NESTED)}
        chosen = [file for file in files if file.parent in nested and file.suffix in (*_SETTINGS, *_WEIGHTS)]
        if not any(file.suffix in _WEIGHTS for file in chosen):
            raise SAELoadError(f"{ref}: {_nothing(place, listing, folder)}")
    chosen += [file for file in files if file.suffix in _SETTINGS and file.parent in folder.parents]
    names = sorted({str(file) for file in chosen})
    if len(names) > _MOST:
        raise SAELoadError(f"{ref}: {place} holds {len(names)} files, which no SAE has; name one of them.")
    return names


def _nothing(place: Place, listing: Listing, folder: PurePosixPath) -> str:
    """Say that a folder of a repository holds no weights, and which folders below it do."""
    below = sorted(
        {
            str(file.parent if len(file.parent.parts) > len(folder.parts) else file)
            for file in map(PurePosixPath, listing.files)
            if file.suffix in _WEIGHTS and folder in file.parents
        }
    )
    where = f"{place.repository} has no weights in {place.path or 'its topmost folder'} at commit {listing.commit[:10]}"
    if listing.cached and not below:
        return f"{where} in the cache; run `saebench prefetch` while the network is allowed."
    if not below:
        return f"{where}; look at the files of the repository."
    shown = ", ".join(f"hf:{Place(place.repository, place.revision, name)}" for name in below[:_SHOWN])
    more = f" and {len(below) - _SHOWN} more" if len(below) > _SHOWN else ""
    return f"{where}; name one of the folders below it: {shown}{more}."
