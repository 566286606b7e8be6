from __future__ import annotations

import json
import subprocess
import sys

import pytest

from saebench.errors import UsageError
from saebench.results.identity import canonical_json, record_id
from saebench.results.record import Identity

CHANGES = {
    "task": "other",
    "task_version": 2,
    "parameters": {"text": "asset:sae-probes/97_news_class", "sequences": 129, "scale": 0.1},
    "seed": 1,
    "model": "hf:other/model",
    "model_fingerprint": "00" * 32,
    "dtype": "float32",
    "device_class": "cuda",
    "sae": "zoo:topk-k32-s1",
    "sae_fingerprint": "11" * 32,
    "data": {"asset:sae-probes/97_news_class": "22" * 32},
}


def test_the_id_is_pinned(identity):
    # Published tables and file names hold such ids. If this fails, every stored record loses its name.
    assert record_id(identity()) == "2a5a5ad0aff30b5a"


def test_the_id_is_the_same_in_another_process(identity):
    code = (
        "import sys; from saebench.results.record import Identity; from saebench.results.identity import record_id;"
        "print(record_id(Identity.model_validate_json(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, identity().model_dump_json()]
    assert subprocess.check_output(command, text=True).strip() == record_id(identity())


def test_every_field_changes_the_id(identity):
    assert set(CHANGES) == set(Identity.model_fields)
    ids = {record_id(identity(**{field: value})) for field, value in CHANGES.items()}
    assert len(ids | {record_id(identity())}) == len(CHANGES) + 1


def test_the_order_of_parameters_does_not_matter(identity):
    parameters = identity().parameters
    assert record_id(identity(parameters=dict(reversed(parameters.items())))) == record_id(identity())


def test_the_id_survives_json(identity):
    who = identity(parameters={"share": 1 / 3, "many": (1, 2), "whole": 1.0, "text": "Ünï \u2028 ☃"})
    again = Identity.model_validate(json.loads(who.model_dump_json()))
    assert record_id(again) == record_id(who)


def test_numbers_are_written_by_repr(identity):
    assert '"x":0.1,"y":1e-300' in canonical_json(identity(parameters={"y": 1e-300, "x": 0.1}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_json_cannot_hold_is_refused(identity, value):
    with pytest.raises(UsageError, match="parameters of task 'core'"):
        record_id(identity(parameters={"x": value}))
