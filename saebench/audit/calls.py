"""The runs that an audit needs, as calls of the runner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from saebench.audit.subjects import Subjects
from saebench.errors import UsageError, did_you_mean

Where = Literal["bundled", "planted"]
Bundled = Literal["nothing", "once", "everything"]
Purpose = Literal["values", "seeds", "bfloat16", "batch"]


@dataclass(frozen=True)
class Size:
    """How much an audit measures.

    Attributes:
        seeds: Seeds of the evaluation under which trained SAEs are measured.
        bundled: What is measured on the bundled language model beside the planted one: nothing, trained SAEs and
            controls once, or everything. The noise is that of the bundled one where all seeds are measured on it.
        preset: The preset of the tasks on the bundled language model.
        recipe: The recipe of the planted one.
        steps: The steps along the training of SAEs of the planted one.
    """

    seeds: int
    bundled: Bundled
    preset: str
    recipe: str = "small"
    steps: tuple[int, ...] = (10, 30, 100, 300, 1000, 3000)


SIZES: Mapping[str, Size] = {
    # For tests: runs the whole path; its grades mean nothing.
    "smoke": Size(seeds=2, bundled="nothing", preset="smoke", recipe="tiny", steps=(2, 10, 50)),
    "planted": Size(seeds=5, bundled="nothing", preset="quick"),
    "default": Size(seeds=5, bundled="once", preset="quick"),
    "full": Size(seeds=5, bundled="everything", preset="quick"),
}


@dataclass(frozen=True)
class Call:
    """One call of the runner. Its records go into a folder of its own, because no record knows the size of batches."""

    where: Where
    purpose: Purpose
    options: dict[str, Any] = field(default_factory=dict)

    def folder(self, out: Path) -> Path:
        """Return the folder of its records below ``out``."""
        kind = "records" if self.purpose in ("values", "seeds") else self.purpose
        return out / self.where / kind


@dataclass(frozen=True)
class Setting:
    """A language model with the SAEs that are measured on it, and the task's settings there."""

    where: Where
    subjects: Subjects
    options: dict[str, Any]
    groups: bool = False

    def call(self, purpose: Purpose, references: tuple[str, ...], **options: Any) -> Call:
        """Return the call that measures these SAEs or groups."""
        option = "sae_group" if self.groups else "sae"
        return Call(self.where, purpose, {**self.options, option: list(references), **options})


def size_named(name: str) -> Size:
    """Return a size. Raises UsageError if there is none of this name."""
    if name not in SIZES:
        raise UsageError(f"There is no size {name!r}; sizes are {', '.join(SIZES)}.{did_you_mean(name, SIZES)}")
    return SIZES[name]


def calls(setting: Setting, size: Size, seed: int) -> list[Call]:
    """Return the calls on one language model: all SAEs once, and the trained ones again under other conditions.

    The first seed is that of all conditions, so that each differs in one thing only from the first call.
    """
    subjects, trained = setting.subjects, setting.subjects.trained
    plain = {"dtype": "float32"}
    if setting.where == "bundled" and size.bundled == "once":
        return [setting.call("values", (*trained, *subjects.controls), seed=[seed], **plain)]
    made = [setting.call("values", subjects.everything(), seed=[seed], **plain)]
    if size.seeds > 1:
        made.append(setting.call("seeds", trained, seed=list(range(seed + 1, seed + size.seeds)), **plain))
    made.append(setting.call("bfloat16", trained, seed=[seed], dtype="bfloat16"))
    # A batch of 3 divides no power of two, so that the last batch differs, too.
    made.append(setting.call("batch", trained[:1], seed=[seed], batch_size=3, **plain))
    return made
