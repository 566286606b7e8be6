"""The conformance suite for a third party's own tests, in the manner of scikit-learn's ``parametrize_with_checks``.

from saebench.testing import parametrize_with_checks

@parametrize_with_checks(["python:my_package.saes:build", my_factory])
def test_conformance(sae, check):
    check(sae)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from torch import Tensor

from saebench.sae.base import LoadContext
from saebench.sae.conformance import CHECKS, Subject, run_check
from saebench.sae.protocol import SAE
from saebench.sae.reference import load_sae

__all__ = ["Check", "parametrize_with_checks"]


class Check:
    """One named check, called with the ``sae`` of the same parametrisation: passes, skips or fails the test."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, subject: Subject) -> None:
        result = run_check(self.name, subject)
        if result.skipped:
            pytest.skip(result.detail)
        if not result.ok:
            pytest.fail(f"{self.name}: {result.detail}", pytrace=False)


def parametrize_with_checks(
    saes: Sequence[str | Callable[[], SAE] | SAE],
    *,
    context: LoadContext | None = None,
    d_at: Callable[[str], int] | None = None,
    activations: Tensor | None = None,
) -> pytest.MarkDecorator:
    """Parametrise a test ``(sae, check)`` over all pairs. SAEs are loaded when the first of their tests runs.

    ``saes`` are references, functions that load an SAE anew, or SAEs (of which loading twice cannot be tested).
    ``context`` is what references may need; ``d_at(site)`` the language model's width; ``activations`` real inputs.
    """
    parameters = []
    for position, sae in enumerate(saes):
        subject = Subject(_factory(sae, context or LoadContext()), d_at, activations)
        label = sae if isinstance(sae, str) else getattr(sae, "name", getattr(sae, "__name__", f"sae{position}"))
        parameters += [pytest.param(subject, Check(name), id=f"{label}-{name}") for name in CHECKS]
    return pytest.mark.parametrize(("sae", "check"), parameters)


def _factory(sae: str | Callable[[], SAE] | SAE, context: LoadContext) -> Callable[[], SAE]:
    if isinstance(sae, str):
        return lambda: load_sae(sae, context)
    if isinstance(sae, SAE):
        return lambda: sae
    return sae
