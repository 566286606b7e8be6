"""How probable chosen tokens are when the language model is changed at one hook point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.errors import UsageError
from saebench.interventions.base import Intervention, on_texts
from saebench.interventions.edit import LatentEdit
from saebench.interventions.latents import Reading
from saebench.lm.batching import to_device
from saebench.passes.item_blocks import CLEAN, Block, ItemBlocks
from saebench.passes.items import Item, answer_items, text_items
from saebench.progress import Progress

__all__ = ["Item", "ScoredItems", "answer_items", "text_items"]


class ScoredItems:
    """The cross-entropies of items' tokens under interventions at ``site``, in nats (float64, on the CPU).

    The pass up to the site is computed once and cached. Interventions continue from there, and logits are computed only
    for the tokens that are wanted. An intervention acts on the text and leaves special tokens alone.

    Items are padded on the right. An SAE that encodes every token by itself does not notice; one that reads whole texts
    would read the padding as well. `clean` and `under` describe the model as it was loaded: change its weights only
    around `as_is`, and change them back afterwards.
    """

    def __init__(self, blocks: ItemBlocks, site: str, progress: Progress) -> None:
        """Raises HookMismatchError when the model has no such site."""
        self.site, self.n = site, blocks.n
        self.counts: Float[Tensor, " items"] = blocks.counts.double()
        self.item: Int[Tensor, " predictions"] = torch.arange(self.n).repeat_interleave(blocks.counts)
        self._blocks, self._lm, self._progress = blocks, blocks.lm, progress
        self._restart_site = self._lm.restart_site(site)

    @cached_property
    def clean(self) -> Float[Tensor, " predictions"]:
        """The cross-entropies under the unmodified model; computed when first asked for, and cached."""
        out = torch.empty(len(self.item), dtype=torch.float64)
        with self._progress.task(f"clean pass over {self.n} items", self.n, "items") as ticker:
            for block, values in self._blocks.read(CLEAN, along=[self.site, self._restart_site]):
                out[block.predictions] = values[CLEAN].double()
                ticker.advance(len(block.items))
        return out

    def under(
        self, interventions: Sequence[Intervention], description: str = ""
    ) -> Float[Tensor, "interventions predictions"]:
        """The cross-entropies under each intervention.

        All interventions share the pass up to the site, and edits of the same ``latents`` share the encoding. Where an
        intervention leaves an item's activation as it is, bit for bit, the item keeps its clean values and costs no
        pass, so an edit with a condition costs only as much as it changes. An intervention with a memory starts every
        text anew. Raises UsageError for an intervention at another site.
        """
        for intervention in interventions:
            if intervention.site != self.site:
                raise UsageError(f"These items are scored at {self.site}; an intervention acts at {intervention.site}.")
        out = torch.empty(len(interventions), len(self.item), dtype=torch.float64)
        sites = dict.fromkeys([self.site, self._restart_site, *(intervention.reads for intervention in interventions)])
        description = description or f"{len(interventions)} interventions on {self.n} items"
        with self._progress.task(description, self.n, "items") as ticker:
            for block, values in self._blocks.read(CLEAN, *sites):
                out[:, block.predictions] = self._block(block, values, interventions)
                ticker.advance(len(block.items))
        return out

    def as_is(self) -> Float[Tensor, " predictions"]:
        """The cross-entropies under the weights that the model has now, by a full pass; not cached.

        Methods that change weights use it.
        """
        out = torch.empty(len(self.item), dtype=torch.float64)
        with self._progress.task(f"full pass over {self.n} items", self.n, "items") as ticker:
            for block, ce in self._blocks.full():
                out[block.predictions] = ce.double()
                ticker.advance(len(block.items))
        return out

    def per_item(self, values: Float[Tensor, "... predictions"]) -> Float[Tensor, "... items"]:
        """The sum over each item's predictions, in float64; 0 for an item without predictions."""
        out = torch.zeros(*values.shape[:-1], self.n, dtype=torch.float64)
        return out.index_add_(-1, self.item, values.double())

    # ------------------------------------------------------------------ inside

    @torch.no_grad()
    def _block(self, block: Block, clean: dict[str, Tensor], interventions: Sequence[Intervention]) -> Tensor:
        """The cross-entropies ``[interventions, predictions]`` of a block; rows of several interventions share a pass.

        ``clean`` holds the unmodified model's activations and cross-entropies.
        """
        device = self._lm.device
        at = {name: to_device(values, device) for name, values in clean.items() if name != CLEAN}
        x, text = at[self.site], to_device(block.text, device)
        out = clean[CLEAN].double().repeat(len(interventions), 1)
        waiting: list[_Changed] = []
        for number, new in enumerate(self._applied(interventions, at, text)):
            new = torch.where(text[..., None], new.to(x.dtype), x)
            rows = (new != x).flatten(1).any(1).cpu() & (block.counts > 0)
            if bool(rows.any()):
                index = rows.nonzero()[:, 0]
                waiting.append(_Changed(number, index, new[to_device(index, device)]))
            if sum(len(changed.rows) for changed in waiting) >= self._blocks.fit(block):
                self._score(block, at, waiting, out)
                waiting = []
        self._score(block, at, waiting, out)
        return out

    def _applied(self, interventions: Sequence[Intervention], at: dict[str, Tensor], text: Tensor) -> Iterator[Tensor]:
        readings: dict[tuple[int, bool], Reading] = {}
        x = at[self.site]
        for intervention in interventions:
            source = None if intervention.reads == self.site else at[intervention.reads]
            if not isinstance(intervention, LatentEdit):
                yield on_texts(intervention, x, text, source)
                continue
            # An edit that does not look at the latents' values gets a reading without them, which needs no encoding.
            key = (id(intervention.latents), intervention.looks)
            if key not in readings:
                readings[key] = intervention.read(x, text, source)
            intervention.reset()
            yield intervention.rewrite(readings[key])

    def _score(self, block: Block, at: dict[str, Tensor], waiting: list[_Changed], out: Tensor) -> None:
        """Continue the pass from the changed activations, and write the cross-entropies into ``out``."""
        if not waiting:
            return
        device, inside = self._lm.device, self._restart_site != self.site
        new = torch.cat([changed.activation for changed in waiting])
        rows = torch.cat([changed.rows for changed in waiting])
        number = torch.cat([torch.full_like(changed.rows, changed.number) for changed in waiting])

        def work(batch: slice) -> None:
            some = rows[batch]
            restart = at[self._restart_site][to_device(some, device)] if inside else None
            hidden = self._lm.suffix(to_device(block.tokens[some], device), self.site, new[batch], restart)
            wanted, ce = self._blocks.losses(block, some, hidden)
            out[number[batch].repeat_interleave(block.counts[some]), wanted] = ce.double()

        self._blocks.in_batches(block, len(rows), work)


@dataclass(frozen=True)
class _Changed:
    """The rows of a block that one intervention changes."""

    number: int  # of the intervention
    rows: Int[Tensor, " rows"]  # on the CPU
    activation: Float[Tensor, "rows position d"]
