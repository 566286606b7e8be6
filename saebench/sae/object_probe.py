"""Finding out what somebody's ``encode`` and ``decode`` are, by calling them on a fixed batch.

Widths and shapes follow from what they return. A capability is found, never assumed: a token's latents are compared
alone and among others, the decoder is tested for linearity on random codes, and matrices that an object has are used
only if they do what it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from saebench.errors import SAELoadError
from saebench.sae.base import generator
from saebench.sae.object_calls import Calls
from saebench.sae.protocol import Capability, SparseCodes

SEQUENCES, POSITIONS = 2, 16
_LARGEST = 1.5  # inputs have scales from 10 ** -1.5 to 10 ** 1.5, so that thresholds are reached, and not always
_TOLERANCE = {torch.bfloat16: 3e-2, torch.float16: 4e-3}
_TOLERANCE_ELSEWHERE = 1e-4
_FLIPS = 0.01  # the share of active latents that rounding may switch on or off
_SPARSE = 4  # codes count as sparse if every token has at most one latent in so many active
_BLOCK = 2**24  # numbers of a block of one-hot codes


@dataclass(frozen=True)
class Form:
    """The widths and capabilities of an object.

    Attributes:
        d_in: The width of what it reads.
        d_sae: The number of its latents.
        d_out: The width of what it writes.
        flat: Whether it takes ``[tokens, width]``; otherwise it takes ``[sequences, positions, width]``.
        capabilities: What was found.
    """

    d_in: int
    d_sae: int
    d_out: int = 0
    flat: bool = True
    capabilities: frozenset[Capability] = frozenset()


def probes(d_in: int) -> Tensor:
    """Return the inputs ``[2, 16, d_in]``: Gaussian, with scales that grow along the positions."""
    draw = generator(0, "object")
    return (
        torch.randn(SEQUENCES, POSITIONS, d_in, generator=draw)
        * torch.logspace(-_LARGEST, _LARGEST, POSITIONS)[:, None]
    )


def tolerance(calls: Calls) -> float:
    """How far two results may differ, relative to the largest value of a token, given the type of the weights."""
    return _TOLERANCE.get(calls.home[1], _TOLERANCE_ELSEWHERE) if calls.home else _TOLERANCE_ELSEWHERE


def find_form(calls: Calls, d_in: int, d_sae: int | None, crosses: bool) -> Form:
    """Call an object on the probes and return what it is.

    Args:
        calls: The object.
        d_in: The width of what it reads.
        d_sae: The number of its latents, if it says so.
        crosses: Whether it reads at one hook point and writes at another.

    Raises:
        SAELoadError: It fails, returns something else than latents or reconstructions, or NaN, or Inf.
    """
    x = probes(d_in)
    form, z = _encoder(calls, x, d_sae)
    kinds = set(form.capabilities)
    xhat = calls.decode(_shaped(z, form.flat), _shaped(x, form.flat))
    wanted = _shaped(z, form.flat).shape[:-1]
    if xhat.shape[:-1] != wanted or xhat.dim() != len(wanted) + 1:
        raise SAELoadError(
            f"{calls.name}: decode gave shape {_shape(xhat)} for latents of shape {_shape(_shaped(z, form.flat))}; it "
            f"must give one reconstruction for each token, {(*wanted, d_in)}."
        )
    _finite(calls, "decode", xhat)
    d_out = xhat.shape[-1]
    if not crosses and d_out != d_in:
        raise SAELoadError(
            f"{calls.name}: decode gives {d_out} dimensions where the SAE reads {d_in}; if it writes at another hook "
            "point than it reads, name both with hook='SITE->SITE'."
        )
    if crosses:
        kinds.add(Capability.TRANSCODER)
    if float(z.min()) >= 0:
        kinds.add(Capability.NON_NEGATIVE)
    if Capability.POSITION_WISE in kinds and int((z != 0).sum(-1).max()) * _SPARSE <= form.d_sae:
        kinds.add(Capability.SPARSE_ENCODE)
    form = replace(form, d_out=d_out, capabilities=frozenset(kinds))
    return replace(form, capabilities=form.capabilities | _linearity(calls, form, x[:1], z[:1]))


def encode(calls: Calls, form: Form, x: Tensor) -> Tensor:
    """Return the latents ``[..., d_sae]`` of ``x[..., d_in]``. Raises SAELoadError for another shape."""
    shaped = _shaped(x, form.flat, position_wise=Capability.POSITION_WISE in form.capabilities)
    if not shaped.numel():
        return x.new_zeros(*x.shape[:-1], form.d_sae, dtype=torch.float32)
    z = _dense(calls, calls.encode(shaped), form.d_sae)
    expected = (*shaped.shape[:-1], form.d_sae)
    if tuple(z.shape) != expected:
        raise SAELoadError(f"{calls.name}: encode gave shape {_shape(z)} instead of {expected}.")
    return z.reshape(*x.shape[:-1], form.d_sae)


def decode(calls: Calls, form: Form, z: Tensor, x: Tensor | None) -> Tensor:
    """Return the reconstruction ``[..., d_out]`` of ``z[..., d_sae]``. Raises SAELoadError for another shape."""
    alone = Capability.POSITION_WISE in form.capabilities
    shaped = _shaped(z, form.flat, position_wise=alone)
    if not shaped.numel():
        return z.new_zeros(*z.shape[:-1], form.d_out, dtype=torch.float32)
    xhat = calls.decode(shaped, None if x is None else _shaped(x, form.flat, position_wise=alone))
    expected = (*shaped.shape[:-1], form.d_out)
    if tuple(xhat.shape) != expected:
        raise SAELoadError(f"{calls.name}: decode gave shape {_shape(xhat)} instead of {expected}.")
    return xhat.reshape(*z.shape[:-1], form.d_out)


def _encoder(calls: Calls, x: Tensor, d_sae: int | None) -> tuple[Form, Tensor]:
    """Return how an encoder is called, whether it is position-wise, and the latents of the probes.

    Tokens in rows are tried first. An encoder that refuses them, or mixes them, is given sequences.
    """
    problem = None
    for flat in (True, False):
        try:
            z = _latents(calls, _shaped(x, flat), d_sae)
        except SAELoadError as error:
            problem = problem or error
            continue
        form = Form(x.shape[-1], z.shape[-1], flat=flat, capabilities=frozenset({Capability.POSITION_WISE}))
        _finite(calls, "encode", z)
        z = z.reshape(*x.shape[:-1], -1)
        some = range(0, POSITIONS, 3)
        alone = torch.stack([encode(calls, form, x[:1, position]) for position in some], 1)
        turned = encode(calls, form, x.flip(0, 1)).flip(0, 1)
        if _agree(z[:1, some], alone, calls) and _agree(z, turned, calls):
            return form, z
        if not flat:
            return replace(form, capabilities=frozenset()), z
        problem = problem or SAELoadError(
            f"{calls.name}: encode gives a token other latents alone than among other tokens, and does not take "
            "sequences x[batch, position, d_in]; let it encode every token for itself (a BatchTopK SAE with the "
            "threshold that its training estimated, for example), or take sequences."
        )
    assert problem is not None
    raise problem


def _latents(calls: Calls, x: Tensor, d_sae: int | None) -> Tensor:
    z = _dense(calls, calls.encode(x), d_sae)
    width = z.shape[-1] if z.dim() else 0
    if z.dim() != x.dim() or z.shape[:-1] != x.shape[:-1] or not width:
        raise SAELoadError(
            f"{calls.name}: encode gave shape {_shape(z)} for inputs of shape {_shape(x)}; it must give the latents of "
            f"each token, {(*x.shape[:-1], d_sae or 'd_sae')}.".replace("'", "")
        )
    if d_sae is not None and width != d_sae:
        raise SAELoadError(f"{calls.name}: encode gives {width} latents, and d_sae says {d_sae}; correct d_sae.")
    return z


def _dense(calls: Calls, z: Tensor | SparseCodes, d_sae: int | None) -> Tensor:
    if isinstance(z, Tensor):
        return z
    if d_sae is None:
        raise SAELoadError(
            f"{calls.name}: encode returned sparse codes, which do not tell how many latents there are; give d_sae=."
        )
    full = z.values.new_zeros(*z.values.shape[:-1], d_sae)
    if z.indices.numel() and not 0 <= int(z.indices.min()) <= int(z.indices.max()) < d_sae:
        raise SAELoadError(f"{calls.name}: encode returned indices of latents that are not below d_sae={d_sae}.")
    return full.scatter_add_(-1, z.indices, z.values)


def _shaped(tensor: Tensor, flat: bool, *, position_wise: bool = False) -> Tensor:
    """Return ``[tokens, width]`` or ``[sequences, positions, width]``; a position-wise SAE gets sequences of one."""
    width = tensor.shape[-1]
    if flat:
        return tensor.reshape(-1, width)
    return tensor.reshape(-1, 1, width) if position_wise else tensor


def _finite(calls: Calls, method: str, output: Tensor) -> None:
    if not bool(torch.isfinite(output).all()):
        bad = int((~torch.isfinite(output)).sum())
        raise SAELoadError(
            f"{calls.name}: {method} gave NaN or Inf in {bad} of {output.numel()} values for finite inputs; look for "
            "damaged weights, and for divisions and exponentials in its code."
        )


def _agree(a: Tensor, b: Tensor, calls: Calls) -> bool:
    """Whether latents are equal, up to rounding and the few latents that it switches on or off."""
    active = (a != 0) | (b != 0)
    size = torch.maximum(a.abs(), b.abs()).amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    differs = ((a - b).abs() > 10 * tolerance(calls) * size) & active
    return int(differs.sum()) <= _FLIPS * int(active.sum())


def _linearity(calls: Calls, form: Form, x: Tensor, z: Tensor) -> set[Capability]:
    """Return LINEAR_DECODER if ``decode(z, x) - decode(0, x)`` adds up and scales, for codes of both signs."""
    draw = generator(0, "object: codes")
    size = z.abs().amax(-1, keepdim=True).clamp(min=1)
    a, b = (torch.randn(z.shape, generator=draw) * size for _ in range(2))
    try:
        constant = decode(calls, form, torch.zeros_like(z), x)
        of = {what: decode(calls, form, codes, x) - constant for what, codes in _combinations(a, b, z).items()}
    except SAELoadError:  # it takes only codes of its own encoder
        return set()
    expected = {"a+b": of["a"] + of["b"], "-3a": -3 * of["a"], "z+a": of["z"] + of["a"], "z/8": of["z"] / 8}
    largest = torch.stack([value.abs().amax(-1) for value in (*of.values(), constant)]).amax(0)
    gaps = [(of[what] - value).abs().amax(-1) for what, value in expected.items()]
    size = largest.clamp(min=torch.finfo(torch.float32).tiny)
    linear = all(bool((gap <= tolerance(calls) * size).all()) for gap in gaps)
    return {Capability.LINEAR_DECODER} if linear else set()


def _combinations(a: Tensor, b: Tensor, z: Tensor) -> dict[str, Tensor]:
    return {"a": a, "b": b, "z": z, "a+b": a + b, "-3a": -3 * a, "z+a": z + a, "z/8": z / 8}


def decoder_rows(calls: Calls, form: Form) -> Tensor:
    """Return the decoder's rows ``[d_sae, d_out]``: a matrix of the object that is right, else decoded one by one."""
    for matrix in calls.state.matrices(form.d_sae, form.d_out):
        if rows_are_right(calls, form, matrix):
            return matrix
    return torch.cat(list(_decoded_rows(calls, form)))


def rows_are_right(calls: Calls, form: Form, rows: Tensor) -> bool:
    """Whether ``decode(z) - decode(0)`` is ``z @ rows`` for random codes."""
    if tuple(rows.shape) != (form.d_sae, form.d_out):
        return False
    x = probes(form.d_in)[:1]
    codes = torch.randn(*x.shape[:-1], form.d_sae, generator=generator(0, "object: rows"))
    constant = decode(calls, form, torch.zeros_like(codes), x)
    decoded = decode(calls, form, codes, x)
    gap = (decoded - constant - (codes.to(rows.device) @ rows).cpu()).abs().amax(-1)
    size = torch.cat([decoded, constant], -1).abs().amax(-1)
    return bool((gap <= tolerance(calls) * size).all())


def _decoded_rows(calls: Calls, form: Form) -> Iterator[Tensor]:
    step = max(1, _BLOCK // form.d_sae)
    x = torch.zeros(1, form.d_in)
    constant = decode(calls, form, torch.zeros(1, form.d_sae), x)
    for start in range(0, form.d_sae, step):
        rows = range(start, min(start + step, form.d_sae))
        codes = torch.zeros(len(rows), form.d_sae)
        codes[range(len(rows)), list(rows)] = 1
        yield decode(calls, form, codes, x.expand(len(rows), -1)) - constant


def encoder_rows(calls: Calls, form: Form) -> Tensor | None:
    """Return the direction ``[d_sae, d_in]`` that each latent reads: a matrix of the object that is right, if any.

    It is right if active latents change by ``(x' - x) @ rows.T`` between two inputs at which they are active.
    """
    if Capability.POSITION_WISE not in form.capabilities:
        return None
    x = probes(form.d_in)
    noise = torch.randn(x.shape, generator=generator(0, "object: encoder"))
    moved = x + 0.2 * x.std(-1, keepdim=True) * noise
    before, after = encode(calls, form, x), encode(calls, form, moved)
    both = (before != 0) & (after != 0)
    for rows in calls.state.matrices(form.d_sae, form.d_in) if bool(both.any()) else ():
        expected = ((moved - x).to(rows.device) @ rows.T).cpu()
        size = torch.cat([before, after, expected], -1).abs().amax(-1, keepdim=True)
        gaps = (after - before - expected).abs() * both
        if bool((gaps <= 10 * tolerance(calls) * size).all()):
            return rows
    return None


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
