"""Passes that keep keys and values, from a shared prefix on and without one, against passes from scratch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from saebench.lm.kv import Growing, Prefix, can_share
from saebench.lm.model import LanguageModel
from tests.lm.conftest import Pair

LENGTHS = (9, 3, 16)  # shorter and longer than the sliding window of 6
ROWS = torch.tensor([0, 0, 1, 2, 2, 2, 1])
NEW = torch.tensor([7, 8, 9, 7, 7, 8, 9])


@pytest.fixture
def padded(pair: Pair) -> tuple[Tensor, Tensor]:
    """Tokens ``[prompts, position]`` and where they are text."""
    width = max(LENGTHS)
    text = torch.arange(width) >= width - torch.tensor(LENGTHS)[:, None]
    return torch.where(text, pair.tokens[:, :width], 0), text


def from_scratch(lm: LanguageModel, tokens: Tensor, text: Tensor, rows: Tensor, more: Tensor) -> Tensor:
    """The final hidden state after ``more`` tokens ``[rows, new]``, each row by itself."""
    texts = [torch.cat([tokens[row][text[row]], new]) for row, new in zip(rows, more, strict=True)]
    return torch.stack([lm.full(each[None])[0, -1] for each in texts])


@pytest.mark.parametrize("shared", [False, True])
def test_as_from_scratch(pair: Pair, padded: tuple[Tensor, Tensor], shared: bool):
    lm, (tokens, text) = pair.lm, padded
    assert can_share(lm)
    with torch.no_grad():
        growing = Growing(lm, text[ROWS])
        prefix = Prefix(lm, tokens, text, 1, ROWS) if shared else None
        begun = growing.begin(tokens[ROWS], prefix)
        added = growing.add(NEW)
        growing.repeat(2)
        again = growing.add(NEW.repeat_interleave(2))
    for found, more in ((begun, NEW[:, None][:, :0]), (added, NEW[:, None]), (again[::2], NEW[:, None].repeat(1, 2))):
        expected = from_scratch(lm, tokens, text, ROWS, more)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(again[::2], again[1::2])


def test_models_that_cannot_be_cut_do_not_share(llama: Pair, monkeypatch: pytest.MonkeyPatch):
    from saebench.lm import kv

    monkeypatch.setattr(kv, "_CAN_SHARE", {})
    assert can_share(llama.lm)
    monkeypatch.setattr(kv, "_CAN_SHARE", {})
    monkeypatch.setattr(llama.lm, "suffix_supported", False)
    assert not can_share(llama.lm)


def test_a_prefix_that_gives_other_numbers_is_not_shared(llama: Pair, monkeypatch: pytest.MonkeyPatch):
    from saebench.lm import kv

    class Wrong(Prefix):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            self.layers[0].keys = self.layers[0].keys.flip(0)

    monkeypatch.setattr(kv, "_CAN_SHARE", {})
    monkeypatch.setattr(kv, "Prefix", Wrong)
    assert not can_share(llama.lm)
