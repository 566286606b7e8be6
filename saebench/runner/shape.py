"""The depth and width of a language model as its ``config.json`` tells them, before the weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saebench.data import assets
from saebench.errors import ModelError
from saebench.files import read_json
from saebench.lm.reference import LMRef

_DEPTH_KEYS = ("num_hidden_layers", "n_layer", "num_layers")
_WIDTH_KEYS = ("hidden_size", "n_embd", "d_model")
_LARGEST = 10**6  # a number beyond it is a mistake in the file


@dataclass(frozen=True)
class Shape:
    """What is known of a model.

    Attributes:
        n_layers: The number of blocks, or None.
        width: The width of the residual stream, or None.
    """

    n_layers: int | None = None
    width: int | None = None


def shape_of(model: LMRef) -> Shape:
    """Return what ``config.json`` tells about a model; nothing if no such file is on this disk or it is damaged."""
    if model.scheme == "hf" or model.synthetic:
        return Shape()
    folder = assets.status(model.name).path if model.scheme == "asset" else Path(model.name)
    try:
        config = read_json(folder / "config.json", "model config", ModelError)
    except ModelError:  # the model is not fetched yet, or is damaged, which loading it reports
        return Shape()
    # Multimodal models describe their language model in `text_config`.
    parts = [config, config.get("text_config")] if isinstance(config, dict) else []
    for part in parts:
        if isinstance(part, dict) and (n_layers := _number(part, _DEPTH_KEYS)) is not None:
            return Shape(n_layers, _number(part, _WIDTH_KEYS))
    return Shape()


def _number(config: dict[str, Any], keys: tuple[str, ...]) -> int | None:
    numbers = (config.get(key) for key in keys)
    return next((number for number in numbers if type(number) is int and 0 < number < _LARGEST), None)
