"""From the files of a SAELens folder to an SAE of SAELens, checked before SAELens sees any of it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE as LensSAE
from sae_lens.constants import ACTIVATION_SCALER_CFG_FILENAME, ACTIVATION_WHITENING_FILENAME, SAE_WEIGHTS_FILENAME
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY, get_sae_class
from sae_lens.training.activation_scaler import ActivationScaler, ActivationWhitening
from torch import Tensor, nn

from saebench.errors import SAELoadError, UsageError, shown
from saebench.files import read_json, storable_text
from saebench.sae import sae_lens_fields as fields
from saebench.sae.sae_lens_config import FILE, LensConfig, checked_config, read_config
from saebench.sae.safetensors_file import Stored, check_stored, read_floats, read_header
from saebench.sae.trained_on import TrainedOn
from saebench.sae.wording import CONVERT, one_line, shown_name

PICKLES = frozenset({".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt"})
FOLDED_SCALE = frozenset({"expected_average_only_in", "covariance_whitening"})
_SCALING = "scaling_factor"  # in old files: what the decoder multiplies each latent by
_PLAIN_DECODER = frozenset({"standard", "gated", "topk", "jumprelu"})


Loaded = tuple[LensSAE[Any], TrainedOn, str]


class TanhReLU(nn.Module):
    """tanh(relu(p)), an activation function of SAELens before version 6."""

    def forward(self, p: Tensor) -> Tensor:
        return p.relu().tanh()


def read_folder(folder: Path, name: str) -> Loaded:
    """Return the SAE in a SAELens folder, how it was trained, and the type of its stored weights.

    Args:
        folder: The folder, with ``cfg.json`` and ``sae_weights.safetensors``.
        name: The reference, for error messages.

    Raises:
        SAELoadError: A file is missing or damaged, the files do not fit together, or the SAE cannot be run faithfully.
    """
    _check_folder(folder, name)
    return build(read_config(folder, name), folder / SAE_WEIGHTS_FILENAME, name)


def build(
    raw: Mapping[str, Any], weights: Path, name: str, *, file: str = FILE, names: Mapping[str, str] | None = None
) -> Loaded:
    """Return the SAE that ``cfg.json`` describes with the weights of a file, as `read_folder` does.

    Args:
        raw: The content of ``cfg.json``.
        weights: The file of weights.
        name: The reference, for error messages.
        file: What error messages call the config file.
        names: How the file of weights calls tensors, by their names in SAELens, where it calls them otherwise.
    """
    config = checked_config(raw, name, file)
    header = read_header(weights, name)
    sae = _empty(config, name)
    stored_as = {key: (names or {}).get(key, key) for key in sae.state_dict()}
    shapes = {stored_as[key]: tuple(tensor.shape) for key, tensor in sae.state_dict().items()}
    _check_header(header, shapes, config, weights, name, file)
    tensors = read_floats(weights, header, name)
    tensors |= {key: tensors.pop(stored) for key, stored in stored_as.items() if stored != key}
    _fold_scaling(tensors, config, name)
    try:
        sae.process_state_dict_for_loading(tensors)
        sae.load_state_dict(tensors, assign=True)
        sae = sae.to("cpu")
    except (RuntimeError, KeyError, ValueError, TypeError, NotImplementedError) as error:
        raise SAELoadError(
            f"{name}: SAELens cannot put the weights into its {type(sae).__name__} ({one_line(error)}); use files that "
            "belong together."
        ) from error
    if config.activation == "tanh-relu":
        sae.activation_fn = TanhReLU()
    return sae, TrainedOn.of(config.metadata), ", ".join(sorted({stored.dtype for stored in header.values()}))


def fold_scale(sae: LensSAE[Any], factor: float | None, folder: Path | None, name: str) -> None:
    """Fold the scaling of the training activations into the weights if it is known.

    Args:
        sae: The SAE.
        factor: The factor, if the user gives it.
        folder: A folder that may hold it.
        name: The reference, for error messages.

    Raises:
        UsageError: ``factor`` is given for an SAE whose activations were not scaled by one factor.
        SAELoadError: The files that hold the scaling are damaged, or this architecture takes none.
    """
    if sae.cfg.normalize_activations not in FOLDED_SCALE:
        if factor is not None:
            raise UsageError(
                f"{name}: norm_scaling_factor is only for SAEs trained on activations that one factor scaled."
            )
        return
    scaler = ActivationScaler(scaling_factor=factor)
    if factor is None and folder is not None and os.path.lexists(folder / ACTIVATION_SCALER_CFG_FILENAME):
        scaler = _stored_scaler(folder, sae.cfg.d_in, name)
    try:
        if scaler.scaling_factor is not None:
            sae.fold_activation_norm_scaling_factor(scaler.scaling_factor)
        if scaler.whitening is not None:
            whitening = scaler.whitening
            sae.fold_activation_whitening(whitening.mean, whitening.matrix, whitening.inverse_matrix)
    except NotImplementedError as error:
        raise SAELoadError(
            f"{name}: the scaling of the training activations cannot be folded into this architecture "
            f"({one_line(error)}); write a factory for it (python:)."
        ) from error


def read_release(release: str, sae_id: str, name: str) -> Loaded:
    """Return an SAE in SAELens' own format from the Hugging Face hub, as `read_folder` does.

    Raises SAELoadError, and whatever the client of the hub raises.
    """
    from huggingface_hub import hf_hub_download
    from sae_lens.loading.pretrained_saes_directory import get_config_overrides, get_repo_id_and_folder_name

    repository, folder = get_repo_id_and_folder_name(release, sae_id)
    files = [Path(hf_hub_download(repository, f"{folder}/{file}")) for file in (FILE, SAE_WEIGHTS_FILENAME)]
    raw = read_config(files[0].parent, name)
    for key, value in get_config_overrides(release, sae_id).items():
        # SAELens' directory knows better than some old files how the language model was loaded.
        where = raw["metadata"] if key in fields.METADATA and isinstance(raw.get("metadata"), dict) else raw
        where[key] = value
    return build(raw, files[1], name)


def in_own_format(release: str) -> bool:
    """Whether a release or repository of the hub holds SAEs in SAELens' own format."""
    from sae_lens.loading.pretrained_sae_loaders import get_conversion_loader_name

    return str(get_conversion_loader_name(release)) == "sae_lens"


@contextmanager
def only_weights() -> Iterator[None]:
    """Let ``torch.load`` refuse in this context whatever could run code, also where the user's shell says otherwise."""
    forced = os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    try:
        yield
    finally:
        if forced is not None:
            os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = forced


def _check_folder(folder: Path, name: str) -> None:
    """Raise SAELoadError that says what is wrong with a folder that lacks weights."""
    place = storable_text(str(folder))
    try:
        if not folder.is_dir():
            pickled = folder.suffix in PICKLES
            kind = f"pickled weights can run code, so they are refused; {CONVERT}" if pickled else "this is no folder"
            raise SAELoadError(f"{name}: {kind}; name a folder with {FILE} and {SAE_WEIGHTS_FILENAME} (safetensors).")
        if os.path.lexists(folder / SAE_WEIGHTS_FILENAME):
            return
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    except (OSError, ValueError) as error:
        raise SAELoadError(f"{name}: the folder {place} cannot be read ({one_line(error)}).") from error
    if pickles:
        raise SAELoadError(
            f"{name}: {storable_text(pickles[0])} is pickled, which can run code, so it is refused; {CONVERT} as "
            f"{SAE_WEIGHTS_FILENAME}."
        )
    raise SAELoadError(f"{name}: {place} has no {SAE_WEIGHTS_FILENAME}; name a folder that SAELens wrote.")


def _empty(config: LensConfig, name: str) -> LensSAE[Any]:
    """Return the SAE without weights: its tensors have shapes, and take no memory."""
    try:
        sae_class, config_class = get_sae_class(config.architecture)
    except KeyError as error:
        architecture = shown(config.architecture)
        if config.architecture in SAE_TRAINING_CLASS_REGISTRY:
            raise SAELoadError(
                f"{name}: {FILE} says architecture={architecture}, which SAELens uses only in training; this is a "
                "training checkpoint: save it with save_inference_model() and name the folder that this writes."
            ) from error
        raise SAELoadError(
            f"{name}: {FILE} says architecture={architecture}, which the installed SAELens does not know; install the "
            "version or the package that wrote it."
        ) from error
    hooks = ("hook_name", "hook_name_out", "hook_head_index", "model_name", "training_architecture")
    metadata = {key: config.metadata[key] for key in hooks if key in config.metadata}
    plain = {"dtype": "float32", "device": "meta", "reshape_activations": "none", "metadata": metadata}
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sae: LensSAE[Any] = sae_class(config_class.from_dict({**config.settings, **plain}))
    except Exception as error:  # the code of SAELens, or of a package that registers an architecture with it
        raise SAELoadError(
            f"{name}: SAELens cannot make an SAE from {FILE} ({one_line(error)}); compare the file with one that "
            "SAELens writes."
        ) from error
    sae.cfg.device = "cpu"
    return sae


def _check_header(
    header: Mapping[str, Stored],
    shapes: dict[str, tuple[int, ...]],
    config: LensConfig,
    weights: Path,
    name: str,
    file: str,
) -> None:
    """Raise SAELoadError unless a file holds the tensors of the SAE, and no others, in their shapes."""
    sizes = ", ".join(f"{key}={config.settings[key]}" for key in ("d_in", "d_sae", "d_out") if key in config.settings)
    if _SCALING in header:
        shapes[_SCALING] = (config.settings["d_sae"],)
    for key, shape in shapes.items():
        check_stored(header, key, shape, weights, name, f", because {file} says {sizes}")
    if unknown := sorted(header.keys() - shapes.keys()):
        raise SAELoadError(
            f"{name}: {weights.name} holds {', '.join(map(shown_name, unknown[:5]))}, which an SAE of the architecture "
            f"{shown(config.architecture)} has no use for; use files that belong together."
        )


def _fold_scaling(tensors: dict[str, Tensor], config: LensConfig, name: str) -> None:
    """Move the factor by which the decoder of an old SAE multiplies its latents into the decoder."""
    factor = tensors.pop(_SCALING, None)
    if factor is None or bool((factor == 1).all()):
        return
    if not config.scaled:
        raise SAELoadError(
            f"{name}: {SAE_WEIGHTS_FILENAME} holds a {_SCALING} that is not 1, but {FILE} does not say that it is "
            'used; add "finetuning_scaling_factor": true to it if it is, and remove the tensor if not.'
        )
    if config.architecture not in _PLAIN_DECODER or config.settings.get("rescale_acts_by_decoder_norm"):
        raise SAELoadError(
            f"{name}: {SAE_WEIGHTS_FILENAME} holds a {_SCALING}, which no SAE of the architecture "
            f"{shown(config.architecture)} has; use files that belong together."
        )
    if not bool(torch.isfinite(factor).all()):
        raise SAELoadError(f"{name}: {_SCALING} holds NaN or Inf; fetch or train the weights again.")
    tensors["W_dec"] = tensors["W_dec"] * factor[:, None]


def _stored_scaler(folder: Path, d_in: int, name: str) -> ActivationScaler:
    content = read_json(folder / ACTIVATION_SCALER_CFG_FILENAME, "scaling of the training activations", SAELoadError)
    where = f"{name}: {ACTIVATION_SCALER_CFG_FILENAME}"
    if not isinstance(content, dict):
        raise SAELoadError(f"{where} must hold an object, not {shown(content)}; fetch it again.")
    factor = content.get("scaling_factor")
    if factor is not None:
        fields.positive(where, "scaling_factor", factor)
    scaler = ActivationScaler(scaling_factor=None if factor is None else float(factor))
    file = folder / ACTIVATION_WHITENING_FILENAME
    if content.get("has_whitening", True) and os.path.lexists(file):
        header = read_header(file, name)
        shapes = {"mean": (d_in,), "matrix": (d_in, d_in), "inverse_matrix": (d_in, d_in)}
        for key, shape in shapes.items():
            check_stored(header, key, shape, file, name, f", because {FILE} says d_in={d_in}")
        scaler.whitening = ActivationWhitening(**read_floats(file, shapes, name, dtype=None))
    return scaler
