"""The adapter of SAELens: it runs every architecture that SAELens 6 loads in float32 and without state.

For ``layer_norm`` and ``constant_norm_rescale`` SAELens keeps state of the batch between encode and decode, and its
temporal SAE decodes only half of its code. Here ``decode(z, x)`` recomputes from ``x`` whatever it needs.
SAEs on attention z take and return flattened heads: ``d_in = n_heads * d_head``.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import torch
from sae_lens import SAE as LensSAE
from sae_lens import TrainingSAE
from sae_lens.constants import ACTIVATION_SCALER_CFG_FILENAME, SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME
from sae_lens.loading.pretrained_sae_loaders import sae_lens_disk_loader
from sae_lens.training.activation_scaler import ActivationScaler
from safetensors import SafetensorError
from torch import Tensor

from saebench.errors import NotApplicableError, SAELoadError, UsageError
from saebench.sae.base import BaseAdapter
from saebench.sae.protocol import Capability, HookSite, SparseCodes

PICKLES = frozenset({".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt"})
_TOPK = frozenset({"topk", "abstopk"})
_SKIP = frozenset({"skip_transcoder", "jumprelu_skip_transcoder"})
_TRANSCODERS = _SKIP | {"transcoder", "jumprelu_transcoder"}
_FEED_FORWARD = _TOPK | _TRANSCODERS | {"standard", "gated", "jumprelu"}  # one affine map, then an activation function
_KNOWN = _FEED_FORWARD | {"matching_pursuit", "temporal"}
_PER_TOKEN_SCALE = frozenset({"layer_norm", "constant_norm_rescale"})
_FOLDED_SCALE = frozenset({"expected_average_only_in", "covariance_whitening"})
_NOT_BEHAVIOUR = frozenset({"metadata", "device", "dtype", "reshape_activations", "d_in", "d_sae", "d_out"})


class SAELensAdapter(BaseAdapter):
    """A SAELens SAE under the protocol of saebench. It computes in float32.

    Attributes:
        weights_dtype: The type of the stored weights that ``cfg.json`` names, if it names one.
    """

    def __init__(
        self,
        sae: LensSAE[Any],
        name: str,
        *,
        hook: str | None = None,
        hook_out: str | None = None,
        weights_dtype: str | None = None,
    ) -> None:
        """Adapt ``sae`` in place.

        Args:
            sae: The SAE as SAELens loaded it.
            name: Its reference.
            hook: Where it reads, in place of what its metadata says.
            hook_out: Where it writes, in place of what its metadata says (transcoders only).
            weights_dtype: The type of the stored weights, if known.

        Raises:
            SAELoadError: The SAE cannot be run faithfully: it names no hook, its scaling factor is unknown, it is of a
                class for training, or its weights hold NaN or Inf.
        """
        if isinstance(sae, TrainingSAE):
            raise SAELoadError(
                f"{name} is a {type(sae).__name__}, a class for training; save it with save_inference_model() and "
                "load the folder that this writes."
            )
        config = sae.cfg
        architecture = config.architecture()
        if config.normalize_activations in _FOLDED_SCALE:
            raise SAELoadError(
                f"{name} was trained with normalize_activations={config.normalize_activations!r} but does not store "
                "the factor; add ?norm_scaling_factor=FACTOR to the reference (1 if it is folded into the weights)."
            )
        if config.metadata.hook_head_index is not None:
            raise SAELoadError(f"{name} reads a single attention head, and saebench has no such hook.")
        super().__init__(
            name=name,
            architecture=architecture,
            hook=_hook_of(sae, name, hook, hook_out),
            d_in=config.d_in,
            d_out=getattr(config, "d_out", config.d_in),
            d_sae=config.d_sae,
            capabilities=_capabilities(architecture, config.normalize_activations),
            model_name=config.metadata.model_name,
        )
        self.weights_dtype = weights_dtype
        sae.turn_off_forward_pass_hook_z_reshaping()
        self.sae = sae.to(dtype=torch.float32).eval().requires_grad_(False)
        self._rescales = config.normalize_activations in _PER_TOKEN_SCALE and architecture not in _TRANSCODERS
        self.check_finite()

    @classmethod
    def from_disk(
        cls,
        folder: str | Path,
        *,
        name: str | None = None,
        hook: str | None = None,
        hook_out: str | None = None,
        norm_scaling_factor: float | None = None,
    ) -> Self:
        """Load a SAELens folder (``cfg.json`` and ``sae_weights.safetensors``).

        Args:
            folder: The folder.
            name: The reference; by default ``sae_lens:`` and the folder.
            hook: Where the SAE reads, in place of what ``cfg.json`` says.
            hook_out: Where it writes, in place of what ``cfg.json`` says (transcoders only).
            norm_scaling_factor: The factor of the training activations, to be folded into the weights.

        Raises:
            SAELoadError: A file is missing or damaged, or the SAE cannot be run faithfully.
        """
        folder = Path(folder)
        name = name or f"sae_lens:{folder}"
        raw = _read_config(folder, name)
        try:
            sae = LensSAE.load_from_disk(folder, dtype="float32", converter=_read_folder)
        except SafetensorError as error:
            raise SAELoadError(
                f"{name}: {SAE_WEIGHTS_FILENAME} is truncated or no safetensors file ({error}); download it again."
            ) from error
        except KeyError as error:
            raise SAELoadError(
                f"{name}: SAELens does not know {error}, which {SAE_CFG_FILENAME} asks for; if this is a training "
                "checkpoint, save it with save_inference_model()."
            ) from error
        except (OSError, ValueError, TypeError, RuntimeError, AssertionError) as error:
            raise SAELoadError(f"{name}: SAELens cannot load this folder: {_one_line(error)}") from error
        _fold_scale(sae, norm_scaling_factor, folder / ACTIVATION_SCALER_CFG_FILENAME)
        hook = hook or sae.cfg.metadata.hook_name or raw.get("hook_name") or raw.get("hook_point")
        return cls(sae, name, hook=hook, hook_out=hook_out, weights_dtype=raw.get("dtype"))

    @classmethod
    def from_release(
        cls,
        release: str,
        sae_id: str,
        *,
        name: str | None = None,
        hook: str | None = None,
        hook_out: str | None = None,
        norm_scaling_factor: float | None = None,
    ) -> Self:
        """Load from the Hugging Face hub.

        Args:
            release: A release of SAELens' directory, or a repository ``ORG/NAME``.
            sae_id: The id of the SAE in the release, or the folder in the repository.
            name: The reference; by default made from release and id.
            hook: Where the SAE reads, in place of what its metadata says.
            hook_out: Where it writes, in place of what its metadata says (transcoders only).
            norm_scaling_factor: The factor of the training activations, to be folded into the weights.

        Raises:
            SAELoadError: The SAE cannot be downloaded, or cannot be run faithfully.
        """
        name = name or f"sae_lens:{release}/{sae_id}"
        try:
            sae = LensSAE.from_pretrained(release, sae_id, dtype="float32")
        except Exception as error:  # converters of SAELens and the hub client may raise anything
            raise SAELoadError(
                f"{name} could not be loaded from the Hugging Face hub ({type(error).__name__}: {_one_line(error)}); "
                "check the network, HF_HUB_OFFLINE, and your access to the repository."
            ) from error
        _fold_scale(sae, norm_scaling_factor, None)
        return cls(sae, name, hook=hook, hook_out=hook_out)

    def encode(self, x: Tensor) -> Tensor:
        self._check_positions(x)
        z: Tensor = self.sae.encode(x)
        return z

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        if self.architecture == "temporal":
            return self._decode_temporal(z, self._required(x, "predicts part of its code from earlier positions"))
        if self._rescales:
            # This sets the state that sae.decode() reads and then drops: the mean and scale of each token of x.
            self.sae.process_sae_in(self._required(x, "rescales each token"))
        out: Tensor = self.sae.decode(z.to(torch.float32))
        if self.architecture in _SKIP:
            out = out + self._required(x, "has a skip connection").to(torch.float32) @ self.sae.W_skip.T
        return out

    def decoder_directions(self) -> Tensor:
        if Capability.LINEAR_DECODER not in self.capabilities:
            return super().decoder_directions()
        directions: Tensor = self.sae.W_dec
        if self._rescaled_by_norm:
            directions = directions / directions.norm(dim=-1, keepdim=True)
        if self.sae.cfg.normalize_activations == "constant_scalar_rescale":
            directions = directions / self.sae.cfg.activation_normalization_factor
        return directions

    def encoder_directions(self) -> Tensor:
        if Capability.ENCODER_DIRECTIONS not in self.capabilities:
            return super().encoder_directions()
        directions: Tensor = self.sae.W_enc.T
        if self.architecture == "gated":
            directions = directions * self.sae.r_mag.exp()[:, None]
        if self._rescaled_by_norm:
            directions = directions * self.sae.W_dec.norm(dim=-1, keepdim=True)
        return directions

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        if self.architecture not in _TOPK:
            return super().encode_sparse(x)
        before = self.sae.process_sae_in(x) @ self.sae.W_enc + self.sae.b_enc
        if self._rescaled_by_norm:
            before = before * self.sae.W_dec.norm(dim=-1)
        k = self.sae.cfg.k
        if self.architecture == "abstopk":
            indices = before.abs().topk(k, dim=-1, sorted=False).indices
            return SparseCodes(before.gather(-1, indices), indices)
        values, indices = before.topk(k, dim=-1, sorted=False)
        return SparseCodes(values.relu(), indices)

    def settings(self) -> dict[str, object]:
        # Defaults are left out, so that fingerprints stay the same when a new SAELens release adds an option.
        config = self.sae.cfg
        behaviour = {f.name: f.default for f in fields(config) if f.name not in _NOT_BEHAVIOUR}
        return {key: getattr(config, key) for key, default in behaviour.items() if getattr(config, key) != default}

    def _decode_temporal(self, z: Tensor, x: Tensor) -> Tensor:
        self._check_positions(x)
        _, predicted = self.sae.encode_with_predictions(x)
        out = (z.to(torch.float32) + predicted) @ self.sae.W_dec
        if not self.sae.cfg.tied_weights or self.sae.cfg.apply_b_dec_to_input:
            out = out + self.sae.b_dec
        restored: Tensor = self.sae.run_time_activation_norm_fn_out(out)
        return restored

    @property
    def _rescaled_by_norm(self) -> bool:
        return self.architecture in _TOPK and self.sae.cfg.rescale_acts_by_decoder_norm

    def _required(self, x: Tensor | None, why: str) -> Tensor:
        if x is None:
            raise NotApplicableError(f"{self.name} {why}, so decode(z, x) needs the encoder's input x.")
        return x

    def _check_positions(self, x: Tensor) -> None:
        if self.architecture == "temporal" and x.ndim != 3:
            raise NotApplicableError(
                f"{self.name} reads whole sequences; pass x as [batch, position, d_in], not {list(x.shape)}."
            )


def _capabilities(architecture: str, normalisation: str) -> frozenset[Capability]:
    """What an architecture is known to fulfil; nothing for one that a third party registered with SAELens."""
    if architecture not in _KNOWN:
        return frozenset()
    known = set[Capability]()
    scaled = normalisation in _PER_TOKEN_SCALE
    if not scaled or architecture in _TRANSCODERS:  # SAELens transcoders do not undo the input's scaling
        known.add(Capability.LINEAR_DECODER)
    if architecture in _FEED_FORWARD and not scaled:
        known.add(Capability.ENCODER_DIRECTIONS)
    if architecture != "abstopk":
        known.add(Capability.NON_NEGATIVE)
    if architecture != "temporal":
        known |= {Capability.POSITION_WISE, Capability.SPARSE_ENCODE}
    if architecture in _TRANSCODERS:
        known.add(Capability.TRANSCODER)
    return frozenset(known)


def _hook_of(sae: LensSAE[Any], name: str, hook: str | None, hook_out: str | None) -> HookSite:
    site = hook or sae.cfg.metadata.hook_name
    if not site:
        raise SAELoadError(f"{name} does not say where it reads; add ?hook=blocks.9.hook_resid_post to the reference.")
    if sae.cfg.architecture() not in _TRANSCODERS:
        if hook_out not in (None, site):
            raise UsageError(f"{name} is no transcoder; it writes where it reads, so it takes no hook_out.")
        return HookSite.at(site)
    site_out = hook_out or sae.cfg.metadata.hook_name_out
    if not site_out:
        raise SAELoadError(f"{name} does not say where it writes; add ?hook=SITE&hook_out=SITE to the reference.")
    return HookSite(site, site_out)


def _read_config(folder: Path, name: str) -> dict[str, Any]:
    """Return the content of ``cfg.json``. Raises SAELoadError that says what is wrong with the folder."""
    if folder.is_file():
        kind = "pickled weights can run code and are refused" if folder.suffix in PICKLES else "this is a file"
        raise SAELoadError(
            f"{name}: {kind}; name a folder with {SAE_CFG_FILENAME} and {SAE_WEIGHTS_FILENAME} (safetensors)."
        )
    if not (folder / SAE_WEIGHTS_FILENAME).is_file():
        pickled = sorted(p.name for p in folder.glob("*") if p.suffix in PICKLES)
        if pickled:
            raise SAELoadError(
                f"{name}: {pickled[0]} is pickled, which can run code, so it is refused; convert it to "
                f"{SAE_WEIGHTS_FILENAME} (safetensors)."
            )
        raise SAELoadError(f"{name}: {folder} has no {SAE_WEIGHTS_FILENAME} (safetensors); is it a SAELens folder?")
    try:
        raw = json.loads((folder / SAE_CFG_FILENAME).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SAELoadError(f"{name}: {folder} has no {SAE_CFG_FILENAME}; is it a SAELens folder?") from error
    except (ValueError, OSError) as error:
        raise SAELoadError(f"{name}: {SAE_CFG_FILENAME} cannot be read: {_one_line(error)}") from error
    if not isinstance(raw, dict):
        raise SAELoadError(f"{name}: {SAE_CFG_FILENAME} must hold a JSON object.")
    return raw


def _read_folder(
    path: str | Path, device: str = "cpu", cfg_overrides: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    config, tensors = sae_lens_disk_loader(path, device, cfg_overrides)
    # Nested metadata is the format of SAELens 6. Without a version SAELens takes the file for an older one and silently
    # drops the metadata, including the hook name.
    if isinstance(config.get("metadata"), dict) and "architecture" in config:
        config["metadata"].setdefault("sae_lens_version", "6.0.0")
    return config, tensors


def _fold_scale(sae: LensSAE[Any], factor: float | None, scaler_file: Path | None) -> None:
    """Fold the scaling of the training activations into the weights if it is known."""
    if sae.cfg.normalize_activations not in _FOLDED_SCALE:
        if factor is not None:
            raise UsageError("norm_scaling_factor is only for SAEs trained on activations that one factor scaled.")
        return
    scaler = ActivationScaler(scaling_factor=factor)
    try:
        if factor is None and scaler_file is not None and scaler_file.is_file():
            scaler.load(scaler_file)
        if scaler.scaling_factor is not None:
            sae.fold_activation_norm_scaling_factor(scaler.scaling_factor)
        if scaler.whitening is not None:
            whitening = scaler.whitening
            sae.fold_activation_whitening(whitening.mean, whitening.matrix, whitening.inverse_matrix)
    except (NotImplementedError, OSError, ValueError, KeyError, SafetensorError) as error:
        raise SAELoadError(f"the scaling of the training activations cannot be folded: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
