"""SAELens: its own folders, and the files of others that it converts.

SAELens fetches the latter from the hub; here the file of the same name of the case takes the place of the one on the
hub. Their widths follow from the name of a repository, and are those of the case instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sae_lens
from sae_lens.loading import pretrained_sae_loaders as loaders
from safetensors import safe_open
from torch import Tensor

# By case: the loader, the repository, the path in it, and settings that the example has and the repository has not.
_HUB: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "gemma_scope": ("gemma_2", "google/gemma-scope-2b-pt-res", "layer_3/width_16k/average_l0_5", {}),
    "gemma_scope_2_transcoder": (
        "gemma_3",
        "google/gemma-scope-2-270m-pt",
        "transcoder/layer_9_width_16k_l0_small_affine",
        {"architecture": "jumprelu_skip_transcoder"},
    ),
    "qwen_scope": ("qwen_scope", "Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_5", "layer14.sae.pt", {}),
    "goodfire": (
        "goodfire",
        "Goodfire/Llama-3.1-8B-Instruct-SAE-l19",
        "Llama-3.1-8B-Instruct-SAE-l19.pth",
        {},
    ),
    "qresearch": (
        "deepseek_r1",
        "qresearch/DeepSeek-R1-Distill-Llama-8B-SAE-l19",
        "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt",
        {},
    ),
    # SAELens joins the heads itself; the input of the case has them joined already.
    "kissane": (
        "connor_rob_hook_z",
        "ckkissane/attn-saes-gpt2-small-all-layers",
        "gpt2-small_L5_z.pt",
        {"reshape_activations": "none"},
    ),
    "llama_scope_r1": (
        "llama_scope_r1_distill",
        "fnlp/Llama-Scope-R1-Distill",
        "800M-Slimpajama-400M-OpenR1-Math-220k/L15R",
        {},
    ),
    "temporal": ("temporal", "canrager/temporalSAEs", "layer_12/temporal", {}),
    "temporal untied": ("temporal", "canrager/temporalSAEs", "layer_12/temporal", {}),
}
_FACTORS = {"llama_scope_r1": 5.6}  # SAELens reads the factor from its directory


def knows(name: str) -> bool:
    """Return whether SAELens reads the files of a case."""
    return name.startswith("sae_lens") or name in _HUB


def forward(name: str, case: Any) -> tuple[Tensor, Tensor]:
    """Return the latents and the reconstruction. Those of a temporal SAE are of whole sequences."""
    sae = sae_lens.SAE.load_from_disk(case.path) if name.startswith("sae_lens") else _converted(name, case)
    return sae.encode(case.x), sae(case.x)


def _converted(name: str, case: Any) -> Any:
    loader, repository, path, settings = _HUB[name]
    root = case.path if case.path.is_dir() else case.path.parent
    widths = {} if loader == "temporal" else {"d_in": case.x.shape[-1], "d_sae": case.expected[0].shape[-1]}

    def local(repo_id: str, filename: str, **others: Any) -> str:
        return str(next(root.rglob(Path(filename).name)))

    def shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
        with safe_open(local(repo_id, filename), framework="pt") as file:
            return {key: list(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (it is no dict)

    loaders.hf_hub_download, loaders.get_safetensors_tensor_shapes = local, shapes
    settings = {**widths, "dtype": "float32", "device": "cpu", **settings}
    config, tensors, _ = loaders.NAMED_PRETRAINED_SAE_LOADERS[loader](repository, path, cfg_overrides=settings)
    config = loaders.handle_config_defaulting(config)
    known = sae_lens.SAE.get_sae_config_class_for_architecture(config["architecture"]).from_dict(config)
    sae = sae_lens.SAE.get_sae_class_for_architecture(config["architecture"])(known)
    sae.process_state_dict_for_loading(tensors)
    sae.load_state_dict({key: tensor.contiguous() for key, tensor in tensors.items()})
    if name in _FACTORS:
        sae.fold_activation_norm_scaling_factor(_FACTORS[name])
    return sae
