"""YAML that others wrote: read as JSON values, and refused in one sentence when it is anything else."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from saebench import yaml_file
from saebench.errors import DataError, UsageError
from saebench.yaml_file import parse_yaml, parse_yaml_documents, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing\n", None),
        ("a: 1\nb: [x, 2.5, true, null, '3']\n", {"a": 1, "b": ["x", 2.5, True, None, "3"]}),
        ("2024-01-01", "2024-01-01"),
        ("[2024-13-45, 2024-01-01T25:61:61Z, =]", ["2024-13-45", "2024-01-01T25:61:61Z", "="]),
        ("[0x10, 1_000, -9223372036854775808, 9223372036854775807]", [16, 1000, -(2**63), 2**63 - 1]),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
        ("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n", {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}),
        # A key of its own wins over a merged one, which is no key twice.
        ("a: &a {x: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b}\n", {"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 2}}),
        ("\ufeffa: \U0001f600\n", {"a": "\U0001f600"}),
        ("[" * 64 + "]" * 64, [[[]]]),
    ],
)
def test_values(tmp_path: Path, text: str, value: Any) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(text, "utf-8")
    read = read_yaml(file, "file")
    assert read == value or str(read) == "[" * 64 + "]" * 64


def test_numbers_that_json_does_not_know_are_left_to_the_reader(tmp_path: Path) -> None:
    values = parse_yaml("[.inf, -.inf, .nan]", "It", UsageError)
    assert values[:2] == [math.inf, -math.inf]
    assert math.isnan(values[2])


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
DEEPER = "".join(f"a{i}: &a{i} {'[' * 60}{f'*a{i - 1}' if i else 'x'}{']' * 60}\n" for i in range(40))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("!!bool maybe", "line 1, column 1.: this is no truth value"),
        ("a: !!int x", "line 1, column 4.: this is no whole number of at most 64 bits"),
        ("9" * 5000, "this is no whole number"),
        ("0x" + "f" * 5000, "this is no whole number"),
        ("9223372036854775808", "this is no whole number"),
        ("!!float x", "this is no number"),
        ("!!timestamp x", "the tag 'timestamp' is not allowed"),
        ("!!python/object/apply:os.system [ls]", "the tag 'python/object/apply:os.system' is not allowed"),
        ("!mine x", "the tag '!mine' is not allowed"),
        ("!!seq x", "expected a sequence node"),
        ("{a: 1, b: 2, a: 3}", "the key 'a' is there twice"),
        ("{a: {b: 1, 'b': 2}}", "the key 'b' is there twice"),
        ("{1: a}", "a key must be a text; put it in quotes"),
        ("{? [a] : b}", "a key must be a text"),
        ("{yes: a}", "a key must be a text"),
        ("*a", "undefined alias"),
        ("&a [*a]", "the alias 'a' puts a list or mapping into itself"),
        ("a: &a\n  b: {<<: *a}\n", "into itself"),
        ("{<<: 1}", "expected a mapping"),
        ('"\\ud800"', "."),
        ('"\\UFFFFFFFF"', "."),
        ("a\0b", "."),
        ("\x1b", "."),
        ("[", "."),
        ("a: b: c", "."),
        ("---\na\n---\nb\n", "it holds 2 documents, and one is expected"),
        ("[" * 65 + "]" * 65, "nested more than 64 deep"),
        ("[" * 100_000, "nested more than 64 deep"),
        ("- " * 100_000, "nested more than 64 deep"),
        (LAUGHS, "expands to more than 4,194,304 characters"),
        (LAUGHS.replace("[", "{<<: [").replace("]", "]}").replace("[x, x]", "{x: 1}"), "expands to more than"),
        (f"a: &a {'x' * 10**5}\nb: [{', '.join(['*a'] * 1000)}]", "expands to more than"),
        (DEEPER, "nested more than 64 deep"),
    ],
    ids=range(33),
)
@pytest.mark.parametrize("loader", ["libyaml", "plain"])
def test_what_is_refused(text: str, problem: str, loader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if loader == "plain":  # on a machine where PyYAML has no libyaml
        monkeypatch.setattr(yaml_file, "_Loader", yaml_file._restricted(yaml.SafeLoader))
    with pytest.raises(DataError, match=f"^The file x is not valid YAML.*{problem}") as caught:
        parse_yaml(text, "The file x", DataError)
    message = str(caught.value)
    message.encode()
    assert len(message) < 500
    assert "\n" not in message


def test_keys_that_are_no_texts_where_they_are_allowed() -> None:
    assert parse_yaml("{2: a, yes: b, null: c}", "It", UsageError, text_keys=False) == {2: "a", True: "b", None: "c"}
    with pytest.raises(UsageError, match="a key must be a text"):
        parse_yaml("{? [a] : b}", "It", UsageError, text_keys=False)


def test_several_documents() -> None:
    assert parse_yaml_documents("---\na\n---\nb: 1\n", "It", UsageError) == ["a", {"b": 1}]
    assert parse_yaml_documents("", "It", UsageError) == []


def test_a_file_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Cannot read the task card .*: it is a folder"):
        read_yaml(tmp_path, "task card")
    (tmp_path / "large.yaml").write_text("# " + "x" * 2**20)
    with pytest.raises(UsageError, match="is larger than 1,048,576 bytes"):
        read_yaml(tmp_path / "large.yaml", "task card")
