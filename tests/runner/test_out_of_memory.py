"""A job that runs out of memory becomes a failed record that says what to lower, and the other jobs go on."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.conftest import WIDTH
from tests.runner.conftest import SITE, Inputs, Run

FACTORY = f"""
import numpy, torch
from saebench.sae.base import BaseAdapter
from saebench.sae.protocol import Capability, HookSite

ASK = {{
    "torch": lambda: torch.empty(10**15),
    "numpy": lambda: numpy.empty(10**15),
    "gpu": lambda: _raise(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has less.")),
    "python": lambda: _raise(MemoryError()),
}}

def _raise(error):
    raise error

class Greedy(BaseAdapter):
    def __init__(self, asks, where):
        super().__init__(name=f"greedy-{{asks}}-{{where}}", architecture="greedy", hook=HookSite.at("{SITE}"),
                         d_in={WIDTH}, d_sae={WIDTH}, capabilities=frozenset({{Capability.POSITION_WISE}}))
        self.asks, self.where = asks, where
        self.ask("load")

    def ask(self, where):
        if where == self.where:
            ASK[self.asks]()

    def encode(self, x):
        self.ask("encode")
        return x.float()

    def decode(self, z, x=None):
        self.ask("decode")
        return z

    def settings(self):
        self.ask("settings")
        return {{"asks": self.asks, "where": self.where}}

def greedy(asks, where):
    return Greedy(asks, where)
"""


@pytest.mark.parametrize("asks", ["torch", "numpy", "gpu", "python"])
def test_a_job_without_enough_memory_says_what_to_lower(asks: str, run: Run, inputs: Inputs, tmp_path: Path):
    module = tmp_path / "greedy.py"
    module.write_text(textwrap.dedent(FACTORY), "utf-8")
    places = ("load", "settings", "encode", "decode")
    saes = [f"python:{module}:greedy?asks={asks}&where={where}" for where in places]
    summary = run(*saes, inputs.factory("tiny"))
    assert [record.status.value for record in summary.records] == ["failed"] * len(places) + ["ok"]
    for record in summary.records[:-1]:
        assert "Out of memory" in record.error
        assert "use a smaller" in record.error or "Give a smaller --batch-size or --memory-budget" in record.error
    assert all("Allocator" not in record.error for record in summary.records[1:])  # the raw text helps nobody
