"""Cards are validated strictly, parameters follow their rules, and the published cards are as documented."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from saebench.capabilities import Capability
from saebench.cards import card as card_module
from saebench.cards.card import PRESETS, TaskCard, cards_dir, load_card
from saebench.errors import SaebenchError, UsageError

MINIMAL: dict[str, Any] = {
    "name": "mini",
    "version": 1,
    "title": "Mini",
    "description": "d",
    "measures": "m",
    "cannot_tell": "c",
    "scope": "sae",
    "needs": ["linear_decoder"],
    "cost": "none",
    "parameters": {
        "count": {"default": 3, "description": "d", "minimum": 1},
        "share": {"default": 0.5, "description": "d"},
        "text": {"default": "asset:x", "description": "d"},
        "on": {"default": True, "description": "d"},
        "ks": {"default": [1, 5], "description": "d"},
    },
    "presets": {"smoke": {"count": 1}, "quick": {}, "standard": {"share": 0.9}, "paper": {"ks": [1, 2, 5]}},
    "data": [{"reference": "asset:x", "revision": "1", "licence": "MIT"}],
    "metrics": [
        {
            "id": "score",
            "title": "t",
            "description": "d",
            "unit": "ratio",
            "higher_is_better": True,
            "bounds": [0, None],
            "primary": True,
            "interval": "bootstrap",
        }
    ],
    "table_columns": ["score"],
    "citation": ["2404.16014"],
}


def write(folder: Path, content: Any, name: str = "mini") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def changed(*keys: str | int, to: Any) -> dict[str, Any]:
    content = copy.deepcopy(MINIMAL)
    place: Any = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    return content


@pytest.fixture
def card(tmp_path) -> TaskCard:
    return load_card(write(tmp_path, MINIMAL))


# Strictness


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed("extra", to=1), "extra: unknown key"),
        (changed("metrics", 0, "higher_is_beter", to=True), "metrics.0.higher_is_beter: unknown key"),
        (changed("version", to="1"), "version: "),
        (changed("version", to=0), "version: "),
        (changed("scope", to="saes"), "scope: "),
        (changed("needs", to=["linear"]), "needs.0: "),
        (changed("metrics", 0, "bounds", to=[0]), "metrics.0.bounds: "),
        (changed("metrics", 0, "higher_is_better", to="yes"), "metrics.0.higher_is_better: "),
        (changed("metrics", 0, "primary", to=False), "metrics: none is primary"),
        (changed("metrics", to=MINIMAL["metrics"] * 2), "metrics: 'score' is defined twice"),
        (changed("table_columns", to=["scor"]), "table_columns: no metric is called 'scor'. Did you mean 'score'?"),
        (changed("citation", to=["arXiv:2404.16014"]), "citation.0: "),
        (changed("title", to=" "), "title: "),
        (changed("presets", "quick", to={"cuont": 3}), "presets.quick.cuont: Task 'mini' has no parameter 'cuont'."),
        (
            changed("presets", "quick", to={"count": "3"}),
            "presets.quick.count: Parameter 'count' of task 'mini' must be",
        ),
        (
            changed("presets", "quick", to={"count": 0}),
            "presets.quick.count: Parameter 'count' of task 'mini' must be at",
        ),
        (changed("parameters", "count", "default", to=0), "parameters.count.default: "),
        (changed("presets", "huge", to={}), "presets.huge"),
        (changed("parameters", "count", "items", to="text"), "items, ascending and unique are for lists"),
        (changed("parameters", "count", "ascending", to=True), "items, ascending and unique are for lists"),
        (changed("parameters", "text", "unique", to=True), "items, ascending and unique are for lists"),
        (changed("parameters", "ks", "default", to=[]), "items says what an empty list holds"),
        (changed("parameters", "ks", "items", to="whole numbers"), "items says what an empty list holds"),
        (changed("parameters", "ks", "items", to="texts"), "parameters.ks.items: "),
        (changed("parameters", "count", "choices", to=["1"]), "choices are for text"),
        (changed("parameters", "text", "minimum", to=1), "minimum, above, maximum and below are for numbers"),
        (changed("parameters", "on", "maximum", to=1), "minimum, above, maximum and below are for numbers"),
        (
            changed("parameters", "text", "choices", to=["a"]),
            "parameters.text.default: Parameter 'text' of task 'mini'",
        ),
        (changed("parameters", "count", "optional", to=True), "parameters.count.optional: unknown key"),
        ({key: value for key, value in MINIMAL.items() if key != "cannot_tell"}, "cannot_tell: "),
        (changed("presets", to={"quick": {}}), "presets: 'smoke' is missing"),
        (changed("name", to="other"), "name: is 'other' but the file is called 'mini.yaml'"),
        ([1, 2], "dictionary"),
        ("a: [", "is not valid YAML"),
        ("", "dictionary"),
    ],
)
def test_a_wrong_card_names_the_file_and_the_key(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(UsageError) as caught:
        load_card(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_every_problem_is_named_at_once(tmp_path):
    content = changed("extra", to=1) | {"version": "x"}
    with pytest.raises(UsageError, match=r"(?s)version: .*extra: |extra: .*version: "):
        load_card(write(tmp_path, content))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"Cannot read the task card .*absent\.yaml"):
        load_card(tmp_path / "absent.yaml")


def test_a_card_cannot_be_changed(card):
    with pytest.raises(ValueError, match="frozen"):
        card.version = 2


# Parameters


def test_resolve_takes_defaults_then_preset_then_overrides(card):
    assert card.resolve("quick") == {"count": 3, "share": 0.5, "text": "asset:x", "on": True, "ks": [1, 5]}
    assert card.resolve("smoke")["count"] == 1
    assert card.resolve("smoke", {"count": 7, "text": "jsonl:x"})["count"] == 7


def test_whole_numbers_become_floats_where_a_float_is_expected(card):
    share = card.resolve("quick", {"share": 1})["share"]
    assert share == 1.0
    assert isinstance(share, float)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"count": 1.5}, "'count' of task 'mini' must be a whole number, not 1.5"),
        ({"count": True}, "must be a whole number, not True"),
        ({"count": "5"}, "must be a whole number, not '5'"),
        ({"count": None}, "must be a whole number, not None"),
        ({"count": 0}, "must be at least 1, not 0"),
        ({"on": 1}, "must be true or false, not 1"),
        ({"ks": 5}, "must be a list, not 5"),
        ({"text": 5}, "must be text, not 5"),
        ({"cout": 5}, "has no parameter 'cout'. Did you mean 'count'?"),
    ],
)
def test_wrong_overrides_are_refused(card, overrides, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        card.resolve("quick", overrides)


def test_unknown_preset_and_metric(card):
    with pytest.raises(UsageError, match=r"no preset 'quik'; presets are smoke, quick, .*Did you mean 'quick'\?"):
        card.resolve("quik")
    with pytest.raises(UsageError, match=r"no metric 'scores'\. Did you mean 'score'\?"):
        card.metric("scores")
    assert card.metric("score").unit == "ratio"


# Where cards are


@pytest.mark.parametrize("capability", Capability)
def test_a_card_may_need_any_capability(tmp_path, capability):
    assert load_card(write(tmp_path, changed("needs", to=[capability.value]))).needs == [capability]


def test_in_a_wheel_the_cards_lie_in_the_package(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "saebench"
    shutil.copytree(cards_dir(), package / "_cards")
    (package.parent / "tasks").mkdir()  # somebody else's package
    monkeypatch.setattr(card_module, "__file__", str(package / "cards" / "card.py"))
    assert cards_dir() == package / "_cards"


def test_missing_cards_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(card_module, "__file__", str(tmp_path / "saebench" / "cards" / "card.py"))
    with pytest.raises(SaebenchError, match="install saebench again"):
        cards_dir()


# The published cards


def test_every_published_card_is_valid():
    paths = sorted(cards_dir().glob("*.yaml"))
    assert [load_card(path).name for path in paths] == [path.stem for path in paths]


def test_core_card():
    core = load_card(cards_dir() / "core.yaml")
    ids = """
        fvu fvu_ordinary fvu_standardised explained_variance mse cosine l2_ratio reconstruction_bias l0 l0_share l1
        dead_share
        density_over_1pct density_over_10pct ce_clean ce_sae ce_zero ce_mean ce_recovered_zero ce_recovered_mean
        kl_sae kl_zero kl_mean kl_recovered decoder_max_cosine encoder_max_cosine encoder_decoder_cosine
    """
    assert [spec.id for spec in core.metrics] == ids.split()
    assert {spec.id for spec in core.metrics if spec.primary} == {"fvu", "fvu_ordinary", "ce_recovered_mean"}
    sizes = [core.resolve(preset)["sequences"] * core.resolve(preset)["context_length"] for preset in PRESETS]
    assert sizes == sorted(sizes)
    assert core.resolve("smoke") == {
        "text": "asset:sae-probes/97_news_class",
        "context_length": 32,
        "sequences": 8,
        "bootstrap_replicates": 200,
    }
    assert core.resolve("quick")["bootstrap_replicates"] == 2000


def test_directions_of_core():
    core = load_card(cards_dir() / "core.yaml")
    better = {spec.id: spec.higher_is_better for spec in core.metrics}
    assert {id for id, up in better.items() if up is True} == {
        "explained_variance", "cosine", "ce_recovered_zero", "ce_recovered_mean", "kl_recovered",
    }  # fmt: skip
    assert {id for id, up in better.items() if up is False} == {
        "fvu", "fvu_ordinary", "fvu_standardised", "mse", "dead_share", "ce_sae", "kl_sae",
    }  # fmt: skip
