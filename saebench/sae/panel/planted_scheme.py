"""The scheme ``planted-panel:``, whose SAEs are made for the planted language model of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saebench.errors import SAELoadError
from saebench.sae.hook import HookSite
from saebench.sae.options import COUNT, POSITIVE, POSITIVE_INT
from saebench.sae.panel.kinds import KindsScheme
from saebench.sae.panel.scheme import SHARE
from saebench.sae.scheme import Form

if TYPE_CHECKING:
    from saebench.sae.base import LoadContext
    from saebench.sae.protocol import SAE
    from saebench.sae.ref import Reference

_NAME = "planted-panel"
_SITE = "blocks.0.hook_resid_post"  # that of `saebench.synthetic.planted.truth`, which imports torch
_SEED = {"seed": COUNT}
_KNOWN = {"noise": POSITIVE, **_SEED}  # of kinds that are made of the known directions
_TRAINING = {"steps": POSITIVE_INT, "lr": POSITIVE, **_SEED}
_FORMS = (
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
# What is made of the known features, the best first; and with it what is trained or drawn.
KNOWN_FEATURES = (
    *(f"{_NAME}:{kind}" for kind in ("oracle", "split", "absorbed", "merged", "rotated", "missing")),
    *(f"{_NAME}:oracle?noise={noise}" for noise in ("0.3", "1", "3")),
)
PLANTED_PANEL = (
    *(*KNOWN_FEATURES, *(f"{_NAME}:trained?steps={steps}" for steps in (3000, 300, 30))),
    *(f"{_NAME}:frozen?steps=300", f"{_NAME}:random", f"baseline:permuted-decoder({_NAME}:oracle)"),
)


class PlantedPanelScheme(KindsScheme):
    """``planted-panel:oracle`` and its distortions, trained SAEs, and controls."""

    name = _NAME
    forms = _FORMS

    def load(self, ref: Reference, context: LoadContext) -> SAE:
        from saebench.sae.panel.planted import make_planted

        if context.model is None:
            raise SAELoadError(f"{ref} is made for a planted language model; name its folder with --model.")
        return make_planted(ref.body, context.model.name, name=str(ref), **self.options(ref, context))

    def site(self, ref: Reference, default: str | None) -> HookSite | None:
        return HookSite.at(_SITE)

    def hook_for_controls(self, ref: Reference) -> str | None:
        return _SITE
