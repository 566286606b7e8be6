"""An SAE of the zoo, trained further on sequences without a BOS token; no change of weights could plant that."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from saebench.passes.context import TaskContext
from saebench.sae.zoo import zoo_folder

ZOO, HOOK, K = "topk-k32-s0", "blocks.9.hook_resid_post", 32
SEQUENCES, STEPS, BATCH = 120, 400, 512


def write(folder: Path, context: TaskContext, text: str) -> str:
    """Train the SAE on calibration documents, write it into a folder, and return its reference."""
    tokens = context.calibration_batch(text, 128, SEQUENCES).tokens[:, 1:]
    passes = [context.lm.prefix(part, [HOOK])[HOOK][:, 1:].flatten(0, 1) for part in tokens.split(8)]
    x = torch.cat(passes).float()
    norms = x.norm(dim=-1)
    scale = float(x.shape[1] ** 0.5 / norms.median())
    x = x[norms < 2 * norms.median()] * scale

    tensors = {name: tensor.float() for name, tensor in load_file(zoo_folder(ZOO) / "sae_weights.safetensors").items()}
    for name in ("b_enc", "b_dec"):
        tensors[name] *= scale
    W_enc, b_enc, W_dec, b_dec = (tensors[name].requires_grad_() for name in ("W_enc", "b_enc", "W_dec", "b_dec"))
    optimiser = torch.optim.Adam(tensors.values(), lr=1e-3)
    draw = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        part = x[torch.randint(len(x), (BATCH,), generator=draw)]
        p = (part - b_dec) @ W_enc + b_enc
        values, indices = p.topk(K)
        z = torch.zeros_like(p).scatter(1, indices, values.relu())
        loss = ((part - z @ W_dec - b_dec) / x.std(0)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    config = json.loads((zoo_folder(ZOO) / "cfg.json").read_text("utf-8"))
    config["rescale_acts_by_decoder_norm"] = False
    folder.mkdir(parents=True)
    (folder / "cfg.json").write_text(json.dumps(config), "utf-8")
    written = {name: tensor.detach() / (scale if name.startswith("b_") else 1) for name, tensor in tensors.items()}
    save_file({name: tensor.contiguous() for name, tensor in written.items()}, folder / "sae_weights.safetensors")
    return f"sae_lens:{folder}"
