"""The planted language model of an audit, its panel of SAEs, and how good each of them is known to be."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from saebench.audit.assemble import Known
from saebench.audit.calls import Setting, Size
from saebench.audit.subjects import Subjects, canonical, cheats, group, rewritten
from saebench.cards.card import TaskCard
from saebench.sae.panel.planted_scheme import KNOWN_FEATURES

if TYPE_CHECKING:
    from torch import Tensor

    from saebench.lm.facts import Facts
    from saebench.sae.protocol import SAE
    from saebench.synthetic.planted import Planted

_PANEL = "planted-panel"
_TRAINED = f"{_PANEL}:trained"
_PERMUTED = "baseline:permuted-decoder"
_ORACLE = f"{_PANEL}:oracle?seed=0"
_DOCUMENTS = 80  # to which the known quality refers
_SEEDS = range(3)  # of the members of a group


def known(card: TaskCard, size: Size, seed: int, out: Path, *, groups: bool) -> Known:
    """Return a planted language model with its panel, and the settings of a task on it.

    Args:
        card: The task's card. A task without settings of its own for planted models takes its preset ``smoke``.
        size: The recipe of the model, and how long SAEs are trained.
        seed: The seed of the model.
        out: The folder in which the model is written, if it is not there yet.
        groups: Whether the task compares SAEs of a group.
    """
    from saebench.synthetic.planted import SITE, TASKS, overrides

    folder = written(out, size.recipe, seed)
    adapted = card.name in TASKS
    options = {
        "tasks": [card.name],
        "model": str(folder),
        "hook": SITE,
        "text": f"jsonl:{folder / 'documents.jsonl'}",  # to which controls are fitted, also where a task reads no text
        "suite": "quick" if adapted else "smoke",
        "parameters": {card.name: overrides(folder, card.name)} if adapted else {},
    }
    subjects = group_panel(size.steps) if groups else panel(size.steps)
    quality = {reference: _quality(folder, reference) for reference in subjects.known}
    return Known(Setting("planted", subjects, options, groups), quality)


def written(out: Path, recipe: str, seed: int) -> Path:
    """Return the folder of a planted model, which is made unless it is whole and there."""
    from saebench.errors import ModelError
    from saebench.synthetic.planted import load_process, make, verify

    folder = out / f"planted-{recipe}-{seed}"
    try:
        verify(folder)
        load_process(folder)  # of another version of saebench it may be whole and yet another model
    except ModelError:
        make(folder, recipe, seed)
    return folder.resolve()


def panel(steps: Sequence[int]) -> Subjects:
    """Return SAEs of a planted model. Those that are trained take ``steps``, in rising order; the last three count."""
    along = {_seeded(f"{_TRAINED}?steps={number}"): number for number in steps}
    *_, short, shorter, best = along
    random, frozen = _seeded(f"{_PANEL}:random"), _seeded(f"{_PANEL}:frozen?steps={steps[-1]}")
    adversaries, dense = cheats(best)
    # The models are small, and so is the number of their tokens.
    fitted = {"adversary:memorised": "?d_sae=512", "adversary:always-on": "?d_sae=512"}
    return Subjects(
        # Another seed, and two shorter trainings: two seeds alone hardly differ, so that all of their spread is noise.
        trained=canonical([best, _seeded(f"{_TRAINED}?steps={steps[-1]}", 1), shorter, short]),
        controls=canonical([random, frozen, f"{_PERMUTED}({best})?seed=0"]),
        permuted=canonical([f"{_PERMUTED}({best})?seed=0"])[0],
        adversaries=canonical([name + fitted.get(name, "") for name in adversaries]),
        dense=canonical([name + fitted.get(name, "") for name in dense]),
        rewritten={what: canonical([copy])[0] for what, copy in rewritten(best).items()},
        known=canonical(
            [*map(_seeded, KNOWN_FEATURES), *list(along)[1::2], frozen, random, f"{_PERMUTED}({_ORACLE})?seed=0"]
        ),
        oracle=canonical([_ORACLE])[0],
        steps={canonical([reference])[0]: number for reference, number in along.items()},
    )


def group_panel(steps: Sequence[int]) -> Subjects:
    """Return groups of SAEs of a planted model, as `panel` does. The SAEs of a group differ in their seed."""

    def seeds(name: str, reference: str, wrapper: str = "{}") -> str:
        return group(name, [wrapper.format(_seeded(reference, seed)) for seed in _SEEDS])

    # Oracles without noise differ in the order of their latents only, and would be refused as copies.
    noisy = {f"oracle-{noise}": f"{_PANEL}:oracle?noise={noise}" for noise in ("0.1", "0.3", "1", "3")}
    kinds = {kind: f"{_PANEL}:{kind}" for kind in ("merged", "missing", "rotated")}
    along = {seeds(f"trained-{number}", f"{_TRAINED}?steps={number}"): number for number in steps}
    random = seeds("random", f"{_PANEL}:random")
    frozen = seeds("frozen", f"{_PANEL}:frozen?steps={steps[-1]}")
    permuted = seeds("permuted", f"{_TRAINED}?steps={steps[-1]}", f"{_PERMUTED}({{}})?seed=0")
    made = [seeds(name, reference) for name, reference in (noisy | kinds).items()]
    best = f"{_TRAINED}?steps={steps[-1]}"
    # An amplified decoder is left out: it has the same directions, and the task compares directions.
    cheats = {
        "one-direction": seeds("one-direction", best, "adversary:one-direction({})"),
        "memorised": seeds("memorised", "adversary:memorised?d_sae=512"),
    }
    dense = {"random-basis": "adversary:rotated", "always-on": "adversary:always-on?d_sae=512"}
    copies = {"another order of latents": "reordered", "other units": "rescaled"}
    return Subjects(
        trained=tuple(list(along)[:-4:-1]),
        controls=(random, frozen, permuted),
        permuted=permuted,
        adversaries=tuple(cheats.values()),
        dense=tuple(seeds(name, reference) for name, reference in dense.items()),
        rewritten={what: seeds(copy, best, f"adversary:{copy}({{}})") for what, copy in copies.items()},
        known=(*made, *list(along)[1::2], random),
        oracle=made[0],
        steps=along,
    )


def _seeded(reference: str, seed: int = 0) -> str:
    """Return a reference whose SAE does not depend on the seed of the evaluation."""
    return f"{reference}{'&' if '?' in reference.rpartition(')')[2] else '?'}seed={seed}"


@functools.cache
def _facts(folder: Path) -> Facts:
    import torch

    from saebench.lm.facts import Facts
    from saebench.lm.load import load_lm
    from saebench.lm.reference import parse_lm_ref

    return Facts(load_lm(parse_lm_ref(str(folder)), device=torch.device("cpu"), dtype=torch.float32))


def _loaded(folder: Path, reference: str) -> SAE:
    from saebench.sae.base import LoadContext
    from saebench.sae.reference import load_sae

    return load_sae(reference, LoadContext(model=_facts(folder)))


@functools.cache
def _quality(folder: Path, reference: str) -> float:
    """Return the known quality of an SAE, or of a group, which is the mean over its members.

    It is the mean over the true features of cosine times F1: 1 where every feature has a latent that writes it and
    fires where it does.
    """
    from saebench.sae.group_ref import parse_sae_group
    from saebench.sae.panel.known import known_quality

    if "=" in reference.partition(":")[0]:
        members = parse_sae_group(reference).members
        return sum(_quality(folder, str(member)) for member in members) / len(members)
    return known_quality(_loaded(folder, reference), *_documents(folder)).both


@functools.cache
def _documents(folder: Path) -> tuple[Planted, Tensor]:
    """Return the features of a planted model, and documents to which the known quality refers."""
    from saebench.sae.panel.planted import Known as Model
    from saebench.synthetic.planted import load_planted, load_process

    planted = load_planted(folder)
    return planted, Model(planted, load_process(folder), 0, "audit").tokens("quality", _DOCUMENTS)
