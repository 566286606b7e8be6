"""The command line on tiny things: a tiny language model's folder, tiny SAELens SAEs, a text, and one finished run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sae_lens
import torch
from click.testing import CliRunner, Result

from saebench.cards.registry import registry
from saebench.cli.main import cli
from tests import group_tasks

SITE = "blocks.1.hook_resid_post"
WIDTH = 32

Invoke = Callable[..., Result]


@dataclass(frozen=True)
class Inputs:
    """References of tiny inputs, and the arguments that every run here shares."""

    model: str
    text: str
    good: str
    broken: str

    @property
    def arguments(self) -> list[str]:
        return ["--tasks", "core", *self.without_tasks]

    @property
    def without_tasks(self) -> list[str]:
        return ["--model", self.model, "--text", self.text, "--preset", "smoke", "--device", "cpu"]


@pytest.fixture(scope="session")
def invoke() -> Invoke:
    """``invoke("run", "--dry-run")``: as typed in a shell."""

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="saebench")

    return call


def save_sae(folder: Path, nan: bool = False) -> Path:
    metadata = sae_lens.saes.sae.SAEMetadata(hook_name=SITE)
    sae = sae_lens.TopKSAE(sae_lens.TopKSAEConfig(d_in=WIDTH, d_sae=64, k=4, metadata=metadata))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
        if nan:
            sae.W_dec[0, 0] = float("nan")
    sae.save_model(folder)
    return folder


@pytest.fixture(scope="session")
def inputs(tiny_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghij klmnop"))
    lines = [json.dumps({"text": "".join(rng.choice(letters, size=60))}) for _ in range(40)]
    (folder / "text.jsonl").write_text("\n".join(lines), "utf-8")
    return Inputs(
        model=str(tiny_llama_dir),
        text=f"jsonl:{folder / 'text.jsonl'}",
        good=f"sae_lens:{save_sae(folder / 'good')}",
        broken=f"sae_lens:{save_sae(folder / 'broken', nan=True)}",
    )


@pytest.fixture(scope="session")
def finished(invoke: Invoke, inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Results of a run with a broken SAE before a good one, and what the command said. Read only."""
    out = tmp_path_factory.mktemp("finished") / "results"
    result = invoke("run", *inputs.arguments, "--sae", inputs.broken, "--sae", inputs.good, "--out", out)
    return out, result


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tasks ``widths`` (of groups) and ``either`` (of SAEs and groups) beside the built-in ones."""
    with monkeypatch.context() as patch:
        group_tasks.register(patch, tmp_path)
        yield
    registry.cache_clear()


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a language model fails the test."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a language model was loaded")

    # In this order: `execute` must not be imported while the function it takes from `load` is replaced.
    monkeypatch.setattr("saebench.runner.execute.load_lm", refuse)
    monkeypatch.setattr("saebench.lm.load.load_lm", refuse)
