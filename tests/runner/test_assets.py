"""What a plan needs to be there before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from saebench.data import assets
from saebench.errors import AssetError
from saebench.progress import NullProgress, Progress
from saebench.runner.assets import missing_assets, pull_missing
from saebench.runner.plan import Plan, make_plan
from saebench.runner.request import make_request

OWN = {"datasets": ["csv:mine.csv"]}


@pytest.mark.parametrize(
    ("task", "parameters", "needed"),
    [
        ("sparse_probing", {}, True),  # datasets by their bare names
        ("sparse_probing", OWN, False),
        ("concept_separability", {}, True),
        ("concept_separability", OWN, False),
        ("concept_separability", {"datasets": ["words:asset:sae-probes/97_news_class"]}, True),
        ("core", {}, True),
        ("core", {"text": "jsonl:mine.jsonl"}, False),
        ("unlearning", {"forget_text": "jsonl:mine.jsonl", "retain_texts": ["jsonl:other.jsonl"]}, True),  # sciq
    ],
)
def test_the_texts_are_fetched_when_a_task_reads_them(
    task: str, parameters: dict[str, object], needed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("mine.jsonl", "other.jsonl"):
        Path(name).write_text('{"text": "a"}')
    asked = {"tasks": [task], "model": "hf:a/b", "sae": ["baseline:neurons"], "parameters": {task: parameters}}
    assert ["sae-probes"] * needed == [asset.name for asset in missing_assets(make_plan(make_request(asked)))]


def test_a_second_model_is_fetched_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path))
    asked = {"tasks": ["detox"], "model": "hf:a/b", "sae": ["baseline:neurons"]}
    assert [asset.name for asset in missing_assets(make_plan(make_request(asked)))] == ["sae-probes", "smollm2-135m"]
    asked["parameters"] = {"detox": {"fluency_lm": "hf:a/c"}}
    assert [asset.name for asset in missing_assets(make_plan(make_request(asked)))] == ["sae-probes"]


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the assets that were asked for; only the model can be fetched."""
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path))
    names: list[str] = []

    def pull(name: str, progress: Progress) -> None:
        names.append(name)
        if name != "gemma-3-270m":
            raise AssetError(f"{name} cannot be downloaded.")

    monkeypatch.setattr(assets, "pull", pull)
    monkeypatch.setattr(assets, "path", lambda name, progress: tmp_path)
    return names


class Log(NullProgress):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def log(self, message: str) -> None:
        self.messages.append(message)


def asked_of(tasks: list[str], **more: object) -> Plan:
    return make_plan(make_request({"tasks": tasks, "sae": ["baseline:neurons"], **more}))


def test_an_asset_that_cannot_be_fetched_stops_only_the_tasks_that_need_it(fetched: list[str], tmp_path: Path):
    (tmp_path / "mine.jsonl").write_text('{"text": "a"}')
    own = {"core": {"text": f"jsonl:{tmp_path / 'mine.jsonl'}"}}
    log = Log()
    pull_missing(asked_of(["core", "sparse_probing"], parameters=own), log)
    assert fetched == ["gemma-3-270m", "sae-probes"]
    assert log.messages[-1] == "sae-probes cannot be used, so what needs it fails: sae-probes cannot be downloaded."
    with pytest.raises(AssetError, match=r"sae-probes cannot be downloaded\."):
        pull_missing(asked_of(["core", "sparse_probing"]), log)


def test_without_its_model_a_plan_cannot_run(fetched: list[str]):
    with pytest.raises(AssetError, match=r"smollm2-135m cannot be downloaded\."):
        pull_missing(asked_of(["core"], model="asset:smollm2-135m"), Log())


def test_a_damaged_marker_of_a_text_stops_only_the_tasks_that_need_it(fetched: list[str], tmp_path: Path):
    folder = tmp_path / "assets" / "sae-probes"
    folder.mkdir(parents=True)
    (folder / "asset.json").write_text("{")
    (tmp_path / "mine.jsonl").write_text('{"text": "a"}')
    log = Log()
    own = {"core": {"text": f"jsonl:{tmp_path / 'mine.jsonl'}"}}
    pull_missing(asked_of(["core", "sparse_probing"], parameters=own), log)
    assert "asset.json is damaged" in log.messages[-1]
    assert fetched == ["gemma-3-270m"]
