"""Diagnoses on a tiny language model, of SAEs that reconstruct the leading principal components of one hook point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sae_lens
import torch
from sae_lens.saes.sae import SAEMetadata
from torch import Tensor

from saebench.diagnosis.activations import Source, capture
from saebench.diagnosis.diagnose import Diagnosis, diagnose
from saebench.diagnosis.text import sentence, table
from saebench.diagnosis.verdict import Outcome
from saebench.errors import NotApplicableError
from saebench.passes.context import TaskContext
from saebench.sae.affine.activations import JumpReLU
from saebench.sae.affine.adapter import AffineSAE
from saebench.sae.affine.weights import Weights
from saebench.sae.base import BaseAdapter, LoadContext
from saebench.sae.centred import CentredSAE
from saebench.sae.protocol import Capability, HookSite
from saebench.sae.reference import load_sae, parse_sae_ref
from tests.conftest import WIDTH
from tests.tasks.conftest import documents

SITE = "blocks.1.hook_resid_post"
TEXT = "asset:sae-probes/97_news_class"  # the context reads a text in memory in its place
KEPT = 24  # principal components


@pytest.fixture
def tiny(context: Callable[..., TaskContext]) -> TaskContext:
    return context("gpt2", read=lambda ref: documents(n=400, length=60))


def components(tiny: TaskContext) -> tuple[Tensor, Tensor]:
    x = tiny.calibration(TEXT, SITE)
    return x.mean(0), torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:KEPT]


Save = Callable[..., str]


@pytest.fixture
def save(tiny: TaskContext, tmp_path: Path) -> Save:
    """``save(scale=..., hook=..., ...)``: the reference of a SAELens SAE that is right but for what is named."""

    def write(scale: float = 1.0, hook: str = SITE, **options: Any) -> str:
        mean, rows = components(tiny)
        metadata = SAEMetadata(hook_name=hook)
        sae = sae_lens.StandardSAE(sae_lens.StandardSAEConfig(d_in=WIDTH, d_sae=2 * KEPT, metadata=metadata, **options))
        with torch.no_grad():
            sae.W_enc.copy_(torch.cat([rows, -rows]).T)
            sae.W_dec.copy_(torch.cat([rows, -rows]))
            sae.b_dec.copy_(mean * scale)
            sae.b_enc.zero_()
        sae.save_model(tmp_path / "sae")
        return f"sae_lens:{tmp_path / 'sae'}"

    return write


def diagnosed(reference: str, tiny: TaskContext) -> Diagnosis:
    parsed = parse_sae_ref(reference)
    return diagnose(parsed, load_sae(parsed, LoadContext(d_in=tiny.lm.d_at)), tiny, TEXT)


def test_loaded_right(save: Save, tiny: TaskContext) -> None:
    diagnosis = diagnosed(save(), tiny)
    assert diagnosis.verdict.outcome is Outcome.RIGHT
    assert sentence(diagnosis).startswith("It is loaded right: FVU is 0.0")
    assert (diagnosis.sequences, diagnosis.context_length) == (16, 64)
    lines = table(diagnosis).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) == 2 + 1 + len(diagnosis.others)
    assert sum(line.startswith("* as loaded") for line in lines) == 1
    standardised = [float(line.split()[-2]) for line in lines[2:]]
    assert standardised == sorted(standardised)


@pytest.mark.parametrize(
    ("mistake", "finding", "fix"),
    [
        ({"hook": "blocks.0.hook_resid_post"}, f"it was trained at {SITE}", f"?hook={SITE}"),
        ({"apply_b_dec_to_input": False}, "b_dec has to be subtracted", '"apply_b_dec_to_input": true'),
        ({"scale": 20.0}, "", ""),
    ],
    ids=["hook", "pre-bias", "something else"],
)
def test_mistakes(save: Save, tiny: TaskContext, mistake: dict[str, Any], finding: str, fix: str) -> None:
    diagnosis = diagnosed(save(**mistake), tiny)
    told = sentence(diagnosis)
    if finding:
        assert diagnosis.verdict.outcome is Outcome.OTHER
        assert told.startswith(f"It looks as if {finding}")
        assert fix in told.partition("try this: ")[2]
    else:
        assert diagnosis.verdict.outcome is Outcome.NOTHING
        assert told.startswith("Nothing tried fits: as loaded it leaves")


class Plain(BaseAdapter):
    """An SAE of which only what it does is known."""

    def __init__(self, tiny: TaskContext, shift: bool, capabilities: frozenset[Capability]) -> None:
        hook = HookSite.at(SITE)
        options: dict[str, Any] = {"name": "plain", "architecture": "plain", "hook": hook, "capabilities": capabilities}
        super().__init__(d_in=WIDTH, d_sae=2 * KEPT, **options)
        self.mean, self.rows = components(tiny)
        self.shift = shift

    def encode(self, x: Tensor) -> Tensor:
        p = (x.float() - self.mean * self.shift) @ self.rows.T
        return torch.cat([p.relu(), (-p).relu()], -1)

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z @ self.decoder_directions() + self.mean

    def decoder_directions(self) -> Tensor:
        return torch.cat([self.rows, -self.rows])


PYTHON = parse_sae_ref("python:tests.diagnosis.planted:PLANTS")


@pytest.mark.parametrize("position_wise", [True, False])
def test_an_sae_of_other_code(tiny: TaskContext, position_wise: bool) -> None:
    capabilities = {Capability.LINEAR_DECODER} | ({Capability.POSITION_WISE} if position_wise else set())
    right = diagnose(PYTHON, Plain(tiny, True, frozenset(capabilities)), tiny, TEXT)
    assert right.verdict.outcome is Outcome.RIGHT
    families = {row.variant.family for row in right.others}
    assert families == {"hook", "bos", "scale", "normalisation", "centring"} | (
        {"pre-bias"} if position_wise else set()
    )
    wrong = diagnose(PYTHON, Plain(tiny, False, frozenset(capabilities)), tiny, TEXT)
    if position_wise:
        assert "try this: subtract b_dec from the input of the encoder" in sentence(wrong)


def test_an_sae_that_is_centred_by_mistake(tiny: TaskContext) -> None:
    plain = Plain(tiny, True, frozenset({Capability.POSITION_WISE}))
    wrong = diagnose(PYTHON, CentredSAE(plain), tiny, TEXT)
    kept = next(row for row in wrong.others if row.variant.label == "the mean of each token kept")
    right = diagnose(PYTHON, plain, tiny, TEXT)
    assert (kept.fvu, kept.standardised, kept.l0) == (right.loaded.fvu, right.loaded.standardised, right.loaded.l0)
    assert kept.fvu < wrong.loaded.fvu


def test_transcoders_have_variants(tiny: TaskContext) -> None:
    """One that reads a block's middle and writes what the MLP adds; it is fitted by least squares."""
    sites = ("blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out")
    batch = tiny.calibration_batch(TEXT, 64, 64)
    captured = capture(tiny.lm, batch, sites, ())
    x, y = (captured.tokens(site) for site in sites)
    solved = torch.linalg.lstsq(torch.cat([x, torch.ones(len(x), 1)], 1), y).solution

    class Linear(Plain):
        def encode(self, x: Tensor) -> Tensor:
            return torch.cat([x.relu(), (-x).relu()], -1)

        def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
            return (z[..., :WIDTH] - z[..., WIDTH:]) @ solved[:-1] + solved[-1]

    sae = Linear(tiny, True, frozenset({Capability.POSITION_WISE, Capability.TRANSCODER}))
    sae.d_sae, sae.hook = 2 * WIDTH, HookSite(*sites)
    assert diagnose(PYTHON, sae, tiny, TEXT).verdict.outcome is Outcome.RIGHT
    sae.hook = HookSite("blocks.1.hook_resid_pre", sites[1])
    wrong = diagnose(PYTHON, sae, tiny, TEXT)
    assert {row.variant.family for row in wrong.others} == {"hook", "bos", "scale"}
    assert sentence(wrong).startswith(f"It looks as if it was trained at {sites[0]}->{sites[1]}")


def test_a_variant_that_overflows_is_left_out(tiny: TaskContext) -> None:
    mean, rows = components(tiny)
    weights = Weights(torch.cat([rows, -rows]).T, torch.zeros(2 * KEPT), torch.cat([rows, -rows]), mean)
    sae = AffineSAE(
        weights, JumpReLU(torch.tensor(1000.0)), name="dead", architecture="jumprelu", hook=HookSite.at(SITE)
    )
    diagnosis = diagnose(PYTHON, sae, tiny, TEXT)
    labels = {row.variant.label for row in diagnosis.others}
    assert "every positive latent" in labels
    assert "exp(threshold)" not in labels
    assert diagnosis.loaded.l0 == 0


def test_what_has_no_verdict(tiny: TaskContext, context: Callable[..., TaskContext]) -> None:
    sae = Plain(tiny, True, frozenset({Capability.POSITION_WISE}))
    sae.control = True
    with pytest.raises(NotApplicableError, match="is a control"):
        diagnose(PYTHON, sae, tiny, TEXT)
    sae.control = False
    with pytest.raises(NotApplicableError, match=r"gives [23] sequences of 64 tokens"):
        diagnose(PYTHON, sae, context("gpt2", read=lambda ref: documents(n=10)), TEXT)
    sae.hook = HookSite.at([SITE, "blocks.2.hook_resid_post"])
    with pytest.raises(NotApplicableError, match="several hook points"):
        diagnose(PYTHON, sae, tiny, TEXT)


def test_activations(tiny: TaskContext) -> None:
    batch = tiny.batch(TEXT, 16, 4)
    captured = capture(tiny.lm, batch, [SITE, "blocks.99.hook_resid_post"], [SITE])
    assert set(captured.at) == {(SITE, True), (SITE, False)}
    torch.testing.assert_close(captured.at[SITE, True], tiny.lm.prefix(batch.tokens, [SITE])[SITE])
    torch.testing.assert_close(captured.at[SITE, False], tiny.lm.prefix(batch.tokens[:, 1:], [SITE])[SITE])
    plain = Source.at(SITE)
    assert torch.equal(captured.counted(plain), batch.evaluated)
    with_first = captured.counted(Source(SITE, SITE, first_counts=True))
    assert bool(with_first[:, 0].all())
    assert torch.equal(with_first[:, 1:], batch.evaluated[:, 1:])


def test_tokens_at_which_attention_rests_do_not_count_without_bos(tiny: TaskContext) -> None:
    batch = tiny.batch(TEXT, 16, 4)
    captured = capture(tiny.lm, batch, [SITE], [SITE])
    without = Source(SITE, SITE, bos=False)
    counted = captured.counted(without)
    assert not bool(counted[:, 0].any())
    row, position = counted.nonzero()[5].tolist()
    captured.at[SITE, False][row, position] *= 100
    assert not bool(captured.counted(without)[row, position])
    assert int(captured.counted(without).sum()) == int(counted.sum()) - 1
