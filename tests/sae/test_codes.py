"""Blocks, sparse codes and gather-sum against the SAE's own dense encode and decode."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sae_lens.saes.sae import SAEMetadata
from torch import Tensor

from saebench.errors import NotApplicableError, SaebenchError
from saebench.sae.base import BaseAdapter, sparse_from_dense
from saebench.sae.baselines import NeuronBaseline, PCABaseline, PermutedDecoderBaseline
from saebench.sae.codes import Coder, Codes, dense, rows_of
from saebench.sae.protocol import Capability, HookSite, SparseCodes
from saebench.sae.sae_lens_adapter import SAELensAdapter
from saebench.stats.sparsity import FiringCounts
from tests.sae.conftest import CASES, D_IN, SITE, SITE_OUT, randomise

HOOK = HookSite.at("blocks.1.hook_resid_post")
BLOCK = 7  # tokens; does not divide the 40 of `tokens`
WIDE = 512  # latents, of which a topk-5 SAE has few active


class Linear(BaseAdapter):
    """ReLU codes above a threshold and one decoder matrix; its subclasses behave badly."""

    def __init__(self, architecture: str = "relu", d_sae: int = WIDE, threshold: float = 5.0, **more: Any) -> None:
        kinds = {Capability.LINEAR_DECODER, Capability.POSITION_WISE, Capability.SPARSE_ENCODE}
        super().__init__(
            name="linear", architecture=architecture, hook=HOOK, d_in=D_IN, d_sae=d_sae, capabilities=frozenset(kinds)
        )
        draw = torch.Generator().manual_seed(0)
        self.threshold = threshold
        self.weights = torch.nn.Parameter(torch.randn(d_sae, D_IN, generator=draw) / 4)
        self.own_decodes = 0

    def encode(self, x: Tensor) -> Tensor:
        z = x @ self.weights.T
        return z * (z.abs() > self.threshold)

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        self.own_decodes += len(z)
        return z.float() @ self.weights + 1

    def decoder_directions(self) -> Tensor:
        return self.weights


class LiesAboutDirections(Linear):
    def decoder_directions(self) -> Tensor:
        return self.weights * 1.01


class NotLinear(Linear):
    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return super().decode(z.clamp(max=3.0), x)


class ConstantOfInput(Linear):
    """A skip connection so small that the tolerance would let it pass on most tokens."""

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        assert x is not None
        return super().decode(z, x) + 1e-5 * x


class WrongShape(Linear):
    def decoder_directions(self) -> Tensor:
        return self.weights.T


class Scribbles(Linear):
    """Writes into whatever it is given."""

    def encode(self, x: Tensor) -> Tensor:
        z = super().encode(x)
        x.zero_()
        return z

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        assert x is not None
        out = super().decode(z, x) + 1e-3 * x  # needs x as it was
        z.zero_()
        x.zero_()
        return out


class Strange(Linear):
    """bfloat16 codes on strided memory that require gradients."""

    def encode(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            return (super().encode(x).bfloat16().T.contiguous().T * 1).requires_grad_()


def tokens(n: int = 40, seed: int = 0) -> Tensor:
    return torch.randn(n, D_IN, generator=torch.Generator().manual_seed(seed)) * 2


def budget(sae: Any, block: int = BLOCK) -> int:
    """For ``block`` tokens at a time, found from outside."""
    at = 4 * sae.d_sae
    while Coder(sae, at).tokens_per_block < block:
        at += 2 * sae.d_sae
    return at


def stream(sae: Any, x: Tensor, at: int) -> tuple[Tensor, list[Codes], list[slice]]:
    seen: list[Codes] = []
    rows: list[slice] = []

    def sink(where: slice, codes: Codes) -> None:
        rows.append(where)
        parts = (part.clone() for part in codes) if isinstance(codes, SparseCodes) else codes.clone()
        seen.append(SparseCodes(*parts) if isinstance(codes, SparseCodes) else parts)

    return Coder(sae, at).reconstruct(x, sink), seen, rows


def as_dense(codes: list[Codes], d_sae: int) -> Tensor:
    return torch.cat([dense(each, d_sae) if isinstance(each, SparseCodes) else each for each in codes])


def wide(case: str) -> SAELensAdapter:
    kind, config, options = CASES[case]
    metadata = SAEMetadata(hook_name=SITE, hook_name_out=SITE_OUT)
    sae = kind(config(d_in=D_IN, d_sae=WIDE, metadata=metadata, **options))
    randomise(sae)
    return SAELensAdapter(sae, case)


@pytest.mark.parametrize("case", [case for case in CASES if "temporal" not in case])
def test_every_architecture_in_blocks(case: str):
    sae = wide(case)
    x = tokens()
    xhat, codes, rows = stream(sae, x, budget(sae))
    assert [row.stop - row.start for row in rows] == [BLOCK] * 5 + [5]
    z = sae.encode(x.clone())
    torch.testing.assert_close(as_dense(codes, sae.d_sae), z, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(xhat, sae.decode(z, x), rtol=1e-4, atol=1e-3)
    gathered = Coder(sae, 10**6)
    gathered.reconstruct(x, lambda *_: None)
    few = case.startswith(("topk", "abstopk", "matching")) and "norm_rescale" not in case
    assert (gathered._constant is not None) == few


@pytest.mark.parametrize("case", ["temporal", "temporal-layer_norm"])
def test_whole_sequences(case: str, lens: Callable[..., Any], sequences: Tensor):
    sae = SAELensAdapter(lens(case), case)
    positions = sequences.shape[1]
    xhat, codes, rows = stream(sae, sequences, budget(sae, 2 * positions + 1))
    assert rows == [slice(0, 2), slice(2, 3)]
    z = sae.encode(sequences)
    torch.testing.assert_close(torch.cat(codes), z)  # type: ignore[arg-type]
    torch.testing.assert_close(xhat, sae.decode(z, sequences))
    with pytest.raises(NotApplicableError, match="no sparse codes"):
        Coder(sae, 10**6).codes(sequences)


def test_gather_sum_replaces_the_decoder_and_is_the_same_again():
    sae, x = Linear(), tokens()
    xhat, _, _ = stream(sae, x, budget(sae))
    assert sae.own_decodes <= BLOCK + 4  # the test of its decoder alone
    again = Coder(sae, budget(sae))
    again.reconstruct(tokens(30, seed=1), lambda *_: None)  # another batch before does not matter
    assert torch.equal(again.reconstruct(x, lambda *_: None), xhat)


@pytest.mark.parametrize("kind", [LiesAboutDirections, NotLinear, ConstantOfInput, WrongShape])
def test_a_decoder_that_is_not_what_it_declares_decodes_by_itself(kind: type[Linear]):
    sae, x = kind(), tokens()
    xhat, _, rows = stream(sae, x, budget(sae))
    expected = torch.cat([sae.decode(sae.encode(x[row]), x[row]) for row in rows])
    torch.testing.assert_close(xhat, expected, rtol=1e-6, atol=1e-6)


def test_the_decoder_is_tested_on_active_latents():
    sae, x = LiesAboutDirections(), tokens()
    x[: 2 * BLOCK] = 0  # nothing fires in the first blocks
    xhat, codes, _ = stream(sae, x, budget(sae))
    assert not codes[0].values.any()  # type: ignore[union-attr]
    torch.testing.assert_close(xhat, sae.decode(sae.encode(x), x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 5.0])  # dense and sparse
def test_an_sae_that_writes_into_its_inputs_harms_nobody(threshold: float):
    clean, x = Linear(threshold=threshold), tokens()
    z = clean.encode(x)
    shared = x.clone()
    xhat, codes, _ = stream(Scribbles(threshold=threshold), shared, budget(clean))
    assert torch.equal(shared, x)
    torch.testing.assert_close(as_dense(codes, WIDE), z)
    torch.testing.assert_close(xhat, clean.decode(z) + 1e-3 * x, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("threshold", [0.0, 5.0])
def test_strange_tensors(threshold: float):
    sae, x = Strange(threshold=threshold), tokens().bfloat16()
    xhat, codes, _ = stream(sae, x, budget(sae))
    z = sae.encode(x.float()).detach()
    assert torch.equal(as_dense(codes, WIDE), z)
    assert xhat.dtype == torch.float32
    assert not xhat.requires_grad
    torch.testing.assert_close(xhat, sae.decode(z.float()).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("threshold", "sparse"), [(0.0, False), (5.0, True)])
def test_codes_stay_dense_where_many_latents_fire(threshold: float, sparse: bool):
    sae, x = Linear(threshold=threshold), tokens()
    _, codes, _ = stream(sae, x, budget(sae))
    assert {isinstance(each, SparseCodes) for each in codes} == {sparse}
    whole = Coder(sae, budget(sae)).codes(x)  # sparse when asked for
    assert torch.equal(dense(whole, WIDE), as_dense(codes, WIDE))
    assert len(whole.values) == len(x)


def test_codes_of_one_busy_token_and_of_none():
    sae, x = Linear(), tokens() * 0
    x[20] = 1e3
    codes = Coder(sae, budget(sae)).codes(x)
    assert codes.values.shape[-1] == int((sae.encode(x[20]) != 0).sum())
    assert Coder(sae, 10**6).codes(x[:0]).values.shape == (0, 1)
    assert Coder(sae, 10**6).reconstruct(x[:0], lambda *_: pytest.fail("no block")).shape == (0, D_IN)


@pytest.mark.parametrize("inner", ["topk", "abstopk-rescaled", "skip_transcoder", "jumprelu"])
def test_permuted_decoder(inner: str):
    sae = PermutedDecoderBaseline(wide(inner), name="permuted", seed=0)
    x = tokens()
    for at in (budget(sae), 1):  # with room for a copy of its decoder, and without
        xhat, codes, _ = stream(sae, x, at)
        torch.testing.assert_close(as_dense(codes, WIDE), sae.encode(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(xhat, sae.decode(sae.encode(x), x), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "sae", [PCABaseline(tokens(100), name="pca", hook=HOOK, k=4), NeuronBaseline(D_IN, name="neurons", hook=HOOK)]
)
def test_dense_controls(sae: Any):
    x = tokens()
    xhat, codes, rows = stream(sae, x, budget(sae))
    assert len(rows) == 6
    torch.testing.assert_close(torch.cat(codes), sae.encode(x))  # type: ignore[arg-type]
    torch.testing.assert_close(xhat, sae.decode(sae.encode(x)))
    with pytest.raises(NotApplicableError):
        Coder(sae, 10**6).codes(x)


@pytest.mark.parametrize("method", ["encode", "decode"])
def test_wrong_shapes_are_named(method: str, monkeypatch: pytest.MonkeyPatch):
    sae = Linear()
    monkeypatch.setattr(sae, method, lambda *_: torch.ones(1, 3))
    with pytest.raises(SaebenchError, match=rf"{method} gave shape \(1, 3\) instead of .*check-adapter"):
        stream(sae, tokens(), 4 * 5 * WIDE * BLOCK)


WILD = st.one_of(st.just(0.0), st.just(-0.0), st.just(1e-42), st.just(-1e-42), st.floats(-1e4, 1e4, width=32))


@given(arrays.arrays(np.float32, st.tuples(st.integers(0, 6), st.integers(1, 9)), elements=WILD))
def test_sparse_and_back(array: np.ndarray):
    z = torch.from_numpy(array)
    codes = sparse_from_dense(z)
    assert codes.values.shape == codes.indices.shape == (len(z), max(1, int((array != 0).sum(-1).max(initial=0))))
    assert torch.equal(dense(codes, z.shape[1]), z)
    assert ((codes.indices >= 0) & (codes.indices < z.shape[1])).all()
    assert torch.equal((codes.values != 0).sum(-1), (z != 0).sum(-1))
    assert all(
        len(set(row[used].tolist())) == used.sum() for row, used in zip(codes.indices, codes.values != 0, strict=True)
    )
    half = rows_of(codes, slice(1, 3))
    assert torch.equal(dense(half, z.shape[1]), z[1:3])  # type: ignore[arg-type]


def test_sparse_from_dense_takes_nan_and_any_memory():
    z = torch.tensor([[0.0, float("nan"), 2.0]]).expand(4, 3)
    torch.testing.assert_close(dense(sparse_from_dense(z), 3), z, equal_nan=True)
    assert torch.equal(dense(sparse_from_dense(torch.eye(5)[:, ::2]), 3), torch.eye(5)[:, ::2])


def test_firing_counts_do_not_depend_on_the_blocks():
    sae, x = wide("topk"), tokens()
    sequence = torch.arange(40) // 8
    whole = FiringCounts(5, WIDE)
    whole.add(sae.encode(x), sequence)
    parts = FiringCounts(5, WIDE)
    Coder(sae, budget(sae)).reconstruct(x, lambda rows, codes: parts.add(codes, sequence[rows]))
    assert np.array_equal(whole.per_sequence.toarray(), parts.per_sequence.toarray())


PEAK = """
import sys, torch
from saebench.sae.baselines import RandomBaseline
from saebench.sae.codes import Coder
from saebench.sae.protocol import HookSite, SparseCodes
from saebench.stats.sparsity import FiringCounts

class TopK(RandomBaseline):
    def encode_sparse(self, x):
        before = (x - self.mean) @ self.directions.T + 1
        return SparseCodes(*before.topk(16, sorted=False))

def status(key):
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))

budget = int(sys.argv[1])
x, sequence = torch.randn(1024, 64), torch.arange(1024) // 64

def run(sae, tokens):
    firing = FiringCounts(16, sae.d_sae)
    Coder(sae, budget).reconstruct(x[:tokens], lambda rows, codes: firing.add(codes, sequence[:tokens][rows]))

for kind in (TopK, RandomBaseline):
    sae = kind(x[:64], name="wide", hook=HookSite.at("blocks.0.hook_resid_post"), seed=0, d_sae=32768)
    sae.architecture = "topk" if kind is TopK else "random"
    run(sae, 8)  # libraries set up what they keep
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts from here
    before = status("VmRSS")
    run(sae, 1024)
    print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_peak_memory_keeps_to_the_budget():
    """1,024 tokens of 32,768 latents are 134 MB in float32, before any temporary."""
    at = 16_000_000  # of which half holds a copy of the scaled decoder
    done = subprocess.run([sys.executable, "-c", PEAK, str(at)], capture_output=True, text=True, check=True)
    growth = [int(line) for line in done.stdout.split()]
    assert len(growth) == 2
    assert max(growth) < 2 * at, growth
