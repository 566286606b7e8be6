"""All examples of formats, and a way to damage their files."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.sae.affine import files, openmoss_files, vision_files
from tests.sae.affine.files import Example, save

EXAMPLES = {**files.EXAMPLES, **openmoss_files.EXAMPLES, **vision_files.EXAMPLES}
_ENDINGS = frozenset({".safetensors", ".npz", ".pt", ".pth"})


def weights_file(example: Example) -> Path:
    if example.path.is_file():
        return example.path
    (file,) = (path for path in example.path.rglob("*") if path.suffix in _ENDINGS)
    return file


def edit(example: Example, change: Callable[[dict[str, Any]], None]) -> None:
    """Write the weights of an example anew after ``change`` has changed its named tensors in place."""
    file = weights_file(example)
    line = b""
    if file.suffix == ".npz":
        content: dict[str, Any] = {key: torch.from_numpy(value) for key, value in np.load(file).items()}
    elif file.suffix == ".safetensors":
        content = load_file(file)
    else:
        stored = file.read_bytes()
        if stored.startswith(b"{"):
            line, _, stored = stored.partition(b"\n")
        content = torch.load(io.BytesIO(stored), weights_only=True)
    change(next((value for key in ("sae", "state", "state_dict") if (value := content.get(key))), content))
    save(file, content)
    if line:
        file.write_bytes(line + b"\n" + file.read_bytes())


def matrices(example: Example) -> list[str]:
    """The names of the weights in an example that every SAE of its format needs."""
    names: list[str] = []
    edit(example, lambda tensors: names.extend(key for key, value in tensors.items() if is_matrix(key, value)))
    return names


def is_matrix(key: str, value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim == 2 and "skip" not in key and "var_" not in key
