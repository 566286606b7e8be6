"""References to SAEs: ``SCHEME:BODY``, or ``SCHEME:BODY?key=value&key=value``.

=============  ==============================================================  =================================
scheme         body                                                            options
=============  ==============================================================  =================================
``zoo``        a name that ``saebench saes`` lists
``sae_lens``   a SAELens folder; ``RELEASE/ID``, or ``ORG/REPO/FOLDER``, on    hook, hook_out,
               the Hugging Face hub                                            norm_scaling_factor
``baseline``   ``pca``                                                         hook, k
..             ``neurons``                                                     hook
..             ``random``                                                      hook, l0, d_sae, seed
..             ``permuted-decoder(REF)``                                       seed
``python``     ``pkg.module:factory`` or ``path/to/file.py:factory``           any; the factory receives them
=============  ==============================================================  =================================

Installed packages may add schemes (`saebench.sae.registry`); ``saebench saes`` lists all. Option values may be
percent-encoded. Parsing imports no heavy library and loads no SAE, so that a bad reference is refused at once.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import unquote

from saebench.errors import UsageError, did_you_mean
from saebench.files import text_or_raise
from saebench.sae.hook import HookSite
from saebench.sae.options import SITE
from saebench.sae.ref import Reference
from saebench.sae.registry import scheme_registry
from saebench.sae.scheme import Scheme

if TYPE_CHECKING:
    from saebench.sae.base import LoadContext
    from saebench.sae.protocol import SAE

MAX_NESTED = 8  # references inside each other
_NESTED = re.compile(r"([^()]+)\((.+)\)", re.DOTALL)


class SAERef(Reference):
    """A parsed reference, which asks its scheme."""

    @cached_property
    def inner(self) -> SAERef | None:
        inside = _inside(self._scheme, self.body)
        return None if inside is None else parse_sae_ref(inside)

    @property
    def control(self) -> str | None:
        return self._scheme.control(self)

    @property
    def derived(self) -> bool:
        return self._scheme.derived(self)

    @property
    def fitted(self) -> bool:
        return self._scheme.fitted(self)

    @property
    def hook_for_controls(self) -> str | None:
        return self._scheme.hook_for_controls(self)

    @property
    def width(self) -> int | None:
        return self._scheme.width(self)

    @property
    def named_sites(self) -> tuple[str, ...]:
        """The hook points that the options name, also those of the reference inside."""
        sites = {name for form in self._scheme.forms for name, option in form.options.items() if option is SITE}
        named = tuple(value for key, value in self.options if key in sites)
        return named + self.inner.named_sites if self.inner else named

    @property
    def runs_code(self) -> bool:
        """Whether the reference, or the one inside, names code that loading runs."""
        return self._scheme.runs_code or (self.inner is not None and self.inner.runs_code)

    @property
    def remote(self) -> bool:
        """Whether loading, or that of the reference inside, needs the network."""
        return self.inner.remote if self.inner is not None else self._scheme.remote(self)

    def prefetch(self) -> str:
        """Fetch what loading needs from the network and return what it was. Raises SAELoadError."""
        return self.inner.prefetch() if self.inner is not None else self._scheme.prefetch(self)

    def site(self, default: str | None) -> HookSite | None:
        return self._scheme.site(self, default)

    def load(self, context: LoadContext) -> SAE:
        from saebench.sae.base import check_fits

        sae = self._scheme.load(self, context)
        if context.d_in is not None:
            check_fits(sae, context.d_in)
        return sae.to(context.device)

    @property
    def _scheme(self) -> Scheme:
        return scheme_registry().get(self.scheme)


def parse_sae_ref(text: str) -> SAERef:
    """Parse a reference and check everything that can be known without loading weights or models.

    Raises:
        UsageError: The scheme, the name, the release or an option does not exist, the scheme is broken, the value of an
            option is impossible, or references are nested more than ``MAX_NESTED`` deep.
    """
    text_or_raise(text, "SAE reference")
    return _parse(text, 0)


def _parse(text: str, depth: int) -> SAERef:
    """Parse a reference that is inside ``depth`` others."""
    name, colon, rest = text.partition(":")
    registry = scheme_registry()
    if not colon or name not in registry.names():
        from saebench.sae.suggest import about_sae

        if suggestion := about_sae(text):
            raise UsageError(f"SAE reference {text!r} names no scheme. {suggestion}")
        # Objects have a scheme of their own, but only a Python program can name them.
        known = ", ".join(f"{scheme}:" for scheme in registry.names() if scheme != "object")
        raise UsageError(
            f"SAE reference {text!r} must begin with one of {known}.{did_you_mean(name, registry.names())}"
        )
    if depth > MAX_NESTED:
        raise UsageError(f"An SAE reference holds more than {MAX_NESTED} references inside each other.")
    scheme = registry.get(name)
    # Options stand after the closing parenthesis of a nested reference, which may have options of its own.
    nested = scheme.wrappers and "(" in rest.partition("?")[0]
    mark = rest.find("?", rest.rfind(")") + 1 if nested else 0)
    body, query = (rest, "") if mark < 0 else (rest[:mark], rest[mark + 1 :])
    if not body:
        raise UsageError(f"SAE reference {text!r} names nothing after {name}:.")
    options = _parse_query(query, text)
    if (inside := _inside(scheme, body)) is None:
        ref = SAERef(name, body, options)
    else:
        inner = _parse(inside, depth + 1)
        ref = SAERef(name, f"{body.partition('(')[0]}({inner})", options)
        vars(ref)["inner"] = inner  # so that nothing parses it again
    scheme.validate(ref)
    return ref


def _inside(scheme: Scheme, body: str) -> str | None:
    """Return the reference in a body such as ``permuted-decoder(REF)``; None if the scheme has no such body."""
    nested = _NESTED.fullmatch(body)
    return nested[2] if nested and nested[1] in scheme.wrappers else None


def load_sae(ref: str | SAERef, context: LoadContext) -> SAE:
    """Load an SAE on ``context.device`` and check it against the language model, if the context has one.

    Args:
        ref: A reference, parsed or as text.
        context: What loading may need beside the reference.

    Raises:
        UsageError: The reference is wrong, as in `parse_sae_ref`.
        SAELoadError: The SAE cannot be loaded.
        HookMismatchError: The language model lacks the SAE's hook points, or has another width there.
    """
    return (parse_sae_ref(ref) if isinstance(ref, str) else ref).load(context)


def _parse_query(query: str, text: str) -> tuple[tuple[str, str], ...]:
    options: dict[str, str] = {}
    for part in query.split("&") if query else ():
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise UsageError(f"SAE reference {text!r}: {part!r} must read key=value.")
        if unquote(key) in options:
            raise UsageError(f"SAE reference {text!r} gives {unquote(key)!r} twice.")
        options[unquote(key)] = unquote(value)
    return tuple(sorted(options.items()))
