"""``saebench run --sae-group``: what it does, says and refuses, and how listings and tables show groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import SITE, Inputs, Invoke

pytestmark = pytest.mark.usefixtures("plug_in")


def test_groups_have_rows_of_their_own(invoke: Invoke, inputs: Inputs, tmp_path: Path):
    command = ["run", *inputs.without_tasks, "--tasks", "widths,either", "--hook", SITE, "--out", tmp_path]
    command += [
        "--sae-group",
        f"fine={inputs.good},baseline:neurons",
        "--sae-group",
        f"bad={inputs.good},{inputs.broken}",
    ]
    result = invoke(*command)
    assert result.exit_code == 1, result.output
    for shown in (result, invoke("table", tmp_path)):
        rows = [
            [cell.strip() for cell in line.split("|")[1:-1]] for line in shown.stdout.splitlines() if line[:1] == "|"
        ]
        headers = [row for row in rows if row[0] == "SAE"]
        assert headers == [["SAE", "width"], ["SAE", "ratio"], ["SAE", "latents", "members"]]
        found = {row[0]: row[1:] for row in rows if row not in headers}
        assert (found["group:fine"], found[inputs.good]) == (["96", "2"], ["64"])
        assert found["group:bad"][0].startswith(f"failed: {inputs.broken}, a member of group bad, cannot be loaded: ")
    assert "  group:bad (widths): " in result.stdout
    assert f"  {inputs.broken} (either): " in result.stdout
    assert "] widths group:fine\n" in result.stderr
    again = invoke(*command)
    assert "nothing to do: all 7 records are there" in again.stdout


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sae-group", "topk-k31"], "Did you mean 'topk-k32'?"),
        (["--sae-group", "mine=baseline:pca"], "a group needs two SAEs or more"),
        (["--sae-group", "baseline:pca,baseline:neurons"], "NAME=REF,REF"),
        (["--sae", "baseline:pca"], "name one: --sae-group NAME=REF,REF"),
    ],
)
def test_mistakes_are_named_before_any_model_loads(
    invoke: Invoke, inputs: Inputs, tmp_path: Path, arguments: list[str], message: str
):
    result = invoke("run", *inputs.without_tasks, "--tasks", "widths", "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_model")
def test_dry_run(invoke: Invoke, inputs: Inputs):
    group = f"mine={inputs.good},baseline:neurons,baseline:pca?k=4"
    result = invoke("run", *inputs.without_tasks, "--tasks", "core,widths", "--sae-group", group, "--dry-run")
    assert result.exit_code == 0, result.output
    for expected in (
        "4 jobs: (3 SAEs x 1 tasks + 1 on SAE groups)",
        "mine",
        inputs.good,
        "Not estimated",
    ):
        assert expected in result.stdout


def test_listings(invoke: Invoke):
    page = invoke("saes").stdout
    assert "topk-k32      zoo:topk-k32-s0\n              zoo:topk-k32-s1\n" in page
    assert "Takes\n  groups of SAEs (--sae-group)" in invoke("tasks", "widths").stdout
    assert "Takes\n  single SAEs (--sae) and groups of them (--sae-group)" in invoke("tasks", "either").stdout
    assert "Takes\n  single SAEs (--sae)\n" in invoke("tasks", "core").stdout
