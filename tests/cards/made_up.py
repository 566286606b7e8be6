"""Made-up task cards, and a registry of them alone: `metric`, `card`, and ``with installed(card, ...)``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from saebench.cards import registry as registry_module
from saebench.cards.card import PRESETS, MetricSpec, Parameter, TaskCard
from saebench.cards.registry import registry


def metric(id: str, higher_is_better: bool | None, **changes: Any) -> MetricSpec:
    facts = {"title": id, "description": "d", "unit": "share", "bounds": [0.0, 1.0], "interval": "bootstrap"}
    return MetricSpec(**{"id": id, "higher_is_better": higher_is_better, **facts, **changes})


def card(
    name: str, metrics: Sequence[MetricSpec], version: int = 1, parameters: dict[str, Parameter] | None = None
) -> TaskCard:
    return TaskCard(
        name=name,
        version=version,
        title=name,
        description="d",
        measures="m",
        cannot_tell="c",
        scope="both",
        needs=[],
        cost="c",
        parameters=parameters or {},
        presets={preset: {} for preset in PRESETS},
        data=[],
        metrics=list(metrics),
        table_columns=[metrics[0].id],
        citation=[],
    )


@contextmanager
def installed(*cards: TaskCard) -> Iterator[None]:
    """Let ``cards`` be the only built-in tasks while the block runs."""
    by_name = {card.name: card for card in cards}

    def load_card(path: Path) -> TaskCard:
        return by_name[path.stem]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry_module, "BUILT_IN", tuple(by_name))
        patch.setattr(registry_module, "load_card", load_card)
        registry.cache_clear()
        yield
    registry.cache_clear()
