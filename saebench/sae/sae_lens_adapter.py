"""The adapter of SAELens: it runs every architecture that SAELens 6 loads in float32 and without state.

For ``layer_norm`` and ``constant_norm_rescale`` SAELens keeps state of the batch between encode and decode, and its
temporal SAE decodes only half of its code. Here ``decode(z, x)`` recomputes from ``x`` whatever it needs.
SAEs on attention z take and return flattened heads: ``d_in = n_heads * d_head``.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import torch
from sae_lens import SAE as LensSAE
from sae_lens import TrainingSAE
from sae_lens.loading.pretrained_saes_directory import get_norm_scaling_factor
from torch import Tensor

from saebench.errors import NotApplicableError, SaebenchError, SAELoadError, UsageError
from saebench.sae.base import BaseAdapter
from saebench.sae.protocol import Capability, HookSite, SparseCodes
from saebench.sae.sae_lens_load import (
    FOLDED_SCALE,
    TanhReLU,
    fold_scale,
    in_own_format,
    only_weights,
    read_folder,
    read_release,
)
from saebench.sae.trained_on import TrainedOn
from saebench.sae.wording import one_line

_TOPK = frozenset({"topk", "abstopk"})
_SKIP = frozenset({"skip_transcoder", "jumprelu_skip_transcoder"})
_TRANSCODERS = _SKIP | {"transcoder", "jumprelu_transcoder"}
_FEED_FORWARD = _TOPK | _TRANSCODERS | {"standard", "gated", "jumprelu"}  # one affine map, then an activation function
_KNOWN = _FEED_FORWARD | {"matching_pursuit", "temporal"}
# Trained to select latents of a whole batch; SAELens saves them as JumpReLU SAEs with one threshold for all latents.
_OF_BATCHES = frozenset({"batchtopk", "matryoshka_batchtopk"})
_PER_TOKEN_SCALE = frozenset({"layer_norm", "constant_norm_rescale"})
_NOT_BEHAVIOUR = frozenset({"metadata", "device", "dtype", "reshape_activations", "d_in", "d_sae", "d_out"})


class SAELensAdapter(BaseAdapter):
    """A SAELens SAE under the protocol of saebench. It computes in float32.

    Its architecture is the one that it was trained in: "batchtopk" for a BatchTopK SAE, although SAELens saves it as a
    JumpReLU SAE.

    Attributes:
        weights_dtype: The type of the stored weights, such as "float16", if it is known.
    """

    def __init__(
        self,
        sae: LensSAE[Any],
        name: str,
        *,
        hook: str | None = None,
        hook_out: str | None = None,
        weights_dtype: str | None = None,
        trained_on: TrainedOn | None = None,
    ) -> None:
        """Adapt ``sae`` in place.

        Args:
            sae: The SAE as SAELens loaded it.
            name: Its reference.
            hook: Where it reads, in place of what its metadata says.
            hook_out: Where it writes, in place of what its metadata says (transcoders only).
            weights_dtype: The type of the stored weights, if known.
            trained_on: How it was trained, in place of what its metadata says.

        Raises:
            SAELoadError: The SAE cannot be run faithfully: it names no hook, its scaling factor is unknown, it is of a
                class for training, its thresholds were never estimated, or its weights hold NaN or Inf.
        """
        if isinstance(sae, TrainingSAE):
            raise SAELoadError(
                f"{name} is a {type(sae).__name__}, a class for training; save it with save_inference_model() and "
                "load the folder that this writes."
            )
        config = sae.cfg
        kind = config.architecture()
        if config.normalize_activations in FOLDED_SCALE:
            raise SAELoadError(
                f"{name} was trained with normalize_activations={config.normalize_activations!r} but does not store "
                "the factor; add ?norm_scaling_factor=FACTOR to the reference (1 if it is folded into the weights)."
            )
        if config.metadata.hook_head_index is not None:
            raise SAELoadError(f"{name} reads a single attention head, and saebench has no such hook.")
        metadata = config.metadata.to_dict()
        trained_as = metadata.get("training_architecture")
        of_batches = kind == "jumprelu" and trained_as in _OF_BATCHES
        has_tanh = isinstance(sae.activation_fn, TanhReLU)
        super().__init__(
            name=name,
            architecture=trained_as if of_batches else kind,
            hook=_hook_of(sae, name, hook, hook_out),
            d_in=config.d_in,
            d_out=getattr(config, "d_out", config.d_in),
            d_sae=config.d_sae,
            capabilities=_capabilities(kind, config.normalize_activations, has_tanh),
            model_name=config.metadata.model_name,
        )
        self._kind = kind
        self.trained_on = trained_on or TrainedOn.of(metadata)
        self.weights_dtype = weights_dtype
        sae.turn_off_forward_pass_hook_z_reshaping()
        self.sae = sae.to(dtype=torch.float32).eval().requires_grad_(False)
        self._rescales = config.normalize_activations in _PER_TOKEN_SCALE and kind not in _TRANSCODERS
        self._has_tanh = has_tanh
        self._has_zero_rows = self._rescaled_by_norm and not bool(self.sae.W_dec.norm(dim=-1).all())
        self.check_finite()
        self._check_thresholds(of_batches)

    @classmethod
    def from_disk(
        cls,
        folder: str | Path,
        *,
        name: str | None = None,
        hook: str | None = None,
        hook_out: str | None = None,
        norm_scaling_factor: float | None = None,
        default_hook: str | None = None,
    ) -> Self:
        """Load a SAELens folder (``cfg.json`` and ``sae_weights.safetensors``).

        Args:
            folder: The folder.
            name: The reference; by default ``sae_lens:`` and the folder.
            hook: Where the SAE reads, in place of what ``cfg.json`` says.
            hook_out: Where it writes, in place of what ``cfg.json`` says (transcoders only).
            norm_scaling_factor: The factor of the training activations, to be folded into the weights.
            default_hook: Where it reads if its metadata does not say so.

        Raises:
            SAELoadError: A file is missing or damaged, or the SAE cannot be run faithfully.
        """
        folder = Path(folder)
        name = name or f"sae_lens:{folder}"
        sae, trained, dtype = read_folder(folder, name)
        fold_scale(sae, norm_scaling_factor, folder, name)
        hook = hook or sae.cfg.metadata.hook_name or default_hook
        return cls(sae, name, hook=hook, hook_out=hook_out, weights_dtype=dtype, trained_on=trained)

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
        default_hook: str | None = None,
    ) -> Self:
        """Load from the Hugging Face hub.

        Args:
            release: A release of SAELens' directory, or a repository ``ORG/NAME``.
            sae_id: The id of the SAE in the release, or the folder in the repository.
            name: The reference; by default made from release and id.
            hook: Where the SAE reads, in place of what its metadata says.
            hook_out: Where it writes, in place of what its metadata says (transcoders only).
            norm_scaling_factor: The factor of the training activations, to be folded into the weights.
            default_hook: Where it reads if its metadata does not say so.

        Raises:
            SAELoadError: The SAE cannot be downloaded, or cannot be run faithfully.
        """
        name = name or f"sae_lens:{release}/{sae_id}"
        trained, dtype = None, None
        try:
            with only_weights():
                if in_own_format(release):
                    sae, trained, dtype = read_release(release, sae_id, name)
                else:
                    sae = LensSAE.from_pretrained(release, sae_id, dtype="float32")
        except SaebenchError:
            raise
        except Exception as error:  # converters of SAELens and the hub client may raise anything
            raise SAELoadError(
                f"{name} could not be loaded from the Hugging Face hub ({one_line(error)}); "
                "check the network, HF_HUB_OFFLINE, and your access to the repository."
            ) from error
        if norm_scaling_factor is None and sae.cfg.normalize_activations == "expected_average_only_in":
            norm_scaling_factor = get_norm_scaling_factor(release, sae_id)
        fold_scale(sae, norm_scaling_factor, None, name)
        hook = hook or sae.cfg.metadata.hook_name or default_hook
        return cls(sae, name, hook=hook, hook_out=hook_out, weights_dtype=dtype, trained_on=trained)

    def encode(self, x: Tensor) -> Tensor:
        self._check_positions(x)
        z: Tensor = self.sae.encode(x)
        return z

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        if self._kind == "temporal":
            return self._decode_temporal(z, self._required(x, "predicts part of its code from earlier positions"))
        if self._rescales:
            # This sets the state that sae.decode() reads and then drops: the mean and scale of each token of x.
            self.sae.process_sae_in(self._required(x, "rescales each token"))
        z = z.to(torch.float32)
        if self._has_zero_rows:
            # SAELens divides by the norm of each row, and here a latent of a zero row stays 0.
            scaled = z * (1 / self._row_norms())
            out: Tensor = self.sae.run_time_activation_norm_fn_out(scaled @ self.sae.W_dec + self.sae.b_dec)
            return out
        out = self.sae.decode(z)
        if self._kind in _SKIP:
            out = out + self._required(x, "has a skip connection").to(torch.float32) @ self.sae.W_skip.T
        return out

    def decoder_directions(self) -> Tensor:
        if Capability.LINEAR_DECODER not in self.capabilities:
            return super().decoder_directions()
        directions: Tensor = self.sae.W_dec
        if self._rescaled_by_norm:
            directions = directions / self._row_norms()[:, None]
        if self.sae.cfg.normalize_activations == "constant_scalar_rescale":
            directions = directions / self.sae.cfg.activation_normalization_factor
        return directions

    def encoder_directions(self) -> Tensor:
        if Capability.ENCODER_DIRECTIONS not in self.capabilities:
            return super().encoder_directions()
        directions: Tensor = self.sae.W_enc.T
        if self._kind == "gated":
            directions = directions * self.sae.r_mag.exp()[:, None]
        if self._rescaled_by_norm:
            directions = directions * self.sae.W_dec.norm(dim=-1, keepdim=True)
        return directions

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        if self._kind not in _TOPK:
            return super().encode_sparse(x)
        before = self.sae.process_sae_in(x) @ self.sae.W_enc + self.sae.b_enc
        if self._rescaled_by_norm:
            before = before * self.sae.W_dec.norm(dim=-1)
        k = self.sae.cfg.k
        if self._kind == "abstopk":
            indices = before.abs().topk(k, dim=-1, sorted=False).indices
            return SparseCodes(before.gather(-1, indices), indices)
        values, indices = before.topk(k, dim=-1, sorted=False)
        return SparseCodes(values.relu(), indices)

    def settings(self) -> dict[str, object]:
        # Defaults are left out, so that fingerprints stay the same when a new SAELens release adds an option.
        config = self.sae.cfg
        behaviour = {f.name: f.default for f in fields(config) if f.name not in _NOT_BEHAVIOUR}
        given = {key: getattr(config, key) for key, default in behaviour.items() if getattr(config, key) != default}
        return given | ({"activation_fn": "tanh-relu"} if self._has_tanh else {})

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
        return self._kind in _TOPK and self.sae.cfg.rescale_acts_by_decoder_norm

    def _row_norms(self) -> Tensor:
        """The norms of the decoder's rows, with 1 in place of 0."""
        norms: Tensor = self.sae.W_dec.norm(dim=-1)
        return norms.where(norms > 0, 1)

    def _check_thresholds(self, of_batches: bool) -> None:
        """Raise SAELoadError for thresholds that training never estimated: every positive latent would pass."""
        threshold = self.sae.state_dict().get("threshold")
        if threshold is None or bool((threshold > 0).any()):
            return
        if of_batches or bool((threshold == threshold[0]).all()):
            raise SAELoadError(
                f"{self.name}: no threshold is above 0 (they are {float(threshold.max()):.3g}), so they were never "
                "estimated in training, and nearly all latents would be active; train it longer, or save the threshold "
                'that it had. If it is a ReLU SAE, say "architecture": "standard" and leave the thresholds out.'
            )

    def _required(self, x: Tensor | None, why: str) -> Tensor:
        if x is None:
            raise NotApplicableError(f"{self.name} {why}, so decode(z, x) needs the encoder's input x.")
        return x

    def _check_positions(self, x: Tensor) -> None:
        if self._kind == "temporal" and x.ndim != 3:
            raise NotApplicableError(
                f"{self.name} reads whole sequences; pass x as [batch, position, d_in], not {list(x.shape)}."
            )


def _capabilities(architecture: str, normalisation: str, has_tanh: bool) -> frozenset[Capability]:
    """What an architecture is known to fulfil; nothing for one that a third party registered with SAELens."""
    if architecture not in _KNOWN:
        return frozenset()
    known = set[Capability]()
    scaled = normalisation in _PER_TOKEN_SCALE
    if not scaled or architecture in _TRANSCODERS:  # SAELens transcoders do not undo the input's scaling
        known.add(Capability.LINEAR_DECODER)
    if architecture in _FEED_FORWARD and not scaled and not has_tanh:
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
