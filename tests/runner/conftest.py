"""Whole runs on tiny things: a language model's folder, a text, SAEs as folders and as factories."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sae_lens
import torch
from sae_lens.saes.sae import SAEMetadata

from saebench.cards.registry import registry
from saebench.results.record import Record
from saebench.results.store import ResultStore
from saebench.runner import execute as execute_module
from saebench.runner.execute import RunSummary, execute
from saebench.runner.plan import make_plan
from saebench.runner.request import make_request
from tests import group_tasks
from tests.conftest import WIDTH

SITE = "blocks.1.hook_resid_post"

FACTORIES = f'''
import os, signal, sys, time
import torch
from saebench.sae.base import BaseAdapter
from saebench.sae.protocol import Capability, HookSite

class Tiny(BaseAdapter):
    """Gives half of its input back, or does what its name says."""

    def __init__(self, does="", hook="{SITE}", width={WIDTH}):
        super().__init__(name=f"tiny-{{does}}", architecture="tiny", hook=HookSite.at(hook), d_in=width, d_sae=width,
                         capabilities=frozenset({{Capability.POSITION_WISE}}))
        self.does = does

    def encode(self, x):
        if self.does == "nans":
            return x * float("nan")
        if self.does == "raise":
            raise RuntimeError("the sky\\n  is falling")
        if self.does == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.does == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        if self.does == "memory":
            raise MemoryError
        return x.float() / 2

    def decode(self, z, x=None):
        return z

    def settings(self):
        return {{"does": self.does}}

def tiny(does="", hook="{SITE}", width={WIDTH}):
    return Tiny(does, hook, width)

def once(does, marker):
    """Does it the first time that it is loaded, then behaves; the same SAE both times."""
    sae = Tiny("well")
    if not os.path.exists(marker):
        open(marker, "w").close()
        sae.does = does
        sae._fingerprint = Tiny("well").fingerprint()
    return sae

def broken():
    raise ValueError("no such checkpoint")

def leaves():
    sys.exit(3)

def nameless():
    sae = Tiny()
    sae.fingerprint = lambda: None
    return sae

def unspeakable():
    sae = Tiny()
    sae.architecture = None
    return sae

def no_sae():
    return object()
'''


def save_topk(folder: Path, seed: int = 0, site: str = SITE, d_in: int = WIDTH, nan: bool = False) -> Path:
    sae = sae_lens.TopKSAE(
        sae_lens.TopKSAEConfig(d_in=d_in, d_sae=48, k=4, metadata=SAEMetadata(hook_name=site, model_name="tiny"))
    )
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
        if nan:
            sae.W_dec[0, 0] = torch.nan
    sae.save_model(folder)
    return folder


@dataclass(frozen=True)
class Inputs:
    model: str
    text: str
    folder: Path

    @property
    def options(self) -> dict[str, Any]:
        """A run of a second."""
        parameters = {"core": {"context_length": 16, "bootstrap_replicates": 100}}
        return {
            "model": self.model,
            "tasks": ["core"],
            "text": self.text,
            "preset": "smoke",
            "limit": 4,
            "device": "cpu",
            "dtype": "float32",
            "hook": SITE,
            "parameters": parameters,
        }

    def factory(self, name: str, **options: Any) -> str:
        query = "&".join(f"{key}={value}" for key, value in options.items())
        return f"python:{self.folder / 'factories.py'}:{name}" + (f"?{query}" if query else "")

    def topk(self, seed: int) -> str:
        folder = self.folder / f"topk-{seed}"
        return f"sae_lens:{folder if folder.exists() else save_topk(folder, seed)}"


def write_text(path: Path, n: int = 60, length: int = 60, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghij klmnop"))
    lines = [json.dumps({"text": f"{i} " + "".join(rng.choice(letters, size=length))}) for i in range(n)]
    path.write_text("\n".join(lines), "utf-8")
    return f"jsonl:{path}"


@pytest.fixture(scope="session")
def inputs(tiny_gpt2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("runner")
    (folder / "factories.py").write_text(textwrap.dedent(FACTORIES), "utf-8")
    # Long enough that the fifth that is kept for calibration fills two sequences of the model's 64 positions.
    return Inputs(str(tiny_gpt2_dir), write_text(folder / "text.jsonl"), folder)


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tasks ``widths`` (of groups) and ``either`` (of SAEs and groups) beside the built-in ones."""
    with monkeypatch.context() as patch:
        group_tasks.register(patch, tmp_path)
        yield
    registry.cache_clear()


Run = Callable[..., RunSummary]


@pytest.fixture(scope="session")
def _load_once(inputs: Inputs) -> Callable[..., Any]:
    """Loading the model takes most of a tiny run."""
    real, found = execute_module.load_lm, {}

    def load(ref: Any, **options: Any) -> Any:
        key = str((str(ref), options))
        if key not in found:
            found[key] = real(ref, **options)
        return found[key]

    return load


@pytest.fixture
def run(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _load_once: Callable[..., Any]) -> Run:
    """``run(sae, ..., out=..., overwrite=...)``: plan and execute."""
    monkeypatch.setattr(execute_module, "load_lm", _load_once)

    def call(*saes: str, **options: Any) -> RunSummary:
        progress = options.pop("progress", None)
        options = {**inputs.options, "sae": list(saes) or None, "out": tmp_path / "results", **options}
        return execute(make_plan(make_request(options)), progress)

    return call


def numbers(records: list[Record] | ResultStore) -> dict[tuple[str, int], Any]:
    """By (SAE, seed): status and every number of it, without when and where it was made."""
    kept = {"record_id", "status", "error", "identity", "measurements", "counts", "preset"}
    return {(r.identity.sae, r.identity.seed): r.model_dump(include=kept) for r in records}
