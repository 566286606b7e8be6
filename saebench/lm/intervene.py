"""A language model under an intervention: the activation at one hook is replaced in every pass, also of generation.

The intervention acts at the text alone: special tokens and padding keep their activation, whatever it returns there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from saebench.errors import HookMismatchError
from saebench.lm.model import LanguageModel, replacing


class Intervention(Protocol):
    """What a pass needs of an intervention; those of `saebench.interventions` have more."""

    @property
    def site(self) -> str:
        """The hook that it changes."""
        ...

    @property
    def reads(self) -> str:
        """The hook that it looks at: ``site``, or one before it."""
        ...

    def __call__(
        self,
        x: Float[Tensor, "batch position d"],
        mask: Bool[Tensor, "batch position"],
        source: Float[Tensor, "batch position d_in"] | None = None,
    ) -> Float[Tensor, "batch position d"]:
        """What takes the place of ``x`` where ``mask`` is True; ``source`` is the activation at another ``reads``."""
        ...

    def reset(self) -> None:
        """New texts begin: forget the positions seen so far."""
        ...


class Repeated:
    """``intervention`` for a pass whose rows stand for ``copies`` rows each, next to each other, which it remembers."""

    def __init__(self, intervention: Intervention, copies: int) -> None:
        self.site, self.reads, self.copies = intervention.site, intervention.reads, copies
        self._intervention = intervention

    def __call__(self, x: Tensor, mask: Tensor, source: Tensor | None = None) -> Tensor:
        """Copies read the same, so what becomes of the first of them is taken for all."""
        if self.copies == 1:
            return self._intervention(x, mask, source)
        many = [None if each is None else each.repeat_interleave(self.copies, dim=0) for each in (x, mask, source)]
        return self._intervention(*many)[:: self.copies]  # type: ignore[arg-type]

    def reset(self) -> None:
        self._intervention.reset()


@contextmanager
def intervening(
    lm: LanguageModel, intervention: Intervention | None, text: Bool[Tensor, "batch position"] | None = None
) -> Iterator[None]:
    """Every pass of ``lm`` in this context runs under ``intervention``: scoring, and ``lm.model.generate``.

    ``text`` is False at padding; without it the attention mask of the pass says so, if there is one. The
    intervention is reset by every pass that begins new texts, so not by the later steps of generation with a cache.
    Raises HookMismatchError for a site that the model does not have, or if the shape of the activation changes.
    """
    if intervention is None:
        yield
        return
    where = lm.site(intervention.site)
    special = torch.tensor(lm.tokenizer.all_special_ids, dtype=torch.long, device=lm.device)
    mask: Tensor | None = None
    source: Tensor | None = None

    def begin(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal mask
        tokens = args[0] if args else kwargs["input_ids"]
        past = kwargs.get("past_key_values")
        if past is None or past.get_seq_length() == 0:
            intervention.reset()
        mask = ~torch.isin(tokens, special)
        given = kwargs.get("attention_mask") if text is None else text
        if given is not None:  # with a cache it covers what went before, too
            mask &= given[:, -tokens.shape[1] :].bool()

    def read(value: Tensor) -> None:
        nonlocal source
        source = value

    def act(x: Tensor) -> Tensor:
        assert mask is not None  # the base model begins before any of its hooks
        new = intervention(x, mask, source)
        if new.shape != x.shape:
            raise HookMismatchError(
                f"The intervention at {where.name!r} made {tuple(new.shape)} of an activation of shape "
                f"{tuple(x.shape)}; it must keep the shape."
            )
        return replacing(where, torch.where(mask[..., None], new.to(x.dtype), x))(x)

    hooks: dict[str, Callable[[Tensor], Tensor | None]] = {where.name: act}
    if intervention.reads != intervention.site:
        hooks[intervention.reads] = read
    handle = lm.model.base_model.register_forward_pre_hook(begin, with_kwargs=True)
    try:
        with lm.hooks(hooks):
            yield
    finally:
        handle.remove()


@torch.no_grad()
def logits(
    lm: LanguageModel,
    tokens: Int[Tensor, "batch position"],
    *,
    intervention: Intervention | None = None,
    text: Bool[Tensor, "batch position"] | None = None,
    last: int = 0,
) -> Float[Tensor, "batch kept vocabulary"]:
    """Next-token logits of a batch that is padded on the right (where ``text`` is False), if at all.

    ``last`` keeps those of the last positions of the batch only, which spares the unembedding of the others; 0 keeps
    all. Whole logits are large: for losses over long texts see `saebench.lm.losses`. Raises as `intervening` does.
    """
    spare = last and "logits_to_keep" in inspect.signature(lm.model.forward).parameters
    keep = {"logits_to_keep": last} if spare else {}
    with intervening(lm, intervention, text):
        found = lm.model(input_ids=tokens, use_cache=False, **keep).logits
    return found[:, -last:] if last else found
