"""The head is found, verified against the model's own logits, and refused when it cannot be reproduced."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from saebench.errors import ModelError
from saebench.lm.head import Head, accumulation_dtype, head_of
from tests.conftest import VOCABULARY, WIDTH, TinyLM, build_model

TOKENS = torch.randint(4, VOCABULARY, (2, 16), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def both(model: Any) -> tuple[Tensor, Tensor]:
    """Final hidden states and logits, flattened over positions, by the model itself."""
    return model.base_model(TOKENS).last_hidden_state.flatten(0, 1), model(TOKENS).logits.flatten(0, 1)


def assert_reproduces(head: Head, hidden: Tensor, logits: Tensor, tolerance: float = 1e-5) -> None:
    ours = head.logits(hidden)
    assert ours.dtype == torch.float32
    assert float((ours - logits).norm() / logits.norm()) <= tolerance
    rows = slice(37, 90)
    assert float((head.logits(hidden, rows) - logits[:, rows]).norm() / logits[:, rows].norm()) <= tolerance


def test_every_tiny_family(tiny_lm: TinyLM):
    model, _ = tiny_lm
    hidden, logits = both(model)
    head = head_of(model, hidden, logits)
    assert_reproduces(head, hidden, logits)
    assert (head.vocab_size, head.bias, head.scale) == (VOCABULARY, None, 1.0)
    assert head.softcap == (3.0 if model.config.model_type == "gemma2" else None)
    assert head.linear == (head.softcap is None)


def test_tied_and_untied_heads():
    for tied in (True, False):
        config = transformers.LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=1,
            num_attention_heads=4, initializer_range=0.25, tie_word_embeddings=tied,
        )  # fmt: skip
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        hidden, logits = both(model)
        head = head_of(model, hidden, logits)
        assert_reproduces(head, hidden, logits)
        assert torch.equal(head.weight, model.get_input_embeddings().weight) == tied


SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.25,
}


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        (transformers.CohereConfig(**SMALL, logit_scale=0.25), 0.25),
        (transformers.GraniteConfig(**SMALL, logits_scaling=8.0), 0.125),
        (transformers.GraniteConfig(**SMALL, logits_scaling=1.0), 1.0),
    ],
    ids=["cohere", "granite", "granite-unscaled"],
)
def test_scaled_heads(config: Any, scale: float):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    hidden, logits = both(model)
    head = head_of(model, hidden, logits)
    assert head.scale == scale
    assert head.linear
    assert_reproduces(head, hidden, logits)


class Toy(nn.Module):
    """A head with a bias; ``twist`` is what the forward pass does beyond it."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=True)
        self.config = SimpleNamespace(**config)

    def get_output_embeddings(self) -> nn.Module | None:
        return self.head


HIDDEN = torch.randn(10, WIDTH, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_a_bias_is_used():
    toy = Toy()
    head = head_of(toy, HIDDEN, toy.head(HIDDEN))
    assert head.bias is not None
    assert_reproduces(head, HIDDEN, toy.head(HIDDEN))


@torch.no_grad()
def test_scale_and_cap_apply_after_the_bias():
    toy = Toy(logit_scale=0.5)
    logits = toy.head(HIDDEN) * 0.5
    assert_reproduces(head_of(toy, HIDDEN, logits), HIDDEN, logits)
    toy = Toy(final_logit_softcapping=0.7)
    logits = 0.7 * torch.tanh(toy.head(HIDDEN) / 0.7)
    head = head_of(toy, HIDDEN, logits)
    assert not head.linear
    assert_reproduces(head, HIDDEN, logits)


@torch.no_grad()
def test_a_setting_that_the_model_does_not_apply_is_not_believed():
    toy = Toy(final_logit_softcapping=0.7, logit_scale=0.5, logits_scaling=4.0)
    head = head_of(toy, HIDDEN, toy.head(HIDDEN))
    assert (head.scale, head.softcap) == (1.0, None)


@torch.no_grad()
@pytest.mark.parametrize(
    "twist",
    [
        lambda logits: logits * 1.001,
        lambda logits: logits.roll(1, -1),
        lambda logits: logits.relu(),
        lambda logits: 2 * torch.tanh(logits / 2),
    ],
    ids=["scaled", "permuted", "rectified", "capped, unannounced"],
)
def test_a_head_that_cannot_be_reproduced_is_refused(twist: Any):
    toy = Toy()
    with pytest.raises(ModelError, match="do not follow from its final hidden state"):
        head_of(toy, HIDDEN, twist(toy.head(HIDDEN)))


@torch.no_grad()
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_are_named(bad: float):
    toy = Toy()
    logits = toy.head(HIDDEN)
    logits[3, 5] = bad
    with pytest.raises(ModelError, match="NaN or infinite"):
        head_of(toy, HIDDEN, logits)


def test_no_head_at_all():
    toy = Toy()
    toy.get_output_embeddings = lambda: None  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="no output embedding"):
        head_of(toy, HIDDEN, torch.zeros(10, VOCABULARY))


@pytest.mark.parametrize("family", ["gemma3", "gemma2", "llama", "gpt2"])
def test_bfloat16_heads(family: str):
    model = build_model(family).to(torch.bfloat16)
    hidden, logits = both(model)
    assert_reproduces(head_of(model, hidden, logits), hidden, logits, tolerance=1e-2)


def test_accumulation_dtype():
    assert accumulation_dtype(torch.bfloat16) == accumulation_dtype(torch.float32) == torch.float32
    assert accumulation_dtype(torch.float64) == torch.float64


def test_float64_stays_float64():
    head = Head(torch.randn(5, 3, dtype=torch.float64), torch.randn(5, dtype=torch.float64), 2.0, 1.5)
    hidden = torch.randn(4, 3, dtype=torch.float64)
    expected = 1.5 * torch.tanh(2.0 * (hidden @ head.weight.T + head.bias) / 1.5)
    torch.testing.assert_close(head.logits(hidden), expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(("vocabulary", "bias"), [(50, False), (4096, True), (9000, True)])
def test_best_token_and_whole_logits_in_slices(vocabulary: int, bias: bool):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(vocabulary, 8, generator=generator)
    weight[-1] = weight[1]  # equal logits in the first and in the last slice
    head = Head(weight, torch.randn(vocabulary, generator=generator) if bias else None, scale=0.5, softcap=3.0)
    hidden = torch.cat([torch.randn(6, 8, generator=generator), weight[1:2] / weight[1].norm()])
    expected = head.logits(hidden)
    assert torch.allclose(head.all_logits(hidden), expected, rtol=1e-5, atol=1e-6)
    assert head.best(hidden).tolist() == expected.argmax(-1).tolist()


def test_the_first_of_equal_tokens_is_best():
    weight = torch.zeros(9000, 2)
    weight[[17, 4096, 8999], 0] = 1.0
    assert Head(weight).best(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).tolist() == [17, 0]
