"""Calling the ``encode`` and ``decode`` of somebody's object without changing the object.

Nothing is moved or converted: the inputs go to the object's device and type, and what comes back goes to the caller's
device in float32. Torch modules are in evaluation mode during a call and as they were after it. No gradients are made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saebench.budget import out_of_memory
from saebench.errors import SaebenchError, SAELoadError
from saebench.sae.object_state import State
from saebench.sae.protocol import SparseCodes
from saebench.sae.wording import one_line


class Calls:
    """The two functions of an object, with what they need to be called.

    Attributes:
        name: The reference, for error messages.
        takes_x: Whether decode takes the encoder's input as ``x``.
        home: The device and type of the weights; None if there are none.
        state: The tensors and modules that can be reached from them.
    """

    def __init__(self, name: str, encode: Callable[..., Any], decode: Callable[..., Any], state: State) -> None:
        self.name, self.takes_x, self.home, self.state = name, _takes_x(decode), state.home, state
        self._functions = {"encode": encode, "decode": decode}
        self._own_type: dict[str, bool] = {}  # whether float32 was refused, and the type of the weights was not

    def encode(self, x: Tensor) -> Any:
        """Return what encode gives for ``x``: a tensor in float32 on the device of ``x``, or SparseCodes likewise.

        Raises SAELoadError when it fails, or gives anything else.
        """
        return self._returned("encode", self._call("encode", x), x)

    def decode(self, z: Tensor, x: Tensor | None) -> Tensor:
        """Return the reconstruction in float32 on the device of ``z``. Raises SAELoadError as `encode` does."""
        inputs = {"x": x} if self.takes_x and x is not None else {}
        decoded = self._returned("decode", self._call("decode", z, **inputs), z)
        if isinstance(decoded, SparseCodes):
            raise SAELoadError(f"{self.name}: decode returned sparse codes in place of a reconstruction.")
        return decoded

    def sparse(self, encode_sparse: Callable[[Tensor], Any], x: Tensor) -> SparseCodes:
        """Return what another method of the object gives for ``x``, on the device of ``x``."""
        with self._undisturbed():
            values, indices = encode_sparse(self._at_home(x, own_type=self._own_type.get("encode", False)))
        return SparseCodes(values.detach().to(x.device, torch.float32), indices.detach().to(x.device).long())

    def _call(self, method: str, first: Tensor, **others: Tensor) -> Any:
        """Call a function in float32 or, if it refuses that, in the type of the object's weights."""
        known = self._own_type.get(method)
        tries = (False, True) if known is None else (known,)
        if self.home is None or self.home[1] is torch.float32:
            tries = (False,)
        for own_type in tries:
            with self._undisturbed():
                given = self._at_home(first, own_type=own_type)
                keywords = {key: self._at_home(tensor, own_type=own_type) for key, tensor in others.items()}
                try:
                    output = self._functions[method](given, **keywords)
                except SaebenchError:
                    raise
                except Exception as error:  # the code of somebody else
                    if out_of_memory(error):
                        raise
                    if own_type != tries[-1]:
                        continue
                    raise SAELoadError(self._failed(method, first, error)) from error
            self._own_type[method] = own_type
            return output
        raise AssertionError("one of the tries has returned or raised")

    def _at_home(self, tensor: Tensor, *, own_type: bool) -> Tensor:
        """Return a copy, so that the object may write into it."""
        device, dtype = self.home or (tensor.device, torch.float32)
        return tensor.detach().to(device, dtype if own_type else torch.float32, copy=True)

    def _failed(self, method: str, given: Tensor, error: Exception) -> str:
        away = "wrap it with saebench.wrap(encode, decode, ...) in functions that take and give such tensors"
        wanted = "x[tokens, d_in]" if method == "encode" else "the latents z[tokens, d_sae]"
        return (
            f"{self.name}: {method} failed with {one_line(error)} for a tensor of shape {tuple(given.shape)}; it must "
            f"take {wanted}, so correct it, or {away}."
        )

    def _returned(self, method: str, output: Any, like: Tensor) -> Any:
        if isinstance(output, SparseCodes):
            values, indices = (part.detach().to(like.device) for part in output)
            return SparseCodes(values.float(), indices.long())
        if isinstance(output, Tensor):
            if output.layout is not torch.strided:
                output = output.to_dense()
            if not (output.is_floating_point() or output.dtype in (torch.int32, torch.int64)):
                raise SAELoadError(f"{self.name}: {method} returned numbers of type {output.dtype}, not floats.")
            return output.detach().to(like.device, torch.float32)
        raise SAELoadError(f"{self.name}: {method} returned {_kind(output)}, not a torch tensor; {_way_out(output)}.")

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Evaluate without gradients, and in evaluation mode; then set the mode of every module as it was."""
        training = [(module, module.training) for root in self.state.modules for module in root.modules()]
        roots = [(root, root.training) for root in self.state.modules]
        switched = any(mode for _, mode in training)
        try:
            if switched:
                for root, _ in roots:
                    root.eval()
            with torch.no_grad():
                yield
        finally:
            if switched:
                _restore(roots, training)


def _restore(roots: Sequence[tuple[nn.Module, bool]], training: Sequence[tuple[nn.Module, bool]]) -> None:
    for root, mode in roots:
        root.train(mode)
    for module, mode in training:
        module.training = mode


def _takes_x(decode: Callable[..., Any]) -> bool:
    """Whether a decoder takes the encoder's input: whether it has a parameter ``x`` after the first."""
    try:
        parameters = list(inspect.signature(decode).parameters.values())
    except (TypeError, ValueError):
        return False
    return any(parameter.name == "x" for parameter in parameters[1:])


def _kind(output: Any) -> str:
    if isinstance(output, np.ndarray):
        return "a numpy array"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)}"
    return "None" if output is None else f"an object of type {type(output).__name__}"


def _way_out(output: Any) -> str:
    if isinstance(output, np.ndarray):
        return "convert it with torch.from_numpy(...)"
    if isinstance(output, tuple | list):
        return (
            "choose the part that is meant, as in saebench.wrap(lambda x: sae.encode(x)[0], sae.decode, ...), or "
            "return saebench.sae.protocol.SparseCodes(values, indices)"
        )
    if isinstance(output, dict):
        return "choose the entry that is meant, as in saebench.wrap(lambda x: sae.encode(x)[KEY], sae.decode, ...)"
    return "give a function that returns one, as in saebench.wrap(encode, decode, ...)"
