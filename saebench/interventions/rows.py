"""Several interventions in one batch, each in its own rows, and continuations of prompts under each of them."""

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
    """An intervention for each row of a batch, or None for a row that does not change.

    An intervention of several rows sees only these rows, in their order, so what it remembers belongs to them.
    """

    def __init__(self, interventions: Sequence[Intervention | None]) -> None:
        """Take the intervention of each row.

        Raises:
            UsageError: There is no intervention, they act at several sites, or two of them share a part, for example
                because one is inside another. They would overwrite what the part remembers of its rows.
        """
        distinct = _distinct(interventions)
        sites = {intervention.site for intervention in distinct}
        if len(sites) != 1:
            raise UsageError(
                f"The rows of a batch are changed at one site, not at {', '.join(sorted(sites)) or 'none'}."
            )
        others = {intervention.reads for intervention in distinct} - sites
        if len(others) > 1:
            raise UsageError(f"The rows of a batch cannot read several other sites: {', '.join(sorted(others))}.")
        if any(_share(a, b) for place, a in enumerate(distinct) for b in distinct[:place]):
            raise UsageError(
                "Two interventions of a batch share one that they are composed of; build another one for each of them."
            )
        (self.site,) = sites
        self.reads = next(iter(others), self.site)
        self.interventions = list(interventions)
        self._groups = [
            (intervention, torch.tensor([row for row, other in enumerate(interventions) if other is intervention]))
            for intervention in distinct
        ]

    @property
    def causal(self) -> bool:
        """Whether all interventions are causal."""
        return all(intervention.causal for intervention, _ in self._groups)

    @torch.no_grad()
    def __call__(self, x: Tensor, mask: Tensor, source: Tensor | None = None) -> Tensor:
        """Return the changed activation. Raises SaebenchError if the batch has another number of rows."""
        if len(x) != len(self.interventions):
            raise SaebenchError(f"{len(self.interventions)} interventions were chosen for a batch of {len(x)} rows.")
        out = x.clone()
        for intervention, rows in self._groups:
            rows = rows.to(x.device)
            source_rows = None if source is None or intervention.reads == self.site else source[rows]
            out[rows] = intervention(x[rows], mask[rows], source_rows)
        return out

    def reset(self) -> None:
        """Forget the positions read so far."""
        for intervention, _ in self._groups:
            intervention.reset()

    def describe(self) -> dict[str, Any]:
        """Return the description of each row's intervention, ready for JSON."""
        rows = [None if intervention is None else intervention.describe() for intervention in self.interventions]
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
    """Return continuations of prompts under several interventions, as `generate` gives them for each of them alone.

    All interventions of a prompt are side by side in a batch, so that they are padded equally, and they share their
    random numbers. Interventions that cannot share a batch, because they act at other sites or have a part in common,
    are put into different batches.

    Args:
        lm: The language model.
        prompts: The tokens of each prompt, with BOS if the model needs one.
        interventions: The interventions, of which None changes nothing.
        max_new_tokens: The most tokens of a continuation.
        samplings: The ways to draw tokens; None takes the most probable token at every step.
        batch_size: The number of continuations that are generated at a time.
        done: Is called with the number of continuations that a batch has finished.

    Returns:
        The new tokens, ``[interventions][prompts][samplings]``.

    Raises:
        UsageError: A prompt is empty, or too long for the model.
        HookMismatchError: An intervention does not fit the model.
    """
    continuations: list[list[list[list[int]]]] = [[] for _ in interventions]
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
            continuations[place] = new[number :: len(places)]
    return continuations


def _at_rows(settings: Sequence[Intervention | None], rows: Sequence[int]) -> Rows | None:
    chosen = [settings[row % len(settings)] for row in rows]
    return None if all(intervention is None for intervention in chosen) else Rows(chosen)


def _compatible(interventions: Sequence[Intervention | None]) -> list[list[int]]:
    """Return groups of interventions that can share batches, by their places in the list."""
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
    """Return whether two interventions need different batches."""
    if a is None or b is None or a is b:
        return False
    return a.site != b.site or len({a.reads, b.reads} - {a.site}) > 1 or _share(a, b)


def _distinct(interventions: Sequence[Intervention | None]) -> list[Intervention]:
    """Return the different interventions, without None."""
    return list({id(intervention): intervention for intervention in interventions if intervention is not None}.values())


def _share(a: Intervention, b: Intervention) -> bool:
    """Return whether two interventions have a part in common."""
    return bool({id(part) for part in _parts(a)} & {id(part) for part in _parts(b)})


def _parts(intervention: Intervention) -> Iterator[Intervention]:
    """Yield an intervention and all interventions that it is composed of."""
    yield intervention
    for value in vars(intervention).values():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, Intervention):
                yield from _parts(part)
