"""Reading the tensors of crosscoders and cross-layer transcoders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from saebench.errors import SAELoadError
from saebench.sae.affine.weights import Weights
from saebench.sae.protocol import HookSite
from saebench.sae.safetensors_file import check_stored, read_header
from saebench.sae.several.blocks import Scaling
from saebench.sae.tensor_files import SAFETENSORS, read_tensors
from saebench.sae.wording import one_line


class Tensors:
    """Named tensors of one file or several, which are asked for by name, number of dimensions and shape."""

    def __init__(self, content: Mapping[str, Any], name: str) -> None:
        """Hold the content of the files of the SAE ``name``."""
        self.content, self.name = dict(content), name

    def __contains__(self, key: str) -> bool:
        return key in self.content

    def get(self, key: str, *shape: int | None) -> Tensor:
        """Return a tensor as it is stored.

        Args:
            key: Its name.
            *shape: Its shape; None stands for any size.

        Raises:
            SAELoadError: There is none of this name and shape, or it does not hold floating-point numbers.
        """
        tensor = self.content.get(key)
        if not isinstance(tensor, Tensor):
            held = ", ".join(map(str, list(self.content)[:8]))
            raise SAELoadError(f"{self.name}: its files hold no tensor {key}; they hold {held}.")
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise SAELoadError(
                f"{self.name}: {key} holds numbers of type {kind}; weights must be floating-point numbers."
            )
        fits = tensor.ndim == len(shape) and all(
            want in (None, size) for want, size in zip(shape, tensor.shape, strict=True)
        )
        if not fits:
            expected = ", ".join("any" if size is None else str(size) for size in shape)
            raise SAELoadError(f"{self.name}: {key} has the shape {list(tensor.shape)}, but [{expected}] is expected.")
        return tensor

    def number(self, key: str) -> float | None:
        """Return the one number of a tensor; None where there is no such tensor. Raises SAELoadError for several."""
        tensor = self.content.get(key)
        if not isinstance(tensor, Tensor):
            return None
        if tensor.numel() != 1:
            raise SAELoadError(f"{self.name}: {key} must hold one number, not {list(tensor.shape)}.")
        return float(tensor)


def read(path: Path, name: str, within: str | None = None) -> Tensors:
    """Read a file of weights.

    Args:
        path: The file.
        name: The reference.
        within: The key of a pickled dict under which the tensors lie, if the file has it.

    Raises:
        SAELoadError: The file is missing, damaged, of an unknown kind, or holds anything that could run code.
    """
    if path.suffix in SAFETENSORS:
        return mapped([path], name)
    content = read_tensors(path, name)
    inner = content.get(within) if within is not None else None
    return Tensors(inner if isinstance(inner, dict) else content, name)


def mapped(paths: Iterable[Path], name: str, prefix: bool = False) -> Tensors:
    """Map safetensors files into memory: their tensors are read from the disk when they are used.

    The files must not be changed while the SAE is in use.

    Args:
        paths: The files. No two of them hold a tensor of the same name, unless ``prefix`` is true.
        name: The reference.
        prefix: Whether to put the number of the file and a dot before each name.

    Raises:
        SAELoadError: A file is missing, is no safetensors file, or does not hold what its header says.
    """
    from safetensors import SafetensorError, safe_open

    content: dict[str, Tensor] = {}
    for number, path in enumerate(paths):
        header = read_header(path, name)
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                for key, stored in header.items():
                    if stored.floating:
                        content[f"{number}.{key}" if prefix else key] = file.get_tensor(key)
                    elif stored.shape == ():  # an identifier, which `number` reads
                        content[key] = file.get_tensor(key)
                    else:
                        check_stored(header, key, None, path, name)
        except (SafetensorError, OSError, RuntimeError) as error:
            raise SAELoadError(f"{name}: {path.name} cannot be read ({one_line(error)}); fetch it again.") from error
    return Tensors(content, name)


def crosscoder_weights(
    W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor, scaling: Scaling | None, name: str
) -> Weights:
    """Return the weights of a crosscoder as those of one SAE on the concatenated raw activations.

    Args:
        W_enc: ``[sites read, d, d_sae]``.
        b_enc: ``[d_sae]``.
        W_dec: ``[sites written, d_sae, d]``.
        b_dec: ``[sites written, d]``.
        scaling: What the training did to activations, which is folded into the weights; None for nothing.
        name: The reference.

    Raises:
        SAELoadError: The shapes do not fit together.
    """
    weights = Weights(
        W_enc=W_enc.float().flatten(0, 1),
        b_enc=b_enc.float(),
        W_dec=W_dec.float().transpose(0, 1).flatten(1),
        b_dec=b_dec.float().flatten(),
    )
    if scaling is not None:
        b_dec = weights.b_dec * scaling.factor_out
        weights = Weights(
            W_enc=weights.W_enc * scaling.factor_in[:, None],
            b_enc=weights.b_enc,
            W_dec=weights.W_dec * scaling.factor_out,
            b_dec=b_dec if scaling.mean_out is None else b_dec + scaling.mean_out,
            pre_bias=scaling.mean_in,
        )
    try:
        weights.check_shapes()
    except SAELoadError as error:
        raise SAELoadError(f"{name}: {error}.") from error
    return weights


def check_count(hook: HookSite, n_in: int, n_out: int, name: str) -> None:
    """Raise SAELoadError unless the hook has ``n_in`` hook points to read and ``n_out`` to write."""
    for does, sites, held in (("reads", hook.sites_in, n_in), ("writes", hook.sites_out, n_out)):
        if len(sites) != held:
            raise SAELoadError(f"{name}: it {does} at {held} hook points, and {len(sites)} are named ({hook}).")
