"""A language model under an intervention, which replaces the activation at one hook in every pass.

Passes of generation are included. The intervention acts on text only: special tokens and padding keep their activation,
whatever it returns for them.
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
    """What a pass needs of an intervention. The interventions of `saebench.interventions` have more methods."""

    @property
    def site(self) -> str:
        """The hook at which it changes the activation."""
        ...

    @property
    def reads(self) -> str:
        """The hook whose activation it reads: ``site``, or a hook before it."""
        ...

    def __call__(
        self,
        x: Float[Tensor, "batch position d"],
        mask: Bool[Tensor, "batch position"],
        source: Float[Tensor, "batch position d_in"] | None = None,
    ) -> Float[Tensor, "batch position d"]:
        """Return what replaces the activation.

        Args:
            x: The activation at ``site``.
            mask: True at text, where the activation is replaced.
            source: The activation at ``reads``, if that is another hook.
        """
        ...

    def reset(self) -> None:
        """Forget the positions read so far, because new texts begin."""
        ...


class Repeated:
    """Applies an intervention that has a row for each copy to a pass in which a row stands for consecutive copies."""

    def __init__(self, intervention: Intervention, copies: int) -> None:
        self.site, self.reads, self.copies = intervention.site, intervention.reads, copies
        self._intervention = intervention

    def __call__(self, x: Tensor, mask: Tensor, source: Tensor | None = None) -> Tensor:
        """Return what replaces the activation. All copies of a row read the same, so the first stands for them."""
        if self.copies == 1:
            return self._intervention(x, mask, source)
        many = [
            None if tensor is None else tensor.repeat_interleave(self.copies, dim=0) for tensor in (x, mask, source)
        ]
        return self._intervention(*many)[:: self.copies]  # type: ignore[arg-type]

    def reset(self) -> None:
        """Forget the positions read so far."""
        self._intervention.reset()


@contextmanager
def intervening(
    lm: LanguageModel, intervention: Intervention | None, text: Bool[Tensor, "batch position"] | None = None
) -> Iterator[None]:
    """Run every pass of ``lm`` in this context under an intervention, including ``lm.model.generate``.

    Every pass that begins new texts resets the intervention; later steps of generation with a cache do not.

    Args:
        lm: The language model.
        intervention: The intervention, or None to change nothing.
        text: False at padding. By default the attention mask of a pass tells padding, if the pass has one.

    Raises:
        HookMismatchError: The model has no such site, or the intervention returns another shape.
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
        not_padding = kwargs.get("attention_mask") if text is None else text
        if not_padding is not None:  # with a cache it also covers earlier tokens
            mask &= not_padding[:, -tokens.shape[1] :].bool()

    def read(value: Tensor) -> None:
        nonlocal source
        source = value

    def act(x: Tensor) -> Tensor:
        assert mask is not None  # the base model begins before any of its hooks
        new = intervention(x, mask, source)
        if new.shape != x.shape:
            raise HookMismatchError(
                f"The intervention at {where.name!r} returned the shape {tuple(new.shape)} for an activation of shape "
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
    """Return the next-token logits of a batch. They are large; for losses of long texts see `saebench.lm.losses`.

    Args:
        lm: The language model.
        tokens: The tokens, which may be padded on the right.
        intervention: An intervention, or None.
        text: False at padding.
        last: The number of last positions whose logits are kept; 0 keeps all. The others are not unembedded.

    Raises:
        HookMismatchError: As in `intervening`.
    """
    skips_others = last and "logits_to_keep" in inspect.signature(lm.model.forward).parameters
    keep = {"logits_to_keep": last} if skips_others else {}
    with intervening(lm, intervention, text):
        values = lm.model(input_ids=tokens, use_cache=False, **keep).logits
    return values[:, -last:] if last else values
