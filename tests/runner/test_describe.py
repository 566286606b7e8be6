"""What ``--dry-run`` says: groups, passes and tokens, counted right and aligned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from saebench.errors import HookMismatchError
from saebench.runner.describe import describe
from saebench.runner.plan import make_plan
from saebench.runner.request import make_request
from tests.runner.conftest import SITE, Inputs
from tests.runner.test_costs import MID, OUT, PRE, folder, plan, transcoder

UNKNOWN = "known when the SAE is loaded"


@pytest.fixture(autouse=True)
def no_assets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path / "home"))


def rows(text: str) -> list[list[str]]:
    """Cells of the last table of passes, its header left out."""
    table = text[: text.rindex("\n\n")].rpartition("each seed:\n")[2].splitlines()
    return [re.split(r"  +", line.strip()) for line in table[1:]]


def test_the_default_run():
    text = describe(make_plan(make_request({"tasks": ["core"]})))
    assert "asset:sae-probes/97_news_class, 64 sequences x 128 tokens, each seed:\n" in text
    assert rows(text) == [
        ["every known hook", "full pass: clean losses and activations", "1", "8,192"],
        ["blocks.9.hook_resid_post", "suffix passes: zero and mean ablation", "2", "16,384"],
        ["suffix passes: 10 SAEs", "10", "81,920"],
        ["every control's hook", "prefix pass: calibration of the fitted controls", "1", "16,384"],
        ["all", "14", "122,880"],
    ]
    assert "memory  1 GB beside the weights" in text
    assert re.search(r"cache   20 GB in .*home/activations\n", text)


def test_two_hooks_with_the_share_of_the_blocks(inputs: Inputs):
    text = describe(plan(inputs, inputs.topk(0), f"baseline:neurons?hook={PRE}", seed=[0, 1]))
    assert rows(text) == [
        ["every known hook", "full pass: clean losses and activations", "1", "64", "3/3"],
        [SITE, "suffix passes: zero and mean ablation", "2", "128", "1/3"],
        ["suffix passes: 1 SAE", "1", "64", "1/3"],
        [PRE, "suffix passes: zero and mean ablation", "2", "128", "2/3"],
        ["suffix passes: 1 SAE", "1", "64", "2/3"],
        ["all", "7", "448"],
    ]
    assert "All this is done 2 times, once for each seed." in text
    assert f"{inputs.model}, 3 blocks\n" in text


def test_what_only_loading_tells(inputs: Inputs, tmp_path: Path):
    broken = folder(tmp_path / "broken")
    text = describe(plan(inputs, inputs.factory("tiny"), broken))
    assert rows(text)[1:] == [
        [UNKNOWN, "prefix passes, when their hook is known (at most)", "2", "128"],
        ["suffix passes: zero and mean ablation (at most)", "4", "256"],
        ["suffix passes: 2 SAEs", "2", "128"],
        ["all", "9", "576"],
    ]
    assert re.search(rf"\n{UNKNOWN}  {re.escape(inputs.factory('tiny'))}\n +{re.escape(broken)}\n", text)


def test_a_transcoder(inputs: Inputs, tmp_path: Path):
    text = describe(plan(inputs, transcoder(tmp_path / "t"), f"baseline:neurons?hook={OUT}"))
    assert rows(text)[1:-1] == [
        [f"{MID}->{OUT}", "suffix passes: zero and mean ablation", "2", "128", "1/3"],
        ["suffix passes: 1 SAE", "1", "64", "1/3"],
        [OUT, "suffix passes: 1 SAE", "1", "64", "1/3"],
    ]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"hook_name": "blocks.1.ln2.hook_normalized"}, "is not a hook that saebench can splice"),
        ({"hook_name": "blocks.7.hook_resid_post"}, "has 3 blocks, 0 to 2"),
        ({"hook_name": SITE, "d_in": 48}, f"It expects 48 dimensions at {SITE}, but"),
    ],
)
def test_an_sae_that_does_not_fit_the_model(inputs: Inputs, tmp_path: Path, config: dict[str, Any], reason: str):
    sae = folder(tmp_path / "sae", **config)
    text = describe(plan(inputs, sae, inputs.topk(0)))
    assert re.search(f"^will fail: {re.escape(sae)}: .*{re.escape(reason)}", text, re.MULTILINE)
    with pytest.raises(HookMismatchError, match=re.escape(reason)):
        plan(inputs, sae, f"baseline:permuted-decoder({sae})")
    unknown = describe(plan(inputs, sae, inputs.topk(0), model="hf:a/b"))
    assert ("will fail" in unknown) == ("ln2" in config["hook_name"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hook": "blocks.3.hook_resid_post"}, "^--hook: There is no hook 'blocks.3.hook_resid_post': .* has 3 blocks"),
        ({"hook": "blocks.1.mlp"}, "^--hook: 'blocks.1.mlp' is not a hook that saebench can splice"),
        ({"sae": ["baseline:pca?hook=blocks.3.hook_resid_post"]}, "^baseline:pca.*has 3 blocks"),
        ({"sae": ["baseline:permuted-decoder(baseline:pca?hook=x)"]}, "'x' is not a hook"),
    ],
)
def test_a_hook_that_the_request_names_and_the_model_lacks(inputs: Inputs, options: dict[str, Any], message: str):
    with pytest.raises(HookMismatchError, match=message):
        plan(inputs, inputs.topk(0), **options)


def test_budgets(inputs: Inputs):
    text = describe(plan(inputs, inputs.topk(0), memory_budget="2GiB", cache_budget=0))
    assert "memory  2.15 GB beside the weights\ncache   none\n" in text
    assert "the cache holds" not in text


@pytest.mark.parametrize("options", [{}, {"model": "hf:a/b"}])
def test_columns_are_aligned(inputs: Inputs, options: dict[str, Any]):
    text = describe(plan(inputs, inputs.topk(0), "baseline:pca", inputs.factory("tiny"), **options))
    table = text[: text.rindex("\n\n")].rpartition("each seed:\n")[2].splitlines()
    for header in ("  passes", "tokens"):
        end = table[0].index(header) + len(header)
        assert {line[end - 1].isdigit() and line[end : end + 1] in (" ", "") for line in table[1:]} == {True}
