"""Which tokens are wanted: of texts, and of answers to prompts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saebench.data.tokens import TokenBatch
from saebench.errors import DataError, UsageError
from saebench.passes.items import Item, answer_items, text_items
from tests.conftest import build_tokenizer


class Pairs:
    """A tokenizer of pairs of characters: the end of a prompt merges with the beginning of its answer."""

    bos_token_id: int | None = 1
    eos_token_id: int | None = 2

    def __call__(self, texts: list[str], **options: Any) -> dict[str, list[list[int]]]:
        assert options["add_special_tokens"] is False
        pairs = [[text[i : i + 2] for i in range(0, len(text), 2)] for text in texts]
        return {"input_ids": [[int.from_bytes(pair.encode()) for pair in each] for each in pairs]}


def ids(text: str) -> list[int]:
    return Pairs()([text], add_special_tokens=False)["input_ids"][0]


def test_the_evaluated_tokens_of_each_sequence_are_wanted():
    tokens = torch.tensor([[2, 50, 51, 52], [2, 50, 3, 51], [2, 3, 3, 3]])
    found = text_items(TokenBatch(tokens, tokens > 3, 3))
    assert found == [Item((2, 50, 51, 52), (1, 2, 3)), Item((2, 50, 3, 51), (1, 3)), Item((2, 3, 3, 3), ())]
    first_evaluated = text_items(TokenBatch(tokens, torch.ones_like(tokens, dtype=torch.bool), 3))
    assert first_evaluated[0].predict == (1, 2, 3)  # nothing predicts the first token


@given(st.integers(2, 60), st.integers(1, 70))
def test_fewer_predictions_are_spaced_evenly(length: int, predictions: int):
    tokens = torch.full((1, length), 50)
    (item,) = text_items(TokenBatch(tokens, torch.ones_like(tokens, dtype=torch.bool), 1), predictions)
    assert len(item.predict) == min(predictions, length - 1)
    gaps = {after - before for before, after in zip(item.predict, item.predict[1:], strict=False)}
    assert not gaps or max(gaps) - min(gaps) <= 1
    # As far from one end as from the other.
    assert abs((item.predict[0] - 1) - (length - 1 - item.predict[-1])) <= 1


def test_at_least_one_prediction():
    with pytest.raises(UsageError, match="At least 1 prediction"):
        text_items(TokenBatch(torch.full((1, 5), 50), torch.ones(1, 5, dtype=torch.bool), 1), 0)


@pytest.mark.parametrize("places", [(0,), (3,), (2, 1), (1, 1), (-1,)])
def test_places_that_an_item_does_not_have(places: tuple[int, ...]):
    with pytest.raises(DataError, match="must ascend from 1 to 2"):
        Item((2, 50, 51), places)


def test_answers_follow_their_prompts():
    tokenizer = build_tokenizer()
    (item,) = answer_items([("What?", " yes")], tokenizer, 64)
    assert tokenizer.decode(item.tokens) == "<bos>What? yes"
    assert tokenizer.decode([item.tokens[place] for place in item.predict]) == " yes"


def test_white_space_at_the_end_of_a_prompt_goes_to_its_answer():
    tokenizer = build_tokenizer()
    moved, usual = answer_items([("What? \n", "yes"), ("What?", " \nyes")], tokenizer, 64)
    assert moved == usual
    assert len(moved.predict) == 5


def test_an_answer_is_what_is_left_after_the_tokens_of_its_prompt():
    (item,) = answer_items([("abc", "defg")], Pairs(), 64)
    assert item.tokens == (1, *ids("abc"), *ids("efg"))  # together they are ab cd ef g
    assert item.predict == (3, 4)
    with pytest.raises(DataError, match="'d' has no token of its own after the prompt that ends in 'abc'"):
        answer_items([("abc", "d")], Pairs(), 64)
    with pytest.raises(DataError, match="no token of its own"):
        answer_items([("abcd", "")], Pairs(), 64)


def test_an_empty_prompt_leaves_the_answer_to_bos():
    (item,) = answer_items([("", "abcd")], Pairs(), 64)
    assert item.tokens == (1, *ids("abcd"))
    assert item.predict == (1, 2)


def test_long_prompts_are_cut_on_the_left():
    tokenizer = build_tokenizer()
    cut, whole = (answer_items([("What is it?", " it")], tokenizer, length)[0] for length in (8, 15))
    assert tokenizer.decode(cut.tokens) == "<bos> it? it"
    assert tokenizer.decode([cut.tokens[place] for place in cut.predict]) == " it"
    assert tokenizer.decode(whole.tokens) == "<bos>What is it? it"
    (just,) = answer_items([("What?", "abc")], tokenizer, 4)
    assert (tokenizer.decode(just.tokens), just.predict) == ("<bos>abc", (1, 2, 3))
    with pytest.raises(DataError, match="'abcd' has 4 tokens, but only 3 fit"):
        answer_items([("What?", "abcd")], tokenizer, 4)


def test_answers_beyond_one_call_of_the_tokenizer_keep_their_order():
    tokenizer = build_tokenizer()
    pairs = [(f"prompt {i // 2}", f" {i}") for i in range(600)]
    found = answer_items(pairs, tokenizer, 64)
    assert [tokenizer.decode(item.tokens[1:]) for item in found] == [prompt + answer for prompt, answer in pairs]
    assert [len(item.predict) for item in found] == [len(answer) for _, answer in pairs]


def test_a_tokenizer_without_bos():
    eos, neither = Pairs(), Pairs()
    eos.bos_token_id = neither.bos_token_id = neither.eos_token_id = None
    assert answer_items([("ab", "cd")], eos, 64)[0].tokens[0] == 2
    with pytest.raises(DataError, match="neither a BOS nor an EOS"):
        answer_items([("ab", "cd")], neither, 64)
    with pytest.raises(UsageError, match="at least 2 tokens"):
        answer_items([("ab", "cd")], eos, 1)


@pytest.mark.parametrize("pair", [("What?", " yes"), ("abc ", "def"), ("abc", "defg"), ("a b\n", "c d")])
def test_the_division_is_that_of_lm_eval(pair: tuple[str, str]):
    lm_eval = pytest.importorskip("lm_eval.api.model")

    class Theirs(lm_eval.TemplateLM):  # type: ignore[misc, name-defined]
        eot_token_id = 2
        backend = "causal"

        def tok_encode(self, string: str, **options: Any) -> list[int]:
            return ids(string)

        def _loglikelihood_tokens(self, requests: Any, **options: Any) -> Any: ...

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any: ...

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any: ...

    prompt, answer = Theirs()._encode_pair(*pair)
    (item,) = answer_items([pair], Pairs(), 64)
    assert list(item.tokens[1:]) == prompt + answer
    assert len(item.predict) == len(answer)
