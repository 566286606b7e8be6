"""The scheme ``baseline:``, whose SAEs are the controls of `saebench.sae.baselines`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saebench.errors import SAELoadError, UsageError, did_you_mean
from saebench.sae.hook import HookSite
from saebench.sae.options import COUNT, POSITIVE, POSITIVE_INT, SITE, read_options
from saebench.sae.scheme import Form, Scheme

if TYPE_CHECKING:
    from torch import Tensor

    from saebench.sae.base import LoadContext
    from saebench.sae.protocol import SAE
    from saebench.sae.ref import Reference

_PERMUTED = "permuted-decoder"
_KINDS = {
    "pca": Form(
        "pca",
        "the leading principal components of the activations",
        {"hook": SITE, "k": POSITIVE_INT},
        control=True,
    ),
    "neurons": Form(
        "neurons",
        "the activations themselves: perfect reconstruction, no sparsity",
        {"hook": SITE},
        control=True,
    ),
    "random": Form(
        "random",
        "random unit directions, with a threshold that gives the wanted L0",
        {"hook": SITE, "l0": POSITIVE, "d_sae": POSITIVE_INT, "seed": COUNT},
        control=True,
    ),
    _PERMUTED: Form(
        f"{_PERMUTED}(REF)",
        "an SAE whose decoder rows are shuffled: the encoder is intact, the decoder is not",
        {"seed": COUNT},
        control=True,
    ),
}


class BaselineScheme(Scheme):
    """``baseline:pca``, ``baseline:neurons``, ``baseline:random`` and ``baseline:permuted-decoder(REF)``."""

    name = "baseline"
    forms = tuple(_KINDS.values())
    wrappers = frozenset({_PERMUTED})

    def validate(self, ref: Reference) -> None:
        kind = self.control(ref)
        if kind not in _KINDS or (kind == _PERMUTED and not ref.inner):
            raise UsageError(
                f"There is no baseline:{ref.body}.{did_you_mean(ref.body.partition('(')[0], _KINDS)} "
                "Known are pca, neurons, random and permuted-decoder(REF)."
            )
        read_options(ref, _KINDS[kind].options)

    def load(self, ref: Reference, context: LoadContext) -> SAE:
        from saebench.sae import baselines

        name = str(ref)
        options = read_options(ref, _KINDS[self.control(ref)].options)
        if inner := ref.inner:
            seed = options.get("seed", context.seed)
            return baselines.PermutedDecoderBaseline(inner.load(context), name=name, seed=seed)
        hook = one_site(name, options.pop("hook", None), context)
        if ref.body == "neurons":
            if context.d_in is None:
                raise SAELoadError(f"{name} takes its width from a language model; name one with --model.")
            return baselines.NeuronBaseline(context.d_in(hook.site_in), name=name, hook=hook)
        activations = fitting_activations(name, hook, context)
        if ref.body == "pca":
            return baselines.PCABaseline(activations, name=name, hook=hook, **options)
        return baselines.RandomBaseline(activations, name=name, hook=hook, **{"seed": context.seed, **options})

    def site(self, ref: Reference, default: str | None) -> HookSite | None:
        if inner := ref.inner:
            return inner.site(default)
        site = dict(ref.options).get("hook") or default
        return HookSite.at(site) if site else None

    def width(self, ref: Reference) -> int | None:
        return ref.inner.width if ref.inner else None

    def control(self, ref: Reference) -> str:
        return _PERMUTED if ref.inner else ref.body

    def derived(self, ref: Reference) -> bool:
        return ref.inner is None or ref.inner.scheme == self.name

    def fitted(self, ref: Reference) -> bool:
        return ref.inner.fitted if ref.inner else ref.body in ("pca", "random")


def one_site(name: str, site: str | None, context: LoadContext) -> HookSite:
    """Return the one hook point of a control. Raises SAELoadError where the run's SAEs read and write elsewhere."""
    if site is not None:
        return HookSite.at(site)
    if context.hook is None or context.hook.site_in != context.hook.site_out:
        raise SAELoadError(f"{name} needs one site to read and write; add ?hook=blocks.9.hook_resid_post to it.")
    return context.hook


def fitting_activations(name: str, hook: HookSite, context: LoadContext) -> Tensor:
    """Return the activations that a control is fitted to. Raises SAELoadError without a language model."""
    if context.calibration is None:
        raise SAELoadError(f"{name} is fitted to activations; name a language model and a text to take them from.")
    return context.calibration(hook.site_in)
