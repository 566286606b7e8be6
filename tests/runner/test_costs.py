"""Which SAEs share passes of the language model, and how many passes there are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from saebench.cards.settings import SampledSettings, Settings
from saebench.runner.costs import HookPasses, Sampling, hook_passes, samplings
from saebench.runner.plan import Plan, TaskPlan, make_plan
from saebench.runner.request import make_request
from saebench.runner.sites import default_hook, known_sites
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


def short(counted: list[HookPasses]) -> list[tuple[str | None, int, int, int, int]]:
    return [(p.hook and str(p.hook), len(p.saes), p.captures, p.ablations, p.splices) for p in counted]


def fitted(plan: Plan) -> list[str]:
    return [str(ref) for ref in plan.saes if ref.fitted]


def test_the_default_run_has_one_hook():
    made = make_plan(make_request({"tasks": ["core"]}))
    [passes] = hook_passes(made)
    assert short([passes]) == [("blocks.9.hook_resid_post", 10, 0, 2, 10)]
    assert (passes.passes, passes.tokens) == (12, 12 * 64 * 128)
    assert passes.sampling == Sampling("asset:sae-probes/97_news_class", 128, 64)
    assert len(fitted(made)) == 2
    assert known_sites(made, default_hook(made, 18)) == ("blocks.9.hook_resid_post",)


def test_two_hooks_in_the_order_of_the_saes(inputs: Inputs):
    pre = f"baseline:neurons?hook={PRE}"
    made = plan(inputs, inputs.topk(0), pre, inputs.topk(1), f"baseline:permuted-decoder({pre})")
    assert short(hook_passes(made)) == [(SITE, 2, 0, 2, 2), (PRE, 2, 0, 2, 2)]
    assert [str(sae) for sae in hook_passes(made)[0].saes] == [inputs.topk(0), inputs.topk(1)]
    assert known_sites(made, SITE) == (SITE, PRE)
    assert fitted(made) == []


def test_ablations_are_those_of_the_site_that_is_written(inputs: Inputs, tmp_path: Path):
    made = plan(inputs, transcoder(tmp_path / "t"), f"baseline:neurons?hook={OUT}", f"baseline:neurons?hook={MID}")
    assert short(hook_passes(made)) == [(f"{MID}->{OUT}", 1, 0, 2, 1), (OUT, 1, 0, 0, 1), (MID, 1, 0, 2, 1)]
    assert known_sites(made, SITE) == (MID, OUT)


def test_what_only_loading_tells(inputs: Inputs, tmp_path: Path):
    made = plan(inputs, inputs.factory("tiny"), folder(tmp_path / "broken"), inputs.topk(0))
    assert short(hook_passes(made)) == [(None, 2, 2, 4, 2), (SITE, 1, 0, 2, 1)]
    assert known_sites(made, SITE) == (SITE,)


def test_the_middle_of_a_model_of_known_and_of_unknown_depth(inputs: Inputs):
    assert short(hook_passes(plan(inputs, "baseline:pca")))[0][0] == SITE  # three blocks
    assert short(hook_passes(plan(inputs, "baseline:pca", model="hf:a/b"))) == [("the middle of the model", 1, 0, 2, 1)]


def test_fitted_controls(inputs: Inputs):
    saes = ["baseline:pca", "baseline:neurons", "baseline:permuted-decoder(baseline:random)", inputs.topk(0)]
    assert fitted(plan(inputs, *saes)) == [saes[0], saes[2]]


def test_tasks_on_one_sampling_share_its_pass(inputs: Inputs):
    made = plan(inputs, inputs.topk(0), inputs.topk(1))
    [core] = made.tasks
    same = replace(core, name="same")
    assert isinstance(core.settings, SampledSettings)
    longer = replace(core, name="longer", settings=core.settings.model_copy(update={"context_length": 20}))
    more = replace(core, name="more", passes_counted=False)  # reads the text, and does much else
    tasks = (core, same, longer, more, TaskPlan("weights", 1, "smoke", Settings(), inputs.text))
    made = Plan(made.request, made.model, tasks, made.saes, made.jobs)
    assert list(samplings(made).values()) == [2, 1]
    assert [sampling.tokens for sampling in samplings(made)] == [4 * 16, 4 * 20]
    assert short(hook_passes(made)) == [(SITE, 2, 0, 2, 4), (SITE, 2, 0, 2, 2)]
