"""A made-up world for boards: two task cards, and records of SAEs with chosen numbers per unit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from saebench.cards.card import Parameter
from saebench.leaderboard.board import Board
from saebench.results.record import Measurement, Record, Status
from saebench.results.store import ResultStore
from saebench.stats.intervals import ratio
from tests.cards.made_up import card, metric
from tests.results.conftest import make_identity, make_record

MODEL, HOOK = "asset:gemma-3-270m", "blocks.9.hook_resid_post"


PARAMETERS = {
    "text": Parameter(default="asset:a", description="d"),
    "scale": Parameter(default=1, description="d"),
}
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
        parameters=PARAMETERS,
    ),
    "beta": card("beta", [metric("score", True, primary=True)], parameters=PARAMETERS),
}


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
        l0: float | None = None,
        who: dict[str, Any] | None = None,
        sequences: str = "",
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
            units={"sequence": sequences * 64} if sequences else {},
        )
        record.sae.d_sae, record.sae.name = d_sae, name or sae
        record.sae.l0 = record.sae.l0 if l0 is None else l0
        self.store.write(record, arrays)
        return record
