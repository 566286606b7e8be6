"""Several interventions in one batch, each at its own rows; and continuations of prompts under each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from saebench.errors import SaebenchError, UsageError
from saebench.interventions.base import Intervention
from saebench.lm.generate import generate_rows
from saebench.lm.model import LanguageModel
from saebench.lm.sampling import Sampling


class Rows:
    """One intervention for each row of a batch, or None for a row that stays as it is.

    An intervention that is given for several rows sees these alone, in their order, so what it remembers is theirs.
    """

    def __init__(self, interventions: Sequence[Intervention | None]) -> None:
        """Raises UsageError without any, for several sites, or when two of them hold the same intervention inside.

        Two that share a part (one within another, say) would overwrite what the part remembers of its rows.
        """
        distinct = _distinct(interventions)
        sites = {each.site for each in distinct}
        if len(sites) != 1:
            raise UsageError(
                f"The rows of a batch are changed at one site, not at {', '.join(sorted(sites)) or 'none'}."
            )
        others = {each.reads for each in distinct} - sites
        if len(others) > 1:
            raise UsageError(f"The rows of a batch cannot read several other sites: {', '.join(sorted(others))}.")
        if any(_share(a, b) for place, a in enumerate(distinct) for b in distinct[:place]):
            raise UsageError("Two interventions of a batch share one that they are made of; build it anew for each.")
        (self.site,) = sites
        self.reads = next(iter(others), self.site)
        self.interventions = list(interventions)
        self._groups = [
            (each, torch.tensor([row for row, at in enumerate(interventions) if at is each])) for each in distinct
        ]

    @property
    def causal(self) -> bool:
        return all(each.causal for each, _ in self._groups)

    @torch.no_grad()
    def __call__(self, x: Tensor, mask: Tensor, source: Tensor | None = None) -> Tensor:
        """Raises SaebenchError for a batch of another number of rows."""
        if len(x) != len(self.interventions):
            raise SaebenchError(f"{len(self.interventions)} interventions were chosen for a batch of {len(x)} rows.")
        out = x.clone()
        for each, rows in self._groups:
            rows = rows.to(x.device)
            given = None if source is None or each.reads == self.site else source[rows]
            out[rows] = each(x[rows], mask[rows], given)
        return out

    def reset(self) -> None:
        for each, _ in self._groups:
            each.reset()

    def describe(self) -> dict[str, Any]:
        rows = [None if each is None else each.describe() for each in self.interventions]
        return {"kind": "rows", "site": self.site, "rows": rows}


def generate_settings(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    interventions: Sequence[Intervention | None],
    *,
    max_new_tokens: int,
    samplings: Sequence[Sampling | None] = (None,),
    batch_size: int = 32,
    done: Callable[[int], None] = lambda _: None,
) -> list[list[list[list[int]]]]:
    """New tokens ``[interventions][prompts][samplings]``, as `saebench.lm.generate.generate` gives them for each alone.

    Batches run over prompts and settings, all settings of a prompt side by side, so that they are padded alike. None
    is the clean model. What is drawn by a sampling depends on the prompt's place alone: settings are paired.
    Settings that cannot share a batch (other sites, or a part in common) get batches of their own. ``done`` is told
    how many continuations a batch has finished. Raises as ``generate`` does.
    """
    found: list[list[list[list[int]]]] = [[] for _ in interventions]
    for places in _compatible(interventions):
        new = generate_rows(
            lm,
            prompts,
            max_new_tokens=max_new_tokens,
            intervention=partial(_at_rows, [interventions[place] for place in places]),
            samplings=samplings,
            batch_size=batch_size,
            copies=len(places),
            done=done,
        )
        for number, place in enumerate(places):
            found[place] = new[number :: len(places)]
    return found


def _at_rows(settings: Sequence[Intervention | None], rows: Sequence[int]) -> Rows | None:
    chosen = [settings[row % len(settings)] for row in rows]
    return None if all(each is None for each in chosen) else Rows(chosen)


def _compatible(interventions: Sequence[Intervention | None]) -> list[list[int]]:
    """Places of settings that can share batches, each place once."""
    groups: list[list[int]] = []
    for place, new in enumerate(interventions):
        for group in groups:
            if not any(_apart(new, interventions[other]) for other in group):
                group.append(place)
                break
        else:
            groups.append([place])
    return groups


def _apart(a: Intervention | None, b: Intervention | None) -> bool:
    """Whether two settings need batches of their own."""
    if a is None or b is None or a is b:
        return False
    return a.site != b.site or len({a.reads, b.reads} - {a.site}) > 1 or _share(a, b)


def _distinct(interventions: Sequence[Intervention | None]) -> list[Intervention]:
    """Each object once."""
    return list({id(each): each for each in interventions if each is not None}.values())


def _share(a: Intervention, b: Intervention) -> bool:
    return bool({id(part) for part in _parts(a)} & {id(part) for part in _parts(b)})


def _parts(intervention: Intervention) -> Iterator[Intervention]:
    """An intervention and all that it is made of."""
    yield intervention
    for value in vars(intervention).values():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, Intervention):
                yield from _parts(part)
