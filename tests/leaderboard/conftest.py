from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cards.made_up import installed
from tests.leaderboard.world import CARDS


@pytest.fixture
def made_up_cards() -> Iterator[None]:
    """The tasks ``alpha`` and ``beta`` of the made-up world are the only ones."""
    with installed(*CARDS.values()):
        yield
