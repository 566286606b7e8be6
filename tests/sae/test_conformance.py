"""The suite passes on every adapter of ours, and each check fails on an adapter that is wrong in its way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from saebench.errors import HookMismatchError, SAELoadError
from saebench.sae.base import BaseAdapter
from saebench.sae.baselines import NeuronBaseline, PCABaseline, PermutedDecoderBaseline, RandomBaseline
from saebench.sae.conformance import CHECKS, Subject, run_check, run_checks
from saebench.sae.hook import HookSite
from saebench.sae.protocol import SAE, Capability, SparseCodes
from saebench.sae.sae_lens_adapter import SAELensAdapter

HOOK = HookSite.at("a")
WIDTHS = {"blocks.1.hook_resid_post": 16, "blocks.1.hook_mlp_out": 12, "a": 6}


def failures(factory: Callable[[], SAE], **options: Any) -> dict[str, str]:
    return {result.name: result.detail for result in run_checks(factory, **options) if not result.ok}


def skipped(factory: Callable[[], SAE]) -> set[str]:
    return {result.name for result in run_checks(factory) if result.skipped}


def test_every_saelens_architecture(every_folder: Path) -> None:
    assert failures(lambda: SAELensAdapter.from_disk(every_folder), d_at=WIDTHS.__getitem__) == {}


def activations() -> Tensor:
    return torch.randn(100, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 7) + 2


BASELINES: list[Callable[[], SAE]] = [
    lambda: NeuronBaseline(6, name="n", hook=HOOK),
    lambda: PCABaseline(activations(), name="p", hook=HOOK, k=3),
    lambda: RandomBaseline(activations(), name="r", hook=HOOK, seed=0, l0=4, d_sae=40),
    lambda: PermutedDecoderBaseline(BASELINES[2](), name="pd", seed=0),
]


@pytest.mark.parametrize("factory", BASELINES)
def test_every_baseline(factory: Callable[[], SAE]) -> None:
    assert failures(factory, d_at=WIDTHS.__getitem__) == {}
    assert factory().control is True


@pytest.mark.parametrize("case", ["topk", "standard-layer_norm", "temporal"])
def test_permuted_decoder_of_saelens(lens: Callable[..., Any], case: str) -> None:
    assert failures(lambda: PermutedDecoderBaseline(SAELensAdapter(lens(case), case), name="pd", seed=0)) == {}


class Tiny(BaseAdapter):
    """A correct ReLU SAE, to be broken below."""

    kinds = frozenset(Capability) - {Capability.TRANSCODER}

    def __init__(self) -> None:
        super().__init__(name="tiny", architecture="tiny", hook=HOOK, d_in=6, d_sae=10, capabilities=self.kinds)
        draw = torch.Generator().manual_seed(0)
        self.register_buffer("w", torch.randn(10, 6, generator=draw))

    def encode(self, x: Tensor) -> Tensor:
        return (x.float() @ self.w.T).relu()

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z @ self.w + 1

    def decoder_directions(self) -> Tensor:
        return self.w

    def encoder_directions(self) -> Tensor:
        return self.w


class BatchNormed(Tiny):
    def encode(self, x: Tensor) -> Tensor:
        return super().encode(x - x.float().mean(0))


class BatchTopK(Tiny):
    def encode(self, x: Tensor) -> Tensor:
        z = super().encode(x)
        return z * (z > z.median())


class Noisy(Tiny):
    def encode(self, x: Tensor) -> Tensor:
        return super().encode(x) + 1e-3 * torch.rand(())


class KeepsState(Tiny):
    def encode(self, x: Tensor) -> Tensor:
        self.offset = x.float().mean()
        return super().encode(x)

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return super().decode(z) + self.offset


class HalfPrecision(Tiny):
    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return super().decode(z).bfloat16()


class WrongWidth(Tiny):
    def encode(self, x: Tensor) -> Tensor:
        return super().encode(x)[..., :-1]


class Explodes(Tiny):
    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return super().decode(z) / 0


class NormalisedDirections(Tiny):
    def decoder_directions(self) -> Tensor:
        return self.w / self.w.norm(dim=-1, keepdim=True)


class ScalesPerToken(Tiny):
    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        assert x is not None
        return super().decode(z) * x.float().norm(dim=-1, keepdim=True)


class ShuffledEncoder(Tiny):
    def encoder_directions(self) -> Tensor:
        return self.w.flip(0)


class ScaledEncoder(Tiny):
    def encoder_directions(self) -> Tensor:
        return self.w * 1.1


class Signed(Tiny):
    def encode(self, x: Tensor) -> Tensor:
        return x.float() @ self.w.T


class RepeatsIndices(Tiny):
    def encode_sparse(self, x: Tensor) -> SparseCodes:
        values, indices = super().encode_sparse(x)
        return SparseCodes(values.repeat(1, 2), indices.repeat(1, 2))


class DropsALatent(Tiny):
    def encode_sparse(self, x: Tensor) -> SparseCodes:
        values, indices = super().encode_sparse(x)
        return SparseCodes(values[:, 1:], indices[:, 1:])


class Secretive(Tiny):
    kinds = frozenset({Capability.POSITION_WISE})


class RandomFingerprint(Tiny):
    def fingerprint(self) -> str:
        return f"{int(torch.randint(2**62, ())):032x}"


class NamedFingerprint(Tiny):
    def fingerprint(self) -> str:
        return "tiny, version 1, by hand"


class MovesAway(Tiny):
    def to(self, device: Any) -> Any:  # type: ignore[override]
        return Tiny()


class ClaimsTranscoder(Tiny):
    kinds = Tiny.kinds | {Capability.TRANSCODER}


class StringCapabilities(Tiny):
    kinds = frozenset({"position_wise"})  # type: ignore[arg-type]


class NamesItsControl(Tiny):
    control = "random"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (BatchNormed, "batch_invariance"),
        (BatchTopK, "batch_invariance"),
        (Noisy, "deterministic"),
        (KeepsState, "stateless"),
        (HalfPrecision, "shapes_and_dtypes"),
        (WrongWidth, "shapes_and_dtypes"),
        (Explodes, "finite"),
        (NormalisedDirections, "linear_decoder"),
        (ScalesPerToken, "linear_decoder"),
        (ShuffledEncoder, "encoder_directions"),
        (ScaledEncoder, "encoder_directions"),
        (Signed, "non_negative"),
        (RepeatsIndices, "sparse_encode"),
        (DropsALatent, "sparse_encode"),
        (Secretive, "undeclared_refused"),
        (RandomFingerprint, "fingerprint"),
        (NamedFingerprint, "fingerprint"),
        (MovesAway, "device"),
        (ClaimsTranscoder, "attributes"),
        (StringCapabilities, "attributes"),
        (NamesItsControl, "attributes"),
    ],
)
def test_a_broken_adapter_fails_the_right_check(broken: type[Tiny], check: str) -> None:
    found = failures(broken)
    assert found.get(check)


def test_the_unbroken_one_passes_and_skips_nothing_but_the_model() -> None:
    assert failures(Tiny) == {}
    assert skipped(Tiny) == {"fits_model"}


def test_an_sae_that_does_not_say_whether_it_is_a_control_is_none() -> None:
    class Foreign:
        """An SAE that is no adapter and was written before `control` was part of the protocol."""

        def __init__(self) -> None:
            tiny = Tiny()
            for name in ("name", "architecture", "hook", "d_in", "d_out", "d_sae", "capabilities", "model_name"):
                setattr(self, name, getattr(tiny, name))
            for name in ("encode", "decode", "decoder_directions", "encoder_directions", "encode_sparse"):
                setattr(self, name, getattr(tiny, name))
            self.fingerprint = tiny.fingerprint

        def to(self, device: Any) -> Any:
            return self

    subject = Subject(Foreign)  # type: ignore[arg-type]
    assert subject.sae.control is False
    assert run_check("attributes", subject).ok


def test_model_that_does_not_fit() -> None:
    assert "7" in failures(Tiny, d_at=lambda site: 7)["fits_model"]

    def unknown(site: str) -> int:
        raise HookMismatchError(f"no site {site}")

    assert "no site a" in failures(Tiny, d_at=unknown)["fits_model"]


def test_given_activations_reach_thresholds_that_noise_does_not() -> None:
    class Deaf(Tiny):
        def encode(self, x: Tensor) -> Tensor:
            before = x.float() @ self.w.T
            return before * (before > 1000)

    assert "encoder_directions" in skipped(Deaf)
    loud = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) * 1000
    results = {result.name: result for result in run_checks(Deaf, activations=loud)}
    assert results["encoder_directions"].ok
    assert not results["encoder_directions"].skipped


def test_an_sae_that_does_not_load_says_so() -> None:
    def absent() -> SAE:
        raise SAELoadError("no weights")

    with pytest.raises(SAELoadError, match="no weights"):
        run_checks(absent)


def test_results_are_in_the_order_of_the_checks() -> None:
    assert [result.name for result in run_checks(Tiny)] == list(CHECKS)
