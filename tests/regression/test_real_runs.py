"""The plugin on real runs of a tiny language model."""

from __future__ import annotations

from pathlib import Path

import pytest
import sae_lens
import torch
from sae_lens.saes.sae import SAEMetadata

from saebench.api import run
from saebench.results.array_file import read_arrays
from tests.conftest import WIDTH
from tests.regression.conftest import Project
from tests.results.damage import DAMAGES
from tests.runner.conftest import SITE, save_topk, write_text

pytest_plugins = ["pytester"]
PARAMETERS = {"core": {"context_length": 16, "bootstrap_replicates": 100}}
# Mean ablation does not hurt a model of random weights, so that CE recovered is not scored.
OPTIONS = (
    f"metrics=['fvu', 'kl_sae'], tasks='core', text='jsonl:text.jsonl', limit=8, hook={SITE!r}, parameters={PARAMETERS}"
)


@pytest.fixture(scope="session")
def _imported(tiny_gpt2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One run: what a run inside a test imports first, pytester forgets again, and torch does not bear that."""
    folder = tmp_path_factory.mktemp("once")
    text = write_text(folder / "text.jsonl")
    options = {"tasks": "core", "text": text, "limit": 8, "suite": "smoke", "dtype": "float32", "device": "cpu"}
    run(f"sae_lens:{save_topk(folder / 'sae')}", model=str(tiny_gpt2_dir), out=folder / "out", **options)


@pytest.fixture
def project(pytester: pytest.Pytester, tiny_gpt2_dir: Path, _imported: None) -> Project:
    project = Project(pytester)
    pytester.makeini(f"[pytest]\nsaebench_model = {tiny_gpt2_dir}\n")
    write_text(pytester.path / "text.jsonl")
    save_good(pytester.path / "sae")
    return project


def save_good(folder: Path) -> None:
    """An SAE that gives back the largest 24 of 32 coordinates: a latent for each, and one for its opposite."""
    metadata = SAEMetadata(hook_name=SITE, model_name="tiny")
    sae = sae_lens.TopKSAE(sae_lens.TopKSAEConfig(d_in=WIDTH, d_sae=2 * WIDTH, k=24, metadata=metadata))
    directions = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)])
    sae.load_state_dict(
        {"W_dec": directions, "W_enc": directions.T, "b_dec": torch.zeros(WIDTH), "b_enc": torch.zeros(2 * WIDTH)}
    )
    sae.save_model(folder)


def test_a_damaged_decoder_fails_and_the_same_sae_passes(project: Project):
    project.check(OPTIONS, sae="sae")
    assert "wrote saebench-baselines/topk.json" in project.run("--saebench-update", passed=1)
    identity = project.baseline["entries"][0]["record"]["identity"]
    assert (identity["sae"], identity["dtype"]) == ("sae_lens:sae", "float32")
    content = project.path.read_bytes()
    assert "wrote" not in project.run("--saebench-update", passed=1)
    assert project.path.read_bytes() == content
    project.check(f"tolerance=0, {OPTIONS}", sae="sae")
    project.run(passed=1)
    project.check(OPTIONS, sae="baseline:permuted-decoder(sae_lens:sae)")
    said = project.run(failed=1)
    [row] = [line for line in said.splitlines() if line.startswith("core/fvu ")]
    assert row.rstrip().endswith("WORSE")
    assert "> parameters.yaml" in said
    assert "--config parameters.yaml" in said


def test_an_sae_that_cannot_be_loaded_fails(project: Project):
    save_topk(project.pytester.path / "nan", nan=True)
    project.check(OPTIONS, sae="nan")
    said = project.run("--saebench-update", failed=1)
    assert "The task core failed: " in said
    assert not project.path.exists()


@pytest.mark.parametrize("damage", ["one bit", "missing"])
def test_a_damaged_record_is_measured_again(project: Project, damage: str):
    project.pytester.makeini(f"{(project.pytester.path / 'tox.ini').read_text()}\nsaebench_results = kept\n")
    project.check(f"tolerance=0, {OPTIONS}", sae="sae")
    project.run("--saebench-update", passed=1)
    [arrays] = (project.pytester.path / "kept").rglob("*.npz")
    content = arrays.read_bytes()
    project.run(passed=1)
    assert arrays.read_bytes() == content
    DAMAGES[damage](arrays)
    project.run(passed=1)
    assert read_arrays(arrays).keys() >= {"fvu.num", "fvu.den"}


OBJECT = """
import torch


class Scaled:
    def __init__(self, share):
        self.share = share

    def encode(self, x):
        return x * self.share

    def decode(self, z):
        return z


def test_quality(sae_quality):
    sae_quality.check(Scaled({share}), baseline="topk", {options})
"""


def test_an_object_of_the_test(project: Project):
    project.write(OBJECT.format(share=0.9, options=OPTIONS))
    project.run("--saebench-update", passed=1)
    assert project.baseline["entries"][0]["record"]["identity"]["sae"] == "object:Scaled"
    project.run(passed=1)
    project.write(OBJECT.format(share=0.5, options=OPTIONS))
    said = project.run(failed=1)
    assert "object:Scaled against saebench-baselines/topk.json" in said
    assert "# object:Scaled is an object that only the test holds" in said
    project.write(OBJECT.format(share=0.5, options=OPTIONS).replace("check(Scaled(0.5)", "check(3"))
    assert "an SAE is a reference or an object with encode and decode, and one of type int has" in project.run(failed=1)
