"""The plugin in generated projects, on made-up numbers: what passes, what fails, what is written."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from saebench.results.array_file import DamagedRecordError
from saebench.results.record import Arrays, Record, Status
from saebench.results.store import ResultStore
from tests.regression.conftest import VERSION, MadeUp, Project, made_up
from tests.results.conftest import make_identity, make_record

pytest_plugins = ["pytester"]


def test_the_same_numbers_pass(project: Project):
    assert "wrote" not in project.run(passed=1)


def test_worse_in_the_metrics_direction_fails_with_table_and_command(project: Project, finds: MadeUp):
    finds.records = [made_up(fvu=0.3, ce_recovered_mean=0.9)]
    said = project.run(failed=1)
    [fvu] = [line for line in said.splitlines() if line.startswith("core/fvu ")]
    assert "lower" in fvu
    assert "0.200 [0.1" in fvu
    assert "0.300 [0.2" in fvu
    assert "0.1000 [0.1000, 0.1000]" in fvu
    assert fvu.rstrip().endswith("0.01         WORSE")
    [other] = [line for line in said.splitlines() if line.startswith("core/ce_recovered_mean ")]
    assert other.rstrip().endswith("better")
    assert "of 2 metrics 1 better, 1 worse" in said
    assert "saebench run --sae zoo:topk-k32-s0 --suite smoke --seed 0 --dtype float32" in said
    assert "pytest 'test_sae.py::test_quality'" in said
    assert "Traceback" not in said


def test_higher_is_better_too(project: Project, finds: MadeUp):
    finds.records = [made_up(ce_recovered_mean=0.7)]
    assert "of 2 metrics 1 within tolerance, 1 worse" in project.run(failed=1)


def test_improvement_passes_and_is_reported(project: Project, finds: MadeUp):
    finds.records = [made_up(fvu=0.1)]
    said = project.run(passed=1)
    assert "better than saebench-baselines/topk.json: core/fvu 0.1" in said


def test_noise_passes(project: Project, finds: MadeUp):
    finds.records = [made_up(noise=0.5, fvu=0.23)]  # worse by more than the tolerance, which chance explains
    project.run(passed=1)


@pytest.mark.parametrize(
    ("tolerance", "passes"),
    [("0.2", True), ("'60%'", True), ("0.01", False), ("{'core/fvu': 0.2}", True), ("{'ce_*': 0.5}", False)],
)
def test_tolerance(project: Project, finds: MadeUp, tolerance: str, passes: bool):
    finds.records = [made_up(fvu=0.3)]
    project.check(f"tolerance={tolerance}")
    project.run(passed=int(passes), failed=int(not passes))


def test_missing_baseline_fails_before_the_run_and_names_the_flag(project: Project, finds: MadeUp):
    project.path.unlink()
    finds.asked.clear()
    said = project.run(failed=1)
    assert "There is no baseline saebench-baselines/topk.json: write it with --saebench-update" in said
    assert finds.asked == []
    assert not project.path.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"task_version": VERSION + 1},
            f"The versions of the task core differ: {VERSION + 1} and {VERSION} (baseline first)",
        ),
        ({"parameters": {"sequences": 9}}, "The parameter sequences differs: 9 and 128"),
        ({"model_fingerprint": "dd" * 32}, "The language models differ"),
        ({"data": {"asset:sae-probes/97_news_class": "ee" * 32}}, "The contents of the data"),
        ({"dtype": "float32"}, "The number types of the language model differ"),
        ({"seed": 7}, "The seeds differ: 7 and 0"),
    ],
)
def test_not_comparable_fails_and_names_the_flag(project: Project, change: dict[str, Any], message: str):
    baseline = project.baseline
    baseline["entries"][0]["record"]["identity"] |= change
    project.path.write_text(json.dumps(baseline), "utf-8")
    said = project.run(failed=1)
    assert message in said
    assert "; if this is intended, use --saebench-update." in said
    assert said.count("NOT COMPARABLE") == 2


def test_what_is_not_scored_fails(project: Project, finds: MadeUp):
    finds.records = [made_up(fvu=None)]
    said = project.run(failed=1)
    assert "core/fvu: now it is not scored (no token fired)" in said
    assert "of 2 metrics 1 not comparable, 1 within tolerance" in said


def test_another_hook_is_not_comparable(project: Project, finds: MadeUp):
    record, arrays = made_up()
    finds.records = [(record.model_copy(update={"sae": record.sae.model_copy(update={"hook": "blocks.3"})}), arrays)]
    assert "The hooks of the SAEs differ: blocks.9.hook_resid_post and blocks.3" in project.run(failed=1)


def test_metrics_of_one_side_only(project: Project, finds: MadeUp):
    project.check("metrics=['fvu', 'ce_sae']")
    said = project.run(failed=1)
    assert "core/ce_sae: the baseline lacks it; add it with --saebench-update-new-only" in said
    assert "core/ce_recovered_mean: it is in the baseline, but it is not measured and checked now" in said
    finds.records = [made_up(fvu=0.23)]
    project.check("metrics=['*']")
    before = project.baseline["entries"]
    said = project.run("--saebench-update-new-only", failed=1)  # new ones are written, fvu is compared
    assert "of 4 metrics 1 within tolerance, 1 worse, 2 written" in said
    after = [number for entry in project.baseline["entries"] for number in entry["record"]["measurements"]]
    assert {number["metric"] for number in after} == {"fvu", "ce_recovered_mean", "ce_sae", "l0"}
    assert [number for number in after if number["metric"] == "fvu"] == before[0]["record"]["measurements"][:1]
    project.check("metrics=['*'], tolerance=0.05")
    project.run(passed=1)


def test_new_only_writes_a_missing_baseline_and_leaves_others(project: Project, finds: MadeUp):
    content = project.path.read_bytes()
    finds.records = [made_up(fvu=0.3)]
    project.run("--saebench-update-new-only", failed=1)
    assert project.path.read_bytes() == content
    project.path.unlink()
    assert "wrote saebench-baselines/topk.json" in project.run("--saebench-update-new-only", passed=1)
    project.run(passed=1)


def test_update_writes_what_is_there_now(project: Project, finds: MadeUp):
    finds.records = [made_up(fvu=0.3)]
    assert "wrote saebench-baselines/topk.json" in project.run("--saebench-update", passed=1)
    project.run(passed=1)
    content = project.path.read_bytes()
    record, arrays = made_up(fvu=0.3)
    later = record.provenance.model_copy(update={"wall_seconds": 99.0})
    finds.records = [(record.model_copy(update={"provenance": later}), arrays)]
    assert "wrote" not in project.run("--saebench-update", passed=1)
    assert project.path.read_bytes() == content


def test_what_is_not_scored_becomes_no_baseline(project: Project, finds: MadeUp):
    content = project.path.read_bytes()
    finds.records = [made_up(fvu=None)]
    said = project.run("--saebench-update", failed=1)
    assert "core/fvu cannot become a baseline: it is not scored (no token fired)" in said
    assert "written" not in said
    assert project.path.read_bytes() == content


@pytest.mark.parametrize("mode", ["", "--saebench-update"])
def test_a_failed_task_fails(project: Project, finds: MadeUp, mode: str):
    broken = make_record(make_identity(task="dark_matter"), status=Status.FAILED, error="The sky fell.")
    finds.records = [made_up(), (broken, {})]
    assert "The task dark_matter failed: The sky fell." in project.run(*([mode] if mode else []), failed=1)


def test_a_damaged_baseline(project: Project):
    project.path.write_text(project.path.read_text()[:-20])
    assert "saebench-baselines/topk.json cannot be used" in project.run(failed=1)
    project.run("--saebench-update", passed=1)
    project.run(passed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("metrics=['fvuu']", "no measured metric is called 'fvuu'. Did you mean 'fvu'?"),
        ("metrics=['l0']", "so the check could never fail; name other metrics in metrics=."),
        ("tolerance='2'", "A tolerance is a number such as 0.01"),
        ("tolerance=-1", "A tolerance is a number such as 0.01"),
        ("tolerance={'fvuu': 1}", "tolerance: no measured metric is called 'fvuu'"),
    ],
)
def test_what_cannot_be_asked_for(project: Project, arguments: str, message: str):
    project.check(arguments)
    said = project.run("--saebench-report=quality", failed=1)
    assert message in said
    assert "Traceback" not in said
    assert "measure again" not in said
    [found] = json.loads((project.pytester.path / "quality.json").read_text())["checks"]
    assert message in found["problems"][0]


def test_names_and_paths(project: Project):
    project.write('def test_it(sae_quality):\n    sae_quality.check("zoo:x", baseline="../topk")\n')
    assert "The name of a baseline may hold letters" in project.run(failed=1)
    project.write('def test_it(sae_quality):\n    sae_quality.check("no/such/folder", baseline="topk")\n')
    assert "There is no folder 'no/such/folder'" in project.run(failed=1)


def test_settings_of_the_project(project: Project, finds: MadeUp):
    project.pytester.makeini(
        "[pytest]\nsaebench_model = hf:me/mine\nsaebench_baselines = gold\nsaebench_results = kept\n"
        "saebench_dtype = bfloat16\n"
    )
    project.write('def test_it(sae_quality):\n    sae_quality.check("zoo:x", limit=4, tasks=["core"])\n')
    project.run("--saebench-update", "--saebench-device", "cpu", passed=1)
    assert (project.pytester.path / "gold" / "test_it.json").exists()
    root = project.pytester.path
    expected = {"model": "hf:me/mine", "device": "cpu", "dtype": "bfloat16", "limit": 4, "tasks": ["core"]}
    assert finds.asked[-1] == expected | {
        "sae": "zoo:x", "suite": "smoke", "seed": 0, "out": root / "kept", "overwrite": "failed"
    }  # fmt: skip


def test_marker_and_skip(project: Project):
    project.write(
        """
        import pytest

        def test_quality(sae_quality):
            sae_quality.check("zoo:topk-k32-s0", baseline="topk")

        @pytest.mark.sae_quality
        def test_that_takes_long():
            pass

        def test_other():
            pass
        """
    )
    listed = project.pytester.runpytest("--markers").stdout.str()
    assert "@pytest.mark.sae_quality: checks the quality of an SAE" in listed
    project.run("--saebench-skip", passed=1, skipped=2)
    project.run("--strict-markers", "-m", "sae_quality", passed=2, deselected=1)


def test_update_flags_exclude_each_other(project: Project):
    result = project.pytester.runpytest("--saebench-update", "--saebench-update-new-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*choose one.*"])


def test_report(project: Project, finds: MadeUp):
    project.write(
        """
        import pytest

        @pytest.mark.parametrize("name", ["a|b", "c"])
        def test_quality(sae_quality, name):
            sae_quality.check("zoo:topk-k32-s0", baseline="topk")
        """
    )
    finds.records = [made_up(fvu=0.3)]
    project.run("--saebench-report", "out/quality.json", failed=2)
    folder = project.pytester.path / "out"
    assert sorted(path.name for path in folder.iterdir()) == ["quality.json", "quality.md"]
    report = json.loads((folder / "quality.json").read_text())
    assert [(check["test"], check["passed"]) for check in report["checks"]] == [
        ("test_sae.py::test_quality[a|b]", False),
        ("test_sae.py::test_quality[c]", False),
    ]
    verdicts = {row["metric"]: row["verdict"] for row in report["checks"][0]["metrics"]}
    assert verdicts == {"fvu": "worse", "ce_recovered_mean": "within tolerance"}
    page = (folder / "quality.md").read_text()
    assert "2 checks, 2 failed." in page
    assert r"## FAILED: test_sae.py::test_quality\[a\|b\]" in page
    assert r"| core/ce_recovered_mean | higher" in page


def test_a_record_that_stays_damaged_fails_in_one_sentence(project: Project, finds: MadeUp, monkeypatch: Any):
    def damaged(store: ResultStore, record: Record) -> Arrays:
        raise DamagedRecordError(store.path(record), "the disk is failing")

    monkeypatch.setattr(ResultStore, "arrays", damaged)
    said = project.run("--saebench-report=quality", failed=1)
    assert "is damaged: its arrays" in said
    assert "Traceback" not in said


def test_two_tests_that_write_one_baseline_are_told(project: Project):
    project.path.unlink()
    project.write(
        """
        def test_a(sae_quality):
            sae_quality.check("zoo:topk-k32-s0", baseline="topk")

        def test_b(sae_quality):
            sae_quality.check("zoo:topk-k32-s0", baseline="topk", metrics=["fvu"])
        """
    )
    said = project.run("--saebench-update", passed=2)
    assert "WARNING: saebench-baselines/topk.json was written by 2 tests" in said


def test_warnings_of_libraries_are_no_errors_of_the_project(project: Project):
    project.run("-W", "error", passed=1)


def test_plugin_is_light():
    heavy = {"torch", "pandas", "numpy", "scipy", "pydantic", "transformers", "sae_lens", "tabulate"}
    code = "import saebench.pytest_plugin, sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not heavy & set(result.stdout.split())


def test_other_units_are_not_comparable_and_the_flag_is_named(project: Project, finds: MadeUp):
    """Equal numbers of units of equal data: what a project that was copied once measured."""
    (record, arrays), hashes = made_up(), [{"sequence": mark * 64} for mark in "ab"]
    finds.records = [(record.model_copy(update={"units": hashes[0]}), arrays)]
    project.run(passed=1)  # the baseline is from before there were units
    assert "wrote" in project.run("--saebench-update", passed=1)  # the same numbers, and now the units, too
    assert project.baseline["entries"][0]["record"]["units"] == hashes[0]
    project.run(passed=1)
    finds.records = [(record.model_copy(update={"units": hashes[1]}), arrays)]
    said = project.run(failed=1)
    assert "They were measured on different sequences, although data, settings and seed are the same" in said
    assert "if this is intended, use --saebench-update." in said
    assert said.count("NOT COMPARABLE") == 2
    project.run("--saebench-update", passed=1)
    project.run(passed=1)


def test_new_metrics_on_other_units_do_not_take_those_of_the_old(project: Project, finds: MadeUp):
    record, arrays = made_up()
    finds.records = [(record.model_copy(update={"units": {"sequence": "a" * 64}}), arrays)]
    project.run("--saebench-update", passed=1)
    finds.records = [(record.model_copy(update={"units": {"sequence": "b" * 64}}), arrays)]
    project.check("metrics=['fvu', 'ce_recovered_mean', 'ce_sae']")
    assert "of 3 metrics 2 not comparable, 1 written" in project.run("--saebench-update-new-only", failed=1)
    said = project.run(failed=1)  # what was written is comparable, and what was not is not
    assert "of 3 metrics 2 not comparable, 1 within tolerance" in said
