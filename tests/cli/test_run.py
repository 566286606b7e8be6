"""``saebench run``: what it does, says, refuses, and its exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from saebench.tasks.core.task import CoreTask
from tests.cli.conftest import Inputs, Invoke
from tests.results.conftest import VERSION


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """By SAE reference."""
    found = [json.loads(path.read_text()) for path in folder.rglob("*.json")]
    return {record["identity"]["sae"]: record for record in found}


def test_broken_sae_fails_alone(finished: tuple[Path, Result], inputs: Inputs):
    out, result = finished
    assert result.exit_code == 1, result.output
    found = {sae: record["status"] for sae, record in records(out).items()}
    assert found == {inputs.good: "ok", inputs.broken: "failed"}
    rows = [line for line in result.stdout.splitlines() if line.startswith("| sae_lens:")]
    assert len(rows) == 2
    assert any(inputs.good in row and "failed" not in row for row in rows)
    assert any(inputs.broken in row and "failed: " in row and "NaN" in row for row in rows)
    assert f"2 records (1 ok, 1 failed, 0 not applicable), 2 new, in {out}, " in result.stdout
    assert f"  {inputs.broken} (core): " in result.stdout
    assert "--overwrite failed" in result.stdout
    assert "Traceback" not in result.output


def test_second_run_does_nothing(invoke: Invoke, inputs: Inputs, tmp_path: Path):
    command = ["run", *inputs.arguments, "--sae", inputs.good, "--sae", "baseline:neurons", "--out", tmp_path]
    command += ["--hook", "blocks.1.hook_resid_post"]
    first = invoke(*command)
    assert first.exit_code == 0, first.output
    assert "2 records (2 ok, 0 failed, 0 not applicable), 2 new" in first.stdout
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    second = invoke(*command)
    assert second.exit_code == 0, second.output
    assert f"nothing to do: all 2 records are there, in {tmp_path}" in second.stdout
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == written
    assert [line for line in second.stdout.splitlines() if line[:1] == "|"] == [
        line for line in first.stdout.splitlines() if line[:1] == "|"
    ]


def test_a_shard_without_work_says_so(invoke: Invoke, inputs: Inputs, tmp_path: Path):
    result = invoke("run", *inputs.arguments, "--sae", inputs.good, "--out", tmp_path, "--shard", "0/4")
    assert result.exit_code == 0, result.output
    assert "nothing to do: there are more shards than SAEs" in result.stdout
    wrong = invoke("run", *inputs.arguments, "--sae", inputs.good, "--out", tmp_path, "--shard", "4/4")
    assert wrong.exit_code == 2
    assert "they count from 0" in wrong.output


def test_failed_records_are_tried_again_only_when_asked(invoke: Invoke, inputs: Inputs, tmp_path: Path):
    command = ["run", *inputs.arguments, "--sae", inputs.broken, "--out", tmp_path]
    results = [invoke(*command), invoke(*command), invoke(*command, "--overwrite", "failed")]
    assert [result.exit_code for result in results] == [1, 1, 1]
    said = ["1 record (0 ok, 1 failed", "nothing to do: the record is there", "1 record (0 ok, 1 failed"]
    assert [line in result.stdout for line, result in zip(said, results, strict=True)] == [True, True, True]
    assert all(f"  {inputs.broken} (core): " in result.stdout for result in results)


def test_interrupted_run_says_how_far_it_came_and_goes_on(
    invoke: Invoke, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    command = ["run", *inputs.arguments, "--sae", inputs.good, "--seed", 0, "--seed", 1, "--out", tmp_path]
    done = CoreTask.run
    calls = []

    def interrupted_at_the_second(self: CoreTask, *args: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return done(self, *args)

    monkeypatch.setattr(CoreTask, "run", interrupted_at_the_second)
    first = invoke(*command)
    assert first.exit_code == 130
    assert "interrupted: 1 of 2 records are written; the same command goes on from there" in first.stderr
    second = invoke(*command)
    assert second.exit_code == 0, second.output
    assert "2 records (2 ok, 0 failed, 0 not applicable), 1 new" in second.stdout
    assert len(calls) == 3


def test_interrupted_while_loading(invoke: Invoke, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("saebench.runner.execute.load_lm", interrupt)
    result = invoke("run", *inputs.arguments, "--sae", inputs.good, "--out", tmp_path)
    assert result.exit_code == 130
    assert "interrupted" in result.stderr


@pytest.mark.usefixtures("no_model")
def test_tasks_may_be_repeated(invoke: Invoke, inputs: Inputs, tmp_path: Path):
    """Like --sae and --seed; the last one used to count alone, without a word."""
    arguments = [*inputs.arguments, "--tasks", "dark_matter,core", "--sae", inputs.good, "--out", tmp_path / "out"]
    result = invoke("run", *arguments, "--dry-run")
    assert result.exit_code == 0, result.output
    lines = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("task ")]
    assert lines == ["core", "dark_matter"]


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "cor"], "There is no task 'cor'. Did you mean 'core'?"),
        (["--suite", "quik"], "Did you mean 'quick'?"),
        (["--preset", "smok"], "Did you mean 'smoke'?"),
        (["--sae", "baseline:neuron"], "Did you mean 'neurons'?"),
        (["--sae", "sae_lens:gemma-scope-2b-pt-res-canonicl/x"], "Did you mean 'gemma-scope-2b-pt-res-canonical'?"),
        (["--model", "asset:gemma-3-270"], "Did you mean 'gemma-3-270m'?"),
        (["--text", "asset:sae-probes/97_news_clas"], "Did you mean '97_news_class'?"),
        (["--text", "jsonl:no-such-file.jsonl"], "does not exist"),
        (["--model", "no/such/folder"], "does not exist; a model is asset:NAME"),
        (["--hook", "blocks.1.hook_resid_pos"], "is not a hook that saebench can splice"),
        (["--tasks", " , "], "name at least one task"),
        (["--overwrite", "allways"], "allways"),
        (["--limit", "1"], "--limit"),
        (["--sea", "x"], "--sea"),
        (["--memory-budget", "lots"], "'lots' is not an amount of memory"),
        (["--memory-budget", "1MB"], "give 64 MB or more"),
        (["--cache-budget", "-1"], "'-1' is not an amount of memory"),
    ],
)
def test_unknown_names_before_any_model_loads(
    invoke: Invoke, inputs: Inputs, tmp_path: Path, arguments: list[str], message: str
):
    result = invoke("run", *inputs.arguments, "--sae", inputs.good, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_model")
def test_dry_run_loads_and_writes_nothing(invoke: Invoke, inputs: Inputs, tmp_path: Path):
    result = invoke("run", *inputs.arguments, "--sae", inputs.good, "--seed", 3, "--out", tmp_path / "out", "--dry-run")
    assert result.exit_code == 0, result.output
    for expected in (inputs.model, inputs.good, f"core v{VERSION} (smoke)", "1 jobs", "seeds 3"):
        assert expected in result.stdout
    assert not (tmp_path / "out").exists()
    budgets = ["--memory-budget", "2GB", "--cache-budget", "0"]
    result = invoke("run", *inputs.arguments, "--sae", inputs.good, *budgets, "--dry-run")
    assert "memory  2 GB beside the weights\ncache   none\n" in result.stdout
    assert "suffix passes: 1 SAE" in result.stdout


@pytest.mark.usefixtures("no_model")
class TestConfig:
    def dry(self, invoke: Invoke, tmp_path: Path, content: str, *arguments: object) -> Result:
        (tmp_path / "run.yaml").write_text(content, "utf-8")
        return invoke("run", "--config", tmp_path / "run.yaml", "--dry-run", *arguments)

    def test_options_win_over_it(self, invoke: Invoke, inputs: Inputs, tmp_path: Path):
        content = f"model: {inputs.model}\ntext: {inputs.text}\nsae: baseline:pca\nseed: [4, 5]\npreset: smoke\n"
        result = self.dry(invoke, tmp_path, content, "--sae", "baseline:neurons", "--preset", "standard")
        assert result.exit_code == 0, result.output
        assert f"core v{VERSION} (standard)" in result.stdout
        assert "baseline:neurons" in result.stdout
        assert "baseline:pca" not in result.stdout
        assert "seeds 4, 5" in result.stdout

    def test_parameters(self, invoke: Invoke, inputs: Inputs, tmp_path: Path):
        content = f"model: {inputs.model}\nsae: baseline:pca\nparameters: {{core: {{context_length: 99}}}}\n"
        assert "context_length=99" in self.dry(invoke, tmp_path, content).stdout

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("sead: 1\n", "Unknown option 'sead'"),
            ("seed: [x]\n", "'seed.0'"),
            ("parameters: {core: {context_lenth: 9}}\nsae: baseline:pca\n", "Did you mean 'context_length'?"),
            ("parameters: {cor: {}}\nsae: baseline:pca\n", "parameters.cor"),
            ("[", "not valid YAML"),
            ("- a\n", "must hold options"),
        ],
    )
    def test_mistakes_are_named(self, invoke: Invoke, tmp_path: Path, content: str, message: str):
        result = self.dry(invoke, tmp_path, content)
        assert result.exit_code == 2
        assert message in result.stderr

    def test_missing_file(self, invoke: Invoke, tmp_path: Path):
        result = invoke("run", "--config", tmp_path / "none.yaml", "--dry-run")
        assert result.exit_code == 2
        assert "Cannot read the config file" in result.stderr


@pytest.mark.usefixtures("no_model")
def test_unwritable_folder_is_told_before_the_work(invoke: Invoke, inputs: Inputs, tmp_path: Path):
    (tmp_path / "file").write_text("")
    result = invoke("run", *inputs.arguments, "--sae", inputs.good, "--out", tmp_path / "file" / "results")
    assert result.exit_code == 2, result.output
    assert "Cannot write results into" in result.stderr


def test_text_that_is_too_short_stops_everything(invoke: Invoke, inputs: Inputs, tmp_path: Path):
    (tmp_path / "short.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    arguments = [*inputs.arguments, "--text", f"jsonl:{tmp_path / 'short.jsonl'}", "--sae", inputs.good]
    result = invoke("run", *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert records(tmp_path / "out") == {}


def test_missing_assets_are_told_and_fetched_first(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_model: None
):
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path / "cache"))
    pulled: list[str] = []
    monkeypatch.setattr("saebench.data.assets.pull", lambda name, progress: pulled.append(name))
    result = invoke("run", "--sae", "baseline:neurons", "--out", tmp_path / "out")
    assert pulled == ["gemma-3-270m", "sae-probes", "smollm2-135m"]  # detox asks the other model for fluency
    lines = [line for line in result.stderr.splitlines() if line.startswith("fetching ")]
    assert ["238 MB" in lines[0], "Gemma Terms of Use" in lines[0]] == [True, True]
    assert ["45 MB" in lines[1], "MIT" in lines[1]] == [True, True]
    assert ["93 MB" in lines[2], "Apache-2.0" in lines[2]] == [True, True]


@pytest.mark.skipif(os.environ.get("SAEBENCH_DEBUG", "0") != "0", reason="debugging asks for the libraries' messages")
def test_other_libraries_are_silent(finished: tuple[Path, Result]):
    allowed = ("loading ", "[1/2] ", "[2/2] ", "clean pass", "zero ablation", "mean ablation", "core sae_lens")
    assert [line for line in finished[1].stderr.splitlines() if not line.startswith(allowed)] == []
