"""Temporal SAEs as their authors save them (arXiv 2511.01836; huggingface canrager/temporalSAEs).

SAELens has their forward, and its adapter here the reconstruction: the code that attention predicts from earlier
positions is computed anew from ``x``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saebench.errors import SAELoadError, shown
from saebench.sae import sae_lens_fields as fields
from saebench.sae.sae_lens_adapter import SAELensAdapter
from saebench.sae.sae_lens_load import build
from saebench.yaml_file import read_yaml

_CONFIG, _WEIGHTS = "conf.yaml", "latest_ckpt.safetensors"
_NAMES = {"W_dec": "D", "b_dec": "b", "W_enc": "E"}
_SETTINGS = ("n_heads", "n_attn_layers", "bottleneck_factor", "sae_diff_type", "kval_topk", "tied_weights")


def read_temporal(
    folder: Path, name: str, *, hook: str | None = None, default_hook: str | None = None
) -> SAELensAdapter:
    """Return the Temporal SAE in a folder with ``conf.yaml`` and ``latest_ckpt.safetensors``.

    Args:
        folder: The folder. A part of its path such as ``layer_12`` tells the layer whose output it reads.
        name: The reference.
        hook: Where it reads, in place of what the path says.
        default_hook: Where it reads if the path does not say so.

    Raises:
        SAELoadError: A file is missing or damaged, or the SAE cannot be run.
    """
    if not folder.is_dir():
        raise SAELoadError(f"{name}: name the folder that holds {_CONFIG} and {_WEIGHTS}.")
    content = read_yaml(folder / _CONFIG, "config file", SAELoadError)
    raw = _as_sae_lens(content, f"{name}: {_CONFIG}")
    layer = re.search(r"layer_([0-9]+)", folder.absolute().as_posix())
    site = hook or (f"blocks.{int(layer[1])}.hook_resid_post" if layer else default_hook)
    sae, trained, dtype = build(raw, folder / _WEIGHTS, name, file=_CONFIG, names=_NAMES)
    return SAELensAdapter(sae, name, hook=site, weights_dtype=dtype, trained_on=trained)


def _as_sae_lens(content: Any, where: str) -> dict[str, Any]:
    """Return the settings in the form of SAELens."""
    parts = content if isinstance(content, dict) else {}
    llm, sae = _section(parts, "llm", where), _section(parts, "sae", where)
    fields.count(where, "llm.dimin", llm.get("dimin"))
    for key in ("exp_factor", "scaling_factor"):
        fields.positive(where, f"sae.{key}", sae.get(key))
    for key in _SETTINGS:
        if key not in sae:
            raise SAELoadError(f"{where} has no sae.{key}; fetch it again.")
    if sae["sae_diff_type"] == "topk":
        fields.count(where, "sae.kval_topk", sae["kval_topk"])
    model = llm.get("name") or llm.get("model_name")
    return {
        "architecture": "temporal",
        "d_in": llm["dimin"],
        "d_sae": int(llm["dimin"] * sae["exp_factor"]),
        "normalize_activations": "constant_scalar_rescale",
        "activation_normalization_factor": sae["scaling_factor"],
        "apply_b_dec_to_input": True,
        **{key: sae[key] for key in _SETTINGS},
        **({"model_name": model} if isinstance(model, str) else {}),
    }


def _section(content: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    section = content.get(key)
    if not isinstance(section, dict):
        raise SAELoadError(f"{where} says {key}={shown(section)}, which must be a mapping; fetch it again.")
    return section
