"""``saebench.run`` on objects: rows, resuming, groups, controls, and what is refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import saebench
from saebench.errors import UsageError
from saebench.progress import NullProgress
from saebench.results.store import ResultStore
from saebench.runner import execute as execute_module
from saebench.tasks.core.task import CoreTask
from tests.conftest import WIDTH
from tests.runner.conftest import SITE, Inputs, Run


class Half(nn.Module):
    """Gives a share of its input back."""

    def __init__(self, share: float = 0.5) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor(share))

    def encode(self, x: Tensor) -> Tensor:
        return x * self.share

    def decode(self, z: Tensor) -> Tensor:
        return z


@pytest.fixture
def table(run: Run, inputs: Inputs, tmp_path: Path) -> Any:
    """``table(sae, ...)``: `saebench.run` on the tiny inputs (`run` makes the model load once)."""

    def call(*args: Any, **options: Any) -> Any:
        return saebench.run(
            *args, **{**inputs.options, "out": tmp_path / "results", "progress": NullProgress(), **options}
        )

    return call


def values(frame: Any, metric: str = "fvu") -> dict[str, float]:
    rows = frame[(frame["metric"] == metric) & (frame["subset"] == "")]
    return dict(zip(rows["sae"], rows["value"], strict=True))


def test_a_module_beside_references(table: Any, inputs: Inputs, tmp_path: Path):
    frame = table([Half(), "baseline:neurons", inputs.topk(0)])
    assert set(frame["status"]) == {"ok"}
    measured = values(frame)
    assert set(measured) == {"object:Half", "baseline:neurons", inputs.topk(0)}
    assert measured["object:Half"] == pytest.approx(values(table([inputs.factory("tiny")])).popitem()[1], rel=1e-5)
    [record] = [r for r in ResultStore(tmp_path / "results") if r.identity.sae == "object:Half"]
    assert record.sae.notes["object"] == "tests.api.test_objects.Half"
    assert (record.sae.architecture, record.sae.d_sae, record.sae.hook) == ("Half", WIDTH, SITE)
    assert record.provenance.arguments["sae"] == ["object:Half", "baseline:neurons", inputs.topk(0)]


def test_a_dict_of_objects_and_functions(table: Any):
    eye = torch.eye(WIDTH)
    frame = table({"mine": Half(), "other": Half(0.25)})
    assert set(values(frame)) == {"object:mine", "object:other"}
    sae = saebench.wrap(lambda x: x @ eye, lambda z: z @ eye, hook=SITE, d_in=WIDTH, name="eye")
    assert values(table(sae, hook=None)) == {"object:eye": pytest.approx(0, abs=1e-9)}


def test_resuming(table: Any, monkeypatch: pytest.MonkeyPatch):
    measured = 0
    own = CoreTask.run

    def counting(*arguments: Any) -> Any:
        nonlocal measured
        measured += 1
        return own(*arguments)

    monkeypatch.setattr(CoreTask, "run", counting)
    sae = Half().train()
    first = values(table(sae))
    assert (values(table(sae)), values(table(Half())), measured) == (first, first, 1)
    with torch.no_grad():
        sae.share += 0.01
    assert (values(table(sae)) == first, measured, sae.training) == (False, 2, True)


def test_groups_of_objects(table: Any, inputs: Inputs, plug_in: None):
    a, b, widths = Half(), Half(0.25), {"tasks": ["widths"], "parameters": {}}
    frame = table({"a": a}, sae_group={"pair": [a, b], "mixed": {"b": b, "c": Half(0.1)}}, **widths)
    assert set(frame["sae"]) == {"group:pair", "group:mixed"}
    assert set(frame["status"]) == {"ok"}
    by_name = table({"a": a, "b": b}, sae_group="pair=object:a,object:b", **widths)
    assert set(by_name["sae"]) == {"group:pair"}


def test_a_control_of_an_object(table: Any):
    frame = table([{"mine": Half()}, "baseline:permuted-decoder(object:mine)"])
    measured = values(frame)
    assert set(measured) == {"object:mine", "baseline:permuted-decoder(object:mine)"}
    assert measured["object:mine"] < measured["baseline:permuted-decoder(object:mine)"]


def test_a_broken_object_is_a_failed_row_and_the_others_go_on(table: Any):
    class Broken(Half):
        def encode(self, x: Tensor) -> Any:
            return x.numpy()

    frame = table([Broken(), Half()])
    assert dict(zip(frame["sae"], frame["status"], strict=True)) == {"object:Broken": "failed", "object:Half": "ok"}
    [error] = frame[frame["status"] == "failed"]["error"]
    assert error.startswith("object:Broken: encode returned a numpy array")


def test_an_object_of_another_width_is_refused(table: Any):
    sae = Half()
    sae.d_in = WIDTH + 1
    with pytest.raises(saebench.errors.HookMismatchError, match=f"expects {WIDTH + 1} dimensions"):
        table(sae)


@pytest.mark.parametrize(
    ("sae", "options", "message"),
    [
        (Half(), {"hook": None}, r"object:Half names no hook point.*hook='blocks"),
        (nn.Linear(2, 2), {}, "has no encode and no decode"),
        (None, {"sae_group": {"g": [Half()]}}, "has one SAE"),
        (None, {"sae_group": {"g": [Half(), 3]}}, "Option 'sae_group'"),
        ("object:Half", {}, "was an object in a Python program"),
    ],
    ids=["hook", "methods", "alone", "member", "reference"],
)
def test_what_is_refused_before_anything_is_loaded(
    table: Any, monkeypatch: pytest.MonkeyPatch, sae: Any, options: dict[str, Any], message: str
):
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("no model is loaded for that")

    monkeypatch.setattr(execute_module, "load_lm", never)
    with pytest.raises(UsageError, match=message):
        table(sae, **options)
