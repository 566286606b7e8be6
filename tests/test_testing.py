from __future__ import annotations

import pytest
import torch
from torch import Tensor

from saebench.sae.base import LoadContext
from saebench.sae.baselines import NeuronBaseline
from saebench.sae.conformance import CHECKS, Subject
from saebench.sae.protocol import HookSite
from saebench.testing import Check, parametrize_with_checks

HOOK = HookSite.at("a")


def neurons() -> NeuronBaseline:
    return NeuronBaseline(4, name="neurons", hook=HOOK)


CONTEXT = LoadContext(hook=HOOK, calibration=lambda site: torch.eye(4).repeat(9, 1), d_in=lambda site: 4)


@parametrize_with_checks([neurons, neurons(), "baseline:pca?k=2"], context=CONTEXT)
def test_conforming_saes(sae: Subject, check: Check) -> None:
    check(sae)


class Doubling(NeuronBaseline):
    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return 2 * z


def doubling() -> Doubling:
    return Doubling(4, name="doubling", hook=HOOK)


def parameters(mark: pytest.MarkDecorator) -> dict[str, tuple[Subject, Check]]:
    return {parameter.id: parameter.values for parameter in mark.args[1]}


def test_ids_name_the_sae_and_the_check() -> None:
    ids = list(parameters(parametrize_with_checks([doubling, "baseline:pca?k=2"])))
    assert ids == [f"{sae}-{check}" for sae in ("doubling", "baseline:pca?k=2") for check in CHECKS]


def test_a_failing_check_fails_and_an_undeclared_one_skips() -> None:
    found = parameters(parametrize_with_checks([doubling]))
    subject, check = found["doubling-linear_decoder"]
    with pytest.raises(pytest.fail.Exception, match="linear_decoder: decode"):
        check(subject)
    subject, check = found["doubling-non_negative"]
    with pytest.raises(pytest.skip.Exception, match="not declared"):
        check(subject)


def test_saes_are_loaded_late_and_a_load_error_fails_the_test() -> None:
    found = parameters(parametrize_with_checks(["baseline:pcaa"]))  # unknown, yet collection goes on
    subject, check = found["baseline:pcaa-finite"]
    with pytest.raises(pytest.fail.Exception, match="Did you mean 'pca'"):
        check(subject)
