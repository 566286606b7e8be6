"""``saebench prefetch`` against a server that speaks the hub's protocol, and the run without a network after it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml

from tests.hub.server import Hub, Repository, serve
from tests.runner.conftest import save_topk, write_text
from tests.sae.test_hub_scheme import files_of

MODEL, SAE = "hf:org/model@v1", "hf:org/saes/layer_1"


@pytest.fixture
def plan(tmp_path, tiny_llama_dir):
    """A folder with a plan, and the repositories that it needs."""
    save_topk(tmp_path / "sae", 0)
    content = {"model": MODEL, "sae": [SAE], "tasks": ["core"], "preset": "smoke", "limit": 4}
    content["text"] = write_text(tmp_path / "text.jsonl", n=60)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    repositories = {
        "org/model": Repository(files_of(tiny_llama_dir) | {"extra/x.bin": b"x"}, {"main": "a" * 40, "v1": "b" * 40}),
        "org/saes": Repository(files_of(tmp_path / "sae", "layer_1"), {"main": "c" * 40}),
    }
    return tmp_path, repositories


def test_a_plan_runs_offline_after_prefetch(plan):
    folder, repositories = plan
    with serve(Hub(repositories)) as hub:
        environment = {
            **os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "hf"), "SAEBENCH_HOME": str(folder),
        }  # fmt: skip

        def saebench(*arguments, offline):
            command = [sys.executable, "-m", "saebench", *arguments]
            env = {**environment, "HF_HUB_OFFLINE": offline}
            return subprocess.run(
                command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=600
            )

        fetched = saebench("prefetch", "run.yaml", offline="0")
        assert fetched.returncode == 0, fetched.stderr
        assert f"{MODEL}: commit {'b' * 40}" in fetched.stdout
        assert f"{SAE}: commit {'c' * 40}" in fetched.stdout
        assert not [path for path in hub.asked if path.startswith("GET") and "extra" in path]
        hub.stop()
        done = saebench("run", "--config", "run.yaml", offline="1")
        assert done.returncode == 0, done.stderr
    (record,) = [json.loads(path.read_text()) for path in (folder / "saebench-results").rglob("*.json")]
    assert record["provenance"]["commits"] == {MODEL: "b" * 40, SAE: "c" * 40}


def test_what_cannot_be_fetched_is_named_and_the_rest_is_there(plan, hub, invoke):
    folder, repositories = plan
    repositories["org/model"].refusal = (403, "GatedRepo")
    hub(**{name.replace("/", "__"): repository for name, repository in repositories.items()})
    fetched = invoke("prefetch", folder / "run.yaml")
    assert fetched.exit_code == 1
    assert "failed: the repository org/model is gated" in fetched.stdout
    assert f"{SAE}: commit" in fetched.stdout


def test_a_plan_that_needs_nothing(plan, invoke, tiny_llama_dir):
    folder, _ = plan
    done = invoke("prefetch", folder / "run.yaml", "--model", tiny_llama_dir, "--sae", f"sae_lens:{folder / 'sae'}")
    assert (done.exit_code, done.stdout) == (0, "the run needs nothing from the network\n")
