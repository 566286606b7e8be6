"""``saebench check-adapter`` on tiny SAEs, with and without a language model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sae_lens
import torch

from saebench.sae.conformance import CHECKS
from tests.cli.conftest import SITE, WIDTH, Inputs, Invoke


def verdicts(stdout: str) -> dict[str, str]:
    rows = [line.split() for line in stdout.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) > 1 and row[0] in {"load", *CHECKS}}


@pytest.mark.usefixtures("no_model")
def test_without_a_model(invoke: Invoke, inputs: Inputs):
    result = invoke("check-adapter", inputs.good)
    assert result.exit_code == 0, result.output
    found = verdicts(result.stdout)
    assert set(found) == {"load", *CHECKS}
    assert found["shapes_and_dtypes"] == found["fingerprint"] == "ok"
    assert found["fits_model"] == "skipped"
    assert "no language model given" in result.stdout
    assert "Only real activations tell whether it is loaded right; add --model" in result.stdout


def test_with_a_model(invoke: Invoke, inputs: Inputs):
    result = invoke("check-adapter", inputs.good, "--model", inputs.model, "--text", inputs.text)
    assert verdicts(result.stdout)["fits_model"] == "ok"
    assert result.exit_code == 1  # its weights are random
    assert f"{inputs.good} passes all checks" in result.stdout
    assert "* as loaded" in result.stdout
    assert "\nNothing tried fits: as loaded it leaves" in result.stdout


@pytest.fixture
def pairs(tmp_path: Path) -> Callable[..., str]:
    """``pairs(b_dec=...)``: an SAE whose pairs of latents hold each dimension; with another b_dec it adds that."""

    def save(**tensors: float) -> str:
        config = sae_lens.StandardSAEConfig(d_in=WIDTH, d_sae=2 * WIDTH, apply_b_dec_to_input=False)
        config.metadata.hook_name = SITE
        sae = sae_lens.StandardSAE(config)
        eye = torch.eye(WIDTH)
        with torch.no_grad():
            sae.W_enc.copy_(torch.cat([eye, -eye], 1))
            sae.W_dec.copy_(torch.cat([eye, -eye]))
            for name, value in tensors.items():
                getattr(sae, name).fill_(value)
        sae.save_model(tmp_path / "pairs")
        return f"sae_lens:{tmp_path / 'pairs'}"

    return save


def test_loaded_right(invoke: Invoke, inputs: Inputs, pairs: Callable[..., str]):
    result = invoke("check-adapter", pairs(), "--model", inputs.model, "--text", inputs.text)
    assert result.exit_code == 0, result.output
    assert "\nIt is loaded right: FVU is " in result.stdout
    assert max(len(line) for line in result.stdout.partition("variant")[2].splitlines()[:-1]) <= 80


def test_loaded_wrong(invoke: Invoke, inputs: Inputs, pairs: Callable[..., str]):
    result = invoke("check-adapter", pairs(b_dec=30.0), "--model", inputs.model, "--text", inputs.text)
    assert result.exit_code == 1, result.output
    assert "\nIt looks as if b_dec has to be subtracted before the encoder" in result.stdout
    assert 'try this: write "apply_b_dec_to_input": true into cfg.json' in result.stdout


def test_control_fitted_at_a_hook(invoke: Invoke, inputs: Inputs):
    options = ["--model", inputs.model, "--text", inputs.text, "--hook", "blocks.0.hook_mlp_out"]
    result = invoke("check-adapter", "baseline:pca?k=3", *options)
    assert result.exit_code == 0, result.output
    assert verdicts(result.stdout)["linear_decoder"] == "ok"
    assert "No verdict on whether it is loaded right: baseline:pca?k=3 is a control" in result.stdout


@pytest.mark.usefixtures("no_model")
def test_broken_weights_fail_to_load(invoke: Invoke, inputs: Inputs):
    result = invoke("check-adapter", inputs.broken)
    assert result.exit_code == 1
    assert verdicts(result.stdout) == {"load": "failed"}
    assert "NaN" in result.stdout


def test_sae_that_does_not_fit(invoke: Invoke, inputs: Inputs):
    reference = f"{inputs.good}?hook=blocks.77.hook_resid_post"
    result = invoke("check-adapter", reference, "--model", inputs.model, "--text", inputs.text)
    assert result.exit_code == 1
    assert "has 3 blocks" in result.stdout


@pytest.mark.usefixtures("no_model")
def test_factory_that_breaks_a_promise(invoke: Invoke, tmp_path: Path):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from saebench.sae.base import BaseAdapter\n"
        "from saebench.sae.protocol import Capability, HookSite\n"
        "class Mine(BaseAdapter):\n"
        "    def encode(self, x): return x.float()\n"
        "    def decode(self, z, x=None): return z\n"
        "def build():\n"
        "    hook = HookSite.at('blocks.1.hook_resid_post')\n"
        "    return Mine(name='mine', architecture='mine', hook=hook, d_in=8, d_sae=8,\n"
        "                capabilities=frozenset({Capability.NON_NEGATIVE, Capability.POSITION_WISE}))\n"
    )
    result = invoke("check-adapter", f"python:{tmp_path / 'mine.py'}:build")
    assert result.exit_code == 1
    assert verdicts(result.stdout)["non_negative"] == "failed"
    assert f"1 of {len(CHECKS) + 1} checks failed" in result.stdout


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["baseline:pca", "--hook", "blocks.1.hook_resid"], "is not a hook that saebench can splice"),
        (["baseline:pcaa"], "Did you mean 'pca'?"),
        (["baseline:pca", "--model", "no/such/model"], "does not exist; a model is asset:NAME"),
        (["baseline:pca", "--text", "asset:sae-probes/97_news_class"], "name it with --model"),
        (["baseline:pca", "--model", "asset:gemma-3-270"], "Did you mean 'gemma-3-270m'?"),
    ],
)
def test_wrong_references(invoke: Invoke, arguments: list[str], message: str):
    result = invoke("check-adapter", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
