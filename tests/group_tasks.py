"""Tasks that compare SAEs with each other, as a plug-in brings them. `register` adds them to the built-in tasks."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from saebench.cards import registry as registry_module
from saebench.cards.registry import GROUP, registry
from saebench.errors import UsageError
from saebench.evaluation import GroupTask, SAEGroup, SAETask, Settings, Task, TaskOutput
from saebench.passes.context import TaskContext
from saebench.results.record import Measurement
from saebench.sae.protocol import SAE, Capability

_METRIC = {"unit": "latents", "higher_is_better": None, "bounds": [0, None], "interval": "none"}
_TIMES = {"times": {"default": 1, "description": "What the number is multiplied by."}}


def card(
    name: str,
    scope: str,
    metrics: list[str],
    *,
    groups: str = "seeds",
    needs: tuple[str, ...] = (),
    parameters: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of a task card."""
    text = dict.fromkeys(("title", "description", "measures", "cannot_tell", "cost"), f"The task {name}.")
    described = [{"id": id, "title": id, "description": id, **_METRIC, "primary": True} for id in metrics]
    return {
        **text,
        "name": name,
        "version": 1,
        "scope": scope,
        "groups": groups,
        "needs": list(needs),
        "parameters": parameters or {},
        "presets": {preset: {} for preset in ("smoke", "quick", "standard", "paper")},
        "data": [],
        "metrics": described,
        "table_columns": metrics,
        "citation": [],
    }


class TimesSettings(Settings):
    """The settings of both tasks."""

    times: int = 1


class Widths(GroupTask[TimesSettings]):
    """Measures groups only: how many latents the members have together, and how many members there are."""

    name: ClassVar[str] = "widths"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.LINEAR_DECODER})
    settings = TimesSettings
    card_path: ClassVar[str] = ""

    def run_group(self, group: SAEGroup, context: TaskContext, settings: TimesSettings) -> TaskOutput:
        total = sum(len(sae.decoder_directions()) for sae in group.saes)
        numbers = {"latents": total * settings.times, "members": len(group.saes)}
        return TaskOutput([Measurement(metric=key, value=value, n=1, unit="group") for key, value in numbers.items()])


class Either(SAETask[TimesSettings], GroupTask[TimesSettings]):
    """Measures single SAEs and groups. It reads a dataset, and refuses to run with ``times=13``."""

    name: ClassVar[str] = "either"
    settings = TimesSettings
    card_path: ClassVar[str] = ""
    content: ClassVar[str] = "11" * 32

    def prepare(self, context: TaskContext, settings: TimesSettings) -> None:
        if settings.times == 13:
            raise UsageError("times=13 cannot be asked for.")

    def data(self, context: TaskContext, settings: TimesSettings) -> dict[str, str]:
        return {"csv:labels.csv": self.content}

    def run(self, sae: SAE, context: TaskContext, settings: TimesSettings) -> TaskOutput:
        return TaskOutput([Measurement(metric="width", value=sae.d_sae, n=1, unit="SAE")])

    def run_group(self, group: SAEGroup, context: TaskContext, settings: TimesSettings) -> TaskOutput:
        ratio = group.saes[-1].d_sae / group.saes[0].d_sae
        return TaskOutput([Measurement(metric="ratio", value=ratio, n=1, unit="group")])


def register_tasks(monkeypatch: pytest.MonkeyPatch, folder: Path, cards: dict[type[Task[Any]], dict[str, Any]]) -> None:
    """Add plug-in tasks, given by class and card, until ``monkeypatch`` is undone.

    The classes must have the attribute ``card_path``. Afterwards the caller clears the registry (``cache_clear``).
    """
    points = []
    for task, content in cards.items():
        path = folder / f"{task.name}.yaml"
        path.write_text(yaml.safe_dump(content), "utf-8")
        monkeypatch.setattr(task, "card_path", str(path))
        points.append(EntryPoint(task.name, f"{task.__module__}:{task.__qualname__}", GROUP))

    def with_ours(**select: str) -> Any:
        return points if select == {"group": GROUP} else entry_points(**select)

    monkeypatch.setattr(registry_module, "entry_points", with_ours)
    registry.cache_clear()


def register(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Add the tasks `Widths` and `Either`; see `register_tasks`."""
    cards = {
        Widths: card("widths", "group", ["latents", "members"], needs=("linear_decoder",), parameters=_TIMES),
        Either: card("either", "both", ["width", "ratio"], groups="sizes", parameters=_TIMES),
    }
    register_tasks(monkeypatch, folder, cards)
