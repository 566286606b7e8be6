"""Where an SAE reads and writes, told without loading its weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from saebench.sae import zoo
from saebench.sae.protocol import HookSite
from saebench.sae.reference import SAERef

# Many ids of SAELens' directory begin with the hook: blocks.8.hook_resid_pre_98304.
_ID_NAMES_HOOK = re.compile(
    r"blocks\.[0-9]+\.(?:hook_(?:resid_pre|resid_mid|resid_post|mlp_out|attn_out)|attn\.hook_z)"
)


def site_of(ref: SAERef, default: str | None) -> HookSite | None:
    """The site that ``load_sae`` would give, or None where only loading tells.

    ``default`` is the site of controls that name none. None also for what cannot be loaded (a broken folder): the
    load says why. The site need not exist in the language model.
    """
    if inner := ref.inner:
        return site_of(inner, default)
    options = dict(ref.options)
    match ref.scheme:
        case "zoo":
            return _both(zoo.zoo_card(ref.body).get("hook"))
        case "baseline":
            return _both(options.get("hook") or default)
        case "sae_lens":
            config = _config(Path(ref.body).expanduser())
            return _of_folder(config, options) if config is not None else _of_release(ref.body, options)
        case _:
            return None


def _both(site: str | None) -> HookSite | None:
    return HookSite.at(site) if site else None


def _config(folder: Path) -> dict[str, Any] | None:
    """``cfg.json`` as written; empty where it cannot be read, None where ``folder`` is no path at all."""
    try:
        if not folder.exists():
            return None
        config = json.loads((folder / "cfg.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _of_folder(config: dict[str, Any], options: dict[str, str]) -> HookSite | None:
    """SAELens 6 keeps the sites in ``metadata``, older versions beside the other settings."""
    if not config:
        return None
    metadata = config["metadata"] if isinstance(config.get("metadata"), dict) else {}
    named = (options.get("hook"), metadata.get("hook_name"), config.get("hook_name"), config.get("hook_point"))
    site = next((name for name in named if name), None)
    if not isinstance(site, str):
        return None
    if not str(config.get("architecture")).endswith("transcoder"):
        return HookSite.at(site)
    written = (options.get("hook_out"), metadata.get("hook_name_out"), config.get("hook_name_out"))
    site_out = next((name for name in written if name), None)
    return HookSite(site, site_out) if isinstance(site_out, str) else None


def _of_release(body: str, options: dict[str, str]) -> HookSite | None:
    """SAELens' directory holds no sites, but many of its ids do."""
    if site := options.get("hook"):
        return HookSite(site, options.get("hook_out", site))
    found = _ID_NAMES_HOOK.match(body.rpartition("/")[2])
    return _both(found[0]) if found else None
