"""Adapters of objects that a Python program holds: ``wrap``, and what a run makes of an object.

The object itself is never changed: see `saebench.sae.object_calls`.
"""

from __future__ import annotations

import copy
import hashlib
import sys
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from saebench.errors import SAELoadError, UsageError
from saebench.files import is_text
from saebench.sae.base import BaseAdapter, LoadContext
from saebench.sae.behaviour import behaviour, cover_behaviour, undrawn
from saebench.sae.object_calls import Calls
from saebench.sae.object_probe import (
    decode,
    decoder_rows,
    encode,
    encoder_rows,
    find_form,
    probes,
    rows_are_right,
)
from saebench.sae.object_state import digests, state_of
from saebench.sae.objects import hook_of, own_hook, own_number
from saebench.sae.protocol import REQUIRED_MEMBERS, SAE, Capability, HookSite, SparseCodes
from saebench.sae.trained_on import trained_on


def wrap(
    encode: Callable[..., Any],
    decode: Callable[..., Any],
    *,
    hook: str | HookSite,
    d_in: int,
    d_sae: int | None = None,
    name: str = "wrapped",
    W_dec: Tensor | None = None,
) -> WrappedSAE:
    """Return a full SAE, as `saebench.run` takes it, of two functions. They are called to find out what they can do.

    Args:
        encode: Returns the latents ``[tokens, d_sae]`` of activations ``x[tokens, d_in]``. One that needs whole
            sequences ``[batch, position, d_in]`` is given these if it refuses tokens.
        decode: Returns the reconstruction ``[tokens, d_out]`` of latents. If it has a second parameter ``x``, it gets
            the encoder's input.
        hook: Where the SAE reads and writes, such as ``"blocks.9.hook_resid_post"``; ``"SITE->SITE"`` for a transcoder.
        d_in: The width of what it reads.
        d_sae: The number of latents; by default what ``encode`` returns tells it.
        name: Its name in tables.
        W_dec: The decoder's rows ``[d_sae, d_out]``, if they are at hand. Otherwise they are decoded one by one where
            a task needs them and the decoder proves linear.

    Raises:
        UsageError: An argument is not what it must be.
        SAELoadError: A function fails or gives something else, or ``W_dec`` is not what ``decode`` does.
    """
    for what, function in (("encode", encode), ("decode", decode)):
        if not callable(function):
            raise UsageError(f"saebench.wrap: {what} must be a function, not a {type(function).__name__}.")
    for what, number in (("d_in", d_in), ("d_sae", d_sae)):
        if number is not None and (type(number) is not int or number < 1):
            raise UsageError(f"saebench.wrap: {what} must be a whole number above 0, not {number!r}.")
    site = hook_of(hook, "saebench.wrap")
    return WrappedSAE(encode, decode, hook=site, d_in=d_in, d_sae=d_sae, name=name, rows=W_dec)


class ObjectSAE(BaseAdapter):
    """An adapter that leaves its object where it is, as it is, and asks it anew for everything until it is frozen."""

    def __init__(self, roots: dict[str, Any], calls: Calls, **facts: Any) -> None:
        """Begin with what decides the object's behaviour (``roots``), its functions, and the facts of an adapter."""
        super().__init__(name=calls.name, **facts)
        self._roots, self._calls = roots, calls
        self._device = torch.device("cpu")
        self._frozen: str | None = None
        self._kept: dict[str, Tensor] = {}

    def frozen(self) -> Self:
        """Return self; from now on the object is taken to stay as it is, so that its fingerprint is computed once."""
        self._frozen = self.fingerprint()
        return self

    def fingerprint(self) -> str:
        """Return a hex digest of the object's weights, settings and code, and of what it does."""
        return self._frozen or _digest(self, self._roots)

    def to(self, device: torch.device | str) -> Self:  # type: ignore[override]
        """Return self. The object stays where it is; inputs and results are moved."""
        self._device = torch.device(device)
        return self

    def notes(self) -> dict[str, object]:
        return {**super().notes(), "object": self._kind()}

    @abstractmethod
    def _kind(self) -> str:
        """What kind of object it is."""

    def _directions(self, which: str, make: Callable[[], Tensor]) -> Tensor:
        rows = self._kept.get(which)
        rows = (make() if rows is None else rows).detach().to(self._device, torch.float32)
        if self._frozen:
            self._kept[which] = rows
        return rows


class WrappedSAE(ObjectSAE):
    """An SAE of two functions. It has the capabilities that are found by calling them."""

    def __init__(
        self,
        encode: Callable[..., Any],
        decode: Callable[..., Any],
        *,
        hook: HookSite,
        d_in: int,
        name: str,
        d_sae: int | None = None,
        rows: Tensor | None = None,
        source: object = None,
    ) -> None:
        """Call the functions and find out what they can do.

        Args:
            encode: See `wrap`.
            decode: See `wrap`.
            hook: Where it reads and writes.
            d_in: The width of what it reads.
            name: The reference.
            d_sae: The number of latents, if it is known.
            rows: The decoder's rows, if they are known.
            source: The object that the functions belong to.
        """
        roots: dict[str, Any] = {"encode": encode, "decode": decode, "rows": rows, "source": source}
        calls = Calls(name, encode, decode, state_of(**roots))
        with undrawn():
            form = find_form(calls, d_in, d_sae, hook.crosses)
            found = set(form.capabilities)
            if encoder_rows(calls, form) is not None:
                found.add(Capability.ENCODER_DIRECTIONS)
            if rows is not None and not (Capability.LINEAR_DECODER in found and rows_are_right(calls, form, rows)):
                raise SAELoadError(_wrong_rows(name, rows, form.d_sae, form.d_out, Capability.LINEAR_DECODER in found))
        super().__init__(
            roots,
            calls,
            architecture="wrapped" if source is None else type(source).__name__,
            hook=hook,
            d_in=form.d_in,
            d_sae=form.d_sae,
            d_out=form.d_out,
            capabilities=frozenset(found),
            model_name=_text(getattr(source, "model_name", None)),
        )
        self._form, self._made = form, {**roots, "hook": hook, "d_in": d_in, "d_sae": d_sae}

    def renewed(self, name: str) -> WrappedSAE:
        """Return an adapter of the same functions, which are asked again, because their weights may have changed."""
        return WrappedSAE(**self._made, name=name)

    def encode(self, x: Tensor) -> Tensor:
        return encode(self._calls, self._form, x)

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return decode(self._calls, self._form, z, x)

    def decoder_directions(self) -> Tensor:
        if Capability.LINEAR_DECODER not in self.capabilities:
            return super().decoder_directions()
        return self._directions("decoder", lambda: decoder_rows(self._calls, self._form))

    def encoder_directions(self) -> Tensor:
        if Capability.ENCODER_DIRECTIONS not in self.capabilities:
            return super().encoder_directions()
        return self._directions("encoder", self._encoder)

    def _encoder(self) -> Tensor:
        if (rows := encoder_rows(self._calls, self._form)) is None:
            raise SAELoadError(f"{self.name}: its encoder does not read the directions any more that it read before.")
        return rows

    def _kind(self) -> str:
        source = self._made["source"]
        return "two functions" if source is None else _kind_of(source)


class DeclaredSAE(ObjectSAE):
    """An object that fulfils the protocol, as a subclass of `BaseAdapter` does. It has what it declares."""

    def __init__(self, found: SAE, *, hook: HookSite, name: str) -> None:
        """Adapt ``found``, which reads and writes at ``hook``."""
        roots: dict[str, Any] = {"sae": found}
        super().__init__(
            roots,
            Calls(name, found.encode, found.decode, state_of(**roots)),
            architecture=found.architecture,
            hook=hook,
            d_in=found.d_in,
            d_sae=found.d_sae,
            d_out=found.d_out,
            capabilities=frozenset(found.capabilities),
            model_name=found.model_name,
        )
        self.control = getattr(found, "control", False)
        self.trained_on = trained_on(found)
        self._made = {"found": found}

    def encode(self, x: Tensor) -> Tensor:
        z = self._calls.encode(x)
        return z if isinstance(z, Tensor) else _not_dense(self.name)

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return self._calls.decode(z, x)

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        return self._calls.sparse(self._made["found"].encode_sparse, x)

    def decoder_directions(self) -> Tensor:
        return self._directions("decoder", self._made["found"].decoder_directions)

    def encoder_directions(self) -> Tensor:
        return self._directions("encoder", self._made["found"].encoder_directions)

    def notes(self) -> dict[str, object]:
        found = self._made["found"]
        return {**(found.notes() if isinstance(found, BaseAdapter) else {}), **super().notes()}

    def _kind(self) -> str:
        return _kind_of(self._made["found"])


def adapt_object(found: Any, name: str, context: LoadContext) -> SAE:
    """Return the adapter of an object.

    Args:
        found: An object with ``encode`` and ``decode``.
        name: The reference.
        context: The hook point for an object that names none, and the language model, whose width counts for an object
            that does not tell its own.

    Raises:
        SAELoadError: The object fails, gives something else than latents and reconstructions, or names no hook.
    """
    default = context.named_hook
    if _is_of_sae_lens(found):
        return _of_sae_lens(found, name, default)
    if isinstance(found, WrappedSAE):
        return found.renewed(name).frozen()
    hook = own_hook(found, name) or (HookSite.at(default) if default else None)
    if hook is None:
        raise SAELoadError(
            f"{name} names no hook point; give it as saebench.run(..., hook='blocks.9.hook_resid_post')."
        )
    if all(hasattr(found, member) for member in REQUIRED_MEMBERS):
        return DeclaredSAE(found, hook=hook, name=name).frozen()
    d_in = own_number(found, "d_in") or (sum(map(context.d_in, hook.sites_in)) if context.d_in else None)
    if d_in is None:
        raise SAELoadError(f"{name} does not tell how wide its input is; give it an attribute d_in.")
    d_sae = own_number(found, "d_sae")
    return WrappedSAE(found.encode, found.decode, hook=hook, d_in=d_in, d_sae=d_sae, name=name, source=found).frozen()


def _is_of_sae_lens(found: object) -> bool:
    """Whether an object is an SAE of SAELens for inference; one for training is an object like any other."""
    if "sae_lens" not in sys.modules:  # an instance of it cannot exist before its import
        return False
    from sae_lens import SAE as LensSAE
    from sae_lens import TrainingSAE

    return isinstance(found, LensSAE) and not isinstance(found, TrainingSAE)


def _of_sae_lens(found: Any, name: str, default: str | None) -> SAE:
    from saebench.sae.sae_lens_adapter import SAELensAdapter

    hook = None if own_hook(found, name) else default
    adapted = SAELensAdapter(copy.deepcopy(found), name, hook=hook)  # it changes what it adapts
    cover_behaviour(adapted, name)
    return adapted


def _digest(sae: ObjectSAE, roots: dict[str, Any]) -> str:
    """Return a digest of what the object does, and of all its values that calling it leaves as they are."""
    device = sae._device
    own = roots.get("sae")
    with undrawn():
        x = probes(sae.d_in)
        sae.decode(sae.encode(x), x)  # fills what the object may keep from call to call
        before = digests(state_of(**roots))
        digest = hashlib.sha256(behaviour(sae, f"object {sae.d_in}").encode())
        after = digests(state_of(**roots))
    sae.to(device)
    for path in sorted(before):
        if after.get(path) == before[path]:
            digest.update(f"|{path}={before[path]}".encode("utf-8", "surrogatepass"))
    # What `BaseAdapter` keeps may be older than the weights, and says nothing more.
    if own is not None and type(own).fingerprint is not BaseAdapter.fingerprint:
        digest.update(f"|{_said(own)}".encode())
    return digest.hexdigest()


def _said(own: Any) -> str:
    """The fingerprint that an object gives itself, if it is a text and stays the same."""
    said = own.fingerprint()
    return said if isinstance(said, str) and is_text(said) and said == own.fingerprint() else ""


def _not_dense(name: str) -> Tensor:
    raise SAELoadError(f"{name}: encode returned sparse codes; return the latents [tokens, d_sae] as one tensor.")


def _wrong_rows(name: str, rows: Tensor, d_sae: int, d_out: int, linear: bool) -> str:
    if not isinstance(rows, Tensor) or tuple(rows.shape) != (d_sae, d_out):
        shape = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
        return f"{name}: W_dec must be a tensor of shape {(d_sae, d_out)}, one row for each latent, not {shape}."
    if not linear:
        return f"{name}: decode is not linear in the latents, so it has no W_dec; leave W_dec out, or correct decode."
    return f"{name}: decode(z) - decode(0) is not z @ W_dec; leave W_dec out, or give the matrix that decode uses."


def _kind_of(found: object) -> str:
    kind = type(found)
    return f"{kind.__module__}.{kind.__qualname__}"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
