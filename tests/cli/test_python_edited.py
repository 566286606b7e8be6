"""SAEs of ``python:``: numbers of code that was edited since are never taken for those of the code as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import SITE, WIDTH, Inputs

MODULE = f'''
import torch
from saebench.sae.base import BaseAdapter, generator
from saebench.sae.protocol import Capability, HookSite

class Mine(BaseAdapter):
    def __init__(self):
        super().__init__(name="mine", architecture="mine", hook=HookSite.at("{SITE}"), d_in={WIDTH}, d_sae=64,
                         capabilities=frozenset({{Capability.POSITION_WISE}}))
        self.register_buffer("W", torch.randn({WIDTH}, 64, generator=generator(0, "test")) * 0.1)

    def encode(self, x):
        return (x.float() @ self.W).relu()

    def decode(self, z, x=None):
        return z @ self.W.T

def build():
    return Mine()
'''


def run(inputs: Inputs, module: Path, out: Path) -> tuple[str, list[float]]:
    """Return what a fresh process says, and the FVU of every record in the folder."""
    command = [sys.executable, "-m", "saebench", "run", *inputs.arguments, "--limit", "4", "--cache-budget", "0"]
    command += ["--sae", f"python:{module}:build", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "random"})
    assert done.returncode == 0, done.stderr
    measured = [json.loads(file.read_text())["measurements"] for file in out.rglob("*.json")]
    return done.stdout, sorted(m["value"] for record in measured for m in record if m["metric"] == "fvu")


def test_edited_code_is_measured_again(inputs: Inputs, tmp_path: Path) -> None:
    module, out = tmp_path / "mine.py", tmp_path / "results"
    module.write_text(MODULE)
    _, [before] = run(inputs, module, out)
    said, again = run(inputs, module, out)
    assert "nothing to do: the record is there" in said
    assert again == [before]
    module.write_text(MODULE.replace("return z @ self.W.T", "return z @ self.W.T + 1"))
    said, both = run(inputs, module, out)
    assert "1 new" in said
    assert len(both) == 2
    assert before in both
    assert both[0] != both[1]
