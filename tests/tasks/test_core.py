"""Every number of ``core`` against definitions worked out in float64 numpy on full passes of a plain model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saebench.cards.card import cards_dir, load_card
from saebench.errors import DataError, SaebenchError, UsageError
from saebench.evaluation.task import TaskOutput
from saebench.lm.load import load_lm
from saebench.lm.model import LanguageModel
from saebench.passes.context import TaskContext
from saebench.sae.base import BaseAdapter
from saebench.sae.baselines import NeuronBaseline, PermutedDecoderBaseline
from saebench.sae.protocol import SAE, Capability, HookSite, SparseCodes
from saebench.stats.reconstruction import ReconstructionSums
from saebench.stats.sparsity import FiringCounts
from saebench.tasks.core import ordinary
from saebench.tasks.core.settings import CoreSettings
from saebench.tasks.core.task import CoreTask
from tests.conftest import WIDTH
from tests.tasks.conftest import KINDS, PARAMETERS, Plain, activations, assert_units, documents, topk_sae, transcoder

SITE = "blocks.1.hook_resid_post"
IDS = [metric.id for metric in load_card(cards_dir() / "core.yaml").metrics]
RTOL = 2e-4  # float32 passes against float64 passes

Make = Callable[..., TaskContext]
Codes = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def measure(sae: SAE, context: TaskContext, **changes: Any) -> TaskOutput:
    return CoreTask().run(sae, context, CoreSettings.parse({**PARAMETERS, **changes}, task="core"))


def values(output: TaskOutput) -> dict[str, float | None]:
    return {m.metric: m.value for m in output.measurements}


def reference(
    plain: Plain, context: TaskContext, site_in: str, site_out: str, codes: Codes, massive: float = 10.0
) -> dict[str, float]:
    """definitions.md 0.3, without any of the code under test but the tokens. ``codes(x)`` gives (f, xhat)."""
    batch = context.batch(PARAMETERS["text"], PARAMETERS["context_length"], PARAMETERS["sequences"])
    tokens, evaluated = batch.tokens, batch.evaluated.numpy()
    read = plain.activation(tokens, site_in)[evaluated]
    f, xhat = codes(read)
    whole = plain.activation(tokens, site_out)
    x = whole[evaluated]
    mean, sd = x.mean(0), x.std(0)
    keep = sd > 0
    error, spread = x - xhat, x - mean
    distance = np.linalg.norm(spread, axis=1)
    ordinary = distance <= massive * np.median(distance)
    out = {
        "fvu_ordinary": (error[ordinary] ** 2).sum() / ((x[ordinary] - x[ordinary].mean(0)) ** 2).sum(),
        "l0_share": (f != 0).sum(1).mean() / read.shape[1],
        "fvu": (error**2).sum() / (spread**2).sum(),
        "fvu_standardised": ((error / sd)[:, keep] ** 2).sum() / ((spread / sd)[:, keep] ** 2).sum(),
        "explained_variance": 1 - (error**2).sum() / (spread**2).sum(),
        "mse": (error**2).sum(1).mean(),
        "cosine": ((x * xhat).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(xhat, axis=1)).mean(),
        "l2_ratio": (np.linalg.norm(xhat, axis=1) / np.linalg.norm(x, axis=1)).mean(),
        "reconstruction_bias": (xhat**2).sum(1).mean() / (x * xhat).sum(1).mean(),
        "l0": (f != 0).sum(1).mean(),
        "l1": np.abs(f).sum(1).mean(),
        "dead_share": ((f != 0).mean(0) == 0).mean(),
        "density_over_1pct": ((f != 0).mean(0) > 0.01).mean(),
        "density_over_10pct": ((f != 0).mean(0) > 0.1).mean(),
    }

    def spliced(rows: np.ndarray) -> np.ndarray:
        new = np.zeros_like(whole)
        new[evaluated] = rows
        return plain.log_probabilities(tokens, site_out, evaluated, new)

    log_p = {
        "clean": plain.log_probabilities(tokens),
        "sae": spliced(xhat),
        "zero": spliced(np.zeros_like(x)),
        "mean": spliced(np.broadcast_to(mean, x.shape)),
    }
    predicts = evaluated[:, 1:]
    ce, kl = {}, {}
    for name, log_q in log_p.items():
        at_targets = np.take_along_axis(log_q[:, :-1], tokens.numpy()[:, 1:, None], -1)[..., 0]
        ce[name] = -at_targets[predicts].mean()
        clean = log_p["clean"][:, :-1][predicts]
        kl[name] = (np.exp(clean) * (clean - log_q[:, :-1][predicts])).sum(-1).mean()
    out |= {f"ce_{name}": value for name, value in ce.items()}
    out |= {f"kl_{name}": kl[name] for name in ("sae", "zero", "mean")}
    out["ce_recovered_zero"] = (ce["zero"] - ce["sae"]) / (ce["zero"] - ce["clean"])
    out["ce_recovered_mean"] = (ce["mean"] - ce["sae"]) / (ce["mean"] - ce["clean"])
    out["kl_recovered"] = 1 - kl["sae"] / kl["zero"]
    return {metric: float(value) for metric, value in out.items()}


def directions(encoder: np.ndarray, decoder: np.ndarray) -> dict[str, float]:
    """Rows are latents."""
    e, d = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (encoder, decoder))
    largest = lambda m: (m @ m.T - 2 * np.eye(len(m))).max(1).mean()  # noqa: E731
    return {
        "encoder_max_cosine": largest(e),
        "decoder_max_cosine": largest(d),
        "encoder_decoder_cosine": (e * d).sum(1).mean(),
    }


def weights(sae: Any) -> dict[str, np.ndarray]:
    return {name: tensor.detach().double().numpy() for name, tensor in sae.sae.named_parameters()}


def topk_codes(sae: Any) -> Codes:
    w, k = weights(sae), sae.sae.cfg.k

    def codes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        before = (x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
        kth = np.sort(before, axis=1)[:, -k, None]
        f = np.where(before >= kth, np.maximum(before, 0), 0)
        return f, f @ w["W_dec"] + w["b_dec"]

    return codes


def assert_close(found: dict[str, float | None], expected: dict[str, float]):
    """A ratio whose denominator the ablation makes negative is not scored; everything else must agree."""
    for metric, value in expected.items():
        if found[metric] is None:
            assert metric.startswith("ce_recovered")
            assert expected["ce_" + metric.rsplit("_", 1)[1]] <= expected["ce_clean"]
        else:
            assert found[metric] == pytest.approx(value, rel=RTOL, abs=2e-5), metric


@pytest.mark.parametrize("family", ["gemma3", "gpt2"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_a_topk_sae(context: Make, plain: Callable[[str], Plain], family: str, kind: str):
    site = f"blocks.1.{kind}"
    sae, tiny = topk_sae(site), context(family)
    output = measure(sae, tiny)
    expected = reference(plain(family), tiny, site, site, topk_codes(sae))
    w = weights(sae)
    expected |= directions(w["W_enc"].T, w["W_dec"])
    assert sorted(expected) == sorted(IDS)
    assert_close(values(output), expected)


@pytest.mark.parametrize("family", ["gemma3", "gpt2", "gemma2"])
def test_every_number_where_ablation_does_harm(context: Make, plain: Callable[[str], Plain], family: str):
    """On text that the model predicts well, everything is scored."""
    site = "blocks.2.hook_resid_post"
    sae, tiny = topk_sae(site), context(family)
    text = plain(family).written(tiny.lm.tokenizer)
    tiny.read = lambda ref: text
    output = measure(sae, tiny)
    w = weights(sae)
    expected = reference(plain(family), tiny, site, site, topk_codes(sae)) | directions(w["W_enc"].T, w["W_dec"])
    assert all(value is not None for value in values(output).values())
    assert_close(values(output), expected)
    assert all(m.not_scored is None for m in output.measurements)


@pytest.mark.parametrize("family", ["gemma3", "gpt2"])
def test_transcoder_reads_one_site_and_is_scored_at_the_other(
    context: Make, plain: Callable[[str], Plain], family: str
):
    site_in, site_out = "blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out"
    sae, tiny = transcoder(site_in, site_out), context(family)
    w = weights(sae)

    def codes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        f = np.maximum(x @ w["W_enc"] + w["b_enc"], 0)
        return f, f @ w["W_dec"] + w["b_dec"]

    output = measure(sae, tiny)
    assert_close(values(output), reference(plain(family), tiny, site_in, site_out, codes))
    [angle] = [m for m in output.measurements if m.metric == "encoder_decoder_cosine"]
    assert (angle.value, angle.not_scored) == (None, "encoder and decoder lie at different sites")


class RunningMean(BaseAdapter):
    """Not position-wise: reconstructs each token as the mean of those before it. Spoils its input, if told to."""

    def __init__(self, site: str, spoil: bool = False) -> None:
        super().__init__(name="mean", architecture="mean", hook=HookSite.at(site), d_in=WIDTH, d_sae=WIDTH)
        self.spoil = spoil

    def encode(self, x: Tensor) -> Tensor:
        assert x.ndim == 3
        assert x.shape[1] == PARAMETERS["context_length"]  # special tokens and all
        counts = torch.arange(1, x.shape[1] + 1)[:, None]
        z = x.cumsum(1) / counts
        if self.spoil:
            x.zero_()
        return z

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z


def test_an_sae_that_is_not_position_wise_sees_whole_sequences(context: Make, plain: Callable[[str], Plain]):
    tiny = context("gemma3")
    output = measure(RunningMean(SITE), tiny)
    batch = tiny.batch(PARAMETERS["text"], PARAMETERS["context_length"], PARAMETERS["sequences"])
    evaluated = batch.evaluated.numpy()
    whole = plain("gemma3").activation(batch.tokens, SITE)
    running = (whole.cumsum(1) / np.arange(1, whole.shape[1] + 1)[:, None])[evaluated]
    assert_close(values(output), reference(plain("gemma3"), tiny, SITE, SITE, lambda x: (running, running)))
    reasons = {m.metric: m.not_scored for m in output.measurements if m.unit == "latent"}
    assert reasons == {
        "decoder_max_cosine": "the SAE has no linear decoder",
        "encoder_max_cosine": "the SAE has no encoder directions",
        "encoder_decoder_cosine": "the SAE has no linear decoder",
    }


class WritesIntoItsInput(NeuronBaseline):
    def encode(self, x: Tensor) -> Tensor:
        x += 1
        return x.clone()

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z.mul_(2)


@pytest.mark.parametrize("kind", [RunningMean, WritesIntoItsInput])
def test_an_sae_that_writes_into_its_input_harms_no_other(context: Make, kind: type):
    tiny, sae = context(), topk_sae(SITE)
    before = values(measure(sae, tiny))
    rude = RunningMean(SITE, spoil=True) if kind is RunningMean else kind(WIDTH, name="rude", hook=HookSite.at(SITE))
    shared = activations(tiny.clean(*_key(), SITE))
    kept = [tiny.captured(*_key()).activations(SITE, shard) for shard in tiny.captured(*_key()).shards]
    copy = shared.clone()
    found = values(measure(rude, tiny))
    assert torch.equal(torch.cat(kept), copy)
    assert values(measure(sae, tiny)) == before
    if kind is WritesIntoItsInput:  # its codes are those of encode(), whatever decode() does to them
        evaluated = tiny.batch(*_key()).evaluated
        assert found["l1"] == pytest.approx(float((copy[evaluated] + 1).abs().sum(-1).double().mean()), rel=1e-5)


def _key() -> tuple[str, int, int]:
    return PARAMETERS["text"], PARAMETERS["context_length"], PARAMETERS["sequences"]


@pytest.mark.parametrize("family", ["gemma3", "gpt2", "gemma2", "llama"])
@pytest.mark.parametrize("site", ["blocks.0.hook_resid_pre", SITE, "blocks.2.hook_resid_post", "blocks.1.hook_mlp_out"])
def test_the_identity_changes_nothing(context: Make, family: str, site: str):
    tiny = context(family)
    output = measure(NeuronBaseline(WIDTH, name="n", hook=HookSite.at(site)), tiny)
    found = values(output)
    assert found["ce_sae"] == found["ce_clean"]
    assert found["kl_sae"] == pytest.approx(0, abs=1e-6)
    for metric, value in {"fvu": 0, "fvu_standardised": 0, "mse": 0, "explained_variance": 1, "l2_ratio": 1}.items():
        assert found[metric] == pytest.approx(value, abs=1e-12), metric
    assert found["cosine"] == pytest.approx(1, abs=1e-12)
    assert found["reconstruction_bias"] == pytest.approx(1, abs=1e-12)
    for metric in ("ce_recovered_zero", "ce_recovered_mean"):
        assert found[metric] in (1.0, None)
    assert found["l0"] == WIDTH


def test_the_identity_changes_nothing_in_bfloat16(tiny_gemma3_dir: Path):
    lm = load_lm(str(tiny_gemma3_dir), device=torch.device("cpu"), dtype=torch.bfloat16)
    output = measure(
        NeuronBaseline(WIDTH, name="n", hook=HookSite.at(SITE)),
        TaskContext(lm, batch_size=3, read=lambda ref: documents()),
    )
    found = values(output)
    assert found["ce_sae"] == found["ce_clean"]
    assert found["fvu"] == 0
    assert found["kl_sae"] == pytest.approx(0, abs=1e-5)
    assert all(array.dtype in (np.float64, np.float32) for array in output.arrays.values())


class Constant(BaseAdapter):
    """Gives one vector back, whatever it is given."""

    def __init__(self, vector: Tensor) -> None:
        super().__init__(
            name="constant",
            architecture="constant",
            hook=HookSite.at(SITE),
            d_in=WIDTH,
            d_sae=3,
            capabilities=frozenset({Capability.POSITION_WISE}),
        )
        self.vector = vector

    def encode(self, x: Tensor) -> Tensor:
        return torch.zeros(*x.shape[:-1], 3)

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return self.vector.expand(*z.shape[:-1], WIDTH)


@pytest.mark.parametrize("family", ["gemma3", "gpt2"])
def test_an_sae_that_gives_the_ablation_scores_as_the_ablation(context: Make, family: str):
    tiny = context(family)
    mean = tiny.clean(*_key(), SITE).centre.mean.float()
    found = values(measure(Constant(mean), tiny))
    assert found["fvu"] == pytest.approx(1, abs=1e-6)
    assert found["fvu_standardised"] == pytest.approx(1, abs=1e-6)
    assert found["ce_sae"] == pytest.approx(found["ce_mean"], abs=1e-6)
    assert found["kl_sae"] == pytest.approx(found["kl_mean"], abs=1e-6)
    assert found["ce_recovered_mean"] in (None, pytest.approx(0, abs=1e-5))
    assert (found["l0"], found["l1"], found["dead_share"]) == (0, 0, 1)

    output = measure(Constant(torch.zeros(WIDTH)), tiny)
    found = values(output)
    assert found["ce_sae"] == found["ce_zero"]
    assert found["kl_recovered"] == 0
    assert found["l2_ratio"] == 0
    [bias] = [m for m in output.measurements if m.metric == "reconstruction_bias"]
    assert (bias.value, bias.ci_low, bias.stderr) == (None, None, None)
    assert "0 / 0" in str(bias.not_scored)
    assert output.counts["not_scored"] == sum(value is None for value in found.values()) >= 4


def test_permuted_decoder_leaves_the_encoder_and_breaks_the_rest(context: Make):
    tiny, sae = context("gemma3"), topk_sae(SITE)
    whole, shuffled = (values(measure(s, tiny)) for s in (sae, PermutedDecoderBaseline(sae, name="p", seed=0)))
    same = ("l0", "l1", "dead_share", "density_over_1pct", "density_over_10pct", "encoder_max_cosine", "ce_clean")
    assert {metric: whole[metric] for metric in same} == {metric: shuffled[metric] for metric in same}
    assert shuffled["decoder_max_cosine"] == pytest.approx(whole["decoder_max_cosine"], rel=1e-6)
    for metric in ("fvu", "mse", "cosine", "ce_sae", "kl_sae", "encoder_decoder_cosine"):
        assert shuffled[metric] != pytest.approx(whole[metric], rel=1e-3), metric


def test_every_metric_of_the_card_once_with_its_interval(context: Make):
    tiny = context("gemma3")
    output = measure(topk_sae(SITE), tiny)
    assert sorted(m.metric for m in output.measurements) == sorted(IDS)
    for m in output.measurements:
        assert (m.value is None) == (m.not_scored is not None), m.metric
        assert m.unit == ("latent" if m.metric.endswith("_cosine") else "sequence")
        assert m.n == (48 if m.unit == "latent" else PARAMETERS["sequences"])
        if m.value is not None and m.ci_low is not None and m.ci_high is not None:
            assert m.ci_low <= m.value <= m.ci_high, m.metric
        if m.contributions:
            num, den = (output.arrays[f"{m.contributions}.{part}"] for part in ("num", "den"))
            assert num.shape == den.shape == (PARAMETERS["sequences"],)
            assert num.dtype == den.dtype == np.float64
            if m.value is not None:
                assert num.sum() / den.sum() == m.value
            else:
                assert den.sum() == 0
    without = {m.metric for m in output.measurements if not m.contributions}
    shares = {"dead_share", "density_over_1pct", "density_over_10pct"}
    assert without == shares | {"decoder_max_cosine", "encoder_max_cosine", "encoder_decoder_cosine"}
    spread = [m for m in output.measurements if m.metric in ("fvu", "ce_sae", "kl_sae", "l1")]
    assert all(m.stderr and m.ci_low < m.value < m.ci_high for m in spread)


def test_massive_tokens_are_left_out_of_one_fvu(
    context: Make, plain: Callable[[str], Plain], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ordinary, "MASSIVE", 1.2)
    sae, tiny = topk_sae(SITE), context("gemma3")
    output = measure(sae, tiny)
    assert 0 < output.counts["massive_tokens"] < output.counts["tokens"] / 2
    expected = reference(plain("gemma3"), tiny, SITE, SITE, topk_codes(sae), massive=1.2)
    assert values(output)["fvu_ordinary"] == pytest.approx(expected["fvu_ordinary"], rel=RTOL)
    assert expected["fvu_ordinary"] != pytest.approx(expected["fvu"], rel=1e-2)


def test_an_identity_reconstructs_everything_and_is_as_wide_as_the_activation(context: Make):
    found = values(measure(NeuronBaseline(WIDTH, name="identity", hook=HookSite.at(SITE)), context()))
    assert (found["fvu_ordinary"], found["l0_share"]) == (0, 1)


def test_counts_and_densities(context: Make):
    tiny, sae = context(), topk_sae(SITE)
    output = measure(sae, tiny)
    batch = tiny.batch(*_key())
    evaluated = batch.evaluated
    assert not evaluated[:, 0].any()
    assert (~evaluated[:, 1:]).any()  # special tokens in the middle, too
    assert output.counts == {
        "sequences": 7,
        "sequences_missing": 0,
        "documents": batch.n_documents,
        "tokens": int(evaluated.sum()),
        "massive_tokens": 0,
        "predictions": int(evaluated[:, 1:].sum()),
        "not_scored": sum(m.value is None for m in output.measurements),
    }
    x = activations(tiny.clean(*_key(), SITE))[evaluated]
    fired = (sae.encode(x) != 0).double().mean(0)
    np.testing.assert_allclose(output.arrays["density"], fired, rtol=1e-6)
    many = measure(sae, tiny, sequences=1000)
    assert many.counts["sequences"] + many.counts["sequences_missing"] == 1000


def test_special_tokens_keep_their_activation_and_are_no_targets(context: Make, monkeypatch: pytest.MonkeyPatch):
    tiny = context()
    clean = tiny.clean(*_key(), SITE)
    seen = []
    suffix = LanguageModel.suffix

    def watch(self: LanguageModel, tokens: Tensor, site: str, activation: Tensor, restart: Tensor | None) -> Tensor:
        seen.append(activation.clone())
        return suffix(self, tokens, site, activation, restart)

    monkeypatch.setattr(LanguageModel, "suffix", watch)
    measure(Constant(torch.full((WIDTH,), 7.0)), tiny)
    spliced = torch.cat(seen[: -(-clean.n_sequences // tiny.batch_size)])
    assert torch.equal(spliced[~clean.evaluated], activations(clean)[~clean.evaluated])
    assert bool((spliced[clean.evaluated] == 7).all())


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_the_batch_size_does_not_change_numbers(context: Make, batch_size: int):
    sae = topk_sae(SITE)
    one, other = (values(measure(sae, context("gemma3", batch_size=size))) for size in (7, batch_size))
    assert one.keys() == other.keys()
    for metric, value in one.items():
        assert other[metric] == (None if value is None else pytest.approx(value, rel=1e-4, abs=1e-6)), metric
    exact = ("l0", "dead_share", "density_over_1pct", "density_over_10pct")
    assert [one[metric] for metric in exact] == [other[metric] for metric in exact]


def _exhaust(real: Callable[..., Any], fits: int, calls: list[int]) -> Callable[..., Any]:
    def limited(self: Any, first: Any, *rest: Any) -> Any:
        size = len(first.values) if isinstance(first, SparseCodes) else len(first)
        calls.append(size)
        if size > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(self, first, *rest)

    return limited


@pytest.mark.parametrize("batch_size", [3, 5, 7])  # halves of odd batches straddle what was done before
@pytest.mark.parametrize(
    ("owner", "method", "fits"),
    [(LanguageModel, "suffix", 2), (ReconstructionSums, "add", 45), (FiringCounts, "add", 45)],
)
def test_running_out_of_memory_in_the_middle_changes_no_number(
    context: Make, monkeypatch: pytest.MonkeyPatch, owner: type, method: str, fits: int, batch_size: int
):
    sae, tiny = topk_sae(SITE), context("gemma3", batch_size=batch_size)
    clean = tiny.clean(*_key(), SITE)
    clean.zero, clean.mean  # noqa: B018  (computed before memory gets tight)
    calls: list[int] = []
    monkeypatch.setattr(owner, method, _exhaust(getattr(owner, method), fits, calls))
    found = values(measure(sae, tiny))
    assert max(calls) > fits
    assert clean.batch_size < batch_size
    monkeypatch.undo()
    for metric, value in values(measure(sae, context("gemma3", batch_size=7))).items():
        assert found[metric] == (None if value is None else pytest.approx(value, rel=1e-4, abs=1e-6)), metric


def test_running_out_of_memory_with_one_sequence_is_an_error(context: Make, monkeypatch: pytest.MonkeyPatch):
    tiny = context()
    tiny.clean(*_key(), SITE)
    monkeypatch.setattr(LanguageModel, "suffix", _exhaust(LanguageModel.suffix, 0, []))
    with pytest.raises(SaebenchError, match="Out of memory with a batch of one sequence"):
        measure(topk_sae(SITE), tiny)


@pytest.mark.parametrize("method", ["encode_sparse", "encode", "decode"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_at_run_time_is_an_error_not_a_number(
    context: Make, monkeypatch: pytest.MonkeyPatch, method: str, value: float
):
    sae = topk_sae(SITE) if method == "encode_sparse" else NeuronBaseline(WIDTH, name="tiny-0", hook=HookSite.at(SITE))
    real = getattr(type(sae), method)
    calls = []

    def sometimes(self: Any, *args: Any) -> Any:
        out = real(self, *args)
        calls.append(1)
        if len(calls) == 2:
            (out.values if method == "encode_sparse" else out)[0, 0] = value
        return out

    monkeypatch.setattr(type(sae), method, sometimes)
    part = "reconstruction" if method == "decode" else "latents"
    with pytest.raises(SaebenchError, match=f"tiny-0: its {part} hold NaN or Inf on 1 of 7 sequences"):
        measure(sae, context())


def test_a_loss_that_is_not_finite_is_not_scored_for_the_right_reason(context: Make, monkeypatch: pytest.MonkeyPatch):
    tiny = context()
    clean = tiny.clean(*_key(), SITE)
    nan = torch.tensor(torch.nan, dtype=torch.float64)
    monkeypatch.setattr(type(clean), "_splice_batch", lambda self, rows, new: nan.expand(2, rows.stop - rows.start))
    output = measure(topk_sae(SITE), tiny)
    reasons = {m.metric: m.not_scored for m in output.measurements if m.value is None}
    assert "nan / " in str(reasons["ce_sae"])
    assert "zero ablation does not" not in str(reasons["ce_recovered_zero"])
    assert values(output)["ce_clean"] is not None


def test_an_ablation_that_does_no_harm_is_no_yardstick(context: Make):
    tiny = context()
    clean = tiny.clean(*_key(), SITE)
    clean.__dict__["mean"] = type(clean.zero)(clean.ce - 0.1, clean.zero.kl)
    output = measure(topk_sae(SITE), tiny)
    [recovered] = [m for m in output.measurements if m.metric == "ce_recovered_mean"]
    assert (recovered.value, recovered.not_scored) == (None, "mean ablation does not raise the cross-entropy")
    assert output.arrays["ce_recovered_mean.den"].sum() == 0


def test_two_saes_see_the_same_tokens_and_draws(context: Make):
    tiny = context()
    outputs = [measure(topk_sae(SITE, seed), tiny) for seed in (0, 1)]
    for key in ("ce_clean", "ce_zero", "ce_mean", "kl_zero", "kl_mean"):
        first, second = ([m for m in o.measurements if m.metric == key] for o in outputs)
        assert first == second  # intervals, too
        np.testing.assert_array_equal(*(o.arrays[f"{key}.num"] for o in outputs))
    np.testing.assert_array_equal(*(o.arrays["fvu.den"] for o in outputs))
    assert values(outputs[0])["fvu"] != values(outputs[1])["fvu"]


def test_gradients_are_not_recorded(context: Make):
    sae = topk_sae(SITE)
    sae.sae.requires_grad_(True)
    output = measure(sae, context())
    assert values(output)["decoder_max_cosine"] is not None
    assert all(parameter.grad is None for parameter in sae.parameters())


@pytest.mark.parametrize(
    ("texts", "changes", "error", "message"),
    [
        (["ab", "cd"], {}, DataError, "too few for two sequences of 24"),
        (["éé" * 100] * 5, {}, DataError, "special tokens only"),
        (None, {"context_length": 65}, UsageError, "64 positions; context_length=65"),
    ],
)
def test_texts_that_cannot_be_used_are_refused_in_advance(
    context: Make, texts: list[str] | None, changes: dict[str, int], error: type[Exception], message: str
):
    text = documents() if texts is None else type(documents())("memory:bad", texts)
    with pytest.raises(error, match=message):
        settings = CoreSettings.parse({**PARAMETERS, **changes}, task="core")
        CoreTask().prepare(context(read=lambda ref: text), settings)


def test_units_are_the_sequences(context: Make):
    one, two = (measure(topk_sae(SITE, seed), context()) for seed in range(2))
    assert_units(one, same=two, other=measure(topk_sae(SITE), context(seed=1)), differ={"sequence"})
