"""The tiny models must be able to expose a mistake: positions, attention kinds and soft-capping must matter."""

import math
from pathlib import Path

import pytest
import torch
import transformers

TEXT = "The tired student read 12 tables."


def _logits(model, tokenizer, text=TEXT):
    return model(**tokenizer(text, return_tensors="pt")).logits[0].double()


def test_tokenizer_round_trip(tiny_tokenizer):
    ids = tiny_tokenizer(TEXT)["input_ids"]
    assert ids[0] == tiny_tokenizer.bos_token_id
    assert len(ids) == len(TEXT) + 1
    assert tiny_tokenizer.decode(ids, skip_special_tokens=True) == TEXT
    assert tiny_tokenizer("é", add_special_tokens=False)["input_ids"] == [tiny_tokenizer.unk_token_id]


def test_logits_are_far_from_uniform(tiny_lm):
    log_p = _logits(*tiny_lm).log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1).mean()
    assert entropy < 0.95 * math.log(128)


def test_order_of_tokens_matters(tiny_lm):
    change = _logits(*tiny_lm, "ab!")[-1] - _logits(*tiny_lm, "ba!")[-1]
    assert change.abs().max() > 1e-2


@pytest.mark.parametrize("family", ["gemma3", "gemma2", "llama", "gpt2"])
def test_saved_folder_is_the_same_model(family: str, request: pytest.FixtureRequest):
    folder: Path = request.getfixturevalue(f"tiny_{family}_dir")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    torch.testing.assert_close(_logits(model, tokenizer), _logits(*request.getfixturevalue(f"tiny_{family}")))


def test_gemma3_attention_kind_matters(tiny_gemma3):
    model, tokenizer = tiny_gemma3
    config = transformers.Gemma3TextConfig.from_dict({**model.config.to_dict(), "layer_types": ["full_attention"] * 4})
    everything_full = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    everything_full.load_state_dict(model.state_dict())
    assert (_logits(everything_full, tokenizer) - _logits(model, tokenizer)).abs().max() > 1e-2


def test_gemma2_caps_its_logits(tiny_gemma2):
    assert 2 < _logits(*tiny_gemma2).abs().max() < 3
