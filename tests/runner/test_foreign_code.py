"""A config file may come from somebody else: what it names as code runs only if the user says so."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from saebench.errors import UsageError
from saebench.runner.plan import make_plan
from saebench.runner.request import make_request
from saebench.sae import registry
from saebench.sae.registry import scheme_registry
from tests.runner.conftest import Inputs, Run


def config(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, "utf-8")
    return path


@pytest.fixture
def code(tmp_path: Path) -> str:
    """A reference to a file that writes another file when it runs."""
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()\ndef build(): ...\n")
    return f"python:{tmp_path / 'code.py'}:build"


PLACES = {
    "alone": "sae: '{0}'",
    "in a list": "sae: ['zoo:topk-k32-s0', '{0}?a=1']",
    "inside a control": "sae: ['baseline:permuted-decoder({0})']",
    "deep inside": "sae: ['baseline:permuted-decoder(baseline:permuted-decoder({0}?a=1)?seed=1)']",
    "in a group": "sae_group: 'pair=zoo:topk-k32-s0,{0}'",
    "inside a control in a group": "sae_group: ['pair=zoo:topk-k32-s0,baseline:permuted-decoder({0})']",
    "through an alias": "parameters: {{}}\nsae: [&a '{0}', *a]",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_file_that_names_code_is_refused(code: str, place: str, tmp_path: Path) -> None:
    file = config(tmp_path, PLACES[place].format(code))
    with pytest.raises(UsageError, match=r"run\.yaml names python:.*is code that the run would.*--allow-python"):
        make_request({}, file)
    with pytest.raises(UsageError, match="names python:"):
        make_request({"seed": [1], "sae" if "group" in place else "sae_group": None}, file)
    assert make_plan(make_request({"allow_python": True}, file)).refs
    assert not (tmp_path / "executed").exists()


def test_what_the_command_line_names_itself_is_no_surprise(code: str, tmp_path: Path) -> None:
    file = config(tmp_path, f"sae: ['{code}']\nsae_group: ['g={code},zoo:topk-k32-s0']")
    assert make_request({"sae": [code]}, file)
    assert make_request({"sae": [f"baseline:permuted-decoder({code})"]}, file)  # the same code
    assert make_request({"sae": ["zoo:topk-k32-s0"], "sae_group": ["zoo-sparsity"]}, file)  # the file's are not used
    with pytest.raises(UsageError, match="names python:"):
        make_request({"sae": [f"{code}?a=1"]}, file)
    with pytest.raises(UsageError, match="names python:"):
        make_request({"sae": ["zoo:topk-k32-s0"]}, file)


@pytest.mark.parametrize("option", ["trust_remote_code", "allow_python"])
@pytest.mark.parametrize("value", ["true", "false"])
def test_a_file_cannot_allow_code(tmp_path: Path, option: str, value: str) -> None:
    file = config(tmp_path, f"sae: zoo:topk-k32-s0\n{option}: {value}\n")
    with pytest.raises(UsageError, match=f"a file cannot allow code to run; give --{option.replace('_', '-')}"):
        make_request({}, file)
    assert getattr(make_request({option: True}, file), option)


def test_schemes_of_packages_say_whether_they_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", "tests.sae.test_registry:MINE", "saebench.saes")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    scheme_registry.cache_clear()
    try:
        file = config(tmp_path, "sae: mine:x")
        assert make_request({}, file).sae == ["mine:x"]
        scheme = scheme_registry().get("mine")
        monkeypatch.setattr(scheme, "runs_code", True)
        with pytest.raises(UsageError, match="names mine:x"):
            make_request({}, file)
    finally:
        scheme_registry.cache_clear()


def test_what_the_user_allowed_is_in_the_provenance(run: Run, inputs: Inputs) -> None:
    record = run(inputs.topk(0), trust_remote_code=True).records[0]
    assert record.provenance.arguments["trust_remote_code"] is True
    assert "allow_python" not in record.provenance.arguments
