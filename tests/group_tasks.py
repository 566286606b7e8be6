"""Tasks that compare SAEs with each other, as a plug-in would bring them: `register` them beside the built-in ones."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from saebench.cards import registry as registry_module
from saebench.cards.registry import GROUP, registry
from saebench.evaluation.task import SAEGroup, TaskOutput
from saebench.results.record import Measurement
from saebench.sae.protocol import Capability

_METRIC = {"unit": "latents", "higher_is_better": None, "bounds": [0, None], "interval": "none"}


def _card(name: str, scope: str, groups: str, needs: list[str], metrics: list[str]) -> dict[str, Any]:
    text = dict.fromkeys(("title", "description", "measures", "cannot_tell", "cost"), f"Of {name}.")
    described = [{"id": id, "title": id, "description": id, **_METRIC, "primary": True} for id in metrics]
    return {
        **text,
        "name": name,
        "version": 1,
        "scope": scope,
        "groups": groups,
        "needs": needs,
        "parameters": {"times": {"default": 1, "description": "What the number is multiplied with."}},
        "presets": {preset: {} for preset in ("smoke", "quick", "standard", "paper")},
        "data": [],
        "metrics": described,
        "table_columns": metrics,
        "citation": [],
    }


class Widths:
    """Of groups only: how many latents the members have together, and how many members there are."""

    name: ClassVar[str] = "widths"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.LINEAR_DECODER})
    card_path: ClassVar[str] = ""

    def run_group(self, group: SAEGroup, context: Any, parameters: dict[str, Any]) -> TaskOutput:
        total = sum(len(sae.decoder_directions()) for sae in group.saes)
        numbers = {"latents": total * parameters["times"], "members": len(group.saes)}
        return TaskOutput([Measurement(metric=key, value=value, n=1, unit="group") for key, value in numbers.items()])


class Either:
    """Of single SAEs and of groups; it reads a dataset, and refuses to run ``times=13``."""

    name: ClassVar[str] = "either"
    needs: ClassVar[frozenset[Capability]] = frozenset()
    card_path: ClassVar[str] = ""
    content: ClassVar[str] = "11" * 32

    def prepare(self, context: Any, parameters: dict[str, Any]) -> None:
        if parameters["times"] == 13:
            raise registry_module.UsageError("times=13 cannot be asked for.")

    def data(self, context: Any, parameters: dict[str, Any]) -> dict[str, str]:
        return {"csv:labels.csv": self.content}

    def run(self, sae: Any, context: Any, parameters: dict[str, Any]) -> TaskOutput:
        return TaskOutput([Measurement(metric="width", value=sae.d_sae, n=1, unit="SAE")])

    def run_group(self, group: SAEGroup, context: Any, parameters: dict[str, Any]) -> TaskOutput:
        ratio = group.saes[-1].d_sae / group.saes[0].d_sae
        return TaskOutput([Measurement(metric="ratio", value=ratio, n=1, unit="group")])


def register(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Until ``monkeypatch`` is undone; the registry is to be cleared after that as well (`registry.cache_clear`)."""
    cards = {
        Widths: _card("widths", "group", "seeds", ["linear_decoder"], ["latents", "members"]),
        Either: _card("either", "both", "sizes", [], ["width", "ratio"]),
    }
    for task, card in cards.items():
        path = folder / f"{task.name}.yaml"
        path.write_text(yaml.safe_dump(card), "utf-8")
        monkeypatch.setattr(task, "card_path", str(path))
    real = importlib.metadata.entry_points
    ours = [importlib.metadata.EntryPoint(task.name, f"{__name__}:{task.__name__}", GROUP) for task in cards]

    def entry_points(**select: str) -> Any:
        return ours if select == {"group": GROUP} else real(**select)

    monkeypatch.setattr(registry_module.importlib.metadata, "entry_points", entry_points)
    registry.cache_clear()
