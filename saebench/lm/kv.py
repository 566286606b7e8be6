"""Texts that grow by a token a step: passes that keep keys and values, and what texts with one prompt share."""

from __future__ import annotations

import inspect
from contextlib import nullcontext, suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.lm.model import LanguageModel, StopPass


class Prefix:
    """What the first ``blocks`` blocks of the unchanged model make of prompts: their output, their keys and values.

    Row ``i`` of it is of prompt ``rows[i]``; each prompt is read once, padded on the left where ``text`` is False.
    To be made outside of interventions.
    """

    def __init__(
        self,
        lm: LanguageModel,
        tokens: Int[Tensor, "prompts position"],
        text: Bool[Tensor, "prompts position"],
        blocks: int,
        rows: Int[Tensor, " rows"],
    ) -> None:
        self.blocks = blocks
        cache = _new_cache(lm)
        found: list[Tensor] = []

        def stop(value: Tensor) -> None:
            found.append(value)
            raise StopPass

        with lm.hooks({f"blocks.{blocks}.hook_resid_pre": stop}), suppress(StopPass):
            _pass(lm, tokens, text, cache)
        self.residual = found[0][rows]
        self.layers = cache.layers[:blocks]
        for layer in self.layers:
            layer.batch_select_indices(rows)


class Growing:
    """A batch of texts, padded on the left where ``text`` is False, with the keys and values of what was read."""

    def __init__(self, lm: LanguageModel, text: Bool[Tensor, "rows position"]) -> None:
        self._lm, self._text, self._cache = lm, text, _new_cache(lm)

    def begin(
        self, tokens: Int[Tensor, "rows position"], prefix: Prefix | None = None
    ) -> Float[Tensor, "rows d_model"]:
        """The final hidden state (after the last norm) of each text's last token.

        With ``prefix``, made of the same rows, the blocks that it has passed are not run again.
        """
        with nullcontext() if prefix is None else self._lm.skipping(prefix.blocks, prefix.residual):
            hidden = _pass(self._lm, tokens, self._text, self._cache)
        if prefix is not None:
            self._cache.layers[: prefix.blocks] = prefix.layers
        return hidden

    def repeat(self, n: int) -> None:
        """Make ``n`` rows of each, next to each other."""
        if n > 1:
            self._cache.batch_repeat_interleave(n)
            self._text = self._text.repeat_interleave(n, dim=0)

    def add(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows d_model"]:
        """Append a token to each text; its final hidden state."""
        self._text = torch.cat([self._text, torch.ones_like(self._text[:, :1])], dim=1)
        return _pass(self._lm, tokens[:, None], self._text, self._cache)


def can_share(lm: LanguageModel) -> bool:
    """Whether a pass from a `Prefix` on, and a step after it, give what whole passes give; tried once."""
    if lm not in _CAN_SHARE:
        _CAN_SHARE[lm] = lm.n_layers > 1 and lm.suffix_supported and _tried(lm)
    return _CAN_SHARE[lm]


_CAN_SHARE: WeakKeyDictionary[LanguageModel, bool] = WeakKeyDictionary()


@torch.no_grad()
def _tried(lm: LanguageModel) -> bool:
    """Not so where later blocks read the keys of earlier ones, say."""
    tokens = torch.arange(1, 13, device=lm.device).reshape(2, 6) % lm.head.vocab_size
    text = torch.ones_like(tokens, dtype=torch.bool)
    blocks, rows = max(1, lm.n_layers // 2), torch.arange(len(tokens), device=lm.device)
    whole, cut = Growing(lm, text), Growing(lm, text)
    try:
        pairs = [(whole.begin(tokens), cut.begin(tokens, Prefix(lm, tokens, text, blocks, rows)))]
        pairs.append((whole.add(tokens[:, 0]), cut.add(tokens[:, 0])))
    except (TypeError, RuntimeError, AttributeError, IndexError, KeyError, ValueError):
        return False
    tolerance = 1e-4 if lm.dtype in (torch.float32, torch.float64) else 3e-2
    return all(bool((a - b).float().norm() <= tolerance * a.float().norm()) for a, b in pairs)


def _new_cache(lm: LanguageModel) -> Any:
    from transformers import DynamicCache

    return DynamicCache(config=lm.config)


def _pass(lm: LanguageModel, tokens: Tensor, text: Tensor, cache: Any) -> Tensor:
    """The last tokens of texts, ``text`` being of the whole."""
    base = lm.model.base_model
    given: dict[str, Any] = {"attention_mask": text.long()}
    if "position_ids" in inspect.signature(base.forward).parameters:  # a model without counts by the mask
        places = (text.long().cumsum(1) - 1).clamp(min=0)
        given["position_ids"] = places[:, -tokens.shape[1] :]
    out = base(input_ids=tokens, past_key_values=cache, use_cache=True, **given)
    hidden: Tensor = out.last_hidden_state[:, -1]
    return hidden
