"""llamascopium: SAEs, transcoders, crosscoders and cross-layer transcoders."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from benchmarks.parity.wheels import Library

LIBRARY = Library(
    "llamascopium",
    "2.0.0b34",
    ("llamascopium", "llamascopium.models", "llamascopium.utils", "llamascopium.backend"),
    (
        "json_repair",
        "pymongo",
        "wandb",
        "polars",
        "tabulate",
        "openai",
        "schedulefree",
        "einops_exts",
        "transformer_lens",
        "llamascopium.database",
        "llamascopium.backend.language_model",
    ),
)


def knows(name: str) -> bool:
    """Return whether the library reads the files of a case."""
    return name.startswith(("llamascopium_", "several lm-saes-"))


def forward(name: str, case: Any) -> tuple[Tensor, Tensor]:
    """Return the latents and the reconstruction, for several hook points joined along the last dimension."""
    settings = json.loads((case.path / "config.json").read_text())
    kind = settings["sae_type"]
    module, named = {
        "sae": ("sae", "SparseAutoEncoder"),
        "crosscoder": ("crosscoder", "Crosscoder"),
        "clt": ("clt", "CrossLayerTranscoder"),
    }[kind]
    # The device and the type of the weights are what the library would have written as well.
    settings |= {"device": "cpu", "dtype": "torch.float32"}
    (case.path / "config.json").write_text(json.dumps(settings))
    sae = getattr(import_module(f"llamascopium.models.{module}"), named).from_local(str(case.path))
    if kind == "sae":
        site_in, site_out = settings["hook_point_in"], settings["hook_point_out"]
        batch, factors = sae.normalize_activations({site_in: case.x, site_out: case.x}, return_scale_factor=True)
        z = sae.encode(batch[site_in])
        return z, sae.decode(z) / factors[site_out]
    sites_in = settings["hook_points"] if kind == "crosscoder" else settings["hook_points_in"]
    sites_out = settings["hook_points"] if kind == "crosscoder" else settings["hook_points_out"]
    given = dict(zip(sites_in, case.x.chunk(len(sites_in), -1), strict=True))
    nothing = torch.zeros_like(next(iter(given.values())))
    given = {**{site: nothing for site in sites_out}, **given}
    batch, factors = sae.normalize_activations(given, return_scale_factor=True)
    x, _, _ = sae.prepare_input(batch)
    z = sae.encode(x)
    xhat = sae.decode(z) if kind == "crosscoder" else sae.decode(z, batch_first=True)
    parts = [part / factors[site] for site, part in zip(sites_out, xhat.unbind(-2), strict=True)]
    if kind == "crosscoder" and settings["act_fn"] == "relu":
        # The library repeats the latents for each hook point; with ReLU, they are the same up to rounding.
        z = z[..., :1, :]
    return z.flatten(-2), torch.cat(parts, -1)
