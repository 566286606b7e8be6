"""Where the SAEs of a plan read and write, told without loading them or the language model."""

from __future__ import annotations

from pathlib import Path

import pytest

from saebench.lm.reference import LMRef
from saebench.runner.shape import Shape, shape_of
from saebench.runner.sites import default_hook, known_sites, restart_of
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
    assert default_hook(plan(inputs, *saes, hook=hook, model="hf:a/b"), 7) == expected


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ('{"num_hidden_layers": 26}', Shape(26)),
        ('{"n_layer": 12, "n_embd": 768}', Shape(12, 768)),
        (
            '{"text_config": {"num_hidden_layers": 34, "hidden_size": 64}, "vision_config": {"hidden_size": 2}}',
            Shape(34, 64),
        ),
        ('{"hidden_size": 9, "text_config": {"num_hidden_layers": 34, "hidden_size": 64}}', Shape(34, 64)),
        ('{"num_hidden_layers": 3, "hidden_size": -1}', Shape(3)),
        ('{"num_hidden_layers": true}', Shape()),
        ('{"num_hidden_layers": 1e3}', Shape()),
        ('{"num_hidden_layers": "many"}', Shape()),
        ('{"text_config": null}', Shape()),
        ('{"n_layer": ' + "9" * 5000 + "}", Shape()),
        ("[]", Shape()),
        ("[" * 10_000, Shape()),
        ("{", Shape()),
    ],
)
def test_what_the_settings_of_a_model_tell(tmp_path: Path, config: str, shape: Shape):
    (tmp_path / "config.json").write_text(config)
    assert shape_of(LMRef("m", "path", str(tmp_path))) == shape


def test_what_is_not_on_this_disk_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path))
    assert shape_of(LMRef("asset:gemma-3-270m", "asset", "gemma-3-270m")) == Shape()
    assert shape_of(LMRef("hf:a/b", "hf", "a/b")) == Shape()
    (tmp_path / "assets" / "gemma-3-270m").mkdir(parents=True)
    (tmp_path / "assets" / "gemma-3-270m" / "config.json").write_text('{"num_hidden_layers": 18}')
    assert shape_of(LMRef("asset:gemma-3-270m", "asset", "gemma-3-270m")) == Shape(18)
