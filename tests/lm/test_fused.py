"""Compiled where it pays, the same numbers, and never in the way."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from saebench.lm import losses
from saebench.lm.fused import Fused
from saebench.lm.head import Head
from saebench.lm.losses import clean_losses, spliced_losses


@pytest.fixture
def pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every tensor lay on a GPU."""
    monkeypatch.setattr(Fused, "pays", lambda self, tensor: True)


def test_on_a_cpu_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "compile", pytest.fail)
    assert torch.equal(Fused(torch.neg)(torch.ones(2)), -torch.ones(2))


def test_compiled_losses_are_the_plain_ones_for_every_shape(monkeypatch: pytest.MonkeyPatch):
    # The graph is captured for varying shapes as on a GPU; which kernels it becomes is the back end's affair, and
    # the default one needs a compiler of its own on a CPU.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager", fullgraph=True))
    draw = torch.Generator().manual_seed(0)
    head = Head(torch.randn(300, 8, generator=draw))
    hidden, targets = torch.randn(11, 8, generator=draw), torch.randint(0, 300, (11,), generator=draw)
    clean = clean_losses(head, hidden, targets)
    plain = spliced_losses(head, -hidden, targets, clean)
    monkeypatch.setattr(losses, "_TOKENS", 6)
    monkeypatch.setattr(losses, "_VOCAB", 128)
    monkeypatch.setattr(losses, "_fold", fold := Fused(losses._fold_tile))
    monkeypatch.setattr(Fused, "pays", lambda self, tensor: True)
    torch.testing.assert_close(spliced_losses(head, -hidden, targets, clean), plain, rtol=1e-5, atol=1e-5)
    assert fold._compiled not in (None, fold._function)  # it was compiled, not given up


@pytest.mark.usefixtures("pays")
def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refuse(*_: object, **__: object) -> object:
        def broken(*_: Tensor) -> Tensor:
            raise RuntimeError("raised:\nno Triton\nand a long trace")

        return broken

    monkeypatch.setattr(torch, "compile", refuse)
    fused = Fused(torch.neg)
    for _ in range(2):
        assert torch.equal(fused(torch.ones(2)), -torch.ones(2))
    assert [record.getMessage() for record in caplog.records] == [
        "A function could not be compiled, so this GPU is slower: raised: no Triton"
    ]


@pytest.mark.usefixtures("pays")
def test_running_out_of_memory_is_not_taken_for_a_failed_compilation(monkeypatch: pytest.MonkeyPatch):
    def exhausted(*_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: exhausted)
    with pytest.raises(torch.OutOfMemoryError):
        Fused(torch.neg)(torch.ones(2))
