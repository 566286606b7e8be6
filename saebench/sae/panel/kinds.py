"""What the schemes of the panels share: one form for each kind of SAE, which is made for the model of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saebench.errors import UsageError, did_you_mean
from saebench.sae.options import read_options
from saebench.sae.scheme import Form, Scheme

if TYPE_CHECKING:
    from saebench.sae.base import LoadContext
    from saebench.sae.ref import Reference


class KindsScheme(Scheme):
    """A scheme whose references are ``NAME:KIND``, with the options of the kind's form."""

    def validate(self, ref: Reference) -> None:
        kinds = [form.body for form in self.forms]
        if ref.body not in kinds:
            raise UsageError(
                f"There is no {self.name}:{ref.body}.{did_you_mean(ref.body, kinds)} Known are {', '.join(kinds)}."
            )
        read_options(ref, self._form(ref.body).options)

    def options(self, ref: Reference, context: LoadContext) -> dict[str, Any]:
        """Return the options of a reference; a kind that names no seed takes that of the run."""
        return {"seed": context.seed, **read_options(ref, self._form(ref.body).options)}

    def control(self, ref: Reference) -> str | None:
        return ref.body if any(form.body == ref.body and form.control for form in self.forms) else None

    def _form(self, kind: str) -> Form:
        return next(form for form in self.forms if form.body == kind)
