"""Texts that grow by one token at each step, with kept keys and values, and what texts with the same prompt share."""

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
    """The output, keys and values of the first blocks of the unchanged model for some prompts.

    It must be made outside interventions.
    """

    def __init__(
        self,
        lm: LanguageModel,
        tokens: Int[Tensor, "prompts position"],
        text: Bool[Tensor, "prompts position"],
        blocks: int,
        rows: Int[Tensor, " rows"],
    ) -> None:
        """Run each prompt once.

        Args:
            lm: The language model.
            tokens: The prompts, padded on the left.
            text: False at padding.
            blocks: The number of blocks to run.
            rows: The prompt of each row of the result.
        """
        self.blocks = blocks
        cache = _new_cache(lm)
        residuals: list[Tensor] = []

        def stop(value: Tensor) -> None:
            residuals.append(value)
            raise StopPass

        with lm.hooks({f"blocks.{blocks}.hook_resid_pre": stop}), suppress(StopPass):
            _pass(lm, tokens, text, cache)
        self.residual = residuals[0][rows]
        self.layers = cache.layers[:blocks]
        for layer in self.layers:
            layer.batch_select_indices(rows)


class Growing:
    """A batch of texts with the keys and values of the tokens that the model has read."""

    def __init__(self, lm: LanguageModel, text: Bool[Tensor, "rows position"]) -> None:
        """Begin a batch that is padded on the left, where ``text`` is False."""
        self._lm, self._text, self._cache = lm, text, _new_cache(lm)

    def begin(
        self, tokens: Int[Tensor, "rows position"], prefix: Prefix | None = None
    ) -> Float[Tensor, "rows d_model"]:
        """Return the final hidden state, after the last norm, of each text's last token.

        Args:
            tokens: The tokens, padded on the left.
            prefix: A prefix of the same rows, whose blocks are not run again.
        """
        with nullcontext() if prefix is None else self._lm.skipping(prefix.blocks, prefix.residual):
            hidden = _pass(self._lm, tokens, self._text, self._cache)
        if prefix is not None:
            self._cache.layers[: prefix.blocks] = prefix.layers
        return hidden

    def repeat(self, n: int) -> None:
        """Repeat each row ``n`` times; the copies are consecutive."""
        if n > 1:
            self._cache.batch_repeat_interleave(n)
            self._text = self._text.repeat_interleave(n, dim=0)

    def add(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows d_model"]:
        """Append a token to each text, and return the final hidden state of that token."""
        self._text = torch.cat([self._text, torch.ones_like(self._text[:, :1])], dim=1)
        return _pass(self._lm, tokens[:, None], self._text, self._cache)


def can_share(lm: LanguageModel) -> bool:
    """Return whether a pass that begins with a `Prefix`, and a step after it, agree with whole passes.

    This is tried once for each model.
    """
    if lm not in _CAN_SHARE:
        _CAN_SHARE[lm] = lm.n_layers > 1 and lm.suffix_supported and _tried(lm)
    return _CAN_SHARE[lm]


_CAN_SHARE: WeakKeyDictionary[LanguageModel, bool] = WeakKeyDictionary()


@torch.no_grad()
def _tried(lm: LanguageModel) -> bool:
    """Try whether both agree. They do not if later blocks read the keys of earlier ones, for example."""
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
    """Return the final hidden state of each text's last token.

    ``tokens`` are the new tokens, and ``text`` covers the whole texts.
    """
    base = lm.model.base_model
    arguments: dict[str, Any] = {"attention_mask": text.long()}
    if "position_ids" in inspect.signature(base.forward).parameters:  # models without it count by the mask
        places = (text.long().cumsum(1) - 1).clamp(min=0)
        arguments["position_ids"] = places[:, -tokens.shape[1] :]
    out = base(input_ids=tokens, past_key_values=cache, use_cache=True, **arguments)
    hidden: Tensor = out.last_hidden_state[:, -1]
    return hidden
