import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from saebench.data.text import Documents, tokenize
from saebench.errors import DataError, UsageError

SPECIAL = ["<pad>", "<bos>", "<eos>"]
BOS, EOS = 1, 2


def byte_tokenizer(**special):
    """One token per byte, so that token ids give the text back."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(SPECIAL + alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


FULL = byte_tokenizer(pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
corpora = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30), min_size=20, max_size=150, unique=True
)


def stream(batch):
    """The token stream that the sequences were cut from."""
    return batch.tokens[:, 1:].reshape(-1).tolist()


@settings(max_examples=60, deadline=None)
@given(corpora, st.integers(2, 9), st.none() | st.integers(2, 40), st.integers(0, 3))
def test_no_text_is_lost_or_reordered(texts, context_length, limit, seed):
    documents = Documents("test", texts)
    batch = tokenize(documents, FULL, context_length, limit, seed)
    assert batch.tokens.dtype == torch.int64
    assert batch.tokens.shape[1] == context_length
    assert (batch.tokens[:, 0] == BOS).all()

    ids = stream(batch)
    pieces = [[]]
    for token in ids:
        if token == EOS:
            pieces.append([])
        else:
            pieces[-1].append(token)
    *whole, cut = pieces
    encoded = [FULL(text, add_special_tokens=False)["input_ids"] for text in texts]
    remaining = {tuple(piece): None for piece in encoded}
    for piece in whole:  # every document complete, and none twice
        assert tuple(piece) in remaining
        del remaining[tuple(piece)]
    assert not cut or any(list(rest[: len(cut)]) == cut for rest in remaining)
    assert batch.n_documents == len(whole) + bool(cut)

    available = sum(len(piece) + 1 for piece in encoded) // (context_length - 1)
    expected = available if limit is None else min(limit, available)
    assert len(batch.tokens) == expected
    assert batch.n_missing == (0 if limit is None else limit - expected)


@settings(max_examples=30, deadline=None)
@given(corpora, st.integers(2, 9))
def test_mask_marks_exactly_the_special_tokens(texts, context_length):
    texts = [*texts, "a literal <eos> and <pad> in a text"]
    batch = tokenize(Documents("test", texts), FULL, context_length)
    special = torch.isin(batch.tokens, torch.tensor([0, BOS, EOS]))
    assert batch.evaluated.dtype == torch.bool
    assert torch.equal(batch.evaluated, ~special)


@settings(max_examples=20, deadline=None)
@given(corpora, st.integers(0, 2**63), st.integers(0, 2**63))
def test_the_seed_alone_decides(texts, seed, other):
    documents = Documents("test", texts)
    one, again = (tokenize(documents, FULL, 5, seed=seed) for _ in range(2))
    assert torch.equal(one.tokens, again.tokens)
    assert one.content_hash == again.content_hash
    if seed != other:
        assert tokenize(documents, FULL, 5, seed=other).content_hash != one.content_hash


def test_limit_takes_the_beginning_of_the_unlimited_stream():
    documents = Documents("test", [f"document {i}" for i in range(300)])
    everything = tokenize(documents, FULL, 8, seed=1)
    some = tokenize(documents, FULL, 8, limit=20, seed=1)
    assert torch.equal(some.tokens, everything.tokens[:20])
    assert some.content_hash != everything.content_hash


def test_limited_sample_is_spread_over_the_documents():
    documents = Documents("test", [f"{i:04d}" for i in range(1000)])
    batch = tokenize(documents, FULL, 6, limit=100)
    numbers = [int(FULL.decode(row[1:5])) for row in batch.tokens]
    assert min(numbers) < 100
    assert max(numbers) > 900
    assert 400 < np.mean(numbers) < 600


def test_stops_tokenising_when_the_limit_is_reached():
    class Counting:
        bos_token_id, eos_token_id, all_special_ids = BOS, EOS, [0, BOS, EOS]
        seen = 0

        def __call__(self, texts, **options):
            self.seen += len(texts)
            return FULL(texts, **options)

    counting = Counting()
    tokenize(Documents("test", [f"document {i}" for i in range(5000)]), counting, 8, limit=2)
    assert counting.seen < 200


def test_tokenizer_without_bos_starts_with_eos():
    tokenizer = byte_tokenizer(pad_token="<pad>", eos_token="<eos>")
    batch = tokenize(Documents("test", ["some text"] * 5), tokenizer, 5)
    assert (batch.tokens[:, 0] == EOS).all()
    assert not batch.evaluated[:, 0].any()


def test_tokenizer_with_neither():
    with pytest.raises(DataError, match="neither a BOS nor an EOS"):
        tokenize(Documents("test", ["text"]), byte_tokenizer(), 5)


def test_text_shorter_than_the_context():
    with pytest.raises(DataError, match=r"'test' has only 6 tokens, .*longer text or a smaller context length"):
        tokenize(Documents("test", ["abcde"]), FULL, 16)
    with pytest.raises(DataError, match="only 0 tokens"):
        tokenize(Documents("test", []), FULL, 16)


@pytest.mark.parametrize(
    ("context_length", "limit", "word"), [(1, None, "context length"), (8, 1, "limit"), (8, 0, "limit")]
)
def test_impossible_sizes(context_length, limit, word):
    with pytest.raises(UsageError, match=word):
        tokenize(Documents("test", ["some longer text"] * 3), FULL, context_length, limit)
