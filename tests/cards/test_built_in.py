"""Every built-in task: its card and its settings agree, presets are valid, and published records keep their ids."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from saebench.cards.agreement import disagreements
from saebench.cards.card import PRESETS
from saebench.cards.registry import BUILT_IN, registry
from saebench.results.identity import record_id
from saebench.results.record import Record
from saebench.results.store import ResultStore
from saebench.results.table import read
from saebench.tasks.factory import implementation, resolve

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="module")
def published() -> dict[str, list[Record]]:
    """The published records by task."""
    records: dict[str, list[Record]] = defaultdict(list)
    for record in read(RESULTS):
        records[record.identity.task].append(record)
    return records


@pytest.mark.parametrize("task", BUILT_IN)
def test_card_and_settings_agree(task: str):
    card, settings = registry().card(task), implementation(task).settings
    assert disagreements(settings, card) == []


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("task", BUILT_IN)
def test_every_preset_gives_settings(task: str, preset: str):
    settings = resolve(task, preset)
    assert settings.parameters() == registry().card(task).resolve(preset)
    assert hash(settings) == hash(resolve(task, preset))


@pytest.mark.parametrize("task", BUILT_IN)
def test_published_records_keep_their_ids(task: str, published: dict[str, list[Record]]):
    """Settings give the parameters of a record back to the letter, so a new run finds the old record.

    A task that is new has no records yet.
    """
    for record in published.get(task, []):
        parameters = implementation(task).settings.parse(record.identity.parameters, task=task).parameters()
        assert repr(sorted(parameters.items())) == repr(sorted(record.identity.parameters.items()))
        assert record_id(record.identity.model_copy(update={"parameters": parameters})) == record.record_id


def test_every_published_record_is_readable(published: dict[str, list[Record]]):
    files = list(RESULTS.rglob("*.json"))
    assert len(list(ResultStore(RESULTS))) == len(files) == sum(map(len, published.values()))
