"""The examples of docs/objects.md run as they are written, but for the model, its width, and the size of the run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import saebench
from saebench.progress import NullProgress
from saebench.sae.conformance import run_checks
from tests.conftest import WIDTH
from tests.runner.conftest import SITE, Inputs, Run

PAGE = Path(__file__).parents[2] / "docs" / "objects.md"


def test_the_examples_run(run: Run, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    own, tables = saebench.run, []

    def small(**options: Any) -> Any:
        assert options["model"] == "asset:gemma-3-270m"
        small_ones = {**inputs.options, "out": tmp_path / "results", "progress": NullProgress(), "model": inputs.model}
        tables.append(own(**{**options, **small_ones, "hook": SITE if "hook" in options else None}))
        return tables[-1]

    monkeypatch.setattr(saebench, "run", small, raising=False)
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    for example in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        exec(example.replace("640", str(WIDTH)).replace("blocks.9.", "blocks.1."), names)
    assert [set(table["sae"]) for table in tables] == [
        {"object:mine"},
        {"object:mine-wrapped", "baseline:neurons"},
        {"object:relu"},
    ]
    assert all(set(table["status"]) == {"ok"} for table in tables)
    fvu = [float(table[table["metric"] == "fvu"]["value"].iloc[0]) for table in tables[:2]]
    assert fvu[0] == pytest.approx(fvu[1])
    assert [result for result in run_checks(names["build"]) if not result.ok and result.name != "fingerprint"] == []
