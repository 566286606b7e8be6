"""A tiny planted model, made once for all tests of a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from saebench.synthetic.planted import Planted, load_planted, load_process, make
from saebench.synthetic.planted.process import Process


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("planted"), "tiny", seed=0)


@pytest.fixture(scope="session")
def planted(folder: Path) -> Planted:
    return load_planted(folder)


@pytest.fixture(scope="session")
def process(folder: Path) -> Process:
    return load_process(folder)
