"""The conformance suite for other projects' tests, in the manner of scikit-learn's ``parametrize_with_checks``.

>>> from saebench.testing import parametrize_with_checks  # doctest: +SKIP
>>> @parametrize_with_checks(["python:my_package.saes:build", my_factory])  # doctest: +SKIP
... def test_conformance(sae, check):
...     check(sae)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import pytest
from torch import Tensor

from saebench.sae.base import LoadContext
from saebench.sae.conformance import CHECKS, Subject, run_check
from saebench.sae.protocol import REQUIRED_MEMBERS, SAE
from saebench.sae.reference import load_sae

__all__ = ["Check", "parametrize_with_checks"]


class Check:
    """One check, which passes, skips or fails the test. Call it with the ``sae`` of the same parametrisation."""

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
    """Parametrise a test ``(sae, check)`` over all pairs. An SAE is loaded when the first of its tests runs.

    Args:
        saes: References, functions that load an SAE, or SAEs. Loading twice cannot be tested for an SAE.
        context: What loading a reference needs.
        d_at: A function that returns the language model's width at a site.
        activations: Real activations to use as inputs.
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
    # An SAE that another package made may lack `control`, so that the protocol itself would not recognise it.
    if all(hasattr(sae, member) for member in REQUIRED_MEMBERS):
        loaded = cast(SAE, sae)
        return lambda: loaded
    return cast(Callable[[], SAE], sae)
