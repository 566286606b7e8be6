"""Continuations: the cache, left padding, interventions, and sampling."""

from __future__ import annotations

import pytest
import torch

from saebench.errors import UsageError
from saebench.lm.generate import generate
from saebench.lm.intervene import Intervention, logits
from saebench.lm.sampling import Sampling
from tests.conftest import CONTEXT
from tests.lm.conftest import Pair
from tests.lm.interventions import Count, Edit

NEW = 8
EOS, BOS = 1, 2


def prompts(pair: Pair) -> list[list[int]]:
    """Of several lengths, longer and shorter than the sliding window of 6."""
    return [[BOS, *pair.tokens[row, :length].tolist()] for row, length in ((0, 9), (1, 3), (2, 16), (0, 4))]


def without_cache(pair: Pair, prompt: list[int], intervention: Intervention | None) -> list[int]:
    """The most probable continuation, every step from scratch and each prompt by itself."""
    tokens = list(prompt)
    for _ in range(NEW):
        best = int(logits(pair.lm, torch.tensor([tokens]), intervention=intervention)[0, -1].argmax())
        if best == EOS:
            break
        tokens.append(best)
    return tokens[len(prompt) :]


def test_greedy_is_that_of_transformers(pair: Pair):
    for prompt, found in zip(prompts(pair), generate(pair.lm, prompts(pair), max_new_tokens=NEW), strict=True):
        output = pair.plain.generate(torch.tensor([prompt]), max_new_tokens=NEW, do_sample=False)[0].tolist()
        expected = output[len(prompt) :]
        assert found == (expected[: expected.index(EOS)] if EOS in expected else expected)


def test_identity_changes_nothing(pair: Pair):
    edit = Edit(lambda x: x)
    clean = generate(pair.lm, prompts(pair), max_new_tokens=NEW)
    assert generate(pair.lm, prompts(pair), max_new_tokens=NEW, intervention=edit) == clean
    assert edit.resets == 1


@pytest.mark.parametrize("kind", ["hook_resid_post", "hook_resid_mid"])
def test_with_the_cache_as_without(pair: Pair, kind: str):
    # Count depends on the place in the text, so positions that are lost, doubled or of another row would show.
    count = Count(f"blocks.1.{kind}")
    found = generate(pair.lm, prompts(pair), max_new_tokens=NEW, intervention=count)
    assert found == [without_cache(pair, prompt, count) for prompt in prompts(pair)]
    assert found != generate(pair.lm, prompts(pair), max_new_tokens=NEW)


def test_batches_of_any_size(pair: Pair):
    expected = generate(pair.lm, prompts(pair), max_new_tokens=NEW, intervention=Count())
    assert generate(pair.lm, prompts(pair), max_new_tokens=NEW, intervention=Count(), batch_size=1) == expected


class TestEnd:
    def test_stops_before_the_end_token_and_leaves_finished_rows_alone(
        self, llama: Pair, monkeypatch: pytest.MonkeyPatch
    ):
        whole = generate(llama.lm, prompts(llama), max_new_tokens=NEW)
        end = whole[1][4]  # somebody's token ends the text from now on
        monkeypatch.setattr(llama.lm.model.generation_config, "eos_token_id", [end])
        edit = Edit(lambda x: x)
        found = generate(llama.lm, prompts(llama), max_new_tokens=NEW, intervention=edit)
        assert found == [row[: row.index(end)] if end in row else row for row in whole]
        assert any(len(row) < len(before) for row, before in zip(found, whole, strict=True))
        finished = [not bool(mask[:, 0].all()) for mask in edit.masks[1:]]
        assert any(finished)

    def test_empty_continuation(self, llama: Pair, monkeypatch: pytest.MonkeyPatch):
        first = generate(llama.lm, prompts(llama)[:1], max_new_tokens=1)[0][0]
        monkeypatch.setattr(llama.lm.model.generation_config, "eos_token_id", first)
        assert generate(llama.lm, prompts(llama)[:1], max_new_tokens=NEW) == [[]]


class TestSampling:
    def test_same_seed_same_text_in_batches_of_any_size(self, llama: Pair):
        def draw(seed: int, batch_size: int = 16) -> list[list[int]]:
            sampling = Sampling(seed=seed)
            return generate(llama.lm, prompts(llama) * 2, max_new_tokens=NEW, sampling=sampling, batch_size=batch_size)

        state = torch.get_rng_state()
        first = draw(0)
        assert first == draw(0) == draw(0, batch_size=3)
        assert first != draw(1)
        assert first[:4] != first[4:]  # the same prompts at other places
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("sampling", [Sampling(temperature=1e-3), Sampling(top_p=1e-6)])
    def test_little_freedom_is_greedy(self, llama: Pair, sampling: Sampling):
        greedy = generate(llama.lm, prompts(llama), max_new_tokens=NEW)
        assert generate(llama.lm, prompts(llama), max_new_tokens=NEW, sampling=sampling) == greedy

    @pytest.mark.parametrize("temperature", [1.0, 2.0])
    def test_draws_from_the_distribution(self, llama: Pair, temperature: float):
        prompt, n = prompts(llama)[0], 2000
        probability = (logits(llama.lm, torch.tensor([prompt]))[0, -1] / temperature).softmax(-1)
        drawn = generate(
            llama.lm, [prompt] * n, max_new_tokens=1, sampling=Sampling(temperature=temperature), batch_size=500
        )
        counts = torch.bincount(torch.tensor([row[0] if row else EOS for row in drawn]), minlength=len(probability))
        deviation = (counts / n - probability).abs() / (probability * (1 - probability) / n).sqrt().clamp(min=1 / n)
        assert deviation.max() < 4.5
        assert probability.max() < 0.9  # there was something to draw

    @pytest.mark.parametrize(
        "values", [{"temperature": 0.0}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_p": 2}]
    )
    def test_impossible(self, values: dict[str, float]):
        with pytest.raises(UsageError):
            Sampling(**values)


class TestRefusals:
    def test_empty_prompt(self, llama: Pair):
        with pytest.raises(UsageError, match="Prompt 1 has no tokens"):
            generate(llama.lm, [[BOS], []], max_new_tokens=1)

    def test_longer_than_the_context(self, llama: Pair):
        with pytest.raises(UsageError, match=f"60 tokens, and with 5 new ones it exceeds the context .*{CONTEXT}"):
            generate(llama.lm, [[BOS] * 60], max_new_tokens=5)

    def test_no_tokens_wanted(self, llama: Pair):
        with pytest.raises(UsageError, match="max_new_tokens"):
            generate(llama.lm, [[BOS]], max_new_tokens=0)

    def test_no_prompts(self, llama: Pair):
        assert generate(llama.lm, [], max_new_tokens=1) == []
