"""The export against the published schema (kept beside this file with its licence)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saebench.results.every_eval_ever import path_of, to_log, write
from saebench.results.record import Record, Status
from tests.cards.made_up import card, installed, metric
from tests.results.conftest import VERSION, make_identity, make_number, make_record

SCHEMA = json.loads((Path(__file__).parent / "every_eval_ever" / "eval.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


CORE = card(
    "core",
    [
        metric(
            "fvu",
            False,
            title="Share of variance not explained",
            description="What is left of the variance.",
            bounds=[0.0, None],
            chance=1.0,
            primary=True,
        ),
        metric("ce", True, bounds=[None, 1.0]),
        metric("l0", None),
    ],
    version=VERSION,
)


@pytest.fixture(autouse=True, scope="module")
def made_up_card() -> Iterator[None]:
    """The task ``core`` has the metrics above and is the only one."""
    with installed(CORE):
        yield


@pytest.fixture
def full() -> Record:
    return make_record(
        measurements=[
            make_number("fvu", 0.1, 0.05, 0.2, stderr=0.03, interval="bca-bootstrap"),
            make_number("ce", 0.8, subset="news", n=None),
            make_number("ce", None, not_scored="ablation does not hurt"),
            make_number("l0", 32.0),
            make_number("mystery", 1.0),
        ]
    )


def test_log_fits_the_schema(full: Record):
    log = to_log(full, "Example")
    VALIDATOR.validate(log)
    assert log["schema_version"] == SCHEMA["version"]
    assert json.loads(json.dumps(log, allow_nan=False)) == log


def test_only_scores_with_a_direction(full: Record):
    log = to_log(full, "Example")
    assert [(r["evaluation_name"], r["score_details"]["score"]) for r in log["evaluation_results"]] == [
        ("saebench.core", 0.1),
        ("saebench.core.news", 0.8),
    ]
    fvu, ce = (result["metric_config"] for result in log["evaluation_results"])
    assert (fvu["metric_id"], fvu["lower_is_better"], fvu["min_score"], fvu["max_score"]) == (
        "saebench.core.fvu",
        True,
        0.0,
        "Infinity",
    )
    assert (ce["lower_is_better"], ce["min_score"], ce["max_score"]) == (False, "-Infinity", 1.0)


def test_uncertainty_and_sources(full: Record):
    result = to_log(full, "Example")["evaluation_results"][0]
    assert result["score_details"]["uncertainty"] == {
        "standard_error": {"value": 0.03, "method": "bca-bootstrap"},
        "confidence_interval": {"lower": 0.05, "upper": 0.2, "confidence_level": 0.95, "method": "bca-bootstrap"},
        "num_samples": 128,
    }
    assert result["source_data"]["dataset_name"] == "asset:sae-probes/97_news_class"
    assert result["source_data"]["additional_details"] == {"asset:sae-probes/97_news_class": f"sha256:{'cc' * 32}"}


def test_the_sae_stands_where_models_stand(full: Record):
    model = to_log(full, "Example")["model_info"]
    assert (model["name"], model["id"]) == ("zoo:topk-k32-s0", "zoo/topk-k32-s0")
    details = model["additional_details"]
    assert (details["language_model"], details["d_sae"], details["control"]) == ("asset:gemma-3-270m", "2048", "False")


@pytest.mark.parametrize(
    "record",
    [
        make_record(status=Status.FAILED, error="weights hold NaN"),
        make_record(measurements=[make_number("l0", 32.0)]),
        make_record(make_identity(task_version=VERSION + 1), measurements=[make_number("fvu", 0.1)]),
    ],
    ids=["failed", "no direction", "unknown version"],
)
def test_records_without_such_a_score_are_left_out(record: Record, tmp_path: Path):
    assert to_log(record, "Example") is None
    assert write([record], tmp_path, "Example") == (0, 1)
    assert list(tmp_path.iterdir()) == []


def test_files_lie_as_the_datastore_wants_and_come_again_the_same(full: Record, tmp_path: Path):
    assert write([full], tmp_path, "Example") == (1, 0)
    [path] = tmp_path.rglob("*.json")
    assert path == tmp_path / path_of(full)
    assert path.relative_to(tmp_path).parts[:4] == ("data", "saebench", "zoo", "topk-k32-s0")
    assert path.stem[14] == "4"  # a UUID of version 4
    assert path.stem[19] in "89ab"
    content = path.read_bytes()
    write([full], tmp_path, "Example")
    assert [path.read_bytes() for path in tmp_path.rglob("*.json")] == [content]


def test_groups_go_by_their_name():
    record = make_record(make_identity(sae="seeds=zoo:a,zoo:b"), measurements=[make_number("fvu", 0.1)])
    record = record.model_copy(update={"sae": record.sae.model_copy(update={"name": "group:seeds"})})
    log = to_log(record, "Example")
    VALIDATOR.validate(log)
    assert log["model_info"]["id"] == "group/seeds"
    assert log["model_info"]["additional_details"]["reference"] == "seeds=zoo:a,zoo:b"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    sae=st.text() | st.builds("{}:../{}".format, st.text(), st.text()),
    model=st.text(),
    subset=st.text(),
    organization=st.text(),
    data=st.text(),
)
def test_any_text_gives_a_valid_file_in_its_folder(
    sae: str, model: str, subset: str, organization: str, data: str, tmp_path: Path
):
    who = make_identity(sae=sae, model=model, data={data: "cc" * 32})
    record = make_record(who, measurements=[make_number("fvu", 0.1, subset=subset)])
    write([record], tmp_path, organization)
    path = tmp_path / path_of(record)
    assert path.resolve().is_relative_to(tmp_path.resolve())
    assert len(path_of(record).parts) == 5
    log = json.loads(path.read_text("utf-8"))
    VALIDATOR.validate(log)
    assert log["model_info"]["name"] == sae
