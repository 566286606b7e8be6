"""What a user may ask for, and what is refused with the key's path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saebench.budget import Budget
from saebench.errors import UsageError
from saebench.runner.request import RunRequest, make_request


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text, "utf-8")
    return path


def test_nothing_asked_for_is_the_embedded_default():
    request = make_request({})
    assert request == RunRequest()
    assert (request.suite, request.model, request.seed, request.overwrite) == (
        "quick",
        "asset:gemma-3-270m",
        [0],
        "missing",
    )
    assert request.arguments() == {}
    assert request.budget() == Budget()
    assert request.batch_size is None


def test_options_win_over_the_config_file(tmp_path: Path):
    path = config(tmp_path, "sae: [zoo:a, zoo:b]\nlimit: 8\nparameters: {core: {context_length: 16}}\n")
    request = make_request({"limit": 4}, path)
    assert (request.sae, request.limit) == (["zoo:a", "zoo:b"], 4)
    assert request.parameters == {"core": {"context_length": 16}}


def test_one_value_may_stand_for_a_list(tmp_path: Path):
    request = make_request({}, config(tmp_path, "sae: zoo:a\ntasks: core\nseed: 7\n"))
    assert (request.sae, request.tasks, request.seed) == (["zoo:a"], ["core"], [7])


@pytest.mark.parametrize("size", ["1.5GB", "1.5 gb", "1500 MB", 1_500_000_000, "1500000000", 1.5e9])
def test_budgets_are_numbers_or_text(tmp_path: Path, size: str | float):
    expected = Budget(memory=1_500_000_000, cache=1_500_000_000)
    options = {"memory_budget": size, "cache_budget": size}
    assert make_request(options).budget() == expected
    text = "".join(f"{key}: {value}\n" for key, value in options.items())
    assert make_request({}, config(tmp_path, text)).budget() == expected
    assert make_request(options).arguments() == {"memory_budget": 1_500_000_000, "cache_budget": 1_500_000_000}


def test_the_smallest_budgets():
    request = make_request({"memory_budget": "64MB", "cache_budget": "0"})
    assert request.budget() == Budget(memory=64_000_000, cache=0)
    with pytest.raises(
        UsageError, match=r"63.9 MB of working memory is too little for any model; give 64 MB or more\."
    ):
        make_request({"memory_budget": 63_900_000})


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_config_file_asks_for_nothing(tmp_path: Path, text: str):
    assert make_request({}, config(tmp_path, text)) == RunRequest()


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert make_request({"out": "~/results"}).out == tmp_path / "results"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modell: x", "Unknown option 'modell' in .*run.yaml.*Did you mean 'model'"),
        ("limit: 1", "Option 'limit' in .*run.yaml: .*greater than or equal to 2.*got 1"),
        ("batch_size: 0", "Option 'batch_size'"),
        ("memory_budget: lots", "Option 'memory_budget' in .*run.yaml: 'lots' is not an amount of memory.*800MB"),
        ("memory_budget: 64", "Option 'memory_budget'.*64 B of working memory"),
        ("memory_budget: true", "Option 'memory_budget'.*True is not an amount"),
        ("cache_budget: -1", "Option 'cache_budget'.*-1 is not an amount"),
        ("cache_budget: [1]", "Option 'cache_budget'"),
        ("cache_budgt: 1", "Did you mean 'cache_budget'"),
        ("seed: []", "Option 'seed'"),
        ("seed: [0, x]", r"Option 'seed.1'"),
        ("seed: -1", r"Option 'seed.0'.*greater than or equal to 0"),
        ("sae: []", "Option 'sae.*at least 1 item"),
        ("tasks: []", "Option 'tasks.*at least 1 item"),
        ("overwrite: allways", "Option 'overwrite'.*'missing', 'failed' or 'always'"),
        ("parameters: {core: 5}", "Option 'parameters.core'"),
        ("parameters: [core]", "Option 'parameters'"),
        ("1: 2", "line 1, column 1.: a key must be a text"),
        ("- zoo:a", "must hold options like .* not a list"),
        ("just words", "not a str"),
        ("sae: [", "not valid YAML"),
        ("sae: \x00", "not valid YAML"),
    ],
)
def test_what_is_wrong_in_a_config_file_is_named(tmp_path: Path, text: str, message: str):
    with pytest.raises(UsageError, match=message) as caught:
        make_request({}, config(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_config_file_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(UsageError, match=r"Cannot read the config file .*none\.yaml: No such file"):
        make_request({}, tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"sae: caf\xe9")
    with pytest.raises(UsageError, match=r"latin\.yaml is not UTF-8 at byte 8"):
        make_request({}, tmp_path / "latin.yaml")


def test_a_config_file_builds_no_objects(tmp_path: Path):
    target = tmp_path / "made"
    with pytest.raises(UsageError, match="not valid YAML"):
        make_request({}, config(tmp_path, f"sae: !!python/object/apply:os.mkdir ['{target}']"))
    assert not target.exists()


@pytest.mark.parametrize(
    "options", [{"sea": "zoo:a"}, {"limit": 1}, {"seed": [-1]}, {"seed": [0.5]}, {"sae": []}, {"overwrite": "no"}]
)
def test_bad_options_from_python(options: dict[str, Any]):
    with pytest.raises(UsageError, match=next(iter(options))):
        make_request(options)


def test_provenance_holds_what_was_given_but_no_folder_of_results(tmp_path: Path):
    request = make_request({"sae": ["zoo:a"], "out": tmp_path, "limit": 4})
    assert request.arguments() == {"sae": ["zoo:a"], "limit": 4}
