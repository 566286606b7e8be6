from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from saebench.errors import UsageError
from saebench.results.identity import canonical_json, inputs_by_content, record_id
from saebench.results.record import Identity

CHANGES = {
    "task": "other",
    "task_version": 99,
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
    # Published tables and file names hold such ids. If this fails, every stored record loses its name. It changed once:
    # content hashes took the place of the references of texts and datasets, which depend on where a file lies.
    assert record_id(identity(task_version=1)) == "7d065636cf341d43"


def test_the_id_is_the_same_in_another_process(identity):
    code = (
        "import sys; from saebench.results.record import Identity; from saebench.results.identity import record_id;"
        "print(record_id(Identity.model_validate_json(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, identity().model_dump_json()]
    assert subprocess.check_output(command, text=True).strip() == record_id(identity())


PLACES = ("jsonl:text.jsonl", "jsonl:./text.jsonl", "jsonl:/home/me/copy.jsonl")


def on(text: str, content: str = "cc" * 32, **parameters: Any) -> dict[str, Any]:
    return {"parameters": {"text": text, "sequences": 128, **parameters}, "data": {text: content}}


def test_the_place_of_a_text_does_not_change_the_id_and_its_content_does(identity):
    assert len({record_id(identity(**on(place))) for place in PLACES}) == 1
    assert record_id(identity(**on(PLACES[0], "dd" * 32))) != record_id(identity(**on(PLACES[0])))
    assert record_id(identity(**on(PLACES[0], sequences=64))) != record_id(identity(**on(PLACES[0])))


def test_which_parameter_names_which_content_changes_the_id(identity):
    data = {"jsonl:a": "aa" * 32, "jsonl:b": "bb" * 32}
    one, other = ({"forget": f"jsonl:{x}", "retain": [f"jsonl:{y}"]} for x, y in ("ab", "ba"))
    assert record_id(identity(parameters=one, data=data)) != record_id(identity(parameters=other, data=data))


def test_one_reference_may_mean_different_content_in_two_parameters(identity):
    parameters = {"datasets": ["jsonl:x"], "perplexity_text": "jsonl:x"}
    who = identity(parameters=parameters, data={"jsonl:x": "aa" * 32, "perplexity_text:jsonl:x": "bb" * 32})
    resolved, data = inputs_by_content(who)
    assert resolved == {"datasets": [f"content:{'aa' * 32}"], "perplexity_text": f"content:{'bb' * 32}"}
    assert data == ["aa" * 32, "bb" * 32]
    elsewhere = identity(
        parameters={"datasets": ("csv:y",), "perplexity_text": "jsonl:z"},
        data={"csv:y": "aa" * 32, "jsonl:z": "bb" * 32},
    )
    assert record_id(elsewhere) == record_id(who)


def test_a_dataset_of_the_asset_has_two_names(identity):
    data = {"asset:sae-probes/5_hist": "aa" * 32}
    ids = {record_id(identity(parameters={"datasets": [name]}, data=data)) for name in ("5_hist", *data)}
    assert len(ids) == 1


def test_what_names_no_data_stays_as_it_is(identity):
    who = identity(parameters={"text": "jsonl:other", "layer": 3, "share": 0.5, "none": None, "nested": [["x", 1]]})
    assert inputs_by_content(who)[0] == who.parameters


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
