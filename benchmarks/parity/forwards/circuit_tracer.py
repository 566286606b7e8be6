"""circuit-tracer: transcoders of one layer, and cross-layer transcoders, those of Gemma Scope 2 among them."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import torch
import yaml
from torch import Tensor

from benchmarks.parity.wheels import Library

LIBRARY = Library("circuit-tracer", "0.5.0", ("circuit_tracer", "circuit_tracer.transcoder", "circuit_tracer.utils"))


def knows(name: str) -> bool:
    """Return whether the library reads the files of a case."""
    return name == "circuit_tracer" or name.startswith(("several circuit-tracer", "several gemma-scope-2"))


def forward(name: str, case: Any) -> tuple[Tensor, Tensor]:
    """Return the latents and the reconstruction of all layers, joined along the last dimension."""
    utils = sys.modules["circuit_tracer.utils"]
    utils.get_default_device = lambda: torch.device("cpu")  # type: ignore[attr-defined]
    single = import_module("circuit_tracer.transcoder.single_layer_transcoder")
    cross = import_module("circuit_tracer.transcoder.cross_layer_transcoder")
    if name == "circuit_tracer":
        transcoder = single.load_relu_transcoder(str(case.path), 7, lazy_encoder=False, lazy_decoder=False)
        z = transcoder.encode(case.x)
        return z, transcoder.decode(z, case.x)
    if "gemma" in name:
        paths = dict(enumerate(str(path) for path in sorted(case.path.glob("*.safetensors"))))
        # The library leaves out the layer with the highest number.
        clt = cross.load_gemma_scope_2_clt({**paths, len(paths): ""}, dtype=torch.float32)
    else:
        hooks = yaml.safe_load((case.path / "config.yaml").read_text())
        named = {key: hooks[key] for key in ("feature_input_hook", "feature_output_hook")}
        clt = cross.load_clt(str(case.path), dtype=torch.float32, **named)
    x = torch.stack(case.x.chunk(clt.n_layers, -1))
    z = clt.encode(x)
    xhat = clt.decode(
        z.to_sparse(), x
    )  # what its forward does, but for a skip connection, with which that ends in an error
    return torch.cat(list(z), -1), torch.cat(list(xhat), -1)
