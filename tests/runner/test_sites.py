"""Where the SAEs of a plan read and write, told without loading them or the language model."""

from __future__ import annotations

from pathlib import Path

import pytest

from saebench.lm.reference import LMRef
from saebench.runner.sites import default_hook, depth_of, known_sites, restart_of
from tests.runner.conftest import SITE, Inputs
from tests.runner.test_costs import OUT, PRE, folder, plan


def test_sites_that_no_model_has_are_not_captured(inputs: Inputs, tmp_path: Path):
    made = plan(inputs, folder(tmp_path / "ln", hook_name="blocks.1.ln2.hook_normalized"), inputs.topk(0))
    assert known_sites(made, SITE) == (SITE,)
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
