"""The registry: built-in tasks, plug-ins, and plug-ins that are broken in any way."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from saebench.cards import registry as registry_module
from saebench.cards.card import cards_dir
from saebench.cards.registry import BUILT_IN, GROUP, registry
from saebench.errors import SaebenchError, UsageError
from saebench.evaluation import GroupTask, SAETask
from saebench.tasks import factory
from saebench.tasks.core.task import CoreTask

CARD = (cards_dir() / "core.yaml").read_text(encoding="utf-8")

PLUGIN = """
from saebench.evaluation import GroupTask, SAETask
from saebench.tasks.core.settings import CoreSettings

class Works(SAETask):
    name = "extra"
    settings = CoreSettings
    card_path = "extra.yaml"
    def run(self, sae, context, settings): ...

class NoCard(SAETask):
    name = "no_card"
    settings = CoreSettings
    def run(self, sae, context, settings): ...

class OtherNeeds(Works):
    needs = frozenset({"linear_decoder"})

class OtherName(Works):
    name = "other"

class NoSettings:
    name = "extra"
    needs = frozenset()
    card_path = "extra.yaml"
    def run(self, sae, context, settings): ...

class NotSettings(NoSettings):
    settings = dict

class OtherDefault(Works):
    class settings(CoreSettings):
        sequences: int = 1

class NoRun:
    name = "extra"
    needs = frozenset()
    settings = CoreSettings
    card_path = "extra.yaml"

class Pair(GroupTask):
    name = "pair"
    settings = CoreSettings
    card_path = "pair.yaml"
    def run_group(self, group, context, settings): ...

class Both(Pair, SAETask):
    card_path = "both/pair.yaml"
    def run(self, sae, context, settings): ...

class RunOnly(Works):
    name = "pair"
    card_path = "pair.yaml"

class HalfOfBoth(Pair):
    card_path = "both/pair.yaml"

class BadCard(Works):
    card_path = "bad.yaml"
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Register entry points of an importable plug-in module: ``plugins(name="module:Class", ...)`` -> registry."""
    (tmp_path / "plug_in_module.py").write_text(PLUGIN)
    (tmp_path / "explodes.py").write_text("raise RuntimeError('boom')\n")
    (tmp_path / "extra.yaml").write_text(CARD.replace("name: core", "name: extra", 1), encoding="utf-8")
    (tmp_path / "bad.yaml").write_text("name: bad\n")
    (tmp_path / "both").mkdir()
    for path, scope in (("pair.yaml", "group"), ("both/pair.yaml", "both")):
        card = CARD.replace("name: core", "name: pair", 1).replace("scope: sae", f"scope: {scope}", 1)
        (tmp_path / path).write_text(card, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    def register(*points: tuple[str, str]):
        found = importlib.metadata.EntryPoints(importlib.metadata.EntryPoint(n, v, GROUP) for n, v in points)

        def entry_points(**select: str) -> importlib.metadata.EntryPoints:
            return found.select(**select)

        monkeypatch.setattr(registry_module, "entry_points", entry_points)
        registry.cache_clear()
        return registry()

    yield register
    registry.cache_clear()
    for module in ("plug_in_module", "explodes"):
        sys.modules.pop(module, None)


def test_the_built_in_tasks_are_those_with_a_published_card():
    assert {path.stem for path in cards_dir().glob("*.yaml")} == set(BUILT_IN)


def test_core_is_there(plugins):
    found = plugins()
    assert found.names() == [*BUILT_IN]
    assert found.card("core").name == "core"
    assert found.table_columns()["core"][0] == "ce_recovered_mean"
    assert registry() is found


def test_listing_tasks_imports_no_torch():
    code = "import sys; from saebench.cards.registry import registry; registry(); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_a_built_in_task_is_created_by_name(plugins):
    plugins()
    assert registry().plug_in("core") is None
    assert type(factory.create("core")) is CoreTask
    settings = factory.resolve("core", "smoke", {"sequences": 9})
    assert settings == CoreTask.settings(
        text="asset:sae-probes/97_news_class", context_length=32, sequences=9, bootstrap_replicates=200
    )


def test_an_implementation_that_contradicts_its_card_is_refused(plugins, monkeypatch):
    plugins()
    monkeypatch.setattr(CoreTask, "needs", frozenset({"transcoder"}))
    with pytest.raises(
        SaebenchError, match=r"^Task 'core' \(saebench.tasks.core.task:CoreTask\) does not fit its card: "
    ):
        factory.create("core")


def test_unknown_task(plugins):
    with pytest.raises(UsageError, match=r"There is no task 'coer'\. Did you mean 'core'\?"):
        plugins().card("coer")
    with pytest.raises(UsageError, match=r"There is no task 'coer'\. Did you mean 'core'\?"):
        factory.implementation("coer")
    with pytest.raises(UsageError, match=r"has no parameter 'sequences_'"):
        factory.resolve("core", "quick", {"sequences_": 1})


def test_metric_facts(plugins):
    found = plugins()
    version = found.card("core").version
    fvu = found.metric("core", version, "fvu")
    assert fvu is not None
    assert fvu.primary
    assert fvu.higher_is_better is False
    assert found.metric("core", version + 1, "fvu") is None
    assert found.metric("core", version, "nonsense") is None
    assert found.metric("elsewhere", 1, "fvu") is None


def test_a_plug_in_is_a_task_like_any_other(plugins):
    found = plugins(("extra", "plug_in_module:Works"))
    assert found.names() == [*BUILT_IN, "extra"]
    assert found.card("extra").resolve("smoke")["sequences"] == 8
    assert found.plug_in("extra") is factory.implementation("extra")
    assert type(factory.create("extra")).__name__ == "Works"
    assert factory.resolve("extra", "smoke") == factory.resolve("core", "smoke")
    assert found.metric("extra", found.card("extra").version, "fvu") is not None


@pytest.mark.parametrize(("target", "kinds"), [("Pair", (GroupTask,)), ("Both", (SAETask, GroupTask))])
def test_a_task_of_groups(plugins, target, kinds):
    found = plugins(("pair", f"plug_in_module:{target}"))
    task = factory.create("pair")
    assert [kind for kind in (SAETask, GroupTask) if isinstance(task, kind)] == list(kinds)
    assert (found.card("pair").scope, found.card("pair").groups) == ("both" if len(kinds) == 2 else "group", "seeds")


@pytest.mark.parametrize(
    ("name", "target", "error"),
    [
        ("extra", "explodes:Task", "RuntimeError: boom"),
        ("extra", "not_installed_module:Task", "ModuleNotFoundError"),
        ("extra", "plug_in_module:Absent", "AttributeError"),
        ("no_card", "plug_in_module:NoCard", "card_path"),
        ("extra", "plug_in_module:OtherNeeds", "needs ['linear_decoder'], but the card says []"),
        ("extra", "plug_in_module:OtherName", "the class is called 'other', but the card 'extra'"),
        ("extra", "plug_in_module:NoSettings", "the class has no 'settings'"),
        ("extra", "plug_in_module:NotSettings", "its settings are not a subclass of saebench.evaluation.Settings"),
        ("extra", "plug_in_module:OtherDefault", "sequences: the default is 1, but 128 on the card"),
        ("extra", "plug_in_module:NoRun", "the class has no 'run'"),
        ("pair", "plug_in_module:RunOnly", "the class has no 'run_group'"),
        ("pair", "plug_in_module:HalfOfBoth", "the class has no 'run'"),
        ("extra", "plug_in_module:BadCard", "bad.yaml is wrong"),
        ("another", "plug_in_module:Works", "its card is for a task called 'extra'"),
        ("core", "plug_in_module:Works", "the name 'core' is taken by saebench"),
    ],
)
def test_a_broken_plug_in_is_listed_with_its_error_and_breaks_nothing(plugins, name, target, error):
    found = plugins((name, target), ("zz", "explodes:Task"))
    assert found.names() == [*BUILT_IN]
    assert found.card("core").name == "core"
    (broken,) = [entry for entry in found.entries() if entry.error and entry.name == name]
    assert (broken.card, broken.implementation) == (None, None)
    assert error in broken.error
    assert len(found.entries()) == len(BUILT_IN) + 2
    if name != "core":
        with pytest.raises(UsageError, match=f"Task '{name}' of an unknown package is broken: "):
            found.card(name)


def test_two_plug_ins_of_one_name(plugins):
    found = plugins(("extra", "plug_in_module:Works"), ("extra", "zzz:Other"))
    assert found.names() == [*BUILT_IN, "extra"]
    assert [entry.error for entry in found.entries()][-1].endswith("the name 'extra' is taken by an unknown package")
