"""Result files: a schema that refuses what it does not know, and a round trip."""

import json

import pytest
from pydantic import ValidationError

from benchmarks.record import BenchmarkResult, load_results
from saebench.errors import UsageError
from tests.benchmarks.conftest import make_result


def test_written_results_are_read_back_by_name(results, tmp_path):
    for result in results.values():
        assert result.write(tmp_path).name == f"{result.name}.json"
    assert load_results(tmp_path) == results


def test_a_result_of_now_tells_machine_and_versions():
    result = BenchmarkResult.now("floor", {"dtype": "float32"}, [{"seconds": 1.0}], {}, versions={"peer torch": "2.13"})
    assert {"device", "cores", "threads", "memory_gb", "load_before"} <= result.hardware.keys()
    assert {"saebench", "python", "torch", "transformers", "peer torch"} <= result.versions.keys()
    assert result.created.tzinfo is not None


@pytest.mark.parametrize(
    "change",
    [{"ratios": {"share": None}}, {"measurements": []}, {"seconds": 3}, {"name": "../peer"}, {"hardware": None}],
)
def test_what_is_no_result_is_refused(change, tmp_path):
    content = make_result("peer", [{"seconds": 1.0}], {}).model_dump(mode="json")
    with pytest.raises(ValidationError):
        BenchmarkResult.model_validate(content | change)
    (tmp_path / "peer.json").write_text(json.dumps(content | change))
    with pytest.raises(UsageError, match=r"peer\.json is not a benchmark result"):
        load_results(tmp_path)
