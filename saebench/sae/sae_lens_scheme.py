"""The scheme ``sae_lens:``, whose SAEs SAELens loads from a folder or from the Hugging Face hub.

SAELens takes a second to import, so its directory of releases and the settings of folders are read without it.
"""

from __future__ import annotations

import difflib
import os
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from saebench.errors import SAELoadError, UsageError, did_you_mean
from saebench.files import existing_path
from saebench.hub.client import cached_files
from saebench.hub.place import parse_place
from saebench.sae.directory import releases
from saebench.sae.hook import HookSite
from saebench.sae.options import POSITIVE, SITE, named_hook, read_options
from saebench.sae.sae_lens_config import named_hooks, read_config
from saebench.sae.scheme import Form, Scheme

if TYPE_CHECKING:
    from saebench.sae.base import LoadContext
    from saebench.sae.protocol import SAE
    from saebench.sae.ref import Reference

_OPTIONS = {"hook": SITE, "hook_out": SITE, "norm_scaling_factor": POSITIVE}
# By the name of SAELens' loader: the scheme that reads the format as its authors do, what SAELens does otherwise, and
# whether the directory names the folder of each SAE.
_WRONGLY_LOADED = {
    "llama_scope": (
        "llama_scope",
        "SAELens applies the threshold of Llama Scope without the norms of the decoder rows, which gives other latents "
        "than the authors' code",
        True,
    ),
    "mntss_clt_layer_transcoder": (
        "circuit_tracer_clt",
        "SAELens adds up the decoders of all layers, which is not meant for reconstruction",
        False,
    ),
}
# Many ids of SAELens' directory begin with the hook point: blocks.8.hook_resid_pre_98304.
_ID_NAMES_HOOK = re.compile(
    r"blocks\.[0-9]+\.(?:hook_(?:resid_pre|resid_mid|resid_post|mlp_out|attn_out)|attn\.hook_z)"
)


class SAELensScheme(Scheme):
    """``sae_lens:FOLDER``, ``sae_lens:RELEASE/ID`` and ``sae_lens:ORG/REPO/FOLDER``."""

    name = "sae_lens"
    reads_files = True
    forms = (
        Form("DIR", "a folder written by SAELens (cfg.json and safetensors)", _OPTIONS),
        Form("RELEASE/ID", "an SAE on the Hugging Face hub; `saebench saes --sae-lens` lists the releases", _OPTIONS),
        Form("ORG/REPO/FOLDER", "a folder in SAELens' format in a repository of the hub", _OPTIONS),
    )

    def validate(self, ref: Reference) -> None:
        read_options(ref, _OPTIONS)
        if existing_path(ref.body) is not None:
            return
        if ref.body.startswith((".", "/", "~")):
            raise UsageError(f"{ref}: the folder {ref.body} does not exist.")
        releases = sae_lens_releases()
        release, _, sae_id = ref.body.partition("/")
        if release in releases:
            if sae_id not in releases[release]:
                examples = ", ".join(sorted(releases[release])[:3])
                raise UsageError(
                    f"The SAELens release {release!r} has no SAE {sae_id!r}.{did_you_mean(sae_id, releases[release])} "
                    f"It holds {len(releases[release])}, such as {examples}."
                )
            return
        if os.path.isdir(os.path.dirname(ref.body)):  # a path on this machine, and not ORG/REPO/FOLDER
            raise UsageError(f"{ref}: the folder {ref.body} does not exist.")
        misspelt = difflib.get_close_matches(release, releases, n=1, cutoff=0.9)
        if releases and (misspelt or ref.body.count("/") < 2):
            raise UsageError(
                f"{ref.body!r} is neither a folder nor RELEASE/ID of SAELens' directory."
                f"{did_you_mean(release, releases)}"
            )

    def load(self, ref: Reference, context: LoadContext) -> SAE:
        from saebench.sae.centred import centred_where_trained_so
        from saebench.sae.sae_lens_adapter import SAELensAdapter

        options = {"default_hook": context.named_hook, **read_options(ref, _OPTIONS)}
        if (folder := existing_path(ref.body)) is not None:
            return centred_where_trained_so(SAELensAdapter.from_disk(folder, name=str(ref), **options), context)
        release, _, sae_id = ref.body.partition("/")
        if release not in sae_lens_releases():
            organisation, repository, sae_id = ref.body.split("/", 2)
            release = f"{organisation}/{repository}"
        _refuse_wrongly_loaded(release, sae_id, str(ref))
        adapter = SAELensAdapter.from_release(release, sae_id, name=str(ref), **options)
        sae = centred_where_trained_so(adapter, context)
        sae.commit = _commit(release, sae_id)
        return sae

    def remote(self, ref: Reference) -> bool:
        return existing_path(ref.body) is None

    def prefetch(self, ref: Reference) -> str:
        from saebench.sae.base import LoadContext

        # Only SAELens knows which files its loaders read.
        commit = getattr(self.load(ref, LoadContext()), "commit", None) if self.remote(ref) else None
        return f"commit {commit}" if commit else ""

    def site(self, ref: Reference, default: str | None) -> HookSite | None:
        options = dict(ref.options)
        if (folder := existing_path(ref.body)) is not None:
            return _site_of_folder(folder, str(ref), options)
        return _site_of_release(ref.body, options)

    def width(self, ref: Reference) -> int | None:
        folder = existing_path(ref.body)
        return None if folder is None else width_of_folder(folder)


@cache
def sae_lens_releases() -> dict[str, frozenset[str]]:
    """The ids of SAEs by release, from the directory inside the installed SAELens, read without importing it."""
    return {release: frozenset(sae[0] for sae in entry["saes"]) for release, entry in releases().items()}


def _refuse_wrongly_loaded(release: str, sae_id: str, name: str) -> None:
    """Raise SAELoadError for formats that the installed SAELens reads otherwise than their authors do."""
    entry = releases().get(release, {})
    if (wrong := _WRONGLY_LOADED.get(str(entry.get("conversion_func")))) is None:
        return
    format, why, in_folders = wrong
    path = next((f"/{path}" for id, path, *_ in entry["saes"] if id == sae_id and in_folders), "")
    raise SAELoadError(f"{name}: {why}; use hf:{entry['repo_id']}{path}?format={format}.")


def _commit(release: str, sae_id: str) -> str | None:
    """Return the commit in the hub's cache from which SAELens has just loaded an SAE."""
    from sae_lens.loading.pretrained_saes_directory import get_repo_id_and_folder_name

    repository, _ = get_repo_id_and_folder_name(release, sae_id)
    place = parse_place(repository)
    listing = cached_files(place) if place is not None else None
    return listing.commit if listing is not None else None


def width_of_folder(folder: Path) -> int | None:
    """Return the width of what the SAE in a folder reads, as ``cfg.json`` names it; None if that cannot be read."""
    try:
        width = read_config(folder, str(folder)).get("d_in")
    except SAELoadError:  # loading the SAE reports it
        return None
    return width if type(width) is int else None


def _site_of_folder(folder: Path, name: str, options: dict[str, str]) -> HookSite | None:
    """The hook that a folder names; None if it names none, or cannot be read."""
    try:
        config = read_config(folder, name)
    except SAELoadError:  # loading the SAE reports it
        return None
    named, named_out = named_hooks(config)
    site = options.get("hook") or named
    if site is None:
        return None
    if not str(config.get("architecture")).endswith("transcoder"):
        return HookSite.at(site)
    site_out = options.get("hook_out") or named_out
    return None if site_out is None else HookSite(site, site_out)


def _site_of_release(body: str, options: dict[str, str]) -> HookSite | None:
    """The hook that an id names. SAELens' directory has no hooks, but many of its ids begin with one."""
    if (hook := named_hook(options)) is not None:
        return hook
    named = _ID_NAMES_HOOK.match(body.rpartition("/")[2])
    return HookSite.at(named[0]) if named else None
