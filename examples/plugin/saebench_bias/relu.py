"""The adapter behind ``npz:``: a ReLU SAE, z = relu((x - b_dec) W_enc + b_enc), xhat = z W_dec + b_dec."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from saebench.capabilities import Capability
from saebench.errors import SAELoadError
from saebench.sae.base import BaseAdapter
from saebench.sae.hook import HookSite

_NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")  # [d_in, d_sae], [d_sae], [d_sae, d_in], [d_in]


class ReLUSAE(BaseAdapter):
    """Declares exactly the capabilities that it has; a task that needs another one records it as not applicable."""

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor

    def __init__(self, weights: dict[str, Tensor], name: str, hook: HookSite) -> None:
        capabilities = set(Capability) - {Capability.SPARSE_ENCODE, Capability.TRANSCODER}
        d_in, d_sae = weights["W_enc"].shape
        super().__init__(
            name=name, architecture="relu", hook=hook, d_in=d_in, d_sae=d_sae, capabilities=frozenset(capabilities)
        )
        for key in _NAMES:
            self.register_buffer(key, weights[key].float())
        self.check_finite()

    @classmethod
    def from_file(cls, file: Path, name: str, hook: HookSite) -> "ReLUSAE":
        """Load an SAE. Raises SAELoadError for a damaged file and for arrays that are missing."""
        try:
            with np.load(file) as arrays:  # it refuses pickles, which could run code
                return cls({key: torch.from_numpy(arrays[key]) for key in _NAMES}, name, hook)
        except (OSError, ValueError, KeyError) as error:
            raise SAELoadError(f"{name}: {file} holds no ReLU SAE ({error}); it needs {', '.join(_NAMES)}.") from error

    def encode(self, x: Tensor) -> Tensor:
        return torch.relu((x.float() - self.b_dec) @ self.W_enc + self.b_enc)

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z.float() @ self.W_dec + self.b_dec

    def decoder_directions(self) -> Tensor:
        return self.W_dec

    def encoder_directions(self) -> Tensor:
        return self.W_enc.T
