"""What an SAE that somebody's code makes does, as a digest: fingerprints must change when the code does.

An SAE's own fingerprint covers its weights and settings, and cannot know that a line of ``encode`` was edited. So a
fixed batch of inputs goes through the SAE, on the CPU in float32, and what comes out is made part of the fingerprint.

Two machines add up in different orders and disagree in the last digits. So the outputs are projected onto a few random
directions, and the projections are rounded to a thousandth of the outputs' size. About one SAE in a hundred is rounded
to different sides on two machines, and is then measured on both; an edit that moves all outputs by less than a
thousandth of their size may go unnoticed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from saebench.errors import SAELoadError
from saebench.files import is_text
from saebench.sae.base import BaseAdapter, generator
from saebench.sae.protocol import SAE, Capability, fingerprint_of

_SEQUENCES, _POSITIONS = 2, 8
_LARGEST = 1.5  # the inputs have scales from 1 to 10 ** 1.5, so that thresholds are reached
_PROJECTIONS = 8
_STEP = 1e-3


def cover_behaviour(sae: SAE, name: str) -> None:
    """Replace the fingerprint of an SAE, in place, by one that covers what the SAE does as well.

    An SAE that gives no fingerprint, or lacks what every evaluation needs, is left alone; the run reports it.

    Args:
        sae: The SAE, which is moved to the CPU.
        name: The reference, for error messages.

    Raises:
        SAELoadError: The object takes no attribute, because its class has slots.
    """
    try:
        own = sae.fingerprint()
        if not isinstance(own, str) or not own or not is_text(own):
            return
        digest = behaviour(sae, own)
    except Exception:  # the code of somebody else
        return
    try:
        object.__setattr__(sae, "fingerprint", partial(str, digest))  # a constant, which copies and pickles keep
    except AttributeError as error:
        raise SAELoadError(
            f"{name}: {type(sae).__name__} takes no attribute `fingerprint`, which saebench needs to notice edited "
            "code; leave `__slots__` out of the class."
        ) from error


def behaviour(sae: SAE, own: str) -> str:
    """Return a hex digest of an SAE's weights, settings and behaviour.

    Args:
        sae: The SAE, which is moved to the CPU.
        own: Its own fingerprint, which also seeds the inputs.
    """
    digest = hashlib.sha256(own.encode())
    if isinstance(sae, nn.Module) and type(sae).fingerprint is not BaseAdapter.fingerprint:
        digest.update(fingerprint_of(sae.state_dict(), {}).encode())
    facts = (sae.architecture, str(sae.hook), sae.d_in, sae.d_out, sae.d_sae, *sorted(map(str, sae.capabilities)))
    digest.update(repr(facts).encode())
    sae.to("cpu")
    with undrawn(), torch.no_grad():
        for what, output in _outputs(sae, own):
            digest.update(f"|{what}:{output}".encode())
    return digest.hexdigest()


@contextmanager
def undrawn() -> Iterator[None]:
    """Leave the random numbers of the program as they are, and give SAEs that sample the same ones every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _outputs(sae: SAE, own: str) -> Iterator[tuple[str, str]]:
    """Yield a summary of everything that an evaluation asks of an SAE."""
    shape = (_SEQUENCES, _POSITIONS)
    draw = generator(0, f"behaviour:{own}")
    scales = torch.logspace(0, _LARGEST, _POSITIONS)[:, None]
    x = torch.randn(*shape, sae.d_in, generator=draw) * scales
    codes = torch.rand(*shape, sae.d_sae, generator=draw)
    directions = {width: torch.randn(width, generator=draw) for width in (sae.d_out, sae.d_in)}

    def ask(call: Callable[[], Any]) -> str:
        try:
            return _summary(call(), draw)
        except Exception as error:  # the code of somebody else; the task that meets this error reports it
            return type(error).__name__

    yield "encode", ask(lambda: sae.encode(x.clone()))
    yield "reconstruct", ask(lambda: sae.decode(sae.encode(x.clone()), x.clone()))
    yield "decode", ask(lambda: sae.decode(codes.clone(), x.clone()))
    if Capability.SPARSE_ENCODE in sae.capabilities:
        yield "encode_sparse", ask(lambda: _dense(*sae.encode_sparse(x.flatten(0, 1)), sae.d_sae))
    if Capability.LINEAR_DECODER in sae.capabilities:
        yield "decoder_directions", ask(lambda: sae.decoder_directions().float() @ directions[sae.d_out])
    if Capability.ENCODER_DIRECTIONS in sae.capabilities:
        yield "encoder_directions", ask(lambda: sae.encoder_directions().float() @ directions[sae.d_in])


def _dense(values: Tensor, indices: Tensor, d_sae: int) -> Tensor:
    return torch.zeros(len(values), d_sae, dtype=values.dtype).scatter_add_(-1, indices.long(), values)


def _summary(output: Any, draw: torch.Generator) -> str:
    """The shape of a tensor, its size, and its projections onto random directions in units of its size."""
    if not isinstance(output, Tensor):
        return type(output).__name__
    values = output.detach().double().flatten()
    finite = values.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    size = float(finite.norm())
    parts = [f"{tuple(output.shape)}", f"{int((finite != values).sum())} not finite"]
    for _ in range(_PROJECTIONS):
        signs = torch.randint(0, 2, values.shape, generator=draw).double() * 2 - 1
        parts.append(str(round(float(finite @ signs) / size / _STEP)) if size else "0")
    parts.append(str(round(math.log(size) / _STEP)) if size else "0")
    return ",".join(parts)
