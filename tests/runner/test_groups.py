"""Which SAEs share passes of the language model, and how many passes there are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from saebench.lm.reference import LMRef
from saebench.runner.groups import (
    Group,
    Sampling,
    default_hook,
    depth_of,
    fitted,
    groups,
    restart_of,
    samplings,
    sites,
)
from saebench.runner.plan import Plan, TaskPlan, make_plan
from saebench.runner.request import make_request
from tests.runner.conftest import SITE, Inputs

MID, OUT, PRE = "blocks.2.hook_resid_mid", "blocks.2.hook_mlp_out", "blocks.1.hook_resid_pre"


def plan(inputs: Inputs, *saes: str, **options: Any) -> Plan:
    return make_plan(make_request({**inputs.options, "hook": None, "sae": list(saes), **options}))


def folder(path: Path, **config: Any) -> str:
    path.mkdir()
    (path / "cfg.json").write_text(json.dumps(config))
    return f"sae_lens:{path}"


def transcoder(path: Path) -> str:
    return folder(path, architecture="transcoder", metadata={"hook_name": MID, "hook_name_out": OUT})


def short(found: list[Group]) -> list[tuple[str | None, int, int, int, int]]:
    return [(g.hook and str(g.hook), len(g.saes), g.captures, g.ablations, g.splices) for g in found]


def test_the_default_run_has_one_hook():
    made = make_plan(make_request({"tasks": ["core"]}))
    [group] = groups(made)
    assert short([group]) == [("blocks.9.hook_resid_post", 10, 0, 2, 10)]
    assert (group.passes, group.tokens) == (12, 12 * 64 * 128)
    assert group.sampling == Sampling("asset:sae-probes/97_news_class", 128, 64)
    assert len(fitted(made)) == 2
    assert sites(made, default_hook(made, 18)) == ("blocks.9.hook_resid_post",)


def test_two_hooks_in_the_order_of_the_saes(inputs: Inputs):
    pre = f"baseline:neurons?hook={PRE}"
    made = plan(inputs, inputs.topk(0), pre, inputs.topk(1), f"baseline:permuted-decoder({pre})")
    assert short(groups(made)) == [(SITE, 2, 0, 2, 2), (PRE, 2, 0, 2, 2)]
    assert [str(sae) for sae in groups(made)[0].saes] == [inputs.topk(0), inputs.topk(1)]
    assert sites(made, SITE) == (SITE, PRE)
    assert fitted(made) == ()


def test_ablations_are_those_of_the_site_that_is_written(inputs: Inputs, tmp_path: Path):
    made = plan(inputs, transcoder(tmp_path / "t"), f"baseline:neurons?hook={OUT}", f"baseline:neurons?hook={MID}")
    assert short(groups(made)) == [(f"{MID}->{OUT}", 1, 0, 2, 1), (OUT, 1, 0, 0, 1), (MID, 1, 0, 2, 1)]
    assert sites(made, SITE) == (MID, OUT)


def test_what_only_loading_tells(inputs: Inputs, tmp_path: Path):
    made = plan(inputs, inputs.factory("tiny"), folder(tmp_path / "broken"), inputs.topk(0))
    assert short(groups(made)) == [(None, 2, 2, 4, 2), (SITE, 1, 0, 2, 1)]
    assert sites(made, SITE) == (SITE,)


def test_sites_that_no_model_has_are_not_captured(inputs: Inputs, tmp_path: Path):
    made = plan(inputs, folder(tmp_path / "ln", hook_name="blocks.1.ln2.hook_normalized"), inputs.topk(0))
    assert sites(made, SITE) == (SITE,)
    assert restart_of("blocks.1.ln2.hook_normalized") is None
    assert (restart_of(SITE), restart_of(PRE), restart_of(OUT)) == (2, 1, 2)


@pytest.mark.parametrize(
    ("saes", "hook", "expected"),
    [
        (["baseline:pca"], None, "blocks.3.hook_resid_post"),
        (["baseline:pca"], PRE, PRE),
        (["baseline:pca", "baseline:permuted-decoder(zoo:topk-k32-s0)"], None, "blocks.9.hook_resid_post"),
        (["zoo:topk-k32-s0"], PRE, PRE),
    ],
)
def test_the_hook_of_saes_that_name_none(inputs: Inputs, saes: list[str], hook: str | None, expected: str):
    assert default_hook(plan(inputs, *saes, hook=hook), 7) == expected


def test_the_middle_of_a_model_of_known_and_of_unknown_depth(inputs: Inputs):
    assert short(groups(plan(inputs, "baseline:pca")))[0][0] == SITE  # three blocks
    assert short(groups(plan(inputs, "baseline:pca", model="hf:a/b"))) == [("the middle of the model", 1, 0, 2, 1)]


def test_fitted_controls(inputs: Inputs):
    saes = ["baseline:pca", "baseline:neurons", "baseline:permuted-decoder(baseline:random)", inputs.topk(0)]
    assert [str(ref) for ref in fitted(plan(inputs, *saes))] == [saes[0], saes[2]]


def test_tasks_on_one_sampling_share_its_pass(inputs: Inputs):
    made = plan(inputs, inputs.topk(0), inputs.topk(1))
    [core] = made.tasks
    same = replace(core, name="same")
    longer = replace(core, name="longer", parameters={**core.parameters, "context_length": 20})
    more = replace(core, name="more", passes_counted=False)  # reads the text, and does much else
    tasks = (core, same, longer, more, TaskPlan("weights", 1, "smoke", {"k": 1}))
    made = Plan(made.request, made.model, tasks, made.saes, made.jobs)
    assert list(samplings(made).values()) == [2, 1]
    assert [sampling.tokens for sampling in samplings(made)] == [4 * 16, 4 * 20]
    assert short(groups(made)) == [(SITE, 2, 0, 2, 4), (SITE, 2, 0, 2, 2)]


@pytest.mark.parametrize(
    ("config", "depth"),
    [
        ('{"num_hidden_layers": 26}', 26),
        ('{"n_layer": 12}', 12),
        ('{"text_config": {"num_hidden_layers": 34}, "vision_config": {"num_hidden_layers": 2}}', 34),
        ('{"num_hidden_layers": "many"}', None),
        ('{"text_config": null}', None),
        ("[]", None),
        ("{", None),
    ],
)
def test_depth(tmp_path: Path, config: str, depth: int | None):
    (tmp_path / "config.json").write_text(config)
    assert depth_of(LMRef("m", "path", str(tmp_path))) == depth


def test_depth_of_what_is_not_on_this_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path))
    assert depth_of(LMRef("asset:gemma-3-270m", "asset", "gemma-3-270m")) is None
    assert depth_of(LMRef("hf:a/b", "hf", "a/b")) is None
    (tmp_path / "assets" / "gemma-3-270m").mkdir(parents=True)
    (tmp_path / "assets" / "gemma-3-270m" / "config.json").write_text('{"num_hidden_layers": 18}')
    assert depth_of(LMRef("asset:gemma-3-270m", "asset", "gemma-3-270m")) == 18
