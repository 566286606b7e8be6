"""The scheme ``npz:``, which loads SAEs from NumPy files. It imports torch only when it loads one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from saebench.errors import UsageError
from saebench.sae.hook import HookSite
from saebench.sae.options import SITE, read_options
from saebench.sae.scheme import Form, Scheme

if TYPE_CHECKING:
    from saebench.sae.base import LoadContext
    from saebench.sae.protocol import SAE
    from saebench.sae.ref import Reference

_OPTIONS = {"hook": SITE}


class NpzScheme(Scheme):
    """``npz:FILE?hook=SITE``: the arrays W_enc, b_enc, W_dec and b_dec of a ReLU SAE."""

    name = "npz"
    forms = (Form("FILE", "a ReLU SAE in a NumPy file (W_enc, b_enc, W_dec, b_dec)", _OPTIONS),)

    def validate(self, ref: Reference) -> None:
        if "hook" not in read_options(ref, _OPTIONS):
            raise UsageError(f"{ref} names no hook point; add one, as in npz:FILE?hook=blocks.9.hook_resid_post.")
        if not Path(ref.body).is_file():
            raise UsageError(f"{ref}: there is no file {ref.body}.")

    def load(self, ref: Reference, context: LoadContext) -> SAE:
        from saebench_bias.relu import ReLUSAE

        return ReLUSAE.from_file(Path(ref.body), name=str(ref), hook=HookSite.at(dict(ref.options)["hook"]))

    def site(self, ref: Reference, default: str | None) -> HookSite | None:
        return HookSite.at(dict(ref.options)["hook"])


SCHEME = NpzScheme()
