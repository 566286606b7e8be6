"""The scheme ``synthetic-panel:``, whose SAEs are made for the synthetic model of the run when they are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saebench.errors import SAELoadError
from saebench.sae.hook import HookSite
from saebench.sae.options import COUNT, POSITIVE, POSITIVE_INT, Option
from saebench.sae.panel.kinds import KindsScheme
from saebench.sae.scheme import Form
from saebench.synthetic.reference import HOOK

if TYPE_CHECKING:
    from saebench.sae.base import LoadContext
    from saebench.sae.protocol import SAE
    from saebench.sae.ref import Reference

_NAME = "synthetic-panel"


def _architecture(text: str) -> str:
    if text not in ("topk", "relu"):
        raise ValueError
    return text


def _share(text: str) -> float:
    if not (text.isascii() and 0 < (value := float(text)) <= 1):
        raise ValueError
    return value


SHARE = Option("a share above 0 and up to 1", _share)
_ARCHITECTURE = Option("topk or relu", _architecture)
_TRAINING = {"steps": POSITIVE_INT, "latents": POSITIVE_INT, "lr": POSITIVE, "seed": COUNT}
_TOPK_OR_RELU = {"architecture": _ARCHITECTURE, "k": POSITIVE_INT, "l1": POSITIVE}
_FORMS = (
    Form("oracle", "a latent for each true feature, with the best threshold", {"seed": COUNT}),
    Form("noisy", "the oracle with noise on its directions", {"noise": POSITIVE, "seed": COUNT}),
    Form("merged", "the oracle with pairs of features in one latent", {"share": SHARE, "seed": COUNT}),
    Form("split", "the oracle with two latents for weak and strong firing of a feature", {"seed": COUNT}),
    Form("absorbed", "the oracle whose latents fall silent where a child fires", {"share": SHARE, "seed": COUNT}),
    Form("rotated", "the oracle, rotated inside groups of features", {"size": POSITIVE_INT, "seed": COUNT}),
    Form("trained", "an SAE that is trained on the model", {**_TOPK_OR_RELU, **_TRAINING}),
    Form("frozen", "a trained SAE whose decoder stays random", {**_TOPK_OR_RELU, **_TRAINING}, control=True),
    Form(
        "random",
        "random directions at the true L0",
        {"latents": POSITIVE_INT, "seed": COUNT},
        control=True,
    ),
)
# From perfect to worthless, as far as one order tells it. A run on a synthetic model takes them by default.
PANEL = (
    *(f"{_NAME}:oracle", f"{_NAME}:split", f"{_NAME}:absorbed", f"{_NAME}:merged", f"{_NAME}:rotated"),
    *(f"{_NAME}:noisy?noise={noise}" for noise in ("0.3", "1", "3")),
    *(f"{_NAME}:trained?architecture=topk", f"{_NAME}:trained?architecture=relu"),
    *(f"{_NAME}:trained?steps=30", f"{_NAME}:frozen", f"{_NAME}:random"),
    *(f"baseline:permuted-decoder({_NAME}:oracle)", "baseline:neurons"),
)


class PanelScheme(KindsScheme):
    """``synthetic-panel:oracle`` and its distortions, trained SAEs, and controls."""

    name = _NAME
    forms = _FORMS

    def load(self, ref: Reference, context: LoadContext) -> SAE:
        from saebench.sae.panel.make import make

        if context.synthetic is None:
            raise SAELoadError(f"{ref} is made for a synthetic model; name one with --model, such as synthetic:small.")
        return make(ref.body, context.synthetic, name=str(ref), **self.options(ref, context))

    def site(self, ref: Reference, default: str | None) -> HookSite:
        return HookSite.at(HOOK)

    def derived(self, ref: Reference) -> bool:
        return True
