"""How the references and texts that lm-eval is called with become models, SAEs and interventions."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saebench.errors import UsageError
from saebench.lm.facts import Facts
from saebench.lm.folder import check_folder
from saebench.lm.foreign import loading
from saebench.lm.model import LanguageModel
from saebench.lm.reference import LMRef
from saebench.sae.base import LoadContext
from saebench.sae.protocol import SAE
from saebench.sae.reference import load_sae
from saebench.sae.trained_on import differences, trained_on

if TYPE_CHECKING:
    from saebench.interventions.base import Intervention

_SPLICE = "zero:latents=;error=dropped"  # no latent is changed and the error is dropped, so the reconstruction remains


def source_of(ref: LMRef, trusted: bool = False) -> dict[str, Any]:
    """Return the arguments with which lm-eval's ``hf`` loads a model, after a check of a local folder.

    Args:
        ref: The reference of the model.
        trusted: Whether the user allows code that comes with the model to run.

    Raises:
        AssetError: Its asset is missing or damaged.
        ModelError: Its folder cannot be read without harm.
    """
    if ref.scheme == "asset":
        from saebench.data import assets

        return {"pretrained": str(assets.path(ref.name))}
    if ref.scheme == "path":
        from transformers import AutoConfig

        check_folder(Path(ref.name), str(ref))
        with loading(str(ref), trusted=trusted):
            AutoConfig.from_pretrained(ref.name, trust_remote_code=trusted)
    return {"pretrained": ref.name} | ({"revision": ref.revision} if ref.revision else {})


def resolve_sae(sae: str | SAE | None, lm: LanguageModel) -> SAE | None:
    """Return the SAE, loaded onto the device of ``lm`` if ``sae`` is a reference.

    Raises:
        UsageError: The reference is wrong.
        SAELoadError: The SAE cannot be loaded.
        HookMismatchError: The SAE does not fit the language model.
    """
    if not isinstance(sae, str):
        return sae
    facts = Facts(lm)
    loaded = load_sae(sae, LoadContext(d_in=lm.d_at, device=lm.device, model=facts))
    for difference in differences(trained_on(loaded), sae, (loaded.hook.site_in, loaded.hook.site_out), facts):
        warnings.warn(difference, stacklevel=2)
    return loaded


def resolve_intervention(spec: str | Intervention | None, sae: SAE | None, lm: LanguageModel) -> Intervention | None:
    """Return the intervention that ``spec`` describes, or None if nothing is changed.

    Args:
        spec: An intervention or the text form of one. None stands for a splice if there is an SAE.
        sae: The SAE, if there is one.
        lm: The language model.

    Raises:
        UsageError: The text cannot be read, or there is no SAE.
        HookMismatchError: The language model does not have the intervention's hook.
    """
    if spec is None:
        spec = "none" if sae is None else "splice"
    if spec == "none":
        return None
    if isinstance(spec, str):
        from saebench.interventions import parse_intervention

        if sae is None:
            raise UsageError(f"intervention={spec} acts through an SAE; name one with sae=REF.")
        spec = parse_intervention(_SPLICE if spec == "splice" else spec, sae)
    lm.site(spec.site)
    return spec
