"""The planted model of an audit: its panel, what is known of it, and one task from end to end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from saebench.audit import planted
from saebench.audit.audit import audit_task
from saebench.audit.calls import SIZES
from saebench.cards.registry import registry
from saebench.progress import NullProgress

TINY = SIZES["smoke"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit")


def test_quality_is_known_before_anything_is_measured(out: Path) -> None:
    known = planted.known(registry().card("core"), TINY, 0, out, groups=False)
    quality = {sae: known.quality[sae] for sae in known.setting.subjects.known}
    oracle = known.setting.subjects.oracle
    assert quality[oracle] > 0.95
    assert max(quality, key=lambda sae: quality[sae]) == oracle
    permuted = next(sae for sae in quality if "permuted" in sae)
    random = next(sae for sae in quality if "random" in sae)
    assert max(quality[permuted], quality[random]) < 0.1
    noises = [quality[f"planted-panel:oracle?noise={noise}&seed=0"] for noise in ("0.3", "1", "3")]
    assert noises == sorted(noises, reverse=True)


def test_no_sae_depends_on_the_seed_of_the_evaluation() -> None:
    for subjects in (planted.panel(TINY.steps), planted.group_panel(TINY.steps)):
        for reference in subjects.everything():
            assert "planted-panel" not in reference or "seed=" in reference


def test_no_two_groups_have_one_name() -> None:
    groups = planted.group_panel(TINY.steps).everything()
    names = [group.partition("=")[0] for group in groups]
    assert len(set(names)) == len(names)


def test_groups_are_of_seeds_and_their_quality_is_the_mean(out: Path) -> None:
    known = planted.known(registry().card("seed_stability"), TINY, 0, out, groups=True)
    qualities = list(known.quality.values())
    assert known.setting.groups
    assert max(qualities) == known.quality[known.setting.subjects.oracle]


def test_a_model_that_is_damaged_is_made_again(out: Path) -> None:
    folder = planted.written(out, "tiny", 0)
    whole = (folder / "documents.jsonl").read_bytes()
    (folder / "documents.jsonl").write_bytes(whole[:-10])
    assert planted.written(out, "tiny", 0) == folder
    assert (folder / "documents.jsonl").read_bytes() == whole


def test_a_model_of_another_version_is_made_again(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted.written(out, "tiny", 0)
    made = []
    monkeypatch.setattr(sys.modules["saebench.synthetic.planted.make"], "VERSION", -1)
    monkeypatch.setattr("saebench.synthetic.planted.make", lambda folder, *recipe: made.append(folder))
    planted.written(out, "tiny", 0)
    assert made == [out / "planted-tiny-0"]


def test_an_audit_from_end_to_end(out: Path) -> None:
    made = audit_task("core", TINY, "smoke", 0, out, NullProgress())
    assert made.failed == ()
    entries = {entry.metric: entry for entry in made.audit.metrics}
    assert set(entries) == {spec.id for spec in registry().card("core").metrics if spec.primary}
    recovered = entries["ce_recovered_mean"]
    assert recovered.lenses["truth"].figures["correlation"].n >= 10
    assert recovered.lenses["gaming"].figures["tried"].value == 8
    assert recovered.lenses["invariance"].passed
    assert recovered.components is not None
    assert recovered.components.unit == "sequence"
    again = audit_task("core", TINY, "smoke", 0, out, NullProgress())
    assert again.audit.metrics == made.audit.metrics
    assert again.audit.provenance["wall_seconds"] == made.audit.provenance["wall_seconds"]
