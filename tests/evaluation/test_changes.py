"""Methods at rising strengths, and the one that validation chose."""

from __future__ import annotations

import json

import pytest

from saebench.evaluation.changes import DIFFMEAN, NOISE, Setting, Sweep


@pytest.fixture
def sweep() -> Sweep[str]:
    return Sweep(DIFFMEAN, (0.5, 1.0, 2.0), ("weak", "middle", "strong"), latents=(3, 5))


@pytest.mark.parametrize(("place", "strength", "change"), [(0, 0.5, "weak"), (2, 2.0, "strong")])
def test_the_chosen_strength(sweep: Sweep[str], place: int, strength: float, change: str):
    chosen = sweep.chosen(place)
    assert chosen.sweep is sweep
    assert chosen.setting == Setting(DIFFMEAN, strength)
    assert chosen.change == change


def test_where_no_strength_is_better_nothing_is_changed(sweep: Sweep[str]):
    chosen = sweep.chosen(None)
    assert chosen.setting == Setting(DIFFMEAN, None)
    assert chosen.change is None


def test_a_method_may_have_nothing_to_change():
    chosen = Sweep[str](NOISE, (0.5, 1.0), ()).chosen(1)
    assert (chosen.setting, chosen.change) == (Setting(NOISE, 1.0), None)


def test_a_setting_is_noted_as_json():
    note = Setting(DIFFMEAN, 0.5).note()
    assert json.loads(json.dumps(note)) == note == {"method": "diffmean", "strength": 0.5}
    assert len({Setting(DIFFMEAN, 0.5), Setting(DIFFMEAN, 0.5), Setting(NOISE, 0.5)}) == 2
