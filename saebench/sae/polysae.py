"""PolySAE: a linear encoder, and a decoder with quadratic and cubic terms (2602.01322; github pakoromilas/PolySAE).

Its authors save folders with their copy of SAELens, whose own versions do not know the architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saebench.errors import SAELoadError, shown
from saebench.sae import sae_lens_fields as fields
from saebench.sae.affine.activations import Activation, JumpReLU, TopK
from saebench.sae.base import BaseAdapter
from saebench.sae.hook import HookSite
from saebench.sae.protocol import Capability, SparseCodes
from saebench.sae.sae_lens_config import FILE, named_hooks, read_config
from saebench.sae.safetensors_file import check_stored, read_floats, read_header
from saebench.sae.trained_on import TrainedOn

_WEIGHTS = "sae_weights.safetensors"
_CAPABILITIES = frozenset(
    {Capability.ENCODER_DIRECTIONS, Capability.NON_NEGATIVE, Capability.POSITION_WISE, Capability.SPARSE_ENCODE}
)
_MOST_TERMS = 3


class PolySAE(BaseAdapter):
    """xhat = b + a1 C1' + l2 (a1 * a2) C2' + l3 (a1 * a2 * a3) C3', where an = z Un (2602.01322, section 3).

    The projections Un may be one for all terms. A term of a lower rank uses the first columns of the projections.
    """

    W_enc: Tensor
    b_enc: Tensor
    b_dec: Tensor
    pre_bias: Tensor

    def __init__(
        self,
        encoder: tuple[Tensor, Tensor, Tensor],
        terms: list[tuple[Tensor, Tensor, Tensor]],
        activation: Activation,
        *,
        b_dec: Tensor,
        name: str,
        architecture: str,
        hook: HookSite,
        model_name: str | None = None,
    ) -> None:
        """Make an SAE.

        Args:
            encoder: ``W_enc[d_in, d_sae]``, ``b_enc[d_sae]``, and ``[d_in]`` what is subtracted from the input.
            terms: For each power of z, beginning with the first: ``U[d_sae, rank]``, ``C[d_in, rank]`` and its factor
                ``[]``. The rank of no term is above that of the one before it.
            activation: The activation function.
            b_dec: ``[d_in]``.
            name: The reference.
            architecture: What tables call it.
            hook: Where it reads and writes.
            model_name: The language model that it was trained on, if known.

        Raises:
            SAELoadError: The activation function does not fit, or weights hold NaN or Inf.
        """
        W_enc, b_enc, pre_bias = encoder
        super().__init__(
            name=name,
            architecture=architecture,
            hook=hook,
            d_in=W_enc.shape[0],
            d_sae=W_enc.shape[1],
            capabilities=_CAPABILITIES,
            model_name=model_name,
        )
        try:
            activation.fit(self.d_sae)
        except SAELoadError as error:
            raise SAELoadError(f"{name}: {error}.") from error
        for key, tensor in (("W_enc", W_enc), ("b_enc", b_enc), ("b_dec", b_dec), ("pre_bias", pre_bias)):
            self.register_buffer(key, tensor.float().contiguous())
        self.order = len(terms)
        for number, parts in enumerate(terms, start=1):
            for key, tensor in zip("UCl", parts, strict=True):
                self.register_buffer(f"{key}{number}", tensor.float().contiguous())
        self.activation = activation
        self.check_finite()

    def encode(self, x: Tensor) -> Tensor:
        z: Tensor = self.activation(self._before(x))
        return z

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        return self.activation.sparse(self._before(x))

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        out, product = self.b_dec, None
        for number in range(1, self.order + 1):
            U, C, factor = (getattr(self, f"{key}{number}") for key in "UCl")
            a = z.float() @ U
            product = a if product is None else product[..., : a.shape[-1]] * a
            out = out + factor * (product @ C.T)
        return out

    def encoder_directions(self) -> Tensor:
        return self.W_enc.T

    def settings(self) -> dict[str, object]:
        return {"activation": type(self.activation).__name__, **self.activation.settings()}

    def _before(self, x: Tensor) -> Tensor:
        return (x.float() - self.pre_bias) @ self.W_enc + self.b_enc


def read_polysae(folder: Path, name: str, *, hook: str | None = None, default_hook: str | None = None) -> PolySAE:
    """Return the PolySAE in a folder with ``cfg.json`` and ``sae_weights.safetensors``.

    Args:
        folder: The folder.
        name: The reference.
        hook: Where it reads, in place of what ``cfg.json`` says.
        default_hook: Where it reads if ``cfg.json`` does not say so.

    Raises:
        SAELoadError: A file is missing or damaged, or the SAE cannot be run faithfully.
    """
    if not folder.is_dir():
        raise SAELoadError(f"{name}: name the folder that holds {FILE} and {_WEIGHTS}.")
    config = read_config(folder, name)
    where = f"{name}: {FILE}"
    kind = _checked(config, where)
    site = hook or named_hooks(config)[0] or default_hook
    if site is None:
        raise SAELoadError(f"{name} does not say where it reads; add ?hook=blocks.9.hook_resid_post to the reference.")
    tensors = _tensors(config, folder / _WEIGHTS, kind, name)
    b_dec = tensors["b_dec"]
    pre_bias = b_dec if config.get("apply_b_dec_to_input", True) else torch.zeros_like(b_dec)
    one = torch.ones(())
    terms = [
        (
            tensors[projection][:, : tensors[f"C{number}"].shape[1]],
            tensors[f"C{number}"],
            tensors.get(f"lambda{number}", one),
        )
        for number, projection in enumerate(_projections(config), start=1)
    ]
    metadata = config["metadata"] if isinstance(config.get("metadata"), dict) else {}
    trained = TrainedOn.of({key: value for key, value in metadata.items() if key in fields.METADATA})
    sae = PolySAE(
        (tensors["W_enc"], tensors["b_enc"], pre_bias),
        terms,
        TopK(config["k"]) if kind == "poly_topk" else JumpReLU(tensors["threshold"]),
        b_dec=b_dec,
        name=name,
        architecture=kind,
        hook=HookSite.at(site),
        model_name=trained.model,
    )
    sae.trained_on = trained
    return sae


def _checked(config: Mapping[str, Any], where: str) -> str:
    """Return the architecture. Raises SAELoadError for settings that cannot be run faithfully."""
    kind = config.get("architecture")
    if kind not in ("poly_topk", "poly_jumprelu"):
        raise SAELoadError(
            f"{where} says architecture={shown(kind)}, but saebench knows only poly_topk and poly_jumprelu, as which "
            "save_inference_model() saves every PolySAE."
        )
    for key in ("d_in", "d_sae", *(("k",) if kind == "poly_topk" else ())):
        fields.count(where, key, config.get(key))
    for key, harmless in (("rescale_acts_by_decoder_norm", False), ("normalize_activations", "none")):
        # The library folds these into other weights than those by which its decoder multiplies.
        if config.get(key, harmless) not in (harmless, None):
            raise SAELoadError(f"{where} says {key}={shown(config[key])}, and saebench runs only PolySAEs without it.")
    order = config.get("poly_order", _MOST_TERMS)
    if type(order) is not int or not 1 <= order <= _MOST_TERMS:
        raise SAELoadError(f"{where} says poly_order={shown(order)}, but it must be from 1 to {_MOST_TERMS}.")
    ranks = _ranks(config)
    if len(ranks) != _MOST_TERMS or not all(type(rank) is int and rank > 0 for rank in ranks):
        raise SAELoadError(f"{where} says poly_ranks={shown(ranks)}, but they must be three whole numbers above 0.")
    if list(ranks[:order]) != sorted(ranks[:order], reverse=True):
        raise SAELoadError(f"{where} says poly_ranks={shown(ranks)}, but no rank may be above the one before it.")
    return str(kind)


def _ranks(config: Mapping[str, Any]) -> list[Any]:
    ranks = config.get("poly_ranks")
    if ranks is None:
        return [config["d_in"] if config.get("poly_rank") is None else config["poly_rank"]] * _MOST_TERMS
    return ranks if isinstance(ranks, list) else [ranks]


def _projections(config: Mapping[str, Any]) -> list[str]:
    order = config.get("poly_order", _MOST_TERMS)
    return ["U_shared" if config.get("shared_u") else f"U{number}" for number in range(1, order + 1)]


def _tensors(config: Mapping[str, Any], file: Path, kind: str, name: str) -> dict[str, Tensor]:
    """Return the tensors. Raises SAELoadError for one that is missing or of another shape than ``cfg.json`` says."""
    d_in, d_sae, ranks = config["d_in"], config["d_sae"], _ranks(config)
    shapes: dict[str, tuple[int, ...]] = {"W_enc": (d_in, d_sae), "b_enc": (d_sae,), "b_dec": (d_in,)}
    if kind == "poly_jumprelu":
        shapes["threshold"] = (d_sae,)
    for number, projection in enumerate(_projections(config), start=1):
        rank = ranks[0] if projection == "U_shared" else ranks[number - 1]
        shapes |= {projection: (d_sae, rank), f"C{number}": (d_in, ranks[number - 1])}
        if number > 1:
            shapes[f"lambda{number}"] = ()
    header = read_header(file, name)
    for key, shape in shapes.items():
        check_stored(header, key, shape, file, name, f", because {FILE} says so")
    return read_floats(file, shapes, name)
