from __future__ import annotations

from collections.abc import Iterator

import pytest

from saebench.cards.audits import Grade
from tests.cards.made_up import installed
from tests.leaderboard.world import CARDS

GRADED = ("saebench.leaderboard.board", "saebench.cards.audits")


@pytest.fixture
def made_up_cards() -> Iterator[None]:
    """The tasks ``alpha`` and ``beta`` of the made-up world are the only ones."""
    with installed(*CARDS.values()):
        yield


@pytest.fixture(autouse=True)
def grades(monkeypatch: pytest.MonkeyPatch) -> dict[str, Grade]:
    """The grades of metrics by name; every metric that a test does not name has an A."""
    given: dict[str, Grade] = {}
    for module in GRADED:
        monkeypatch.setattr(
            f"{module}.grade_of", lambda task, version, metric: given.get(metric, Grade("A", "It is sound."))
        )
    return given
