"""The scheme ``baseline:``, whose SAEs are the controls of `saebench.sae.baselines`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saebench.errors import UsageError, did_you_mean
from saebench.sae.control_scheme import ControlScheme, fitting_activations, one_site, width_at
from saebench.sae.options import COUNT, POSITIVE, POSITIVE_INT, SITE, read_options
from saebench.sae.scheme import Form

if TYPE_CHECKING:
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


class BaselineScheme(ControlScheme):
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
            return baselines.NeuronBaseline(width_at(name, hook, context), name=name, hook=hook)
        activations = fitting_activations(name, hook, context)
        if ref.body == "pca":
            return baselines.PCABaseline(activations, name=name, hook=hook, **options)
        return baselines.RandomBaseline(activations, name=name, hook=hook, **{"seed": context.seed, **options})

    def derived(self, ref: Reference) -> bool:
        return ref.inner is None or ref.inner.scheme == self.name

    def fitted(self, ref: Reference) -> bool:
        return ref.inner.fitted if ref.inner else ref.body in ("pca", "random")
