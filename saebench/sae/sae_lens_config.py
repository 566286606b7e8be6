"""Reading ``cfg.json`` of SAELens folders, of version 6 and of the flat files before it, into one checked form.

SAELens itself drops what it does not know: an activation function of an old file, the number of active latents at an
unusual place, metadata without a version. Here a setting that changes what the SAE computes is applied or refused.
Nothing here imports torch, because a plan reads these files before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saebench.errors import SAELoadError, shown
from saebench.files import parse_json, read_regular, storable_text
from saebench.sae import sae_lens_fields as fields

FILE = "cfg.json"
_LIMIT = 2**20  # bytes

# Names that old files give to settings, and the names that they have had since.
_RENAMED = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
_ACTIVATIONS = ("relu", "tanh-relu", "topk")
_TOPK = ("topk", "abstopk")


@dataclass(frozen=True)
class LensConfig:
    """The settings of an SAE in the form of SAELens 6.

    Attributes:
        settings: The fields of SAELens' config class, and perhaps others that it ignores.
        metadata: What the file tells about the SAE's training, of the types that it should have.
        activation: The activation function of the encoder: "relu" (for architectures with a rule of their own, too) or
            "tanh-relu".
        scaled: Whether the weights hold a factor by which the decoder multiplies the latents.
    """

    settings: Mapping[str, Any]
    metadata: Mapping[str, Any]
    activation: str = "relu"
    scaled: bool = False

    @property
    def architecture(self) -> str:
        """The architecture, such as "topk"."""
        return str(self.settings["architecture"])


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """Return the content of ``cfg.json`` as it is.

    Raises SAELoadError, which begins with the reference ``name``, when the file is missing, cannot be read, or is no
    JSON object.
    """
    where = f"{name}: {FILE}"
    try:
        content = read_regular(folder / FILE, _LIMIT)
    except FileNotFoundError as error:
        place = storable_text(str(folder))
        raise SAELoadError(f"{name}: {place} has no {FILE}; name a folder that SAELens wrote.") from error
    except OSError as error:
        raise SAELoadError(f"{where} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise SAELoadError(f"{where} cannot be read: {error}.") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SAELoadError(f"{where} is not UTF-8 at byte {error.start}; save it as UTF-8.") from error
    config = parse_json(text, where, SAELoadError, unique=True)
    if not isinstance(config, dict):
        raise SAELoadError(f"{where} must hold a JSON object, not {shown(config)}.")
    return config


def checked_config(raw: Mapping[str, Any], name: str, file: str = FILE) -> LensConfig:
    """Return the settings in the form of SAELens 6.

    Args:
        raw: The content of ``cfg.json``, in the form of SAELens 6 or older.
        name: The reference, for error messages.
        file: What error messages call the config file.

    Raises:
        SAELoadError: A setting has a wrong type or an impossible value, is missing or contradicts another, or stands
            for something that cannot be run faithfully. The message names the field.
    """
    where = f"{name}: {file}"
    renamed = _with_new_names(raw, where)
    metadata = _metadata(renamed, where)
    settings = {key: value for key, value in renamed.items() if key not in fields.METADATA and key != "metadata"}
    for key, rule in fields.SETTINGS.items():
        if key in settings:
            rule(where, key, settings[key])
    for key in ("d_in", "d_sae"):
        if settings.get(key) is None:
            raise SAELoadError(f"{where} has no {key}; restore the {FILE} that was saved with these weights.")
    activation = settings.pop("activation_fn", None)
    scaled = bool(settings.pop("finetuning_scaling_factor", False))
    settings["architecture"], settings["k"] = _architecture(settings, activation, where)
    if settings["k"] is None:
        del settings["k"]
    if settings.get("apply_b_dec_to_input") is None:
        settings.pop("apply_b_dec_to_input", None)
    settings["normalize_activations"] = _normalisation(settings.get("normalize_activations"))
    _check_together(settings, where)
    return LensConfig(settings, metadata, "tanh-relu" if activation == "tanh-relu" else "relu", scaled)


def named_hooks(raw: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return where the SAE of a ``cfg.json`` reads and writes, as far as it says so in a form that can be read."""
    metadata = raw["metadata"] if isinstance(raw.get("metadata"), dict) else {}
    site = metadata.get("hook_name") or raw.get("hook_name") or raw.get("hook_point")
    site_out = metadata.get("hook_name_out") or raw.get("hook_name_out")
    return (site if isinstance(site, str) else None), (site_out if isinstance(site_out, str) else None)


def _with_new_names(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    renamed = dict(raw)
    for old, new in _RENAMED.items():
        if old not in renamed:
            continue
        value = renamed.pop(old)
        if renamed.get(new) is None:
            renamed[new] = value
        elif value is not None and value != renamed[new]:
            raise SAELoadError(
                f"{where} says {old}={shown(value)} and {new}={shown(renamed[new])}, which mean the same; remove one."
            )
    return renamed


def _metadata(renamed: Mapping[str, Any], where: str) -> dict[str, Any]:
    nested = renamed.get("metadata")
    if nested is not None and not isinstance(nested, dict):
        raise SAELoadError(f"{where} says metadata={shown(nested)}, which must be an object; correct or remove it.")
    metadata = {}
    for key, rule in fields.METADATA.items():
        value = (nested or {}).get(key)
        if value is None:
            value = renamed.get(key)  # old files have it beside the other settings
        if value is None:
            continue
        rule(where, key, value)
        metadata[key] = value
    return metadata


def _architecture(settings: Mapping[str, Any], activation: Any, where: str) -> tuple[str, Any]:
    """Return the architecture and the number of active latents, which old files spread over several fields."""
    architecture = "standard" if settings.get("architecture") is None else settings["architecture"]
    fields.text(where, "architecture", architecture)
    if activation is not None and activation not in _ACTIVATIONS:
        raise SAELoadError(
            f"{where} says activation_fn={shown(activation)}, which saebench does not know (it knows "
            f"{', '.join(_ACTIVATIONS)}), so the SAE cannot be run faithfully; write a factory for it (python:)."
        )
    if activation == "topk" and architecture == "standard":
        architecture = "topk"
    takes = _TOPK if activation == "topk" else ("standard",) if activation == "tanh-relu" else None
    if takes and architecture not in takes:
        raise SAELoadError(
            f"{where} says architecture={shown(architecture)} and activation_fn={shown(activation)}, which do not go "
            "together; restore the file that was saved with these weights."
        )
    k = _number_of_active(settings, architecture, where)
    if architecture in _TOPK and k is None:
        raise SAELoadError(
            f"{where} describes a TopK SAE, but neither k nor activation_fn_kwargs says how many latents are active; "
            'add "k": NUMBER to it.'
        )
    if architecture == "standard" and k is not None:
        raise SAELoadError(
            f"{where} says k={k}, but also that the SAE is a ReLU SAE, which selects no number of latents; say "
            '"activation_fn": "topk", or remove k.'
        )
    return architecture, k


def _number_of_active(settings: Mapping[str, Any], architecture: str, where: str) -> Any:
    arguments = settings.get("activation_fn_kwargs")
    if arguments is not None and not isinstance(arguments, dict):
        raise SAELoadError(
            f'{where} says activation_fn_kwargs={shown(arguments)}, which must be an object such as {{"k": 32}}.'
        )
    others = {key: value for key, value in (arguments or {}).items() if key not in ("k", "use_sparse_activations")}
    if others:
        raise SAELoadError(
            f"{where} says activation_fn_kwargs={shown(arguments)}, and saebench knows nothing there but k, so the SAE "
            "cannot be run faithfully; write a factory for it (python:)."
        )
    if architecture not in (*_TOPK, "standard"):
        return settings.get("k")
    given = [value for value in (settings.get("k"), (arguments or {}).get("k")) if value is not None]
    for value in given:
        fields.count(where, "k", value)
    if len(set(given)) > 1:
        raise SAELoadError(f"{where} says k={given[0]} and activation_fn_kwargs.k={given[1]}; remove the wrong one.")
    return given[0] if given else None


def _normalisation(value: Any) -> str:
    if isinstance(value, bool) or value is None:  # in old files
        return "expected_average_only_in" if value else "none"
    return str(value)


def _check_together(settings: Mapping[str, Any], where: str) -> None:
    d_sae = settings["d_sae"]
    for key in ("k", "kval_topk", "max_iterations"):
        if type(value := settings.get(key)) is int and value > d_sae:
            raise SAELoadError(
                f"{where} says {key}={value} and d_sae={d_sae}, but no more latents can be active than there are; "
                "restore the file that was saved with these weights."
            )
    if settings["architecture"] == "temporal":
        heads, factor = settings.get("n_heads", 8), settings.get("bottleneck_factor", 64)
        if d_sae % (heads * factor):
            raise SAELoadError(
                f"{where} says d_sae={d_sae}, n_heads={heads} and bottleneck_factor={factor}, but d_sae must be "
                "divisible by the product of the others."
            )
