"""The example plug-in as a user would have it: found through its entry points, and run by the command."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from saebench.results import load
from tests.conftest import WIDTH
from tests.runner.conftest import SITE, write_text

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"
LATENTS = 48


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the plug-in is installed: its folder on the path, beside the metadata that pip writes."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    site = tmp_path_factory.mktemp("site-packages")
    info = site / f"saebench_bias-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(PLUGIN)])}


@pytest.fixture(scope="module")
def sae_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tied ReLU SAE with random weights, at the width of the tiny model."""
    rng = np.random.default_rng(0)
    decoder = rng.standard_normal((LATENTS, WIDTH)).astype(np.float32)
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    file = tmp_path_factory.mktemp("saes") / "relu.npz"
    np.savez(file, W_enc=0.5 * decoder.T, b_enc=np.zeros(LATENTS, "f4"), W_dec=decoder, b_dec=np.zeros(WIDTH, "f4"))
    return file


def saebench(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "saebench", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def table(
    environment: dict[str, str], sae_file: Path, tiny_gpt2_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> pd.DataFrame:
    """What the plug-in's task and `core` measure of the plug-in's SAE on the same sequences."""
    folder = tmp_path_factory.mktemp("run")
    text, out = write_text(folder / "text.jsonl"), folder / "results"
    same = ("reconstruction_bias", "core")
    config = folder / "run.yaml"
    lines = "".join(f"  {task}: {{context_length: 16, sequences: 6}}\n" for task in same)
    config.write_text(f"parameters:\n{lines}")
    saebench(
        environment,
        *("run", "--tasks", ",".join(same), "--sae", f"npz:{sae_file}?hook={SITE}", "--model", str(tiny_gpt2_dir)),
        *("--text", str(text), "--preset", "smoke", "--config", str(config), "--out", str(out), "--dtype", "float32"),
    )
    return load(out)


def test_the_task_agrees_with_what_core_reports(table: pd.DataFrame):
    """The task core reports the same quantity, from another computation."""
    assert set(table["status"]) == {"ok"}
    gamma = table[(table["task"] == "reconstruction_bias") & (table["metric"] == "gamma")].iloc[0]
    core = table[(table["task"] == "core") & (table["metric"] == "reconstruction_bias")].iloc[0]
    assert gamma["value"] == pytest.approx(core["value"], rel=1e-6)
    assert gamma["ci_low"] == pytest.approx(core["ci_low"], rel=1e-6)
    assert (gamma["n"], gamma["unit"]) == (6, "sequence")


def test_the_listings_show_the_task_and_the_scheme(environment: dict[str, str]):
    assert "saebench-bias 0.1.0" in saebench(environment, "tasks")
    assert "2404.16014" in saebench(environment, "tasks", "reconstruction_bias")
    assert "npz" in saebench(environment, "saes")


def test_the_adapter_passes_the_conformance_suite(environment: dict[str, str], tmp_path: Path, tiny_gpt2_dir: Path):
    """With an SAE that reconstructs everything, so that it is loaded right, too."""
    eye, file = np.eye(WIDTH, dtype="f4"), tmp_path / "pairs.npz"
    zeros = {"b_enc": np.zeros(2 * WIDTH, "f4"), "b_dec": np.zeros(WIDTH, "f4")}
    np.savez(file, W_enc=np.concatenate([eye, -eye], 1), W_dec=np.concatenate([eye, -eye]), **zeros)
    told = saebench(
        environment,
        *("check-adapter", f"npz:{file}?hook={SITE}", "--model", str(tiny_gpt2_dir)),
        *("--text", str(write_text(tmp_path / "text.jsonl"))),
    )
    assert "It is loaded right" in told


@pytest.mark.parametrize(
    ("reference", "message"),
    [("npz:absent.npz?hook=blocks.0.hook_resid_post", "there is no file"), ("npz:absent.npz", "names no hook point")],
)
def test_a_wrong_reference_is_refused_before_anything_is_loaded(
    environment: dict[str, str], reference: str, message: str
):
    command = [sys.executable, "-m", "saebench", "run", "--dry-run", "--tasks", "core", "--sae", reference]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr


def test_the_plug_in_is_small():
    """A task costs one card, one package of at most 150 lines, and one test."""
    of_the_task = [PLUGIN / "saebench_bias" / name for name in ("settings.py", "scoring.py", "task.py")]
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in of_the_task) <= 150
