"""``saebench.run`` from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import saebench
from saebench.errors import UsageError
from saebench.progress import NullProgress
from saebench.runner import execute as execute_module
from saebench.tasks.core.task import CoreTask
from tests.runner.conftest import SITE, Inputs, Run


@pytest.fixture
def table(run: Run, inputs: Inputs, tmp_path: Path) -> Any:
    """``table(sae, ...)``: `saebench.run` on the tiny inputs (`run` makes the model load once)."""

    def call(*args: Any, **options: Any) -> pd.DataFrame:
        return saebench.run(
            *args, **{**inputs.options, "out": tmp_path / "results", "progress": NullProgress(), **options}
        )

    return call


def test_the_table_holds_every_number(table: Any, inputs: Inputs):
    frame = table([inputs.topk(0), inputs.factory("broken")], seed=3)
    assert isinstance(frame, pd.DataFrame)
    ok = frame[frame["status"] == "ok"]
    assert len(ok) == 27
    assert set(ok["sae"]) == {inputs.topk(0)}
    assert (set(ok["seed"]), set(ok["hook"])) == ({3}, {SITE})
    assert set(ok[ok["primary"].astype(bool)]["metric"]) == {"fvu", "fvu_ordinary", "ce_recovered_mean"}
    failed = frame[frame["status"] == "failed"]
    assert len(failed) == 1
    assert "no such checkpoint" in failed.iloc[0]["error"]


def test_one_name_may_stand_for_a_list(table: Any):
    frame = table("baseline:neurons", tasks="core")
    assert len(frame) == 27
    assert frame.set_index("metric")["value"]["fvu"] == 0


def test_a_second_call_does_no_work(table: Any, inputs: Inputs, monkeypatch: pytest.MonkeyPatch):
    first = table([inputs.topk(0), "baseline:pca?k=3"])

    def never(*_: Any) -> Any:
        raise AssertionError("nothing is left to do")

    monkeypatch.setattr(CoreTask, "run", never)
    pd.testing.assert_frame_equal(table([inputs.topk(0), "baseline:pca?k=3"]), first)


def test_a_config_file_and_options(table: Any, inputs: Inputs, tmp_path: Path):
    (tmp_path / "run.yaml").write_text(f"sae: {inputs.topk(0)}\nseed: 5\n", "utf-8")
    assert set(table(config=str(tmp_path / "run.yaml"))["seed"]) == {5}
    assert set(table(config=tmp_path / "run.yaml", seed=[6])["seed"]) == {6}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sea": "x"}, "Unknown option 'sea'"),
        ({"sae": []}, "Option 'sae"),  # an empty list is a mistake, not the embedded default
        ({"sae": "zo:x"}, "Did you mean 'zoo'"),
        ({"sae": "baseline:neurons", "seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_asked_for(table: Any, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str):
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("no model is loaded for that")

    monkeypatch.setattr(execute_module, "load_lm", never)
    with pytest.raises(UsageError, match=message):
        table(**options)


def test_ctrl_c_reaches_the_caller_after_what_is_done_was_written(table: Any, inputs: Inputs, tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        table([inputs.topk(0), inputs.factory("tiny", does="interrupt"), inputs.topk(1)])
    assert len(list((tmp_path / "results").rglob("*.json"))) == 1
