"""The scheme ``planted-panel:``, whose SAEs are made for the planted language model of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saebench.errors import SAELoadError, UsageError, did_you_mean
from saebench.sae.hook import HookSite
from saebench.sae.options import COUNT, POSITIVE, POSITIVE_INT, read_options
from saebench.sae.panel.scheme import SHARE
from saebench.sae.scheme import Form, Scheme

if TYPE_CHECKING:
    from saebench.sae.base import LoadContext
    from saebench.sae.protocol import SAE
    from saebench.sae.ref import Reference

_NAME = "planted-panel"
_SITE = "blocks.0.hook_resid_post"  # that of `saebench.synthetic.planted.truth`, which imports torch
_SEED = {"seed": COUNT}
_KNOWN = {"noise": POSITIVE, **_SEED}  # of kinds that are made of the known directions
_TRAINING = {"steps": POSITIVE_INT, "lr": POSITIVE, **_SEED}
_KINDS = {
    form.body: form
    for form in (
        Form("oracle", "a latent for each true feature, and a search for the sparsest sum", _KNOWN),
        Form("merged", "the oracle with pairs of features in one latent", {"share": SHARE, **_KNOWN}),
        Form("split", "the oracle with two latents for each feature, by context", _KNOWN),
        Form("absorbed", "the oracle whose latents fall silent where a child fires", {"share": SHARE, **_KNOWN}),
        Form("rotated", "the oracle, rotated inside groups of features", {"size": POSITIVE_INT, **_KNOWN}),
        Form("missing", "the oracle without a share of its latents", {"share": SHARE, **_KNOWN}),
        Form("trained", "a TopK SAE that is trained on the model", _TRAINING),
        Form("frozen", "a trained SAE whose decoder stays random", _TRAINING, control=True),
        Form("random", "random directions at the true L0", _SEED, control=True),
    )
}
# From perfect to worthless, as far as one order tells it.
PLANTED_PANEL = (
    *(f"{_NAME}:oracle", f"{_NAME}:split", f"{_NAME}:absorbed", f"{_NAME}:merged", f"{_NAME}:rotated"),
    *(f"{_NAME}:oracle?noise={noise}" for noise in ("0.3", "1", "3")),
    *(f"{_NAME}:missing", *(f"{_NAME}:trained?steps={steps}" for steps in (3000, 300, 30))),
    *(f"{_NAME}:frozen?steps=300", f"{_NAME}:random", f"baseline:permuted-decoder({_NAME}:oracle)"),
)


class PlantedPanelScheme(Scheme):
    """``planted-panel:oracle`` and its distortions, trained SAEs, and controls."""

    name = _NAME
    forms = tuple(_KINDS.values())

    def validate(self, ref: Reference) -> None:
        if ref.body not in _KINDS:
            raise UsageError(
                f"There is no {_NAME}:{ref.body}.{did_you_mean(ref.body, _KINDS)} Known are {', '.join(_KINDS)}."
            )
        read_options(ref, _KINDS[ref.body].options)

    def load(self, ref: Reference, context: LoadContext) -> SAE:
        from saebench.sae.panel.planted import make_planted

        if context.model is None:
            raise SAELoadError(f"{ref} is made for a planted language model; name its folder with --model.")
        options = {"seed": context.seed, **read_options(ref, _KINDS[ref.body].options)}
        return make_planted(ref.body, context.model.name, name=str(ref), **options)

    def site(self, ref: Reference, default: str | None) -> HookSite | None:
        return HookSite.at(_SITE)

    def control(self, ref: Reference) -> str | None:
        return ref.body if ref.body in _KINDS and _KINDS[ref.body].control else None

    def hook_for_controls(self, ref: Reference) -> str | None:
        return _SITE
