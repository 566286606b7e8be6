"""The scheme ``adversary:``, whose SAEs are those of `saebench.sae.adversaries`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saebench.errors import UsageError, did_you_mean
from saebench.sae.control_scheme import ControlScheme, fitting_activations, one_site, width_at
from saebench.sae.options import COUNT, POSITIVE, POSITIVE_INT, SITE, Option, read_options
from saebench.sae.scheme import Form

if TYPE_CHECKING:
    from saebench.sae.base import LoadContext
    from saebench.sae.protocol import SAE
    from saebench.sae.ref import Reference

_AT, _SEED = {"hook": SITE}, {"seed": COUNT}
_WIDE: dict[str, Option] = {**_AT, **_SEED, "d_sae": POSITIVE_INT}
# The body, what it is, its options, and whether it is fitted to activations.
_PLAIN: dict[str, tuple[str, dict[str, Option], bool]] = {
    "identity": ("two latents for each dimension of the model, one for each sign: exact and dense", _AT, False),
    "rotated": ("the same in a random rotation of the basis", {**_AT, **_SEED}, False),
    "always-on": ("random directions, all of which are active on every token, decoded exactly", _WIDE, True),
    "norm": ("one latent, which is the norm of the activation", _AT, True),
    "empty": ("no latent ever fires; the decoder writes the mean activation", _AT, True),
    "memorised": ("remembered tokens, of which the nearest fires alone", _WIDE, True),
}
_WRAPPERS: dict[str, tuple[str, dict[str, Option]]] = {
    "duplicated": ("an SAE with every latent twice: the same function", {}),
    "reordered": ("an SAE with its latents in another order: the same function", _SEED),
    "rescaled": ("an SAE with its latents rescaled and its decoder rows, too: the same function", _SEED),
    "amplified": ("an SAE whose decoder writes 30 times as much", {"factor": POSITIVE}),
    "one-direction": ("an SAE whose latents all write along one random direction", _SEED),
}


class AdversaryScheme(ControlScheme):
    """``adversary:NAME`` and ``adversary:NAME(REF)``."""

    name = "adversary"
    forms = (
        *(Form(kind, text, options, control=True) for kind, (text, options, _) in _PLAIN.items()),
        *(Form(f"{kind}(REF)", text, options, control=True) for kind, (text, options) in _WRAPPERS.items()),
    )
    wrappers = frozenset(_WRAPPERS)

    def validate(self, ref: Reference) -> None:
        kind, known = self.control(ref), [*_PLAIN, *_WRAPPERS]
        if kind not in known or (kind in _WRAPPERS) != (ref.inner is not None):
            wrappers = (f"{name}(REF)" for name in _WRAPPERS)
            raise UsageError(
                f"There is no adversary:{ref.body}.{did_you_mean(ref.body.partition('(')[0], known)} Known are "
                f"{', '.join([*_PLAIN, *wrappers])}."
            )
        read_options(ref, _options(kind))

    def load(self, ref: Reference, context: LoadContext) -> SAE:
        from saebench.sae import adversaries

        name, kind = str(ref), self.control(ref)
        options = read_options(ref, _options(kind))
        seed = options.pop("seed", context.seed)
        if inner := ref.inner:
            sae = inner.load(context)
            if kind == "duplicated":
                return adversaries.duplicated(sae, name=name)
            if kind in ("reordered", "rescaled"):
                return getattr(adversaries, kind)(sae, name=name, seed=seed)
            factor = options.get("factor", adversaries.AMPLIFIED) if kind == "amplified" else None
            return adversaries.BrokenDecoder(sae, name=name, seed=seed, factor=factor)
        hook = one_site(name, options.pop("hook", None), context)
        if kind in ("identity", "rotated"):
            rotation = None if kind == "identity" else seed
            return adversaries.Mirrored(width_at(name, hook, context), name=name, hook=hook, seed=rotation)
        activations = fitting_activations(name, hook, context)
        if kind in ("norm", "empty"):
            return adversaries.Norm(activations, name=name, hook=hook, empty=kind == "empty")
        made = adversaries.AlwaysOn if kind == "always-on" else adversaries.Memorised
        return made(activations, name=name, hook=hook, seed=seed, **options)

    def derived(self, ref: Reference) -> bool:
        return ref.inner is None or ref.inner.derived

    def fitted(self, ref: Reference) -> bool:
        return ref.inner.fitted if ref.inner else _PLAIN.get(ref.body, ("", {}, False))[2]


def _options(kind: str) -> dict[str, Option]:
    return _PLAIN[kind][1] if kind in _PLAIN else _WRAPPERS[kind][1]
