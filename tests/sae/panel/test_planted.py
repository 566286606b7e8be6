"""The panel for a planted language model: known qualities, and that tasks order three of its SAEs rightly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from saebench.errors import SAELoadError, UsageError
from saebench.sae.base import LoadContext
from saebench.sae.conformance import CHECKS, Subject, run_check
from saebench.sae.panel.known import Quality, known_quality
from saebench.sae.panel.planted import make_planted
from saebench.sae.panel.planted_scheme import PLANTED_PANEL, PlantedPanelScheme
from saebench.sae.protocol import SAE
from saebench.sae.reference import load_sae, parse_sae_ref
from saebench.synthetic.planted import SITE, TASKS, Planted, load_planted, load_process, make, overrides
from saebench.synthetic.planted.readout import documents
from saebench.synthetic.planted.truth import with_first
from saebench.tasks.factory import resolve

KINDS = [form.body for form in PlantedPanelScheme.forms]
QUICK = {"trained": {"steps": 100}, "frozen": {"steps": 100}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("planted"), "tiny", seed=0)


@pytest.fixture(scope="module")
def planted(folder: Path) -> Planted:
    return load_planted(folder)


@pytest.fixture(scope="module")
def tokens(folder: Path) -> Tensor:
    return with_first(documents(load_process(folder), 40, "test")[0])


@pytest.fixture(scope="module")
def panel(folder: Path) -> Callable[..., SAE]:
    made: dict[tuple[object, ...], SAE] = {}

    def sae(kind: str, seed: int = 0, **options: object) -> SAE:
        options = QUICK.get(kind, {}) | options
        key = (kind, seed, *sorted(options.items()))
        if key not in made:
            made[key] = make_planted(kind, folder, name=f"planted-panel:{kind}", seed=seed, **options)
        return made[key]

    return sae


@pytest.fixture(scope="module")
def known(panel: Callable[..., SAE], planted: Planted, tokens: Tensor) -> Callable[..., Quality]:
    return lambda kind, **options: known_quality(panel(kind, **options), planted, tokens)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("kind", KINDS)
def test_conformance(kind: str, check: str, panel: Callable[..., SAE], planted: Planted, tokens: Tensor):
    x = planted.activations(tokens[:2])[:, 1:].flatten(0, 1)
    result = run_check(check, Subject(lambda: panel(kind), lambda site: planted.directions.shape[1], x))
    assert result.ok or result.skipped, result.detail


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_it(folder: Path, kind: str):
    options = {"trained": {"steps": 5}, "frozen": {"steps": 5}}.get(kind, {})
    one, same, other = (make_planted(kind, folder, name="x", seed=seed, **options) for seed in (0, 0, 1))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    assert str(one.hook) == SITE
    assert one.control == (PlantedPanelScheme().control(parse_sae_ref(f"planted-panel:{kind}")) is not None)


def test_the_oracle_recovers_the_features(known: Callable[..., Quality]):
    quality = known("oracle")
    assert quality.mcc > 0.9999
    assert quality.f1 > 0.97
    assert quality.fvu < 0.002


def test_quality_falls_with_noise(known: Callable[..., Quality]):
    falling = [known("oracle").both, *(known("oracle", noise=noise).both for noise in (0.3, 1.0, 3.0))]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] < 0.1


@pytest.mark.parametrize("kind", ["split", "absorbed", "merged", "rotated", "missing", "trained", "frozen", "random"])
def test_all_others_are_worse_than_the_oracle(known: Callable[..., Quality], kind: str):
    assert known(kind).both < 0.9 * known("oracle").both


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"absorbed", "random"}))
def test_as_many_latents_fire_as_features(known: Callable[..., Quality], kind: str):
    quality = known(kind)
    assert quality.l0 == pytest.approx(quality.true_l0, rel=0.15)


def test_training_helps(known: Callable[..., Quality]):
    assert known("trained", steps=400).both > known("trained", steps=20).both + 0.1
    assert known("trained", steps=400).both > known("frozen", steps=400).both + 0.1


def test_absorbed_parents_are_silent_beside_their_children(panel: Callable[..., SAE], planted: Planted, tokens: Tensor):
    sae = panel("absorbed")
    cosines = torch.nn.functional.normalize(panel("oracle").decoder_directions(), dim=-1) @ planted.directions.T
    latent = cosines.argmax(0)  # both SAEs have their latents in the same order
    fires = sae.encode(planted.activations(tokens)[:, 1:].flatten(0, 1)) != 0
    children = (planted.parents >= 0).nonzero()[:, 0]
    assert bool(fires[:, latent[children]].any())
    assert not bool((fires[:, latent[children]] & fires[:, latent[planted.parents[children]]]).any())


def test_every_task_has_settings_that_it_accepts(folder: Path):
    for task in TASKS:
        resolve(task, "smoke", overrides(folder, task))


def test_references(folder: Path):
    for ref in PLANTED_PANEL:
        assert str(parse_sae_ref(ref)) == ref
    with pytest.raises(UsageError, match=r"no planted-panel:oracel.*Did you mean 'oracle'"):
        parse_sae_ref("planted-panel:oracel")
    with pytest.raises(SAELoadError, match="made for a planted language model"):
        load_sae("planted-panel:oracle", LoadContext())
    with pytest.raises(SAELoadError, match="groups must have from 2"):
        make_planted("rotated", folder, name="x", seed=0, size=1000)


def test_three_tasks_order_an_oracle_a_trained_and_a_random_sae(folder: Path, tmp_path: Path):
    import saebench

    tasks = ["core", "sparse_probing", "concept_separability"]
    saes = ["planted-panel:oracle", "planted-panel:trained?steps=300", "planted-panel:random"]
    table = saebench.run(
        saes,
        tasks=tasks,
        model=str(folder),
        out=tmp_path,
        dtype="float32",
        device="cpu",
        parameters={task: overrides(folder, task) for task in tasks},
    )
    assert set(table["status"]) == {"ok"}
    primary = table[(table["primary"] == True) & (table["subset"].fillna("") == "")]  # noqa: E712 (a column)
    compared = []
    for (task, metric), rows in primary.groupby(["task", "metric"]):
        better = rows["higher_is_better"].iloc[0]
        if better in (True, False):
            sign = 1 if better else -1
            oracle, trained, random = (sign * float(rows[rows["sae"] == sae]["value"].iloc[0]) for sae in saes)
            assert oracle > trained > random, (task, metric)
            compared.append(task)
    assert set(compared) == set(tasks)
