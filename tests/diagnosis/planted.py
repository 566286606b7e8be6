"""SAEs of the zoo with one mistake built in, as folders of SAELens.

Each mistake is planted in the files so that undoing it gives the SAE of the zoo again, exactly or nearly: weights that
were trained on scaled activations, with the scale left out, and so on. Only the hooks that are one block off need no
change of weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from saebench.diagnosis.variants import Variant
from saebench.sae.zoo import zoo_folder

HOOK = "blocks.9.hook_resid_post"  # of all SAEs of the zoo
Tensors = dict[str, Tensor]
Change = Callable[[dict[str, Any], Tensors, Tensor], None]


@dataclass(frozen=True)
class Plant:
    """A mistake.

    Attributes:
        name: What it is.
        family: The family of variants that undoes it.
        labels: How the label of a variant that undoes it may begin.
        change: What it does to the settings and tensors of the files, given activations ``[tokens, d_in]``.
        hook: The hook point that the reference names.
        zoo: The SAE that it starts from.
    """

    name: str
    family: str
    labels: tuple[str, ...]
    change: Change = lambda config, tensors, x: None
    hook: str | None = None
    zoo: str = "topk-k32-s0"

    def is_undone_by(self, variant: Variant) -> bool:
        """Whether a variant undoes it."""
        return variant.family == self.family and variant.label.startswith(self.labels)

    def write(self, folder: Path, x: Tensor) -> str:
        """Write the SAE with the mistake into a folder, and return its reference."""
        source = zoo_folder(self.zoo)
        config = json.loads((source / "cfg.json").read_text("utf-8"))
        tensors = load_file(source / "sae_weights.safetensors")
        tensors = {name: tensor.float() for name, tensor in tensors.items()}
        self.change(config, tensors, x)
        folder.mkdir(parents=True)
        (folder / "cfg.json").write_text(json.dumps(config), "utf-8")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "sae_weights.safetensors")
        return f"sae_lens:{folder}" + (f"?hook={self.hook}" if self.hook else "")


def _factor(x: Tensor) -> float:
    return float(x.shape[-1] ** 0.5 / x.norm(dim=-1).mean())


def _multiply(tensors: Tensors, encoder: float, decoder: float) -> None:
    tensors["W_enc"] *= encoder
    for name in ("W_dec", "b_dec"):
        tensors[name] *= decoder


def scale_left_out(config: dict[str, Any], tensors: Tensors, x: Tensor) -> None:
    _multiply(tensors, 1 / _factor(x), _factor(x))


def scale_twice(config: dict[str, Any], tensors: Tensors, x: Tensor) -> None:
    _multiply(tensors, _factor(x), 1 / _factor(x))


def decoder_scaled(config: dict[str, Any], tensors: Tensors, x: Tensor) -> None:
    _multiply(tensors, 1.0, _factor(x))
    config["apply_b_dec_to_input"] = False
    tensors["b_enc"] -= tensors["b_dec"] / _factor(x) @ tensors["W_enc"]


def _of_tokens(tensors: Tensors, x: Tensor, scale: float) -> None:
    """Let an SAE read tokens without their mean, times a factor. What the mean is follows nearly from the rest."""
    mean = x.mean(-1, keepdim=True)
    rest = torch.cat([x - mean, torch.ones_like(mean)], -1).double()
    ridge = 1e-4 * rest.square().mean() * len(x) * torch.eye(rest.shape[1], dtype=torch.float64)
    solved = torch.linalg.solve(rest.T @ rest + ridge, rest.T @ mean.double()).float()[:, 0]
    weights, constant = solved[:-1], solved[-1]
    ones = tensors["W_enc"].sum(0)
    bias = tensors["b_enc"] - tensors["b_dec"] @ tensors["W_enc"] + constant * ones
    tensors["W_enc"] = (tensors["W_enc"] + torch.outer(weights, ones)) / scale
    for name in ("W_dec", "b_dec"):
        tensors[name] = (tensors[name] - tensors[name].mean(-1, keepdim=True)) * scale
    tensors["b_enc"] = bias


def mean_left_in(config: dict[str, Any], tensors: Tensors, x: Tensor) -> None:
    config.update(apply_b_dec_to_input=False, rescale_acts_by_decoder_norm=False)
    _of_tokens(tensors, x, 1.0)


def layer_norm_left_out(config: dict[str, Any], tensors: Tensors, x: Tensor) -> None:
    config.update(apply_b_dec_to_input=False, rescale_acts_by_decoder_norm=False)
    _of_tokens(tensors, x, 1 / float(x.std(-1).mean()))


def pre_bias_left_out(config: dict[str, Any], tensors: Tensors, x: Tensor) -> None:
    config["apply_b_dec_to_input"] = False


def pre_bias_twice(config: dict[str, Any], tensors: Tensors, x: Tensor) -> None:
    tensors["b_enc"] -= tensors["b_dec"] @ tensors["W_enc"]


def _row_factors(tensors: Tensors) -> Tensor:
    return torch.exp(torch.randn(len(tensors["W_dec"]), generator=torch.Generator().manual_seed(0)))


def norm_units_left_out(config: dict[str, Any], tensors: Tensors, x: Tensor) -> None:
    factors = _row_factors(tensors)
    tensors["W_dec"] *= factors[:, None]
    tensors["W_enc"] /= factors
    tensors["b_enc"] /= factors
    config["rescale_acts_by_decoder_norm"] = False


def rows_not_unit(config: dict[str, Any], tensors: Tensors, x: Tensor) -> None:
    tensors["W_dec"] *= _row_factors(tensors)[:, None]
    config["rescale_acts_by_decoder_norm"] = False


def _reshape(tensor: Tensor) -> Tensor:
    return tensor.T.reshape(tensor.shape)


def encoder_reshaped(config: dict[str, Any], tensors: Tensors, x: Tensor) -> None:
    tensors["W_enc"] = _reshape(tensors["W_enc"])


def decoder_reshaped(config: dict[str, Any], tensors: Tensors, x: Tensor) -> None:
    # The rows that this gives are not unit vectors, and their norms must not decide which latents are selected.
    tensors["W_dec"] = _reshape(tensors["W_dec"])
    config["rescale_acts_by_decoder_norm"] = False


def both_reshaped(config: dict[str, Any], tensors: Tensors, x: Tensor) -> None:
    encoder_reshaped(config, tensors, x)
    decoder_reshaped(config, tensors, x)


def _with_k(k: int) -> Change:
    def change(config: dict[str, Any], tensors: Tensors, x: Tensor) -> None:
        config["k"] = k

    return change


def relu(config: dict[str, Any], tensors: Tensors, x: Tensor) -> None:
    config["architecture"] = "standard"
    for name in ("k", "rescale_acts_by_decoder_norm"):
        config.pop(name, None)
    tensors.pop("threshold", None)


def relu_unpublished(config: dict[str, Any], tensors: Tensors, x: Tensor) -> None:
    relu(config, tensors, x)
    for name in ("l0", "training_architecture_details"):
        config["metadata"].pop(name, None)


def log_threshold(config: dict[str, Any], tensors: Tensors, x: Tensor) -> None:
    tensors["threshold"] = tensors["threshold"].log()


def scaled_threshold(config: dict[str, Any], tensors: Tensors, x: Tensor) -> None:
    tensors["threshold"] = tensors["threshold"] * _factor(x)


_JUMP = "batchtopk-k32-s0"
PLANTS = (
    Plant("scale of the activations left out", "scale", ("input x",), scale_left_out),
    Plant("scale of the activations twice", "scale", ("input /",), scale_twice),
    Plant("scale left out, JumpReLU", "scale", ("input x",), scale_left_out, zoo=_JUMP),
    Plant("scale undone in the encoder only", "scale", ("output x",), decoder_scaled),
    Plant("layer norm left out", "normalisation", ("each token to mean 0",), layer_norm_left_out),
    Plant("mean left in (centred weights)", "centring", ("each token without its mean",), mean_left_in),
    Plant("b_dec not subtracted", "pre-bias", ("x - b_dec",), pre_bias_left_out),
    Plant("b_dec subtracted twice", "pre-bias", ("nothing subtracted",), pre_bias_twice),
    Plant("selection not in p ||W_dec||", "decoder norm", ("selection by p ||",), norm_units_left_out),
    Plant("rows of W_dec not unit", "decoder norm", ("unit rows",), rows_not_unit),
    Plant("W_enc not transposed", "transpose", ("W_enc transposed",), encoder_reshaped),
    Plant("W_dec not transposed", "transpose", ("W_dec transposed",), decoder_reshaped),
    Plant("both not transposed", "transpose", ("W_enc and W_dec",), both_reshaped),
    Plant("hook one block early", "hook", ("at blocks.9.hook_resid_post",), hook="blocks.8.hook_resid_post"),
    Plant("hook one block late", "hook", ("at blocks.9.hook_resid_post",), hook="blocks.10.hook_resid_post"),
    Plant("resid_pre for resid_post", "hook", ("at blocks.9.hook_resid_post",), hook="blocks.9.hook_resid_pre"),
    Plant("resid_mid for resid_post", "hook", ("at blocks.9.hook_resid_post",), hook="blocks.9.hook_resid_mid"),
    Plant("mlp_out for resid_post", "hook", ("at blocks.9.hook_resid_post",), hook="blocks.9.hook_mlp_out"),
    Plant("attn_out for resid_post", "hook", ("at blocks.9.hook_resid_post",), hook="blocks.9.hook_attn_out"),
    Plant("hook one block early, JumpReLU", "hook", ("at blocks.9.",), hook="blocks.8.hook_resid_post", zoo=_JUMP),
    Plant("k eight times too large", "selection", ("the 32 largest",), _with_k(256)),
    Plant("k eight times too small", "selection", ("the 32 largest",), _with_k(4)),
    Plant("ReLU for TopK", "selection", ("the 32 largest", "one threshold"), relu),
    Plant("ReLU for TopK, L0 not known", "selection", ("the ",), relu_unpublished),
    Plant("ReLU for JumpReLU", "selection", ("the 32 largest", "one threshold"), relu, zoo=_JUMP),
    Plant(
        "threshold as logarithm", "selection", ("exp(threshold)", "one threshold", "the 32"), log_threshold, zoo=_JUMP
    ),
    Plant(
        "threshold of scaled activations",
        "selection",
        ("threshold /", "one threshold", "the 32"),
        scaled_threshold,
        zoo=_JUMP,
    ),
)
