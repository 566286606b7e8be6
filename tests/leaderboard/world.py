"""A made-up world for boards: two task cards, and records of SAEs whose numbers are given per unit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from saebench.cards.card import MetricSpec, Parameter, TaskCard
from saebench.errors import UsageError, did_you_mean
from saebench.leaderboard.board import Board
from saebench.results.record import Measurement, Record, Status
from saebench.results.store import ResultStore
from saebench.stats.intervals import ratio
from tests.results.conftest import make_identity, make_record

MODEL, HOOK = "asset:gemma-3-270m", "blocks.9.hook_resid_post"


def metric(id: str, higher_is_better: bool | None, **more: Any) -> MetricSpec:
    facts = {"title": id, "description": "d", "unit": "share", "bounds": [0.0, 1.0], "interval": "bootstrap"}
    return MetricSpec(**{"id": id, "higher_is_better": higher_is_better, **facts, **more})


def card(name: str, metrics: Sequence[MetricSpec], version: int = 1) -> TaskCard:
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
        parameters={
            "text": Parameter(default="asset:a", description="d"),
            "scale": Parameter(default=1, description="d"),
        },
        presets={preset: {} for preset in ("smoke", "quick", "standard", "paper")},
        data=[],
        metrics=list(metrics),
        table_columns=[metrics[0].id],
        citation=[],
    )


CARDS = {
    "alpha": card(
        "alpha",
        [
            metric("good", True, primary=True),
            metric("loss", False, primary=True),
            metric("shaky", True, primary=True, ranked=False),
            metric("plain", None, primary=True),
            metric("extra", True),
        ],
        version=2,
    ),
    "beta": card("beta", [metric("score", True, primary=True)]),
}


def cards(name: str) -> TaskCard:
    if name not in CARDS:
        raise UsageError(f"There is no task {name!r}.{did_you_mean(name, CARDS)}")
    return CARDS[name]


def board(**changes: Any) -> Board:
    return Board.model_validate(
        {"name": "b", "title": "T", "description": "D", "tasks": {"alpha": None, "beta": None}} | changes
    )


class World:
    """A folder of records. ``add("a", "alpha", good=[...])`` writes one whose metrics are means of the given units."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ResultStore(folder)

    def add(
        self,
        sae: str,
        task: str,
        *,
        version: int | None = None,
        d_sae: int = 2048,
        control: bool = False,
        name: str | None = None,
        hook: str = HOOK,
        preset: str = "quick",
        error: str = "",
        density: Sequence[float] | None = None,
        who: dict[str, Any] | None = None,
        **units: Sequence[float] | None,
    ) -> Record:
        identity = make_identity(
            **{
                "task": task,
                "task_version": CARDS[task].version if version is None else version,
                "parameters": {"text": "asset:a", "scale": 1},
                "sae": sae,
                "sae_fingerprint": f"of {sae}",
                **(who or {}),
            }
        )
        arrays: dict[str, Any] = {} if density is None else {"density": np.array(density)}
        numbers = []
        for key, values in units.items():
            if values is None:
                numbers.append(Measurement(metric=key, value=None, not_scored="it cannot be"))
                continue
            num, den = np.array(values, float), np.ones(len(values))
            arrays |= {f"{key}.num": num, f"{key}.den": den}
            spread = float(num.std(ddof=1) / len(num) ** 0.5)
            value = ratio(num, den)
            more = {"stderr": spread, "ci_low": value - 2 * spread, "ci_high": value + 2 * spread}
            numbers.append(Measurement(metric=key, value=value, n=len(num), unit="sequence", contributions=key, **more))
        record = make_record(
            identity,
            measurements=numbers,
            status=Status.FAILED if error else Status.OK,
            error=error,
            hook=hook,
            control=control,
            preset=preset,
            created=datetime(2026, 1, 2, tzinfo=UTC),
        )
        record.sae.d_sae, record.sae.name = d_sae, name or sae
        self.store.write(record, arrays)
        return record
