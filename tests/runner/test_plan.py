"""From a request to jobs, without loading anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saebench.cards.registry import registry
from saebench.errors import SaebenchError, UsageError
from saebench.runner.describe import describe
from saebench.runner.plan import Plan, make_plan
from saebench.runner.request import make_request
from saebench.sae import zoo
from tests.runner.conftest import Inputs

CARD = {"hook": "blocks.9.hook_resid_post"}


@pytest.fixture(autouse=True)
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a plan must load nothing")

    for target in (
        "saebench.lm.load.load_lm",
        "saebench.sae.reference.SAERef.load",
        "saebench.data.text.load_documents",
        "saebench.data.assets.pull",
        "transformers.AutoModelForCausalLM.from_pretrained",
        "safetensors.torch.load_file",
    ):
        monkeypatch.setattr(target, never)


@pytest.fixture
def small_zoo(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names = ["topk-s0", "topk-s1", "frozen"]
    monkeypatch.setattr(zoo, "zoo_index", lambda: dict.fromkeys(names, CARD))
    return names


def plan(**options: Any) -> Plan:
    return make_plan(make_request({"tasks": ["core"], **options}))


def test_a_task_leaves_out_controls_that_say_nothing_unless_they_are_named(small_zoo: list[str]):
    permuted = "baseline:permuted-decoder(zoo:topk-s0)"
    for task, expected in (("core", True), ("sparse_probing", False)):
        assert (permuted in map(str, plan(tasks=[task]).saes)) == expected
        assert permuted in map(str, plan(tasks=[task], sae=[permuted]).saes)
    both = plan(tasks=["core", "sparse_probing"])
    assert [job.task.name for job in both.jobs if str(job.subject) == permuted] == ["core"]


def test_the_embedded_default(small_zoo: list[str]):
    made = plan()
    assert [str(sae) for sae in made.saes] == [
        "zoo:topk-s0",
        "zoo:topk-s1",
        "zoo:frozen",
        "baseline:pca?k=32",
        "baseline:random?d_sae=2048&l0=32",
        "baseline:neurons",
        "baseline:permuted-decoder(zoo:topk-s0)",
    ]
    assert [task.name for task in made.tasks] == ["core"]
    [task] = made.tasks
    assert task.preset == "quick"
    assert task.parameters == registry().card("core").resolve("quick")
    assert task.parameters["text"] == "asset:sae-probes/97_news_class"
    assert len(made.jobs) == 7


def test_an_installation_without_a_zoo(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(zoo, "zoo_index", dict)
    with pytest.raises(UsageError, match="no zoo; name an SAE with --sae"):
        plan()


def test_duplicates_are_planned_once(inputs: Inputs):
    made = plan(
        model=inputs.model,
        sae=["baseline:random?d_sae=64&l0=8", "baseline:random?l0=8&d_sae=64", "baseline:neurons", "baseline:neurons"],
        tasks=["core", "core"],
        seed=[1, 0, 1],
    )
    assert [str(sae) for sae in made.saes] == ["baseline:random?d_sae=64&l0=8", "baseline:neurons"]
    assert [(str(job.subject), job.seed) for job in made.jobs] == [
        ("baseline:random?d_sae=64&l0=8", 1),
        ("baseline:neurons", 1),
        ("baseline:random?d_sae=64&l0=8", 0),
        ("baseline:neurons", 0),
    ]
    assert "4 jobs: 2 SAEs x 1 tasks x seeds 1, 0" in describe(made)


def test_what_is_more_particular_wins(inputs: Inputs, tmp_path: Path):
    base = {"model": inputs.model, "sae": ["baseline:neurons"]}
    assert plan(**base, suite="smoke").tasks[0].parameters["sequences"] == 8
    assert plan(**base, suite="paper", preset="smoke").tasks[0].preset == "smoke"
    own = {"parameters": {"core": {"sequences": 5, "context_length": 99}}}
    assert plan(**base, **own).tasks[0].parameters["sequences"] == 5
    made = plan(**base, **own, limit=6, text=inputs.text).tasks[0]
    assert (made.parameters["sequences"], made.parameters["context_length"]) == (6, 99)
    assert made.parameters["text"] == inputs.text


def test_a_description_says_what_would_be_done(small_zoo: list[str], tmp_path: Path):
    text = describe(plan(out=tmp_path / "there", seed=[0, 1], limit=100))
    assert "asset:gemma-3-270m" in text
    assert str(tmp_path / "there") in text
    version = registry().card("core").version
    assert f"core v{version} (quick): text=asset:sae-probes/97_news_class, context_length=128" in text
    assert "14 jobs: 7 SAEs x 1 tasks x seeds 0, 1" in text
    assert "100 sequences x 128 tokens" in text
    assert not (tmp_path / "there").exists()


def test_budgets_decide_no_record(small_zoo: list[str]):
    assert plan(memory_budget="3GB", cache_budget=0, batch_size=5).jobs == plan().jobs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suite": "quik"}, "Did you mean 'quick'"),
        ({"preset": "standart"}, "Did you mean 'standard'"),
        ({"tasks": ["coer"]}, "Did you mean 'core'"),
        ({"model": "asset:gemma-3-270"}, "Did you mean 'gemma-3-270m'"),
        ({"model": "hf:gemma"}, "write hf:ORG/NAME"),
        ({"model": "no/such/folder"}, "does not exist; a model is asset:NAME"),
        ({"sae": ["zoo:topk-s3"]}, "Did you mean 'topk-s"),
        ({"sae": ["zo:topk-s0"]}, "Did you mean 'zoo'"),
        ({"sae": ["baseline:pcaa"]}, "Did you mean 'pca'"),
        ({"sae": ["baseline:pca?kk=3"]}, "Did you mean 'k'"),
        ({"sae": ["baseline:pca?k=0"]}, "whole number above 0"),
        ({"sae": ["baseline:permuted-decoder(zoo:topk-s9)"]}, "Did you mean 'topk-s"),
        ({"sae": ["zoo:topk-s0", "sae_lens:./nowhere"]}, "does not exist"),
        ({"sae": ["python:no_such_package_here:f"]}, "no module 'no_such_package_here'"),
        ({"text": "asset:sae-probes/97_news_clas"}, "Did you mean '97_news_class'"),
        ({"text": "josnl:x"}, "Did you mean 'jsonl'"),
        ({"text": "jsonl:/no/such/file.jsonl"}, "does not exist"),
        ({"hook": "blocks.1.hook_resid_pots"}, r"Did you mean 'blocks\.\d\.hook_resid_post'"),
        ({"parameters": {"cor": {}}}, "parameters.cor: .*Did you mean 'core'"),
        (
            {"parameters": {"core": {"contxt_length": 3}}},
            "parameters.core.contxt_length: .*Did you mean 'context_length'",
        ),
        (
            {"parameters": {"core": {"context_length": "long"}}},
            "'context_length' of task 'core' must be a whole number",
        ),
        ({"parameters": {"core": {"context_length": 1}}}, "must be at least 2"),
        ({"text": None, "parameters": {"core": {"text": "jsonl:/no/such/file"}}}, "does not exist"),
    ],
)
def test_unknown_names(small_zoo: list[str], inputs: Inputs, options: dict[str, Any], message: str):
    with pytest.raises(SaebenchError, match=message) as caught:
        plan(**{"model": inputs.model, "sae": ["zoo:topk-s0"], "text": inputs.text, **options})
    assert "\n" not in str(caught.value)
