"""A card and a settings class say the same rules, refuse the same values in the same words, and are compared."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, create_model, model_validator

from saebench.cards.agreement import disagreements
from saebench.cards.card import Parameter, TaskCard
from saebench.cards.rules import Ascending, Unique
from saebench.cards.settings import SampledSettings, Settings, TextSettings
from saebench.errors import UsageError
from tests.cards.made_up import card, metric

ROOT = Path(__file__).parents[2]


class Probing(Settings):
    """The settings of the card below."""

    folds: int = Field(5, ge=2, le=10)
    l2: float = Field(0.1, gt=0)
    share: float = 0.5
    pooling: Literal["mean", "max"] = "mean"
    text: str = Field("asset:x", min_length=1)
    balanced: bool = True
    ks: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Ascending()] = Field((1, 5), min_length=1)
    seeds: Annotated[tuple[int, ...], Unique()] = ()
    strengths: tuple[Annotated[float, Field(gt=0)], ...] = ()
    parts: tuple[Literal["news", "code"], ...] = ("news",)


PARAMETERS: dict[str, dict[str, Any]] = {
    "folds": {"default": 5, "minimum": 2, "maximum": 10},
    "l2": {"default": 0.1, "above": 0},
    "share": {"default": 0.5},
    "pooling": {"default": "mean", "choices": ["mean", "max"]},
    "text": {"default": "asset:x", "non_empty": True},
    "balanced": {"default": True},
    "ks": {"default": [1, 5], "minimum": 1, "non_empty": True, "ascending": True},
    "seeds": {"default": [], "items": "whole numbers", "unique": True},
    "strengths": {"default": [], "items": "numbers", "above": 0},
    "parts": {"default": ["news"], "choices": ["news", "code"]},
}


def probing(**changes: dict[str, Any] | None) -> TaskCard:
    """The card of `Probing`; ``ks={...}`` replaces rules of a parameter, and ``ks=None`` removes it."""
    merged = {name: {**PARAMETERS.get(name, {}), **(changes.get(name) or {})} for name in {**PARAMETERS, **changes}}
    parameters = {
        name: Parameter(description="d", **rules)
        for name, rules in merged.items()
        if name not in changes or changes[name] is not None
    }
    return card("probing", [metric("auc", True, primary=True)], parameters=parameters)


# Sentences


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"folds": 1.5}, "Parameter 'folds' of task 'probing' must be a whole number, not 1.5."),
        ({"folds": True}, "Parameter 'folds' of task 'probing' must be a whole number, not True."),
        ({"folds": None}, "Parameter 'folds' of task 'probing' must be a whole number, not None."),
        ({"folds": 1}, "Parameter 'folds' of task 'probing' must be at least 2, not 1."),
        ({"folds": 11}, "Parameter 'folds' of task 'probing' must be at most 10, not 11."),
        ({"l2": "0.1"}, "Parameter 'l2' of task 'probing' must be a number, not '0.1'."),
        ({"l2": 0.0}, "Parameter 'l2' of task 'probing' must be above 0, not 0.0."),
        ({"share": float("nan")}, "Parameter 'share' of task 'probing' must be a finite number, not nan."),
        ({"share": float("inf")}, "Parameter 'share' of task 'probing' must be a finite number, not inf."),
        ({"balanced": 1}, "Parameter 'balanced' of task 'probing' must be true or false, not 1."),
        ({"text": 5}, "Parameter 'text' of task 'probing' must be text, not 5."),
        ({"text": ""}, "Parameter 'text' of task 'probing' is empty; give at least one value."),
        (
            {"pooling": "maxx"},
            "Parameter 'pooling' of task 'probing' must be one of mean, max, not 'maxx'. Did you mean 'max'?",
        ),
        ({"pooling": 5}, "Parameter 'pooling' of task 'probing' must be one of mean, max, not 5."),
        ({"ks": 5}, "Parameter 'ks' of task 'probing' must be a list, not 5."),
        ({"ks": []}, "Parameter 'ks' of task 'probing' is empty; give at least one value."),
        ({"ks": [1, 2.5]}, "Parameter 'ks' of task 'probing' (value 2 of the list) must be a whole number, not 2.5."),
        ({"ks": [1, 0]}, "Parameter 'ks' of task 'probing' (value 2 of the list) must be at least 1, not 0."),
        ({"ks": [5, 1]}, "Parameter 'ks' of task 'probing' must list rising values, not [5, 1]."),
        ({"ks": [5, 5]}, "Parameter 'ks' of task 'probing' must list rising values, not [5, 5]."),
        ({"seeds": [3, 1, 3]}, "Parameter 'seeds' of task 'probing' must name each value once, not [3, 1, 3]."),
        (
            {"strengths": [1, -2]},
            "Parameter 'strengths' of task 'probing' (value 2 of the list) must be above 0, not -2",
        ),
        (
            {"parts": ["news", "cod"]},
            "Parameter 'parts' of task 'probing' (value 2 of the list) must be one of news, code, not 'cod'. "
            "Did you mean 'code'?",
        ),
        ({"fold": 5}, "Task 'probing' has no parameter 'fold'. Did you mean 'folds'?"),
    ],
)
def test_card_and_settings_refuse_in_the_same_words(values: dict[str, Any], sentence: str):
    with pytest.raises(UsageError) as by_card:
        probing().resolve("quick", values)
    with pytest.raises(UsageError) as by_settings:
        Probing.parse(values, task="probing")
    assert str(by_card.value) == str(by_settings.value)
    assert str(by_card.value).startswith(sentence)


def test_a_missing_setting_is_named():
    with pytest.raises(UsageError, match=r"^Parameter 'text' of task 'reading' is missing\.$"):
        TextSettings.parse({}, task="reading")


class Steering(Settings):
    lowest: float = 0.0
    highest: float = 1.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.lowest > self.highest:
            raise ValueError(f"lowest ({self.lowest:g}) must not be above highest ({self.highest:g}).")
        return self


def test_a_rule_between_settings_is_its_own_sentence():
    with pytest.raises(UsageError) as error:
        Steering.parse({"lowest": 2}, task="steering")
    assert str(error.value) == "Task 'steering': lowest (2) must not be above highest (1)."


# Values


def test_settings_take_lists_and_give_lists_back():
    settings = Probing.parse({"ks": [1, 2, 5], "strengths": [1, 0.5], "l2": 1}, task="probing")
    assert (settings.ks, settings.strengths) == ((1, 2, 5), (1.0, 0.5))
    parameters = settings.parameters()
    assert parameters["ks"] == [1, 2, 5]
    assert repr(parameters["strengths"]) == "[1.0, 0.5]"
    assert repr(parameters["l2"]) == "1.0"
    assert Probing.parse(parameters, task="probing") == settings


def test_settings_are_frozen_and_hashable():
    settings, same = Probing(), Probing.parse({"folds": 5}, task="probing")
    with pytest.raises(ValidationError, match="frozen"):
        settings.folds = 3
    assert {(settings, "x"): 1}[same, "x"] == 1
    assert hash(Probing(folds=3)) != hash(settings)


def test_sampled_settings_are_text_settings():
    assert issubclass(SampledSettings, TextSettings)
    assert set(SampledSettings.model_fields) == {"text", "context_length", "sequences"}


# Agreement


def test_a_class_that_says_what_its_card_says_agrees():
    assert disagreements(Probing, probing()) == []


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"folds": {"default": 6}}, "folds: the default is 5, but 6 on the card"),
        ({"ks": {"default": [1, 6]}}, "ks: the default is (1, 5), but [1, 6] on the card"),
        ({"more": {"default": 1}}, "Probing lacks more"),
        ({"share": None}, "the card lacks share"),
        ({"folds": {"minimum": 3}}, "folds: the rules are {"),
        ({"folds": {"maximum": None}}, "folds: the rules are {"),
        ({"l2": {"above": None, "minimum": 0}}, "l2: the rules are {"),
        ({"share": {"default": 1}}, "share: the default is 0.5, but 1 on the card"),
        ({"pooling": {"choices": ["mean", "max", "last"]}}, "pooling: the rules are {"),
        ({"pooling": {"choices": None}}, "pooling: the rules are {"),
        ({"text": {"non_empty": False}}, "text: the rules are {"),
        ({"ks": {"ascending": False}}, "ks: the rules are {"),
        ({"ks": {"ascending": False, "unique": True}}, "ks: the rules are {"),
        ({"seeds": {"unique": False}}, "seeds: the rules are {"),
        ({"seeds": {"items": "numbers"}}, "seeds: the rules are {"),
        ({"strengths": {"items": "whole numbers"}}, "strengths: the rules are {"),
        ({"parts": {"choices": None}}, "parts: the rules are {"),
    ],
)
def test_every_disagreement_is_named(changes: dict[str, Any], phrase: str):
    assert disagreements(Probing, probing(**changes))[0].startswith(phrase)


def test_a_whole_number_is_no_number_in_rules():
    class Wrong(Probing):
        share: int = 1  # type: ignore[assignment]

    assert [phrase.partition(":")[0] for phrase in disagreements(Wrong, probing())] == ["share", "share"]


# Generated parameters: whatever the rules, the card and the class written from them accept and refuse the same values.

ITEMS: dict[str, type] = {"text": str, "whole numbers": int, "numbers": float}
SAMPLES = {
    "text": st.sampled_from(["", "a", "b", "c"]),
    "whole numbers": st.integers(-3, 3),
    "numbers": st.sampled_from([-2.0, -0.5, 0.0, 0.5, 1.0, 3.0]),
}
ODD = st.sampled_from([None, True, False, "x", 0.25, float("nan"), float("inf"), [], [[]], {}, 10**400])


@st.composite
def written_twice(draw: st.DrawFn) -> tuple[Parameter, type[Settings]]:
    """A parameter of a card, and the settings class that says the same with types."""
    kind = draw(st.sampled_from(sorted(ITEMS)))
    is_list = draw(st.booleans())
    rules: dict[str, Any] = {}
    bounds: dict[str, Any] = {}
    if kind == "text":
        if draw(st.booleans()):
            rules["choices"] = draw(st.lists(st.sampled_from("abc"), min_size=1, unique=True))
    else:
        for name, key in (("minimum", "ge"), ("above", "gt"), ("maximum", "le")):
            if draw(st.booleans()):
                rules[name] = draw(SAMPLES["whole numbers"])
                bounds[key] = rules[name]
    item: Any = Literal[tuple(rules["choices"])] if "choices" in rules else ITEMS[kind]
    annotation: Any = Annotated[item, Field(**bounds)] if bounds else item
    required: Any = ...
    if is_list:
        annotation = tuple[annotation, ...]
        for name, marker in (("ascending", Ascending()), ("unique", Unique())):
            if draw(st.booleans()):
                rules[name] = True
                annotation = Annotated[annotation, marker]
        default: Any = draw(st.lists(SAMPLES[kind], max_size=2))
        rules |= {} if default else {"items": kind}
    else:
        default = draw(SAMPLES[kind])
    # The length of a Literal is not a rule of JSON schema.
    if (is_list or (kind == "text" and "choices" not in rules)) and draw(st.booleans()):
        rules["non_empty"] = True
        required = Field(min_length=1)
    parameter = Parameter(default=default, description="d", **rules)
    return parameter, create_model("Generated", __base__=Settings, value=(annotation, required))


def outcome(make: Callable[[], Any]) -> tuple[str, list[str]]:
    """The value, written so that 1 differs from 1.0 and True, or the rules that were broken."""
    try:
        return repr(make()), []
    except ValidationError as error:
        return "", [problem["type"] for problem in error.errors()]


VALUES = st.one_of(ODD, *SAMPLES.values(), *(st.lists(sample | ODD, max_size=4) for sample in SAMPLES.values()))


@given(written_twice(), VALUES)
def test_card_and_class_accept_and_refuse_the_same_values(pair: tuple[Parameter, type[Settings]], value: Any):
    parameter, settings = pair
    assert outcome(lambda: parameter.checked(value)) == outcome(
        lambda: settings.model_validate({"value": value}).parameters()["value"]
    )


@given(written_twice())
def test_what_is_written_twice_agrees(pair: tuple[Parameter, type[Settings]]):
    parameter, settings = pair
    schema = settings.model_json_schema()["properties"]["value"]
    assert {key: value for key, value in schema.items() if key != "title"} == parameter.rules()


# Types


def test_mypy_refuses_a_misspelt_setting(tmp_path: Path):
    code = "from saebench.cards.settings import SampledSettings\n\ndef run(settings: SampledSettings) -> int:\n"
    (tmp_path / "task.py").write_text(f"{code}    return settings.contxt_length\n")
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml")]
    result = subprocess.run(
        [*command, "--cache-dir", str(tmp_path / "cache"), "--follow-imports", "silent", str(tmp_path / "task.py")],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert (
        '"SampledSettings" has no attribute "contxt_length"; maybe "context_length"?  [attr-defined]' in result.stdout
    )
