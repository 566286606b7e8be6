"""Groups of SAEs in the plan: which tasks run on what, in which order, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from saebench.cards.registry import BUILT_IN
from saebench.errors import UsageError
from saebench.results.identity import record_id
from saebench.results.store import ResultStore
from saebench.runner.costs import samplings
from saebench.runner.describe import describe
from saebench.runner.identity import job_identity
from saebench.runner.plan import Plan, make_plan
from saebench.runner.request import make_request
from saebench.runner.sites import default_hook, known_sites
from tests.runner.conftest import SITE, Inputs

pytestmark = pytest.mark.usefixtures("plug_in")
PUBLISHED = Path(__file__).parents[2] / "results"
PRE = "blocks.1.hook_resid_pre"


def plan(*tasks: str, **options: Any) -> Plan:
    return make_plan(make_request({**({"tasks": list(tasks)} if tasks else {}), **options}))


def jobs(made: Plan) -> list[tuple[str, str]]:
    """(task, SAE or group by its name)."""
    return [(job.task.name, getattr(job.subject, "name", None) or str(job.subject)) for job in made.jobs]


def test_by_default_tasks_take_the_groups_of_their_kind():
    made = plan("widths", "either")
    assert {task.name: [group.name for group in task.groups] for task in made.tasks} == {
        "widths": ["topk-k32", "random"],
        "either": ["zoo-sparsity"],
    }
    assert len(made.saes) == 10
    assert "baseline:neurons" in map(str, made.saes)
    assert len(jobs(made)) == 10 + 3
    assert made.notes == ()


def test_a_group_follows_its_members_and_these_stand_together():
    made = plan("either", "widths", sae=["zoo:topk-k32-s0", "zoo:topk-k64-s0", "zoo:topk-k32-s1"], sae_group=GROUPS)
    assert jobs(made) == [
        ("either", "zoo:topk-k32-s0"),
        ("either", "zoo:topk-k32-s1"),
        ("either", "two"),
        ("widths", "two"),
        ("either", "zoo:topk-k64-s0"),
        ("either", "apart"),
        ("widths", "apart"),
    ]
    assert [str(ref) for ref in made.saes] == ["zoo:topk-k32-s0", "zoo:topk-k64-s0", "zoo:topk-k32-s1"]
    assert [str(ref) for ref in made.refs][3:] == ["baseline:neurons", "baseline:pca"]


GROUPS = ["two=zoo:topk-k32-s0,zoo:topk-k32-s1", "apart=baseline:neurons,baseline:pca"]


def test_seed_by_seed():
    made = plan("widths", sae_group=GROUPS, seed=[3, 1])
    assert [(job.seed, job.subject.name) for job in made.jobs if not hasattr(job.subject, "body")] == [
        (3, "two"),
        (3, "apart"),
        (1, "two"),
        (1, "apart"),
    ]


def test_without_saes_tasks_of_single_saes_run_on_the_members():
    made = plan("core", "widths", sae_group=GROUPS)
    members = ["zoo:topk-k32-s0", "zoo:topk-k32-s1", "baseline:neurons", "baseline:pca"]
    assert [str(ref) for ref in made.saes] == members
    assert jobs(made)[:3] == [("core", members[0]), ("core", members[1]), ("widths", "two")]
    assert made.notes == ()


def test_beside_saes_a_task_of_groups_has_no_default():
    with pytest.raises(UsageError, match=r"widths compares the SAEs of a group, .*: --sae-group NAME=REF,REF"):
        plan("core", "widths", sae=["baseline:neurons"])
    made = plan(sae=["baseline:neurons"], parameters={"widths": {"times": 3}})
    assert not {"widths"} & {task.name for task in made.tasks}
    assert "left out: widths compares the SAEs of a group, and no group is given (--sae-group)" in made.notes
    assert ("either", "baseline:neurons") in jobs(made)
    assert made.groups == ()


def test_what_no_task_takes_is_told():
    assert plan("core", sae=["baseline:pca"], sae_group=GROUPS).notes == (
        "--sae-group is ignored: no task of this run compares SAEs with each other",
    )
    made = plan("widths", sae=["baseline:pca"], sae_group=GROUPS)
    assert made.notes == ("--sae is ignored: the tasks of this run take only groups",)
    assert (made.saes, len(made.refs)) == ((), 4)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["topk-k31"], "Did you mean 'topk-k32'"),
        (["a=baseline:pca"], "needs two SAEs or more"),
        (["a=baseline:pca,baseline:neurons", "a=baseline:neurons,baseline:pca"], "Two SAE groups are called 'a'"),
        ([], "Option 'sae_group'"),
    ],
)
def test_bad_groups(groups: list[str], message: str):
    with pytest.raises(UsageError, match=message):
        plan("widths", sae_group=groups)


def test_the_same_group_twice_is_one():
    assert len(plan("widths", sae_group=["random", "random"]).groups) == 1


def test_a_config_file(tmp_path: Path):
    (tmp_path / "run.yaml").write_text("sae_group: topk-k32\ntasks: widths\n", "utf-8")
    assert make_request({}, tmp_path / "run.yaml").sae_group == ["topk-k32"]


def test_members_tell_hooks_and_sites(inputs: Inputs):
    named = plan("widths", sae_group=[f"g=baseline:neurons?hook={PRE},{inputs.topk(0)}"], model=inputs.model)
    assert known_sites(named, SITE) == (PRE, SITE)
    zoo = plan("widths", sae_group=["topk-k32"])
    assert default_hook(zoo, 4) == "blocks.9.hook_resid_post"
    assert samplings(zoo) == {}


def test_controls_are_fitted_to_the_text_of_the_task_or_of_the_run(inputs: Inputs):
    made = plan("core", "widths", sae_group=GROUPS, text=inputs.text)
    assert [task.calibration_text for task in made.tasks] == [inputs.text] * 2
    made = plan("widths", sae_group=GROUPS)
    assert made.tasks[0].calibration_text == "asset:sae-probes/97_news_class"


# --- what --dry-run says


def test_a_description_lists_groups_and_what_is_not_estimated():
    text = describe(plan("core", "widths", "either", sae=["zoo:topk-k32-s0"], sae_group=GROUPS, seed=[0, 1]))
    assert "12 jobs: (1 SAEs x 2 tasks + 4 on SAE groups) x seeds 0, 1" in text
    assert (
        "group    SAE               compared by\n"
        "two      zoo:topk-k32-s0   widths, either\n"
        "         zoo:topk-k32-s1\n"
        "apart    baseline:neurons  widths, either\n"
        "         baseline:pca\n"
    ) in text
    assert "Not estimated: widths, either; `saebench tasks NAME` says what a task costs." in text


def test_a_description_of_groups_alone():
    text = describe(plan("widths", sae_group=["random"], sae=["baseline:pca"]))
    assert "\n1 jobs: (0 SAEs x 0 tasks + 1 on SAE groups) x seeds 0\n" in text
    assert "--sae is ignored" in text
    assert "each seed:" not in text
    assert text.endswith("\nNot estimated: widths; `saebench tasks NAME` says what a task costs.")


# --- identities


def test_records_that_are_published_are_found_again():
    made = plan("core")
    found = {record.record_id: record for record in ResultStore(PUBLISHED) if record.identity.task == "core"}
    assert found
    planned = {str(job.subject): job for job in made.jobs}
    for id, record in found.items():
        who = record.identity
        lm = SimpleNamespace(name=who.model, fingerprint=who.model_fingerprint)
        lm.dtype, lm.device = f"torch.{who.dtype}", SimpleNamespace(type=who.device_class)
        context: Any = SimpleNamespace(lm=lm)
        assert record_id(job_identity(planned[who.sae], context, who.sae_fingerprint, who.data)) == id


def test_every_built_in_task_on_language_models_is_planned_by_default():
    made = plan()
    assert {task.name for task in made.tasks} == {*BUILT_IN, "widths", "either"} - {"joint_splice", "ground_truth"}
    assert made.notes == ("left out: joint_splice compares the SAEs of a group, and no group is given (--sae-group)",)
