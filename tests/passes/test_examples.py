"""Activations of texts read one by one: padding, batches and the cache change nothing; passes are not repeated."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saebench.cache.tensors import TensorCache
from saebench.errors import DataError, HookMismatchError, SaebenchError, UsageError
from saebench.lm.model import LanguageModel
from saebench.passes import examples as module
from saebench.passes.context import TaskContext
from saebench.passes.examples import Examples, blocks_of_lengths, tokenize_examples
from tests.conftest import CONTEXT, FAMILIES, WIDTH, build_tokenizer

SITE, OTHER = "blocks.1.hook_resid_post", "blocks.2.hook_mlp_out"
# Of many lengths, some longer than a context of 16, some with special tokens (é is unknown) inside and at the end.
TEXTS = [
    "a",
    "bcd efg é",
    "the longest of all texts é here",
    "é x é",
    *("abcdefgh ij"[: 1 + i % 11] for i in range(13)),
]

Make = Callable[..., TaskContext]
Numbers = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def cache(folder: Path | None = None, memory: int = 10**8) -> TensorCache:
    return TensorCache(folder, memory=memory, disk=10**9 if folder else 0, log=pytest.fail)


def numbers(examples: Examples, site: str = SITE) -> Numbers:
    """Last activations, all activations in the order of the examples, and the example of each."""
    blocks = list(examples.tokens(site))
    x, example = (torch.cat(part) for part in zip(*blocks, strict=True))
    order = torch.sort(example, stable=True).indices
    return examples.last(site), x[order], example[order]


def same_bits(one: Numbers, other: Numbers) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the batches of the prefix passes over examples, in order."""
    seen: list[tuple[int, ...]] = []
    real = LanguageModel.prefix

    def spy(self: LanguageModel, tokens: torch.Tensor, sites: Any) -> Any:
        seen.append(tuple(tokens.shape))
        return real(self, tokens, sites)

    monkeypatch.setattr(LanguageModel, "prefix", spy)
    return seen


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._BLOCK_TOKENS, "cpu", 40)


# ------------------------------------------------------------------ what is read


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch_size", [3, None])
def test_each_text_has_the_activations_that_it_has_alone(context: Make, family: str, batch_size: int | None):
    tiny = context(family, batch_size=batch_size, sites=(SITE, OTHER))
    tokenizer, special = tiny.lm.tokenizer, tiny.lm.tokenizer.all_special_ids
    found = {site: numbers(tiny.examples(TEXTS, 16), site) for site in (SITE, OTHER)}
    assert (found[SITE][0].dtype, found[SITE][0].shape) == (torch.float32, (len(TEXTS), WIDTH))
    for row, text in enumerate(TEXTS):
        ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"][-15:]]
        read = tiny.lm.prefix(torch.tensor([ids]), [SITE, OTHER])
        for site, (last, x, example) in found.items():
            alone = read[site][0][[token not in special for token in ids]]
            torch.testing.assert_close(x[example == row], alone, rtol=1e-4, atol=1e-4)
            assert torch.equal(last[row], x[example == row][-1])


def test_one_text_and_all_at_once_agree(context: Make):
    tiny = context("gemma3", batch_size=None)
    together = tiny.examples(TEXTS, 24).last(SITE)
    for row in (0, 2, 5):
        torch.testing.assert_close(tiny.examples([TEXTS[row]], 24).last(SITE)[0], together[row], rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("small_blocks")
def test_blocks_hold_whole_examples_each_once(context: Make):
    tiny = context("gpt2", batch_size=None)
    examples = tiny.examples(TEXTS, 16)
    found = [example for _, example in examples.tokens(SITE)]
    assert len(found) > 3
    assert sorted(int(row) for block in found for row in block.unique()) == list(range(len(TEXTS)))
    counts = torch.bincount(torch.cat(found))
    assert counts[:4].tolist() == [1, 8, 14, 3]  # é is special


@given(st.lists(st.integers(2, 50), min_size=1, max_size=60), st.integers(2, 200))
def test_blocks_are_full_but_not_too_full(lengths: list[int], most: int):
    blocks = blocks_of_lengths(np.array(lengths), most)
    assert sorted(row for block in blocks for row in block) == list(range(len(lengths)))
    padded = [len(block) * max(lengths[row] for row in block) for block in blocks]
    assert all(size <= most or len(block) == 1 for size, block in zip(padded, blocks, strict=True))
    for block, after in pairwise(blocks):
        assert (len(block) + 1) * lengths[after[0]] > most


# ------------------------------------------------------------------ tokens


def test_long_texts_keep_their_end_and_begin_with_bos():
    tokenizer = build_tokenizer()
    rows = tokenize_examples(["abcdefgh", "xy"], tokenizer, 4)
    texts = np.split(np.array(tokenizer.convert_ids_to_tokens(rows.tokens.tolist())), rows.starts[1:])
    assert [list(text) for text in texts] == [["<bos>", "f", "g", "h"], ["<bos>", "x", "y"]]
    assert rows.evaluated.tolist() == [False, True, True, True, False, True, True]


def test_a_tokenizer_without_bos_has_its_eos_put_first():
    tokenizer = build_tokenizer()
    tokenizer.bos_token = None
    assert tokenize_examples(["a"], tokenizer, 4).tokens[0] == tokenizer.eos_token_id
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="neither a BOS nor an EOS"):
        tokenize_examples(["a"], tokenizer, 4)


@pytest.mark.parametrize(("text", "shown"), [("éé", "'éé'"), ("", "''"), ("abcdééé", "'abcdééé'")])
def test_a_text_of_special_tokens_is_named(text: str, shown: str):
    with pytest.raises(DataError, match=rf"Example 1 \({shown}\) has no token but special ones in its last 3"):
        tokenize_examples(["fine", text, "éé"], build_tokenizer(), 4)


def test_no_text_and_lengths_that_cannot_be(context: Make):
    tiny = context("gpt2")
    with pytest.raises(DataError, match="no text to read"):
        tiny.examples([], 16)
    with pytest.raises(UsageError, match="at least 2 tokens, not 1"):
        tiny.examples(TEXTS, 1)
    with pytest.raises(UsageError, match=f"has {CONTEXT} positions"):
        tiny.examples(TEXTS, CONTEXT + 1)


def test_content_hash_sees_boundaries_and_special_tokens():
    tokenizer = build_tokenizer()
    hashes = [tokenize_examples(texts, tokenizer, 16).content_hash for texts in (["ab", "c"], ["c", "ab"], ["abc"])]
    assert len(set(hashes)) == 3
    tokenizer.add_special_tokens({"additional_special_tokens": ["a"]})
    assert tokenize_examples(["ab", "c"], tokenizer, 16).content_hash not in hashes


# ------------------------------------------------------------------ what is kept


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("family", ["gemma3", "gpt2"])
def test_what_is_found_on_disk_is_what_was_computed(context: Make, tmp_path: Path, passes: list[Any], family: str):
    first = numbers(context(family, cache=cache(tmp_path)).examples(TEXTS, 16))
    again = context(family, cache=cache(tmp_path, memory=0)).examples(TEXTS, 16)
    again.want(SITE)
    passes.clear()
    assert same_bits(first, numbers(again))
    assert passes == []


def test_without_any_cache_everything_is_computed_again_and_equal(context: Make):
    examples = context("gemma3", cache=cache(memory=0)).examples(TEXTS, 16)
    assert same_bits(numbers(examples), numbers(examples))


@pytest.mark.usefixtures("small_blocks")
def test_last_alone_keeps_no_tokens_and_tokens_keep_last_too(context: Make, tmp_path: Path, passes: list[Any]):
    examples = context("gemma3", cache=cache(tmp_path), sites=(SITE, OTHER)).examples(TEXTS, 16)
    passes.clear()
    examples.last(SITE)
    blocks = len(passes)
    examples.last(OTHER)  # known beforehand: it came from the same pass
    assert len(passes) == blocks
    assert len(list(tmp_path.iterdir())) == 2
    list(examples.tokens(SITE))
    assert len(passes) == 2 * blocks
    list(examples.tokens(OTHER))
    assert len(passes) == 2 * blocks
    other = context("gemma3", cache=cache(tmp_path / "other"), sites=(SITE,)).examples(TEXTS, 16)
    passes.clear()
    list(other.tokens(SITE))
    other.last(SITE)
    assert len(passes) == blocks


def test_a_site_that_comes_later_is_captured_alone(context: Make, passes: list[Any]):
    examples = context("gemma3", cache=cache()).examples(TEXTS, 16)
    first = examples.last(SITE)
    later = examples.last(OTHER)
    assert torch.equal(examples.last(SITE), first)
    assert not torch.equal(later, first)
    with pytest.raises(HookMismatchError):
        examples.last("blocks.99.hook_resid_post")


@pytest.mark.usefixtures("small_blocks")
def test_a_damaged_block_is_computed_again(context: Make, tmp_path: Path):
    first = numbers(context("gemma3", cache=cache(tmp_path)).examples(TEXTS, 16))
    files = sorted(tmp_path.rglob("*.safetensors"))
    for file in files[::3]:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    said: list[str] = []
    shared = TensorCache(tmp_path, memory=0, disk=10**9, log=said.append)
    assert same_bits(first, numbers(context("gemma3", cache=shared).examples(TEXTS, 16)))
    assert len(said) == len(files[::3])


def test_equal_texts_are_read_once_and_models_do_not_mix(context: Make, tmp_path: Path):
    shared = cache(tmp_path)
    tiny = context("gemma3", cache=shared)
    assert tiny.examples(TEXTS, 16) is tiny.examples(tuple(TEXTS), 16)
    assert tiny.examples(TEXTS, 16) is not tiny.examples(TEXTS, 15)
    assert tiny.examples(TEXTS, 16) is not tiny.examples(TEXTS[::-1], 16)
    one, other = tiny.examples(TEXTS, 16).last(SITE), context("llama", cache=shared).examples(TEXTS, 16).last(SITE)
    assert not torch.equal(one, other)


@pytest.mark.usefixtures("small_blocks")
def test_memory_that_runs_out_halves_the_batches(context: Make, monkeypatch: pytest.MonkeyPatch, passes: list[Any]):
    expected = numbers(context("gemma3", batch_size=None).examples(TEXTS, 16))
    real = LanguageModel.prefix

    def tight(self: LanguageModel, tokens: torch.Tensor, sites: Any) -> Any:
        if tokens.numel() > most:
            raise MemoryError
        return real(self, tokens, sites)

    monkeypatch.setattr(LanguageModel, "prefix", tight)
    most = 24
    found = numbers(context("gemma3", batch_size=None).examples(TEXTS, 16))
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
    most = 1
    with pytest.raises(SaebenchError, match="batch of one sequence"):
        context("gemma3", batch_size=None).examples(TEXTS, 16).last(SITE)


def test_progress_is_in_tokens(context: Make):
    seen: list[tuple[str, float | None, str]] = []
    done: list[float] = []

    class Watch:
        def task(self, description: str, total: float | None = None, unit: str = "") -> Any:
            seen.append((description, total, unit))
            return self

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: Any) -> None:
            pass

        def advance(self, n: float = 1) -> None:
            done.append(n)

        def log(self, message: str) -> None:
            pass

    examples = context("gpt2", progress=Watch()).examples(TEXTS, 16)
    examples.last(SITE)
    assert seen == [(f"activations of {len(TEXTS)} examples at {SITE}", float(len(examples.rows.tokens)), "tokens")]
    assert sum(done) == len(examples.rows.tokens)
