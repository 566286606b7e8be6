"""The benchmarks run, at sizes that say nothing about speed, and say clearly when they cannot."""

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import gpu, memory, peer
from benchmarks.child import run_child
from benchmarks.inputs import Work
from benchmarks.record import RESULTS, load_results
from saebench.errors import UsageError
from saebench.progress import NullProgress


def test_the_gpu_benchmark_runs_at_a_tiny_shape_on_the_cpu(tmp_path):
    assert gpu.main(["--tiny", "--device", "cpu", "--dtype", "float32", "--out", str(tmp_path)]) == 0
    result = load_results(tmp_path)["gpu"]
    shape = gpu.TINY
    cases = len(gpu.KINDS) * len(shape.widths) * len(shape.saes)
    assert len(result.measurements) == gpu.REPEATS * cases
    topk = [m["l0"] for m in result.measurements if m["kind"] == "topk"]
    assert all(0 < l0 <= shape.k for l0 in topk)
    assert len(result.settings["profile"]) == 5
    assert result.ratios["share/topk/64/1"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_one_sentence_says_so(capsys):
    assert gpu.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("module", "flag"), [(command, "--quick"), (gpu, "--tiny")])
def test_trial_sizes_are_not_written_over_the_published_results(module, flag, capsys):
    with pytest.raises(SystemExit):
        module.main([flag, "--out", str(RESULTS), *(["--device", "cpu"] if module is gpu else [])])
    assert "name another folder" in capsys.readouterr().err


def test_a_missing_environment_of_the_peer_is_told(tmp_path):
    work = Work("asset:gemma-3-270m", "blocks.9.hook_resid_post", 16)
    with pytest.raises(UsageError, match="make bench"):
        peer.compare(work, (1,), 1, tmp_path / "python", "cpu", NullProgress())


def test_sequences_that_are_no_whole_batches_of_the_peer_are_refused(tmp_path):
    work = Work("asset:gemma-3-270m", "blocks.9.hook_resid_post", 12)
    with pytest.raises(UsageError, match="multiple of 8"):
        peer.compare(work, (1,), 1, tmp_path / "python", "cpu", NullProgress())


def test_a_child_reports_its_last_line_and_the_whole_time(tmp_path):
    code = "import json, sys\nprint('chatter')\nprint(json.dumps({'got': json.loads(sys.argv[1])}))\n"
    (tmp_path / "reporter.py").write_text(code)
    report = run_child("reporter", {"a": 1}, environment={"PYTHONPATH": str(tmp_path)})
    assert report["got"] == {"a": 1}
    assert report["whole_seconds"] > 0


def test_a_child_that_fails_says_why(tmp_path):
    (tmp_path / "failing.py").write_text("raise SystemExit('the reason')\n")
    with pytest.raises(RuntimeError, match="the reason"):
        run_child("failing", {}, environment={"PYTHONPATH": str(tmp_path)})


@pytest.mark.skipif(memory.peak_bytes() is None, reason="this system does not tell")
def test_the_peak_begins_again_when_reset():
    block = bytearray(b"x") * 200_000_000
    high = memory.peak_bytes()
    del block
    assert memory.reset_peak()
    assert memory.peak_bytes() < high - 100_000_000
    assert memory.peak_bytes() >= memory.resident_bytes() - 10_000_000
