"""``saebench lm-eval``: registers, hands over, and tells what went wrong."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from saebench.cli.main import cli
from saebench.harness import our_tasks

pytestmark = pytest.mark.usefixtures("local_tasks_only")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["lm-eval", *arguments])


def run(folder: Path, tasks: Path, *arguments: str, model_args: str = "", task: str = "tiny_choice") -> Result:
    return invoke(
        "--model", "saebench", "--model_args", f"pretrained={folder},dtype=float32{model_args}", "--device", "cpu",
        "--include_path", str(tasks), "--tasks", task, *arguments,
    )  # fmt: skip


def table(result: Result) -> list[str]:
    return [line for line in result.stdout.splitlines() if line.startswith("|")]


def test_help_teaches():
    for arguments in ([], ["--help"], ["-h"]):
        page = invoke(*arguments).stdout
        assert "--model_args pretrained=asset:gemma-3-270m,sae=zoo:topk-k32-s0" in page
        assert "sae=REF" in page


def test_lm_eval_has_its_own_help():
    result = invoke("run", "--help")
    assert result.exit_code == 0
    assert "--include_path" in result.stdout


def test_runs(tiny_llama_dir: Path, task_folder: Path):
    before = list(sys.argv)
    result = run(tiny_llama_dir, task_folder)
    assert result.exit_code == 0, result.output
    assert any("tiny_choice" in row and "acc" in row for row in table(result))
    assert sys.argv == before


def test_an_sae_changes_the_scores(tiny_llama_dir: Path, task_folder: Path, tmp_path: Path):
    # A value with commas, in quotes: the factory gets both of its options.
    factory = tmp_path / "mine.py"
    factory.write_text(
        "from saebench.sae.baselines import NeuronBaseline\n"
        "from saebench.sae.protocol import HookSite\n\n"
        "def make(sites, scale):\n"
        "    sae = NeuronBaseline(32, name='mine', hook=HookSite.at(sites.split(',')[1]))\n"
        "    decode = sae.decode\n"
        "    sae.decode = lambda z, x=None: float(scale) * decode(z, x)\n"
        "    return sae\n"
    )
    sae = f'sae="python:{factory}:make?sites=a,blocks.1.hook_resid_post&scale=-1"'
    clean = run(tiny_llama_dir, task_folder, task="tiny_rolling")
    whole = run(tiny_llama_dir, task_folder, task="tiny_rolling", model_args=f",{sae},intervention=none")
    turned = run(tiny_llama_dir, task_folder, task="tiny_rolling", model_args=f",{sae}")
    assert whole.exit_code == turned.exit_code == 0, turned.output
    assert table(whole) == table(clean)
    assert table(turned) != table(clean)


def test_without_lm_eval(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = invoke("ls", "tasks")
    assert result.exit_code == 2
    assert "pip install 'saebench[lm-eval]'" in result.stderr


def test_unknown_task_says_what_is_known(tiny_llama_dir: Path, task_folder: Path):
    result = run(tiny_llama_dir, task_folder, task="saebench_sqic")
    assert result.exit_code == 2
    assert "Did you mean 'saebench_sciq'?" in result.stderr


def test_our_errors_stay_sentences(tmp_path: Path, task_folder: Path):
    result = run(tmp_path / "nowhere", task_folder)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert "does not exist; a model is asset:NAME" in result.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": "32"}, "its config.json is wrong"),
        ({"num_hidden_layers": 10**9}, "which no model has"),
        ({"model_type": "foreign", "auto_map": {"AutoConfig": "foreign.C"}}, "Python code of its own"),
    ],
)
def test_folders_of_strangers_are_one_sentence(
    change: dict[str, object], message: str, tiny_llama_dir: Path, tmp_path: Path, task_folder: Path
):
    folder = Path(shutil.copytree(tiny_llama_dir, tmp_path / "lm"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    (folder / "foreign.py").write_text(f"open({str(tmp_path / 'EXECUTED')!r}, 'w').close()\nclass C: ...\n")
    result = run(folder, task_folder)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "EXECUTED").exists()


def test_its_errors_are_not_ours(tiny_llama_dir: Path, task_folder: Path):
    result = run(tiny_llama_dir, task_folder, model_args=",nonsense=1")
    assert result.exit_code == 1
    assert "lm-eval failed" in result.stderr
    assert "bug in saebench" not in result.stderr


def test_tasks_are_known_beside_those_of_an_include_path(task_folder: Path):
    from lm_eval.tasks import TaskManager

    known: list[str] = []
    original = TaskManager.__init__
    with our_tasks(known):
        manager = TaskManager(include_path=str(task_folder), include_defaults=False)
    assert TaskManager.__init__ is original
    assert {"saebench_sst2", "tiny_choice"} <= set(manager.all_tasks) == set(known)
